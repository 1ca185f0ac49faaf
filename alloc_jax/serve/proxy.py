"""Requests for the upstream's own models: they pass through as they are, and are reserved, counted and settled all the same."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse

from alloc_jax.collect.replies import Fault, read_reply, read_usage
from alloc_jax.serve.answering import settle
from alloc_jax.serve.tickets import Refused, Ticket
from alloc_jax.serve.upstream import Drawn

if TYPE_CHECKING:
    from alloc_jax.serve.gateway import Gateway


async def pass_through(gateway: Gateway, body: dict[str, Any], tenant: str) -> Response:
    """Sends a request on, and its answer back.

    Raises:
      Refused: the upstream's own refusal with its status; 502 or 504 where there is no answer; see also `Core.admit`.
    """
    n = body.get("n") or 1
    if n > gateway.config.max_n:
        raise Refused(400, f"n is at most {gateway.config.max_n}, got {n}")
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name)]
    limit = min(limits, default=None)
    asked = {"model": body["model"], "messages": body["messages"], "limit": limit}
    ticket = gateway.core.admit_passed(uuid.uuid4().hex, tenant=tenant, samples=n, **asked)
    worst = ticket.reserved / n
    body = {name: value for name, value in body.items() if name != "alloc"}
    if body.get("stream"):
        return await _stream(gateway, body, ticket, worst)
    drawn, start = Drawn(), time.monotonic()
    try:
        raw = await gateway.upstream.post(body)
        reply = read_reply(raw)
        drawn.choices += reply.choices
        drawn.usages.append(reply.usage)
    except Fault as fault:
        drawn.uncounted += n * fault.billed
        raise refusal(fault) from None
    finally:
        _close(gateway, ticket, drawn, time.monotonic() - start, worst, body["model"])
    return Response(raw, media_type="application/json")


async def _stream(gateway: Gateway, body: dict[str, Any], ticket: Ticket, worst: float) -> Response:
    """The upstream's events as they come; its usage is asked for, and taken out again where the client did not ask."""
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    wanted = bool(options.get("include_usage"))
    body = {**body, "stream_options": {**options, "include_usage": True}}
    drawn, start = Drawn(), time.monotonic()
    stack = AsyncExitStack()
    try:
        response = await stack.enter_async_context(gateway.upstream.opened(body))
    except Fault as fault:
        drawn.uncounted += fault.billed
        _close(gateway, ticket, drawn, time.monotonic() - start, worst, body["model"])
        raise refusal(fault) from None

    async def events() -> AsyncIterator[bytes]:
        usage = None
        try:
            async for line in response.content:
                said = _chunk(line)
                if said and said.get("usage"):
                    usage = said["usage"]
                    if not wanted and not said.get("choices"):
                        continue
                yield line
        finally:  # also where the client has left
            if usage is None:
                drawn.uncounted += body.get("n") or 1
            else:
                reply = {"choices": [{"message": {"content": ""}}] * (body.get("n") or 1), "usage": usage}
                drawn.choices += read_reply(json.dumps(reply)).choices
                drawn.usages.append(read_usage(usage))
            _close(gateway, ticket, drawn, time.monotonic() - start, worst, body["model"])
            await stack.aclose()

    return StreamingResponse(events(), media_type="text/event-stream")


def refusal(fault: Fault) -> Refused:
    """What a client is told of a fault."""
    if fault.status is not None:
        return Refused(502 if fault.status in (401, 403) else fault.status, f"upstream: {fault}", fault.retry_after)
    return Refused(504 if str(fault) == "time-out" else 502, f"upstream: {fault}")


def _close(gateway: Gateway, ticket: Ticket, drawn: Drawn, seconds: float, worst: float, model: str) -> None:
    settle(gateway.core, ticket, drawn, seconds, worst, model)
    gateway.metrics.samples.inc(len(drawn.choices))
    gateway.metrics.count_tokens(drawn.usage)


def _chunk(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"data: {"):
        return None
    try:
        return json.loads(line[6:])
    except ValueError:
        return None
