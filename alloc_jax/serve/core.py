"""The decision core: which action a question gets, what is reserved for it, and how the price follows what it cost.

The live gateway and the offline replay of a log run this same code, so a replay decides as the gateway would have.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.collect.recipes import Recipe
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.serve.allocator import Decision, decide
from alloc_jax.serve.ledger import Account, Ledger, Settlement
from alloc_jax.serve.meter import CAPPED, Meter, limit_of
from alloc_jax.serve.pacing import Pace, make_pace
from alloc_jax.serve.tickets import Enough, Refused, Stopping, Tenant, Ticket

SERVED = ("abstain", "single", "vote", "unanimous")  # what needs neither rewards nor a verifier
_BUDGETS = 64  # of requests that bring their own; each is calibrated once


class Core:
    """Decides, reserves and settles; safe to use from several threads.

    Args:
      policy: trained.
      recipes: how each source of its actions is asked for.
      tenants: by name.
      ledger: where the money is.
      cap: counts in the unit of the caps; by default the policy's own.
      stopping: rules that draw sample by sample, and take the place of the policy's own choice.
      step: of the pace; 0 keeps every price where the calibration put it.
      quantile: of the measured costs of an action, that a cap which is not hard reserves.
      clock: seconds.

    Raises:
      ValueError: an action that cannot be served, a source without a recipe, a budget below the cheapest plan, or a cap
        that cannot be kept.
    """

    def __init__(
        self,
        policy: Policy,
        recipes: Mapping[str, Recipe],
        tenants: Mapping[str, Tenant],
        ledger: Ledger,
        *,
        meter: Meter | None = None,
        cap: Meter | None = None,
        stopping: Stopping | None = None,
        step: float = 0.03,
        quantile: float = 0.9,
        clock=time.time,
    ):
        self.policy, self.recipes, self.tenants, self.ledger = policy, recipes, tenants, ledger
        self.meter = meter or Meter(policy.resource, policy.unit)
        self.cap = cap or self.meter
        self.stopping, self.step, self.clock = stopping, step, clock
        self.actions = {name: Action.parse(name) for name in policy.actions}
        self._lock = threading.Lock()
        self._check()
        self.paces = {name: self._pace(tenant.budget) for name, tenant in tenants.items() if tenant.budget is not None}
        # Another policy or another budget is another pace, whatever the ledger knows of the tenant.
        mark = fingerprint(policy) + " stopping" * (stopping is not None)
        self.accounts = {name: f"{name}, {pace.budget:g} {policy.unit}, {mark}" for name, pace in self.paces.items()}
        self._of_budget: dict[float, Pace] = {}
        self.duals = {name: self._dual(name) for name in self.paces}
        measured = np.quantile(policy.calibration_cost, quantile, axis=0)
        self.quantiles = dict(zip(policy.actions, map(float, measured), strict=True))
        mean = policy.calibration_cost.mean(axis=0, dtype=np.float64)
        self.means = dict(zip(policy.actions, map(float, mean), strict=True))

    def admit(
        self,
        identity: str,
        text: str,
        *,
        tenant: str = "default",
        action: str | None = None,
        budget: float | None = None,
        max_samples: int | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        limit: int | None = None,
    ) -> Ticket:
        """Decides on a question, and reserves what it may cost.

        Args:
          identity: of the request.
          text: of the question.
          tenant: who pays.
          action: what the client wants done; None lets the policy decide.
          budget: that this question is held against, instead of the tenant's.
          max_samples: the most samples that its action may draw.
          messages: the conversation that goes upstream, for the worst case; the text by default.
          limit: tokens of a sample that the client allows.

        Raises:
          Refused: 400 where nothing can be done as asked; 429 where the cap leaves no room.
        """
        paying = self.tenants[tenant]
        if action is not None and action not in self.actions:
            raise Refused(404, f"unknown action {action!r}; known: {', '.join(self.actions)}")
        allowed = self._allowed(max_samples)
        prediction = None if action else self.policy.predict([text], budget or paying.budget)
        with self._lock:
            pace, dual = self.paces.get(tenant), self.duals.get(tenant)
            if prediction is None:
                decision, chosen, expected, enough = None, self.actions[action], self.means[action], None
            else:
                decision, chosen, enough = self._decide(
                    prediction, self._price(pace, dual, budget), allowed, max_samples
                )
                expected = decision.cost
            paced = pace is not None and decision is not None
            ticket = Ticket(
                id=identity,
                tenant=paying,
                action=chosen,
                decision=decision,
                window=int(self.clock() // paying.window_s),
                paced=paced,
                budget=(budget or pace.budget) if paced else None,
                expected=expected,
                reserved=0.0,
                enough=enough,
            )
            messages = messages if messages is not None else [{"role": "user", "content": text}]
            opened = self._open(ticket, messages, text, limit)
            if opened is None and decision is not None and paying.exhausted == "cheapest":
                cheapest = min(decision.predicted, key=lambda name: decision.predicted[name][1])
                if cheapest != chosen.name:
                    cost = decision.predicted[cheapest][1]
                    ticket = replace(ticket, action=self.actions[cheapest], expected=cost, enough=None)
                    opened = self._open(ticket, messages, text, limit)
            if opened is None:
                raise self._exhausted(paying)
            return opened

    def admit_passed(
        self,
        identity: str,
        model: str,
        *,
        tenant: str,
        messages: Sequence[Mapping[str, Any]],
        limit: int | None,
        samples: int,
    ) -> Ticket:
        """Reserves for a request that goes to a model as it is; it falls under the cap, and under no budget.

        Raises: see `admit`.
        """
        paying = self.tenants[tenant]
        ticket = Ticket(
            id=identity,
            tenant=paying,
            action=None,
            decision=None,
            window=int(self.clock() // paying.window_s),
            paced=False,
            budget=None,
            expected=0.0,
            reserved=self._worst(paying, model, messages, limit, samples),
        )
        if not self._reserve(ticket, model, None):
            raise self._exhausted(paying)
        return ticket

    def extend(self, ticket: Ticket, amount: float) -> bool:
        """Reserves more for a ticket, where something was used that nobody can count; False where the cap forbids it."""
        return self.ledger.extend(ticket.id, amount, ticket.tenant.cap)

    def settle(
        self, ticket: Ticket, cost: float | None, charged: float, samples: int, prompt: float, completion: float
    ) -> bool:
        """Closes a ticket with what it really cost.

        Args:
          ticket: from `admit`.
          cost: in the policy's unit; None where the upstream did not say, and what was expected stands.
          charged: in the cap's unit.
          samples: that came.
          prompt: tokens that the upstream counted.
          completion: likewise.

        Returns:
          False where it was settled before.
        """
        cost = ticket.expected if cost is None else cost
        final = Settlement(
            charged=charged, cost=cost, samples=samples, prompt_tokens=prompt, completion_tokens=completion
        )
        with self._lock:
            name = ticket.tenant.name
            dual = self.duals.get(name)
            if ticket.paced:
                dual = self._moved(ticket, dual, cost - ticket.expected)
            account = self.accounts[name] if ticket.paced else None
            if not self.ledger.settle(ticket.id, final, account=account, dual=dual):
                return False
            if ticket.paced:
                self.duals[name] = dual
        return True

    def price(self, tenant: str) -> float:
        """A tenant's price now; 0 without a budget."""
        pace = self.paces.get(tenant)
        return 0.0 if pace is None else pace.price(self.duals[tenant])

    def account(self, tenant: str) -> Account:
        """Where a tenant stands; empty where it has no budget."""
        return self.ledger.account(self.accounts[tenant]) if tenant in self.accounts else Account()

    def worst_sample(self, tenant: Tenant, action: Action, messages, text: str, limit: int | None) -> float:
        """The most that one sample of an action can be charged; 0 where there is no cap to keep."""
        recipe = self.recipes[action.source]
        return self._worst(tenant, recipe.model, recipe.wrap(messages, text), limit_of(recipe, limit), 1)

    # -----------------------------------------------------------------------------------------------------------

    def _allowed(self, max_samples: int | None) -> Collection[str] | None:
        if max_samples is None:
            return None
        allowed = [name for name, action in self.actions.items() if action.samples <= max_samples]
        if not allowed:
            least = min(action.samples for action in self.actions.values())
            raise Refused(400, f"max_samples is {max_samples}, and every action draws at least {least}")
        return allowed

    def _pace(self, budget: float) -> Pace:
        if self.stopping is not None:
            return self.stopping.pace(budget, self.step)
        return make_pace(self.policy, budget, self.step)

    def _decide(
        self, prediction: Prediction, price: float, allowed: Collection[str] | None, max_samples: int | None
    ) -> tuple[Decision, Action, Enough | None]:
        """The best action, or the stopping rule's, whose utility nobody predicts."""
        decision = decide(self.policy, prediction, price, allowed)
        if self.stopping is None:
            return decision, self.actions[decision.action], None
        plan = self.stopping.plan(prediction, price, max_samples)
        decision = replace(decision, action=plan.action.name, utility=None, spread=None, cost=plan.expected)
        return replace(decision, runner_up=None, margin=math.inf), plan.action, plan.enough

    def _usual(self, action: Action) -> float:
        """The quantile of an action's measured costs; for more samples than any action draws, the dearest sample's as often."""
        if action.name in self.quantiles:
            return self.quantiles[action.name]
        known = {name: a.samples for name, a in self.actions.items() if a.source == action.source}
        return action.samples * max(self.quantiles[name] / samples for name, samples in known.items())

    def _price(self, pace: Pace | None, dual: float | None, budget: float | None) -> float:
        """The tenant's price; with a budget of the request's own, that budget's price, drifted as the tenant's has."""
        if budget is None:
            return 0.0 if pace is None else pace.price(dual)
        if budget not in self._of_budget:
            try:
                own = self._pace(budget)
            except ValueError as error:
                raise Refused(400, f"alloc.budget: {error}") from None
            while len(self._of_budget) >= _BUDGETS:
                self._of_budget.pop(next(iter(self._of_budget)))
            self._of_budget[budget] = own
        own = self._of_budget[budget]
        return own.price(own.dual if pace is None else own.dual + dual - pace.dual)

    def _moved(self, ticket: Ticket, dual: float, excess: float) -> float:
        pace = self.paces[ticket.tenant.name]
        return pace.moved(dual, excess * pace.budget / ticket.budget)

    def _open(self, ticket: Ticket, messages, text: str, limit: int | None) -> Ticket | None:
        """The ticket with its reservation, which the ledger holds from here on; None where the cap forbids it."""
        action, tenant = ticket.action, ticket.tenant
        if tenant.cap is None or not action.samples:
            reserved = 0.0
        elif tenant.hard:
            reserved = action.samples * self.worst_sample(tenant, action, messages, text, limit)
        else:
            reserved = self._usual(action)
        ticket = replace(ticket, reserved=reserved)
        dual = None
        if ticket.paced:  # the expected cost moves the price now; settling corrects it
            dual = self._moved(ticket, self.duals[tenant.name], ticket.expected - ticket.budget)
        if not self._reserve(ticket, action.name, dual):
            return None
        if dual is not None:
            self.duals[tenant.name] = dual
        return ticket

    def _reserve(self, ticket: Ticket, what: str, dual: float | None) -> bool:
        return self.ledger.reserve(
            ticket.id,
            ticket.tenant.name,
            ticket.window,
            ticket.reserved,
            ticket.tenant.cap,
            action=what,
            expected=ticket.expected,
            account=None if dual is None else self.accounts[ticket.tenant.name],
            dual=dual,
        )

    def _worst(self, tenant: Tenant, model: str, messages, limit: int | None, samples: int) -> float:
        if tenant.cap is None:
            return 0.0
        try:
            return self.cap.worst(model, messages, limit, samples)
        except ValueError as error:
            if not tenant.hard:  # settled as it comes
                return 0.0
            raise Refused(400, str(error)) from None

    def _exhausted(self, tenant: Tenant) -> Refused:
        left = tenant.window_s - self.clock() % tenant.window_s
        return Refused(429, f"tenant {tenant.name!r} has no room left below its cap of {tenant.cap:g}", left)

    def _dual(self, name: str) -> float:
        """Where the ledger left the pace, if it did; moved inside the guard rails, which may have changed since."""
        known = self.account(name).dual
        return self.paces[name].dual if known is None else self.paces[name].moved(known, 0.0)

    def _check(self) -> None:
        if takes := getattr(self.policy.featurizer, "takes", ()):
            raise ValueError(f"the policy reads the arrays {', '.join(takes)} beside the text, which a gateway has not")
        for name, action in self.actions.items():
            if action.aggregator not in SERVED:
                raise ValueError(
                    f"action {name} needs rewards or a verifier, which a gateway has not; it serves {', '.join(SERVED)}"
                )
            if action.source is not None and action.source not in self.recipes:
                raise ValueError(f"action {name}: no recipe for source {action.source!r}")
        for source in self.stopping.sources if self.stopping else ():
            if source not in {action.source for action in self.actions.values()}:
                raise ValueError(f"the stopping rules draw from {source!r}, which no action of the policy does")
        capped = any(tenant.cap is not None for tenant in self.tenants.values())
        for source in {action.source for action in self.actions.values()} - {None}:
            for meter in (self.meter, self.cap) if capped else (self.meter,):
                meter.check(self.recipes[source].model)
        for tenant in self.tenants.values():
            if tenant.budget is None and not self.policy.predicts_utility:
                raise ValueError(f"tenant {tenant.name!r}: an imitation policy is trained for budgets: say which")
            if tenant.cap is None:
                continue
            if not tenant.hard and self.cap.resource != self.policy.resource:
                raise ValueError(
                    f"tenant {tenant.name!r}: a cap in {self.cap.resource} must be hard: measured costs are in"
                    f" {self.policy.resource}"
                )
            if tenant.hard and self.cap.resource not in CAPPED:
                raise ValueError(f"{self.cap.resource} have no worst case: a hard cap is in {', '.join(CAPPED)}")
            if tenant.hard and self.cap.resource not in ("samples", "prompt_tokens"):
                for recipe in self.recipes.values():
                    if recipe.limit is None:
                        raise ValueError(f"source {recipe.name!r} has no max_tokens: a hard cap needs a worst case")


def fingerprint(policy: Policy) -> str:
    """A few letters that change with a policy's weights."""
    mark = 0
    for name in sorted(policy.weights):
        mark = crc32(np.ascontiguousarray(policy.weights[name]).tobytes(), mark)
    return f"{policy.name} {mark:08x}"
