"""The frontier of one budget in exact rational arithmetic on the floats themselves; nothing rounds, so any difference is the solver's."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from fractions import Fraction
from functools import cmp_to_key

import numpy as np

UNIT = 149  # every float32 is a whole number of 2 ** -149


def whole(values) -> list[int]:
    """Floats as exact whole numbers of 2 ** -UNIT."""
    return [int(math.ldexp(float(value), UNIT)) for value in values]


class Exact:
    """One problem: utility and cost [N, K], valid bool[N, K], weight [N]; totals are whole numbers of 2 ** (-2 UNIT)."""

    def __init__(self, utility, cost, valid, weight):
        self.utility, self.cost, self.weight = [whole(x) for x in utility], [whole(x) for x in cost], whole(weight)
        self.valid, self.questions = valid, sum(self.weight)
        start, steps = [0, 0], []
        for u, c, ok, w in zip(self.utility, self.cost, valid, self.weight, strict=True):
            hull = _hull([(c[k], u[k]) for k in np.flatnonzero(ok)])
            start = [start[0] + w * hull[0][0], start[1] + w * hull[0][1]]
            steps += [(w * (b[0] - a[0]), w * (b[1] - a[1])) for a, b in itertools.pairwise(hull) if w]
        steps.sort(key=cmp_to_key(lambda a, b: b[1] * a[0] - a[1] * b[0]))
        self.spends, self.utilities = [start[0]], [start[1]]
        for extra, gain in steps:
            self.spends.append(self.spends[-1] + extra)
            self.utilities.append(self.utilities[-1] + gain)

    def mean(self, total: int) -> Fraction:
        """A total as a weighted mean."""
        return Fraction(total, self.questions << UNIT)

    def value(self, budget, times=1) -> Fraction | None:
        """The best mean utility of a mixed plan within the budget (times a factor); None where the cheapest plan is dearer."""
        target = Fraction(float(budget)) * times * (self.questions << UNIT)
        taken = bisect_right(self.spends, target) - 1
        if taken < 0:
            return None
        if taken + 1 == len(self.spends):
            return self.mean(self.utilities[-1])
        extra, gain = (x[taken + 1] - x[taken] for x in (self.spends, self.utilities))
        return self.mean(self.utilities[taken]) + (target - self.spends[taken]) * Fraction(gain, extra) / (
            self.questions << UNIT
        )

    def totals(self, action) -> tuple[int, int]:
        """Total spend and utility of a plan."""
        picked = list(zip(self.weight, self.cost, self.utility, map(int, action), strict=True))
        return sum(w * c[k] for w, c, _, k in picked), sum(w * u[k] for w, _, u, k in picked)

    def gain(self) -> float:
        """The mean range of a question's utilities: the unit of what rounding may lose."""
        ranges = (
            w * (max(u[k] for k in np.flatnonzero(ok)) - min(u[k] for k in np.flatnonzero(ok)))
            for w, u, ok in zip(self.weight, self.utility, self.valid, strict=True)
        )
        return float(self.mean(sum(ranges)))


def _hull(points):
    """The upper concave hull of (cost, utility), from the cheapest point to the best one."""
    points.sort(key=lambda point: (point[0], -point[1]))
    hull = points[:1]
    for point in points[1:]:
        if point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _rise(hull[-2], hull[-1], point) <= 0:
            hull.pop()
        hull.append(point)
    return hull


def _rise(a, b, c):
    """Above 0 where b lies above the chord from a to c."""
    return (b[1] - a[1]) * (c[0] - b[0]) - (c[1] - b[1]) * (b[0] - a[0])
