"""Calibration: the multiplier at which decisions on predicted scores and costs spend a budget. NumPy alone.

A multiplier l gives each question the action that maximises predicted score - l * predicted cost.
Predictions err, so the multiplier that would meet a budget by predicted costs does not meet it by real ones. It is found on
calibration questions, whose costs were measured, with predictions by models that had not seen them. Predictions also tie,
so a `MixedMultiplier` is two adjacent multipliers and the share of the questions that uses the lower one. `calibrate` meets the
budget in expectation; `calibrate_surely` keeps it with a confidence that holds for any number of calibration questions,
given a ceiling on what one question can cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted score and cost of every action on N questions."""

    score: np.ndarray  # f32[N, K] predicted utility, or log-probability of being the oracle's choice (imitation)
    cost: np.ndarray  # f32[N, K] predicted cost
    spread: np.ndarray | None = None  # f32[N, K] standard deviation of the score over the ensemble's members

    def best_response(self, multiplier: float) -> np.ndarray:
        """The best action i64[N] at a multiplier."""
        return np.argmax(self.score - np.float32(multiplier) * self.cost, axis=1)

    def spends(self, multiplier: float, cost: np.ndarray) -> np.ndarray:
        """Measured cost of the best response to each question at a multiplier, f64[N], from the measured costs f32[N, K]."""
        return cost[np.arange(len(cost)), self.best_response(multiplier)].astype(np.float64)

    def spend(self, multiplier: float, cost: np.ndarray) -> float:
        """The mean of `spends`."""
        return float(self.spends(multiplier, cost).mean())

    @property
    def parts(self) -> tuple[tuple[float, Prediction], ...]:
        """Predictions, and their shares in the spend."""
        return ((1.0, self),)

    @property
    def multiplier_scale(self) -> float:
        """The order of magnitude of a multiplier: utility over cost."""
        return float(np.ptp(self.score) / (np.ptp(self.cost) or 1.0)) or 1.0


@dataclass(frozen=True)
class Unseen:
    """Predictions for an ensemble's training questions, each by the members that had not seen it.

    They tell what all M members will spend on new questions. Only m of the M have not seen a question, and an average over
    fewer members is noisier, so it chooses other actions. The variance that averaging removes is linear in 1 / m: the spend
    is extrapolated in 1 / m, from m / 2 and m members to M.
    """

    whole: Prediction  # averaged over the m members that have not seen the question
    halves: tuple[Prediction, ...] = ()  # averaged over either half of them; none where m is odd
    reach: float = 0.0  # 1 - m / M

    def spends(self, multiplier: float, cost: np.ndarray) -> np.ndarray:
        """Cost of the best response of all M members to each question, f64[N], extrapolated: a single one may be below 0."""
        return np.sum([share * part.spends(multiplier, cost) for share, part in self.parts], axis=0)

    def spend(self, multiplier: float, cost: np.ndarray) -> float:
        """Expected cost per new question of the best responses of all M members at a multiplier."""
        return float(self.spends(multiplier, cost).mean())

    @property
    def parts(self) -> tuple[tuple[float, Prediction], ...]:
        """Predictions, and their shares in the spend."""
        if not self.halves:
            return ((1.0, self.whole),)
        return (1 + self.reach, self.whole), *((-self.reach / len(self.halves), half) for half in self.halves)

    @property
    def multiplier_scale(self) -> float:
        return self.whole.multiplier_scale


@dataclass(frozen=True)
class MixedMultiplier:
    """Two adjacent multipliers and the share of questions that use the lower one; mixing them spends a budget exactly."""

    low: float
    high: float
    weight: float  # share of the questions that use `low`

    @property
    def mean(self) -> float:
        """The mean multiplier over questions."""
        return self.weight * self.low + (1 - self.weight) * self.high

    def choose(self, prediction: Prediction, lottery: np.ndarray) -> np.ndarray:
        """The action i64[N] of each question, given a random number in [0, 1) for each (`lottery`)."""
        low, high = prediction.best_response(self.low), prediction.best_response(self.high)
        return np.where(lottery < self.weight, low, high)

    def spends(self, prediction: Prediction | Unseen, cost: np.ndarray) -> np.ndarray:
        """Mean cost of each question over the lottery, f64[N], from the measured costs f32[N, K]."""
        low, high = (prediction.spends(multiplier, cost) for multiplier in (self.low, self.high))
        return self.weight * low + (1 - self.weight) * high


