"""Grading responses against reference answers, and the key of each answer that votes are counted on.

A grader answers two questions that are not the same: is this response right, and which responses say the same? Keys are
canonical forms, so that it does not matter which response came first. `math_verify.verify`, which decides what is right
as mathematics, is no equivalence: it accepts `50` and `0.5` for `50\\%`. Where it calls two answers to one question equal
that have different keys, `Grader.same` unites them.

What cannot be graded (time out, a crash, a reference answer that cannot be read) is a failure: a sample without a usable
answer, counted and shown. No text makes a grader raise.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from alloc_jax.exports import called_as_its_function
from alloc_jax.logs.answers import choice, number, words

_WORKER = Path(__file__).with_name("math_worker.py")
_COMPARED = 64  # pairs of answers to one question that are compared at most

METHODS: dict[str, Callable[[str], str | None] | None] = {
    "math": None,
    "number": number,
    "choice": choice,
    "text": words,
}
Gold = str | tuple[str, ...]  # one reference answer, or several of which each is right


class Grade(NamedTuple):
    """The answer that one response gives, and whether it is right."""

    answer: str | None  # the key of its answer; None where it gives none, or grading failed
    correct: bool  # False where grading failed
    failure: str | None = None  # "timeout", "crash", "memory", "gold", or the name of an exception


def grade(
    responses: Sequence[str],
    golds: Sequence[Gold],
    method: str = "math",
    timeout_s: float = 5.0,
    workers: int | None = None,
) -> list[Grade]:
    """Grade many responses, each against its reference answer.

    Args:
      responses: the texts, an answer alone or a whole solution that ends in one.
      golds: the reference answers, as many; a tuple holds several of which each is right.
      method: one of `METHODS`. "math": mathematical expressions, by math-verify in processes of their own; "number":
        the boxed or last number of the text, exact, thousands separators and units ignored; "choice": the letter that
        is declared, or the last that stands as a choice; "text": the whole text, but for case, white space, emphasis
        and a final full stop.
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

    def __init__(
        self, method: str = "math", timeout_s: float = 5.0, workers: int | None = None, remembered: int | None = None
    ):
        """Args: as of `grade`; `remembered`: answers that `same` can still compare, the last ones; None: all."""
        if method not in METHODS:
            raise ValueError(f"unknown grader {method!r}; known: {', '.join(METHODS)}")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}; a limit is positive")
        self.method = method
        self.answer_of = METHODS[method]
        self.pool = None if self.answer_of else _MathPool(timeout_s, workers or os.cpu_count() or 1, remembered)

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *exc) -> None:
        if self.pool:
            self.pool.close()

    def grade(self, responses: Sequence[str], golds: Sequence[Gold]) -> list[Grade]:
        """See the function `grade`; equal pairs are graded once."""
        if {str} == set(map(type, responses)) | set(map(type, golds)):
            pairs = list(zip(responses, map(str, golds), strict=True))
            known = self._graded(pairs)
            return [known[pair] for pair in pairs]
        asked = [
            ("" if said is None else str(said), _accepted(gold)) for said, gold in zip(responses, golds, strict=True)
        ]
        known = self._graded([(said, gold) for said, accepted in asked for gold in accepted])
        return [_best([known[said, gold] for gold in accepted]) for said, accepted in asked]

    def _graded(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Grade]:
        distinct = list(dict.fromkeys(pairs))
        graded = self.pool.grade(distinct) if self.pool else [self._compare(*pair) for pair in distinct]
        return dict(zip(distinct, graded, strict=True))

    def keys(self, responses: Sequence[str]) -> list[str | None]:
        """The keys of the answers that samples of ONE question give, to count votes on: what says the same shares one.

        >>> with Grader("number") as grader:
        ...     grader.keys(["It is 4.0", "4", "none"])
        ['4', '4', None]
        """
        found = [said.answer for said in self.grade(responses, ["0"] * len(responses))]
        same = self.same([key for key in found if key is not None])
        return [same.get(key, key) for key in found]

    def same(self, *groups: Sequence[str], seconds: float = math.inf) -> dict[str, str]:
        """Map each key to the first key of this question that means the same, as 0.5 and 1/2 do; keys without one are left out.

        Args:
          *groups: keys that this grader gave, the most frequent first. Only keys of one group are compared: those that
            were right, and those that were wrong.
          seconds: after which no further pair is compared.
        """
        if self.pool is None:
            return {}
        united: dict[str, str] = {}
        left, until = _COMPARED, time.monotonic() + seconds
        for group in groups:
            left = self.pool.unite(list(dict.fromkeys(group)), united, left, until)
        return united

    def _compare(self, response: str, gold: str) -> Grade:
        try:
            wanted, answer = self.answer_of(gold), self.answer_of(response)
        except Exception as error:  # whatever a text does to a regular expression or a number
            return Grade(None, False, type(error).__name__)
        if wanted is None:
            return Grade(None, False, "gold")
        return Grade(answer, answer == wanted)


