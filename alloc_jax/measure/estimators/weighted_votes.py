"""The reward-weighted vote: the answer with the largest sum of rewards wins.

A vote of counts has few outcomes; sums of rewards have as many as there are subsets. Two methods are exact, and there is no
other:

- **Enumeration** of all C(n, k) subsets, where these are at most `MOST_SUBSETS`. Rewards are what they are; sums within a
  millionth of the largest possible one are tied.
- **Rewards on a grid** (multiples of one step, such as 0 and 1, stars, or scores rounded to 0.05): a dynamic program over
  the sums. An answer with m samples and sum s beats the others at weight y for each tie, as in `vote_kernel`:

      P(t wins) = sum_{m, s} P(t draws m, sum s) int_0^1 [z^(k - m)] prod_j (P_j(0) + sum_v z^v (P_j(v, < s) + y P_j(v, s))) dy

  Its derivative with respect to a weight x_i on every draw of sample i is E[h N_i]: one backward pass gives them all.

The tied answer that was drawn first is one with m of the tied answers' samples with chance proportional to m = m int y^(m - 1)
y^(the others' samples) dy: ties then count y^v instead of y. Here, unlike in a vote of counts, this differs from a fair coin.

Other rewards are refused: round them first. A sample without an answer has no vote, and an answer wins only if drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alloc_jax.measure.estimators.u_statistics import Expectation, Pairs
from alloc_jax.measure.estimators.vote_kernel import log_binomial, with_replacement, without_replacement
from alloc_jax.measure.estimators.votes import grader_pull

MOST_SUBSETS = 200_000  # that are enumerated for a pair
MOST_LEVELS = 4096  # steps from 0 to the largest reward on a grid
MOST_FLOATS = 2**27  # in the tables of one question
MOST_WORK = 2**33  # multiplications for one question
_FLOATS_PER_BATCH = 2**24
_TIE = 1e-6


def expected_weighted_votes(
    pairs: Pairs, sizes: Sequence[int], replacement: bool = False, *, ties: str = "uniform"
) -> list[Expectation]:
    """The exact expectations of reward-weighted votes over all k-subsets.

    With replacement, which only the variance at k = n asks for, rewards on no grid are rounded to 32 steps.

    Raises:
      ValueError: there are too many subsets to enumerate, and the rewards lie on no grid that is small enough.

    >>> pairs = Pairs(np.array([[0, 1, 1]]), np.array([[True, False, False]]), np.ones((1, 3), bool),
    ...               np.array([[0.9, 0.2, 0.3]]))
    >>> [float(part.mean[0].round(4)) for part in expected_weighted_votes(pairs, (1, 2, 3))]
    [0.3333, 0.6667, 1.0]
    """
    given = pairs.sampled & (pairs.answer >= 0)
    reward = np.where(given, pairs.value, 0).astype(np.float64)
    step = grid_step(reward) if reward.size else 1.0
    parts = []
    for k in sizes:
        grid = None if step is None else _Grid.of(pairs, reward, step, k, ties)
        subsets = np.array([math.comb(int(n), k) for n in pairs.count], float)
        cheaper = grid is None or grid.floats > MOST_FLOATS or subsets * pairs.answer.shape[1] < grid.work
        rows = np.flatnonzero((subsets <= MOST_SUBSETS) & cheaper & (not replacement))
        moment, share = np.zeros(pairs.answer.shape), np.zeros(pairs.answers.count.shape)
        for i in rows:
            moment[i], share[i] = _enumerate(pairs, reward, int(i), k, ties)
        rows = np.setdiff1d(np.arange(len(reward)), rows)
        if rows.size:
            if grid is None and replacement:
                grid = _Grid.of(pairs, reward, np.abs(reward).max() / 32, k, ties)
            _check_grid(grid, pairs, k)
            of_rows = pairs.select(rows)
            moment[rows], found = _on_grid(of_rows, reward[rows], grid, k, replacement, ties)
            share[rows, : found.shape[1]] = found  # fewer rows may hold fewer answers
        mean = (pairs.answers.correct * share).sum(axis=1, dtype=np.float64)
        parts.append(Expectation(mean, moment + grader_pull(pairs, share, k, replacement)))
    return parts


def grid_step(reward: np.ndarray) -> float | None:
    """The largest step of which all rewards are multiples; None where 0 to the largest takes over `MOST_LEVELS` of them.

    >>> round(grid_step(np.array([0.4, 1.0, -0.2])), 6), grid_step(np.array([0.5, 0.50001]))
    (0.2, None)
    """
    values = np.unique(np.abs(reward))[::-1]
    largest, step = float(values[0]), 0.0
    if largest == 0:
        return 1.0
    for value in map(float, values):  # Euclid's algorithm on numbers with noise
        while value > largest / MOST_LEVELS / 2:
            step, value = value, abs(step - value * round(step / value))
        if step < largest / MOST_LEVELS * (1 - 1e-3):
            return None
    step = largest / round(largest / step)
    off = np.abs(values - step * np.rint(values / step)).max()
    return step if off <= _TIE * largest else None


# ---------------------------------------------------------------------------------------------------------------
# Enumeration
# ---------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _subsets(n: int, k: int) -> np.ndarray:
    """f64[C(n, k), n] the indicators of all k-subsets."""
    chosen = np.fromiter(itertools.chain.from_iterable(itertools.combinations(range(n), k)), np.int16)
    out = np.zeros((len(chosen) // k, n))
    np.put_along_axis(out, chosen.reshape(-1, k).astype(np.int64), 1.0, axis=1)
    return out


def _enumerate(pairs: Pairs, reward: np.ndarray, i: int, k: int, ties: str) -> tuple[np.ndarray, np.ndarray]:
    """E[h N] f64[S], and the chance that each answer wins f64[C], of one pair."""
    n, worth, place = int(pairs.count[i]), pairs.answers.correct[i], pairs.answers.place[i]
    width = len(worth)
    real = np.flatnonzero(pairs.sampled[i])
    member = np.eye(width + 1)[place[real]][:, :width]  # [n, C]
    slack = _TIE * k * np.abs(reward[i]).max()
    moment, share = np.zeros(n), np.zeros(width)
    subsets = _subsets(n, k)
    for start in range(0, len(subsets), 2048):  # small enough for the cache
        drawn = subsets[start : start + 2048]
        total, size = drawn @ (member * reward[i, real][:, None]), drawn @ member
        total = np.where(size > 0, total, -np.inf)
        winner = (total >= total.max(axis=1, keepdims=True) - slack) & (size > 0)
        tied = winner.sum(axis=1, keepdims=True)
        chances = winner * size if ties == "first" else winner * (tied == 1) if ties == "abstain" else winner
        win = chances / np.maximum(chances.sum(axis=1, keepdims=True), 1)
        moment += (win @ worth) @ drawn
        share += win.sum(axis=0)
    by_slot = np.zeros(pairs.answer.shape[1])
    by_slot[real] = moment / len(subsets)
    return by_slot, share / len(subsets)


# ---------------------------------------------------------------------------------------------------------------
# Rewards on a grid
# ---------------------------------------------------------------------------------------------------------------


class _Grid(NamedTuple):
    """The sums that k rewards can have, and the arrays of the dynamic program over them."""

    step: float
    low: int  # steps of the lowest reward, at most 0
    high: int
    classes: int
    nodes: int  # of the tie integral
    floats: float  # in the tables of one question
    work: float  # multiplications for one question

    @classmethod
    def of(cls, pairs: Pairs, reward: np.ndarray, step: float, k: int, ties: str) -> _Grid:
        low, high = (int(np.rint(end / step)) for end in (min(reward.min(), 0), max(reward.max(), 0)))
        classes, cells = _rounded(pairs.answers.count.shape[1]), (k + 1) * (k * (high - low) + 1)
        nodes = {"abstain": 1, "first": -(-k // 2)}.get(ties, -(-min(classes, k) // 2))
        floats, work = cells * (pairs.answer.shape[1] + 2.0 * classes * nodes), 2.0 * k * cells * classes * nodes
        return cls(step, low, high, classes, nodes, floats, work)


def _check_grid(grid: _Grid | None, pairs: Pairs, k: int) -> None:
    what = f"a weighted vote over {k} of {pairs.count.max()} samples has too many subsets to enumerate, and the rewards"
    cure = "round them, as in dataclasses.replace(log, reward=log.reward.round(1))"
    if grid is None:
        raise ValueError(f"{what} are multiples of no step that reaches the largest in {MOST_LEVELS}: {cure}")
    if grid.floats > MOST_FLOATS or grid.work > MOST_WORK:
        raise ValueError(
            f"{what}, in {grid.high - grid.low} steps, take {grid.floats:.1e} floats and {grid.work:.1e} multiplications a"
            f" question; the limits are {MOST_FLOATS:.1e} and {MOST_WORK:.1e}: {cure}"
        )


def _on_grid(
    pairs: Pairs, reward: np.ndarray, grid: _Grid, k: int, replacement: bool, ties: str
) -> tuple[np.ndarray, np.ndarray]:
    """E[h N] f64[P, S] and the chance that each answer wins f64[P, C]."""
    counts, slots, classes = pairs.answers, pairs.answer.shape[1], grid.classes
    level = np.rint(reward / grid.step).astype(np.int64)
    pair, target = np.nonzero((counts.count > 0) & (counts.correct > 0))
    # The samples by answer: the target's first, then the others' by position, the rest last.
    place = counts.place[pair]
    rank = np.where(place == target[:, None], -1, place)
    order = np.argsort(rank, axis=1, kind="stable")
    rank, by_class = np.take_along_axis(rank, order, 1), np.take_along_axis(level[pair], order, 1)
    given = rank < counts.count.shape[1]
    begins = np.diff(rank, axis=1, prepend=-2) != 0
    number = np.where(given, np.cumsum(begins, axis=1) - 1, classes)
    ends = (number[:, None, :] == np.arange(classes)[:, None]).cumsum(axis=2).argmax(axis=2)  # the last of each class
    exists = (number[:, None, :] == np.arange(classes)[:, None]).any(axis=2)

    moment, share = np.zeros((len(counts.count), slots)), np.zeros(counts.count.shape)
    n = pairs.count[pair]
    most = min(max(_FLOATS_PER_BATCH // grid.floats, 1), _rounded(len(pair)))
    batch = 2 ** int(np.log2(most))
    for size in np.unique(n):
        row = with_replacement(size, k) if replacement else without_replacement(size, k, k / (size + 1))
        scale = np.exp(k * np.log(k) - k - math.lgamma(k + 1) if replacement else log_binomial(size, k, k / (size + 1)))
        rows = np.flatnonzero(n == size)
        for start in range(0, len(rows), batch):
            at = rows[start : start + batch]
            part = np.resize(at, batch)
            silent = row[counts.silent[pair[part]]]
            win, (one, none) = _win_batch(
                jnp.ones((batch, slots), jnp.float32), jnp.ones((batch,), jnp.float32),
                by_class[part].astype(np.int32), begins[part], ends[part].astype(np.int32), exists[part], silent,
                row[1][: k + 1 if replacement else 2], (k, grid.low, grid.high, grid.nodes, ties),
            )  # fmt: skip
            win, one, none = (np.asarray(x, np.float64)[: len(at)] / scale for x in (win, one, none))
            spread = none / np.maximum(counts.silent[pair[at]], 1)
            by_slot = np.empty_like(one)
            np.put_along_axis(by_slot, order[at], np.where(given[at], one, spread[:, None]), axis=1)
            np.add.at(moment, pair[at], counts.correct[pair[at], target[at]][:, None] * by_slot)
            share[pair[at], target[at]] = win
    return moment, share


def _rounded(classes: int) -> int:
    """Rounded up to a power of two, so that logs share compiled programs."""
    return 2 ** max(math.ceil(math.log2(classes)), 1)


def _win(one, none, level, begins, ends, exists, silent, chance, static):
    """The chance that the first class wins, times P(k samples are drawn).

    Args:
      one: f32[S] a weight 1 on each draw of a sample, to differentiate by.
      none: f32[] the same for the samples without an answer.
      level: i32[S] rewards in steps, samples ordered by class.
      begins: bool[S] where a class begins.
      ends: i32[J] the last sample of each class.
      exists: bool[J]
      silent: f32[k + 1] the chance that so many samples without an answer are drawn.
      chance: f32[V] the chance that a sample is drawn 0, 1, ... times.
      static: (k, lowest level, highest level, nodes, ties)
    """
    k, low, high, nodes, ties = static
    most = len(chance) - 1
    sums = k * (high - low) + 1
    reach = most * max(high, -low, 1)
    nothing = jnp.zeros((k + 1, sums), jnp.float32).at[0, -k * low].set(1.0)

    def add_sample(table, sample):
        """The joint chances [draws, sum] of a class with one sample more."""
        weight, z, new = sample
        table = jnp.where(new, nothing, table)
        padded = jnp.pad(table, ((most, 0), (reach, reach)))

        def tap(total, u):
            moved = jax.lax.dynamic_slice(padded, (most - u, reach - u * z), (k + 1, sums))
            return total + chance[u] * weight**u * moved, None

        table, _ = jax.lax.scan(tap, chance[0] * table, jnp.arange(1, most + 1))
        return table, table

    _, tables = jax.lax.scan(add_sample, nothing, (one, level, begins))
    tables = jnp.where(exists[:, None, None], tables[ends], nothing)
    y, w = np.polynomial.legendre.leggauss(nodes)
    y, w = (np.zeros(1), np.ones(1)) if ties == "abstain" else ((1 + y) / 2, w / 2)
    draws = np.arange(k + 1)[:, None]
    tie = (y**draws if ties == "first" else y + 0 * draws).astype(np.float32)[:, None]  # [k + 1, 1, Q]
    own = (w * draws * y ** (draws - 1).clip(0) if ties == "first" else w + 0 * draws).astype(np.float32)[:, None]

    @jax.checkpoint
    def add_class(state, table):
        """state[v, s, q]: the chance that the classes so far drew v, none beat the sum s, and ties count y_q."""
        below = jnp.cumsum(table, axis=1) - table
        factor = below[:, :, None] + table[:, :, None] * tie
        factor = factor.at[0].set(table[0].sum())  # an answer that was not drawn beats nobody
        padded = jnp.pad(state, ((k, 0), (0, 0), (0, 0)))

        def tap(total, u):
            return total + factor[u][None] * jax.lax.dynamic_slice_in_dim(padded, k - u, k + 1), None

        return jax.lax.scan(tap, jnp.zeros_like(state), jnp.arange(k + 1))[0], None

    start = silent * none ** np.arange(k + 1, dtype=np.float32)
    state, _ = jax.lax.scan(add_class, jnp.broadcast_to(start[:, None, None], (k + 1, sums, len(y))), tables[1:])
    rest = (state[::-1] * own).sum(axis=2)  # [k + 1, s] where the target drew m = 0, 1, ...
    return (tables[0, 1:] * rest[1:]).sum()


_win_batch = jax.jit(
    jax.vmap(jax.value_and_grad(_win, argnums=(0, 1)), in_axes=(*[0] * 7, None, None)), static_argnums=8
)
