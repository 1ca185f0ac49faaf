"""The upstream: samples from OpenAI-compatible servers, retried where that helps and counted whatever happens."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import aiohttp

from alloc_jax.collect.replies import (
    Fault,
    Most,
    Reply,
    parse_json,
    read_list,
    read_reply,
    redact,
    status_fault,
)
from alloc_jax.serve.tickets import CHAT
from alloc_jax.serve.web.fair_shares import Fair
from alloc_jax.serve.web.operate.traces import Traces
from alloc_jax.serve.web.servers import Server, Servers, Way
from alloc_jax.serve.web.upstream_usage import Drawn, Sample

_PAUSE = 0.05  # seconds before the first retry; doubles with each
_LONGEST_PAUSE = 2.0
_STALE_S = 1.0  # a connection that was idle and ends within this time, without a byte, had been closed before
_PIECES = 1 << 18  # bytes from which a request is sent in pieces
_ERROR_BYTES = 1 << 16  # of an error's text


class Upstream:
    """A client of one server or of several; use in an `async with` block.

    Args:
      url: the server's base, with /v1; or servers, each with its key.
      key: of the one server, sent as a bearer token; None sends none.
      attempts: at one request, the first included.
      timeout_s: of one attempt.
      concurrency: requests at a time, over everything the gateway does.
      tenants: who share them.
      max_reply: bytes of a response.
    """

    def __init__(
        self,
        url: str | Sequence[Server],
        key: str | None = None,
        *,
        attempts: int = 3,
        timeout_s: float = 600.0,
        concurrency: int = 512,
        tenants: Collection[str] = ("default",),
        max_reply: int = 32 << 20,
    ):
        self.attempts, self.timeout_s, self.max_reply = attempts, timeout_s, max_reply
        self.servers = Servers((Server(url=url, key=key),) if isinstance(url, str) else url)
        self.slots = Fair(concurrency, tenants)
        self.traces = Traces()
        self.noticed: Callable[[str], None] = lambda status: None  # told the status of every fault, retried or not
        self._keys = [server.key for server in self.servers.all]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Upstream:
        self._session = aiohttp.ClientSession(
            # What is compressed cannot be bounded before it is read.
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            connector=_Connector(limit=0),  # the slots bound
            cookie_jar=aiohttp.DummyCookieJar(),  # nobody is told what a server said to another
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *exc) -> None:
        await self._session.close()

    @property
    def url(self) -> str:
        """Where the servers are."""
        return ", ".join(server.url for server in self.servers.all)

    def retries(self, samples: int) -> int:
        """How many requests a question of so many samples may make again: as if every second one took all its attempts."""
        return (self.attempts - 1) * max(1, -(-samples // 2))

    async def sample(
        self,
        source: str,
        model: str,
        body: bytes,
        n: int,
        into: Drawn,
        *,
        tenant: str = "default",
        most: Most | None = None,
        allow: Callable[[int], bool] = lambda samples: True,
    ) -> int:
        """One request for n samples, made again where that helps.

        Args:
          source: that the samples are of.
          model: that the server is asked for.
          body: of the request.
          n: choices that it asks for.
          into: what came, as it comes; nothing of it is lost where this is cancelled.
          tenant: whose slots it uses.
          most: that it can use.
          allow: asked before samples are drawn again that may have been charged for; False gives them up.

        Returns:
          How many samples may still be asked for: those that a short reply left out.
        """
        tried: list[Server] = []
        for attempt in range(self.attempts):
            sent = False
            try:
                async with self.passage(model, tried) as way, self.slots.slot(tenant):
                    sent = True
                    reply = self.read(await self.post(body, way.server), n, most)
                    way.good()
            except Fault as fault:
                others = self.servers.others(model, tried, fault)
                if not await self.again(fault, attempt if sent or others else self.attempts, n, into, allow, others):
                    return 0
            except asyncio.CancelledError:
                into.uncounted += n * sent
                raise
            else:
                if reply.odd:
                    into.mark_odd()
                into.samples += [Sample(source, *pair) for pair in zip(reply.choices, reply.raw, strict=True)]
                into.usages.append((source, reply.usage))
                short = n - len(reply.choices)  # broken ones are charged, and so are those in their place
                return short if not reply.broken or allow(reply.broken) else short - reply.broken
        return 0

    async def again(
        self,
        fault: Fault,
        attempt: int,
        n: int,
        into: Drawn,
        allow: Callable[[int], bool],
        others: bool = False,
    ) -> bool:
        """Count a fault of a request for n samples, and wait until it may be made again, of another server at once; False where that
        does not help or is not allowed."""
        into.faults.append(fault)
        into.uncounted += n * fault.billed
        final = fault.final and not others
        if final or attempt + 1 >= self.attempts or into.retries <= 0 or (fault.billed and not allow(n)):
            return False
        into.retries -= 1
        if others:
            return True
        pause = _PAUSE * 2**attempt if fault.retry_after is None else fault.retry_after
        await asyncio.sleep(min(pause, _LONGEST_PAUSE))
        return True

    @asynccontextmanager
    async def passage(self, model: str, tried: list[Server] | None = None) -> AsyncIterator[Way]:
        """The way to a model, for one request, whose fault counts against it; it is to be told of an answer.

        Args:
          model: that is asked for.
          tried: servers that failed before; the one that is chosen now is added.

        Raises:
          Fault: the model is down.
        """
        way = self.servers.choose(model, tried or ())
        if tried is not None and way.server not in tried:
            tried.append(way.server)
        async with way.breaker.passage() if way.breaker.open else nullcontext():
            try:
                yield way
            except Fault as fault:
                self.noticed(str(fault.status or "none"))
                way.breaker.bad(fault)
                raise

    async def post(self, body: bytes, server: Server, path: str = CHAT) -> bytes:
        """The body of a response whose status says 200; a slot is held.

        Raises:
          Fault: there is none.
        """
        async with self.opened(body, server, path) as response:
            try:
                return await self._bounded(response, self.max_reply)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self.broken(error, billed=True) from None

    def read(self, raw: bytes, n: int, most: Most | None = None) -> Reply:
        """`read_reply`, whose faults do not repeat the key.

        Raises:
          Fault: there is none.
        """
        return read_reply(raw, n, most, *self._keys)

    def read_list(self, raw: bytes, name: str) -> tuple[dict[str, Any], list[Any]]:
        """`read_list`, likewise."""
        return read_list(raw, name, *self._keys)

    @asynccontextmanager
    async def opened(
        self, body: bytes, server: Server, path: str = CHAT, timeout: aiohttp.ClientTimeout | None = None
    ) -> AsyncIterator:
        """A response whose status says 200, with its body still to be read; a slot is held.

        Raises:
          Fault: there is none.
        """
        with self.traces.step(f"POST {path}", **{"server.address": server.url}) as headers:
            response = await self._respond(body, server, path, timeout, headers)
            async with response:
                if response.status != 200:
                    try:
                        said = (await self._bounded(response, _ERROR_BYTES, cut=True)).decode(errors="replace")
                    except (aiohttp.ClientError, TimeoutError) as error:
                        raise self.broken(error, billed=True) from None
                    raise _told(response, redact(said, *self._keys))
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise Fault("a compressed answer, which nobody asked for", billed=True)
                yield response

    async def models(self) -> list[dict[str, Any]]:
        """What the servers list at /models, as far as they are asked for it; those that do not answer are left out.

        Raises:
          Fault: none answers.
        """
        found = await asyncio.gather(*map(self._models, self.servers.all), return_exceptions=True)
        faults = [said for said in found if isinstance(said, BaseException)]
        if len(faults) == len(found):
            raise faults[0]
        listed = [model for said in found if not isinstance(said, BaseException) for model in said]
        return list({model["id"]: model for model in reversed(listed)}.values())[::-1]

    # -----------------------------------------------------------------------------------------------------------

    async def _models(self, server: Server) -> list[dict[str, Any]]:
        limit, to = aiohttp.ClientTimeout(total=5), f"{server.url}/models"
        try:
            async with self._session.get(to, headers=_key(server), timeout=limit, allow_redirects=False) as response:
                if response.status != 200:
                    raise _told(response, "")
                listed = await self._bounded(response, self.max_reply)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.broken(error) from None
        try:
            found = parse_json(listed)["data"]
        except (ValueError, RecursionError, LookupError, TypeError):
            raise Fault("no list of models") from None
        named = (model for model in found if isinstance(model, dict) and isinstance(model.get("id"), str))
        return [model for model in named if server.has(model["id"])]

    async def _respond(
        self,
        body: bytes,
        server: Server,
        path: str,
        timeout: aiohttp.ClientTimeout | None,
        headers: Mapping[str, str],
    ) -> aiohttp.ClientResponse:
        """A response, on a fresh connection where idle ones turn out to have been closed: what they were sent, nobody read."""
        loop = asyncio.get_running_loop()
        while True:
            connection, start = Connection(), loop.time()
            _connection.set(connection)
            try:
                return await self._session.post(
                    f"{server.url}{path}",
                    data=body if len(body) < _PIECES else io.BytesIO(body),
                    headers={"Content-Type": "application/json", **_key(server), **headers},
                    allow_redirects=False,
                    timeout=timeout or self._session.timeout,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if connection.reused and loop.time() - start < _STALE_S:
                    continue
                raise self.broken(error, billed=not isinstance(error, aiohttp.ClientConnectorError)) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self.broken(error, billed=True) from None

    async def _bounded(self, response: aiohttp.ClientResponse, most: int, cut: bool = False) -> bytes:
        """A response's body, up to a limit; beyond it a fault, or what there is so far."""
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            parts.append(part)
            if size > most:
                response.close()
                if not cut:
                    raise Fault(f"an answer of more than {most} bytes", billed=True)
                break
        return b"".join(parts)

    def redacted(self, line: bytes) -> bytes:
        """A line of a stream that holds no sample, without keys."""
        return redact(line.decode(errors="surrogateescape"), *self._keys).encode(errors="surrogateescape")

    @staticmethod
    def broken(error: Exception, billed: bool = False) -> Fault:
        """The fault behind a connection that failed; what was sent may have been worked for."""
        if isinstance(error, TimeoutError):
            return Fault("time-out", billed=True)
        # No address, which is the operator's alone.
        what = "cannot connect" if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
        return Fault(f"no connection: {what}", billed=billed)


def _key(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.key}"} if server.key else {}


@dataclass
class Connection:
    """What is known of the connection that a request went over."""

    reused: bool = False


_connection: ContextVar[Connection] = ContextVar("connection")  # of the request that is being sent


class _Connector(aiohttp.TCPConnector):
    """Tells a request whether its connection has served another one, which the callbacks of a trace would cost more to say."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._seen: WeakSet[asyncio.BaseProtocol] = WeakSet()

    async def connect(self, req, traces, timeout):
        connection = await super().connect(req, traces, timeout)
        if (known := _connection.get(None)) is not None:
            known.reused = connection.protocol in self._seen
        self._seen.add(connection.protocol)
        return connection


def _told(response: aiohttp.ClientResponse, said: str) -> Fault:
    """The fault behind a status that is not 200, with what a client may know of it: what is wrong with its own request."""
    status, about_request = response.status, (400, 404, 409, 413, 422)
    return status_fault(status, said if status in about_request else "", response.headers.get("Retry-After"))
