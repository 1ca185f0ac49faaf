"""Passes over a table that does not fit into memory: block after block, read ahead, to the totals of best responses.

One compiled program answers both the search and the writing of the plan, with the number of multipliers as its only
difference, so that a plan that is written has the very totals that the search decided on: another program may round the
same expression differently.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.solve import double_double, validation
from alloc_jax.solve.layout import Rows, described, filled_problem, transposed
from alloc_jax.solve.mesh import devices, exact_sum_over, on_mesh, questions_on, specs_of, whole_shares
from alloc_jax.solve.plans import actions_of, extremes, respond_once, row_totals
from alloc_jax.solve.streaming.bracketing import MULTIPLIERS
from alloc_jax.types import AllocationProblem

AHEAD = 2  # blocks that are read before they are needed


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

    for block in read_ahead(blocks, mesh):
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
        np.stack([[_as_float64(best), _as_float64(cheapest)] for best, cheapest, *_ in found]),
        np.stack([_as_float64(values[2]) for values in found]),
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
    totals = _as_float64(found)[:2]
    at_best, at_cheapest = ends <= 0, ends >= np.float32(steepest)
    if (at_best | at_cheapest).any():
        about = described(block.rows, block.invalid, block.size * devices(block.mesh), block.mesh)
        best, cheapest = map(_as_float64, (about.dearest, about.cheapest))
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


def _as_float64(x: double_double.DoubleDouble) -> np.ndarray:
    return np.asarray(x.hi, np.float64) + np.asarray(x.lo, np.float64)


# ---------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------


def read_ahead(blocks: Sequence[AllocationProblem], mesh: Mesh | None) -> Iterator[TableBlock]:
    """The blocks in order, on the device; a thread reads and moves a few of them ahead, so that neither side waits."""
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
                if not hand_over(to_device(problem, i, room, mesh)):
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
      ValueError: shapes that do not match, or several resources.
    """
    if np.ndim(problem.cost) == 3 and np.shape(problem.cost)[2] > 1:
        raise ValueError(f"block {number}: a table of several resources does not stream")
    count, shares = len(problem.utility), devices(mesh)
    room = whole_shares(max(room, count), shares)
    try:
        arrays = validation.as_arrays(filled_problem(problem, room))
    except ValueError as error:
        raise ValueError(f"block {number}: {error}") from None
    rows, invalid = transposed(arrays, mesh)
    weight = float(
        count if problem.weight is None else np.sum(np.asarray(problem.weight, np.float32), dtype=np.float64)
    )
    return TableBlock(count, weight, rows, invalid, room // shares, mesh)
