"""U-statistics, on which all estimators rest: the mean of a rule over all draws of k samples, and over the draws with a given sample.

A rule h looks at k of a pair's n samples. Its estimate U = E[h], the mean over all k-subsets, is a U-statistic. Deleting
sample i changes it by U(-i) - U = -d_i with

    d_i = (E[h; i drawn] - (k / n) U) n / (n - k),        SE^2 = (n - 1) / n * sum_i d_i^2:

the delete-one jackknife, which is the infinitesimal jackknife of subsampling with its finite-sample factor. It is unbiased
for the part of the rule that is linear in the samples and errs upwards on the rest (Efron and Stein 1981), at most to the
bound Var(U) <= (k / n) Var(h) of Hoeffding (1948), which caps it. The d_i of two rules over the same samples give their
covariance: (n - 1) / n * sum_i d_i d'_i.

For k = n nothing can be deleted: there is a single draw, without a spread. The variance is then taken from n draws with replacement
(the exact bootstrap), times n / (n - 1), and so is the covariance with each sample. For a vote, half of that variance or more is not
explained by any sum over samples. This part is left out of all covariances. The coin of a tied vote is left out as well, because it
does not vary with the samples.

A single sample does not say how others would differ: its error is unknown, NaN. Where two or more samples agree, the error is 0, as
for any sample mean: trust means over questions, not single cells.

Sources: Hoeffding 1948 (Ann. Math. Stat. 19:293); Efron and Stein 1981 (Ann. Stat. 9:586); Wager, Hastie and Efron 2014
(JMLR 15:1625); Wager and Athey 2018 (JASA 113:1228), whose factor this is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from alloc_jax.measure.estimators.counts import AnswerCounts, answer_counts


@dataclass(frozen=True, eq=False)
class Pairs:
    """The samples of P (question, source) pairs, each with at least one; the first `count` slots are real."""

    answer: np.ndarray  # i32[P, S] codes; -1 for no answer
    correct: np.ndarray  # bool[P, S]
    sampled: np.ndarray  # bool[P, S] where a slot holds a sample
    value: np.ndarray | None = None  # f[P, S] a reward, or what else a rule compares

    @cached_property
    def count(self) -> np.ndarray:
        """i64[P] n"""
        return self.sampled.sum(axis=1)

    @cached_property
    def answers(self) -> AnswerCounts:
        """How often each answer occurs."""
        return answer_counts(self.answer, self.correct, self.sampled)

    @cached_property
    def silent(self) -> np.ndarray:
        """bool[P, S] samples without an answer, unless the pair's answers were not logged at all."""
        unlogged = np.asarray(self.correct.any(axis=1) & ~(self.sampled & (self.answer >= 0)).any(axis=1))
        return self.sampled & (self.answer < 0) & ~unlogged[:, None]

    def select(self, rows: np.ndarray) -> Pairs:
        """The pairs at these positions."""
        value = None if self.value is None else self.value[rows]
        return Pairs(self.answer[rows], self.correct[rows], self.sampled[rows], value)


class Expectation(NamedTuple):
    """What a rule earns over all draws of k samples; with ties at random, h is its mean over them."""

    mean: np.ndarray  # f64[P] E[h]
    drawn: np.ndarray  # f64[P, S] E[h N_i], where N_i says how often sample i is drawn; anything in the padding
    square: np.ndarray | None = None  # f64[P] E[h^2], or a bound on it; None: E[h], as where h is 0 or 1


class Estimate(NamedTuple):
    """The estimate of a rule, with the terms of its standard error."""

    mean: np.ndarray  # f64[P] U
    error: np.ndarray  # f64[P] its standard error; NaN where there is one sample
    influence: np.ndarray  # f64[P, S] d_i sqrt((n - 1) / n), whose products sum to covariances; 0 in the padding


# Expectations for each number of samples; the last argument asks for draws with replacement.
Rule = Callable[[Pairs, Sequence[int], bool], list[Expectation]]


def estimate(rule: Rule, pairs: Pairs, sizes: Sequence[int]) -> list[Estimate]:
    """The estimates of a rule that draws k samples, with standard errors, for every k of `sizes`.

    Args:
      rule: gives the expectations.
      pairs: P pairs, each with at least max(sizes) samples.
      sizes: the numbers of samples k.

    Raises:
      ValueError: a pair has fewer samples than a rule draws.
    """
    n = pairs.count
    if min(sizes) < 1 or (n.size and max(sizes) > n.min()):
        raise ValueError(f"a rule draws between 1 and {n.min()} samples, the fewest a pair has; got {tuple(sizes)}")
    estimates = []
    for k, part in zip(sizes, rule(pairs, sizes, False), strict=True):
        rest = np.maximum(n - k, 1)
        influence = (part.drawn - (k / n * part.mean)[:, None]) * (n / rest * np.sqrt((n - 1) / n))[:, None]
        influence = np.where(pairs.sampled, influence, 0)
        linear = (influence**2).sum(axis=1)
        variance = np.minimum(linear, k * _spread(part) / rest)
        influence *= np.sqrt(variance / np.where(linear > 0, linear, 1))[:, None]
        whole = np.flatnonzero(n == k)
        if whole.size:
            (again,) = rule(pairs.select(whole), (k,), True)
            scale = np.sqrt(k / (k - 1)) if k > 1 else np.nan
            variance[whole] = scale**2 * _spread(again)
            influence[whole] = scale * np.where(pairs.sampled[whole], again.drawn - again.mean[:, None], 0)
        estimates.append(Estimate(part.mean, np.sqrt(variance), influence))
    return estimates


def _spread(part: Expectation) -> np.ndarray:
    """Var(h) over the draws."""
    return np.maximum((part.mean if part.square is None else part.square) - part.mean**2, 0)


def covariance(influence: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The covariance of K estimates over the same samples, from what is linear in them.

    Args:
      influence: f[P, K, S]
      error: f[P, K]

    Returns:
      f64[P, K, K], positive semidefinite, with error^2 on its diagonal.

    >>> covariance(np.array([[[1.0, -1.0], [2.0, -2.0]]]), np.array([[2.0, 3.0]]))[0].tolist()
    [[4.0, 4.0], [4.0, 9.0]]
    """
    matrix = np.einsum("pks,pls->pkl", influence, influence)
    diagonal = np.arange(influence.shape[1])
    matrix[:, diagonal, diagonal] = error.astype(float) ** 2
    return matrix
