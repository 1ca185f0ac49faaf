"""Gradient-boosted trees (XGBoost) as rules to beat, with the settings of arXiv 2604.14853: 100 trees, depth 5, rate 0.1.

- `classes`: one classifier of the oracle's action for each budget, as in the paper;
- `gains`: trees that predict what every action earns over the cheapest one, and one multiplier for every budget. Each node looks at
  a random share of the features: the error on unseen questions is smaller than with all of them, and so is the time.

Both have a multiplier calibrated like a policy's, on predictions of questions the trees have not seen. Needs the extra `trees`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from alloc_jax.evaluate.outcomes import check_complete
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.policy import MixedMultiplier, Prediction, calibrate
from alloc_jax.learn.protocols import Featurizer
from alloc_jax.solve import solve
from alloc_jax.types import OutcomeTable, inseparable

TREES, DEPTH, RATE = 100, 5, 0.1
SHARE = 0.15  # of the features, for each node of the trees on gains


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Boosted trees that predict like a policy, and are calibrated and deployed like one."""

    name: str
    predicts_utility: bool  # what the scores are, as in a policy
    actions: tuple[str, ...]
    featurizer: Featurizer
    budgets: tuple[float, ...]  # of the heads; one head without a budget where it predicts utility
    heads: tuple[Callable[[np.ndarray], Prediction], ...]
    unseen: tuple[Prediction, ...]  # of each head for the training questions, by trees that have not seen them
    cost: np.ndarray  # f32[N, K] the training questions' measured costs
    varies: np.ndarray  # bool[D] the features that differ among the training questions: trees cannot use the others

    def predict_features(self, features: np.ndarray, budget: float | None = None) -> Prediction:
        """What the trees predict of every action, from features f32[N, D]."""
        return self.heads[self.head(budget) or 0](features[:, self.varies])

    def head(self, budget: float | None) -> int | None:
        """Which budget's classifier answers: the nearest. None where one head serves all."""
        if self.predicts_utility:
            return None
        return int(np.argmin(np.abs(np.array(self.budgets) - budget)))

    def multiplier(self, budget: float) -> MixedMultiplier:
        """The multiplier at which the predictions of unseen questions spend the budget."""
        return calibrate(self.unseen[self.head(budget) or 0], self.cost, budget, negative=not self.predicts_utility)


def boosted_classes(
    table: OutcomeTable,
    budgets: Sequence[float],
    featurizer: Featurizer | None = None,
    seed: int = 0,
    by_group: bool = False,
) -> BoostedTrees:
    """The paper's learner: a classifier for each budget, of the action that the oracle takes.

    Args:
      table: the training questions.
      budgets: whose oracles are imitated.
      featurizer: `TextFeatures()` by default.
      seed: of the folds whose questions the calibrating trees do not see.
      by_group: whether a group lies in one fold.
    """
    problem = table.problem()
    labels = [np.asarray(solve(problem, float(budget)).action) for budget in budgets]
    cost = table.cost.mean(axis=0)
    fits = [partial(_fit_classes, label, cost) for label in labels]
    return _boosted("trees (classes)", False, table, tuple(map(float, budgets)), fits, featurizer, seed, by_group)


def boosted_gains(
    table: OutcomeTable, featurizer: Featurizer | None = None, seed: int = 0, by_group: bool = False
) -> BoostedTrees:
    """Trees that predict the gain of every action over the cheapest one, and the actions' costs where they differ.

    Args:
      table: the training questions.
      featurizer: `TextFeatures()` by default.
      seed: of the folds whose questions the calibrating trees do not see.
      by_group: whether a group lies in one fold.
    """
    cheapest = int(np.argmin(table.cost.mean(axis=0)))
    gain = table.utility - table.utility[:, [cheapest]]
    return _boosted(
        "trees (gains)", True, table, (), [partial(_fit_gains, gain, table.cost)], featurizer, seed, by_group
    )


