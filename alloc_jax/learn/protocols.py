"""What a featuriser and a policy have, whoever wrote them: what `train`, `evaluate` and the comparison ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from alloc_jax.learn.calibration import MixedMultiplier, Prediction


class Featurizer(Protocol):
    """Turns the text of a question, and arrays beside it, into features."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Widths of the blocks of features; training gives every block the same weight. Their sum is D."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the arrays that `encode` takes beside the text; empty: it reads the text alone."""

    def config(self) -> dict[str, Any]:
        """What identifies it, in plain values: stored with a policy, which refuses another."""

    def encode(self, questions: Sequence[str], given: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Features f32[N, D] of N questions; `given` holds arrays f32[N, D'] by the names in `takes`."""


class PolicyLike(Protocol):
    """Predicts every action's score and cost on a question, and has a multiplier for each budget: a `Policy`, or a baseline."""

    @property
    def name(self) -> str: ...

    @property
    def actions(self) -> tuple[str, ...]:
        """Names [K] of the actions it chooses among."""

    @property
    def featurizer(self) -> Featurizer: ...

    @property
    def predicts_utility(self) -> bool:
        """Whether its scores are utilities, so that its multiplier is in utility per unit of cost."""

    def head(self, budget: float, /) -> int | None:
        """Which of its predictions serves a budget; None where one serves all."""

    def predict_features(self, features: np.ndarray, budget: float, /) -> Prediction:
        """Scores and costs f32[N, K] of the actions, from features f32[N, D], at a budget."""

    def multiplier(self, budget: float, /) -> MixedMultiplier:
        """The multiplier at which a budget is met.

        Raises:
          ValueError: no multiplier spends so little.
        """
