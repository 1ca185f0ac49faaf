"""Votes and agreement: rules that see how often each answer occurs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.measure.estimators.pass_at_k import inside
from alloc_jax.measure.estimators.u_statistics import Expectation, Pairs
from alloc_jax.measure.estimators.vote_batches import vote_groups, win_moments


def expected_votes(
    pairs: Pairs, sizes: Sequence[int], replacement: bool = False, *, ties: str = "uniform"
) -> list[Expectation]:
    """The exact expectations of majority votes over all k-subsets of each pair's samples.

    Tied answers win with equal chances ("uniform") or not at all ("abstain"). Over all orders of a draw,
    each tied answer comes first equally often, so "the first of the tied answers" earns what "uniform" does. A sample without an
    answer has no vote.

    Args:
      pairs: the samples of P pairs, each with at least max(sizes).
      sizes: the numbers of samples k.
      replacement: draw with replacement.
      ties: "uniform" or "abstain".

    >>> pairs = Pairs(np.array([[0, 0, 1]]), np.array([[True, True, False]]), np.ones((1, 3), bool))
    >>> [round(float(part.mean[0]), 4) for part in expected_votes(pairs, (2, 3))]  # of three 2-subsets, two are ties
    [0.6667, 1.0]
    >>> [round(float(part.mean[0]), 4) for part in expected_votes(pairs, (2, 3), ties="abstain")]
    [0.3333, 1.0]
    """
    counts = pairs.answers
    job_pair, slot = np.nonzero((counts.count > 0) & (counts.correct > 0))
    worth = counts.correct[job_pair, slot].astype(np.float64)
    parts: dict[int, Expectation] = {}
    groups = [(k,) for k in sizes] if replacement else vote_groups(pairs.count, set(sizes))
    for group in groups:
        moments = win_moments(
            counts.count[job_pair], counts.silent[job_pair], slot, group, replacement=replacement, ties=ties
        )
        win, drawn, silent = (np.moveaxis(part, 1, 0) for part in moments)
        for v, k in enumerate(group):
            of_class = np.zeros((len(counts.count), counts.count.shape[1] + 1))
            np.add.at(of_class, job_pair, worth[:, None] * np.column_stack([drawn[v], silent[v]]))
            share = np.zeros(counts.count.shape)
            share[job_pair, slot] = win[v]
            parts[k] = _by_sample(pairs, of_class, share, k, replacement)
            if replacement and ties == "uniform":
                parts[k] = parts[k]._replace(square=_squared(pairs, job_pair, slot, worth, k, parts[k].mean))
    return [parts[k] for k in sizes]


def _squared(pairs: Pairs, job_pair, slot, worth, k: int, mean: np.ndarray) -> np.ndarray:
    """f64[P] E[h^2] of k draws with replacement, h the mean over ties, where one answer is right; E[h] bounds it elsewhere."""
    counts = pairs.answers
    lone = (np.bincount(job_pair, minlength=len(mean)) == 1)[job_pair]
    rows = job_pair[lone]
    share, _, _ = win_moments(
        counts.count[rows], counts.silent[rows], slot[lone], (k,), replacement=True, ties="square"
    )
    square = mean.copy()
    square[rows] = worth[lone] ** 2 * share[:, 0]
    return square


def expected_agreement(pairs: Pairs, sizes: Sequence[int], replacement: bool = False) -> list[Expectation]:
    """The exact expectations of the rule that answers where all k samples give one answer, and else abstains.

    >>> pairs = Pairs(np.array([[0, 0, 1]]), np.array([[True, True, False]]), np.ones((1, 3), bool))
    >>> [round(float(part.mean[0]), 4) for part in expected_agreement(pairs, (1, 2, 3))]
    [0.6667, 0.3333, 0.0]
    """
    counts = pairs.answers
    parts = []
    for k in sizes:
        share = inside(counts.count, pairs.count, k, replacement)
        of_class = np.column_stack([k * share * counts.correct, np.zeros(len(share))])
        parts.append(_by_sample(pairs, of_class, share, k, replacement))
    return parts


def _by_sample(pairs: Pairs, drawn: np.ndarray, win: np.ndarray, k: int, replacement: bool) -> Expectation:
    """The expectation of a rule that picks a class of answers, from the moments of the classes.

    Args:
      pairs: P pairs with C classes.
      drawn: f64[P, C + 1] E[h v_j] of every class and of the samples without an answer.
      win: f64[P, C] the chance that the rule picks the class.
      k: samples drawn.
      replacement: whether they are drawn with replacement.
    """
    counts = pairs.answers
    worth = counts.correct.astype(np.float64)
    size = np.column_stack([counts.count, counts.silent])
    moment = np.take_along_axis(drawn / np.maximum(size, 1), counts.place, axis=1)
    moment = moment + grader_pull(pairs, win, k, replacement)
    return Expectation((worth * win).sum(axis=1), moment)


def grader_pull(pairs: Pairs, win: np.ndarray, k: int, replacement: bool) -> np.ndarray | float:
    """f64[P, S] what a sample adds to E[h N_i] where graders disagree on its answer.

    The value of an answer is then the mean over its samples, from which each sample deviates; deviations cancel in sums.

    Args:
      pairs: P pairs with C classes.
      win: f64[P, C] the chance that the rule picks the class.
      k: samples drawn.
      replacement: whether they are drawn with replacement.
    """
    counts = pairs.answers
    mixed = win * ((counts.correct > 0) & (counts.correct < 1))
    if not mixed.any():
        return 0.0
    # Deleting one of c moves the mean by 1 / (c - 1); `estimate` scales by n / (n - k) what is drawn without replacement.
    lost, scale = (0, 1.0) if replacement else (1, (1 - k / pairs.count)[:, None])
    pull = scale * mixed / (counts.count - lost).clip(1)
    zero = np.zeros((len(pull), 1))
    pull, worth = (np.take_along_axis(np.column_stack([x, zero]), counts.place, 1) for x in (pull, counts.correct))
    return pull * (pairs.correct - worth)
