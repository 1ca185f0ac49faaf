"""What operators ask a gateway: whether it is ready, what everybody has spent, and to read its policy anew."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from alloc_jax.collect.replies import Fault
from alloc_jax.serve.core import Core
from alloc_jax.serve.tickets import ADMIN, Passed, Refused, Ticket
from alloc_jax.serve.web.middleware import reply
from alloc_jax.serve.web.upstream_usage import Drawn

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway

_LOOK_S = 1.0  # for which it is known whether the upstream answers
_log = logging.getLogger("alloc_jax.serve")


class Operating:
    """The operator's routes of a gateway."""

    def __init__(self, gateway: Gateway):
        self.gateway = gateway
        self.looked, self.upstream = -_LOOK_S, ""
        self.remaking = asyncio.Lock()

    async def health(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Whether the gateway is up, which it is, and whether its upstream is."""
        return reply({"status": "ok", "upstream": await self._look()})

    async def ready(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Whether questions should be sent here: the upstream answers, and the ledger takes what is settled."""
        late = len(self.gateway.core.reservations.late)
        parts = {"upstream": await self._look(), "ledger": "ok" if not late else f"{late} requests wait to be settled"}
        good = all(said == "ok" for said in parts.values())
        return reply({"status": "ready" if good else "not ready", **parts}, 200 if good else 503)

    async def spend(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """What was spent, of what budget and what cap: by a tenant, or by all of them for the operator."""
        core = self.gateway.core
        names = core.tenants if tenant == ADMIN or not self.gateway.config.keys else (tenant,)
        return reply({"unit": core.policy.unit, "tenants": {name: spend_of(core, name) for name in names}})

    async def reload(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Read the policy anew; requests that are being answered end as they began.

        Raises:
          Refused: who asks is not the operator, or what is there is no policy.
        """
        if tenant != ADMIN:
            raise Refused("forbidden", "the operator's key reads the policy anew")
        try:
            core = await self.remake()
        except (ValueError, OSError) as error:
            raise Refused("invalid", f"the policy stays as it is: {error}") from None
        multipliers = {name: core.multiplier(name) for name in core.tenants}
        return reply({"policy": core.policy.name, "actions": list(core.actions), "multipliers": multipliers})

    async def remake(self) -> Core:
        """The decision core, made anew of the files that are there now.

        Raises:
          ValueError: they do not fit, and nothing has changed.
        """
        gateway = self.gateway
        if gateway.remake is None:
            raise ValueError("this gateway was not started from files")
        async with self.remaking:
            core = await asyncio.to_thread(gateway.remake)
            if core.verifier != gateway.core.verifier:
                raise ValueError("another verifier needs another start")
            core.reservations.late = gateway.core.reservations.late  # what waits for the ledger waits on
            if core.recorder is not None and gateway.core.recorder is not None:
                core.recorder.late = gateway.core.recorder.late
            gateway.core = gateway.metrics.core = core
        _log.warning("policy %s was read", core.policy.name)
        return core

    def listen(self) -> None:
        """Read the policy anew at each SIGHUP, where the process can hear one."""
        if self.gateway.remake is None or threading.current_thread() is not threading.main_thread():
            return
        tasks = set()

        async def heard() -> None:
            try:
                await self.remake()
            except (ValueError, OSError) as error:
                _log.error("the policy stays as it is: %s", error)

        def hear() -> None:
            task = asyncio.create_task(heard())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hear)

    async def _look(self) -> str:
        """What the upstream says, at most once a second."""
        if time.monotonic() - self.looked >= _LOOK_S:
            self.looked = time.monotonic()
            try:
                await self.gateway.upstream.models()
                self.upstream = "ok"
            except Fault as fault:
                self.upstream = str(fault)
        return self.upstream


def spend_of(core: Core, name: str) -> dict[str, Any]:
    """What a tenant has spent, and what is left."""
    tenant, account, passed = core.tenants[name], core.account(name), core.passed(name)
    found: dict[str, Any] = {
        "budget": tenant.budget,
        "questions": account.questions,
        "spent": account.spent,
        "spent_per_question": account.spent / account.questions if account.questions else None,
        "multiplier": core.multiplier(name),
        "passed_through": {"requests": passed.questions, "spent": passed.spent},
    }
    if tenant.cap is not None:
        window = core.reservations.window(tenant)
        held = core.reservations.held(tenant, window)
        left = max(tenant.cap - held, 0.0)
        ends = (window + 1) * tenant.window_s
        found["cap"] = {"cap": tenant.cap, "in": core.cap.resource, "held": held, "left": left, "window_ends": ends}
    return found


def described(ticket: Ticket, drawn: Drawn) -> dict[str, Any]:
    """What the request log says of an admitted request."""
    asked, usage = ticket.asked, drawn.usage()
    found: dict[str, Any] = {
        "model": asked.model if isinstance(asked, Passed) else None,
        "action": ticket.action and ticket.action.name,
        "multiplier": ticket.decision and ticket.decision.multiplier,
        "expected": ticket.expected if ticket.action else None,
        "cost": drawn.cost,
        "charged": drawn.charged,
        "samples": len(drawn.samples),
        "uncounted": drawn.uncounted or None,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "single": ticket.single,
        "faults": [str(fault) for fault in drawn.faults] or None,
    }
    return {name: value for name, value in found.items() if value is not None}
