"""Patterns: what answers from several sources look like, up to the names of the answers. NumPy alone.

A state of a question is how often each source gave each answer: a few blocks of equal answers, each with a count for every source,
a count of samples without an answer, and one of answers for which no block was left. The order in which samples came does not matter, and
neither do the answers' names, so blocks are kept in one canonical order. What a source says next joins a block, opens one, is one too
many, or no answer; `Patterns` numbers all states within limits and says where each outcome leads.

With an exact verifier the only block is the right answer, and nothing follows it. Where a number comes with every sample (`evidence`), samples
of each bin are counted apart, as if a source were several that it cannot choose among.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement, pairwise

import numpy as np

STOP = -1  # the move that answers
LARGEST = 60_000  # states of a table
ROUNDING = 1e-6  # by which chances and values that are equal may differ, on one processor or another


@dataclass(frozen=True, eq=False)
class Patterns:
    """The S states of M sources, with B blocks at most, and the ways between them.

    An outcome of a draw is the position of the block it joins, B where it opens one, B + 1 where it is another answer and no block is
    left, B + 2 where it is none; those of the next bin follow. W = bins x (B + 3), of the source that has the most.
    """

    limits: tuple[int, ...]  # [M] the most samples of each source
    cap: int  # the most samples of all sources
    blocks: int  # B
    verified: bool  # whether a verifier tells the right answer
    bins: tuple[int, ...]  # [M] of the numbers that come with samples; 1: none is looked at
    keys: tuple = field(repr=False)  # [S] (blocks, none, rest), all as counts for every source and bin
    drawn: np.ndarray = field(repr=False)  # i32[S, M] samples of each source
    kept: np.ndarray = field(repr=False)  # i32[S] blocks in use
    next: np.ndarray = field(repr=False)  # i32[S, M, W] the state after each outcome; -1 where it cannot be
    order: np.ndarray = field(
        repr=False
    )  # i8[S, M, W, B] which old block (B: the new one) stands at each position after it

    def __len__(self) -> int:
        return len(self.keys)

    def outcome(self, held: int, at: int | None, answered: bool, bin: int = 0) -> int:
        """The outcome of a sample where so many blocks are in use: the position of the block it joins, or None; and its bin."""
        first = bin * (self.blocks + 3)
        if not answered:
            return first + self.blocks + 2
        return first + ((self.blocks + (held >= self.blocks)) if at is None else at)

    @cached_property
    def of(self) -> np.ndarray:
        """i64[V] the source of each of the V pairs of source and bin."""
        return np.repeat(np.arange(self.sources), self.bins)

    @cached_property
    def bounds(self) -> tuple[int, ...]:
        """Where the layers of 0, 1, .. samples begin and end."""
        return tuple(np.searchsorted(self.drawn.sum(axis=1), np.arange(self.cap + 2)).tolist())

    @property
    def sources(self) -> int:
        return len(self.limits)


@lru_cache(maxsize=16)
def make_patterns(
    limits: tuple[int, ...], cap: int, blocks: int = 3, verified: bool = False, bins: tuple[int, ...] | None = None
) -> Patterns:
    """All states with at most so many samples of each source and of all.

    Args:
      limits: samples of each source.
      cap: samples of all sources together.
      blocks: of equal answers that are told apart; answers that are none of them then only count as others.
      verified: whether a right answer is known as such, and ends the question.
      bins: of the numbers that come with each source's samples; None: none is looked at.

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
    bins = (1,) * sources if bins is None else bins
    first = np.cumsum([0, *bins])
    start = ((), (0,) * int(first[-1]), (0,) * int(first[-1]))

    def drawn_by(key: tuple) -> np.ndarray:
        """i[M] samples of each source."""
        held, none, rest = key
        return np.add.reduceat(np.sum([*held, none, rest], axis=0), first[:-1])

    number, keys = {start: 0}, [start]
    next_, order = [], []
    at = 0
    while at < len(keys):
        held = keys[at][0]
        drawn = drawn_by(keys[at])
        ends = (verified and held) or drawn.sum() >= cap
        width = max(bins) * (blocks + 3)
        to = np.full((sources, width), -1, np.int32)
        perm = np.zeros((sources, width, blocks), np.int8)
        for m in range(0 if not ends else sources, sources):
            if drawn[m] >= limits[m]:
                continue
            for bin in range(bins[m]):
                for outcome, key, stands in _outcomes(keys[at], int(first[m]) + bin, blocks, verified):
                    if key not in number:
                        number[key] = len(keys)
                        keys.append(key)
                    to[m, bin * (blocks + 3) + outcome] = number[key]
                    perm[m, bin * (blocks + 3) + outcome, : len(stands)] = stands
        next_.append(to)
        order.append(perm)
        at += 1
        if len(keys) > LARGEST:
            raise ValueError(
                f"more than {LARGEST} states for {sources} sources with up to {limits} samples, {cap} in all: lower cap or limits"
            )
    drawn = np.array([drawn_by(key) for key in keys], np.int32)
    kept = np.array([len(held) for held, *_ in keys], np.int32)
    return Patterns(limits, cap, blocks, verified, bins, tuple(keys), drawn, kept, np.stack(next_), np.stack(order))


