"""Relays: an answer that is streamed, from the upstream to the client chunk by chunk, with what was used counted on the way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from starlette.requests import Request

from alloc_jax.collect.replies import Choice, Fault, Most, Usage, parse_json, read_usage
from alloc_jax.serve.tickets import CHAT, Ticket
from alloc_jax.serve.web.middleware import listening
from alloc_jax.serve.web.protocol import DONE, Writer, choice_of, chunks_of, error_body, fault_status, json_bytes
from alloc_jax.serve.web.servers import Server, Way
from alloc_jax.serve.web.upstream_usage import Drawn, Sample

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway

_BUFFER = 1 << 18  # bytes between upstream and a client that reads more slowly
_LINE = 1 << 20  # bytes of a line that is looked into
_LONGEST = 1 << 22  # likewise, where all of them are


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A request whose answer is streamed."""

    model: str
    raw: bytes  # its body, but for `stream` and `stream_options`
    options: Any = None  # the client's `stream_options`
    samples: int
    most: Most
    source: str = ""
    path: str = CHAT


class Relay:
    """The upstream's events through a buffer: a client that reads slowly keeps no upstream slot from others.

    Without a writer they are sent on as they are. A writer writes them anew, as long as they are those of a chat completion
    with one choice: what fails before the first of them is asked for again, and what ends before the last one is a fault.

    Args:
      gateway: between the two.
      ticket: admitted; to be settled after `end`.
      drawn: gets what came.
      going: what is asked.
      writer: writes what the client reads.
    """

    def __init__(self, gateway: Gateway, ticket: Ticket, drawn: Drawn, going: Outgoing, writer: Writer | None = None):
        self.gateway, self.upstream, self.ticket, self.drawn = gateway, gateway.upstream, ticket, drawn
        self.going, self.writer = going, writer
        self.options = going.options if isinstance(going.options, dict) else {}
        self.parts: deque[bytes] = deque()
        self.size = 0  # of the parts
        self.moved = asyncio.Event()  # something was put in, or taken out
        self.rest = b""  # of a line
        self.head = b""  # what came before the first chunk
        self.usage: Any = None
        self.fault: Fault | None = None
        self.unsure = 0  # samples that may be worked for
        self.begun = self.whole = self.ended = False

    async def begin(self, request: Request) -> None:
        """Return once the upstream has begun.

        Raises:
          ClientDisconnect: the client leaves before.
          Fault: it does not begin.
        """
        self.started = asyncio.get_running_loop().create_future()
        self.pump = asyncio.create_task(self._pump())
        async with listening(request):
            await self.started

    async def end(self) -> None:
        """Stops, and counts what is known of what was used, whoever ended it."""
        self.pump.cancel()
        with suppress(asyncio.CancelledError):
            await self.pump
        drawn, going = self.drawn, self.going
        if self.usage is not None or self.begun:
            usage, odd = self._usage()
            if odd:
                drawn.mark_odd()
            choice = Choice(text="", finish_reason=None, completion_tokens=None)
            drawn.samples += [Sample(going.source, choice)] * going.samples
            drawn.usages.append((going.source, usage))
        elif self.fault is None or self.fault.billed:
            drawn.uncounted += self.unsure

    async def events(self) -> AsyncIterator[bytes]:
        """What the client reads."""
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

    # -----------------------------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        """Read the upstream into the buffer."""
        try:
            async with asyncio.timeout(self.gateway.config.deadline_s):
                await self._attempts()
            if self.writer is not None:
                self._put(self.writer.end(self._usage()[0]))
        except Exception as error:
            late = isinstance(error, TimeoutError)
            self.fault = Fault("time-out", billed=True) if late else error if isinstance(error, Fault) else None
            if not self.started.done():
                self.started.set_exception(self.fault or error)
            else:
                self._break_off(self.fault or Fault(type(error).__name__))
        finally:
            self.ended = True
            self.moved.set()
            if not self.started.done():
                self.started.cancel()

    def _break_off(self, fault: Fault) -> None:
        """The stream's end where it has begun, and cannot go on."""
        status, _ = fault_status(fault)
        said = f"the upstream broke off: {fault}"
        if self.writer is not None:
            self._put(self.writer.broken(status, said))
        else:
            self._put(b"data: " + json_bytes(error_body(status, said)) + b"\n\n")

    async def _attempts(self) -> None:
        """The request, once and again where that helps."""
        options = b', "stream_options": ' + json_bytes({**self.options, "include_usage": True})
        attempt = 0
        tried: list[Server] = []
        while True:
            self.unsure = 0
            try:
                async with self.upstream.passage(self.going.model, tried) as way:
                    await self._copy(b'%b, "stream": true%b}' % (self.going.raw[:-1], options), way)
                return
            except Fault as fault:
                about_options = fault.status in (400, 422) and "stream_options" in str(fault)
                if about_options and options and not self.options:
                    options = b""  # a server that does not know the field
                    tried.pop()
                    continue
                others = self.upstream.servers.others(self.going.model, tried, fault)
                if self.begun or (self.writer is None and (fault.billed or not others)):
                    raise
                if self.writer is None:
                    self.drawn.faults.append(fault)
                    continue
                number, sent = attempt if self.unsure or others else self.upstream.attempts, self.unsure
                self.unsure = 0  # counted there
                if not await self.upstream.again(fault, number, sent, self.drawn, self._allowed, others):
                    raise
                attempt += 1

    def _allowed(self, samples: int) -> bool:
        return self.gateway.core.extend(self.ticket, samples)

    async def _copy(self, raw: bytes, way: Way) -> None:
        slots, tenant = self.upstream.slots, self.ticket.tenant.name
        timeout = aiohttp.ClientTimeout(total=self.gateway.config.deadline_s, sock_read=self.upstream.timeout_s)
        await slots.take(tenant)
        held, self.unsure = True, self.going.samples
        try:
            async with self.upstream.opened(raw, way.server, self.going.path, timeout) as response:
                way.good()
                if self.writer is None:
                    self._start()
                try:
                    async for part in response.content.iter_any():
                        self._put(self._read(part))
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
                    if not self.whole:  # else nothing of the answer is missing
                        raise self.upstream.broken(error, billed=True) from None
            if self.writer is None:
                self._put(self.upstream.redacted(self.rest))
            else:
                self._put(self._line(self.rest))
                self._check_end()
        finally:
            self.rest = self.head = b""
            if held:
                slots.give(tenant)

    def _start(self) -> None:
        if not self.started.done():
            self.started.set_result(None)

    def _put(self, part: bytes) -> None:
        if part:
            self.parts.append(part)
            self.size += len(part)
            self.moved.set()

    def _read(self, part: bytes) -> bytes:
        """What the client reads of the lines that are whole by now."""
        *lines, self.rest = (self.rest + part).split(b"\n")
        read = self._passed if self.writer is None else self._line
        kept = [read(line) for line in lines]
        if self.writer is None and len(self.rest) > _LINE:
            kept.append(self.rest)
            self.rest = b""
        if len(self.rest) > _LONGEST or len(self.head) > _LONGEST:
            raise Fault(f"an event of more than {_LONGEST} bytes", billed=True)
        return b"".join(kept)

    def _passed(self, line: bytes) -> bytes:
        """A line as it is, without the usage where the client has not asked for it."""
        said = _chunk(line)
        if said and said.get("usage"):
            self.usage = said["usage"]
            if not self.options.get("include_usage") and not said.get("choices"):
                return b""
        sample = said and said.get("choices") and not said.get("error")
        self.begun |= bool(sample)
        return (line if sample else self.upstream.redacted(line)) + b"\n"

    def _line(self, line: bytes) -> bytes:
        """The chunk in a line, written anew."""
        said = _chunk(line)
        if said is None:
            self.whole |= line.replace(b" ", b"").strip() == DONE.replace(b" ", b"").strip()
            self.head += b"" if self.begun else line + b"\n"
            return b""
        if said.get("error"):
            text = self.upstream.redacted(str(said["error"]).encode("utf-8", "replace")).decode()
            raise Fault(f"an error in the stream: {text[:120]}", billed=True)
        if said.get("usage"):
            self.usage = said["usage"]
        choices = said.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else None
        if (
            not isinstance(first, dict)
            or not isinstance(first.get("delta"), dict)
            or first.get("index") not in (0, None)
        ):
            return b""
        self.begun = True
        self.whole |= isinstance(first.get("finish_reason"), str)
        self._start()
        return self.writer.chunk(said)

    def _check_end(self) -> None:
        """Make sure that the answer is whole; one that is not streamed, though that was asked for, is written as if it were.

        Raises:
          Fault: it is not.
        """
        if not self.begun:
            reply = self.upstream.read(self.head, 1, self.going.most)
            self.usage = parse_json(self.head).get("usage")
            self.begun = self.whole = True
            self._start()
            for chunk in chunks_of({"choices": [choice_of(reply.raw[0], reply.choices[0].text)]}):
                self._put(self.writer.chunk(chunk))
        if not self.whole:
            raise Fault("the stream ended in its middle", billed=True)

    def _usage(self) -> tuple[Usage, bool]:
        return read_usage(self.usage, self.going.most, self.going.samples)


def _chunk(line: bytes) -> dict[str, Any] | None:
    """The object in a line of a stream; None where it holds none."""
    if not line.startswith(b"data:"):
        return None
    try:
        said = parse_json(line[5:])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
