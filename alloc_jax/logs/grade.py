"""Grading responses against reference answers, and the key of each answer that votes are counted on.

A grader answers two questions that are not the same: is this response right, and which responses say the same? The
second needs an equivalence, so that it does not matter which response came first; `math_verify.verify` is neither
symmetric nor transitive (`1<x<2` accepts `(1,2)`, not the other way round). So `verify` decides what is right, and
answers are the same where a canonical form of what was parsed is the same.

What cannot be graded (time out, a crash, a reference answer that cannot be read) is a failure. A failure is no wrong
answer: it is reported as what it is, and the caller says what becomes of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from alloc_jax.exports import called_as_its_function

_WORKER = Path(__file__).with_name("math_worker.py")


class Grade(NamedTuple):
    """What became of one response."""

    answer: str | None  # the key of its answer; None where it gives none, or grading failed
    correct: bool  # False where grading failed
    failure: str | None = None  # "timeout", "crash", "memory", "gold", or the name of an exception


def grade(
    responses: Sequence[str],
    golds: Sequence[str],
    method: str = "math",
    timeout_s: float = 5.0,
    workers: int | None = None,
) -> list[Grade]:
    """Grades many responses, each against its reference answer.

    Args:
      responses: the texts, an answer alone or a whole solution that ends in one.
      golds: the reference answers, as many.
      method: one of `METHODS`. "math": mathematical expressions, by math-verify in processes of their own; "number":
        the last number of the text, exact, thousands separators and units ignored; "choice": the last letter that
        stands as a choice; "text": the whole text, but for case, white space and a final full stop.
      timeout_s: limit for one response, of "math".
      workers: processes of "math"; the machine's CPUs by default.

    Raises:
      ImportError: "math" without math-verify.
      ValueError: an unknown method, or numbers of responses and golds that differ.

    >>> grade(["It costs $1,250.00.", "I do not know"], ["1250", "7"], method="number")
    [Grade(answer='1250', correct=True, failure=None), Grade(answer=None, correct=False, failure=None)]
    """
    with Grader(method, timeout_s, workers) as grader:
        return grader.grade(responses, golds)


class Grader:
    """What `grade` does, for responses that come in parts: the processes live until the end of the `with` block."""

    def __init__(self, method: str = "math", timeout_s: float = 5.0, workers: int | None = None):
        if method not in METHODS:
            raise ValueError(f"unknown grader {method!r}; known: {', '.join(METHODS)}")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}; a limit is positive")
        self.answer_of = METHODS[method]
        self.pool = None if self.answer_of else _MathPool(timeout_s, workers or os.cpu_count() or 1)

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exc) -> None:
        if self.pool:
            self.pool.close()

    def grade(self, responses: Sequence[str], golds: Sequence[str]) -> list[Grade]:
        """See the function `grade`; equal pairs are graded once."""
        pairs = list(zip(responses, golds, strict=True))
        distinct = list(dict.fromkeys(pairs))
        graded = self.pool.grade(distinct) if self.pool else [self._compare(*pair) for pair in distinct]
        known = dict(zip(distinct, graded, strict=True))
        return [known[pair] for pair in pairs]

    def _compare(self, response: str, gold: str) -> Grade:
        wanted, answer = self.answer_of(gold), self.answer_of(response)
        if wanted is None:
            return Grade(None, False, "gold")
        return Grade(answer, answer == wanted)


# ---------------------------------------------------------------------------------------------------------------
# By comparison
# ---------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"(?<![\w.])[-\u2212+]?\$?(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?(?:\s*/\s*([1-9]\d*))?")
# "A" and "I" are words, too: before another word they are choices only in brackets, or after "is" or a colon.
_CHOICE = re.compile(
    r"(?<![A-Za-z'\u2019])(?:\([A-J]\)|[B-HJ]|(?<=is )[AI]|(?<=: )[AI]|[AI](?!\s+[a-z]))(?![A-Za-z'\u2019])"
)


def _number(text: str) -> str | None:
    last = None
    for match in _NUMBER.finditer(text):
        whole, part, below = match.groups()
        if whole or part:
            value = Fraction((whole or "0").replace(",", "") + (part or "")) / int(below or 1)
            last = -value if match[0][0] in "-\u2212" else value
    return None if last is None else str(last)


def _choice(text: str) -> str | None:
    found = _CHOICE.findall(text)
    return found[-1].strip("()") if found else None


def _text(text: str) -> str | None:
    return " ".join(text.split()).casefold().removesuffix(".") or None


METHODS: dict[str, Callable[[str], str | None] | None] = {
    "math": None,
    "number": _number,
    "choice": _choice,
    "text": _text,
}

# ---------------------------------------------------------------------------------------------------------------
# By math-verify, in processes that can be killed
# ---------------------------------------------------------------------------------------------------------------


class _MathPool:
    """Processes that grade one response at a time; one that takes too long is killed, and replaced when needed.

    They are started as scripts, so that the caller's own script needs no guard, and never import JAX.
    """

    def __init__(self, timeout_s: float, workers: int):
        self.timeout_s = timeout_s
        self.threads = ThreadPoolExecutor(workers)
        self.idle: SimpleQueue[_Worker | None] = SimpleQueue()
        self.idle.put(_Worker())  # the first says whether math-verify is there
        for _ in range(workers - 1):
            self.idle.put(None)

    def grade(self, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        return list(self.threads.map(self._one, pairs))

    def _one(self, pair: tuple[str, str]) -> Grade:
        worker = self.idle.get()
        try:
            worker = worker or _Worker()
            said = worker.ask(pair, self.timeout_s)
            if said.failure in ("timeout", "crash"):
                worker.close()
                worker = None
            return said
        finally:
            self.idle.put(worker)

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)
        while not self.idle.empty():
            if worker := self.idle.get():
                worker.close()


class _Worker:
    def __init__(self):
        # -P: the folder of the script stays off the path, whose modules would hide the standard library's.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self.process.stdout.readline() != b"ready\n":
            self.close()
            raise ImportError("the grader 'math' needs math-verify: pip install 'alloc_jax[grade]'")

    def ask(self, pair: tuple[str, str], timeout_s: float) -> Grade:
        late = threading.Event()

        def stop():
            late.set()
            self.process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(pair).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:  # it died while the text was on its way
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return Grade(*json.loads(line))
        return Grade(None, False, "timeout" if late.is_set() else "crash")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what it did not read cannot be flushed any more
                pipe.close()


called_as_its_function(__name__)
