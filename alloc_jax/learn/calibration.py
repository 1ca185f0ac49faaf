"""Prices: predictions in, actions out, and the price at which they spend a budget. NumPy only.

A price l turns predictions into the action that maximises score - l * predicted cost. Predictions err, so the price
that would meet a budget on the predictions does not meet it in truth: it is solved again on calibration questions, whose
measured costs are known, with predictions made by models that had not seen them. Predictions also tie, so a price is a
pair of adjacent prices and the share of each. `calibrate` meets the budget in expectation, `calibrate_surely` with a
confidence that holds for any number of calibration questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a policy thinks of every action on some questions."""

    score: np.ndarray  # f32[N, K] predicted utility, or the log-probability of being the oracle's choice
    cost: np.ndarray  # f32[N, K] predicted cost
    spread: np.ndarray | None = None  # f32[N, K] standard deviation of the score over the ensemble's members

    def best_response(self, multiplier: float) -> np.ndarray:
        """The best action i64[N] at a price."""
        return np.argmax(self.score - np.float32(multiplier) * self.cost, axis=1)

    def spends(self, multiplier: float, cost: np.ndarray) -> np.ndarray:
        """What the best response at a price really spends on each question, f64[N], given the measured costs f32[N, K]."""
        return cost[np.arange(len(cost)), self.best_response(multiplier)].astype(np.float64)

    def spend(self, multiplier: float, cost: np.ndarray) -> float:
        """The mean of `spends`."""
        return float(self.spends(multiplier, cost).mean())

    @property
    def price_scale(self) -> float:
        """The order of magnitude of a price: utility over cost."""
        return float(np.ptp(self.score) / max(np.ptp(self.cost), 1e-30)) or 1.0


@dataclass(frozen=True)
class Unseen:
    """What an ensemble's members predict of questions they have not seen, and so how the ensemble will spend on new ones.

    m of its M members have not seen a question, and an average of fewer members is noisier and chooses otherwise. The
    variance that averaging removes is linear in 1 / m, so the spend is extrapolated in 1 / m from m / 2 and m to M members.
    """

    whole: Prediction  # averaged over the m members that have not seen the question
    halves: tuple[Prediction, ...] = ()  # averaged over either half of them; none where m is odd
    reach: float = 0.0  # 1 - m / M

    def spends(self, multiplier: float, cost: np.ndarray) -> np.ndarray:
        """What all M members' best response is extrapolated to spend on each question, f64[N]; a single one may be below 0."""
        spends = self.whole.spends(multiplier, cost)
        if not self.halves:
            return spends
        return spends + self.reach * (spends - np.mean([half.spends(multiplier, cost) for half in self.halves], axis=0))

    def spend(self, multiplier: float, cost: np.ndarray) -> float:
        """What the best responses of all M members at a price will spend a new question."""
        return float(self.spends(multiplier, cost).mean())

    @property
    def price_scale(self) -> float:
        return self.whole.price_scale


@dataclass(frozen=True)
class Price:
    """Two adjacent prices: a share `weight` of the questions answers to the lower one, the rest to the higher one."""

    low: float
    high: float
    weight: float  # share of the questions that get the low price

    @property
    def mean(self) -> float:
        return self.weight * self.low + (1 - self.weight) * self.high

    def choose(self, prediction: Prediction, lottery: np.ndarray) -> np.ndarray:
        """The action i64[N] of each question, given a number in [0, 1) for each (`lottery`)."""
        low, high = prediction.best_response(self.low), prediction.best_response(self.high)
        return np.where(lottery < self.weight, low, high)


def calibrate(prediction: Prediction | Unseen, cost: np.ndarray, budget: float, negative: bool = False) -> Price:
    """The price at which the best responses to a prediction spend the budget, by the measured costs.

    Args:
      prediction: of the calibration questions, by models that have not seen them.
      cost: f32[N, K] their measured costs.
      budget: mean cost a question.
      negative: whether the price may be below 0, for scores that are no utilities (a classifier that underspends).

    Returns:
      The two prices between which the spend passes the budget, and the weight that meets it. Price 0 where the budget
      exceeds what the policy has a use for.

    Raises:
      ValueError: the budget is no number, or even the highest price spends more than it.
    """
    _check_budget(budget)

    def spend(multiplier: float) -> float:
        return prediction.spend(multiplier, cost)

    scale = prediction.price_scale
    low, high = 0.0, scale
    while negative and spend(low) < budget and low > -1e6 * scale:
        low = min(2 * low, -scale)
    if (dearest := spend(low)) <= budget:
        return Price(low, low, 1.0)
    while spend(high) > budget:
        high *= 4
        if high > 1e12 * scale:
            raise ValueError(
                f"a budget of {budget:g} is below the policy's cheapest plan, which spends {spend(high):g}"
            )
    # Spend falls with the price but for the errors of the predictions; bisection keeps the crossing between its ends.
    cheapest = spend(high)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if (now := spend(middle)) > budget:
            low, dearest = middle, now
        else:
            high, cheapest = middle, now
    return Price(low, high, (budget - cheapest) / (dearest - cheapest))


