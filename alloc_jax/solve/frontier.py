"""All budgets at once: the best utility as a function of spend.

The frontier of a problem is concave and piecewise linear. Its pieces are the steps of all questions' hulls, steepest
first, so one sort gives every breakpoint (`exact`, on the host). For millions of questions, or under `jit` and `vmap`,
`gridded` evaluates the best response at chosen multipliers instead: its points lie on the exact frontier and its chords
below it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from alloc_jax.display import Tabular, span
from alloc_jax.exports import called_as_its_function
from alloc_jax.solve import double_double, validation
from alloc_jax.solve.envelope import OF_A_FRONTIER, without_derivatives
from alloc_jax.solve.hull import hulls
from alloc_jax.solve.layout import PreparedProblem, ProblemInRows
from alloc_jax.solve.mesh import exact_sum_over, from_device, on_mesh
from alloc_jax.solve.plans import respond, row_totals
from alloc_jax.solve.rounding import between
from alloc_jax.solve.solver import on_its_mesh, prepare
from alloc_jax.types import AllocationProblem, MixedPlan, OutcomeTable, Solution, Status


@dataclass(frozen=True, eq=False)
class Steps:
    """The exact frontier's steps in the order they are taken; NumPy arrays on the host."""

    start: np.ndarray  # i32[N] the cheapest plan
    position: np.ndarray  # u32[S] action * padded + question: who moves, and to which action
    slope: np.ndarray  # f32[S] falling
    total: np.ndarray  # c128[S + 1] total spend + i utility before each step, and after the last
    padded: int = field(metadata={"static": True})  # questions with the layout's padding

    def moved(self, at: slice | int) -> tuple[np.ndarray, np.ndarray]:
        """The questions that move at these steps, and the actions they move to."""
        action, question = np.divmod(self.position[at], np.uint32(self.padded))
        return question.astype(np.int32), action.astype(np.int32)


jax.tree_util.register_dataclass(Steps, ["start", "position", "slope", "total"], ["padded"])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Frontier(Tabular):
    """The best mean utility at every mean spend. Between two points, the frontier (or a lower bound of it) is the chord."""

    spend: jax.Array  # f32[M] rising; rounded up, so that each is a budget that suffices
    utility: jax.Array  # f32[M] rising
    multiplier: jax.Array  # f32[M] falling; a best response at multiplier[m] earns utility[m] at spend[m]
    prepared: ProblemInRows
    steps: Steps | None = None  # None on a grid

    def parts(self) -> dict[str, str]:
        return {name: span(getattr(self, name)) for name in ("spend", "utility", "multiplier")}

    def records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """One row per point: spend, utility, multiplier."""
        columns = {
            name: np.asarray(getattr(self, name))[:limit].tolist() for name in ("spend", "utility", "multiplier")
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def value(self, budget) -> jax.Array:
        """The best utility at these budgets, f32 of their shape; NaN below the cheapest plan.

        Between the points of a grid it is a lower bound.
        """
        budget = jnp.asarray(budget, self.utility.dtype)
        value = jnp.interp(budget, self.spend, self.utility)
        return jnp.where(budget < self.spend[0], jnp.nan, value)

    def at(self, budget) -> Solution:
        """The plan of one budget, without a new solve: the steps up to it, or the cut between two points of the grid."""
        if self.steps is None:
            wanted = validation.as_pair(budget, self.spend.dtype, "budget")
            return validation.shaped_like(_at_grid(self.prepared, self.spend, self.multiplier, wanted), budget)
        return validation.shaped_like(_at_steps(self, budget), budget)


def frontier(problem: AllocationProblem | OutcomeTable | PreparedProblem, *, points: int | None = None) -> Frontier:
    """The best mean utility at every mean spend.

    Args:
      problem: utility f32[N, K], cost f32[N, K]; or a table that holds them.
      points: None: every breakpoint of the exact frontier, sorted on the host. M: the best responses at M multipliers,
        spread evenly over the spend; jittable, vmappable.

    Returns:
      A `Frontier` of M points, the cheapest plan first and the most expensive useful plan last.

    Raises:
      ValueError: like `solve`; several resources; or `points` is below 2, or None inside jit or on a mesh.

    >>> problem = AllocationProblem(np.float32([[0, 1], [0, 2]]), np.float32([[1, 5], [1, 5]]))
    >>> found = frontier(problem)
    >>> found.spend.tolist(), found.utility.tolist(), found.at(3).action.tolist()
    ([1.0, 3.0, 5.0], [0.0, 1.0, 1.5], [0, 1])
    """
    prepared = problem if isinstance(problem, PreparedProblem) else prepare(problem)
    if not isinstance(prepared, ProblemInRows):
        raise ValueError(
            f"a frontier is over one budget, and the problem has {prepared.resources} resources: "
            "pass the cost of one of them, or solve at the budgets of interest"
        )
    if points is None:
        if prepared.mesh is not None:
            raise ValueError("the exact frontier sorts on one device: pass points= for a table shared out over a mesh")
        if validation.is_traced(prepared):
            raise ValueError("the exact frontier sorts on the host: pass points= for a grid inside jit and vmap")
        return exact(prepared)
    if points < 2:
        raise ValueError(f"a frontier has at least 2 points, got points={points}")
    return _gridded_jit(prepared, points)


_hulls_jit = jax.jit(hulls)


def exact(prepared: ProblemInRows) -> Frontier:
    """Every breakpoint, by one sort of all hull steps."""
    hull = jax.tree.map(np.asarray, _hulls_jit(prepared))
    position, slope = _steepest_first(hull.slope.reshape(-1))
    padded = hull.start.size
    weight = None if prepared.weight is None else np.asarray(prepared.weight).reshape(-1)
    total = np.empty(len(position) + 1, np.complex128)
    total[0] = complex(*(np.asarray(prepared.cheapest.hi, np.float64) + np.asarray(prepared.cheapest.lo)))
    before, after = hull.before.reshape(-1), hull.after.reshape(-1)

    def differences(block: slice):
        at = position[block]
        moved = total[1:][block]
        np.subtract(after[at], before[at], dtype=np.complex128, out=moved)
        if weight is not None:
            moved *= weight[at % np.uint32(padded)]
        np.cumsum(moved, out=moved)

    _in_blocks(differences, len(position))
    _join_blocks(total)
    steps = Steps(hull.start.reshape(-1)[: prepared.count], position, slope, total, padded)

    # Steps of one slope are one piece of the frontier.
    last = np.empty(len(position) + 1, bool)
    last[0] = last[-1] = True
    np.not_equal(slope[1:], slope[:-1], out=last[1:-1])
    count = float(prepared.questions.hi) + float(prepared.questions.lo)
    dtype = prepared.utility.dtype.type
    spend, utility = np.empty((2, len(total)), dtype)

    def means(block: slice):
        mean = total[block] / count
        spend[block], utility[block] = mean.real, mean.imag
        short = spend[block] < mean.real
        spend[block][short] = np.nextafter(spend[block][short], dtype(np.inf))

    _in_blocks(means, len(total))
    multiplier = np.append(np.asarray(prepared.steepest), slope)
    spend, utility, multiplier = (jnp.asarray(x[last]) for x in (spend, utility, multiplier))
    return Frontier(spend, utility, multiplier, prepared, steps)


BLOCK = 1 << 16  # steps: their complex128 totals stay in a core's cache


def _in_blocks(work, size: int) -> None:
    """Calls `work` on slices that cover `size` steps, on all cores: NumPy releases the interpreter lock while it computes."""
    blocks = [slice(first, min(first + BLOCK, size)) for first in range(0, size, BLOCK)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, blocks))


