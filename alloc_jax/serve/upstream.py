"""The upstream: samples from an OpenAI-compatible server, retried where that helps and counted whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from alloc_jax.collect.recipes import Recipe
from alloc_jax.collect.replies import Choice, Fault, Usage, read_reply, status_fault

_PAUSE = 0.05  # seconds before the first retry; doubles with each
_LONGEST_PAUSE = 2.0
_COUNTS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")


@dataclass
class Drawn:
    """What came from upstream for one action."""

    choices: list[Choice] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)  # of each reply
    faults: list[Fault] = field(default_factory=list)  # every one on the way, retried or not
    requests: int = 0  # that were made, without the retries
    uncounted: int = 0  # samples that may have been generated and charged, but were never received

    @property
    def usage(self) -> Usage:
        """The sum over the replies; None where one of them does not say."""
        sums = {}
        for name in _COUNTS:
            counts = [getattr(usage, name) for usage in self.usages]
            sums[name] = sum(counts) if counts and None not in counts else None
        return Usage(**sums)

    @property
    def known(self) -> tuple[float, float]:
        """Prompt and completion tokens as far as the upstream said them."""
        return tuple(sum(getattr(u, name) or 0 for u in self.usages) for name in ("prompt_tokens", "completion_tokens"))


class Upstream:
    """A client of one server; use in an `async with` block.

    Args:
      url: its base, with /v1.
      key: sent as a bearer token; None sends none.
      attempts: at one request, the first included.
      timeout_s: of one attempt.
      concurrency: requests at a time, over everything the gateway does.
    """

    def __init__(
        self, url: str, key: str | None = None, *, attempts: int = 3, timeout_s: float = 600.0, concurrency: int = 512
    ):
        self.url, self.attempts, self.timeout_s = url.rstrip("/"), attempts, timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._slots = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Upstream:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self.timeout_s),
            connector=aiohttp.TCPConnector(limit=0),  # the semaphore bounds
        )
        return self

    async def __aexit__(self, *exc) -> None:
        await self._session.close()

    async def draw(
        self,
        recipe: Recipe,
        messages: Sequence[Mapping[str, Any]],
        samples: int,
        into: Drawn,
        *,
        seed: Callable[[int], int],
        extra: Mapping[str, Any] | None = None,
        allow: Callable[[int], bool] = lambda samples: True,
    ) -> None:
        """Draws samples at once, asking again for those that a server leaves out.

        Args:
          recipe: how to ask.
          messages: the conversation.
          samples: how many.
          into: what came, as it comes; nothing of it is lost where this is cancelled.
          seed: of the j-th request; equal ones would give equal samples.
          extra: further fields of the request.
          allow: asked before samples are drawn again that may have been charged for; False gives them up.
        """
        left = samples
        while left:
            sizes = [min(recipe.n, left - at) for at in range(0, left, recipe.n)]
            seeds = [seed(into.requests + j) for j in range(len(sizes))]
            into.requests += len(sizes)
            asked = [self._some(recipe, messages, *pair, into, extra, allow) for pair in zip(sizes, seeds, strict=True)]
            left = sum(await asyncio.gather(*asked))

    async def _some(self, recipe, messages, n: int, seed: int, into: Drawn, extra, allow) -> int:
        """One request; how many of its samples may still be asked for: those that a short reply left out."""
        body = recipe.body(messages, n, seed) | dict(extra or {})
        for attempt in range(self.attempts):
            try:
                reply = read_reply(await self.post(body), n)
            except Fault as fault:
                into.faults.append(fault)
                into.uncounted += n * fault.billed
                if fault.final or attempt + 1 == self.attempts or (fault.billed and not allow(n)):
                    break
                pause = _PAUSE * 2**attempt if fault.retry_after is None else fault.retry_after
                await asyncio.sleep(min(pause, _LONGEST_PAUSE))
            except asyncio.CancelledError:
                into.uncounted += n
                raise
            else:
                into.choices += reply.choices
                into.usages.append(reply.usage)
                return n - len(reply.choices)
        return 0

    async def post(self, body: Mapping[str, Any]) -> bytes:
        """The body of a response whose status says 200.

        Raises:
          Fault: there is none.
        """
        async with self.opened(body) as response:
            try:
                return await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _broken(error, begun=True) from None

    @asynccontextmanager
    async def opened(self, body: Mapping[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose status says 200, with its body still to be read.

        Raises:
          Fault: there is none.
        """
        async with self._slots:
            try:
                response = await self._session.post(f"{self.url}/chat/completions", json=body)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _broken(error) from None
            async with response:
                if response.status != 200:
                    try:
                        said = await response.text(errors="replace")
                    except (aiohttp.ClientError, TimeoutError) as error:
                        raise _broken(error, begun=True) from None
                    raise status_fault(response.status, said, response.headers.get("Retry-After"))
                yield response

    async def models(self) -> list[dict[str, Any]]:
        """What the server lists at /models.

        Raises:
          Fault: it does not answer.
        """
        try:
            async with self._session.get(f"{self.url}/models", timeout=aiohttp.ClientTimeout(total=5)) as response:
                if response.status != 200:
                    raise status_fault(response.status, await response.text(errors="replace"))
                listed = (await response.json(content_type=None)).get("data")
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            raise _broken(error) from None
        return [model for model in listed or () if isinstance(model, dict) and isinstance(model.get("id"), str)]


def _broken(error: Exception, begun: bool = False) -> Fault:
    """The fault behind a connection that failed; one that was there may have been worked for."""
    if isinstance(error, TimeoutError):
        return Fault("time-out", billed=True)
    refused = isinstance(error, aiohttp.ClientConnectorError) and not begun
    return Fault(f"no connection: {error or type(error).__name__}", billed=not refused)
