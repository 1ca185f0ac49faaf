"""Blocks of a table with several resources on the device: what a pass adds up, and the questions that are brought together from all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.mesh import devices, on_mesh, questions_on
from alloc_jax.solve.resources.kernel import rounded
from alloc_jax.solve.resources.layout import ProblemInChunks, chunked, forbidden, totals
from alloc_jax.solve.resources.newton import Budgeted, Parts, parts_at
from alloc_jax.solve.resources.polish import core_of, gathered, numbers, responses_at
from alloc_jax.solve.streaming.passes import block_arrays, read_ahead, sums, weight_of
from alloc_jax.solve.streaming.processes import Peers
from alloc_jax.types import AllocationProblem, MixedPlan


class ChunkBlock(NamedTuple):
    """A block on the device."""

    questions: int  # without the padding
    weight: float
    prepared: ProblemInChunks

    def places(self) -> np.ndarray:
        """i64[questions] where they are in a flat plan."""
        size, question = self.prepared.size, np.arange(self.questions)
        room = self.prepared.weight.size // devices(self.prepared.mesh)
        return question // size * room + question % size


def chunk_blocks(
    blocks: Sequence[AllocationProblem], about: ProblemInChunks, mesh: Mesh | None
) -> Iterator[ChunkBlock]:
    """The blocks in order, each with what is known of the whole table."""
    for block in read_ahead(blocks, partial(to_chunks, resources=about.cheapest.hi.size), mesh):
        yield block._replace(prepared=replace(block.prepared, questions=about.questions, varies=about.varies))


def to_chunks(problem: AllocationProblem, number: int, room: int, mesh: Mesh | None, resources: int) -> ChunkBlock:
    if problem.weight is None:  # the padding has none
        problem = replace(problem, weight=np.ones(len(problem.utility), np.float32))  # type: ignore[arg-type]  # see `TableCore.problem`
    prepared = chunked(block_arrays(problem, number, room, mesh, resources), mesh)
    return ChunkBlock(len(problem.utility), weight_of(problem), prepared)


class Changes(NamedTuple):
    """The actions of some questions that do not follow the rounded plan."""

    number: np.ndarray  # i64[M] counted over this process, in rising order
    action: np.ndarray  # i32[M]

    def and_then(self, number: np.ndarray, action: np.ndarray) -> Changes:
        """These, and others, which win."""
        numbers, last = np.unique(np.append(self.number, number)[::-1], return_index=True)
        return Changes(numbers, np.append(self.action, action)[::-1][last])

    def apply(self, plan: np.ndarray, first: int, place: np.ndarray) -> np.ndarray:
        """A flat plan with the changes of a block, whose first question has a number and whose questions have places in the plan."""
        here = slice(*np.searchsorted(self.number, [first, first + place.size]))
        plan[place[self.number[here] - first]] = self.action[here]
        return plan


def two_floats(total) -> DoubleDouble:
    return DoubleDouble(*map(jnp.asarray, double_double.split(total, np.dtype(np.float32))))


# ---------------------------------------------------------------------------------------------------------------
# Passes
# ---------------------------------------------------------------------------------------------------------------


@jax.jit
def parts_jit(prepared: ProblemInChunks, budget: jax.Array, multiplier: jax.Array, temperature: jax.Array) -> Parts:
    def kernel(prepared, budget, multiplier, temperature):
        return parts_at(Budgeted.of(prepared, budget), multiplier, temperature)

    return on_mesh(kernel, prepared.mesh, prepared.specs, out=P())(prepared, budget, multiplier, temperature)


@jax.jit
def rounded_jit(prepared: ProblemInChunks, budget: jax.Array, multiplier: jax.Array, temperature: jax.Array):
    """The rounded plan i32[chunks, width] and its totals: one program for the search and for what is written."""

    def kernel(prepared, budget, multiplier, temperature):
        plan = rounded(Budgeted.of(prepared, budget), multiplier, temperature)
        return plan, totals(prepared, plan)

    out = questions_on(prepared.mesh), P()
    return on_mesh(kernel, prepared.mesh, prepared.specs, out=out)(prepared, budget, multiplier, temperature)


@partial(jax.jit, static_argnames="size")
def responses_jit(prepared: ProblemInChunks, budget: jax.Array, key: jax.Array, multiplier: jax.Array, size: int):
    def kernel(prepared, key, budget, multiplier):
        data = Budgeted.of(prepared, budget)
        found, gain = responses_at(prepared, data, key, multiplier)
        return found, _cells(prepared, data, gain, key, size)

    mesh = prepared.mesh
    return on_mesh(kernel, mesh, prepared.specs, questions_on(mesh), out=P())(prepared, key, budget, multiplier)


@partial(jax.jit, static_argnames="size")
def sampled_jit(prepared: ProblemInChunks, budget: jax.Array, size: int):
    def kernel(prepared, budget):
        gain = jnp.where(prepared.weight > 0, 0, -1).astype(prepared.weight.dtype)  # the first that count
        return _cells(prepared, Budgeted.of(prepared, budget), gain, jnp.zeros(gain.shape, jnp.int32), size)

    return on_mesh(kernel, prepared.mesh, prepared.specs, out=P())(prepared, budget)


def _cells(prepared: ProblemInChunks, data: Budgeted, gain: jax.Array, key: jax.Array, size: int):
    """The questions that gain most: utility f32[m, K], cost f32[R, m, K], weight, action in the plan and number, of all devices."""
    where, (utility, cost, weight) = core_of(prepared, data, gain, size)
    own = gathered(jnp.take_along_axis(key, where, axis=1).reshape(-1), prepared.axes)
    return utility, cost * data.unit[:, None, None], weight, own, numbers(prepared, where)


# ---------------------------------------------------------------------------------------------------------------
# The core
# ---------------------------------------------------------------------------------------------------------------


def core_rows(cells: tuple[jax.Array, ...], first: int) -> np.ndarray:
    """f64[m, (1 + R) K + 3] of a block's part of the core: values, weight, own action and number."""
    utility, cost, weight, own, number = (np.asarray(x, np.float64) for x in cells)
    return np.column_stack([utility, *cost, weight, own, number + first])