def calibrate(
    prediction: Prediction | Unseen, cost: np.ndarray, budget: float, negative: bool = False
) -> MixedMultiplier:
    """The multiplier at which the best responses to a prediction are expected to spend the budget on new questions.

    The multiplier at which the calibration questions spend the budget spends more on new ones: it is low where these questions
    happened to be cheap. Let S(l) be the expected spend at multiplier l, and let the calibration questions' mean be off by e(l).
    The multiplier l' that meets the budget on them has S(l') + e(l') = budget, and to second order

        E S(l') - budget = -E[e e'] / S' = (1 / 2) d Var(e) / dS,

    with Var(e) the variance of one question's spend over N. This much less is aimed at, measured over one standard error
    to either side. What remains is of higher order in the squared coefficient of variation over N.

    Args:
      prediction: of the N calibration questions, by models that have not seen them.
      cost: f32[N, K] their measured costs.
      budget: mean cost per question.
      negative: whether the multiplier may be below 0, for scores that are no utilities (a classifier that underspends).

    Returns:
      The two multipliers between which the spend passes what is aimed at, and the weight that meets it. Multiplier 0 where the budget
      exceeds what the policy has a use for.

    Raises:
      ValueError: the budget is no number, or even the highest multiplier spends more than it.
    """
    _check_budget(budget)
    cheapest = prediction.spend(HIGHEST * prediction.multiplier_scale, cost)
    if cheapest > budget:
        raise ValueError(f"a budget of {budget:g} is below the policy's cheapest plan, which spends {cheapest:g}")

    between = _Between(prediction, cost)

    def crossing(target: float) -> tuple[MixedMultiplier, np.ndarray]:
        multiplier = _crossing(prediction, cost, max(target, cheapest), negative, between)
        return multiplier, multiplier.spends(prediction, cost)

    multiplier, spends = crossing(budget)
    if multiplier.low == multiplier.high:
        return multiplier
    error = spends.std() / np.sqrt(len(cost))
    (_, dear), (_, cheap) = crossing(budget + error), crossing(budget - error)
    if dear.mean() <= cheap.mean():
        return multiplier
    bias = 0.5 * (dear.var() - cheap.var()) / (dear.mean() - cheap.mean()) / len(cost)
    return crossing(budget - max(bias, 0.0))[0]


HIGHEST = 4.0**19  # in units of a prediction's multiplier scale: the highest multiplier that is tried


class _Between:
    """What questions spend at multipliers between two others: what a question does at both, it does between them, too.

    So a bisection looks at ever fewer questions; several of them, which begin alike, share their beginnings.
    """

    def __init__(self, prediction: Prediction | Unseen, cost: np.ndarray):
        self._parts, self._cost = prediction.parts, cost
        self._spend: dict[float, float] = {}
        self._open: dict[tuple[float, float], list] = {}

    def spend(self, multiplier: float) -> float:
        """At any multiplier."""
        if multiplier not in self._spend:
            self._spend[multiplier] = sum(share * part.spend(multiplier, self._cost) for share, part in self._parts)
        return self._spend[multiplier]

    def start(self, low: float, high: float) -> list:
        """Of every part, the questions that are open between two multipliers, what they do at both, and what the others spend."""
        if (low, high) not in self._open:
            everything = np.arange(len(self._cost))
            ends = ((part.best_response(low), part.best_response(high)) for _, part in self._parts)
            self._open[low, high] = [self._settle(everything, at_low, at_high, 0.0) for at_low, at_high in ends]
        return self._open[low, high]

    def middle(self, low: float, high: float, middle: float) -> float:
        """What is spent at a multiplier between two others, from which on it can be asked for on either side."""
        if not {(low, middle), (middle, high)} <= self._open.keys():
            sides: tuple[list, list] = ([], [])
            spend = 0.0
            for (share, part), (rows, at_low, at_high, settled) in zip(self._parts, self._open[low, high], strict=True):
                now = Prediction(part.score[rows], part.cost[rows]).best_response(middle)
                spend += share * (settled + self._cost[rows, now].sum(dtype=float))
                sides[0].append(self._settle(rows, at_low, now, settled))
                sides[1].append(self._settle(rows, now, at_high, settled))
            self._open[low, middle], self._open[middle, high] = sides
            self._spend[middle] = spend / len(self._cost)
        return self._spend[middle]

    def _settle(self, rows: np.ndarray, at_low: np.ndarray, at_high: np.ndarray, settled: float) -> tuple:
        moves = at_low != at_high
        settled += self._cost[rows[~moves], at_low[~moves]].sum(dtype=float)
        return rows[moves], at_low[moves], at_high[moves], settled


