"""Voting: from the keys of some answers to the one that is sent back.

Votes are counted as they are when a table is measured: on the answers' keys, without the samples that have none.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alloc_jax.actions import Action
from alloc_jax.serve.tickets import Pooled


@dataclass(frozen=True)
class Verdict:
    """What the samples say together."""

    winner: int | None  # the sample that speaks for all; None where the action gives no answer
    share: float  # of the samples that agree with it
    answers: int  # distinct ones
    posterior: float | None = None  # the chance that it is right, where a belief says so
    score: float | None = None  # a verifier's verdict on the winner


def count_votes(keys: Sequence[str | None], action: Action | Pooled, seed: str) -> Verdict:
    """Who wins.

    Args:
      keys: of the samples' answers; None where a sample gives none.
      action: whose aggregator and tie rule decide.
      seed: draws among the tied; the same seed draws the same.

    >>> count_votes(["4", "5", "4"], Action("m", 3), "q1")
    Verdict(winner=0, share=0.6666666666666666, answers=2, posterior=None, score=None)
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


def pool_answers(keys: Sequence[str | None], answer: str | None, posterior: float) -> Verdict:
    """The verdict for an answer that a belief has chosen, however many samples agree with it.

    >>> pool_answers(["4", "4", "5"], "5", 0.8)
    Verdict(winner=2, share=0.3333333333333333, answers=2, posterior=0.8, score=None)
    """
    counts = Counter(key for key in keys if key is not None)
    winner = None if not keys else 0 if answer is None else keys.index(answer)
    share = counts[answer] / len(keys) if answer is not None else 0.0
    return Verdict(winner, share, len(counts), posterior)


def best_score(scores: Sequence[float | None]) -> Verdict:
    """The verdict for the sample that a verifier thinks most of; of equals, and without any verdict, the first.

    >>> best_score([0.2, None, 0.9]).winner
    2
    """
    known = [-math.inf if score is None else score for score in scores]
    winner = known.index(max(known))
    return Verdict(winner, known.count(known[winner]) / len(scores), len(scores), score=scores[winner])


def decided(keys: Sequence[str | None], left: int, action: Action | Pooled) -> bool:
    """Whether samples that are still out cannot change who wins.

    Args:
      keys: of the samples that came.
      left: samples that are still out.
      action: whose aggregator decides.

    >>> decided(["4", "4", None], 1, Action("m", 4)), decided(["4", "4", "5"], 1, Action("m", 4))
    (True, False)
    """
    counts = Counter(key for key in keys if key is not None)
    if action.aggregator == "unanimous":
        return len(counts) > 1 or None in keys
    top = [count for _, count in counts.most_common(2)]
    return bool(top) and top[0] - (top[1] if len(top) > 1 else 0) > left
