"""Stopping rules in the gateway: draw samples of a question until, at the pace's current multiplier, the next is not worth its cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.actions import Action, passes, vote
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.serve.pacing import Pace
from alloc_jax.serve.tickets import SamplingPlan, Seen
from alloc_jax.serve.verdicts.verifier import RIGHT, Verifier
from alloc_jax.stopping.rules import State, StoppingFrontier, prior_features, vote_state
from alloc_jax.stopping.sources.rules import EscalationFrontier


def check_rules(
    mark: str, frontier: StoppingFrontier | EscalationFrontier, policy: Policy, verifier: Verifier | None
) -> None:
    """Refuse rules that a gateway cannot follow beside a policy.

    Raises:
      ValueError: they answer neither by vote nor by a verifier that is there and exact, or are paid in something else than the policy.
    """
    if frontier.answer == "verified" and (verifier is None or not verifier.exact):
        raise ValueError(f"the {mark} rules answer by 'verified': describe a verifier that is exact in [verifier]")
    if frontier.answer not in ("vote", "verified"):
        raise ValueError(f"the {mark} rules answer by {frontier.answer!r}, and a gateway by vote or by a verifier")
    if (frontier.resource, frontier.unit) != (policy.resource, policy.unit):
        raise ValueError(
            f"the {mark} rules are paid in {frontier.resource} ({frontier.unit}), the policy in {policy.resource}"
            f" ({policy.unit})"
        )


def dearer(frontier: StoppingFrontier | EscalationFrontier, policy: Policy, verifier: Verifier | None) -> np.ndarray:
    """How much more a sample of each source f64[M] costs with its verdict than the rules were fitted to."""
    if frontier.answer != "verified" or verifier is None:
        return np.ones(len(frontier.sources))
    actions, cost = [Action.parse(name) for name in policy.actions], policy.calibration_cost.mean(axis=0, dtype=float)
    each = {a.source: c / a.samples for a, c in zip(actions, cost, strict=True) if a.samples}
    return np.array([1 + verifier.cost / each[source] for source in frontier.sources])


def right(seen: Seen) -> bool:
    """Whether a verifier has found a sample right."""
    return seen.score is not None and seen.score >= RIGHT


class Stopper:
    """Plans questions by a frontier of stopping rules, at the multiplier that the pace has reached.

    Args:
      frontier: fitted beside the policy.
      policy: whose predictions are the prior, where the rules have one.
      verifier: whose verdict ends a question, where the rules answer by one; a sample then costs its verdict, too.

    Raises:
      ValueError: see `check_rules`.
    """

    mark = "stopping"

    def __init__(self, frontier: StoppingFrontier, policy: Policy, verifier: Verifier | None = None):
        check_rules(self.mark, frontier, policy, verifier)
        self.frontier, self.sources = frontier, frontier.sources
        self.dearer = dearer(frontier, policy, verifier)

    def pace(self, budget: float, step: float) -> Pace:
        """The pace of a budget, from whichever of the two rules around it spends more nearly that.

        Raises:
          ValueError: the budget is below what the rules spend at least.
        """
        frontier = self.frontier
        more = float(self.dearer.mean())
        rule = frontier.at(budget / more)
        multipliers = frontier.multiplier.astype(float) / more
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
        fitted = multiplier * float(self.dearer.mean())
        at = max(int(np.searchsorted(-frontier.multiplier, -fitted, side="right")) - 1, 0)
        source = int(frontier.choice[at, context])
        more = float(self.dearer[source])
        most = frontier.cap if max_samples is None else min(frontier.cap, max_samples)
        index = frontier.index[source, context]  # f32[T, J] the multiplier below which drawing on is worth it

        def following(seen: Sequence[Seen]) -> tuple[str, ...]:
            """The source of the next sample: here always the same one, until the multiplier is above what one more is worth."""
            if not seen:
                return (name,)
            lead = int(any(map(right, seen)))
            state = State(len(seen), lead) if verified else vote_state([one.key for one in seen])
            if state.drawn >= most or (verified and state.lead):
                return ()
            worth = index[state.drawn, state.lead * frontier.width + state.chase]
            return (name,) if worth >= multiplier * more else ()

        name, verified = self.sources[source], frontier.answer == "verified"
        return SamplingPlan(
            action=passes(name, most) if verified else vote(name, most),
            expected=more * float(frontier.spend[at]),
            next=following,
            limits={name: most},
            rule=self.mark,
        )
