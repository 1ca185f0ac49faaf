"""A verifier as the decision core sees it: which actions need it, what a verdict costs, and when the best sample so far suffices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.learn.calibration import Unseen
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.serve.tickets import SamplingPlan, Seen
from alloc_jax.stopping.pandora import Verdicts, reservation_value

JUDGED = ("best_of", "passes")  # the aggregators that a verdict on each sample decides
KINDS = ("score", "rerank", "classify", "pooling")  # of servers
RIGHT = 0.5  # a verdict of a verifier that is exact, from which a sample is right


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """A scoring server or a command, and what is charged for a verdict.

    Raises:
      ValueError: a field is not what it should be.
    """

    url: str | None = None  # of the endpoint itself, as in http://127.0.0.1:8001/score
    kind: str | None = None  # of the endpoint; by default the last part of its address
    model: str | None = None  # that the server is asked for
    key: str | None = field(default=None, repr=False)
    command: tuple[str, ...] | None = None  # reads the sample as JSON; what it prints or how it ends is the verdict
    exact: bool = False  # a verdict says right or wrong, so that `passes` can be served; else how good a sample is
    cost: float  # of one verdict, in the policy's unit
    cap_cost: float | None = None  # likewise in the caps' unit, where that is another
    timeout_s: float = 30.0
    concurrency: int = 16  # verdicts at a time
    memory_mb: int = 512  # of a command
    output_bytes: int = 1 << 16  # of a command

    def __post_init__(self):
        if (self.url is None) == (self.command is None):
            raise ValueError("a verifier has a url or a command")
        if self.url is not None:
            kind = self.kind or self.url.rstrip("/").rpartition("/")[2]
            if not self.url.startswith(("http://", "https://")) or kind not in KINDS:
                raise ValueError(f"url: expected an address of one of {', '.join(KINDS)}, or a kind, got {self.url!r}")
            object.__setattr__(self, "kind", kind)
        else:
            parts = self.command
            if not isinstance(parts, (list, tuple)) or not parts or not all(isinstance(part, str) for part in parts):
                raise ValueError(f"command: expected a list of texts, got {parts!r}")
            object.__setattr__(self, "command", tuple(parts))
        for name in ("cost", "cap_cost"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not 0 <= value < math.inf):
                raise ValueError(f"{name}: expected a number from 0, got {value!r}")
        for name in ("timeout_s", "concurrency", "memory_mb", "output_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)!r}")

    @classmethod
    def of(cls, values: Mapping[str, Any], key: str | None = None) -> Verifier:
        """The verifier of plain fields, as a file holds them.

        Raises:
          ValueError: names the field.
        """
        known = [part.name for part in fields(cls) if part.name != "key"]
        for name in values:
            if name not in known:
                raise ValueError(f"{name}: there is no such key; known: {', '.join(known)}")
        if "cost" not in values:
            raise ValueError("cost: expected what a verdict costs, in the policy's unit; one that is free says 0")
        try:
            return cls(key=key, **values)
        except TypeError as error:
            raise ValueError(f"{error}") from None

    def serves(self, action: Action) -> bool:
        """Whether it can decide an action."""
        return action.aggregator == "best_of" or (action.aggregator == "passes" and self.exact)

    def charged(self, same_unit: bool) -> float:
        """What a verdict costs in the caps' unit.

        Raises:
          ValueError: nobody says.
        """
        if self.cap_cost is None and not same_unit:
            raise ValueError("cap_cost: expected what a verdict costs in the caps' unit")
        return self.cost if self.cap_cost is None else self.cap_cost


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class JudgedPolicy(Policy):
    """A policy whose predicted and measured costs hold those of verdicts, too, which no log has."""

    verdicts: np.ndarray  # f32[K] cost of each action's verdicts

    def predict_features(self, features: np.ndarray, budget: float | None = None) -> Prediction:
        found = super().predict_features(features, budget)
        return Prediction(found.score, found.cost + self.verdicts, found.spread)


def judged_policy(policy: Policy, verifier: Verifier) -> Policy:
    """The policy with the costs of a verifier's verdicts; itself where it needs none."""
    actions = [Action.parse(name) for name in policy.actions]
    more = np.array([verifier.cost * a.samples * (a.aggregator in JUDGED) for a in actions], np.float32)
    if not more.any():
        return policy

    def dearer(prediction: Prediction) -> Prediction:
        return Prediction(prediction.score, prediction.cost + more, prediction.spread)

    calibration = tuple(
        Unseen(dearer(unseen.whole), tuple(map(dearer, unseen.halves)), unseen.reach) for unseen in policy.calibration
    )
    same = {part.name: getattr(policy, part.name) for part in fields(Policy)}
    same |= {"calibration": calibration, "calibration_cost": policy.calibration_cost + more}
    return JudgedPolicy(**same, verdicts=more)


def priced_plan(
    action: Action, utility: float, cost: float, multiplier: float, verdicts: Verdicts | None
) -> SamplingPlan | None:
    """Draw sample by sample until the best one so far is worth as much as another, by Pandora's rule.

    Samples are boxes that hold the chance of being right: of an exact verifier 0 or 1, with the chance that makes `passes` as good as
    predicted; of a reward what it says, as often as in the log.

    Args:
      action: that was decided on.
      utility: predicted of it.
      cost: likewise, verdicts included.
      multiplier: the price of a unit of cost.
      verdicts: what rewards say; None: not known.

    Returns:
      None where nothing is known of the boxes: all samples are drawn at once.
    """
    most = action.samples
    if action.aggregator == "passes":
        chance = 1 - (1 - min(max(utility, 0.0), 1.0)) ** (1 / most)
        prizes, weights = np.array([0.0, 1.0]), np.array([1 - chance, chance])
    elif verdicts is None or action.source not in verdicts.sources:
        return None
    else:
        m = verdicts.sources.index(action.source)
        prizes, weights = verdicts.right[m], verdicts.chance[m]
    each = cost / most
    enough = float(reservation_value(prizes, weights, multiplier * max(each, 0.0)))

    def prize(score: float | None) -> float:
        if score is None:
            return 0.0
        if action.aggregator == "passes":
            return float(score >= RIGHT)
        return verdicts.prize(str(action.source), score)

    def following(seen: Sequence[Seen]) -> tuple[str, ...]:
        if seen and (len(seen) >= most or max(prize(one.score) for one in seen) >= enough):
            return ()
        return (str(action.source),)

    goes_on = float(weights[prizes < enough].sum())
    draws = sum(goes_on**j for j in range(most))
    return SamplingPlan(action=action, expected=each * draws, next=following, limits={str(action.source): most})
