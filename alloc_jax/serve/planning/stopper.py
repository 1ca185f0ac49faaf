"""Stopping rules in the gateway: draw samples of a question until, at the pace's current multiplier, the next is not worth its cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.actions import vote
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.serve.pacing import Pace
from alloc_jax.serve.tickets import SamplingPlan, Seen
from alloc_jax.stopping.rules import StoppingFrontier, prior_features, vote_state
from alloc_jax.stopping.sources.rules import EscalationFrontier


def check_rules(mark: str, frontier: StoppingFrontier | EscalationFrontier, policy: Policy) -> None:
    """Refuses rules that a gateway cannot follow beside a policy.

    Raises:
      ValueError: they do not answer by vote, or are paid in something else than the policy.
    """
    if frontier.answer != "vote":
        raise ValueError(f"the {mark} rules answer by {frontier.answer!r}, and a gateway by vote")
    if (frontier.resource, frontier.unit) != (policy.resource, policy.unit):
        raise ValueError(
            f"the {mark} rules are paid in {frontier.resource} ({frontier.unit}), the policy in {policy.resource}"
            f" ({policy.unit})"
        )


class Stopper:
    """Plans questions by a frontier of stopping rules, at the multiplier that the pace has reached.

    Args:
      frontier: fitted beside the policy.
      policy: whose predictions are the prior, where the rules have one.

    Raises:
      ValueError: the rules do not answer by vote, or are paid in something else than the policy.
    """

    mark = "stopping"

    def __init__(self, frontier: StoppingFrontier, policy: Policy):
        check_rules(self.mark, frontier, policy)
        self.frontier, self.sources = frontier, frontier.sources

    def pace(self, budget: float, step: float) -> Pace:
        """The pace of a budget, from whichever of the two rules around it spends more nearly that.

        Raises:
          ValueError: the budget is below what the rules spend at least.
        """
        frontier = self.frontier
        rule = frontier.at(budget)
        multipliers = frontier.multiplier.astype(float)
        high = 2 * multipliers[np.isfinite(multipliers)].max(
            initial=1e-9
        )  # the rule that draws least may have no finite multiplier
        start = float(min(multipliers[rule.more if rule.weight >= 0.5 else rule.less], high))
        return Pace(budget=budget, start=start, low=0.0, high=float(high), scale=max(start, 1e-3 * high) / 4, step=step)

    def plan(
        self, prediction: Prediction, multiplier: float, max_samples: int | None, ticket: float, text: str
    ) -> SamplingPlan:
        """The rule of a multiplier, for a question of which the policy predicts this; its index holds at any multiplier, so nothing is mixed."""
        frontier = self.frontier
        context = frontier.context(prior_features(prediction.score)[0] if frontier.center.shape[1] else None)
        # The rules' multipliers fall: the last one that is not below this multiplier.
        at = max(int(np.searchsorted(-frontier.multiplier, -multiplier, side="right")) - 1, 0)
        source = int(frontier.choice[at, context])
        most = frontier.cap if max_samples is None else min(frontier.cap, max_samples)
        index = frontier.index[source, context]  # f32[T, J] the multiplier below which drawing on is worth it

        def following(seen: Sequence[Seen]) -> tuple[str, ...]:
            """The source of the next sample: here always the same one, until the multiplier is above what one more is worth."""
            if not seen:
                return (name,)
            state = vote_state([one.key for one in seen])
            if state.drawn >= most or index[state.drawn, state.lead * frontier.width + state.chase] < multiplier:
                return ()
            return (name,)

        name = self.sources[source]
        return SamplingPlan(
            action=vote(name, most), expected=float(frontier.spend[at]), next=following, limits={name: most}
        )
