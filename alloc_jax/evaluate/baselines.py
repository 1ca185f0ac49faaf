"""Rules to beat: neighbours in feature space, the length of the prompt, a random mix, the best single action.

The first two predict like a learned policy and are calibrated the same way, so that only the prediction
differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alloc_jax.evaluate.neighbours import FEW, Neighbours
from alloc_jax.evaluate.outcomes import check_complete
from alloc_jax.learn.features.inputs import Embedding
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.inference import standardise
from alloc_jax.learn.policy import MixedMultiplier, Prediction, calibrate
from alloc_jax.learn.protocols import Featurizer
from alloc_jax.types import OutcomeTable, inseparable


def _lengths(questions: Sequence[str]) -> np.ndarray:
    return np.array([[len(text)] for text in questions], np.float32)


SOME = 1 << 18  # neighbours that are averaged at once
PROMPT_LENGTH = Embedding("prompt length", _lengths, 1)


@dataclass(frozen=True, eq=False)
class NearestNeighbours:
    """Predicts the mean outcome of the nearest training questions, by the angle between standardised features, or by their distance.

    By distance, short texts are near everything: they have few features. With angles kNN is the better rival on the built-in log.
    """

    name: str
    table: OutcomeTable  # the training questions
    featurizer: Featurizer = field(default_factory=TextFeatures)
    neighbours: int = 20  # fewer where a training question has fewer of other texts beside it
    angles: bool = True
    by_group: bool = False  # the multiplier is calibrated on predictions from questions of other groups
    predicts_utility = True
    _moments: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)
    _known: Neighbours = field(init=False, repr=False)
    _count: int = field(init=False, repr=False)
    _calibration: Prediction = field(init=False, repr=False)

    def __post_init__(self):
        check_complete(self.table, self.name)
        features = self.featurizer.encode(self.table.question)
        object.__setattr__(self, "_moments", _moments(features))
        placed = self._placed(features)
        object.__setattr__(self, "_known", Neighbours(placed))
        unit = inseparable(self.table, self.by_group)
        others = len(unit) - int(np.bincount(unit).max())
        if others == 0:
            raise ValueError(
                f"{self.name}: every question has the same text or group, and none is left to predict it from"
            )
        object.__setattr__(self, "_count", min(self.neighbours, others))
        # Each training question is predicted from those of other units.
        object.__setattr__(self, "_calibration", self._average(placed, (unit, unit)))

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(action.name for action in self.table.actions)

    def predict_features(self, features: np.ndarray, budget: float | None = None) -> Prediction:
        """The mean utility and cost of every action over the training questions nearest to features f32[N, D]."""
        return self._average(self._placed(features))

    def head(self, budget: float | None) -> None:
        """One prediction serves every budget."""

    def multiplier(self, budget: float) -> MixedMultiplier:
        """The multiplier calibrated on the training questions."""
        return calibrate(self._calibration, self.table.cost, budget)

    def _placed(self, features: np.ndarray) -> np.ndarray:
        """Features where their squared distances are what nearness is judged by."""
        x = standardise(features, *self._moments)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) if self.angles else x

    def _average(self, features: np.ndarray, alike: tuple[np.ndarray, np.ndarray] | None = None) -> Prediction:
        # Among equally near ones (many prompts are equally long) the earlier question wins: a fixed, arbitrary order.
        near = self._known.nearest(features, self._count, alike)
        parts = np.array_split(near, 1 + near.size // SOME)
        both = self.table.utility, self.table.cost
        return Prediction(*(np.concatenate([of[part].mean(axis=1) for part in parts]) for of in both))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean f[D] and scale f[D] of features f[N, D]; a feature that never varies is divided by infinity."""
    scale = features.std(axis=0)
    return features.mean(axis=0), np.where(scale < 1e-6, np.inf, scale)