def _accepted(gold: Gold | float | None) -> tuple[str, ...]:
    """The answers that are each right; none where there is no reference answer."""
    if gold is None or isinstance(gold, (list, tuple)):
        return tuple(str(one) for one in gold or () if one is not None)
    return (str(gold),)


def _best(grades: Sequence[Grade]) -> Grade:
    """What became of a response that several answers were accepted for."""
    right = [said for said in grades if said.correct]
    usable = [said for said in grades if said.failure is None]
    return (right or usable or list(grades) or [Grade(None, False, "gold")])[0]


# ---------------------------------------------------------------------------------------------------------------
# By math-verify, in processes that can be killed
# ---------------------------------------------------------------------------------------------------------------


class _MathPool:
    """Processes that grade one response at a time; one that takes too long is killed, and replaced when needed.

    They are started as scripts, so that the caller's own script needs no guard, and never import JAX.
    """

    def __init__(self, timeout_s: float, workers: int, remembered: int | None = None):
        self.timeout_s, self.remembered = timeout_s, remembered
        self.threads = ThreadPoolExecutor(workers)
        self.idle: SimpleQueue[_Worker | None] = SimpleQueue()
        self.idle.put(_Worker())  # the first says whether math-verify is there
        for _ in range(workers - 1):
            self.idle.put(None)
        self.written: dict[str, str] = {}  # key -> an answer that has it, as it was written
        self.equal: dict[tuple[str, str], bool] = {}

    def grade(self, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        return list(self.threads.map(self._grade, pairs))

    def _grade(self, pair: tuple[str, str]) -> Grade:
        *said, written = self._ask("grade", *pair)
        if written is not None:
            self.written.setdefault(said[0], written)
            self._forget(self.written)
        return Grade(*said)

    def unite(self, keys: Sequence[str], united: dict[str, str], left: int, until: float) -> int:
        """Add to `united` which of the keys say the same; return how many comparisons are left."""
        classes: list[list[str]] = []
        for key in keys:
            home = None
            for members in classes:
                if home is not None and home is members:
                    continue
                for other in members:
                    if self._cannot_be(key, other):
                        continue
                    left -= 1
                    if left < 0 or time.monotonic() > until:
                        return 0
                    if self._are_equal(key, other):
                        if home is None:
                            home = members
                        else:  # it says the same as both
                            home += members
                            members.clear()
                        break
            if home is None:
                classes.append([key])
            else:
                home.append(key)
        united |= {key: members[0] for members in classes for key in members[1:]}
        return left

    def _cannot_be(self, key: str, other: str) -> bool:
        """Whether two keys are known to differ without a comparison: nothing to compare, or two distant numbers."""
        if key not in self.written or other not in self.written:
            return True
        a, b = _rational(key), _rational(other)
        return a is not None and b is not None and abs(a - b) > Fraction(1, 10**4) * max(abs(a), abs(b))

    def _are_equal(self, key: str, other: str) -> bool:
        pair = self.written.get(key), self.written.get(other)
        if None in pair:  # forgotten meanwhile
            return False
        known = self.equal.get(pair)
        if known is None:
            known = self.equal[pair] = self._ask("equal", *pair) is True  # a failure tells nothing
            self._forget(self.equal)
        return known

    def _forget(self, of: dict) -> None:
        """Drop what came first, where more is held than is to be remembered."""
        while self.remembered is not None and len(of) > self.remembered:
            with suppress(StopIteration, RuntimeError):  # another thread drops, too
                of.pop(next(iter(of)), None)

    def _ask(self, *question: str) -> Any:
        """What a process answers; a failed grade where it does not."""
        worker = self.idle.get()
        try:
            worker = worker or _Worker()
            said = worker.ask(question, self.timeout_s)
            if isinstance(said, str):  # it is gone
                worker.close()
                worker = None
                return None, False, said, None
            return said
        except OSError:  # no process could be started
            return None, False, "crash", None
        finally:
            self.idle.put(worker)

    def close(self) -> None:
        self.threads.shutdown(cancel_futures=True)
        while not self.idle.empty():
            if worker := self.idle.get():
                worker.close()


def _rational(key: str) -> Fraction | None:
    """The number that a key is; None where it is none, or a long one."""
    return Fraction(key) if len(key) < 64 and re.fullmatch(r"-?\d+(/[1-9]\d*)?", key) else None


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

    def ask(self, question: Sequence[str], timeout_s: float) -> Any:
        """The answer; or what happened to the process instead, as a text."""
        late = threading.Event()

        def stop():
            late.set()
            self.process.kill()

        timer = threading.Timer(timeout_s, stop)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:  # it died while the text was on its way
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return json.loads(line)
        return "timeout" if late.is_set() else "crash"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what it did not read cannot be flushed any more
                pipe.close()


called_as_its_function(__name__)
