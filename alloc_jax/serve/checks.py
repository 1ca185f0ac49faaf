"""Checks: what can be known of a decision core before the first client comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alloc_jax.learn.policy import Policy

if TYPE_CHECKING:
    from alloc_jax.serve.core import Core

SERVED = ("abstain", "single", "vote", "unanimous")  # what needs neither rewards nor a verifier


def check_core(core: Core) -> None:
    """Make sure that everything that may be decided can be done and paid.

    Raises:
      ValueError: something cannot.
    """
    policy = core.policy
    if takes := policy.featurizer.takes:
        raise ValueError(f"the policy reads the arrays {', '.join(takes)} beside the text, which a gateway has not")
    for name, action in core.actions.items():
        if action.aggregator not in SERVED and not (core.verifier and core.verifier.serves(action)):
            exact = " that is exact" if core.verifier and action.aggregator == "passes" else ""
            raise ValueError(
                f"action {name} needs rewards or a verifier{exact}: describe one in [verifier]; without one a gateway serves"
                f" {', '.join(SERVED)}"
            )
        if action.source is not None and action.source not in core.recipes:
            raise ValueError(f"action {name}: no recipe for source {action.source!r}")
    for source in core.stopping.sources if core.stopping else ():
        if source not in {action.source for action in core.actions.values()}:
            raise ValueError(f"the stopping rules draw from {source!r}, which no action of the policy does")
    for name in {action.source for action in core.actions.values()} - {None}:
        if core.recipes[name].finish is not None:
            raise ValueError(f"source {name!r}: a gateway makes one request for a sample, and `finish` takes two")
    capped = any(tenant.cap is not None for tenant in core.tenants.values())
    for source in {action.source for action in core.actions.values()} - {None}:
        for meter in (core.meter, core.cap) if capped else (core.meter,):
            meter.check(core.recipes[source].model)
    for tenant in core.tenants.values():
        if tenant.budget is None and not policy.predicts_utility:
            raise ValueError(f"tenant {tenant.name!r}: an imitation policy is trained for budgets: say which")


def try_policy(policy: Policy) -> None:
    """Predict once, so that weights which do not fit are found before the first client comes.

    Raises:
      ValueError: they do not.
    """
    wanted = (1, len(policy.actions))
    try:
        found = policy.predict(["1 + 1"], policy.budgets[0] if policy.budgets else None)
        shapes = {found.score.shape, found.cost.shape}
        fits = shapes == {wanted} and policy.calibration_cost.shape[1:] == wanted[1:]
    except (ValueError, LookupError, AttributeError) as error:
        raise ValueError(
            f"the weights of policy {policy.name!r} do not fit its features and actions: {error}"
        ) from None
    if not (fits and np.isfinite(found.score).all() and np.isfinite(found.cost).all()):
        raise ValueError(f"policy {policy.name!r} has {wanted[1]} actions, and predicts {sorted(shapes)}")
