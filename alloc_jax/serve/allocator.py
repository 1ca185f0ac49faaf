"""The allocator: one question in, one action out, on average within the budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alloc_jax.exports import called_as_its_function
from alloc_jax.learn.policy import Policy, Prediction, Price, load_policy, lottery


@dataclass(frozen=True)
class Decision:
    """What to do with a question, and why."""

    action: str
    utility: float | None  # predicted, of the action taken, not clipped to [0, 1]; None where scores are no utilities
    spread: float | None  # standard deviation of that prediction over the ensemble's members
    cost: float  # predicted
    price: float  # the multiplier the decision was made at
    runner_up: str | None  # the next best action at that price
    margin: float  # by how much the action beats it, in utility minus price times cost
    predicted: dict[str, tuple[float, float]] = field(repr=False)  # score and cost of every action that was allowed


def decide(policy: Policy, prediction: Prediction, price: float, allowed: Collection[str] | None = None) -> Decision:
    """The best action for one question at a price.

    Args:
      policy: whose prediction it is.
      prediction: of one question.
      price: the multiplier.
      allowed: the actions to choose among; None: all.

    Raises:
      ValueError: no action is allowed.
    """
    among = [k for k, name in enumerate(policy.actions) if allowed is None or name in allowed]
    if not among:
        raise ValueError("no action of the policy is allowed")
    score, cost = prediction.score[0, among], prediction.cost[0, among]
    value = score - np.float32(price) * cost
    names = [policy.actions[k] for k in among]
    order = np.argsort(-value, kind="stable")
    best, second = order[0], order[1] if len(order) > 1 else None
    return Decision(
        action=names[best],
        utility=float(score[best]) if policy.predicts_utility else None,
        spread=float(prediction.spread[0, among[best]]) if policy.predicts_utility else None,
        cost=float(cost[best]),
        price=price,
        runner_up=None if second is None else names[second],
        margin=float("inf") if second is None else float(value[best] - value[second]),
        predicted=dict(zip(names, zip(score.tolist(), cost.tolist(), strict=True), strict=True)),
    )


@dataclass(frozen=True)
class Allocator:
    """A policy with a price set for a budget."""

    policy: Policy = field(repr=False)
    budget: float
    price: Price
    seed: int = 0

    def choose(
        self, text: str, request_id: str | None = None, given: Mapping[str, np.ndarray] | None = None
    ) -> Decision:
        """The action for a question.

        Args:
          text: the question.
          request_id: what decides between the two adjacent prices, the text itself by default: the same request always
            gets the same answer.
          given: arrays f32[1, D] by name, for a policy that was trained on arrays beside the text.
        """
        prediction = self.policy.predict([text], self.budget, given)
        chance = lottery([text if request_id is None else request_id], self.seed)[0]
        price = self.price.low if chance < self.price.weight else self.price.high
        return decide(self.policy, prediction, price)


def allocator(
    policy: Policy | str | Path, budget: float, calibration=None, seed: int = 0, delta: float | None = None
) -> Allocator:
    """An allocator for a budget.

    Args:
      policy: a policy or the folder it was saved in.
      budget: mean cost a question, in the policy's unit.
      calibration: an `OutcomeTable` of questions the policy has not been trained on, to set the price by; by default
        the policy's own predictions of the training questions, each made by networks that had not seen it.
      seed: of the lottery between adjacent prices.
      delta: None meets the budget in expectation; else the expected spend exceeds it with at most this probability, given
        a calibration table (`calibrate_surely`).

    Raises:
      ValueError: the budget is below the policy's cheapest plan, or the calibration table has other actions, another unit, or an action
        without samples on some question.
    """
    policy = policy if isinstance(policy, Policy) else load_policy(policy)
    if calibration is None:
        return Allocator(policy, budget, policy.price(budget, delta=delta), seed)
    _check_calibration(policy, calibration)
    prediction = policy.predict(calibration.question, budget)
    return Allocator(policy, budget, policy.price(budget, (prediction, calibration.cost), delta), seed)


def _check_calibration(policy: Policy, table) -> None:
    names = tuple(action.name for action in table.actions)
    if names != policy.actions:
        raise ValueError(f"the policy was trained for the actions {policy.actions}, the calibration table has {names}")
    if (table.resources, table.units) != ((policy.resource,), (policy.unit,)):
        raise ValueError(
            f"the policy is paid in {policy.resource} ({policy.unit}), the calibration table in "
            f"{', '.join(table.resources)} ({', '.join(table.units)})"
        )
    if not table.valid.all():  # a cost that is not known would count as nothing spent
        i, k = np.argwhere(~table.valid)[0]
        raise ValueError(f"calibration question {table.ids[i]!r} has no samples for {names[k]}: drop it")


called_as_its_function(__name__)