def _crossing(
    prediction: Prediction | Unseen, cost: np.ndarray, target: float, negative: bool, between: _Between | None = None
) -> MixedMultiplier:
    """The multiplier at which these very questions spend a target, which is at least what the highest multiplier spends."""
    between, scale = between or _Between(prediction, cost), prediction.multiplier_scale
    spend, low, high = between.spend, 0.0, scale
    while negative and spend(low) < target and low > -1e6 * scale:
        low = min(2 * low, -scale)
    if (dearest := spend(low)) <= target:
        return MixedMultiplier(low, low, 1.0)
    while (cheapest := spend(high)) > target and high < HIGHEST * scale:
        high *= 4
    between.start(low, high)
    # Spend falls with the multiplier but for the errors of the predictions; bisection keeps the crossing between its ends.
    for _ in range(60):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if (now := between.middle(low, high, middle)) > target:
            low, dearest = middle, now
        else:
            high, cheapest = middle, now
    return MixedMultiplier(low, high, (target - cheapest) / (dearest - cheapest))


OCTAVES = 40  # multipliers from 2^-40 to 2^40 of a unit of utility per unit of cost
STEPS = 8  # multipliers per octave
MIXES = 4  # shares of the lower of two adjacent multipliers


def calibrate_surely(
    prediction: Prediction, cost: np.ndarray, budget: float, delta: float, ceiling: float, negative: bool = False
) -> MixedMultiplier:
    """The lowest multiplier that is shown to keep the budget: its expected spend exceeds it with probability at most delta.

    The claim: if the calibration questions are drawn independently from where later questions come from, the prediction
    was made without them, and no question can cost more than `ceiling`, then P(S(multiplier) > budget) <= delta, where S is the
    expected spend on a new question and P is over the calibration questions. It holds for any number of them. Without a
    ceiling there is no such claim: no number of questions rules out one in a million that costs a billion.

    Proof. One multiplier: let X_1 .. X_N be what the questions spend at it, independent with mean S. If S > budget, then

        W = mean_j prod_i (1 + t_j (budget - X_i)),    0 <= t_j <= 1 / (ceiling - budget),

    has factors of at least 0 with means of at most 1, so E W <= 1 and P(W >= 1 / delta) <= delta by Markov's inequality:
    W is what betting against S > budget makes of one unit, spread over the stakes t_j, which are fixed beforehand. All
    multipliers: they are tried in one order, fixed before any data, from the highest to the lowest, and the trial ends
    at the first whose W stays below 1 / delta. A multiplier that overspends is returned only if the first overspending one of
    the order has passed, which has probability at most delta. So no union bound is paid, and the spend need not fall with
    the multiplier.

    It takes ceiling / budget times log(1 / delta) questions to show anything, even where none of them costs a thing.

    Sources: betting, Waudby-Smith and Ramdas 2024 (JRSS B 86:1); the mixture over stakes, Orabona and Jun 2024 (IEEE Trans.
    Inf. Theory 70:436); the order of trials, fixed-sequence testing in Angelopoulos et al. 2021 (arXiv 2110.01052).

    Args:
      prediction: of the N calibration questions.
      cost: f32[N, K] their measured costs.
      budget: expected cost per question that is not to be exceeded.
      delta: the allowed chance that it is.
      ceiling: the most that any question can cost with any action, such as the token limit times samples times the price.
      negative: whether the multiplier may be below 0.

    Raises:
      ValueError: delta is not between 0 and 1, the budget or the ceiling is no number, a question cost more than the ceiling,
        or no multiplier is shown to keep the budget.
    """
    _check_budget(budget)
    if not 0 < delta < 1:
        raise ValueError(f"delta is a probability between 0 and 1, got {delta}")
    if not (np.isfinite(ceiling) and ceiling >= 0):
        raise ValueError(f"a ceiling is a finite cost that no question exceeds, got {ceiling}")
    if (dearest := float(cost.max())) > ceiling * (1 + 1e-6):  # costs are float32
        raise ValueError(
            f"the ceiling is {ceiling:g}, but calibration question {int(np.argmax(cost.max(axis=1)))} cost {dearest:g}"
        )
    stakes = _stakes(len(cost), budget, delta, max(ceiling, dearest))
    kept, before = None, None
    for multiplier in _multipliers(negative):
        spends = prediction.spends(multiplier, cost)
        if before is not None and np.array_equal(spends, before[1]):
            kept = MixedMultiplier(multiplier, multiplier, 1.0)  # what it spends was tried already
            before = multiplier, spends
            continue
        for mix in range(1, MIXES + 1):
            weight = mix / MIXES
            spent = spends if before is None else weight * spends + (1 - weight) * before[1]
            if _evidence(budget - spent, stakes) < np.log(1 / delta):
                if kept is None:
                    raise ValueError(
                        f"{len(cost)} calibration questions do not show with confidence {1 - delta:g} that any multiplier keeps "
                        f"a budget of {budget:g}, where one question can cost {ceiling:g}: the cheapest plan spends "
                        f"{spends.mean():.4g} on them. Take more questions, a larger budget or delta, or a lower ceiling"
                    )
                return kept
            kept = MixedMultiplier(multiplier, multiplier if before is None else before[0], weight)
        before = multiplier, spends
    return kept


