"""Passes over a table that does not fit into memory: block after block, read ahead, to the totals of best responses.

One compiled program answers both the search and the writing of the plan, with the number of multipliers as its only
difference, so that a plan that is written has the very totals that the search decided on: another program may round the
same expression differently.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.solve import double_double, validation
from alloc_jax.solve.layout import Rows, described, filled_problem, transposed
from alloc_jax.solve.mesh import devices, exact_sum_over, on_mesh, questions_on, specs_of, whole_shares
from alloc_jax.solve.plans import actions_of, extremes, respond_once, row_totals
from alloc_jax.solve.streaming.bracketing import MULTIPLIERS
from alloc_jax.solve.streaming.processes import Peers, flat, in_form
from alloc_jax.types import AllocationProblem

AHEAD = 2  # blocks that are read before they are needed
Block = TypeVar("Block")
Search = TypeVar("Search")


class TableBlock(NamedTuple):
    """A block on the device, in the kernels' layout."""

    questions: int  # without the padding
    weight: float  # of all of them; their number where none has a weight
    rows: Rows  # forbidden actions masked
    invalid: jax.Array  # bool[]
    size: int  # questions of a device, with the padding
    mesh: Mesh | None


class Totals(NamedTuple):
    """What a pass finds: f64 on the host, by block, for this process's blocks."""

    questions: np.ndarray  # i64[B] of each block
    weight: np.ndarray  # f64[B]
    extremes: np.ndarray  # f64[B, 2, 2] spend and utility of the best and the cheapest plan; NaN where not asked for
    responses: np.ndarray  # f64[B, MULTIPLIERS, 2] of the best responses; 0 beyond those asked for
    steepest: float  # 0 where not asked for
    invalid: bool  # the last block has an invalid question; nothing after it was read


def run_pass(
    blocks: Sequence[AllocationProblem], multipliers: np.ndarray, with_extremes: bool, mesh: Mesh | None
) -> Totals:
    """One pass over the blocks.

    Args:
      blocks: the table.
      multipliers: f32[at most MULTIPLIERS].
      with_extremes: also the extreme plans, and whether all questions are valid.
      mesh: its devices share out each block.
    """
    questions, weight, found, waiting = [], [], [], None

    def receive(said) -> bool:
        values = jax.device_get(said)
        found.append(values)
        return bool(values[-1])

    for block in read_ahead(blocks, to_device, mesh):
        questions.append(block.questions)
        weight.append(block.weight)
        responses = double_double.DoubleDouble(*np.zeros((2, MULTIPLIERS, 2), np.float32))
        cheapest = best = double_double.DoubleDouble(*np.full((2, 2), np.nan, np.float32))
        steepest = np.float32(0)
        if multipliers.size:
            responses, _ = respond_to(block, multipliers)
        if with_extremes:
            about = described(block.rows, block.invalid, block.size * devices(block.mesh), block.mesh)
            cheapest, best, steepest = about.cheapest, about.dearest, about.steepest
        # One block is computed while the next is read and a third is on its way to the device: no more are held.
        if waiting is not None and receive(waiting):
            questions.pop()
            weight.pop()
            waiting = None
            break
        waiting = (best, cheapest, responses, steepest, block.invalid)
    invalid = receive(waiting) if waiting is not None else bool(found)

    return Totals(
        np.array(questions, np.int64),
        np.array(weight, np.float64),
        np.stack([[as_float64(best), as_float64(cheapest)] for best, cheapest, *_ in found]),
        np.stack([as_float64(values[2]) for values in found]),
        max(float(values[3]) for values in found),
        invalid,
    )


def respond_to(block: TableBlock, multipliers: np.ndarray) -> tuple[double_double.DoubleDouble, jax.Array]:
    """Totals f32[MULTIPLIERS, 2] of best responses, and the plans c64[2, rows, WIDTH] of the last two (even, odd place)."""
    padded = np.zeros(MULTIPLIERS, np.float32)
    padded[: multipliers.size] = multipliers
    return _respond_jit(block.rows, padded, np.int32(multipliers.size), block.mesh)


def end_plans(block: TableBlock, more: float, less: float, steepest: float) -> tuple[jax.Array, np.ndarray]:
    """The plans c64[2, rows, WIDTH] of the two ends of a bracket, and what they spend and earn, f64[2, 2].

    Args:
      block: the block.
      more: the end that spends more; 0: the best plan, the cheapest of several.
      less: the end that spends less; the steepest multiplier: the cheapest plan, the best of several.
      steepest: of the whole table.
    """
    ends = np.array([more, less], np.float32)
    found, plans = respond_to(block, ends)
    totals = as_float64(found)[:2]
    at_best, at_cheapest = ends <= 0, ends >= np.float32(steepest)
    if (at_best | at_cheapest).any():
        about = described(block.rows, block.invalid, block.size * devices(block.mesh), block.mesh)
        best, cheapest = map(as_float64, (about.dearest, about.cheapest))
        totals = np.where(at_best[:, None], best, np.where(at_cheapest[:, None], cheapest, totals))
        plans = _with_extremes_jit(block.rows, plans, at_best, at_cheapest, block.mesh)
    return plans, totals


@partial(jax.jit, static_argnames="mesh")
def _respond_jit(rows: Rows, multipliers: jax.Array, count: jax.Array, mesh: Mesh | None):
    def kernel(rows, multipliers, count):
        axes = None if mesh is None else mesh.axis_names
        shape, dtype = rows.cost.shape[1:], jnp.result_type(rows.cost, jnp.complex64)

        def one(m, state):
            hi, lo, plans = state
            plan = respond_once(rows.utility, rows.cost, multipliers[m])
            total = double_double.total(row_totals(plan, rows.weight))
            plans = jax.lax.dynamic_update_slice(plans, plan[None], (m % 2, 0, 0))
            return hi.at[m].set(total.hi), lo.at[m].set(total.lo), plans

        zeros = jnp.zeros((MULTIPLIERS, 2), rows.cost.dtype)
        start = zeros, zeros, jnp.zeros((2, *shape), dtype)
        hi, lo, plans = jax.lax.fori_loop(0, count, one, start)
        return exact_sum_over(double_double.DoubleDouble(hi, lo), axes), plans

    return on_mesh(kernel, mesh, specs_of(Rows, mesh), out=(P(), questions_on(mesh, 1)))(rows, multipliers, count)


@partial(jax.jit, static_argnames="mesh")
def _with_extremes_jit(rows: Rows, plans: jax.Array, at_best, at_cheapest, mesh: Mesh | None):
    def kernel(rows, plans, at_best, at_cheapest):
        cheapest, best, _ = extremes(rows.utility, rows.cost)
        at_best, at_cheapest = at_best[:, None, None], at_cheapest[:, None, None]
        return jnp.where(at_best, best[None], jnp.where(at_cheapest, cheapest[None], plans))

    split = questions_on(mesh, 1)
    specs = specs_of(Rows, mesh), split
    return on_mesh(kernel, mesh, *specs, out=split)(rows, plans, at_best, at_cheapest)


@partial(jax.jit, static_argnames=("size", "mesh"))
def actions_jit(rows: Rows, plans: jax.Array, size: int, mesh: Mesh | None) -> jax.Array:
    """u8 or i32[2, N]: the actions of two plans, with the padding.

    Args:
      rows: a block's.
      plans: c64[2, rows, WIDTH].
      size: questions of a device.
      mesh: its devices share out the rows.
    """

    def kernel(rows, plans):
        found = jnp.stack([actions_of(rows.utility, rows.cost, plan) for plan in plans])
        return found.astype(jnp.uint8 if rows.cost.shape[0] <= 256 else jnp.int32).reshape(2, -1)[:, :size]

    split = questions_on(mesh, 1)
    return on_mesh(kernel, mesh, specs_of(Rows, mesh), split, out=split)(rows, plans)


def sums(x: np.ndarray) -> np.ndarray:
    """The exact sums over the first axis, rounded once."""
    return np.array([math.fsum(column) for column in x.reshape(len(x), -1).T]).reshape(x.shape[1:])


def as_float64(x: double_double.DoubleDouble) -> np.ndarray:
    return np.asarray(x.hi, np.float64) + np.asarray(x.lo, np.float64)


# ---------------------------------------------------------------------------------------------------------------
# Whether the blocks are what they should be
# ---------------------------------------------------------------------------------------------------------------