@dataclass(frozen=True, eq=False)
class RidgeRegression:
    """Predicts outcomes as linear functions of standardised features, shrunk towards the mean outcomes.

    w = (X'X + penalty I)^-1 X'Y, and without question i its residual is r_i / (1 - h_i), h_i its leverage: the multiplier is
    calibrated on predictions of questions that were left out, at no further cost. Questions of the same text are left
    out together: their residuals are (I - H)^-1 r, H their block of the hat matrix.
    """

    name: str
    table: OutcomeTable  # the training questions
    featurizer: Featurizer = field(default_factory=TextFeatures)
    penalty: float = 1.0
    predicts_utility = True
    _moments: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)
    _line: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)
    _calibration: Prediction = field(init=False, repr=False)

    def __post_init__(self):
        check_complete(self.table, self.name)
        features = self.featurizer.encode(self.table.question)
        object.__setattr__(self, "_moments", _moments(features))
        x = standardise(features, *self._moments).astype(float)
        outcomes = np.concatenate([self.table.utility, self.table.cost], axis=1).astype(float)
        inverse = np.linalg.inv(x.T @ x + self.penalty * np.eye(x.shape[1]))
        weights, average = inverse @ x.T @ outcomes, outcomes.mean(axis=0)  # features have a mean of 0
        object.__setattr__(self, "_line", (weights, average))
        residual = outcomes - x @ weights - average
        leverage = np.einsum("nd,de,ne->n", x, inverse, x) + 1 / len(x)
        without = outcomes - residual / (1 - leverage[:, None])
        unit = inseparable(self.table)
        for twins in (np.flatnonzero(unit == number) for number in np.flatnonzero(np.bincount(unit) > 1)):
            if len(twins) == len(unit):
                raise ValueError(f"{self.name}: every question has the same text, and none is left to predict it from")
            hat = x[twins] @ inverse @ x[twins].T + 1 / len(x)
            without[twins] = outcomes[twins] - np.linalg.solve(np.eye(len(twins)) - hat, residual[twins])
        object.__setattr__(self, "_calibration", self._prediction(without))

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(action.name for action in self.table.actions)

    def predict_features(self, features: np.ndarray, budget: float | None = None) -> Prediction:
        """The utility and cost of every action, from features f32[N, D]."""
        weights, average = self._line
        return self._prediction(standardise(features, *self._moments) @ weights + average)

    def head(self, budget: float | None) -> None:
        """One prediction serves every budget."""

    def multiplier(self, budget: float) -> MixedMultiplier:
        """The multiplier calibrated on the training questions."""
        return calibrate(self._calibration, self.table.cost, budget)

    @staticmethod
    def _prediction(outcomes: np.ndarray) -> Prediction:
        score, cost = np.split(outcomes.astype(np.float32), 2, axis=1)
        return Prediction(score, np.maximum(cost, 0))


def prompt_length(table: OutcomeTable, by_group: bool = False) -> NearestNeighbours:
    """The length heuristic at its best: what questions of about this length have earned, with a multiplier calibrated like a policy's.

    It averages many more neighbours than `NearestNeighbours` does by default, because one feature tells little; and of very many
    questions, it learns from `FEW` drawn at random, because they tell as much.
    """
    if len(table) > FEW:
        table = table.select(np.sort(np.random.default_rng(0).permutation(len(table))[:FEW]))
    count = max(20, len(table) // 20)
    return NearestNeighbours("prompt length", table, PROMPT_LENGTH, neighbours=count, angles=False, by_group=by_group)


def random_mix(cost: np.ndarray, budget: float) -> np.ndarray:
    """The probabilities f64[..., K] of the most random choice of an action that spends a budget on average.

    p_k is proportional to exp(-t * mean cost of k), with the t >= 0 at which the mean cost is the budget.

    Args:
      cost: f64[..., K] mean costs of the actions, of one set of questions or of several.
      budget: mean cost per question; where it is below the cheapest action, that one is all there is.

    >>> random_mix(np.array([1.0, 4.0]), 2.0).round(3)
    array([0.667, 0.333])
    """
    above = cost - cost.min(axis=-1, keepdims=True)

    def tilted(t: np.ndarray) -> np.ndarray:
        weights = np.exp(-t[..., None] * above)
        return weights / weights.sum(axis=-1, keepdims=True)

    def exceeds(t: np.ndarray) -> np.ndarray:
        return (tilted(t) * cost).sum(axis=-1) > budget

    low = np.zeros(cost.shape[:-1])
    high = 1 / np.maximum(above.max(axis=-1), 1e-12)
    for _ in range(40):
        high = np.where(exceeds(high), 2 * high, high)
    high = np.where(exceeds(low), high, 0.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        over = exceeds(middle)
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    return tilted(high)


def best_single(table: OutcomeTable, budget: float) -> int | None:
    """The action that earns most on all questions of those whose mean cost is within the budget; None where none is.

    This is the 'fixed' rule of arXiv 2604.14853; it leaves unspent what lies between the budget and its cost.
    """
    check_complete(table, "the best single action")
    cost, utility = table.cost.mean(axis=0, dtype=float), table.utility.mean(axis=0, dtype=float)
    within = cost <= budget * (1 + 1e-6)
    if not within.any():
        return None
    best = within & (
        utility >= utility[within].max() - 1e-6
    )  # of those that tie the cheapest: 2 votes earn what 1 does
    return int(np.argmin(np.where(best, cost, np.inf)))