def _multipliers(negative: bool) -> Iterator[float]:
    """Multipliers from the highest to 0, and on to the lowest where they may be negative; the same for all data."""
    exponents = np.arange(-OCTAVES * STEPS, OCTAVES * STEPS + 1) / STEPS
    yield from 2.0 ** exponents[::-1]
    yield 0.0
    if negative:
        yield from -(2.0**exponents)


def _stakes(count: int, budget: float, delta: float, ceiling: float) -> np.ndarray:
    """f64[J] stakes, at most doubling, from what suits the largest variance that costs below a ceiling can have to the largest.

    Against spends of variance V the best stake is about sqrt(2 log(1 / delta) / (V N)), and V <= budget (ceiling - budget).
    Where no question can exceed the budget nothing can be lost: one infinite stake.
    """
    if ceiling <= budget:
        return np.array([np.inf])
    largest = 1 / (ceiling - budget)
    if budget <= 0:
        return np.array([largest])
    least = min(np.sqrt(2 * np.log(1 / delta) * (ceiling - budget) / (budget * count)), 1.0)
    return largest * np.geomspace(least, 1, 1 + int(np.ceil(-np.log2(least))))


def _evidence(gains: np.ndarray, stakes: np.ndarray) -> float:
    """log W: what betting on gains f64[N] with each of the stakes makes of one unit, on average."""
    if np.isinf(stakes[0]):
        return np.inf
    with np.errstate(divide="ignore"):  # a stake that is lost whole leaves nothing
        wealth = np.array([np.log1p(np.maximum(stake * gains, -1.0)).sum() for stake in stakes])
    return float(np.logaddexp.reduce(wealth) - np.log(len(stakes)))


def _check_budget(budget: float) -> None:
    if not np.isfinite(budget):
        raise ValueError(f"a budget is a finite number, got {budget}")
