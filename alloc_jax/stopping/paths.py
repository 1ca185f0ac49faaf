"""Paths: the state of a question after each sample drawn, in many orders of its logged samples.

After n samples of a question, a path holds what a stopping rule may see, and what answering then would earn:

    vote      lead and chase: how often the two most frequent answers occurred. Answers with the right one, tied ones evenly.
    verified  lead: 1 once a sample was right, which a verifier sees. Earns 1 from then on.
    best      lead: the bin of the best reward so far. Earns what the sample of that reward is worth.

An order is drawn without replacement, so that its first n samples are a random n-subset: the mean over many orders tends to
the exact expectations of `alloc_jax.measure.estimators.votes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alloc_jax.actions import single
from alloc_jax.measure.costs import check_resources, sample_costs, with_known_costs
from alloc_jax.measure.estimators.u_statistics import Pairs
from alloc_jax.price_book import PriceBook
from alloc_jax.solve.mesh import shared_out, whole_on_host
from alloc_jax.types import SampleLog

ANSWERS = ("vote", "verified", "best")
_CELLS_PER_BLOCK = 2**25  # comparisons of samples that a device holds at once


@dataclass(frozen=True, eq=False, kw_only=True)
class Paths:
    """P orders of T samples each of N questions; position n on the last axis is what is known after n samples."""

    answer: str  # how the question is answered: one of ANSWERS
    lead: np.ndarray  # i16[N, P, T + 1]
    chase: np.ndarray  # i16[N, P, T + 1] 0 unless answers are voted on
    distinct: np.ndarray  # i16[N, P, T + 1] how many different answers have occurred
    utility: np.ndarray  # f32[N, P, T + 1] expected reward of answering now; 0 before the first sample
    cost: np.ndarray  # f32[N, P, T] of sample n + 1
    code: np.ndarray  # i16[N, P, T] the answer of sample n + 1: a code of the question; -1 for none
    ids: tuple[str, ...]  # [N]

    def __len__(self) -> int:
        return len(self.lead)

    @property
    def cap(self) -> int:
        """T"""
        return self.cost.shape[2]

    def until(self, cap: int) -> Paths:
        """The first `cap` samples of every path."""
        lengths = {"cost": cap, "code": cap}
        arrays = ("lead", "chase", "distinct", "utility", "cost", "code")
        return replace(self, **{name: getattr(self, name)[..., : lengths.get(name, cap + 1)] for name in arrays})

    def select(self, rows: Sequence[int] | np.ndarray) -> Paths:
        """The paths of the questions at these positions."""
        rows = np.asarray(rows)
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("answer", "ids")}
        return replace(self, ids=tuple(self.ids[i] for i in rows), **arrays)


def sample_paths(
    log: SampleLog,
    source: str,
    *,
    answer: str = "vote",
    resource: str = "samples",
    cap: int | None = None,
    orders: int = 16,
    seed: int = 0,
    prices: PriceBook | None = None,
    bins: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Paths:
    """Random orders of every question's logged samples of one source.

    Args:
      log: the samples.
      source: where samples are drawn from.
      answer: how a question is answered: "vote", "verified" (an exact verifier sees which sample is right) or "best" (the
        sample of the greatest reward answers).
      resource: what a sample is paid with; seconds are those of samples drawn one after the other.
      cap: samples of a path; default: the fewest that a question has.
      orders: P of them for each question.
      seed: of the orders.
      prices: behind the resource `usd`.
      bins: f[B] rising edges between the bins of a reward; needed for "best".
      mesh: its devices share out the questions, whatever their number; the paths are the same.

    Raises:
      ValueError: a question has no samples or fewer than the cap, a vote has no logged answers to count, rewards or costs
        are missing; the message names the first such question.
    """
    if answer not in ANSWERS:
        raise ValueError(f"answer is one of {', '.join(ANSWERS)}, got {answer!r}")
    m = log.source_index(source)
    (resource,) = check_resources(resource, prices)
    count = log.count[:, m]
    if not len(log) or (count == 0).any():
        which = f"question {log.ids[int(np.argmin(count))]!r} has none" if len(log) else "the log has no questions"
        raise ValueError(f"every question needs samples of {source!r}: {which}")
    cap = int(count.min()) if cap is None else cap
    if not 1 <= cap <= count.min():
        i = int(np.argmin(count))
        raise ValueError(
            f"cap is between 1 and the fewest samples a question has ({log.ids[i]!r}: {count[i]}), got {cap}"
        )
    if orders < 1:
        raise ValueError(f"orders is 1 or more, got {orders}")
    pairs = Pairs(log.answer[:, m], log.correct[:, m], log.sampled[:, m])
    with_known_costs(log, [single(source)], resource, prices=prices)
    cost = np.nan_to_num(sample_costs(log, resource, m, prices)).astype(np.float32)
    code, worth, level = _what_counts(log, pairs, m, answer)
    if answer == "best" and bins is None:
        raise ValueError("answer='best' needs bins to tell rewards apart: see `solve_sequential`, which sets them")
    edges = jnp.zeros(0) if bins is None else jnp.asarray(bins, jnp.float32)

    rows = max(1, _CELLS_PER_BLOCK // (orders * cap * cap)) * (mesh.size if mesh else 1)
    each = (jax.random.split(jax.random.key(seed), len(log)), count, code, worth, level, cost)
    parts = []
    for first in range(0, len(log), rows):
        block = shared_out([x[first : first + rows] for x in each], mesh)
        found = _walks(*block, edges, answer=answer, cap=cap, orders=orders)
        parts.append([whole_on_host(x)[: len(log) - first] for x in found])
    names = ("lead", "chase", "distinct", "utility", "cost", "code")
    return Paths(
        answer=answer,
        ids=log.ids,
        **{name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)},
    )


def _what_counts(log: SampleLog, pairs: Pairs, m: int, answer: str):
    """The code of each sample's answer, what answering with it earns, and the level of its reward; [N, S] each."""
    known = (pairs.answer >= 0).any()
    if answer == "vote" and not known:
        raise ValueError(f"a vote counts answers, and the log has none of {log.sources[m].name!r}: answer='verified'?")
    counts = pairs.answers
    worth = np.take_along_axis(np.column_stack([counts.correct, np.zeros(len(log))]), counts.place, axis=1)
    code = np.where(counts.place < counts.count.shape[1], counts.place, -1)
    level = np.zeros(code.shape)
    if answer == "best":
        if log.reward is None:
            raise ValueError("answer='best' needs logged rewards, and the log has none")
        level = log.reward[:, m]
        lacking = (pairs.sampled & ~np.isfinite(level)).any(axis=1)
        if lacking.any():
            raise ValueError(f"question {log.ids[int(np.argmax(lacking))]!r} has a sample without a reward")
    if answer != "vote":
        worth = pairs.correct
    return code.astype(np.int16), worth.astype(np.float32), np.nan_to_num(level).astype(np.float32)


