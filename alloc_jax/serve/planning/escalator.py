"""Escalation as the gateway follows it: at whatever multiplier the pace has reached, the next samples come from the sources that are worth it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np

from alloc_jax.actions import single_samples
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.serve.pacing import Pace
from alloc_jax.serve.planning.stopper import Stopper, check_rules, dearer, right
from alloc_jax.serve.tickets import Pooled, SamplingPlan, Seen, Stopping
from alloc_jax.serve.verdicts.verifier import RIGHT, Verifier
from alloc_jax.stopping.rules import FILE as STOPPING_FILE, load_stopping
from alloc_jax.stopping.sources.rules import FILE, EscalationFrontier, EscalationRule, EscalationState, load_escalation


class Escalator:
    """The rules in a frontier. A multiplier between those of two adjacent rules mixes them: a question's ticket says which it follows.

    Args:
      frontier: fitted beside the policy.
      policy: whose predictions of one sample of every source are the prior.
      verifier: whose verdict ends a question, where the rules answer by one; a sample then costs its verdict, too.

    Raises:
      ValueError: see `check_rules`; or the rules look at what a gateway does not, or ask a source of which the policy predicts nothing.
    """

    mark = "escalation"

    def __init__(self, frontier: EscalationFrontier, policy: Policy, verifier: Verifier | None = None):
        check_rules(self.mark, frontier, policy, verifier)
        if np.isfinite(frontier.cuts).any():
            raise ValueError(
                f"the escalation rules look at the {frontier.evidence} of every sample, which a gateway does not: fit them without evidence"
            )
        if not policy.predicts_utility:
            raise ValueError(f"an {policy.kind} policy predicts no utilities, which are the escalation rules' prior")
        ones = single_samples(policy.actions)
        if missing := [name for name in frontier.sources if name not in ones]:
            raise ValueError(f"the escalation rules ask {missing[0]!r}, of which the policy predicts no single sample")
        self.frontier, self.sources, self.featurizer = frontier, frontier.sources, policy.featurizer
        self.verified = frontier.answer == "verified"
        self.verdict = verifier.cost if self.verified and verifier is not None else 0.0
        self.dearer = float(dearer(frontier, policy, verifier).mean())
        # Whether the belief reads features of the text.
        self.gated = frontier.read and not len(frontier.cell) and len(frontier.gate) > 1
        self.ones = [ones[name] for name in frontier.sources]
        self._rule(float(frontier.multiplier[0])).start()  # what all questions share is made before the first one comes

    def pace(self, budget: float, step: float) -> Pace:
        """The pace of a budget, from the multiplier that mixes its two rules.

        Raises:
          ValueError: the budget is below what the rules spend at least.
        """
        rule, multipliers = self.frontier.at(budget / self.dearer), self.frontier.multiplier / self.dearer
        start = float(multipliers[rule.less] ** (1 - rule.weight) * multipliers[rule.more] ** rule.weight)
        high = float(multipliers[0])  # above it nothing changes
        return Pace(budget=budget, start=start, low=0.0, high=high, scale=max(start, 1e-3 * high) / 4, step=step)

    def plan(
        self, prediction: Prediction, multiplier: float, max_samples: int | None, ticket: float, text: str
    ) -> SamplingPlan:
        """The rule of a multiplier, for a question with this text, of which the policy predicts this."""
        frontier, rule = self.frontier, self._rule(multiplier * self.dearer)
        accuracy = np.clip(prediction.score[0, self.ones], 0, 1)
        features = self.featurizer.encode([text])[0] if self.gated else None
        cost = (np.maximum(prediction.cost[0, self.ones], 0) + self.verdict) / self.dearer
        start = rule.start(accuracy, cost, features, ticket=ticket)
        most = frontier.cap if max_samples is None else min(frontier.cap, max_samples)

        def reached(seen: Sequence[Seen]) -> EscalationState:
            """Where the samples have led, round by round."""
            question = start
            for _, together in groupby(seen, key=lambda one: one.round):
                wave = list(together)
                said = [(RIGHT if right(one) else None) if self.verified else one.key for one in wave]
                question = question.after([self.sources.index(one.source) for one in wave], said)
            return question

        def following(seen: Sequence[Seen]) -> tuple[str, ...]:
            """The sources of the next samples; none: the answer of what was seen is worth more than what they cost."""
            move = rule.decide(reached(seen))
            return tuple(self.sources[m] for m in move)[: max(most - len(seen), 0)]

        def chosen(seen: Sequence[Seen]) -> tuple[str | None, float]:
            """The answer with the greatest posterior, and that."""
            question = reached(seen)
            return cast("str | None", question.answer), question.posterior  # what went in are keys

        return SamplingPlan(
            action=Pooled(self.sources, most, "passes" if self.verified else "pooled"),
            expected=self.dearer * float(frontier.spend[rule.more if ticket < rule.weight else rule.less]),
            next=following,
            limits=dict(zip(self.sources, frontier.limits, strict=True)),
            choose=None if self.verified else chosen,
            rule=self.mark,
        )

    def _rule(self, multiplier: float) -> EscalationRule:
        """The mix of two adjacent rules at a multiplier, even in its logarithm; beyond the last rule, that one."""
        spend, last = self.frontier.spend, len(self.frontier.spend) - 1
        at = (
            last
            if multiplier <= 0
            else float(np.interp(-math.log(multiplier), -np.log(self.frontier.multiplier), np.arange(last + 1)))
        )
        less, more = int(at), min(int(at) + 1, last)
        weight = at - less
        return EscalationRule(
            self.frontier, float((1 - weight) * spend[less] + weight * spend[more]), less, more, weight
        )


def rules_beside(folder: str | Path, policy: Policy, verifier: Verifier | None = None) -> Stopping | None:
    """The rules in a policy's folder: of several sources, else of one; None where it holds none.

    Raises:
      ValueError: they are damaged, or do not fit the policy.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return Escalator(load_escalation(folder), policy, verifier)
    if (folder / STOPPING_FILE).is_file():
        return Stopper(load_stopping(folder), policy, verifier)
    return None
