"""What a rule earned and spent on a table, and how sure that is.

A rule's plan is a distribution over the actions of each question, so that a mix and a choice are scored alike.
Intervals come from a bootstrap over questions; every rule sees the same resamples, so differences between rules are
paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alloc_jax.types import OutcomeTable


@dataclass(frozen=True, eq=False)
class Outcome:
    """A rule's result on N questions."""

    utility: np.ndarray  # f64[N] expected utility of what the rule did on each question
    cost: np.ndarray  # f64[N] its expected cost

    @classmethod
    def of(cls, plan: np.ndarray, table: OutcomeTable) -> Outcome:
        """The outcome of a plan f64[N, K] on a table."""
        return cls(*(np.einsum("nk,nk->n", plan, part, dtype=float) for part in (table.utility, table.cost)))


def as_plan(action: np.ndarray, actions: int) -> np.ndarray:
    """Actions i32[N] as a plan f64[N, K]: all of the chance on one action.

    >>> as_plan(np.array([1, 0]), 2)
    array([[0., 1.],
           [1., 0.]])
    """
    return np.eye(actions)[action]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, replicates: np.ndarray) -> Interval:
        """The percentile interval of bootstrap replicates; NaN ends where none of them is a number."""
        if np.isnan(replicates).all():
            return cls(float(value), np.nan, np.nan)
        low, high = np.nanpercentile(replicates, [2.5, 97.5])
        return cls(float(value), float(low), float(high))

    def __format__(self, spec: str) -> str:
        spec = spec.replace(".", "z.", 1)  # what rounds to zero has no sign: not -0.0
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


class Bootstrap:
    """Resamples of N questions, shared by everything that is compared.

    Row 0 is the sample itself, so that an estimate and its replicates come out of one expression.
    """

    def __init__(self, questions: int, replicates: int, seed: int):
        draws = np.random.default_rng(seed).multinomial(questions, np.full(questions, 1 / questions), size=replicates)
        self.weights = np.concatenate([np.ones((1, questions)), draws]) / questions  # [1 + replicates, N]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The means [1 + replicates, ...] of values [N, ...] over each resample."""
        return self.weights @ values

    @staticmethod
    def interval(means: np.ndarray) -> Interval:
        """The interval of what was computed of means [1 + replicates]."""
        return Interval.of(means[0], means[1:])


class UniformMix:
    """The fair reference: the best mix of fixed actions, the same for all questions, at any spend.

    It is the upper concave hull of the fixed actions' mean utilities over their mean costs. The hull's actions are
    chosen on the very table that scores them, which favours the reference a little.
    """

    def __init__(self, table: OutcomeTable, bootstrap: Bootstrap):
        cost, utility = (bootstrap.mean(part.astype(float)) for part in (table.cost, table.utility))
        self.actions = upper_hull(cost[0], utility[0])
        self._cost, self._utility = cost[:, self.actions], utility[:, self.actions]

    def utility(self, spend: np.ndarray) -> np.ndarray:
        """The mix's mean utility [1 + replicates] at spends [1 + replicates], in each resample its own."""
        return np.array([np.interp(*row) for row in zip(spend, self._cost, self._utility, strict=True)])


def upper_hull(cost: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Indices of the points on the upper concave hull, by rising cost, up to the highest utility.

    >>> upper_hull(np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.4, 0.41, 0.5, 0.49]))
    array([0, 2])
    """
    hull: list[int] = []
    for point in np.lexsort((-utility, cost)):
        if hull and utility[point] <= utility[hull[-1]]:
            continue
        while len(hull) >= 2 and _slope(cost, utility, hull[-2], point) >= _slope(cost, utility, hull[-2], hull[-1]):
            hull.pop()
        hull.append(int(point))
    return np.array(hull)


def _slope(cost: np.ndarray, utility: np.ndarray, start: int, end: int) -> float:
    rise, run = utility[end] - utility[start], cost[end] - cost[start]
    return rise / run if run > 0 else np.inf
