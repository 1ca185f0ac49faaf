"""Endpoints: every route knows who asks, bounds what it reads and how many it answers, and errs in the protocol's own form."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from alloc_jax.collect.replies import Fault
from alloc_jax.serve.tickets import Refused
from alloc_jax.serve.web.operate.traces import Traces
from alloc_jax.serve.web.protocol import STATUS, error_body, fault_status, json_bytes

_log = logging.getLogger("alloc_jax.serve")


class Unknown(Exception):
    """Somebody whose key nobody has."""


def reply(body, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON."""
    return Response(json_bytes(body), status, headers=dict(headers or {}), media_type="application/json")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all endpoints of a gateway share.

    Args:
      whole_s: that a request may take, from its key to the last byte that its client reads.
      count: called with the status of every response.
      note: called with what is known of every request, after its last byte.
      traces: what is known of it while it lasts.
    """

    whole_s: float
    count: Callable[[int], None]
    note: Callable[[dict[str, Any]], None]
    traces: Traces


class Endpoint:
    """A route as an ASGI application, from its key to the last byte of its answer.

    Every request has an id, which its answer's header `x-request-id` says. A route leaves what it did in `request.state.said`.

    Args:
      route: from a request, its tenant and what is to be closed after the last byte, to a response.
      keys: tenants by key; none: everybody is `default`.
      shared: with the other endpoints.
      error: the body of an error, from its status and what is wrong.
    """

    def __init__(
        self,
        route: Callable[[Request, str, AsyncExitStack], Awaitable[Response]],
        keys: Mapping[str, str] | None,
        shared: Shared,
        error: Callable[[int, str], Any] = error_body,
    ):
        self.route, self.keys, self.shared, self.error = route, keys, shared, error

    async def __call__(self, scope, receive, send) -> None:
        request, start = Request(scope, receive), time.monotonic()
        request.state.id = uuid.uuid4().hex
        request.state.said = said = {"id": request.state.id, "path": scope["path"]}
        if (own := request.headers.get("x-request-id")) is not None:
            said["client_id"] = own[:128]
        try:
            with suppress(TimeoutError), self.shared.traces.request(request, said):  # late: the client reads too slowly
                async with AsyncExitStack() as stack, asyncio.timeout(self.shared.whole_s):
                    try:
                        said["tenant"] = tenant = tenant_of(request, self.keys)
                        response = await self.route(request, tenant, stack)
                    except Exception as error:
                        said["error"] = str(error)[:200] or type(error).__name__
                        response = failed(error, self.error)
                    said["status"] = response.status_code
                    self.shared.count(response.status_code)
                    response.headers["x-request-id"] = request.state.id
                    await response(scope, receive, send)
        finally:
            self.shared.note({**said, "seconds": round(time.monotonic() - start, 4)})


def tenant_of(request: Request, keys: Mapping[str, str] | None) -> str:
    """Who asks, by the bearer token, or by `x-api-key` where there is none.

    Raises:
      Unknown: nobody that is known. Every key is compared, each in constant time.
    """
    if not keys:
        return "default"
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        scheme, token = "bearer", request.headers.get("x-api-key", "")
    found = None
    for key, tenant in keys.items():
        if hmac.compare_digest(key.encode(), token.strip().encode()):
            found = tenant
    if found is None or scheme.lower() != "bearer":
        raise Unknown
    return found


def failed(error: Exception, body: Callable[[int, str], Any] = error_body) -> Response:
    """What a client is told of an error."""
    wait = None
    if isinstance(error, Refused):
        status, message, wait = STATUS[error.reason], str(error), error.retry_after
    elif isinstance(error, Fault):
        (status, wait), message = fault_status(error), f"the upstream gave no answer: {error}"
    elif isinstance(error, Unknown):
        status, message = 401, "no such key"
    elif isinstance(error, ClientDisconnect):
        status, message = 400, "the client left before its request was whole"
    else:
        _log.error("a request failed", exc_info=error)
        status, message = 500, "the gateway failed; its log says how"
    headers = {} if wait is None else {"Retry-After": str(max(round(min(wait, 1e9)), 1))}
    return reply(body(status, message), status, headers)


async def body_of(request: Request, most: int, within_s: float) -> bytes:
    """A request's body, up to a size and within a time.

    Raises:
      Refused: it is larger, or takes longer.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused("large", f"a request has at most {most} bytes")
                parts.append(part)
    except TimeoutError:
        raise Refused("late", f"the request's body did not come within {within_s:g} s") from None
    return b"".join(parts)


@asynccontextmanager
async def listening(request: Request) -> AsyncIterator[None]:
    """End what is done inside as soon as the client has left.

    Raises:
      ClientDisconnect: it has.
    """
    task, left = asyncio.current_task(), False

    async def listen() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    listener = asyncio.create_task(listen())
    try:
        yield
        if left:
            await asyncio.sleep(0)  # where the cancellation comes in
    except asyncio.CancelledError:
        if left and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        if not left:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener
