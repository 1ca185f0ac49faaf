"""Slow, readable NumPy in float64 to hold the solver against."""

from __future__ import annotations

import itertools

import numpy as np


def enumerate_plans(utility, cost, valid=None, weight=None):
    """Every deterministic plan of a small problem.

    Args:
      utility: [N, K], K**N small.
      cost: [N, K] or [N, K, R].

    Returns:
      plans i[P, N], mean spend [P] or [P, R], mean utility [P].
    """
    utility, cost, valid, weight = _float64(utility, cost, valid, weight)
    allowed = [np.flatnonzero(row) for row in valid]
    plans = np.array(list(itertools.product(*allowed)))
    rows = np.arange(len(utility))
    share = weight / weight.sum()
    spend = np.stack([np.tensordot(share, cost[rows, plan], 1) for plan in plans])
    return plans, spend, np.stack([share @ utility[rows, plan] for plan in plans])


def best_integral(utility, cost, budget, valid=None, weight=None):
    """(utility, plan) of the best deterministic plan within the budget, by enumeration; (None, None) where there is none."""
    plans, spend, value = enumerate_plans(utility, cost, valid, weight)
    within = (spend.reshape(len(plans), -1) <= np.atleast_1d(budget) * (1 + 1e-12)).all(1)
    if not within.any():
        return None, None
    best = np.argmax(np.where(within, value, -np.inf))
    return value[best], plans[best]


def hull_steps(utility, cost):
    """One question's upper concave hull, from its cheapest action: [(cost, utility), ...] with falling slopes."""
    points = sorted(zip(cost, utility, strict=True), key=lambda point: (point[0], -point[1]))
    hull = [points[0]]
    for point in points[1:]:
        if point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def frontier(utility, cost, valid=None, weight=None):
    """Every breakpoint of the exact frontier: (spend [M], utility [M], multiplier [M]), cheapest plan first.

    The multiplier of a breakpoint is the slope of the segment that ends there; infinity for the first.
    """
    utility, cost, valid, weight = _float64(utility, cost, valid, weight)
    start, found = np.zeros(2), []
    for u, c, ok, w in zip(utility, cost, valid, weight, strict=True):
        hull = hull_steps(u[ok], c[ok])
        start += w * np.array(hull[0])
        found += [(_slope(a, b), w * (b[0] - a[0]), w * (b[1] - a[1])) for a, b in itertools.pairwise(hull) if w > 0]
    steps = np.array(sorted(found, key=lambda step: -step[0])).reshape(-1, 3)
    points = (
        np.vstack([start, start + np.cumsum(steps[:, 1:], axis=0)]) / weight.sum()
    )  # last: whole numbers add up exactly
    return points[:, 0], points[:, 1], np.concatenate([[np.inf], steps[:, 0]])


def value(utility, cost, budget, valid=None, weight=None):
    """V(budget), the best mean utility of a mixed plan; None below the cheapest plan."""
    spend, best, _ = frontier(utility, cost, valid, weight)
    if budget < spend[0] * (1 - 1e-12):
        return None
    return np.interp(budget, spend, best)


def dual(utility, cost, budget, multiplier, valid=None, weight=None):
    """D(multiplier) = multiplier . budget + mean max (utility - cost . multiplier)."""
    utility, cost, valid, weight = _float64(utility, cost, valid, weight)
    net = utility - cost.reshape(*utility.shape, -1) @ np.atleast_1d(np.asarray(multiplier, np.float64))
    best = np.where(valid, net, -np.inf).max(1)
    return np.sum(np.asarray(multiplier, np.float64) * budget) + weight @ best / weight.sum()


def _slope(a, b):
    return (b[1] - a[1]) / (b[0] - a[0])


def _float64(utility, cost, valid, weight):
    utility, cost = np.asarray(utility, np.float64), np.asarray(cost, np.float64)
    valid = np.ones(utility.shape, bool) if valid is None else np.asarray(valid)
    weight = np.ones(len(utility)) if weight is None else np.asarray(weight, np.float64)
    return utility, cost, valid, weight
