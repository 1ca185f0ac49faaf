"""Rules in closed form: pass@k, best-of-k and the largest of k, from the chance that all k draws fall among a given few samples.

All k draws fall among a of the n samples with chance F(a) = C(a, k) / C(n, k), or (a / n)^k with replacement; and each of
these a is then drawn k / a times on average, so that E[N_i; all among a] = (k / a) F(a) either way.

Source of pass@k: Chen et al. 2021 (arXiv 2107.03374), 1 - C(n - c, k) / C(n, k).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.measure.estimators.u_statistics import Expectation, Pairs


def inside(few: np.ndarray, n: np.ndarray, k: int, replacement: bool = False) -> np.ndarray:
    """F(a): the chance that all k draws fall among `few` of the n samples.

    Args:
      few: i[P, ...] a, from 0 to n.
      n: i[P] at least k, unless drawn with replacement.
      k: draws.
      replacement: draw with replacement.

    >>> inside(np.array([[1, 2, 3, 4]]), np.array([4]), 2).round(3).tolist()
    [[0.0, 0.167, 0.5, 1.0]]
    """
    n = np.reshape(n, (-1,) + (1,) * (few.ndim - 1))
    if replacement:
        return (few / n) ** k
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max(initial=1) + 1)))])
    chance = log_factorial[few] - log_factorial[np.maximum(few - k, 0)] - log_factorial[n] + log_factorial[n - k]
    return np.where(few >= k, np.exp(chance), 0.0)


def expected_single(pairs: Pairs, sizes: Sequence[int], replacement: bool = False) -> list[Expectation]:
    """One sample: the share of the samples that are right."""
    n = pairs.count
    (k,) = set(sizes)
    if k != 1:
        raise ValueError(f"single draws 1 sample, got {k}")
    right = pairs.correct / n[:, None]
    return [Expectation(right.sum(axis=1), right)] * len(sizes)


def expected_passes(pairs: Pairs, sizes: Sequence[int], replacement: bool = False) -> list[Expectation]:
    """pass@k: the chance that any of k samples is right.

    >>> pairs = Pairs(np.array([[0, 1, 1, 2]]), np.array([[True, False, False, False]]), np.ones((1, 4), bool))
    >>> [float(part.mean[0].round(4)) for part in expected_passes(pairs, (1, 2, 4))]
    [0.25, 0.5, 1.0]
    """
    n, wrong = pairs.count, (pairs.sampled & ~pairs.correct).sum(axis=1)
    parts = []
    for k in sizes:
        none = inside(wrong, n, k, replacement)
        drawn = (k / n)[:, None] - ~pairs.correct * (k / np.maximum(wrong, 1) * none)[:, None]
        parts.append(Expectation(1 - none, drawn))
    return parts


def expected_best(pairs: Pairs, sizes: Sequence[int], replacement: bool = False) -> list[Expectation]:
    """Best-of-k: whether the sample with the highest reward is right; equal rewards are broken uniformly.

    A sample without an answer is chosen only where no sample has one.

    >>> pairs = Pairs(np.array([[0, 1, 2]]), np.array([[True, False, False]]), np.ones((1, 3), bool),
    ...               np.array([[0.5, 0.5, 0.1]]))
    >>> [float(part.mean[0].round(4)) for part in expected_best(pairs, (1, 2, 3))]
    [0.3333, 0.5, 0.5]
    """
    key = np.where(pairs.silent, -np.inf, pairs.value)
    return [expected_top(key, pairs.correct, pairs, k, replacement) for k in sizes]


def expected_largest(pairs: Pairs, sizes: Sequence[int], replacement: bool = False) -> list[Expectation]:
    """The largest of k values: k parallel samples take as long as the slowest.

    >>> pairs = Pairs(np.zeros((1, 3), int), np.zeros((1, 3), bool), np.ones((1, 3), bool), np.array([[1.0, 4.0, 2.0]]))
    >>> [float(part.mean[0].round(4)) for part in expected_largest(pairs, (1, 2, 3))]
    [2.3333, 3.3333, 4.0]
    """
    return [expected_top(pairs.value, pairs.value, pairs, k, replacement) for k in sizes]


def expected_top(key: np.ndarray, value: np.ndarray, pairs: Pairs, k: int, replacement: bool = False) -> Expectation:
    """The value of the sample with the largest key of k, equal keys broken uniformly.

    Sorted by key, samples with the same key stand from L to L + s - 1: the largest key of a draw is theirs with chance
    F(L + s) - F(L), and by symmetry each of them is then taken with chance 1 / s.

    Args:
      key: f[P, S] what is compared; -inf loses to all.
      value: f[P, S] what is earned.
      pairs: whose samples these are.
      k: draws.
      replacement: draw with replacement.
    """
    n, slots = pairs.count, key.shape[1]
    order = np.lexsort((key, ~pairs.sampled), axis=1)  # padding last
    real = np.arange(slots) < n[:, None]
    key, value = np.take_along_axis(key, order, 1), np.where(real, np.take_along_axis(value, order, 1), 0.0)

    at = np.arange(slots)
    begins = np.ones(key.shape, bool)
    begins[:, 1:] = (key[:, 1:] != key[:, :-1]) | (real[:, 1:] != real[:, :-1])
    low = np.maximum.accumulate(np.where(begins, at, 0), axis=1)
    ends = np.ones(key.shape, bool)
    ends[:, :-1] = begins[:, 1:]
    high = np.minimum.accumulate(np.where(ends, at, slots)[:, ::-1], axis=1)[:, ::-1] + 1
    low, high = np.minimum(low, n[:, None]), np.minimum(high, n[:, None])
    size = np.maximum(high - low, 1)

    total = np.cumsum(np.pad(value, ((0, 0), (1, 0))), axis=1)
    group = np.take_along_axis(total, high, 1) - np.take_along_axis(total, low, 1)  # sum of the values of equal keys
    below, upto = (inside(x, n, k, replacement) for x in (low, high))
    taken = (upto - below) / size  # the chance that this very sample is taken
    each_below, each_upto = (k * f / np.maximum(x, 1) for f, x in ((below, low), (upto, high)))

    # A draw with sample i is topped by a larger key, or by its own: then by itself, or by another with the same key.
    above = np.where(real, group / size * (each_upto - each_below) / size, 0)
    above = np.cumsum(np.pad(above, ((0, 0), (0, 1)))[:, ::-1], axis=1)[:, ::-1]
    others = group / size if replacement else (group - value) / np.maximum(size - 1, 1)
    drawn = np.take_along_axis(above, high, 1) + value * taken + (each_upto - taken) * others
    by_slot = np.empty_like(drawn)
    np.put_along_axis(by_slot, order, drawn, axis=1)
    return Expectation((value * taken).sum(axis=1), by_slot, (value**2 * taken).sum(axis=1))