class TableCore(NamedTuple):
    """The questions that gain most, of all processes; those that fill up a process's part weigh 0."""

    values: np.ndarray  # f64[M, 1 + R, K] utility and costs; 0 where an action may not be taken
    valid: np.ndarray  # bool[M, K]
    weight: np.ndarray  # f64[M]
    own: np.ndarray  # i32[M] their actions in the plan
    number: np.ndarray  # i64[M] counted over their process
    question: np.ndarray  # i64[M] counted over all
    process: np.ndarray  # i32[M]

    @property
    def problem(self) -> AllocationProblem:
        utility, cost = self.values[:, 0], np.moveaxis(self.values[:, 1:], 1, 2)
        utility, cost, weight = (x.astype(np.float32) for x in (utility, cost, self.weight))
        return AllocationProblem(utility, cost, self.valid, weight)  # type: ignore[arg-type]  # NumPy arrays, as a caller may give

    def total(self, action: np.ndarray) -> np.ndarray:
        """f64[1 + R] the total utility and costs of a plan."""
        return sums(self.weight[:, None] * self.values[np.arange(len(action)), :, action])

    def mixture(self, mixed: MixedPlan, action: np.ndarray) -> np.ndarray:
        """f64[1 + R] what is mixed into a plan adds to its total."""
        at, before = mixed.question, action[mixed.question]
        change = self.values[at, :, mixed.other] - self.values[at, :, before]
        return sums((self.weight[at] * mixed.probability)[:, None] * change)

    def changes(self, action: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of a process's own questions, and their actions in a plan."""
        mine = (self.process == rank) & (self.weight > 0)
        return self.number[mine], action[mine]


def core_of_all(rows: np.ndarray, questions: int, resources: int, peers: Peers) -> TableCore:
    """The core of all processes, from f64[m, (1 + R) K + 3] of this one's and how many questions it has."""
    most = int(peers.gather(np.array([len(rows)])).max())
    said = peers.gather(np.vstack([rows, np.zeros((most - len(rows), rows.shape[1]))]))
    first = np.cumsum(np.append(0, peers.gather(np.array([questions]))))[:-1].astype(np.int64)
    process = np.repeat(np.arange(peers.count), most)
    flat = said.reshape(-1, rows.shape[1])
    values = flat[:, :-3].reshape(len(flat), 1 + resources, -1)
    valid = values[:, 0] > forbidden(np.float32)
    values = np.where(valid[:, None], values, 0)
    weight, own, number = flat[:, -3], flat[:, -2].astype(np.int32), flat[:, -1].astype(np.int64)
    return TableCore(values, valid, weight, own, number, number + first[process], process)
