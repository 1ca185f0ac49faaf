"""The fair reference: the best mix of fixed actions that treats all questions alike, at any spend."""

from __future__ import annotations

import numpy as np

from alloc_jax.evaluate.intervals import NEAR, NOTHING, Bootstrap, Interval, Largest
from alloc_jax.evaluate.outcomes import check_complete
from alloc_jax.types import OutcomeTable

SAME = 1e-6  # relative difference of mean costs, made of float32, below which they differ by rounding


class UniformMix:
    """The upper concave hull of the fixed actions' mean utilities over their mean costs, in the sample and in every resample.

    The hull's actions are chosen on the very table that scores them, which favours the reference a little. The mix is the
    least of the lines through neighbouring actions and of the best action's utility: it has a kink at each of its actions,
    and no more is spent than its most expensive action costs. Only lines that a spend may lie on are looked at: one through two actions
    of nearly the same cost says nothing far from them.
    """

    def __init__(self, table: OutcomeTable, bootstrap: Bootstrap):
        check_complete(table, "the uniform mix")
        self.fixed = bootstrap.means(
            {"utility": table.utility, "cost": table.cost}
        )  # f64[1 + replicates, K] of all actions
        cost, utility = self.fixed["cost"], self.fixed["utility"]
        self.actions = upper_hull(cost[0], utility[0])
        self._cost, self._utility = cost[:, self.actions], utility[:, self.actions]

    def lines(self, spend: np.ndarray) -> np.ndarray:
        """The utilities f64[1 + replicates, J] of lines at spends f64[1 + replicates]; NaN where no mix spends so little."""
        if spend[0] < self._cost[0, 0] * (1 - 1e-9):
            return np.full((len(spend), 1), np.nan)
        rise, run = np.diff(self._utility), np.diff(self._cost)
        slope = np.divide(
            rise, run, out=np.zeros(run.shape), where=run > 0
        )  # a resample of few questions may reverse costs
        on_line = self._utility[:, :-1] + slope * (spend[:, None] - self._cost[:, :-1])
        above = np.concatenate([self._cost[:, 1:], np.full((len(spend), 1), np.inf)], axis=1)
        may = _between(self._cost, spend, above)
        may[0] |= not may.any()
        return np.concatenate([on_line, self._utility[:, -1:]], axis=1)[:, may]

    def utility(self, spend: np.ndarray) -> np.ndarray:
        """The mix's mean utility f64[1 + replicates] at spends f64[1 + replicates], in each resample its own."""
        return self.lines(spend).min(axis=1)

    def accuracy(self, budget: float) -> Interval:
        """What the mix earns at a budget."""
        return -Largest.of(-self.lines(np.full(len(self._cost), budget))).interval

    def spend(self, budget: float) -> Interval:
        """What the mix spends of a budget; n/a below its cheapest action."""
        if budget < self._cost[0, 0] * (1 - 1e-9):
            return NOTHING
        return Bootstrap.interval(np.minimum(budget, self._cost[:, -1]))

    def excess(self, utility: np.ndarray, spend: np.ndarray) -> Largest:
        """How far utilities lie above the mix at spends, both f64[1 + replicates]."""
        return Largest.of(utility[:, None] - self.lines(spend))

    def saving(self, utility: np.ndarray, spend: np.ndarray) -> Interval:
        """1 - spend / what the mix spends for the same utility.

        n/a where the mix does not reach the utility beyond doubt, or its cheapest action alone exceeds it.
        """
        reached = Bootstrap.interval(self._utility[:, -1] - utility)
        if len(self.actions) < 2 or utility[0] < self._utility[0, 0] or not reached.low > 0:
            return NOTHING
        rise, run = np.diff(self._utility), np.diff(self._cost)
        slope = np.divide(run, rise, out=np.full(run.shape, np.inf), where=rise > 0)  # a resample's line may not rise
        with np.errstate(invalid="ignore"):
            equal = self._cost[:, :-1] + slope * (utility[:, None] - self._utility[:, :-1])
        equal = np.where(rise > 0, np.maximum(equal, np.maximum(self._cost[:, :1], 1e-12)), np.inf)
        may = _between(self._utility[:, :-1], utility, self._utility[:, 1:])
        return Largest.of(1 - spend[:, None] / equal[:, may]).interval


def _between(low: np.ndarray, value: np.ndarray, high: np.ndarray) -> np.ndarray:
    """bool[J] whether values f64[1 + replicates] may lie between two ends f64[1 + replicates, J], as far as their noise tells."""
    with np.errstate(invalid="ignore"):
        under, over = low - value[:, None], value[:, None] - high
    return (under[0] <= NEAR * under.std(axis=0)) & ~(
        over[0] > NEAR * np.where(np.isfinite(high[0]), over, 0.0).std(axis=0)
    )


def upper_hull(cost: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Indices of the points on the upper concave hull, by rising cost, up to the highest utility; of the same cost, the best.

    >>> upper_hull(np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.4, 0.41, 0.5, 0.49]))
    array([0, 2])
    """
    hull: list[int] = []
    for point in np.lexsort((-utility, cost)):
        if hull and utility[point] <= utility[hull[-1]]:
            continue
        if hull and cost[point] <= cost[hull[-1]] * (1 + SAME):
            hull.pop()
        while len(hull) >= 2 and _slope(cost, utility, hull[-2], point) >= _slope(cost, utility, hull[-2], hull[-1]):
            hull.pop()
        hull.append(int(point))
    return np.array(hull)


def _slope(cost: np.ndarray, utility: np.ndarray, start: int, end: int) -> float:
    rise, run = utility[end] - utility[start], cost[end] - cost[start]
    return rise / run if run > 0 else np.inf
