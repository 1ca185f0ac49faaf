"""Judges: a scoring server's or a command's verdict on each of some samples; None where it gave none."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from alloc_jax.collect.replies import Fault, parse_json, redact
from alloc_jax.serve.verdicts.verifier import Verifier

_LIMITED = Path(__file__).with_name("limited.py")
_MISSING = 127  # what a shell says where there is no such command
_MOST = 16 << 20  # bytes of a server's answer


class Judge:
    """Asks a verifier; use in an `async with` block.

    Args:
      verifier: that is asked.
    """

    def __init__(self, verifier: Verifier):
        self.verifier = verifier
        self._free = asyncio.Semaphore(verifier.concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Judge:
        if self.verifier.url is not None:
            timeout = aiohttp.ClientTimeout(total=self.verifier.timeout_s)
            headers = {"Authorization": f"Bearer {self.verifier.key}"} if self.verifier.key else {}
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers)
        return self

    async def __aexit__(self, *exc) -> None:
        if self._session is not None:
            await self._session.close()

    async def verdicts(
        self, question: str, messages: Sequence[Mapping[str, Any]], answers: Sequence[str]
    ) -> tuple[list[float | None], list[Fault]]:
        """The verdict on each answer of a question, and what went wrong.

        Args:
          question: the text that the policy read.
          messages: the conversation, for models that read one.
          answers: the samples' texts.
        """
        together = self.verifier.kind in ("score", "rerank", "classify")
        parts = [answers] if together else [[one] for one in answers]
        said = await asyncio.gather(*(self._said(question, messages, part) for part in parts), return_exceptions=True)
        found: list[float | None] = []
        faults = []
        for part, one in zip(parts, said, strict=True):
            if isinstance(one, Fault):
                faults.append(one)
                found += [None] * len(part)
            elif isinstance(one, BaseException):
                raise one
            else:
                found += one
        return found, faults

    async def _said(
        self, question: str, messages: Sequence[Mapping[str, Any]], answers: Sequence[str]
    ) -> list[float | None]:
        async with self._free:
            if self.verifier.command is not None:
                return [await self._ran(question, messages, answers[0])]
            asked = asked_of(str(self.verifier.kind), question, messages, answers)
            body = {**({"model": self.verifier.model} if self.verifier.model else {}), **asked}
            try:
                async with self._session.post(self.verifier.url, json=body, allow_redirects=False) as response:
                    raw = await response.content.read(_MOST)
                    if response.status != 200:
                        said = redact(raw[:200].decode(errors="replace"), self.verifier.key)
                        raise Fault(f"the verifier said HTTP {response.status}: {said}")
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Fault(f"no verdict: {type(error).__name__}") from None
            return scores_of(str(self.verifier.kind), raw, len(answers))

    async def _ran(self, question: str, messages: Sequence[Mapping[str, Any]], answer: str) -> float | None:
        """The verdict of a command on one answer: of one that is exact how it ends, else the last number that it prints."""
        verifier = self.verifier
        limits = [math.ceil(verifier.timeout_s), verifier.memory_mb << 20, verifier.output_bytes]
        said = json.dumps({"question": question, "messages": list(messages), "answer": answer}).encode()
        with (  # no pipes, which a command may close or fill
            tempfile.TemporaryDirectory(prefix="alloc-verdict-") as folder,
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
        ):
            given.write(said)
            given.seek(0)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-IS", str(_LIMITED), *map(str, limits), *(verifier.command or ())),
                stdin=given,
                stdout=out,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": folder},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(verifier.timeout_s):
                    await process.wait()
            except TimeoutError:
                return 0.0 if verifier.exact else None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and what it has started
                await process.wait()
            if process.returncode == _MISSING:
                raise Fault("the verifier's command is missing")
            if verifier.exact:
                return float(process.returncode == 0)
            out.seek(0)
            return _last_number(out.read(verifier.output_bytes))


def asked_of(kind: str, question: str, messages: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, Any]:
    """What a server of a kind is sent, but for its model."""
    if kind == "score":
        return {"text_1": question, "text_2": list(answers)}
    if kind == "rerank":
        return {"query": question, "documents": list(answers)}
    if kind == "classify":
        return {"input": [f"{question}\n{answer}" for answer in answers]}
    asked = list(messages) or [{"role": "user", "content": question}]
    return {"messages": [*asked, {"role": "assistant", "content": answers[0]}]}


def scores_of(kind: str, raw: bytes, number: int) -> list[float | None]:
    """The verdicts in a server's answer, in the order of what was asked.

    Raises:
      Fault: it holds none.
    """
    try:
        body = parse_json(raw)
        listed = body["results" if kind == "rerank" else "data"]
        found: list[float | None] = [None] * number
        for j, one in enumerate(listed):
            at = one.get("index", j)
            if kind == "score":
                value = one["score"]
            elif kind == "rerank":
                value = one["relevance_score"]
            elif kind == "classify":
                value = one["probs"][-1]  # of the last class, which is the better one of two
            else:
                value = one["data"]
                while isinstance(value, list):  # of every token; the last one's is the answer's
                    value = value[-1]
            if 0 <= at < number and isinstance(value, (int, float)) and math.isfinite(value):
                found[at] = float(value)
        return found
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise Fault(f"the verifier's answer holds no verdicts: {raw[:60]!r}") from None


def _last_number(raw: bytes) -> float | None:
    words = raw.split()
    with suppress(ValueError, IndexError):
        value = float(words[-1])
        return value if math.isfinite(value) else None
    return None
