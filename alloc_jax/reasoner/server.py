"""The built-in reasoner behind the OpenAI protocol: a server to collect from and to put a gateway before, without any download.

    alloc reasoner --size=large --port=8000

A prompt is the last message as it stands, so a source's recipe says `"prompt": "T{question}="` to have the model think and
`"prompt": "D{question}="` for the answer alone. It honours n, seed, temperature, max_tokens and usage; with equal seeds,
the j-th choice is equal whatever else is being asked. For a server that is not ours, see `alloc_jax.reasoner.export`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from alloc_jax.reasoner.arithmetic import ALPHABET, END, PAD, decode
from alloc_jax.reasoner.sampler import sample
from alloc_jax.reasoner.weights import load_weights

_BATCH = 16  # samples written at once
_LONGEST = 64  # tokens of a sample
_PROMPT = 96  # characters of a prompt
_CHOICES = 64


@dataclass(frozen=True)
class SampleJob:
    """One sample to write."""

    prompt: str
    temperature: float
    limit: int
    seed: int
    done: asyncio.Future


class ReasonerServer:
    """Writes what is asked for in batches, one at a time, in a thread of its own."""

    def __init__(self, size: str = "large"):
        self.size = size
        self.config, self.params = load_weights(size)
        self.fresh = itertools.count(time.time_ns() % 2**31)  # seeds of requests that bring none
        self.waiting: list[SampleJob] = []
        self.woken = asyncio.Event()

    def app(self) -> Starlette:
        """The ASGI application."""

        @asynccontextmanager
        async def lifespan(app):
            with ThreadPoolExecutor(1) as thread:
                writer = asyncio.create_task(self._write(thread))
                yield
                writer.cancel()

        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/health", self.health),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def health(self, request: Request) -> JSONResponse:
        """That it is up."""
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> JSONResponse:
        """Its one model."""
        return JSONResponse({"object": "list", "data": [{"id": self.size, "object": "model", "owned_by": "alloc_jax"}]})

    async def chat(self, request: Request) -> JSONResponse:
        """Answer a conversation."""
        try:
            prompt, n, temperature, limit, seed = self._read(json.loads(await request.body()))
        except ValueError as error:
            return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error", "code": 400}}, 400)
        seed = next(self.fresh) if seed is None else seed
        loop = asyncio.get_running_loop()
        jobs = [SampleJob(prompt, temperature, limit, hash((seed, j)) % 2**31, loop.create_future()) for j in range(n)]
        self.waiting += jobs
        self.woken.set()
        written = await asyncio.gather(*(job.done for job in jobs))
        choices = [
            {
                "index": j,
                "message": {"role": "assistant", "content": decode(codes)},
                "finish_reason": "stop" if len(codes) and codes[-1] == END else "length",
            }
            for j, codes in enumerate(written)
        ]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(map(len, written))}
        usage["total_tokens"] = sum(usage.values())
        head = {"id": "chatcmpl-reasoner", "object": "chat.completion", "created": int(time.time()), "model": self.size}
        return JSONResponse({**head, "choices": choices, "usage": usage})

    def _read(self, body: Any) -> tuple[str, int, float, int, int | None]:
        """What a request asks for: prompt, n, temperature, token limit, seed.

        Raises:
          ValueError: it asks for what there is not.
        """
        if not isinstance(body, dict) or body.get("model") != self.size:
            raise ValueError(f"the model is {self.size!r}")
        try:
            prompt = body["messages"][-1]["content"]
        except (LookupError, TypeError):
            raise ValueError("messages: expected a list of at least one message") from None
        if not isinstance(prompt, str) or not 0 < len(prompt) <= _PROMPT or set(prompt) - set(ALPHABET[1:]):
            raise ValueError(f"the model reads up to {_PROMPT} characters of {ALPHABET[1:]}, got {prompt!r}")
        if body.get("stream"):
            raise ValueError("stream: there is none")
        n, temperature = body.get("n") or 1, body.get("temperature")
        temperature = 1.0 if temperature is None else temperature
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or _LONGEST
        seed = body.get("seed")
        if not isinstance(n, int) or not 1 <= n <= _CHOICES or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"n is 1 to {_CHOICES} and max_tokens at least 1, got {n!r} and {limit!r}")
        if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 10:
            raise ValueError(f"temperature is 0 to 10, got {temperature!r}")
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"seed is a whole number, got {seed!r}")
        return prompt, n, float(temperature), min(limit, _LONGEST), seed

    async def _write(self, thread: ThreadPoolExecutor) -> None:
        """Take what waits, batch after batch."""
        loop = asyncio.get_running_loop()
        while True:
            await self.woken.wait()
            self.woken.clear()
            while self.waiting:
                same = self.waiting[0].temperature
                batch = [job for job in self.waiting if job.temperature == same][:_BATCH]
                taken = set(map(id, batch))
                self.waiting = [job for job in self.waiting if id(job) not in taken]
                for job, codes in zip(batch, await loop.run_in_executor(thread, self._sample, batch), strict=True):
                    if not job.done.done():  # whoever asked may have left
                        job.done.set_result(codes)

    def _sample(self, batch: list[SampleJob]) -> list[np.ndarray]:
        """The codes of each job, without padding and up to its limit."""
        keys = jax.vmap(jax.random.key)(np.array([job.seed for job in batch], np.uint32))
        codes: dict[int, np.ndarray] = {}
        for rows, written in sample(
            self.config,
            self.params,
            [job.prompt for job in batch],
            keys,
            samples=1,
            max_tokens=_LONGEST,
            temperature=batch[0].temperature,
            batch=_BATCH,
        ):
            codes |= {row: line[0] for row, line in zip(rows, written, strict=True)}
        return [codes[i][codes[i] != PAD][: job.limit] for i, job in enumerate(batch)]
