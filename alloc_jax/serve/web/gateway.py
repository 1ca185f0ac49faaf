"""The gateway: an OpenAI-compatible server that decides how much compute a question gets, and passes the rest through.

    model "alloc/auto"           the policy decides
    model "alloc/vote(think,8)"  the client decides, where its tenant may
    any other model              goes to the upstream as it is, where its tenant may

A request may say `alloc: {"budget": 2.0, "max_samples": 8, "gradable": true}`. The response's headers say what was done
(`x-alloc-action`, `x-alloc-samples`, `x-alloc-vote-share`, `x-alloc-verdict`, `x-alloc-multiplier`, `x-alloc-policy`, `x-alloc-fallback`,
`x-alloc-early`, `x-alloc-ignored`), and with the request header `x-alloc-debug: true` why. `usage` is the sum over all
samples. An answer that is one sample from the start is sent on as the upstream gives it, and streamed as it comes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from alloc_jax.collect.replies import Fault, Usage
from alloc_jax.serve.core import Core
from alloc_jax.serve.tickets import ADMIN, CHAT, AnswerRequest, Refused, Ticket
from alloc_jax.serve.traffic.outcomes import post_outcomes
from alloc_jax.serve.traffic.watching import Watch
from alloc_jax.serve.verdicts.judges import Judge
from alloc_jax.serve.web.answer_keys import AnswerKeys
from alloc_jax.serve.web.answering import Answer, answer, one_sample
from alloc_jax.serve.web.dialects.message_events import Messages, message_error
from alloc_jax.serve.web.dialects.messages import chat_of_message
from alloc_jax.serve.web.dialects.response_events import Responses
from alloc_jax.serve.web.dialects.responses import chat_request
from alloc_jax.serve.web.fair_shares import Fair, Pool
from alloc_jax.serve.web.middleware import Endpoint, Shared, body_of, listening, reply
from alloc_jax.serve.web.operate.metrics import Metrics
from alloc_jax.serve.web.operate.request_log import RequestLog
from alloc_jax.serve.web.operate.routes import Operating, described
from alloc_jax.serve.web.operate.traces import Traces
from alloc_jax.serve.web.protocol import (
    Chat,
    Dialect,
    Writer,
    answered,
    chunks_of,
    error_body,
    headers_of,
)
from alloc_jax.serve.web.proxy import pass_through, relay_one
from alloc_jax.serve.web.request_bodies import (
    PREFIX,
    read_body,
    read_conversation,
    read_object,
    read_passed,
    read_question,
    unheard,
)
from alloc_jax.serve.web.upstream import Upstream
from alloc_jax.serve.web.upstream_usage import Drawn, settle

_AT_ONCE = 512  # characters of a question that are read in the event loop
_LONG = 1 << 16  # bytes of a request from which it is read in a thread
_log = logging.getLogger("alloc_jax.serve")


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """What a gateway is told beside its policy."""

    keys: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # bearer token -> tenant; none: everybody is `default`
    admin_key: str | None = field(
        default=None, repr=False
    )  # sees the figures of all tenants; None: nobody, where there are keys
    answer: str = "number"  # how answers are read: as the policy's log was graded
    answer_pattern: str | None = None
    probe: bool = True  # the first sample tells whether there is anything to vote on, before the others are drawn
    abstain_text: str = ""
    max_body: int = 1 << 20  # bytes of a request
    max_requests: int = 512  # that are answered at a time, streams included
    max_n: int = 16  # of requests that pass through
    body_s: float = 30.0  # until a request's body is whole
    deadline_s: float = 600.0  # of an answer; then the samples that came have to do
    read_s: float = 300.0  # beyond the deadline, for a client to read its answer
    watch_s: float = 300.0  # between two looks for drift
    request_log: str | None = None  # a file that gets a line for every request; "-": the standard output
    traces: Traces = field(default_factory=Traces)


class Gateway:
    """The routes of one gateway.

    Args:
      core: decides.
      upstream: answers; opened and closed with the application.
      config: the rest.
      remake: a core of the files that are there now; None where there are none.
      drift: alarms; None: nobody watches.
    """

    def __init__(
        self,
        core: Core,
        upstream: Upstream,
        config: GatewayConfig | None = None,
        remake: Callable[[], Core] | None = None,
        drift: Watch | None = None,
    ):
        self.core, self.upstream, self.remake, self.drift = core, upstream, remake, drift
        self.config = config or GatewayConfig()
        upstream.traces = self.config.traces
        tenants = tuple(core.tenants)
        self.keys = AnswerKeys(self.config.answer, self.config.answer_pattern, tenants)
        self.places = Fair(self.config.max_requests, tenants)
        self.readers = Pool(2, tenants)  # of long questions and requests
        self.metrics = Metrics(core, upstream)
        self.operating, self.log = Operating(self), RequestLog(self.config.request_log)
        self.judge = None if core.verifier is None else Judge(core.verifier)

    def app(self) -> Starlette:
        """The ASGI application."""

        @asynccontextmanager
        async def lifespan(app):
            async with self.upstream, self.judge or nullcontext():
                tasks = [asyncio.create_task(self._settle_late()), asyncio.create_task(self._look_for_drift())]
                self.operating.listen()
                yield
                for task in tasks:
                    task.cancel()
            self.core.retry()
            self.readers.close()
            self.keys.close()
            self.log.close()

        keys, admin = dict(self.config.keys), self.config.admin_key
        everyone = keys | ({admin: ADMIN} if admin and keys else {})
        whole = self.config.body_s + self.config.deadline_s + self.config.read_s

        def count(status: int) -> None:
            self.metrics.responses.labels(str(status)).inc()

        shared = Shared(whole_s=whole, count=count, note=self.log.note, traces=self.config.traces)
        quiet = replace(shared, note=lambda said: None, traces=Traces())  # what is asked every few seconds

        def endpoint(route, keys, shared=shared, **more) -> Endpoint:
            return Endpoint(route, keys, shared, **more)

        async def no_route(request: Request, error: HTTPException) -> Response:
            count(error.status_code)
            return reply(error_body(error.status_code, error.detail), error.status_code, error.headers)

        routes = [
            Route("/v1/chat/completions", endpoint(self.chat, keys), methods=["POST"]),
            Route("/v1/responses", endpoint(self.responses, keys), methods=["POST"]),
            Route("/v1/messages", endpoint(self.messages, keys, error=message_error), methods=["POST"]),
            Route("/v1/completions", endpoint(self.others, keys), methods=["POST"]),
            Route("/v1/embeddings", endpoint(self.others, keys), methods=["POST"]),
            Route("/v1/alloc/outcomes", endpoint(self.outcomes, everyone), methods=["POST"]),
            Route("/v1/models/{name:path}", endpoint(self.model, keys), methods=["GET"]),
            Route("/v1/models", endpoint(self.models, keys), methods=["GET"]),
            Route("/v1/alloc/spend", endpoint(self.operating.spend, everyone), methods=["GET"]),
            Route("/v1/alloc/reload", endpoint(self.operating.reload, everyone), methods=["POST"]),
            Route("/metrics", endpoint(self.exposition, everyone, quiet), methods=["GET"]),
            Route("/health", endpoint(self.operating.health, None, quiet), methods=["GET"]),
            Route("/ready", endpoint(self.operating.ready, None, quiet), methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {HTTPException: no_route}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    async def chat(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Answer a conversation."""
        body, identity = await self._asked(request, tenant, stack)
        read_conversation(body)
        if body["model"].startswith(PREFIX):
            return await self._allocated(request, read_question(body, identity, tenant), Chat(), stack)
        return await pass_through(self, request, read_passed(body, identity, tenant, self.config.max_n), stack)

    async def responses(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Answer a request for a response, by a chat completion."""
        (asked, body, ignored), identity = await self._asked(request, tenant, stack, _read_response)
        return await self._translated(request, tenant, stack, body, Responses(asked, identity), ignored)

    async def messages(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Answer a request for a message, by a chat completion."""
        (body, ignored), identity = await self._asked(request, tenant, stack, _read_message)
        return await self._translated(request, tenant, stack, body, Messages(identity), ignored)

    async def others(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Pass completions and embeddings through, for models of the upstream alone."""
        body, identity = await self._asked(request, tenant, stack)
        path = request.url.path.removeprefix("/v1")
        return await pass_through(self, request, read_passed(body, identity, tenant, self.config.max_n, path), stack)

    async def outcomes(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """Take verdicts on a tenant's own answers; from the operator, and where there are no keys, on anybody's."""
        if self.core.recorder is None:
            raise Refused("unknown", "no decisions are recorded here: --traffic names the file")
        raw = await body_of(request, self.config.max_body, self.config.body_s)
        whose = tenant if self.config.keys and tenant != ADMIN else None
        return reply(post_outcomes(self.core.recorder.log, read_object(raw), whose))

    async def models(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """List what can be asked for: the policy's own names, and the upstream's models where it says them."""
        listed = self._own_models(tenant)
        with suppress(Fault):  # /health says so
            listed += await self._other_models(tenant)
        return reply({"object": "list", "data": listed})

    async def model(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """One of these."""
        name = request.path_params["name"]
        found = [model for model in self._own_models(tenant) if model["id"] == name]
        found = found or [model for model in await self._other_models(tenant) if model["id"] == name]
        if not found:
            raise Refused("unknown", f"there is no model {name[:200]!r}")
        return reply(found[0])

    async def exposition(self, request: Request, tenant: str, stack: AsyncExitStack) -> Response:
        """The metrics: a tenant's own, or all to the operator, and to anybody where there are no keys."""
        whose = tenant if self.config.keys and tenant != ADMIN else None
        return Response(self.metrics.text(whose), media_type="text/plain; version=0.0.4; charset=utf-8")

    # -----------------------------------------------------------------------------------------------------------

    def _own_models(self, tenant: str) -> list[dict[str, Any]]:
        actions = self.core.actions if self.core.tenants[tenant].forced else ()
        own = [f"{PREFIX}auto", *(f"{PREFIX}{name}" for name in actions)]
        return [{"id": name, "object": "model", "created": 0, "owned_by": "alloc_jax"} for name in own]

    async def _other_models(self, tenant: str) -> list[dict[str, Any]]:
        allowed = self.core.tenants[tenant].models
        return [model for model in await self.upstream.models() if allowed is None or model["id"] in allowed]

    async def _asked(
        self, request: Request, tenant: str, stack: AsyncExitStack, read: Callable[[bytes], Any] = read_body
    ) -> tuple[Any, str]:
        """What a request says, and a name for it."""
        raw = await body_of(request, self.config.max_body, self.config.body_s)
        stack.enter_context(self._place(tenant))  # a request that is not whole takes none
        said = read(raw) if len(raw) < _LONG else await self.readers.run(tenant, read, raw)
        return said, request.state.id

    async def _translated(
        self,
        request: Request,
        tenant: str,
        stack: AsyncExitStack,
        body: dict[str, Any],
        dialect: Dialect,
        ignored: tuple[str, ...],
    ) -> Response:
        """Answer a request that was asked in another dialect than its chat completion."""
        read_conversation(body)
        identity = request.state.id
        if body["model"].startswith(PREFIX):
            return await self._allocated(request, read_question(body, identity, tenant, ignored), dialect, stack)
        return await pass_through(self, request, read_passed(body, identity, tenant, 1, CHAT, ignored), stack, dialect)

    async def _allocated(
        self, request: Request, question: AnswerRequest, dialect: Dialect, stack: AsyncExitStack
    ) -> Response:
        start, core = time.perf_counter(), self.core
        prediction = None
        if len(question.text) > _AT_ONCE:
            prediction = await self.readers.run(question.tenant, core.predict, question)
        with self.config.traces.step("decide"):
            ticket = core.admit(question, prediction)
        self.metrics.deciding.observe(time.perf_counter() - start)
        config, drawn = self.config, Drawn()
        stack.callback(self.watch(request, ticket, drawn))
        debug = request.headers.get("x-alloc-debug") == "true"
        if question.stream and ticket.one:
            relay = await relay_one(self, core, request, ticket, drawn, dialect, stack)
            if relay is not None:
                given = one_sample(ticket, drawn)
                self.metrics.count_answer(ticket, given)
                headers = _headers(core, ticket, given, debug)
                return StreamingResponse(relay.events(), media_type="text/event-stream", headers=headers)
        try:
            async with listening(request):
                given = await answer(
                    core,
                    self.upstream,
                    ticket,
                    self.keys,
                    drawn,
                    judge=self.judge,
                    probe=config.probe,
                    deadline_s=config.deadline_s,
                    abstain_text=config.abstain_text,
                )
        finally:
            self.metrics.count_drawn(ticket, drawn)
        self.metrics.count_answer(ticket, given)
        core.learn(ticket, given.samples, given.verdict, drawn.cost)
        headers, said = _headers(core, ticket, given, debug), answered(question.id, ticket, given)
        if not question.stream:
            return reply(dialect.whole(said, given.usage), headers=headers)
        writer = dialect.writer(question.id, said["model"], question.with_usage)
        return StreamingResponse(_written(said, given.usage, writer), media_type="text/event-stream", headers=headers)

    def close_ticket(self, core: Core, ticket: Ticket, drawn: Drawn, start: float) -> None:
        """Settle and count what came for a ticket of a core since a time of the monotonic clock."""
        settle(core, ticket, drawn, time.monotonic() - start)
        self.metrics.count_drawn(ticket, drawn)

    @staticmethod
    def watch(request: Request, ticket: Ticket, drawn: Drawn) -> Callable[[], None]:
        """Called when a ticket is settled, it leaves what came for it in the request's log."""
        return lambda: request.state.said.update(described(ticket, drawn))

    @contextmanager
    def _place(self, tenant: str) -> Iterator[None]:
        """A place among the requests that are answered at a time.

        Raises:
          Refused: there is none for this tenant.
        """
        if not self.places.take_now(tenant):
            raise Refused("busy", f"{self.places.held[tenant]} requests are being answered already", 1.0)
        busy, start = self.metrics.busy.labels(tenant), time.monotonic()
        busy.inc()
        try:
            yield
        finally:
            self.places.give(tenant)
            busy.dec()
            self.metrics.answering.observe(time.monotonic() - start)

    async def _settle_late(self) -> None:
        """Settle again and again what the ledger could not take, and what another process left open when it died."""
        while True:
            await asyncio.sleep(1.0)
            self.core.retry()
            if self.core.ledger.store.owner is not None:
                await asyncio.to_thread(self.core.settle_lost)

    async def _look_for_drift(self) -> None:
        """Look for drift again and again."""
        while self.drift is not None:
            await asyncio.sleep(self.config.watch_s)
            await asyncio.to_thread(self.drift.look, [(t.name, t.budget) for t in self.core.tenants.values()])
            self.metrics.show_drift(self.drift)


def _headers(core: Core, ticket: Ticket, given: Answer, debug: bool) -> dict[str, str]:
    return headers_of(ticket, given, core.policy.name, unheard(ticket, core.recipes), debug)


def _read_message(raw: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A request for a message as that for a chat completion, and the parameters that are not honoured."""
    return chat_of_message(read_body(raw))


def _read_response(raw: bytes) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """A request for a response, that for a chat completion, and the parameters that are not honoured."""
    asked = read_body(raw)
    return asked, *chat_request(asked)


async def _written(body: dict[str, Any], usage: Usage, writer: Writer) -> AsyncIterator[bytes]:
    """A completion as a stream, though it is all there."""
    for chunk in chunks_of(body):
        yield writer.chunk(chunk)
    yield writer.end(usage)
