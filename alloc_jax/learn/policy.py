"""A learned policy: what it predicts of a question, and the price that turns predictions into actions. NumPy only.

A policy scores every action on a question (`predict`); a price l turns scores into the action that maximises
score - l * predicted cost. Predictions err, so the price that would meet a budget on the predictions does not meet it
in truth: it is re-solved on calibration questions, whose measured costs are known, with predictions made by models that
had not seen them (`calibrate`). Predictions also tie, so a price is a pair of adjacent prices and the share of each.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from alloc_jax.learn.features import TextFeatures
from alloc_jax.learn.inference import forward, read_imitation, read_value

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Prediction:
    """What a policy thinks of every action on some questions."""

    score: np.ndarray  # f32[N, K] predicted utility, or the log-probability of being the oracle's choice
    cost: np.ndarray  # f32[N, K] predicted cost

    def best_response(self, multiplier: float) -> np.ndarray:
        """The best action i64[N] at a price."""
        return np.argmax(self.score - np.float32(multiplier) * self.cost, axis=1)

    def spend(self, multiplier: float, cost: np.ndarray) -> float:
        """What the best responses at a price really spend a question, given the measured costs f32[N, K]."""
        action = self.best_response(multiplier)
        return float(np.mean(cost[np.arange(len(cost)), action], dtype=np.float64))

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

    def spend(self, multiplier: float, cost: np.ndarray) -> float:
        """What the best responses of all M members at a price will spend a new question."""
        spend = self.whole.spend(multiplier, cost)
        if not self.halves:
            return spend
        return spend + self.reach * (spend - np.mean([half.spend(multiplier, cost) for half in self.halves]))

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


def read_head(outputs: np.ndarray, weights: dict[str, np.ndarray], head: int | None) -> Prediction:
    """What outputs f32[N, O] predict: of a value network (head None), or of one budget's head of an imitation network."""
    read = read_value(outputs, weights) if head is None else read_imitation(outputs, weights, head)
    return Prediction(*(part.astype(np.float32) for part in read))


def lottery(ids: Sequence[str], seed: int = 0) -> np.ndarray:
    """A number in [0, 1) for each id, f64[N]: the same id and seed always draw the same number."""
    return np.array([crc32(f"{seed}:{name}".encode()) / 2**32 for name in ids])


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
      ValueError: even the highest price spends more than the budget.
    """

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


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A trained policy: features, an ensemble of small networks, and what its price is calibrated on."""

    name: str
    kind: str  # value or imitation
    actions: tuple[str, ...]  # [K] names
    resource: str
    unit: str
    featurizer: TextFeatures = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)  # of the ensemble; each array has the members as its first axis
    budgets: tuple[float, ...] = ()  # [M] the budgets an imitation policy was trained for
    calibration: tuple[Unseen, ...] = field(repr=False, default=())  # one, or one a budget for imitation
    calibration_cost: np.ndarray = field(repr=False, default=None)  # f32[N, K] measured

    def predict(self, questions: Sequence[str], budget: float | None = None) -> Prediction:
        """Scores and costs of every action on questions (an imitation policy's scores depend on the budget)."""
        return self.predict_features(self.featurizer.encode(questions), budget)

    def predict_features(self, features: np.ndarray, budget: float | None = None) -> Prediction:
        """`predict` for features f32[N, D] that were made before."""
        return read_head(forward(self.weights, features).mean(axis=0), self.weights, self.head(budget))

    def price(self, budget: float, calibration: tuple[Prediction, np.ndarray] | None = None) -> Price:
        """The price for a budget, calibrated on the questions the policy carries or on other ones."""
        prediction, cost = calibration or (self.calibration[self.head(budget) or 0], self.calibration_cost)
        return calibrate(prediction, cost, budget, negative=self.kind == "imitation")

    def head(self, budget: float | None) -> int | None:
        """Which of its budgets' heads an imitation policy answers with: the nearest. None where one head serves all."""
        if self.kind != "imitation":
            return None
        if budget is None:
            raise ValueError("an imitation policy is trained for a budget: say which")
        return int(np.argmin(np.abs(np.array(self.budgets) - budget)))

    def save(self, folder: str | Path) -> None:
        """Writes policy.json and policy.npz into a folder, which appears whole or not at all."""
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
        arrays = {f"weights/{name}": array for name, array in self.weights.items()}
        for number, unseen in enumerate(self.calibration):
            for part, prediction in enumerate((unseen.whole, *unseen.halves)):
                name = f"calibration/{number}/{part}"
                arrays |= {f"{name}/score": prediction.score, f"{name}/cost": prediction.cost}
        arrays["calibration_cost"] = self.calibration_cost
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "policy"
            made.mkdir()
            (made / "policy.json").write_text(json.dumps(described, indent=2) + "\n")
            np.savez_compressed(made / "policy.npz", **arrays)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(made, folder)


def load_policy(folder: str | Path, featurizer: TextFeatures | None = None) -> Policy:
    """The policy in a folder that `Policy.save` wrote.

    Args:
      folder: of the policy.
      featurizer: needed where the policy was trained on other features than text; must be the one it was trained on.

    Raises:
      ValueError: a file is missing, the schema version is another, or the featuriser is not the policy's.
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
