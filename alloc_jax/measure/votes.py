"""The expected vote of many (question, source) pairs, with its standard error.

The estimate U is a U-statistic. Deleting sample i changes it by U(-i) - U = -cov_i n / (n - k), where cov_i is
E[win; i drawn] - (k / n) U, so the delete-one jackknife

    SE^2 = (n - 1) / n * (n / (n - k))^2 * sum_i cov_i^2

is the infinitesimal jackknife of subsampling with its finite-sample factor, and costs one backward pass. It is
unbiased for the part of the vote that is linear in the samples and errs upwards on the rest (Efron and Stein 1981), at
most to the bound Var(U) <= (k / n) Var(one vote) of Hoeffding (1948), which caps it. For k = n nothing can be deleted:
the only vote is one draw, and its variance is that of a vote over n samples drawn with replacement (the exact
bootstrap). Where all samples agree the error is 0, as that of any sample mean: trust means over questions, not cells.

Sources: Hoeffding 1948 (Ann. Math. Stat. 19:293); Efron and Stein 1981 (Ann. Stat. 9:586); Wager, Hastie and Efron 2014
(JMLR 15:1625); Wager and Athey 2018 (JASA 113:1228), whose factor this is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.measure.batch import vote_groups, win_moments


@dataclass(frozen=True)
class AnswerCounts:
    """How often each answer occurs among the samples of a pair, most frequent first."""

    count: np.ndarray  # i32[P, C] descending; 0 is padding
    correct: np.ndarray  # f32[P, C] mean of `correct` over the samples of that answer (graders may disagree)
    silent: np.ndarray  # i32[P] samples with no answer, which win no vote
    right: np.ndarray  # i32[P] right samples, also where the answers were not logged

    @property
    def samples(self) -> np.ndarray:
        """i64[P]"""
        return self.count.sum(axis=1, dtype=np.int64) + self.silent

    def select(self, rows: np.ndarray) -> AnswerCounts:
        """The counts of these pairs."""
        return AnswerCounts(self.count[rows], self.correct[rows], self.silent[rows], self.right[rows])


def answer_counts(answer: np.ndarray, correct: np.ndarray, sampled: np.ndarray) -> AnswerCounts:
    """Count the answers of every pair.

    Args:
      answer: i32[P, S] codes, -1 for no answer.
      correct: bool[P, S].
      sampled: bool[P, S] where a slot holds a sample.

    >>> counts = answer_counts(np.array([[4, 7, 4, -1]]), np.array([[True, False, True, False]]), np.ones((1, 4), bool))
    >>> counts.count.tolist(), counts.correct.tolist(), counts.silent.tolist()
    ([[2, 1]], [[1.0, 0.0]], [1])
    """
    pairs, slots = answer.shape
    given = sampled & (answer >= 0)
    code = np.where(given, answer, np.iinfo(np.int32).max)
    order = np.argsort(code, axis=1, kind="stable")
    code = np.take_along_axis(code, order, axis=1)
    given_sorted = np.take_along_axis(given, order, axis=1)
    first = np.diff(code, axis=1, prepend=-1) != 0
    place = np.arange(pairs)[:, None] * slots + np.cumsum(first, axis=1) - 1
    count = np.bincount(place[given_sorted], minlength=pairs * slots).reshape(pairs, slots)
    good = np.take_along_axis(correct, order, axis=1) & given_sorted
    good = np.bincount(place[good], minlength=pairs * slots).reshape(pairs, slots)
    width = max(int((count > 0).sum(axis=1).max(initial=0)), 1)
    by_count = np.argsort(-count, axis=1, kind="stable")[:, :width]
    count, good = (np.take_along_axis(x, by_count, axis=1) for x in (count, good))
    silent, right = ((sampled & x).sum(axis=1).astype(np.int32) for x in (answer < 0, correct))
    return AnswerCounts(count.astype(np.int32), (good / np.maximum(count, 1)).astype(np.float32), silent, right)


def expected_votes(counts: AnswerCounts, votes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The exact expectations of k-votes over all k-subsets of each pair's samples, ties uniform, and standard errors.

    Args:
      counts: the answers of P pairs, each with at least max(votes) samples.
      votes: V sample counts k.

    Returns:
      utility f32[P, V] in [0, 1] and standard error f32[P, V].

    Raises:
      ValueError: a pair has fewer samples than a vote draws.

    >>> counts = answer_counts(np.array([[0, 0, 1]]), np.array([[True, True, False]]), np.ones((1, 3), bool))
    >>> utility, _ = expected_votes(counts, (1, 2, 3))  # of three 2-subsets, one is decided and two are ties
    >>> [round(float(value), 4) for value in utility[0]]
    [0.6667, 0.6667, 1.0]
    """
    samples = counts.samples
    votes = tuple(int(k) for k in votes)
    if min(votes) < 1 or (samples.size and max(votes) > samples.min()):
        raise ValueError(f"a vote draws between 1 and {samples.min()} samples, the fewest a pair has; got {votes}")
    utility, variance = np.zeros((2, len(samples), len(votes)))
    for group in vote_groups(samples, {k for k in votes if k > 1}):
        pair, slot = np.nonzero((counts.count > 0) & (counts.correct > 0))
        win, drawn, drawn_silent = win_moments(counts.count[pair], counts.silent[pair], slot, group)
        for v, k in enumerate(group):
            at = votes.index(k)
            moments = (win[:, v], drawn[:, v], drawn_silent[:, v])
            utility[:, at], variance[:, at] = _combine(counts, pair, slot, k, moments)
    if 1 in votes:
        utility[:, votes.index(1)], variance[:, votes.index(1)] = _expected_sample(counts)
    return np.clip(utility, 0, 1).astype(np.float32), np.sqrt(np.maximum(variance, 0)).astype(np.float32)


