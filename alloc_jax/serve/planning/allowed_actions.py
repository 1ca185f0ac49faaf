"""What a question may get: the actions that its client and its tenant leave to the policy."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from alloc_jax.actions import Action
from alloc_jax.collect.recipes import EFFORTS, Recipe
from alloc_jax.serve.tickets import AnswerRequest, Refused, Tenant


def permitted(
    question: AnswerRequest, tenant: Tenant, actions: Mapping[str, Action], recipes: Mapping[str, Recipe], single: bool
) -> Collection[str]:
    """The names of the actions to choose among.

    Args:
      question: with the bounds that its client sets.
      tenant: with those of the operator.
      actions: of the policy, by name.
      recipes: of their sources.
      single: the question gets one sample: of each source the action that draws fewest stands for it.

    Raises:
      Refused: there is none, or the client asks for what its tenant may not have.
    """
    _check_budget(question, tenant)
    name, most = question.action, question.max_samples
    if name is not None:
        if name not in actions:
            raise Refused("unknown", f"unknown action {name!r}; known: {', '.join(actions)}")
        if not tenant.forced:
            raise Refused("forbidden", f"tenant {tenant.name!r} may not name actions: ask for alloc/auto")
        if most is not None and actions[name].samples > most:
            raise Refused("invalid", f"max_samples is {most}, and {name} draws {actions[name].samples}")
        actions = {name: actions[name]}
    bounded = {
        name: action
        for name, action in actions.items()
        if action.source is None or within(recipes[action.source], question.effort)
    }
    if not bounded:
        least = min((recipes[action.source].effort for action in actions.values()), key=EFFORTS.index)
        raise Refused(
            "invalid", f"reasoning_effort: the least there is to choose from is {least!r}, got {question.effort!r}"
        )
    if single:
        drawn = sorted((action for action in bounded.values() if action.samples), key=lambda action: -action.samples)
        return [action.name for action in {action.source: action for action in drawn}.values()] or list(bounded)
    allowed = [name for name, action in bounded.items() if most is None or action.samples <= most]
    if not allowed:
        fewest = min(action.samples for action in bounded.values())
        raise Refused("invalid", f"max_samples is {most}, and every action draws at least {fewest}")
    return allowed


def within(recipe: Recipe, effort: str | None) -> bool:
    """Whether a source reasons no more than that; where its recipe does not say how much it does, nothing is known against it."""
    return None in (effort, recipe.effort) or EFFORTS.index(recipe.effort) <= EFFORTS.index(effort)


def _check_budget(question: AnswerRequest, tenant: Tenant) -> None:
    if question.budget is None or tenant.budget is None:
        return
    bound = tenant.budget if tenant.max_budget is None else tenant.max_budget
    if question.budget > bound:
        raise Refused(
            "forbidden", f"alloc.budget: tenant {tenant.name!r} may ask for at most {bound:g}, got {question.budget:g}"
        )
