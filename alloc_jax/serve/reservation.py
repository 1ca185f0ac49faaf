"""Reservations: what a request may cost is held in the ledger before it is sent, and replaced by what it did cost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.collect.recipes import Recipe
from alloc_jax.learn.policy import Policy
from alloc_jax.serve.ledger import Account, Ledger, LedgerFault, Move, Settlement
from alloc_jax.serve.meter import CAPPED, Meter, limit_of
from alloc_jax.serve.tickets import AnswerRequest, Passed, Pooled, Refused, Tenant, Ticket

_log = logging.getLogger("alloc_jax.serve")


@dataclass(frozen=True)
class _Late:
    """A settlement that the ledger could not take yet."""

    id: str
    final: Settlement
    account: str | None
    move: Move | None
    counted: bool = True


class Reservations:
    """Holds, extends and settles; its caller holds a lock.

    Args:
      policy: whose measured costs a soft cap reserves.
      recipes: of the sources.
      ledger: where the money is.
      cap: counts in the unit of the caps.
      quantile: of the measured costs of an action, that a cap which is not hard reserves.
      clock: seconds.
    """

    def __init__(
        self,
        policy: Policy,
        recipes: Mapping[str, Recipe],
        ledger: Ledger,
        cap: Meter,
        quantile: float,
        clock: Callable[[], float],
    ):
        self.recipes, self.ledger, self.cap, self.clock = recipes, ledger, cap, clock
        self.actions = {name: Action.parse(name) for name in policy.actions}
        measured = np.quantile(policy.calibration_cost, quantile, axis=0)
        self.quantiles = dict(zip(policy.actions, map(float, measured), strict=True))
        self.late: deque[_Late] = deque()

    def check(self, tenants: Mapping[str, Tenant], policy: Policy) -> None:
        """Make sure that every cap can be kept.

        Raises:
          ValueError: one cannot.
        """
        for tenant in tenants.values():
            if tenant.cap is None:
                continue
            if not tenant.hard and (self.cap.resource, self.cap.unit) != (policy.resource, policy.unit):
                raise ValueError(
                    f"tenant {tenant.name!r}: a cap in {self.cap.resource} must be hard: measured costs are in"
                    f" {policy.resource}"
                )
            if tenant.hard and self.cap.resource not in CAPPED:
                raise ValueError(f"{self.cap.resource} have no worst case: a hard cap is in {', '.join(CAPPED)}")
            if tenant.hard and self.cap.resource not in ("samples", "prompt_tokens"):
                for recipe in self.recipes.values():
                    if recipe.limit is None:
                        raise ValueError(f"source {recipe.name!r} has no max_tokens: a hard cap needs a worst case")

    def window(self, tenant: Tenant) -> int:
        """The number of the window that a tenant's cap is in now."""
        return int(self.clock() // tenant.window_s)

    def purse(self, tenant: Tenant) -> str:
        """What a tenant's cap is held in: another unit or another window is another purse."""
        unit = f" ({self.cap.unit})" if self.cap.unit not in ("", self.cap.resource) else ""
        return f"{tenant.name}, {self.cap.resource}{unit} in {tenant.window_s:g} s"

    def held(self, tenant: Tenant, window: int) -> float:
        """What a tenant has used and reserved of a window's cap."""
        return self.ledger.held(self.purse(tenant), window)

    def worst_sample(self, tenant: Tenant, asked: AnswerRequest | Passed, sources: tuple[str, ...]) -> float:
        """The most that one sample can be charged, of whichever source; 0 where there is no cap to keep.

        Raises:
          Refused: nothing bounds it, and the cap is hard.
        """
        if tenant.cap is None:
            return 0.0
        try:
            if isinstance(asked, Passed):
                return self.cap.worst_passed(asked)
            return max((self._worst_of(asked, self.recipes[source]) for source in sources), default=0.0)
        except ValueError as error:
            if not tenant.hard:  # settled as it comes
                return 0.0
            raise Refused("invalid", f"under a hard cap: {error}") from None

    def open(self, ticket: Ticket, account: str | None, move: Move | None) -> bool:
        """Hold what a ticket reserves, and move its account's pace; False where the cap forbids it.

        Raises:
          Refused: the ledger cannot be written.
        """
        self.retry()
        try:
            return self.ledger.reserve(
                ticket.id,
                self.purse(ticket.tenant),
                ticket.window,
                ticket.reserved,
                ticket.tenant.cap,
                action=ticket.asked.model if isinstance(ticket.asked, Passed) else ticket.action.name,
                expected=ticket.expected,
                account=account,
                move=move,
            )
        except LedgerFault as error:
            _log.error("the ledger cannot be written: %s", error)
            raise Refused("busy", "the ledger cannot be written", 5.0) from None

    def amount(self, ticket: Ticket) -> float:
        """What a ticket has to reserve, in the cap's unit."""
        tenant, action = ticket.tenant, ticket.action
        samples = ticket.asked.samples if isinstance(ticket.asked, Passed) else action.samples
        if tenant.cap is None or not samples:
            return 0.0
        if tenant.hard or action is None:
            return samples * ticket.worst
        if isinstance(action, Pooled):  # the most expensive samples that may come
            each = (self._dearest(source) for source, most in ticket.plan.limits.items() for _ in range(most))
            return sum(sorted(each, reverse=True)[:samples])
        return self._usual(action)

    def extend(self, ticket: Ticket, samples: int) -> bool:
        """Reserve for samples that are drawn again, where what was sent may have been charged; False where the cap forbids it."""
        if not ticket.tenant.hard:
            return True
        try:
            return self.ledger.extend(ticket.id, samples * ticket.worst, ticket.tenant.cap)
        except LedgerFault as error:
            _log.error("the ledger cannot be written: %s", error)
            return False

    def settle(
        self, ticket: Ticket, final: Settlement, account: str | None, move: Move | None, counted: bool = True
    ) -> bool:
        """Replace a reservation by what was used; where the ledger cannot be written, as soon as it can.

        Returns:
          False where it was settled before.
        """
        self.retry()
        late = _Late(ticket.id, final, account, move, counted)
        try:
            return self._settle(late)
        except LedgerFault as error:
            _log.error("the ledger cannot be written: %s; %d requests wait to be settled", error, len(self.late) + 1)
            self.late.append(late)
            return True

    def retry(self) -> None:
        """Settle what could not be settled, in its order, if that is possible now."""
        while self.late:
            try:
                self._settle(self.late[0])
            except LedgerFault:
                return
            self.late.popleft()

    def passed(self, tenant: Tenant, unit: str) -> str:
        """The account of what a tenant has passed through."""
        return f"{tenant.name}, passed through, {unit}"

    def account(self, name: str) -> Account:
        """Where an account stands."""
        return self.ledger.account(name)

    # -----------------------------------------------------------------------------------------------------------

    def _settle(self, late: _Late) -> bool:
        return self.ledger.settle(late.id, late.final, account=late.account, move=late.move, counted=late.counted)

    def _worst_of(self, question: AnswerRequest, recipe: Recipe) -> float:
        limit = limit_of(recipe, question.limit)
        body = recipe.body(recipe.wrap(question.conversation, question.text))
        return self.cap.worst(recipe.model, {**question.sampling, **question.extra, **body}, limit)

    def _usual(self, action: Action) -> float:
        """The quantile of an action's measured costs; for more samples than any action draws, the most expensive sample's as often."""
        if action.name in self.quantiles:
            return self.quantiles[action.name]
        return action.samples * self._dearest(action.source)

    def _dearest(self, source: str) -> float:
        """The most of a source's actions' quantiles that falls to a sample."""
        return max(self.quantiles[name] / a.samples for name, a in self.actions.items() if a.source == source)
