"""The exact expectation of a k-sample vote, over all k-subsets of the samples that were logged.

Logging n samples of a source tells what a vote over any k <= n of them would have done: the estimate is the average
over all C(n, k) subsets. A vote depends only on how often each answer occurs, so the average is a sum over how many samples
v_j of each answer class j (c_j of them logged) fall into the subset:

    P(class t wins) = sum_m C(c_t, m) [ sum_{v <= m, sum v = k - m} prod_j C(c_j, v_j) / (1 + ties) ] / C(n, k)

- **No overflow.** Independent binomials with one success probability p, given that their sum is k, follow this very
  law, whatever p is. With p near k / n every factor is a probability, and the normaliser P(sum = k) is of the order
  1 / sqrt(k). All terms are positive, so float32 loses nothing.
- **Ties.** 1 / (1 + ties) is the integral of y^ties over [0, 1]: each class brings its own factor of y, and
  Gauss-Legendre nodes integrate the polynomial exactly, because at most k / m - 1 others can tie at m.
- **Singletons.** Answers seen once never exceed m, and tie only at m = 1: all of them are one class.
- **Moments.** E[win * v_j] of every class comes from one backward pass, and is all that the standard error needs.

`vote_kernel` is the pure function for one question; `alloc_jax.measure.estimators.vote_batches` runs it on many.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Nodes(NamedTuple):
    """The terms that the votes sum over: a vote k, its winning count m, and the nodes y and weights w of its tie integral."""

    vote: np.ndarray  # i32[Q] k
    winning: np.ndarray  # i32[Q] m
    at: np.ndarray  # f32[Q] y
    weight: np.ndarray  # f32[Q] w


class Moments(NamedTuple):
    """E[win] and E[win * v_j] of each class, for each of V votes; times the normaliser P(sum = k)."""

    win: jax.Array  # f32[V] the target wins
    target: jax.Array  # f32[V] win * samples drawn of the target
    silent: jax.Array  # f32[V] win * samples drawn that have no answer
    singles: jax.Array  # f32[V] win * samples drawn of the answers that were seen once
    others: jax.Array  # f32[V, J] win * samples drawn of every other class


def vote_nodes(votes: tuple[int, ...], ties: str = "uniform") -> Nodes:
    """The terms of the sums over winning counts, vote after vote, with exact quadrature of ties.

    A tie that nobody wins ("abstain") needs no integral: it is the value 0^ties of the same polynomial at y = 0. The square of a
    share ("square"), 1 / (1 + ties)^2, is the integral of (y y')^ties over both.

    >>> nodes = vote_nodes((2, 4))
    >>> nodes.vote.tolist(), nodes.winning.tolist()  # at k = 4, m = 1 three others may tie: a cubic, exact with two nodes
    ([2, 2, 4, 4, 4, 4, 4], [1, 2, 1, 1, 2, 3, 4])
    """
    rows = []
    for k in votes:
        for m in range(1, k + 1):
            if ties == "abstain":
                rows.append((k, m, 0.0, 1.0))
                continue
            y, w = np.polynomial.legendre.leggauss(-(-(k // m) // 2))  # exact up to degree 2 len(y) - 1 >= k // m - 1
            if ties == "square":
                y, w = (2 * np.outer((1 + y) / 2, (1 + y) / 2) - 1).ravel(), (np.outer(w, w) / 2).ravel()
            rows += [(k, m, *node) for node in zip((1 + y) / 2, w / 2, strict=True)]
    vote, count, at, weight = np.array(rows).T
    return Nodes(vote.astype(np.int32), count.astype(np.int32), at.astype(np.float32), weight.astype(np.float32))


def log_binomial(n: np.ndarray, k: np.ndarray | int, p: float) -> np.ndarray:
    """log P(k successes in n draws of probability p), in float64; -inf where k > n."""
    n, k = np.broadcast_arrays(np.asarray(n), np.asarray(k))
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, max(n.max(), k.max()) + 1)))])
    rest = np.maximum(n - k, 0)
    value = log_factorial[n] - log_factorial[k] - log_factorial[rest] + k * np.log(p) + rest * np.log1p(-p)
    return np.where(k > n, -np.inf, value)


def without_replacement(n: int, k: int, p: float) -> np.ndarray:
    """f32[n + 1, k + 1] the chance that v of c samples are drawn, for a vote over k distinct samples."""
    return np.exp(log_binomial(np.arange(n + 1)[:, None], np.arange(k + 1), p)).astype(np.float32)


def with_replacement(n: int, k: int) -> np.ndarray:
    """f32[n + 1, k + 1] the same for k draws with replacement: independent Poissons given their sum are multinomial."""
    rate = np.arange(n + 1)[:, None] * (k / n)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, k + 1)))])
    v = np.arange(k + 1)
    never = np.where(v > 0, -np.inf, 0.0)  # what a class without samples gives
    value = np.where(rate > 0, v * np.log(np.maximum(rate, 1e-300)) - rate - log_factorial, never)
    return np.exp(value).astype(np.float32)


def vote_kernel(
    target: jax.Array,
    others: jax.Array,
    singles: jax.Array,
    silent: jax.Array,
    depth: jax.Array,
    taps: jax.Array,
    chance: jax.Array,
    nodes: Nodes,
    votes: tuple[int, ...],
) -> Moments:
    """The chance that one answer wins a vote, and its first moments with the samples drawn of each class.

    A forward pass convolves the classes one after the other: state [L, Q] holds the chance that s = 0..max(votes)
    samples were drawn so far, for each node. A backward pass carries the adjoint through the same convolutions.

    Args:
      target: i32[] samples of the answer whose win is asked for.
      others: i32[J] samples of every other answer that was seen at least twice; 0 is padding.
      singles: i32[] number of other answers that were seen once.
      silent: i32[] samples without an answer.
      depth: i32[] how many of `others` are not padding.
      taps: i32[J + 1] an upper bound on the draws of `singles`, then of each of `others`: at least
        min(max(votes), count). Like `depth` it is not batched, so that a batch stops at its own largest classes.
      chance: f32[C + 1, max(votes) + 1] chance that v of c samples are drawn, from `without_replacement` or
        `with_replacement`.
      nodes: Q nodes of `vote_nodes`; those of winning counts that the target cannot have may be left out.
      votes: V sample counts k; static.

    Returns:
      `Moments`, to be divided by the normaliser of each vote.
    """
    vote, count, at, weight = (x[None] for x in nodes)  # [1, Q]
    k = max(votes)
    draws = np.arange(k + 1, dtype=np.int32)[:, None]
    # What a class may contribute when the target has m: fewer than m draws, or m and a tie. Singles tie at m = 1 only.
    limited = jnp.where(draws < count, 1.0, jnp.where(draws == count, at, 0.0))
    singly = jnp.where(count == 1, at**draws, 1.0)
    allowed = jnp.stack([singly, limited]).astype(jnp.float32)  # [2, L, Q]
    complete = jnp.asarray(draws == vote - count, jnp.float32)  # [L, Q] all but the target's m are drawn
    classes = jnp.concatenate([singles[None], others])

    def forward(j, carry):
        """state -> sum_v factor(v) state[s - v]; the states on the way are kept."""
        state, states = carry
        row, mask = chance[classes[j]], allowed[jnp.minimum(j, 1)]
        padded = jnp.pad(state, ((k, 0), (0, 0)))

        def tap(v, total):
            return total + row[v] * mask[v][None] * jax.lax.dynamic_slice_in_dim(padded, k - v, k + 1)

        return jax.lax.fori_loop(0, taps[j] + 1, tap, jnp.zeros_like(state)), states.at[j].set(state)

    def backward(i, carry):
        """The adjoint before class j, and <adjoint, sum_v v factor(v) state[s - v]> for each node."""
        adjoint, drawn = carry
        j = depth - i
        row, mask, state = chance[classes[j]], allowed[jnp.minimum(j, 1)], states[j]
        padded = jnp.pad(adjoint, ((0, k), (0, 0)))

        def tap(v, carry):
            total, moment = carry
            term = row[v] * mask[v][None] * jax.lax.dynamic_slice_in_dim(padded, v, k + 1)
            return total + term, moment + v * jnp.sum(term * state, axis=0)

        start = (jnp.zeros_like(adjoint), jnp.zeros(vote.shape[1], jnp.float32))
        adjoint, moment = jax.lax.fori_loop(0, taps[j] + 1, tap, start)
        return adjoint, drawn.at[j].set(moment)

    first = jnp.broadcast_to(chance[silent][:, None], complete.shape)
    states = jnp.zeros((len(taps), *complete.shape), jnp.float32)
    final, states = jax.lax.fori_loop(0, depth + 1, forward, (first, states))
    wins = complete * weight * chance[target][count]
    drawn = jnp.zeros((len(taps), vote.shape[1]), jnp.float32)
    adjoint, drawn = jax.lax.fori_loop(0, depth + 1, backward, (wins, drawn))

    win = jnp.sum(wins * final, axis=0)
    drawn_silent = jnp.sum(draws.astype(np.float32) * adjoint * first, axis=0)
    every = jnp.concatenate([jnp.stack([win, win * count[0], drawn_silent]), drawn])
    every = jnp.stack([jnp.where(vote == k, every, 0).sum(axis=1) for k in votes])
    return Moments(every[:, 0], every[:, 1], every[:, 2], every[:, 3], every[:, 4:])


vote_batch = jax.jit(jax.vmap(vote_kernel, in_axes=(0, 0, 0, 0, None, None, None, None, None)), static_argnums=8)