def explain_invalid(
    blocks: Sequence[AllocationProblem], sizes: np.ndarray, before: np.ndarray, invalid: np.ndarray, peers: Peers
) -> None:
    """Raise where a process has found an invalid question, which that process names.

    Args:
      blocks: this process's.
      sizes: [b] questions of those that it has read; the last one is invalid, if any is.
      before: [count] how many questions every process has read.
      invalid: bool[count] of every process.
      peers: the processes.
    """
    bad = np.flatnonzero(invalid)
    if not bad.size:
        return
    if bad[0] != peers.rank:
        raise ValueError(f"process {bad[0]} found an invalid question, which its message names")
    last = len(sizes) - 1
    validation.explain(blocks[last], int(before[: peers.rank].sum()) + int(sizes[:last].sum()))


def resumed_by_all(resume: Search | None, form: Search, peers: Peers) -> Search | None:
    """What the process of rank 0 resumes from, in every process; None where it begins anew."""
    said = peers.gather(np.full_like(flat(form), np.nan) if resume is None else flat(resume))[0]
    return None if np.isnan(said[0]) else in_form(said, form)


def same_table(before: float, weight: float) -> None:
    """Raise where a search resumes on a table of another weight."""
    if not math.isclose(before, weight, rel_tol=1e-12):
        raise ValueError(f"resumed a search over {before:g} questions on a table of {weight:g}")


def check_block(number: int, totals: np.ndarray, known: np.ndarray) -> None:
    """Raise where a block's totals are not those that were solved."""
    if number >= len(known) or not np.allclose(totals, known[number], rtol=1e-12, atol=0):
        raise ValueError(f"block {number} is not what it was when it was solved")


def check_blocks(count: int, known: np.ndarray) -> None:
    """Raise where there are fewer blocks than were solved."""
    if count != len(known):
        raise ValueError(f"{count} blocks where {len(known)} were solved")


# ---------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------


def read_ahead(
    blocks: Sequence[AllocationProblem],
    moved: Callable[[AllocationProblem, int, int, Mesh | None], Block],
    mesh: Mesh | None,
) -> Iterator[Block]:
    """The blocks in order, on the device; a thread reads and moves a few of them ahead, so that neither side waits.

    Args:
      blocks: the table.
      moved: a block's problem, its number, the room of the first one and the mesh, to the block on the device.
      mesh: its devices share out each block.
    """
    ready: queue.Queue = queue.Queue(AHEAD)
    stopped = threading.Event()

    def hand_over(item) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def read():
        try:
            room = None
            for i, problem in enumerate(blocks):
                room = room or len(problem.utility)
                if not hand_over(moved(problem, i, room, mesh)):
                    return
            hand_over(None)
        except BaseException as error:  # raised where the block is waited for
            hand_over(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def to_device(problem: AllocationProblem, number: int, room: int, mesh: Mesh | None) -> TableBlock:
    """A block padded to the room of the first one (so that all share a program) with questions that cost and earn nothing.

    Raises:
      ValueError: see `block_arrays`.
    """
    arrays = block_arrays(problem, number, room, mesh, 1)
    rows, invalid = transposed(arrays, mesh)
    size = len(arrays.utility) // devices(mesh)
    return TableBlock(len(problem.utility), weight_of(problem), rows, invalid, size, mesh)


def block_arrays(
    problem: AllocationProblem, number: int, room: int, mesh: Mesh | None, resources: int
) -> AllocationProblem:
    """A block's arrays with the room of the first one, or its own where that is more.

    Raises:
      ValueError: shapes that do not match, or another number of resources than there are budgets.
    """
    found = 1 if np.ndim(problem.cost) != 3 else np.shape(problem.cost)[2]
    if found != resources:
        raise ValueError(f"block {number}: costs of {found} resources where the budget is for {resources}")
    try:
        return validation.as_arrays(
            filled_problem(problem, whole_shares(max(room, len(problem.utility)), devices(mesh)))
        )
    except ValueError as error:
        raise ValueError(f"block {number}: {error}") from None


def weight_of(problem: AllocationProblem) -> float:
    """The weight of a block's questions; their number where none has a weight."""
    if problem.weight is None:
        return float(len(problem.utility))
    return float(np.sum(np.asarray(problem.weight, np.float32), dtype=np.float64))
