"""How sure a number is: a bootstrap over questions, and honest intervals where a statistic has a kink.

Every rule sees the same resamples, so differences between rules are paired. Means, and smooth functions of them, have the
percentile interval. What is measured against the uniform mix is not smooth: the mix is a chain of lines, the least of which
holds, so a difference from it is the largest of several differences (`Largest`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from math import exp, factorial
from typing import TypeVar

import numpy as np

ENDS = (2.5, 97.5)  # percentiles between which an interval lies
NEAR = 3.0  # standard errors within which one of several means cannot be told from the largest
KEPT = 1 << 24  # weights that are kept: 128 MB; more are drawn anew for every pass
DRAWN = 1 << 20  # weights that are drawn at once
Name = TypeVar("Name", bound=Hashable)

# The Poisson counts of mean 1 of 16 random bits; the chance of 8 or more is less than a bit.
POISSON = np.searchsorted(
    np.cumsum([exp(-1) / factorial(count) for count in range(8)]), (np.arange(1 << 16) + 0.5) / (1 << 16)
).astype(np.uint8)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, replicates: np.ndarray) -> Interval:
        """The percentile interval of bootstrap replicates; NaN ends where none of them is a number."""
        if np.isnan(replicates).all():
            return cls(float(value), np.nan, np.nan)
        low, high = np.nanpercentile(replicates, ENDS)
        return cls(float(value), float(low), float(high))

    @classmethod
    def exactly(cls, value: float) -> Interval:
        """A number that no resample changes."""
        return cls(value, value, value)

    def __neg__(self) -> Interval:
        return Interval(-self.value, -self.high, -self.low)

    def __format__(self, spec: str) -> str:
        if np.isnan(self.value):
            return "n/a"
        spec = spec.replace(".", "z.", 1)  # what rounds to zero has no sign: not -0.0
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


NOTHING = Interval.exactly(float("nan"))


class Bootstrap:
    """Resamples of N questions, shared by everything that is compared.

    Row 0 is the sample itself, so that an estimate and its replicates come out of one expression. As many questions as there are are
    drawn from them with replacement. Where that makes more weights than are kept (`KEPT`), the number of times that a question counts is
    Poisson with mean 1 instead (Chamandy, Muralidharan, Najmi and Naidu, 2012): of many questions, that is the same distribution, a
    tenth of the work, and some replicates at a time are drawn from the seed whenever they are asked for.
    """

    def __init__(self, questions: int, replicates: int, seed: int):
        self.rows = 1 + replicates
        self._questions, self._seed, self._kept = questions, seed, None
        if questions * replicates <= KEPT:
            shares = np.full(questions, 1 / questions)
            self._kept = np.ones((self.rows, questions))
            self._kept[1:] = np.random.default_rng(seed).multinomial(questions, shares, size=replicates)
            self._kept /= questions

    def weights(self) -> Iterator[np.ndarray]:
        """The weights f64[some, N] of the replicates in turn, which sum to 1 each; the first of them all is the sample's."""
        if self._kept is not None:
            yield self._kept
            return
        yield np.full((1, self._questions), 1 / self._questions)
        rng, some = np.random.default_rng(self._seed), max(DRAWN // self._questions, 1)
        for start in range(1, self.rows, some):
            shape = min(some, self.rows - start), self._questions
            counts = POISSON[rng.integers(0, 1 << 16, shape, dtype=np.uint16)]
            yield counts / counts.sum(axis=1, keepdims=True, dtype=float)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The means [1 + replicates, ...] of values [N, ...] over each resample."""
        return np.concatenate([weights @ values for weights in self.weights()])

    def means(self, values: Mapping[Name, np.ndarray]) -> dict[Name, np.ndarray]:
        """The means f64[1 + replicates, ...] of several values f64[N, ...] by name, in one pass over the resamples."""
        if not values:
            return {}
        width = [part[0].size for part in values.values()]
        columns = np.concatenate([part.reshape(self._questions, -1) for part in values.values()], axis=1, dtype=float)
        parts = np.split(self.mean(columns), np.cumsum(width)[:-1], axis=1)
        named = zip(values.items(), parts, strict=True)
        return {name: part.reshape(self.rows, *whole.shape[1:]) for (name, whole), part in named}

    @staticmethod
    def interval(means: np.ndarray) -> Interval:
        """The interval of what was computed of means [1 + replicates]."""
        return Interval.of(means[0], means[1:])


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest of J means that are estimated together.

    Where two of them cannot be told apart, the largest of the estimates is too large on average, and its bootstrap
    distribution has another shape than its error: the percentile interval then misses on one side. With means m_j, the best of
    them m_b, and estimates x_j, an upper end of the largest is the largest of upper ends, since m_b lies below its own; and a
    lower end is the largest of lower ends that hold for all j together, since no m_j exceeds m_b. So it covers 95 % wherever
    the means lie, a little more where some tie, and is the percentile interval where one is clearly the largest.
    """

    means: np.ndarray  # f64[1 + replicates, J] those that may be the largest

    @classmethod
    def of(cls, means: np.ndarray) -> Largest:
        """Of means f64[1 + replicates, J], keeps those within `NEAR` standard errors of the largest; NaN: there is none."""
        if np.isnan(means[0]).any():
            return cls(np.full((len(means), 1), np.nan))
        best = int(np.argmax(means[0]))
        behind = means[:, [best]] - means
        near = behind[0] <= NEAR * behind[1:].std(axis=0) + 1e-12
        return cls(means[:, near])

    @property
    def value(self) -> float:
        return float(self.means[0].max())

    @property
    def interval(self) -> Interval:
        return _saddle(self.means[:, :, None])

    def minus(self, other: Largest, share: float = 1.0) -> Interval:
        """The interval of this largest minus a share (of either sign) of another one, paired."""
        pairs = self.means[:, :, None] - share * other.means[:, None, :]
        return _saddle(pairs if share >= 0 else pairs.reshape(len(pairs), -1, 1))

    def over(self, other: Largest) -> Interval:
        """The interval of the ratio of this largest to another one, after Fieller: the shares s of the other for which the
        interval of self - s * other holds 0.

        No resample is dropped. The set is an interval just where the other is above 0 beyond its own noise; elsewhere there is
        no telling, and the result is NaN.
        """
        if np.isnan(self.value) or not other.interval.low > 0:
            return NOTHING
        value = self.value / other.value
        low = _crossing(lambda share: self.minus(other, share).low <= 0, value, -1.0)
        high = _crossing(lambda share: self.minus(other, share).high >= 0, value, 1.0)
        return Interval(value, low, high)


def _saddle(means: np.ndarray) -> Interval:
    """The interval of max_b min_m of means f64[1 + replicates, B, M] that has a saddle point: as of a largest less a largest."""
    value = means[0].min(axis=1).max()
    if np.isnan(value):
        return NOTHING
    off = means[1:] - means[0]
    error = off.std(axis=0)
    scaled = off / np.where(error > 0, error, 1.0)
    low = means[0] + np.percentile(scaled.min(axis=1), ENDS[0], axis=0) * error
    high = means[0] + np.percentile(scaled.max(axis=2), ENDS[1], axis=0)[:, None] * error
    return Interval(float(value), float(low.max(axis=0).min()), float(high.min(axis=1).max()))


def _crossing(holds: Callable[[float], bool], start: float, step: float) -> float:
    """How far from where it holds, in the direction of the step, a condition holds; to 1e-4 of the distance."""
    inside, outside = start, start + step
    while holds(outside):
        inside, outside, step = outside, outside + 2 * step, 2 * step
    while abs(outside - inside) > 1e-4 * max(abs(outside - start), 1e-4):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return float(inside)
