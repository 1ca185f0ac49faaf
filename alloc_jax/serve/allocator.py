"""The allocator: one question in, one action out, on average within the budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alloc_jax.actions import CONSTANT, Action
from alloc_jax.collect.charges import worst_dollars
from alloc_jax.collect.recipes import Recipe
from alloc_jax.exports import called_as_its_function
from alloc_jax.learn.policy import MixedMultiplier, Policy, Prediction, load_policy
from alloc_jax.price_book import TokenPrice
from alloc_jax.stopping.rules import lottery


@dataclass(frozen=True)
class Decision:
    """What to do with a question, and why."""

    action: str
    utility: float | None  # predicted, of the action taken, not clipped to [0, 1]; None where scores are no utilities
    spread: float | None  # standard deviation of that prediction over the ensemble's members
    cost: float  # predicted
    multiplier: float  # that the decision was made at
    runner_up: str | None  # the next best action at that multiplier
    margin: float  # by how much the action beats it, in utility minus multiplier times cost
    predicted: dict[str, tuple[float, float]] = field(repr=False)  # score and cost of every action that was allowed


def decide(
    policy: Policy, prediction: Prediction, multiplier: float, allowed: Collection[str] | None = None
) -> Decision:
    """The best action for one question at a multiplier.

    Args:
      policy: whose prediction it is.
      prediction: of one question.
      multiplier: utility per unit of cost.
      allowed: the actions to choose among; None: all.

    Raises:
      ValueError: no action is allowed.
    """
    among = [k for k, name in enumerate(policy.actions) if allowed is None or name in allowed]
    if not among:
        raise ValueError("no action of the policy is allowed")
    value = (prediction.score[0] - np.float32(multiplier) * prediction.cost[0]).tolist()
    score, cost, names = prediction.score[0].tolist(), prediction.cost[0].tolist(), policy.actions
    best, *others = sorted(
        among, key=value.__getitem__, reverse=True
    )  # the first of equal ones stays before the others
    return Decision(
        action=names[best],
        utility=score[best] if policy.predicts_utility else None,
        spread=float(prediction.spread[0, best]) if policy.predicts_utility else None,
        cost=cost[best],
        multiplier=multiplier,
        runner_up=names[others[0]] if others else None,
        margin=value[best] - value[others[0]] if others else float("inf"),
        predicted={names[k]: (score[k], cost[k]) for k in among},
    )


@dataclass(frozen=True)
class Allocator:
    """A policy with a multiplier set for a budget."""

    policy: Policy = field(repr=False)
    budget: float
    multiplier: MixedMultiplier
    seed: int = 0

    def choose(
        self, text: str, request_id: str | None = None, given: Mapping[str, np.ndarray] | None = None
    ) -> Decision:
        """The action for a question.

        Args:
          text: the question.
          request_id: what decides between the two adjacent multipliers, the text itself by default: the same request always
            gets the same answer.
          given: arrays f32[1, D] by name, for a policy that was trained on arrays beside the text.
        """
        prediction = self.policy.predict([text], self.budget, given)
        chance = lottery([text if request_id is None else request_id], self.seed)[0]
        multiplier = self.multiplier.low if chance < self.multiplier.weight else self.multiplier.high
        return decide(self.policy, prediction, multiplier)


def allocator(
    policy: Policy | str | Path,
    budget: float,
    calibration=None,
    seed: int = 0,
    delta: float | None = None,
    ceiling: float | None = None,
) -> Allocator:
    """An allocator for a budget.

    Args:
      policy: a policy or the folder it was saved in.
      budget: mean cost per question, in the policy's unit.
      calibration: an `OutcomeTable` of questions the policy has not been trained on, to set the multiplier by; by default
        the policy's own predictions of the training questions, each made by networks that had not seen it.
      seed: of the lottery between adjacent multipliers.
      delta: None meets the budget in expectation; else the expected spend exceeds it with at most this probability, given
        a calibration table and a ceiling (`calibrate_surely`).
      ceiling: the most that one question can cost with any of the actions, in the policy's unit. Known from the table where
        samples are paid, and from recipes by `worst_cost`; else say it, because what was measured is no limit.

    Raises:
      ValueError: the budget is below the policy's cheapest plan, or the calibration table has other actions, another unit, or an action
        without samples on some question; a delta without table or ceiling, or that so few questions cannot show.
    """
    policy = policy if isinstance(policy, Policy) else load_policy(policy)
    if calibration is None:
        return Allocator(policy, budget, policy.multiplier(budget, delta=delta, ceiling=ceiling), seed)
    _check_calibration(policy, calibration)
    if delta is not None and ceiling is None and policy.resource in CONSTANT:
        ceiling = float(calibration.cost.max())
    prediction = policy.predict(calibration.question, budget)
    return Allocator(policy, budget, policy.multiplier(budget, (prediction, calibration.cost), delta, ceiling), seed)


def worst_cost(
    policy: Policy,
    recipes: Mapping[str, Recipe],
    *,
    prompt_tokens: int | None = None,
    prices: Mapping[str, TokenPrice] | None = None,
    compute_unit: float | None = None,
) -> float:
    """The most that one question can cost with a policy's most expensive action: samples times token limit times price.

    Args:
      policy: whose actions are paid, in its resource.
      recipes: of their sources by name (`load_recipes`); each limits the tokens of a sample.
      prompt_tokens: the longest prompt that will be served, template included; needed where prompts are paid.
      prices: by model, for dollars.
      compute_unit: tokens times parameters of one unit of compute (`SampleLog.compute_unit.size`).

    Returns:
      The ceiling that `allocator` takes, in the policy's unit.

    Raises:
      ValueError: nothing limits it: no token limit, no longest prompt, no price, no parameter count, a policy that reads arrays
        whose cost no recipe tells, or seconds, which have no limit. The message says what is missing.
    """
    if takes := policy.featurizer.takes:
        raise ValueError(f"the policy reads the arrays {', '.join(takes)}, and recipes do not say what those cost")
    actions = [action for action in map(Action.parse, policy.actions) if action.source is not None]
    for action in actions:
        if action.source not in recipes:
            raise ValueError(f"action {action.name}: no recipe for source {action.source!r}")

    def of_one(recipe: Recipe) -> float:
        """The most that one sample of a source can cost."""

        def known(value, what: str):
            if value is None:
                raise ValueError(
                    f"source {recipe.name!r}: one sample has no largest cost in {policy.resource} without {what}"
                )
            return value

        resource = policy.resource
        if resource == "samples":
            return 1.0
        if resource == "prompt_tokens":
            return known(prompt_tokens, "prompt_tokens")
        written = known(recipe.limit, "max_tokens")
        if resource in ("completion_tokens", "reasoning_tokens") or policy.unit == "completion tokens":
            return written
        if resource not in ("tokens", "usd", "compute"):
            raise ValueError(f"no recipe limits {resource}: say the most that one question can cost with ceiling")
        read = known(prompt_tokens, "prompt_tokens")
        if resource == "usd":
            return worst_dollars(
                known((prices or {}).get(recipe.model), f"a price of model {recipe.model!r}"), read, written
            )
        if resource == "compute":
            return (read + written) * known(recipe.parameters, "parameters") / known(compute_unit, "compute_unit")
        return read + written

    return max((action.samples * of_one(recipes[action.source]) for action in actions), default=0.0)


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
