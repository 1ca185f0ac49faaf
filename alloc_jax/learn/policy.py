"""A learned policy: what it predicts of a question, and the multiplier that turns predictions into actions. NumPy only.

A policy scores every action on a question (`predict`); a multiplier, calibrated for a budget, turns scores into actions
(`calibration`). It is stored with what it was calibrated on, so that any budget gets its multiplier where it is served.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.display import Shown
from alloc_jax.learn.calibration import MixedMultiplier, Prediction, Unseen, calibrate, calibrate_surely
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.inference import Rest, at_rest, forward, forward_one, read_cost, read_score
from alloc_jax.learn.protocols import Featurizer

SCHEMA_VERSION = 1


def read_head(outputs: np.ndarray, weights: dict[str, np.ndarray], head: int | None) -> Prediction:
    """What outputs f32[N, O] predict: of a value network (head None), or of one budget's head of an imitation network."""
    return Prediction(
        *(np.asarray(x, np.float32) for x in (read_score(outputs, weights, head), read_cost(outputs, weights)))
    )


def read_members(outputs: np.ndarray, weights: dict[str, np.ndarray], head: int | None) -> Prediction:
    """What the mean of the members' outputs f32[E, N, O] predicts, with the spread of the members' scores."""
    score = read_score(outputs, weights, head)
    off = score - np.add.reduce(score) / len(score)
    mean = np.add.reduce(outputs) / np.float32(len(outputs))
    found = read_head(mean, weights, head)
    return Prediction(found.score, found.cost, np.sqrt(np.add.reduce(off * off) / np.float32(len(off))))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Policy(Shown):
    """A trained policy: features, an ensemble of small networks, and what its multiplier is calibrated on."""

    name: str
    kind: str  # value, imitation or decision
    actions: tuple[str, ...]  # [K] names
    resource: str
    unit: str
    featurizer: Featurizer = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)  # of the ensemble; each array has the members as its first axis
    budgets: tuple[float, ...] = ()  # [M] the budgets an imitation policy was trained for
    calibration: tuple[Unseen, ...] = field(repr=False, default=())  # one, or one per budget for imitation
    calibration_cost: np.ndarray = field(repr=False, default=None)  # f32[N, K] measured

    @property
    def predicts_utility(self) -> bool:
        """Whether its scores are utilities, and its multiplier so in utility per unit of cost, which no policy deploys below 0.

        One prediction then serves every budget. An imitation policy's scores are log-probabilities of the oracle's choice at one
        of its budgets, and its multiplier may have either sign.
        """
        return self.kind != "imitation"

    def predict(
        self,
        questions: Sequence[str],
        budget: float | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> Prediction:
        """Scores and costs of every action on questions.

        Args:
          questions: N texts.
          budget: an imitation policy's scores depend on it.
          given: arrays f32[N, D] by name, for a policy that was trained on arrays beside the text.

        Raises:
          ValueError: an array that the policy was not trained on, or features that are not finite.
        """
        takes = self.featurizer.takes
        for name in given or ():
            if name not in takes:
                raise ValueError(f"the policy takes no array {name!r}; it takes {', '.join(takes) or 'text alone'}")
        features = self.featurizer.encode(questions, given)
        finite = np.isfinite(features)
        if not finite.all():
            raise ValueError(f"the features of question {int(np.argmin(finite.all(axis=1)))} are not finite")
        return self.predict_features(features, budget)

    def predict_features(self, features: np.ndarray, budget: float | None = None) -> Prediction:
        """`predict` for features f32[N, D] that were made before.

        Raises:
          ValueError: features of another width.
        """
        width = len(self.weights["feature_mean"])
        if features.ndim != 2 or features.shape[1] != width:
            raise ValueError(f"the policy reads features of shape [N, {width}], got {features.shape}")
        if len(features) == 1 and np.count_nonzero(features) < width / 2:  # a question that is being served
            outputs = forward_one(self.weights, self._rest, features)
        else:
            outputs = forward(self.weights, features)
        return read_members(outputs, self.weights, self.head(budget))

    @cached_property
    def _rest(self) -> Rest:
        return at_rest(self.weights)

    def multiplier(
        self,
        budget: float,
        calibration: tuple[Prediction, np.ndarray] | None = None,
        delta: float | None = None,
        ceiling: float | None = None,
    ) -> MixedMultiplier:
        """The multiplier for a budget, calibrated on the questions the policy carries or on other ones.

        Args:
          budget: mean cost per question.
          calibration: predictions and measured costs f32[N, K] of questions the policy was not trained on.
          delta: None meets the budget in expectation; else the expected spend exceeds it with at most this probability.
          ceiling: the most that one question can cost, for delta.

        Raises:
          ValueError: a delta without other questions or without a ceiling, or a ceiling without a delta.
        """
        negative = not self.predicts_utility
        if delta is None:
            if ceiling is not None:
                raise ValueError(f"a ceiling of {ceiling:g} serves a confidence: say which with delta")
            prediction, cost = calibration or (self.calibration[self.head(budget) or 0], self.calibration_cost)
            return calibrate(prediction, cost, budget, negative)
        if calibration is None:
            raise ValueError("delta needs calibration questions: the policy's own taught it and are no fair sample")
        if ceiling is None:
            raise ValueError(
                f"delta={delta:g} needs a ceiling, the most that one question can cost in {self.unit}: whatever the "
                "calibration questions cost, a rare one could cost more than all of them"
            )
        return calibrate_surely(*calibration, budget, delta, ceiling, negative)

    def head(self, budget: float | None) -> int | None:
        """Which of its budgets' heads an imitation policy answers with: the nearest. None where one head serves all."""
        if self.predicts_utility:
            return None
        if budget is None:
            raise ValueError("an imitation policy is trained for a budget: say which")
        return int(np.argmin(np.abs(np.array(self.budgets) - budget)))

    def save(self, folder: str | Path) -> None:
        """Write policy.json and policy.npz into a folder, which appears whole or not at all."""
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        described = {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "kind": self.kind,
            "actions": self.actions,
            "resource": self.resource,
            "unit": self.unit,
            "budgets": self.budgets,
            "featurizer": self.featurizer.config(),
            "reach": [unseen.reach for unseen in self.calibration],
        }
        arrays: dict[str, Any] = {f"weights/{name}": array for name, array in self.weights.items()}
        for number, unseen in enumerate(self.calibration):
            for part, prediction in enumerate((unseen.whole, *unseen.halves)):
                name = f"calibration/{number}/{part}"
                arrays |= {f"{name}/score": prediction.score, f"{name}/cost": prediction.cost}
        arrays["calibration_cost"] = self.calibration_cost
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "policy"
            made.mkdir()
            (made / "policy.json").write_text(json.dumps(described, indent=2, default=np.generic.item) + "\n")
            np.savez_compressed(made / "policy.npz", **arrays)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(made, folder)


def load_policy(folder: str | Path, featurizer: Featurizer | None = None) -> Policy:
    """The policy in a folder that `Policy.save` wrote.

    Args:
      folder: of the policy.
      featurizer: needed where the policy was trained on other features than text; must be the one it was trained on.

    Raises:
      ValueError: a file is missing or damaged, the schema version is another, or the featuriser is not the policy's.
    """
    folder = Path(folder)
    for name in ("policy.json", "policy.npz"):
        if not (folder / name).is_file():
            raise ValueError(f"no policy in {folder}: {name} is missing")
    described = json.loads((folder / "policy.json").read_text())
    if described["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"the policy in {folder} has schema version {described['schema_version']}, this release reads {SCHEMA_VERSION}"
        )
    identity = described["featurizer"]
    if featurizer is None:
        sizes = {name: size for name, size in identity.items() if name not in ("name", "version")}
        featurizer = TextFeatures(**sizes) if identity["name"] == "text" else None
    if featurizer is None or featurizer.config() != identity:
        given = featurizer and featurizer.config()
        raise ValueError(f"the policy in {folder} was trained on features {identity}, got {given}")
    with np.load(folder / "policy.npz") as file:
        arrays = dict(file.items())
    for name, array in arrays.items():
        whole = np.isfinite(array) | (np.isposinf(array) if name == "weights/feature_scale" else False)
        if not np.all(whole):
            raise ValueError(f"the policy in {folder} is damaged: {name} is not finite")
    calibration = []
    for number, reach in enumerate(described["reach"]):
        parts = sum(name.startswith(f"calibration/{number}/") for name in arrays) // 2
        names = [f"calibration/{number}/{part}" for part in range(parts)]
        whole, *halves = (Prediction(arrays[f"{name}/score"], arrays[f"{name}/cost"]) for name in names)
        calibration.append(Unseen(whole, tuple(halves), reach))
    return Policy(
        name=described["name"],
        kind=described["kind"],
        actions=tuple(described["actions"]),
        resource=described["resource"],
        unit=described["unit"],
        budgets=tuple(described["budgets"]),
        featurizer=featurizer,
        weights={name.removeprefix("weights/"): a for name, a in arrays.items() if name.startswith("weights/")},
        calibration=tuple(calibration),
        calibration_cost=arrays["calibration_cost"],
    )
