"""Exploration: a stated share of the decisions is drawn, so that what other policies would earn can be told from the traffic.

With exploration e, a share s that a candidate really decides, and A actions that a question may get, an action a has the chance

    e / A + s [a = the candidate's] + (1 - e - s) [a = the live policy's],

which is known exactly and never below e / A. One number decides, a hash of the request's id that nobody who asks can choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from alloc_jax.serve.pacing import Pace


def ticket_of(identity: str) -> float:
    """A number in [0, 1) for a request's id: always the same one, and of different ids independent."""
    return int.from_bytes(blake2b(identity.encode(), digest_size=8).digest()) / 2.0**64


def chances(
    allowed: Sequence[bool], live: int, exploration: float, candidate: int | None = None, share: float = 0.0
) -> list[float]:
    """The chance [K] of every action.

    Args:
      allowed: [K] what the question may get.
      live: position of the live policy's action.
      exploration: share of the decisions that are drawn evenly.
      candidate: position of the candidate's action.
      share: of the decisions that are the candidate's.

    >>> chances([True, True, False], 0, 0.2)
    [0.9, 0.1, 0.0]
    """
    each = exploration / sum(allowed)
    found = [each if free else 0.0 for free in allowed]
    found[live] += 1 - exploration - share
    found[live if candidate is None else candidate] += share
    return found


def draw(chance: Sequence[float], ticket: float) -> int:
    """The action that a ticket in [0, 1) falls on."""
    last = 0
    for k, part in enumerate(chance):
        if part > 0:
            last = k
            if ticket < part:
                break
            ticket -= part
    return last


def priced(pace_of, budget: float, exploration: float, drawn: float) -> Pace:
    """The pace of a budget of which exploration takes its part: it begins where what is left is met.

    Args:
      pace_of: makes the pace of a budget.
      budget: mean cost per question.
      exploration: share of the decisions that are drawn evenly.
      drawn: what such a decision costs on average.

    Raises:
      ValueError: nothing is left to decide with.
    """
    left = (budget - exploration * drawn) / (1 - exploration)
    try:
        if left <= 0:
            raise ValueError("nothing is left")
        return replace(pace_of(left), budget=budget)
    except ValueError as error:
        if not exploration:
            raise
        raise ValueError(
            f"an exploration of {exploration:g}, at {drawn:.4g} per question that is drawn, takes {exploration * drawn:.4g}"
            f" of the budget of {budget:g}: {error}"
        ) from None
