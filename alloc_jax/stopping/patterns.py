"""Patterns: what answers from several sources look like, up to the names of the answers. NumPy alone.

A state of a question is how often each source gave each answer: a few blocks of equal answers, each with a count for every source,
and a count of what has no vote, such as an empty answer or one that no block keeps. The order in which
samples came does not matter, and neither do the answers' names, so blocks are kept in one canonical order. What a source says next joins a
block, opens one, or has no vote; `Patterns` numbers all states within limits and says where each outcome leads.

With an exact verifier the only block is the right answer, and nothing follows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement, pairwise

import numpy as np

STOP = -1  # the move that answers
LARGEST = 60_000  # states of a table


@dataclass(frozen=True, eq=False)
class Patterns:
    """The S states of M sources, with B blocks at most, and the ways between them.

    An outcome of a draw is the position of the block it joins, B where it opens one, B + 1 where it has no vote.
    """

    limits: tuple[int, ...]  # [M] the most samples of each source
    cap: int  # the most samples of all sources
    blocks: int  # B
    verified: bool  # whether a verifier tells the right answer
    keys: tuple = field(repr=False)  # [S] (blocks, without a vote), both as counts for every source
    drawn: np.ndarray = field(repr=False)  # i32[S, M] samples of each source
    kept: np.ndarray = field(repr=False)  # i32[S] blocks in use
    next: np.ndarray = field(repr=False)  # i32[S, M, B + 2] the state after each outcome; -1 where it cannot be
    order: np.ndarray = field(
        repr=False
    )  # i8[S, M, B + 2, B] which old block (B: the new one) stands at each position after it

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """Where the layers of 0, 1, .. samples begin and end."""
        return tuple(np.searchsorted(self.drawn.sum(axis=1), np.arange(self.cap + 2)).tolist())

    @property
    def sources(self) -> int:
        return len(self.limits)


@lru_cache(maxsize=16)
def make_patterns(limits: tuple[int, ...], cap: int, blocks: int = 3, verified: bool = False) -> Patterns:
    """All states with at most so many samples of each source and of all.

    Args:
      limits: samples of each source.
      cap: samples of all sources together.
      blocks: of equal answers that are told apart; samples that agree with none of them then have no vote.
      verified: whether a right answer is known as such, and ends the question.

    Raises:
      ValueError: nothing may be drawn, or there are too many states.

    >>> len(make_patterns((1, 1), cap=2))
    10
    """
    if not limits or min(limits) < 1 or cap < 1 or blocks < 1:
        raise ValueError(
            f"every source gives at least one sample, and a question gets one; got limits {limits}, cap {cap}"
        )
    sources, blocks = len(limits), 1 if verified else blocks
    start = ((), (0,) * sources)
    number, keys = {start: 0}, [start]
    next_, order = [], []
    at = 0
    while at < len(keys):
        held, other = keys[at]
        drawn = np.sum([*held, other], axis=0)
        ends = (verified and held) or drawn.sum() >= cap
        to = np.full((sources, blocks + 2), -1, np.int32)
        perm = np.zeros((sources, blocks + 2, blocks), np.int8)
        for m in range(0 if not ends else sources, sources):
            if drawn[m] >= limits[m]:
                continue
            for outcome, key, stands in _outcomes(held, other, m, blocks, verified):
                if key not in number:
                    number[key] = len(keys)
                    keys.append(key)
                to[m, outcome] = number[key]
                perm[m, outcome, : len(stands)] = stands
        next_.append(to)
        order.append(perm)
        at += 1
        if len(keys) > LARGEST:
            raise ValueError(
                f"more than {LARGEST} states for {sources} sources with up to {limits} samples, {cap} in all: lower cap or limits"
            )
    drawn = np.array([np.sum([*held, other], axis=0) for held, other in keys], np.int32)
    kept = np.array([len(held) for held, _ in keys], np.int32)
    return Patterns(limits, cap, blocks, verified, tuple(keys), drawn, kept, np.stack(next_), np.stack(order))


def _outcomes(held: tuple, other: tuple, m: int, blocks: int, verified: bool):
    """(outcome, state, old positions of its blocks) of a sample of source m."""
    one = tuple(int(j == m) for j in range(len(other)))

    def more(counts: tuple) -> tuple:
        return tuple(a + b for a, b in zip(counts, one, strict=True))

    if not verified:
        for b in range(len(held)):
            yield b, *_canonical([*held[:b], more(held[b]), *held[b + 1 :]], list(range(len(held))), other)
    if len(held) < blocks:
        yield blocks, *_canonical([*held, one], [*range(len(held)), blocks], other)
    yield blocks + 1, (held, more(other)), list(range(len(held)))


def _canonical(held: list[tuple], stands: list[int], other: tuple) -> tuple[tuple, list[int]]:
    """The state with its blocks in order, greater ones first, and where they stood."""
    ranked = sorted(range(len(held)), key=lambda b: (-sum(held[b]), tuple(-c for c in held[b]), b))
    return (tuple(held[b] for b in ranked), other), [stands[b] for b in ranked]


def all_moves(sources: int, wave: int) -> tuple[tuple[int, ...], ...]:
    """Stop, and every choice of 1 to `wave` samples from sources.

    >>> all_moves(2, 2)
    ((), (0,), (1,), (0, 0), (0, 1), (1, 1))
    """
    sizes = range(1, wave + 1)
    return ((), *(move for size in sizes for move in combinations_with_replacement(range(sources), size)))


def best_moves(right, chance, cost, following, price, bounds, moves, rounds, xp=np):
    """Backward induction at one price: with l the multiplier, a state's value is

        V(s) = max( P(its best answer is right),  max over moves of  E V(s') - l cost(move) ).

    States lie in layers by the number of samples, and a layer needs only those behind it: one pass from the last to the first solves
    all states. Where rounds are limited there is a pass for each round. Every question gets a first sample.

    Args:
      right: f[..., S] the chance that a state's best answer is right.
      chance: f[..., S, M, B + 2] of the outcomes of a draw.
      cost: f[..., M] of a sample of each source.
      following: i32[S, M, B + 2] `Patterns.next`.
      price: the multiplier.
      bounds: `Patterns.bounds`.
      moves: from `all_moves`.
      rounds: the most moves of a question; None: any number.
      xp: NumPy, or JAX's.

    Returns:
      i8[R, ..., S] moves of every round (of one where their number is free), and the values f[...] before the first sample.
    """
    layers = [slice(a, b) for a, b in pairwise(bounds)]
    lowest = -1e30
    wanted = {move[i:] for move in moves[1:] for i in range(len(move))}

    def drawn(n, m, after):
        """Expectations over the outcomes of a sample of source m in layer n, of values f[..., S'] in the next."""
        to = following[layers[n], m]
        mean = (chance[..., layers[n], m, :] * after[..., xp.maximum(to - bounds[n + 1], 0)]).sum(axis=-1)
        return xp.where(xp.broadcast_to((to >= 0).any(axis=-1), mean.shape), mean, lowest)

    def backward(arrive):
        """Values and moves by layer; `arrive` holds the values after a round, None: those of this very pass."""
        values, chosen, behind = [None] * len(layers), [None] * len(layers), {}
        for n in reversed(range(len(layers))):
            here = {rest: drawn(n, rest[0], behind[rest[1:]]) for rest in wanted if rest[1:] in behind}
            stop = right[..., layers[n]]
            nothing = xp.full_like(stop, lowest)
            worth = [nothing if n == 0 else stop]
            for move in moves[1:]:
                paid = price * sum(cost[..., m] for m in move)
                worth.append(here[move] - paid[..., None] if move in here else nothing)
            stacked = xp.stack(worth)
            chosen[n], values[n] = stacked.argmax(axis=0).astype(xp.int8), stacked.max(axis=0)
            behind = here | {(): values[n] if arrive is None else arrive[n]}
        return values, xp.concatenate(chosen, axis=-1)

    if rounds is None:
        values, chosen = backward(None)
        return chosen[None], values[0][..., 0]
    values, every = [right[..., layer] for layer in layers], []
    for _ in range(rounds):
        values, chosen = backward(values)
        every.append(chosen)
    return xp.stack(every[::-1]), values[0][..., 0]
