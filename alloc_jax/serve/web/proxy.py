"""Requests for the upstream's own models: they pass through as they are, and are reserved, counted and settled all the same."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from alloc_jax.collect.recipes import LIMITS
from alloc_jax.collect.replies import Choice, Fault, Most, parse_json, read_usage
from alloc_jax.serve.tickets import Passed, Ticket
from alloc_jax.serve.web.answering import bounds, settle
from alloc_jax.serve.web.breaker import Breaker
from alloc_jax.serve.web.doors import listening
from alloc_jax.serve.web.protocol import error_body, fault_status, json_bytes
from alloc_jax.serve.web.upstream import Drawn, Sample

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway

_BUFFER = 1 << 18  # bytes between upstream and a client that reads more slowly
_LINE = 1 << 20  # bytes of a line that is looked into


async def pass_through(gateway: Gateway, request: Request, passed: Passed, stack: AsyncExitStack) -> Response:
    """Sends a request on, and its answer back.

    Args:
      gateway: between the two.
      request: whose client may leave.
      passed: what it asks.
      stack: closed when the last byte is sent; the ticket is settled by then.

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
    if passed.body.get("stream"):
        return await _Stream(gateway, ticket, drawn, most).response(request, stack)
    upstream, slot, sent = gateway.upstream, gateway.upstream.slots.slot(ticket.tenant.name), False
    try:
        async with listening(request), upstream.passage(passed.model) as breaker, slot:
            sent = True
            said = await upstream.post(raw)
            reply = upstream.read(said, passed.samples, most)
            breaker.good()
    except Fault as fault:
        _failed(drawn, passed, fault)
        raise
    except BaseException:
        drawn.uncounted += passed.samples * sent
        raise
    if reply.odd:
        drawn.mark_odd()
    drawn.samples += [Sample("", choice) for choice in reply.choices]
    drawn.usages.append(("", reply.usage))
    return Response(said, media_type="application/json")


class _Stream:
    """The upstream's events as they come, through a buffer: a client that reads slowly keeps no upstream slot from others."""

    def __init__(self, gateway: Gateway, ticket: Ticket, drawn: Drawn, most: Most):
        self.gateway, self.upstream, self.ticket, self.drawn, self.most = gateway, gateway.upstream, ticket, drawn, most
        options = ticket.asked.body.get("stream_options")
        self.options = options if isinstance(options, dict) else {}
        self.wanted = bool(self.options.get("include_usage"))  # else it is taken out again
        self.parts: deque[bytes] = deque()
        self.size = 0  # of the parts
        self.moved = asyncio.Event()  # something was put in, or taken out
        self.rest = b""  # of a line
        self.usage: Any = None
        self.fault: Fault | None = None
        self.sent = self.ended = False

    async def response(self, request: Request, stack: AsyncExitStack) -> Response:
        """The response, once the upstream has begun.

        Raises:
          ClientDisconnect: its client leaves before.
          Fault: it does not begin.
        """
        begun = asyncio.get_running_loop().create_future()
        pump = asyncio.create_task(self._pump(begun))

        async def end() -> None:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
            self._count()

        stack.push_async_callback(end)
        async with listening(request):
            await begun
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _pump(self, begun: asyncio.Future) -> None:
        """Reads the upstream into the buffer."""
        body = {**self.ticket.asked.body, "stream_options": {**self.options, "include_usage": True}}
        try:
            try:
                await self._read(body, begun)
            except Fault as fault:
                if self.options or fault.status not in (400, 422) or "stream_options" not in str(fault):
                    raise
                del body["stream_options"]  # a server that does not know the field
                await self._read(body, begun)
        except Exception as error:
            self.fault = error if isinstance(error, Fault) else Fault(type(error).__name__, billed=self.sent)
            if not begun.done():
                begun.set_exception(error)
            else:
                status, _ = fault_status(self.fault)
                said = error_body(status, f"the upstream broke off: {self.fault}")
                self._put(b"data: " + json_bytes(said) + b"\n\n")
        finally:
            self.ended = True
            self.moved.set()
            if not begun.done():
                begun.cancel()

    async def _read(self, body: dict[str, Any], begun: asyncio.Future) -> None:
        async with self.upstream.passage(self.ticket.asked.model) as breaker:
            await self._copy(body, begun, breaker)

    async def _copy(self, body: dict[str, Any], begun: asyncio.Future, breaker: Breaker) -> None:
        slots, tenant = self.upstream.slots, self.ticket.tenant.name
        whole = self.gateway.config.deadline_s
        timeout = aiohttp.ClientTimeout(total=whole, sock_read=self.upstream.timeout_s)
        await slots.take(tenant)
        held = self.sent = True
        try:
            async with self.upstream.opened(json_bytes(body), timeout) as response:
                breaker.good()
                if not begun.done():
                    begun.set_result(None)
                try:
                    async for part in response.content.iter_any():
                        self._put(self._filtered(part))
                        while self.size > _BUFFER:  # it is the client that is waited for, not the upstream
                            if held:
                                slots.give(tenant)
                                held = False
                            self.moved.clear()
                            await self.moved.wait()
                        if not held:
                            await slots.take(tenant)
                            held = True
                except (aiohttp.ClientError, TimeoutError) as error:
                    raise self.upstream.broken(error, billed=True) from None
            self._put(self.upstream.redacted(self.rest))
        finally:
            if held:
                slots.give(tenant)

    async def _events(self) -> AsyncIterator[bytes]:
        while True:
            while self.parts:
                part = self.parts.popleft()
                self.size -= len(part)
                self.moved.set()
                yield part
            if self.ended:
                return
            self.moved.clear()
            await self.moved.wait()

    def _put(self, part: bytes) -> None:
        if part:
            self.parts.append(part)
            self.size += len(part)
            self.moved.set()

    def _filtered(self, part: bytes) -> bytes:
        """The lines that are whole by now, without the usage where the client has not asked for it."""
        *lines, self.rest = (self.rest + part).split(b"\n")
        kept = []
        for line in lines:
            said = _chunk(line)
            if said and said.get("usage"):
                self.usage = said["usage"]
                if not self.wanted and not said.get("choices"):
                    continue
            sample = said and said.get("choices") and not said.get("error")
            kept.append((line if sample else self.upstream.redacted(line)) + b"\n")
        if len(self.rest) > _LINE:
            kept.append(self.rest)
            self.rest = b""
        return b"".join(kept)

    def _count(self) -> None:
        """What is known of what was used, at the stream's end, whoever ended it."""
        passed, drawn = self.ticket.asked, self.drawn
        if self.usage is not None:
            usage, odd = read_usage(self.usage, self.most, passed.samples)
            if odd:
                drawn.mark_odd()
            drawn.samples += [Sample("", Choice(text="", finish_reason=None, completion_tokens=None))] * passed.samples
            drawn.usages.append(("", usage))
        elif self.fault is not None:
            _failed(drawn, passed, self.fault)
        else:
            drawn.uncounted += passed.samples * self.sent


def _failed(drawn: Drawn, passed: Passed, fault: Fault) -> None:
    drawn.faults.append(fault)
    drawn.uncounted += passed.samples * fault.billed


def _chunk(line: bytes) -> dict[str, Any] | None:
    """The object in a line of a stream; None where it holds none."""
    if not line.startswith(b"data:"):
        return None
    try:
        said = parse_json(line[5:])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