@partial(jax.jit, static_argnames=("answer", "cap", "orders"))
def _walks(key, count, code, worth, level, cost, edges, *, answer, cap, orders):
    """Walks in random orders through each question's samples, [rows, orders, ...]."""

    def one(key, count, code, worth, level, cost):
        shuffle = jax.random.uniform(key, code.shape)
        order = jnp.argsort(jnp.where(jnp.arange(len(code)) < count, shuffle, 2.0))[:cap]
        code, worth, level, cost = (x[order] for x in (code, worth, level, cost))
        seen = _votes(code, worth)
        if answer == "verified":
            right = jax.lax.cummax(worth)
            seen = (right.astype(jnp.int16), jnp.zeros_like(code), seen[2], right)
        if answer == "best":
            reached, earned = _best(level, worth, edges)
            seen = (reached, jnp.zeros_like(code), seen[2], earned)
        states = [jnp.concatenate([jnp.zeros(1, x.dtype), x]) for x in seen]
        return *states, cost, code

    many = jax.vmap(one, in_axes=(0, None, None, None, None, None))
    return jax.vmap(lambda key, *rest: many(jax.random.split(key, orders), *rest))(key, count, code, worth, level, cost)


def _votes(code: jax.Array, worth: jax.Array):
    """After each of T samples: the two highest counts, the number of different answers, and what a vote earns.

    A sample is the e-th of its answer, and that answer the q-th to occur e times. The lead is the greatest e so far, and the
    chase the greatest e with q >= 2. As many answers tie for the lead as have reached that e.
    """
    earlier = jnp.tril(jnp.ones((len(code), len(code)), bool))  # [t, s]: s is not after t
    given = code >= 0
    same = (code[:, None] == code[None, :]) & earlier & given[:, None]
    rank = same.sum(axis=1)
    reached = (rank[:, None] == rank[None, :]) & earlier & given[:, None] & given[None, :]
    turn = reached.sum(axis=1)
    lead = jax.lax.cummax(rank)
    chase = jax.lax.cummax(jnp.where(turn >= 2, rank, 0))
    distinct = jnp.cumsum(rank == 1)
    tied = (rank[None, :] == lead[:, None]) & earlier & given[None, :]
    earned = jnp.where(tied, worth[None, :], 0).sum(axis=1) / jnp.maximum(tied.sum(axis=1), 1)
    return lead.astype(jnp.int16), chase.astype(jnp.int16), distinct.astype(jnp.int16), earned


def _best(level: jax.Array, worth: jax.Array, edges: jax.Array):
    """After each of T samples: the bin of the best reward, from 1, and what the sample of that reward earns, tied ones evenly."""
    best = jax.lax.cummax(level)
    tied = (level[None, :] == best[:, None]) & jnp.tril(jnp.ones((len(level), len(level)), bool))
    earned = jnp.where(tied, worth[None, :], 0).sum(axis=1) / tied.sum(axis=1)
    return (jnp.searchsorted(edges, best, side="right") + 1).astype(jnp.int16), earned
