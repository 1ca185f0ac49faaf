"""The gateway: an OpenAI-compatible server that decides how much compute a question gets, and passes the rest through.

    model "alloc/auto"           the policy decides
    model "alloc/vote(think,8)"  the client decides
    any other model              goes to the upstream as it is

A request may say `alloc: {"budget": 2.0, "max_samples": 8}`. The response's headers say what was done (`x-alloc-action`,
`x-alloc-samples`, `x-alloc-vote-share`, `x-alloc-price`, `x-alloc-policy`), and with the request header
`x-alloc-debug: true` why. `usage` is the sum over all samples.
"""

from __future__ import annotations

import hmac
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from alloc_jax.collect.replies import Fault
from alloc_jax.serve import proxy
from alloc_jax.serve.answering import Answer, answer
from alloc_jax.serve.core import Core
from alloc_jax.serve.metrics import Metrics
from alloc_jax.serve.protocol import (
    PREFIX,
    Asked,
    completion,
    error_body,
    read_asked,
    read_body,
    streamed,
)
from alloc_jax.serve.tickets import Refused, Ticket
from alloc_jax.serve.upstream import Upstream
from alloc_jax.serve.voting import AnswerKeys


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """What a gateway is told beside its policy."""

    keys: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # bearer token -> tenant; none: everybody is `default`
    answer: str = "number"  # how answers are read: as the policy's log was graded
    answer_pattern: str | None = None
    abstain_text: str = ""
    max_body: int = 1 << 20  # bytes of a request
    max_requests: int = 512  # that are answered at a time
    max_n: int = 16  # of requests that pass through


