"""What is sent on as the upstream gives it: answers of its own models, reserved, counted and settled all the same, and streams of one
sample."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from alloc_jax.collect.recipes import LIMITS
from alloc_jax.collect.replies import Choice, Fault, read_usage
from alloc_jax.serve.core import Core
from alloc_jax.serve.tickets import EMBEDDINGS, AnswerRequest, Passed, Ticket
from alloc_jax.serve.web.answering import sample_request, seed_of
from alloc_jax.serve.web.middleware import listening, reply
from alloc_jax.serve.web.protocol import Dialect, choice_of, ignored_header, json_bytes
from alloc_jax.serve.web.relay import Outgoing, Relay
from alloc_jax.serve.web.request_bodies import PREFIX
from alloc_jax.serve.web.servers import Server
from alloc_jax.serve.web.upstream_usage import Drawn, Sample, bounds

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway


async def pass_through(
    gateway: Gateway,
    request: Request,
    passed: Passed,
    stack: AsyncExitStack,
    dialect: Dialect | None = None,
) -> Response:
    """Send a request on, and its answer back.

    Args:
      gateway: between the two.
      request: whose client may leave.
      passed: what it asks.
      stack: closed when the last byte is sent; the ticket is settled by then.
      dialect: of a client that does not speak the upstream's; None: the answer is sent back as it is.

    Raises:
      Fault: the upstream gives no answer.
      Refused: see `Core.admit_passed`.
    """
    core = gateway.core
    ticket = core.admit_passed(passed)
    drawn, start, headers = Drawn(), time.monotonic(), ignored_header(passed.ignored)
    stack.callback(gateway.watch(request, ticket, drawn))
    stack.callback(gateway.close_ticket, core, ticket, drawn, start)
    limits = [value for name in LIMITS if isinstance(value := passed.body.get(name), int) and value > 0]
    stream = bool(passed.body.get("stream")) and passed.path != EMBEDDINGS
    left_out = ("stream", "stream_options") if stream else ()
    raw = json_bytes({name: value for name, value in passed.body.items() if name not in left_out})
    most = bounds(passed.body, raw, passed.samples, max(limits, default=None), core.cap.image_tokens)
    if stream:
        options = passed.body.get("stream_options")
        going = Outgoing(
            model=passed.model, raw=raw, options=options, samples=passed.samples, most=most, path=passed.path
        )
        writer = None if dialect is None else dialect.writer(passed.id, passed.model, True)
        relay = Relay(gateway, ticket, drawn, going, writer)
        stack.push_async_callback(relay.end)
        await relay.begin(request)
        return StreamingResponse(relay.events(), media_type="text/event-stream", headers=headers)
    upstream, said = gateway.upstream, b""
    tried: list[Server] = []
    while not said:
        sent = False
        try:
            slot = upstream.slots.slot(ticket.tenant.name)
            async with listening(request), upstream.passage(passed.model, tried) as way, slot:
                sent = True
                said = await upstream.post(raw, way.server, passed.path)
                body, answers = upstream.read_list(said, "data" if passed.path == EMBEDDINGS else "choices")
                if dialect is not None:
                    read = upstream.read(said, 1, most)
                    body = {**body, "choices": [choice_of(read.raw[0], read.choices[0].text)]}
                way.good()
        except Fault as fault:
            drawn.faults.append(fault)
            drawn.uncounted += passed.samples * fault.billed
            if fault.billed or not upstream.servers.others(passed.model, tried, fault):
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


async def relay_one(
    gateway: Gateway,
    core: Core,
    request: Request,
    ticket: Ticket[AnswerRequest],
    drawn: Drawn,
    dialect: Dialect,
    stack: AsyncExitStack,
) -> Relay | None:
    """One sample of an allocated answer, streamed as it comes.

    Args:
      gateway: between the two.
      core: that admitted it.
      request: whose client may leave.
      ticket: of one sample.
      drawn: gets what comes.
      dialect: of the client.
      stack: closed when the last byte is sent; the ticket is settled by then.

    Returns:
      The relay, which has begun; None, and nothing is settled, where the upstream does not stream.

    Raises:
      Fault: the upstream gives no answer.
    """
    source, start = ticket.action.source, time.monotonic()
    drawn.retries = gateway.upstream.retries(1)
    async with AsyncExitStack() as own:
        own.callback(gateway.close_ticket, core, ticket, drawn, start)
        raw, most = sample_request(core, ticket, source, 1)
        raw = b'%b, "seed": %d}' % (raw[:-1], seed_of(ticket, source, 0))
        model = core.recipes[source].model
        going = Outgoing(model=model, raw=raw, samples=1, most=most, source=source)
        writer = dialect.writer(ticket.id, f"{PREFIX}{ticket.action.name}", ticket.asked.with_usage)
        relay = Relay(gateway, ticket, drawn, going, writer)
        own.push_async_callback(relay.end)
        try:
            await relay.begin(request)
        except Fault as fault:
            if fault.status not in (400, 422) or "stream" not in str(fault):
                raise
            own.pop_all()
            await relay.end()
            return None
        stack.push_async_exit(own.pop_all())
    return relay