def _boosted(
    name,
    predicts_utility,
    table: OutcomeTable,
    budgets,
    fits,
    featurizer,
    seed: int,
    by_group: bool = False,
    folds: int = 5,
) -> BoostedTrees:
    unit = inseparable(table, by_group)
    units = len(np.unique(unit))
    if units < 2 * folds:
        raise ValueError(f"{name}: {folds} folds need {2 * folds} questions or more, got {units} of different texts")
    check_complete(table, name)
    featurizer = featurizer or TextFeatures()
    features = featurizer.encode(table.question)
    varies = np.ptp(features, axis=0) > 0
    features = features[:, varies]
    everything = np.arange(len(table))
    fold = np.random.default_rng(seed).permutation(units)[unit] % folds  # questions of one text share it
    unseen = []
    for fit in fits:
        parts = [np.zeros(table.cost.shape, np.float32) for _ in range(2)]
        for number in range(folds):
            held = fold == number
            prediction = fit(features, everything[~held])(features[held])
            parts[0][held], parts[1][held] = prediction.score, prediction.cost
        unseen.append(Prediction(*parts))
    heads = tuple(fit(features, everything) for fit in fits)
    actions = tuple(action.name for action in table.actions)
    return BoostedTrees(name, predicts_utility, actions, featurizer, budgets, heads, tuple(unseen), table.cost, varies)


def _fit_classes(label: np.ndarray, cost: np.ndarray, features: np.ndarray, rows: np.ndarray):
    """A head that predicts the log-probability of each label, from the training rows."""
    seen, codes = np.unique(label[rows], return_inverse=True)
    settings = {"objective": "multi:softprob", "num_class": len(seen)} if len(seen) > 1 else None
    booster = settings and _train(features[rows], codes, settings)

    def predict(features: np.ndarray) -> Prediction:
        chance = np.zeros((len(features), len(cost)), np.float32)
        chance[:, seen] = _predict(booster, features).reshape(len(features), -1) if booster else 1.0
        score = np.log(np.maximum(chance, 1e-6))  # an action that was never a label is the last to be taken
        return Prediction(score, np.broadcast_to(cost, score.shape).astype(np.float32))

    return predict


def _fit_gains(gain: np.ndarray, cost: np.ndarray, features: np.ndarray, rows: np.ndarray):
    """A head that predicts each action's gain, and its cost, from the training rows."""
    mean = np.maximum(cost[rows].mean(axis=0), 1e-12)
    ratio = cost / mean
    targets = np.concatenate([gain, ratio], axis=1)[rows]
    # Votes of one source cost the same multiple of their means: such outputs share their trees.
    _, first, shared = np.unique(targets.round(5), axis=1, return_index=True, return_inverse=True)
    targets = targets[:, first]
    varies = np.ptp(targets, axis=0) > 1e-6  # counted samples cost the same on every question
    constant = targets[0].astype(np.float32)
    settings = {"objective": "reg:squarederror", "colsample_bynode": SHARE}
    booster = _train(features[rows], targets[:, varies], settings) if varies.any() else None

    def predict(features: np.ndarray) -> Prediction:
        outputs = np.tile(constant, (len(features), 1))
        if booster:
            outputs[:, varies] = _predict(booster, features).reshape(len(features), -1)
        score, ratio = np.split(outputs[:, shared.ravel()], 2, axis=1)
        return Prediction(score, np.maximum(ratio * mean, 0).astype(np.float32))

    return predict


def _train(features: np.ndarray, target: np.ndarray, settings: dict):
    xgboost = _xgboost()
    data = xgboost.QuantileDMatrix(features, target)
    # A second thread gains nothing on a few thousand questions; callers run several fits at once instead.
    settings = {"max_depth": DEPTH, "eta": RATE, "tree_method": "hist", "nthread": 1, "verbosity": 0, **settings}
    return xgboost.train(settings, data, TREES)


def _predict(booster, features: np.ndarray) -> np.ndarray:
    return booster.inplace_predict(features)


def _xgboost():
    try:
        import xgboost
    except ImportError as error:
        raise ImportError("boosted trees need xgboost: pip install 'alloc_jax[trees]'") from error
    return xgboost
