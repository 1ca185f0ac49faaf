"""Correction of a belief by counts: how often each outcome followed each state in training questions, against its expectation. NumPy alone.

A class model may be wrong about what comes next: two sources that agree more often than others, or a source that gives up where others did. How
often each outcome followed each state is counted beside how often it was expected, question by question. Expectations are
scaled by counted over expected, as if some questions more had done as expected; a pattern that was never seen keeps what the model says.
"""

from __future__ import annotations

import numpy as np

from alloc_jax.stopping.sources.beliefs import BeliefTable
from alloc_jax.stopping.sources.patterns import Patterns
from alloc_jax.stopping.sources.simulation import Walkers
from alloc_jax.stopping.sources.walks import Walks


def count_patterns(
    patterns: Patterns, table: BeliefTable, walks: Walks, context: np.ndarray, strength: float
) -> np.ndarray:
    """f32[S, M, W] the scale of a belief: what walks did in every state they can come to, against a table.

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
    every = np.arange(len(question))

    def visit(walkers: Walkers, first: int) -> None:
        state, where = walkers.state, context[walkers.question]
        for m in range(patterns.sources):
            may = (patterns.next[state, m] >= 0).any(axis=-1)
            if not may.any():
                continue
            some = every[: len(state)][may]  # a verified question ends
            after = walkers.copy(some)
            np.add.at(expected[:, m], state[some], share * table.chance[where[some], state[some], m])
            outcome = after.draw(np.arange(len(some)), np.full(len(some), m))[1]
            np.add.at(went[:, m], (state[some], outcome), share)
            if m >= first:
                visit(after, m)

    visit(Walkers(patterns, walks, question, order), 0)
    scale = (went + strength * _even(expected)) / np.maximum(expected + strength * _even(expected), 1e-30)
    return np.where(expected > 0, scale, 1).astype(np.float32)


def _even(expected: np.ndarray) -> np.ndarray:
    """f[S, M, W] the expected outcomes as shares of each draw."""
    return expected / np.maximum(expected.sum(axis=-1, keepdims=True), 1e-30)
