"""Backward induction over patterns: at a multiplier, where to stop and whom to ask next.

`patterns.best_moves` is one pass for one multiplier; here contexts are an axis of its arrays, and multipliers are mapped over.

A question with one source is a stopping problem, whose states have an index. With several it is a superprocess: an index exists where the best move of
each state is the same at all multipliers below the one at which it stops (Whittle 1980). `whittle` says how far that holds; the tables
that are served keep a move for every multiplier, and do not need it.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alloc_jax.solve.mesh import shared_out, whole_on_host
from alloc_jax.stopping.sources.patterns import Patterns, best_moves


class PatternRules(NamedTuple):
    """The best rules of P multipliers in G contexts."""

    move: np.ndarray  # i8[P, R, G, S] positions in `moves`; 0 stops
    value: np.ndarray  # f32[P, G] of a question before its first sample: expected utility minus multiplier * cost


def solve_patterns(
    patterns: Patterns,
    right: np.ndarray,
    chance: np.ndarray,
    cost: np.ndarray,
    multipliers: np.ndarray,
    moves: tuple[tuple[int, ...], ...],
    rounds: int | None = None,
    mesh: Mesh | None = None,
) -> PatternRules:
    """The best rules of all multipliers; every question gets a first sample.

    Args:
      patterns: the S states.
      right: f[G, S] the chance that a state's best answer is right.
      chance: f[G, S, M, W] of the outcomes of a draw.
      cost: f[G, M] of a sample of each source.
      multipliers: f[P].
      moves: what a rule may do, from `all_moves`; 0 stops.
      rounds: the most moves of a question, one after the other; None: any number, and then drawing several at once only tells less.
      mesh: its devices share out the contexts.
    """
    given = shared_out((right, chance, np.asarray(cost, np.float32)), mesh)
    move, value = _solve(
        *map(jnp.asarray, given),
        jnp.asarray(patterns.next),
        jnp.asarray(multipliers, jnp.float32),
        patterns.bounds,
        moves,
        rounds,
    )
    return PatternRules(whole_on_host(move)[:, :, : len(right)], whole_on_host(value)[:, : len(right)])


@partial(jax.jit, static_argnames=("bounds", "moves", "rounds"))
def _solve(right, chance, cost, following, multipliers, bounds, moves, rounds):
    return jax.lax.map(
        lambda multiplier: best_moves(right, chance, cost, following, multiplier, bounds, moves, rounds, xp=jnp),
        multipliers,
    )


class Certificate(NamedTuple):
    """Value of the best rules of P multipliers under the belief, an upper bound on it, and how far Whittle's condition holds."""

    value: np.ndarray  # f64[P] utility - multiplier * cost of the best rule within the limits, a mean over contexts
    bound: np.ndarray  # f64[P] upper bound on that of any rule, even one that may go on at the cap
    whittle: (
        float  # share of the states' weight, where a rule goes on, in which one move is the best at all multipliers
    )


def certify(
    patterns: Patterns,
    right: np.ndarray,
    chance: np.ndarray,
    reach: np.ndarray,
    cost: np.ndarray,
    multipliers: np.ndarray,
    moves: tuple[tuple[int, ...], ...],
    rounds: int | None = None,
    mesh: Mesh | None = None,
) -> Certificate:
    """The best rules' value under the belief, what the cap on samples costs at most, and whether an index would do.

    A question at the cap could at best be right after one more sample of the cheapest source that has one: with that as the value of those
    states, backward induction gives an upper bound.

    Args:
      patterns, right, chance, cost, multipliers, moves, rounds, mesh: as in `solve_patterns`.
      reach: f[G, S] the weight of states.
    """
    plan = solve_patterns(patterns, right, chance, cost, multipliers, moves, rounds, mesh)
    left = np.asarray(patterns.limits) - patterns.drawn
    pruned = (patterns.drawn.sum(axis=1) == patterns.cap) & (left > 0).any(axis=1)
    cheapest = np.where(left[None] > 0, cost[:, None, :], np.inf).min(axis=2)
    bound = []
    for multiplier in multipliers:
        hoped = np.where(pruned, np.maximum(right, 1 - multiplier * np.minimum(cheapest, 1e30)), right).astype(
            np.float32
        )
        one = np.array([multiplier])
        bound.append(solve_patterns(patterns, hoped, chance, cost, one, moves, rounds, mesh).value.mean())
    return Certificate(plan.value.mean(axis=1, dtype=float), np.array(bound, float), whittle(plan.move[:, 0], reach))


def whittle(move: np.ndarray, weight: np.ndarray) -> float:
    """How much of the states' weight keeps one best move at all multipliers at which it goes on.

    Args:
      move: i8[P, G, S] the best moves; 0 stops.
      weight: f[G, S] of the states.
    """
    most = np.where(move > 0, move, -1).max(axis=0)
    least = np.where(move > 0, move, 127).min(axis=0)
    goes = most > 0
    total = (weight * goes).sum()
    return float((weight * (goes & (most == least))).sum() / total) if total > 0 else 1.0
