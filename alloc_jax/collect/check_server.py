"""What a server honours of what a request says: asked of the server itself, because they ignore silently."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from alloc_jax.collect.collector import CollectConfig, client_of, request
from alloc_jax.collect.replies import Fault

_PROMPT = "Write a random word, and then another random word."


class Finding(NamedTuple):
    """One feature of the protocol."""

    feature: str
    honoured: bool | None  # None where it could not be told
    evidence: str


def check_server(config: CollectConfig, model: str, prompt: str = _PROMPT, max_tokens: int = 24) -> list[Finding]:
    """Ask a server about twenty small requests, and say what it honours.

    Args:
      config: how to reach it.
      model: as the server names it.
      prompt: something to which the model has more than one answer.
      max_tokens: of each answer.

    Raises:
      Fault: the server does not answer the plainest request.
    """
    return asyncio.run(_Check(model, prompt, max_tokens).all(config))


def format_findings(findings: list[Finding]) -> str:
    """The findings as a table."""
    word = {True: "yes", False: "no", None: "?"}
    return "\n".join(f"{f.feature:<14} {word[f.honoured]:<4} {f.evidence}" for f in findings)


class _Check:
    def __init__(self, model: str, prompt: str, max_tokens: int):
        self.plain = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 1.0,
        }

    async def all(self, config: CollectConfig) -> list[Finding]:
        async with client_of(config) as self.client:
            await self.ask()  # raises where nothing works
            probes = (self.choices, self.seed, self.temperature, self.logprobs, self.usage, self.limit, self.stream)
            return [await self.guarded(probe) for probe in probes]

    async def ask(self, times: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """The bodies of the answers to equal requests, one after the other."""
        return [json.loads((await request(self.client, {**self.plain, **fields})).text) for _ in range(times)]

    async def guarded(self, probe: Callable) -> Finding:
        try:
            return Finding(probe.__name__, *await probe())
        except Fault as fault:
            return Finding(probe.__name__, False, str(fault))

    async def choices(self) -> tuple[bool, str]:
        got = len((await self.ask(n=4))[0]["choices"])
        return got == 4, f"asked for n=4, got {got} choice{'s' * (got != 1)}"

    async def seed(self) -> tuple[bool | None, str]:
        equal = {_text(body) for body in await self.ask(3, seed=11)}
        others = {_text((await self.ask(seed=seed))[0]) for seed in (12, 13, 14)}
        if len(equal) == 1 and len(others | equal) == 1:
            return None, "every answer is the same text, whatever the seed"
        return len(equal) == 1, f"3 answers to one seed: {len(equal)} texts; 3 to other seeds: {len(others)}"

    async def temperature(self) -> tuple[bool, str]:
        cold = {_text(body) for body in await self.ask(3, temperature=0.0)}
        hot = {_text(body) for body in await self.ask(4, temperature=1.0)}
        said = f"3 answers at 0: {len(cold)} text{'s' * (len(cold) > 1)}; 4 at 1: {len(hot)}"
        return len(cold) == 1 and len(hot) > 1, said

    async def logprobs(self) -> tuple[bool, str]:
        choice = (await self.ask(logprobs=True, top_logprobs=2))[0]["choices"][0]
        inside = (choice.get("logprobs") or {}).get("content") or []
        return bool(inside), f"{len(inside)} tokens with logprobs"

    async def usage(self) -> tuple[bool, str]:
        usage = (await self.ask())[0].get("usage") or {}
        whole = bool(usage.get("prompt_tokens")) and usage.get("completion_tokens") is not None
        reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
        return whole, f"{usage.get('prompt_tokens')} + {usage.get('completion_tokens')} tokens, reasoning {reasoning}"

    async def limit(self) -> tuple[bool | None, str]:
        body = (await self.ask(max_tokens=2))[0]
        used, reason = (body.get("usage") or {}).get("completion_tokens"), body["choices"][0].get("finish_reason")
        return None if used is None else used <= 2, f"max_tokens=2: {used} tokens, finish_reason {reason!r}"

    async def stream(self) -> tuple[bool, str]:
        raw = await request(self.client, {**self.plain, "stream": True, "stream_options": {"include_usage": True}})
        events = [line[5:] for line in raw.text.splitlines() if line.startswith("data:")]
        chunks = [json.loads(event) for event in events if event.strip() != "[DONE]"]
        usage = any(chunk.get("usage") for chunk in chunks)
        return bool(chunks), f"{len(chunks)} chunks, usage {'in the last' if usage else 'missing'}"


def _text(body: dict[str, Any]) -> str | None:
    return body["choices"][0]["message"]["content"]
