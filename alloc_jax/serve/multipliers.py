"""Each tenant's multiplier: what a unit of cost is worth to it now, by its budget and what it has spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from alloc_jax.serve.ledger import Account, Ledger, LedgerFault, Move
from alloc_jax.serve.pacing import Pace
from alloc_jax.serve.tickets import Refused, Tenant, Ticket

_BUDGETS = 64  # of requests that bring their own; each is calibrated once


class Multipliers:
    """The pace of every tenant with a budget, and where it stands; its caller holds a lock.

    Args:
      make: the pace of a budget; ValueError where nothing can be had for it.
      tenants: by name.
      ledger: remembers where the paces stood.
      mark: of the policy and its unit: with another one, every tenant begins anew.
    """

    def __init__(self, make: Callable[[float], Pace], tenants: Mapping[str, Tenant], ledger: Ledger, mark: str):
        self.make, self.ledger = make, ledger
        self.paces = {name: make(tenant.budget) for name, tenant in tenants.items() if tenant.budget is not None}
        self.accounts = {name: f"{name}, {pace.budget:g} {mark}" for name, pace in self.paces.items()}
        self.duals = {name: pace.dual for name, pace in self.paces.items()}  # as they were last read
        self._of_budget: dict[float, Pace] = {}

    def multiplier(self, tenant: str, budget: float | None = None) -> float:
        """A tenant's multiplier, 0 without a budget; with a budget of the request's own, that budget's multiplier, drifted as the tenant's.

        Raises:
          Refused: nothing can be had for the request's budget.
        """
        pace = self.paces.get(tenant)
        if budget is None:
            return 0.0 if pace is None else pace.multiplier(self._dual(tenant))
        if budget not in self._of_budget:
            try:
                own = self.make(budget)
            except ValueError as error:
                raise Refused("invalid", f"alloc.budget: {error}") from None
            while len(self._of_budget) >= _BUDGETS:
                self._of_budget.pop(next(iter(self._of_budget)))
            self._of_budget[budget] = own
        return self.drifted(tenant, self._of_budget[budget])

    def drifted(self, tenant: str, own: Pace) -> float:
        """The multiplier of another pace, drifted as the tenant's."""
        pace = self.paces.get(tenant)
        return own.multiplier(own.dual if pace is None else own.dual + self._dual(tenant) - pace.dual)

    def move(self, ticket: Ticket, excess: float) -> Move | None:
        """How a tenant's pace moves after a question's cost was `excess` above its budget, or a correction of it; None without a pace."""
        pace = self.paces.get(ticket.tenant.name)
        if pace is None or ticket.budget is None:
            return None
        share = excess * pace.budget / ticket.budget
        return lambda dual: pace.moved(pace.dual if dual is None else dual, share)

    def account(self, tenant: str) -> Account:
        """Where a tenant stands; empty where it has no budget."""
        return self.ledger.account(self.accounts[tenant]) if tenant in self.accounts else Account()

    def _dual(self, name: str) -> float:
        """Where the pace stands, which other processes move, too; inside the guard rails, which may have changed since."""
        with suppress(LedgerFault):  # of a ledger that cannot be read, what was known last
            known = self.account(name).dual
            if known is not None:
                self.duals[name] = self.paces[name].moved(known, 0.0)
        return self.duals[name]
