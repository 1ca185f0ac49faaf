"""Walking: what tables of moves do on the questions' own samples, step by step, at all multipliers at once. NumPy alone.

A walk asks a table for its move, draws those samples, and knows no other ones: what is looked up is a state, and the state holds only
answers that have been drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alloc_jax.stopping.sources.patterns import Patterns
from alloc_jax.stopping.sources.walks import Walks

CHUNK = 400_000  # walkers at a time


class Walked(NamedTuple):
    """What the rules of P multipliers did with N questions in O orders."""

    utility: np.ndarray  # f32[P, N, O] whether the answer was right
    cost: np.ndarray  # f64[P, N, O]
    seconds: np.ndarray | None  # f64[P, N, O] one round after the other, the slowest sample of each; None where unknown
    state: np.ndarray  # i32[P, N, O] where it stopped
    rounds: np.ndarray  # i8[P, N, O]


def walk(
    patterns: Patterns,
    move: np.ndarray,
    moves: tuple[tuple[int, ...], ...],
    answer: np.ndarray,
    walks: Walks,
    context: np.ndarray,
    rounds: int | None = None,
) -> Walked:
    """Play rules on walks.

    Args:
      patterns: the states.
      move: i8[P, R, G, S] the moves of P rules; a single round serves all.
      moves: what the numbers stand for; 0 stops.
      answer: i8[G, S] which block answers.
      walks: of N questions.
      context: i64[N] in [0, G).
      rounds: the most moves of a question; None: any number.
    """
    multipliers, count, orders = len(move), len(walks), walks.answer.shape[1]
    part = max(1, CHUNK // max(multipliers * orders, 1))
    found = [
        _walk(patterns, move, moves, answer, walks, context, rounds, np.arange(first, min(first + part, count)))
        for first in range(0, count, part)
    ]
    return Walked(*(None if parts[0] is None else np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))


class Walkers:
    """W walkers, each with a question and an order: their states, and what is behind the blocks of each."""

    def __init__(self, patterns: Patterns, walks: Walks, question: np.ndarray, order: np.ndarray):
        self.patterns, self.walks, self.question, self.order = patterns, walks, question, order
        size, blocks = len(question), patterns.blocks
        self.state = np.zeros(size, np.int32)
        self.code = np.full((size, blocks + 1), -2, np.int32)  # of the blocks; the last column takes the newest
        self.good = np.zeros((size, blocks + 1), bool)
        self.cost = np.zeros(size)

    def copy(self, some: np.ndarray) -> Walkers:
        """Some of the walkers, to go on by themselves."""
        other = Walkers(self.patterns, self.walks, self.question[some], self.order[some])
        for name in ("state", "code", "good", "cost"):
            setattr(other, name, getattr(self, name)[some])
        return other

    def draw(self, some: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw a sample of source i[w] for each of some walkers i[w]: how long it took f64[w], 0 where nobody knows, and the outcomes."""
        patterns, blocks = self.patterns, self.patterns.blocks
        state = self.state[some]
        pick = self.question[some], self.order[some], source, patterns.drawn[state, source]
        said = self.walks.answer[pick]
        self.cost[some] += self.walks.cost[pick]
        same = (self.code[some, :blocks] == said[:, None]) & (said >= 0)[:, None]
        fresh = blocks + (patterns.kept[state] >= blocks)
        outcome = np.where(same.any(axis=1), same.argmax(axis=1), np.where(said >= 0, fresh, blocks + 2))
        outcome = outcome + (blocks + 3) * self.walks.bin[pick].astype(np.int64)
        stands = patterns.order[state, source, outcome].astype(np.int64)
        to = patterns.next[state, source, outcome]
        self.code[some, blocks], self.good[some, blocks] = said, self.walks.right[pick]
        here = np.arange(blocks) < patterns.kept[to][:, None]
        self.code[some, :blocks] = np.where(here, np.take_along_axis(self.code[some], stands, 1), -2)
        self.good[some, :blocks] = here & np.take_along_axis(self.good[some], stands, 1)
        self.state[some] = to
        seconds = np.zeros(len(some)) if self.walks.seconds is None else self.walks.seconds[pick]
        return seconds, outcome


def _walk(patterns, move, moves, answer, walks, context, most, rows) -> Walked:
    shape = (len(move), len(rows), walks.answer.shape[1])
    multiplier, question, order = (x.reshape(-1) for x in np.indices(shape, np.int32))
    question = rows[question]
    where, size = context[question], len(question)
    rounds, seconds = np.zeros(size, np.int8), np.zeros(size)
    walkers = Walkers(patterns, walks, question, order)
    drawn = np.array([[*one, *[-1] * (max(map(len, moves)) - len(one))] for one in moves])  # [moves, wave]
    live = np.arange(size)
    while len(live):
        if most is not None:
            live = live[rounds[live] < most]
        at = np.minimum(rounds[live], move.shape[1] - 1)
        chosen = move[multiplier[live], at, where[live], walkers.state[live]]
        live, chosen = live[chosen > 0], chosen[chosen > 0]
        waited = np.zeros(len(live))
        for source in drawn[chosen].T:
            some = source >= 0
            waited[some] = np.maximum(waited[some], walkers.draw(live[some], source[some])[0])
        seconds[live] += waited
        rounds[live] += 1
    utility = walkers.good[np.arange(size), answer[where, walkers.state]].astype(np.float32)
    named = utility, walkers.cost, None if walks.seconds is None else seconds, walkers.state, rounds
    return Walked(*(None if x is None else x.reshape(shape) for x in named))