OCTAVES = 40  # prices from 2^-40 to 2^40 of a unit of utility per unit of cost
STEPS = 8  # prices an octave
MIXES = 4  # shares of the lower of two adjacent prices


def calibrate_surely(
    prediction: Prediction | Unseen,
    cost: np.ndarray,
    budget: float,
    delta: float,
    negative: bool = False,
    dearest: float | None = None,
) -> Price:
    """The lowest price that is shown to keep the budget: its expected spend exceeds it with probability at most delta.

    The claim: if the calibration questions are drawn independently from where later questions come from, the prediction
    was made without them, and no cost exceeds `dearest`, then P(S(price) > budget) <= delta, where S is the expected spend
    on a new question and P is over the calibration questions. It holds for any number of them.

    Proof. One price: let X_i be what question i spends at it, independent with mean S, and let t_i, a function of
    X_1 .. X_(i-1), lie in [0, 1 / (dearest - budget)]. If S > budget, every factor of

        W_n = prod_(i <= n) (1 + t_i (budget - X_i))

    is at least 0 and has a conditional mean of at most 1, so E W_N <= 1 and P(W_N >= 1 / delta) <= delta by Markov's
    inequality. (The largest W_n on the way would do as well, by Ville's, but it can pass a price that overspends on these
    very questions.) All prices: they are tried in one order, fixed before any data, from the
    dearest compute to the cheapest, and the trial ends at the first whose W_N stays below 1 / delta. A price that
    overspends is returned only if the first overspending one of the order has passed, which has probability at most
    delta. So no union bound is paid, and the spend need not fall with the price.

    The stakes t_i follow the variance seen so far (Waudby-Smith and Ramdas, 2024); the order of trials is that of
    fixed-sequence testing in Angelopoulos et al., Learn then test, 2021. With `Unseen` predictions of training questions
    the assumption holds nearly and not exactly: each was made without its question, but the models share the others.

    Args:
      prediction: of the calibration questions, in an order that means nothing.
      cost: f32[N, K] their measured costs.
      budget: expected cost a question that is not to be exceeded.
      delta: the allowed chance that it is.
      negative: whether the price may be below 0.
      dearest: what no question can cost; the largest cost measured by default.

    Raises:
      ValueError: delta is not between 0 and 1, the budget is no number, or no price is shown to keep it.
    """
    _check_budget(budget)
    if not 0 < delta < 1:
        raise ValueError(f"delta is a probability between 0 and 1, got {delta}")
    reach = getattr(prediction, "reach", 0.0)
    largest = (1 + reach) * (float(cost.max()) if dearest is None else dearest)
    stake = 1 / max(largest - budget, 1e-12 * largest)
    kept, before = None, None
    for price in _prices(negative):
        spends = prediction.spends(price, cost)
        if before is not None and np.array_equal(spends, before[1]):
            kept = Price(price, price, 1.0)  # what it spends was tried already
            before = price, spends
            continue
        for mix in range(1, MIXES + 1):
            weight = mix / MIXES
            spent = spends if before is None else weight * spends + (1 - weight) * before[1]
            if not _keeps(spent, budget, delta, largest, stake):
                if kept is None:
                    raise ValueError(
                        f"{len(cost)} calibration questions do not show with confidence {1 - delta:g} that any price keeps "
                        f"a budget of {budget:g}: the cheapest plan spends {spends.mean():.4g} on them"
                    )
                return kept
            kept = Price(price, price if before is None else before[0], weight)
        before = price, spends
    return kept


def _prices(negative: bool) -> Iterator[float]:
    """Prices from the highest to 0, and on to the lowest where they may be negative; the same for all data."""
    exponents = np.arange(-OCTAVES * STEPS, OCTAVES * STEPS + 1) / STEPS
    yield from 2.0 ** exponents[::-1]
    yield 0.0
    if negative:
        yield from -(2.0**exponents)


def _keeps(spends: np.ndarray, budget: float, delta: float, largest: float, stake: float) -> bool:
    """Whether spends f64[N] win enough against the claim that their mean exceeds the budget."""
    count = np.arange(1, len(spends) + 1)
    mean = np.cumsum(spends) / count
    squares = (largest / 2) ** 2 + np.cumsum((spends - mean) ** 2)
    variance = np.concatenate([[(largest / 2) ** 2], (squares / (count + 1))[:-1]])  # before each question
    stakes = np.minimum(np.sqrt(2 * np.log(1 / delta) / (variance * len(spends))), stake)
    with np.errstate(divide="ignore"):  # a stake that is lost whole leaves nothing
        wealth = np.sum(np.log1p(np.maximum(stakes * (budget - spends), -1.0)))
    return bool(wealth >= np.log(1 / delta))


def _check_budget(budget: float) -> None:
    if not np.isfinite(budget):
        raise ValueError(f"a budget is a finite number, got {budget}")
