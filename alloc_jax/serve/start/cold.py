"""A policy before there is a log: all questions alike, and what actions earn and cost learned from the traffic.

Until something was seen, an action is worth more the more it draws, with falling gains, so that the pace's multiplier mixes the two
actions around the budget: the uniform mix. Costs are learned from what was settled. What a vote earns is learned from how well the
samples of a question agree: with a share p of them for the winner, a vote of j samples is taken to be right as often as the greater part
of j draws with chance p is. Agreement is a weak label: where a model is sure and wrong, it is too high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.learn.calibration import Prediction, Unseen
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.policy import Policy

_PRIOR = 20.0  # questions that what is taken for granted counts as
_STEP = 0.05  # utility that twice the cost is taken to bring


@dataclass(eq=False)
class Learned:
    """What was seen of some actions."""

    seen: np.ndarray  # f64[K] questions whose agreement told of an action
    earned: np.ndarray  # f64[K] what it told, summed
    samples: dict[str | None, float]  # by source
    cost: dict[str | None, float]  # likewise


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ColdPolicy(Policy):
    """Predicts the same of every question: what is taken for granted at first, and what the traffic has told."""

    prior: Prediction = field(repr=False)  # f32[1, K]
    learned: Learned = field(repr=False)

    @cached_property
    def parsed(self) -> tuple[Action, ...]:
        """[K] its actions; every request looks at them."""
        return tuple(map(Action.parse, self.actions))

    def predict(
        self, questions: Sequence[str], budget: float | None = None, given: Mapping[str, np.ndarray] | None = None
    ) -> Prediction:
        learned = self.learned
        score = (_PRIOR * self.prior.score[0] + learned.earned) / (_PRIOR + learned.seen)
        cost = self.prior.cost[0].copy()
        for k, action in enumerate(self.parsed):
            if drawn := learned.samples.get(action.source):
                cost[k] = action.samples * learned.cost[action.source] / drawn
        number = len(questions)
        return Prediction(*(np.tile(np.float32(row), (number, 1)) for row in (score, cost, 0 * cost)))

    def learn(self, action: Action, samples: int, share: float, cost: float) -> None:
        """Count a question.

        Args:
          action: that it got.
          samples: that came.
          share: of them that agree with the winner.
          cost: of all.
        """
        learned = self.learned
        if samples:
            learned.samples[action.source] = learned.samples.get(action.source, 0.0) + samples
            learned.cost[action.source] = learned.cost.get(action.source, 0.0) + cost
        if samples < 2 or not share:
            return
        for k, other in enumerate(self.parsed):
            if other.source == action.source:
                learned.seen[k] += 1
                learned.earned[k] += greater_part(share, other.samples)


def cold_policy(actions: Sequence[Action], resource: str, unit: str, sample_cost: float) -> ColdPolicy:
    """The policy to begin with.

    Args:
      actions: votes and single samples, at least one.
      resource: that is paid.
      unit: of it.
      sample_cost: what one sample is taken to cost until some were drawn.

    Raises:
      ValueError: another action, or none.
    """
    for action in actions:
        if action.aggregator not in ("vote", "single"):
            raise ValueError(f"without a policy there are votes and single samples alone, got {action.name}")
    if not actions or len({action.name for action in actions}) < len(actions):
        raise ValueError("without a policy, say --actions, each once")
    samples = np.array([[action.samples for action in actions]], np.float32)
    prior = Prediction(0.5 + np.float32(_STEP) * np.log2(samples), samples * np.float32(sample_cost), 0 * samples)
    nothing = np.zeros(len(actions))
    return ColdPolicy(
        name="cold",
        kind="value",
        actions=tuple(action.name for action in actions),
        resource=resource,
        unit=unit,
        featurizer=TextFeatures(),
        weights={},
        calibration=(Unseen(prior),),
        calibration_cost=prior.cost,
        prior=prior,
        learned=Learned(nothing, nothing.copy(), {}, {}),
    )


@lru_cache(maxsize=4096)
def greater_part(share: float, samples: int) -> float:
    """The chance that more than half of some draws are right, half of which is counted where they are even.

    >>> greater_part(0.75, 1), greater_part(0.75, 3)
    (0.75, 0.84375)
    """
    chance = [math.comb(samples, j) * share**j * (1 - share) ** (samples - j) for j in range(samples + 1)]
    more = sum(chance[samples // 2 + 1 :])
    return float(more if samples % 2 else more + chance[samples // 2] / 2)
