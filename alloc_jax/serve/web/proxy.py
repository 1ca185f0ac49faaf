"""Requests for the upstream's own models: they pass through as they are, and are reserved, counted and settled all the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from alloc_jax.collect.recipes import LIMITS
from alloc_jax.collect.replies import Choice, Fault, read_usage
from alloc_jax.serve.tickets import EMBEDDINGS, Passed
from alloc_jax.serve.web.doors import listening, reply
from alloc_jax.serve.web.drawn import Drawn, Sample, bounds, settle
from alloc_jax.serve.web.protocol import Dialect, json_bytes
from alloc_jax.serve.web.relay import Outgoing, Relay

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway


async def pass_through(
    gateway: Gateway,
    request: Request,
    passed: Passed,
    stack: AsyncExitStack,
    dialect: Dialect | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Sends a request on, and its answer back.

    Args:
      gateway: between the two.
      request: whose client may leave.
      passed: what it asks.
      stack: closed when the last byte is sent; the ticket is settled by then.
      dialect: of a client that does not speak the upstream's; None: the answer is sent back as it is.
      headers: of the answer.

    Raises:
      Fault: the upstream gives no answer.
      Refused: see `Core.admit_passed`.
    """
    ticket = gateway.core.admit_passed(passed)
    drawn, start = Drawn(), time.monotonic()

    def close() -> None:
        settle(gateway.core, ticket, drawn, time.monotonic() - start)
        gateway.metrics.count_drawn(ticket, drawn)

    stack.callback(close)
    limits = [value for name in LIMITS if isinstance(value := passed.body.get(name), int) and value > 0]
    raw = json_bytes(passed.body)
    most = bounds(passed.body, raw, passed.samples, max(limits, default=None), gateway.core.cap.image_tokens)
    if passed.body.get("stream") and passed.path != EMBEDDINGS:
        going = Outgoing(body=dict(passed.body), samples=passed.samples, most=most, path=passed.path)
        writer = None if dialect is None else dialect.writer(passed.id, passed.model, True)
        relay = Relay(gateway, ticket, drawn, going, writer)
        stack.push_async_callback(relay.end)
        await relay.begin(request)
        return StreamingResponse(relay.events(), media_type="text/event-stream", headers=headers)
    upstream, slot, sent = gateway.upstream, gateway.upstream.slots.slot(ticket.tenant.name), False
    try:
        async with listening(request), upstream.passage(passed.model) as breaker, slot:
            sent = True
            said = await upstream.post(raw, passed.path)
            body, answers = upstream.read_list(said, "data" if passed.path == EMBEDDINGS else "choices")
            breaker.good()
    except Fault as fault:
        drawn.faults.append(fault)
        drawn.uncounted += passed.samples * fault.billed
        raise
    except BaseException:
        drawn.uncounted += passed.samples * sent
        raise
    usage, odd = read_usage(body.get("usage"), most, passed.samples)
    if passed.path == EMBEDDINGS:
        usage = replace(usage, completion_tokens=0.0, reasoning_tokens=0.0)  # nothing is written
    if odd:
        drawn.mark_odd()
    choice = Choice(text="", finish_reason=None, completion_tokens=None)
    drawn.samples += [Sample("", choice)] * min(len(answers), passed.samples)
    drawn.usages.append(("", usage))
    if dialect is not None:
        return reply(dialect.whole(body, usage), headers=headers)
    return Response(said, media_type="application/json", headers=headers)