def _join_blocks(total: np.ndarray) -> None:
    """Running sums within blocks behind total[0] become running sums of everything, in place."""
    ends = np.append(np.arange(BLOCK, len(total) - 1, BLOCK), len(total) - 1)
    starts = total[0] + np.append(0, np.cumsum(total[ends])[:-1])

    def shift(block: slice):
        total[1:][block] += starts[block.start // BLOCK]

    _in_blocks(shift, len(total) - 1)


def _steepest_first(slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the real steps and their slopes, steepest first, equal slopes in their order.

    A question's own slopes fall strictly, so its steps keep their order.
    """
    if slope.dtype != np.float32:
        real = np.flatnonzero(slope > 0)
        order = real[np.argsort(-slope[real], kind="stable")].astype(np.uint32)
        return order, slope[order]
    # Bits of positive floats sort like the floats: slope and position in one integer sort several times faster than an
    # argsort, and hold both afterwards.
    keys = np.arange(slope.size, dtype=np.uint64)
    keys |= (~slope.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys = keys[slope > 0]
    keys.sort()
    return keys.astype(np.uint32), (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)


def _at_steps(found: Frontier, budget) -> Solution:
    """The plan of one budget on the exact frontier: every step that fits, and as much of the next as meets the budget."""
    prepared, steps = found.prepared, found.steps
    wanted = validation.as_pair(budget, found.spend.dtype, "budget")
    count = float(prepared.questions.hi) + float(prepared.questions.lo)
    target = (float(wanted.hi) + float(wanted.lo)) * count * (1 + double_double.slack(found.spend.dtype))
    last = len(steps.slope)
    taken = max(bisect_right(steps.total, target, key=lambda total: total.real) - 1, 0)
    action = steps.start.copy()
    question, moved_to = steps.moved(slice(taken))
    action[question] = moved_to  # a question's later steps overwrite its earlier ones
    spend, utility = steps.total[taken].real, steps.total[taken].imag
    infeasible = target < spend
    if taken < last and not infeasible:
        step = steps.total[taken + 1] - steps.total[taken]
        share = double_double.rounded_down(double_double.split((target - spend) / step.real, found.spend.dtype))
        mixed = MixedPlan(*steps.moved(slice(taken, taken + 1)), share[None])
        mixed_spend, mixed_utility = spend + float(share) * step.real, utility + float(share) * step.imag
        multiplier = steps.slope[taken]
    else:
        mixed = MixedPlan(np.zeros(1, np.int32), action[:1], np.zeros(1, np.float32))
        mixed_spend, mixed_utility = spend, utility
        multiplier = 0.0 if taken == last else float(prepared.steepest)
    status = Status.INFEASIBLE if infeasible else Status.INVALID if prepared.invalid else Status.OPTIMAL
    dtype = found.spend.dtype
    numbers = {
        "multiplier": multiplier,
        "spend": double_double.rounded_down(double_double.split(spend / count, dtype)),
        "utility": utility / count,
        "dual_value": double_double.rounded_up(double_double.split(mixed_utility / count, dtype)),
        "gap": (mixed_utility - utility) / count,
        "mixed_spend": double_double.rounded_down(double_double.split(mixed_spend / count, dtype)),
        "mixed_utility": mixed_utility / count,
        "mixed_gap": 0.0,
    }
    return Solution(
        action=jnp.asarray(action),
        mixed=jax.tree.map(jnp.asarray, mixed),
        status=jnp.int32(status),
        **{name: jnp.asarray(x, dtype) for name, x in numbers.items()},
    )


# ---------------------------------------------------------------------------------------------------------------
# On a grid
# ---------------------------------------------------------------------------------------------------------------

GRID_SAMPLE = 4096  # questions whose hulls place the grid


def gridded(prepared: ProblemInRows, points: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Spend, utility and multiplier of the best responses at `points` multipliers: one pass over the data each; only a sample is sorted."""
    multiplier = grid(prepared, points)

    def at(multiplier):
        plan = respond(prepared.utility, prepared.cost, multiplier)
        total = exact_sum_over(double_double.total(row_totals(plan, prepared.weight)), prepared.axes)
        # Of equals at the extremes, `respond` takes the first, whatever it costs or earns.
        total = double_double.where(multiplier > 0, total, prepared.dearest)
        return double_double.where(multiplier < prepared.steepest, total, prepared.cheapest)

    inner = jax.lax.map(at, multiplier[1:-1])
    parts = zip(prepared.cheapest, inner, prepared.dearest, strict=True)
    total = double_double.DoubleDouble(*(jnp.concatenate([first[None], x, last[None]]) for first, x, last in parts))
    mean = prepared.mean(total)
    return double_double.rounded_up(mean)[:, 0], mean.hi[:, 1], multiplier


@partial(jax.jit, static_argnames="points")
def _gridded_jit(prepared: ProblemInRows, points: int) -> Frontier:
    kernel = on_mesh(lambda prepared: gridded(prepared, points), prepared.mesh, prepared.specs, out=P())
    spend, utility, multiplier = without_derivatives(kernel, OF_A_FRONTIER)(prepared)
    return Frontier(spend, utility, multiplier, prepared)


def grid(prepared: ProblemInRows, points: int) -> jax.Array:
    """f32[points] falling multipliers, at which a sample's best responses spread evenly over the spend.

    The grid does not depend on the weights, so that under vmap over bootstrap weights all share the best responses.
    """
    width = max(1, min(prepared.cost.shape[2], GRID_SAMPLE // prepared.cost.shape[1]))
    hull = hulls(replace(prepared, utility=prepared.utility[:, :, :width], cost=prepared.cost[:, :, :width]))
    slope = hull.slope.reshape(-1)
    extra = jnp.where(slope > 0, (hull.after - hull.before).real.reshape(-1), 0)
    order = jnp.argsort(-slope)
    slope, spend = slope[order], jnp.cumsum(extra[order])
    wanted = spend[-1] * jnp.arange(1, points - 1, dtype=spend.dtype) / (points - 1)
    inner = slope[jnp.minimum(jnp.searchsorted(spend, wanted), slope.size - 1)]
    inner = jnp.clip(inner, 0, prepared.steepest)
    inner = from_device(inner, 0, prepared.axes)
    return jnp.concatenate([prepared.steepest[None], inner, jnp.zeros_like(prepared.steepest)[None]])


@jax.jit
def _at_grid(
    prepared: ProblemInRows, spend: jax.Array, multiplier: jax.Array, wanted: double_double.DoubleDouble
) -> Solution:
    # The points' spends are rounded: where the budget is one of them, the bracket reaches over it.
    margin = 8 * jnp.finfo(spend.dtype).eps
    less = (spend * (1 + margin) <= wanted.hi).sum() - 1
    more = (spend * (1 - margin) <= wanted.hi).sum()
    low, high = multiplier[jnp.minimum(more, spend.size - 1)], multiplier[jnp.maximum(less, 0)]
    return on_its_mesh(between, prepared)(prepared, wanted, low, high)


called_as_its_function(__name__)