class Gateway:
    """The routes of one gateway.

    Args:
      core: decides.
      upstream: answers; opened and closed with the application.
      config: the rest.
    """

    def __init__(self, core: Core, upstream: Upstream, config: GatewayConfig | None = None):
        self.core, self.upstream = core, upstream
        self.config = config or GatewayConfig()
        self.keys = AnswerKeys(self.config.answer, self.config.answer_pattern)
        self.metrics = Metrics(core)
        self.busy = 0

    def app(self) -> Starlette:
        """The ASGI application."""

        @asynccontextmanager
        async def lifespan(app):
            async with self.upstream:
                yield
            self.keys.close()

        routes = [
            Route("/v1/chat/completions", self._guarded(self.chat), methods=["POST"]),
            Route("/v1/models", self._guarded(self.models)),
            Route("/metrics", self._guarded(self.exposition)),
            Route("/health", self.health),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def chat(self, request: Request, tenant: str) -> Response:
        """Answers a conversation."""
        if self.busy >= self.config.max_requests:
            raise Refused(503, f"{self.busy} requests are being answered already", 1.0)
        self.busy += 1
        self.metrics.busy.inc()
        start = time.monotonic()
        try:
            body = read_body(await self._bytes(request))
            if body["model"].startswith(PREFIX):
                return await self._allocated(request, body, tenant)
            return await proxy.pass_through(self, body, tenant)
        finally:
            self.busy -= 1
            self.metrics.busy.dec()
            self.metrics.answering.observe(time.monotonic() - start)

    async def _allocated(self, request: Request, body: dict[str, Any], tenant: str) -> Response:
        asked = read_asked(body)
        identity = uuid.uuid4().hex
        start = time.perf_counter()
        ticket = self.core.admit(
            identity,
            asked.text,
            tenant=tenant,
            action=asked.action,
            budget=asked.budget,
            max_samples=asked.max_samples,
            messages=asked.messages,
            limit=asked.limit,
        )
        self.metrics.deciding.observe(time.perf_counter() - start)
        given = await answer(
            self.core,
            self.upstream,
            ticket,
            asked.messages,
            asked.text,
            keys=self.keys,
            limit=asked.limit,
            extra=asked.extra,
            abstain_text=self.config.abstain_text,
        )
        self.metrics.count_answer(ticket, given)
        headers = self._headers(ticket, given, asked, request.headers.get("x-alloc-debug") == "true")
        said = completion(identity, f"{PREFIX}{ticket.action.name}", given.text, given.finish_reason, given.usage)
        if asked.stream:
            events = streamed(said, asked.with_usage)
            return StreamingResponse(_each(events), media_type="text/event-stream", headers=headers)
        return JSONResponse(said, headers=headers)

    def _headers(self, ticket: Ticket, given: Answer, asked: Asked, debug: bool) -> dict[str, str]:
        decision = ticket.decision
        found = {
            "action": ticket.action.name,
            "samples": str(given.samples),
            "vote-share": f"{given.verdict.share:.4f}",
            "policy": self.core.policy.name,
        }
        if decision is not None:
            found["price"] = f"{decision.price:.6g}"
        if asked.ignored:
            found["ignored"] = ",".join(asked.ignored)
        if debug:
            found |= {"answers": str(given.verdict.answers), "reserved": f"{ticket.reserved:.6g}"}
            found |= {"faults": "; ".join(given.faults)} if given.faults else {}
            if decision is not None:
                found |= {"runner-up": str(decision.runner_up), "margin": f"{decision.margin:.6g}"}
                found |= {"expected": f"{ticket.expected:.6g}", "predicted": json.dumps(decision.predicted)}
        return {f"x-alloc-{name}": _ascii(value) for name, value in found.items()}

    async def models(self, request: Request, tenant: str) -> Response:
        """Lists what can be asked for: the policy's own names, and the upstream's models where it says them."""
        own = [f"{PREFIX}auto", *(f"{PREFIX}{name}" for name in self.core.actions)]
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "alloc_jax"} for name in own]
        with suppress(Fault):  # /health says so
            listed += await self.upstream.models()
        return JSONResponse({"object": "list", "data": listed})

    async def exposition(self, request: Request, tenant: str) -> Response:
        """The metrics."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def health(self, request: Request) -> Response:
        """Whether the gateway is up, which it is, and whether its upstream is."""
        try:
            await self.upstream.models()
            upstream = "ok"
        except Fault as fault:
            upstream = str(fault)
        return JSONResponse({"status": "ok", "upstream": upstream})

    # -----------------------------------------------------------------------------------------------------------

    def _guarded(self, route):
        """A route that knows who asks, and whose refusals are errors that clients can read."""

        async def guarded(request: Request) -> Response:
            try:
                response = await route(request, self._tenant(request))
            except Refused as refused:
                response = self._refusal(refused)
            except ClientDisconnect:
                response = self._refusal(Refused(400, "the client left before its request was whole"))
            self.metrics.responses.labels(str(response.status_code)).inc()
            return response

        return guarded

    def _refusal(self, refused: Refused) -> Response:
        wait = {} if refused.retry_after is None else {"Retry-After": str(max(round(refused.retry_after), 1))}
        return JSONResponse(error_body(refused.status, str(refused)), refused.status, headers=wait)

    def _tenant(self, request: Request) -> str:
        """Who asks.

        Raises:
          Refused: nobody that is known. Every key is compared, each in constant time.
        """
        if not self.config.keys:
            return "default"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        found = None
        for key, tenant in self.config.keys.items():
            if hmac.compare_digest(key.encode(), token.strip().encode()):
                found = tenant
        if found is None or scheme.lower() != "bearer":
            raise Refused(401, "no such key")
        return found

    async def _bytes(self, request: Request) -> bytes:
        """The request's body, up to its limit."""
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.config.max_body:
                raise Refused(413, f"a request has at most {self.config.max_body} bytes")
            parts.append(part)
        return b"".join(parts)


async def _each(events):
    for event in events:
        yield event


def _ascii(text: str) -> str:
    """A header holds no more than ASCII, and no line breaks."""
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ").replace("\r", " ")