def _expected_sample(counts: AnswerCounts) -> tuple[np.ndarray, np.ndarray]:
    """k = 1: the mean and the variance of a mean (0 where a single sample leaves it unknown)."""
    n = counts.samples
    mean = counts.right / np.maximum(n, 1)
    return mean, mean * (1 - mean) / np.maximum(n - 1, 1)


def _combine(counts: AnswerCounts, pair, slot, k, moments) -> tuple[np.ndarray, np.ndarray]:
    """The utility and its variance of every pair, from the moments of its right answers."""
    win, drawn, drawn_silent = moments
    samples, worth = counts.samples, counts.correct[pair, slot].astype(np.float64)

    def total(values):
        return np.bincount(pair, values, minlength=len(samples))

    n, c = samples.astype(np.float64), counts.count.astype(np.float64)
    utility, second = total(worth * win), total(worth**2 * win)
    lift, lift_silent = np.zeros(c.shape), total(worth * drawn_silent)
    np.add.at(lift, pair, worth[:, None] * drawn)

    share = (k / n) * utility
    squares = (c * (lift / np.maximum(c, 1) - share[:, None]) ** 2).sum(axis=1)
    squares += counts.silent * (lift_silent / np.maximum(counts.silent, 1) - share) ** 2
    rest = np.maximum(n - k, 1)
    bound = k * np.maximum(second - utility**2, 0) / rest
    variance = np.minimum((n - 1) / n * (n / rest) ** 2 * squares, bound)
    whole = samples == k
    if whole.any():
        bootstrap = np.zeros(len(pair))
        chosen = whole[pair]
        at = pair[chosen]
        again, *_ = win_moments(counts.count[at], counts.silent[at], slot[chosen], (k,), replacement=True)
        bootstrap[chosen] = again[:, 0]
        variance = np.where(whole, total(worth**2 * bootstrap) - total(worth * bootstrap) ** 2, variance)
    # Where graders disagree on an answer, its worth is a mean with an error of its own.
    return utility, variance + total(win**2 * worth * (1 - worth) / np.maximum(c[pair, slot] - 1, 1))
