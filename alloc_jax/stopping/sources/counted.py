"""Agreement patterns as they were counted on training questions, shrunk towards what latent classes and texts expect. NumPy alone.

A class model may be wrong about a pattern: two sources that err together more than others, or an answer that only one of them gets wrong. How
often each outcome followed each state is counted beside how often it was expected, question by question, and so is how often each block was
right. Expectations are then scaled by counted over expected, and log-odds shifted, both as if some questions more had done as expected; a
pattern that was never seen keeps what the model says.
"""

from __future__ import annotations

import numpy as np

from alloc_jax.stopping.sources.classes import Counted, Table
from alloc_jax.stopping.sources.patterns import Patterns
from alloc_jax.stopping.sources.walking import Walkers
from alloc_jax.stopping.sources.walks import Walks

FURTHEST = 2.0  # log-odds that counts may shift


def count_patterns(patterns: Patterns, table: Table, walks: Walks, context: np.ndarray, strength: float) -> Counted:
    """What walks did in every state they can come to, against a table.

    Args:
      patterns: the states.
      table: what is expected in G contexts.
      walks: of training questions; every way of drawing from one counts once in each state.
      context: i64[N] in [0, G).
      strength: questions that count as if they had done as expected.
    """
    count, orders = walks.answer.shape[:2]
    question, order = (x.reshape(-1) for x in np.indices((count, orders)))
    share = 1 / orders
    went, expected = np.zeros((2, *patterns.next.shape))
    over, bend = np.zeros((2, len(patterns), patterns.blocks))
    every = np.arange(len(question))

    def visit(walkers: Walkers, first: int) -> None:
        state, where = walkers.state, context[walkers.question]
        p = np.clip(table.right[where, state], 0.001, 0.999)
        used = np.arange(patterns.blocks) < patterns.kept[state][:, None]
        np.add.at(over, state, share * used * (walkers.good[:, :-1] - p))
        np.add.at(bend, state, share * used * p * (1 - p))
        for m in range(patterns.sources):
            may = (patterns.next[state, m] >= 0).any(axis=-1)
            if not may.any():
                continue
            some = every[: len(state)][may]  # a verified question ends
            after = walkers.copy(some)
            np.add.at(expected, (state[some], m), share * table.chance[where[some], state[some], m])
            outcome = after.draw(np.arange(len(some)), np.full(len(some), m))[1]
            np.add.at(went, (state[some], m, outcome), share)
            if m >= first:
                visit(after, m)

    visit(Walkers(patterns, walks, question, order), 0)
    scale = (went + strength * _even(expected)) / np.maximum(expected + strength * _even(expected), 1e-30)
    scale = np.where(expected > 0, scale, 1)
    shift = np.clip(over / (bend + strength / 8), -FURTHEST, FURTHEST)
    return Counted(scale.astype(np.float32), shift.astype(np.float32))


def _even(expected: np.ndarray) -> np.ndarray:
    """f[S, M, B + 3] the expected outcomes as shares of each draw."""
    return expected / np.maximum(expected.sum(axis=-1, keepdims=True), 1e-30)
