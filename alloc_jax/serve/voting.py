"""The ballot: from the texts of some samples to the one that is sent back.

Votes are counted as they are when a table is measured: on the answers' keys, without the samples that have none.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alloc_jax.actions import Action
from alloc_jax.logs.grade import METHODS, Grader


@dataclass(frozen=True)
class Verdict:
    """What the samples say together."""

    winner: int | None  # the sample that speaks for all; None where the action gives no answer
    share: float  # of the samples that agree with it
    answers: int  # distinct ones


def count_votes(keys: Sequence[str | None], action: Action, seed: str) -> Verdict:
    """Who wins.

    Args:
      keys: of the samples' answers; None where a sample gives none.
      action: whose aggregator and tie rule decide.
      seed: draws among the tied; the same seed draws the same.

    >>> count_votes(["4", "5", "4"], Action("m", 3), "q1")
    Verdict(winner=0, share=0.6666666666666666, answers=2)
    """
    counts = Counter(key for key in keys if key is not None)
    if action.aggregator == "single" or not counts:
        # Without any answer, the first text is as good as the others; a unanimous action then has none.
        winner = None if action.aggregator == "unanimous" or not keys else 0
        return Verdict(winner, float(bool(counts)), len(counts))
    most = max(counts.values())
    tied = [key for key, count in counts.items() if count == most]  # in the order of their first samples
    if action.aggregator == "unanimous":
        chosen = tied[0] if most == len(keys) else None
    elif len(tied) > 1 and action.ties != "first":
        chosen = None if action.ties == "abstain" else random.Random(seed).choice(tied)
    else:
        chosen = tied[0]
    return Verdict(None if chosen is None else keys.index(chosen), most / len(keys), len(counts))


class AnswerKeys:
    """Reads answers: called with texts, it gives the keys that votes are counted on; None where a text has no answer.

    Args:
      method: one of `METHODS`; the grader that the policy's log was graded with.
      pattern: a regular expression whose last match holds the answer, in its first group if it has one; a text that it
        does not match has no answer. None: the whole text is read.

    Raises:
      ImportError: "math" without math-verify.
      ValueError: an unknown method, or no regular expression.

    >>> AnswerKeys("number", r"#(\\d+)")(["8-2=6,6*4=24#24.", "8-2=6"])
    ['24', None]
    """

    def __init__(self, method: str, pattern: str | None = None):
        try:
            self.pattern = None if pattern is None else re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ValueError(f"answer pattern {pattern!r}: {error}") from None
        if method not in METHODS:
            raise ValueError(f"unknown way to read answers {method!r}; known: {', '.join(METHODS)}")
        self.read_one = METHODS[method]
        self.grader = None if self.read_one else Grader(method)  # processes, which `close` ends
        self.slow = self.grader is not None  # may take seconds, so not in an event loop

    def __call__(self, texts: Sequence[str]) -> list[str | None]:
        parts = [self._answer(text) for text in texts]
        if self.grader is None:
            return [None if part is None else self.read_one(part) for part in parts]
        known = [part for part in parts if part is not None]
        grades = iter(self.grader.grade(known, ["0"] * len(known)))  # the key depends on the response alone
        return [None if part is None else next(grades).answer for part in parts]

    def _answer(self, text: str) -> str | None:
        """The part of a text that holds its answer."""
        if self.pattern is None:
            return text
        found = list(self.pattern.finditer(text))
        return found[-1][1 if self.pattern.groups else 0] if found else None

    def close(self) -> None:
        """Ends the processes, where there are any."""
        if self.grader is not None:
            self.grader.__exit__()