def _outcomes(state: tuple, m: int, blocks: int, verified: bool):
    """(outcome, state, old positions of its blocks) of a sample of the m-th source and bin."""
    held, none, rest = state
    stands = list(range(len(held)))
    one = tuple(int(j == m) for j in range(len(none)))

    def more(counts: tuple) -> tuple:
        return tuple(a + b for a, b in zip(counts, one, strict=True))

    def ordered(changed: list[tuple], old: list[int]) -> tuple:
        ranked = sorted(range(len(changed)), key=lambda b: (-sum(changed[b]), tuple(-c for c in changed[b]), b))
        return (tuple(changed[b] for b in ranked), none, rest), [old[b] for b in ranked]

    if not verified:
        for b in stands:
            yield b, *ordered([*held[:b], more(held[b]), *held[b + 1 :]], stands)
    if len(held) < blocks:
        yield blocks, *ordered([*held, one], [*stands, blocks])
    elif not verified:
        yield blocks + 1, (held, none, more(rest)), stands
    yield blocks + 2, (held, more(none), rest), stands


def all_moves(sources: int, wave: int) -> tuple[tuple[int, ...], ...]:
    """Stop, and every choice of 1 to `wave` samples from sources.

    >>> all_moves(2, 2)
    ((), (0,), (1,), (0, 0), (0, 1), (1, 1))
    """
    sizes = range(1, wave + 1)
    return ((), *(move for size in sizes for move in combinations_with_replacement(range(sources), size)))


def likeliest(right: np.ndarray) -> np.ndarray:
    """i8[...] the likeliest answer, by f[..., B] the chance that each is right: of equals, up to rounding, the first."""
    return (right >= right.max(axis=-1, keepdims=True) - ROUNDING).argmax(axis=-1).astype(np.int8)


def best_moves(right, chance, cost, following, multiplier, bounds, moves, rounds, xp=np):
    """Backward induction at one multiplier l: a state's value is

        V(s) = max( P(its best answer is right),  max over moves of  E V(s') - l cost(move) ).

    States lie in layers by the number of samples, and a layer needs only those behind it: one pass from the last to the first solves
    all states. Where rounds are limited there is a pass for each round. Every question gets a first sample.

    Args:
      right: f[..., S] the chance that a state's best answer is right.
      chance: f[..., S, M, W] of the outcomes of a draw.
      cost: f[..., M] of a sample of each source.
      following: i32[S, M, W] `Patterns.next`.
      multiplier: l.
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
        values, chosen = [None] * len(layers), [None] * len(layers)
        behind: dict[tuple[int | None, ...], np.ndarray] = {}
        for n in reversed(range(len(layers))):
            here = {rest: drawn(n, rest[0], behind[rest[1:]]) for rest in wanted if rest[1:] in behind}
            worth = {} if n == 0 else {0: right[..., layers[n]]}
            for number, move in enumerate(moves):
                if move in here:
                    worth[number] = here[move] - (multiplier * sum(cost[..., m] for m in move))[..., None]
            stacked = xp.stack(list(worth.values()))
            greatest = stacked.max(axis=0)
            values[n] = greatest
            chosen[n] = xp.asarray(list(worth), xp.int8)[(stacked >= greatest[None] - ROUNDING).argmax(axis=0)]
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
