"""All budgets at once: the best utility as a function of spend.

The frontier of a problem is concave and piecewise linear. Its pieces are the steps of all questions' hulls, steepest
first, so one sort gives every breakpoint (`exact`, on the host). For millions of questions, or under `jit` and `vmap`,
`gridded` evaluates the best response at chosen multipliers instead: its points lie on the exact frontier and its chords
below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from alloc_jax.display import Tabular, span
from alloc_jax.exports import called_as_its_function
from alloc_jax.solve import double_double, validation
from alloc_jax.solve.breakpoints.steps import Steps, of_keys, steps_of
from alloc_jax.solve.envelope import OF_A_FRONTIER, without_derivatives
from alloc_jax.solve.hull import hulls
from alloc_jax.solve.layout import PreparedProblem, ProblemInRows
from alloc_jax.solve.mesh import exact_sum_over, from_device, on_mesh
from alloc_jax.solve.plans import respond, row_totals
from alloc_jax.solve.rounding import between
from alloc_jax.solve.solver import on_its_mesh, prepare
from alloc_jax.types import AllocationProblem, MixedPlan, OutcomeTable, Solution, Status


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


def exact(prepared: ProblemInRows) -> Frontier:
    """Every breakpoint."""
    steps, points = steps_of(prepared)
    spend, utility, multiplier = map(jax.device_put, points)
    return Frontier(spend, utility, multiplier, prepared, steps)


def _at_steps(found: Frontier, budget) -> Solution:
    """The plan of one budget on the exact frontier: every step that fits, and as much of the next as meets the budget."""
    prepared, steps = found.prepared, found.steps
    wanted = validation.as_pair(budget, found.spend.dtype, "budget")
    count = float(prepared.questions.hi) + float(prepared.questions.lo)
    target = (float(wanted.hi) + float(wanted.lo)) * count * (1 + double_double.slack(found.spend.dtype))
    taken, spend = steps.within(target)
    action = steps.start.copy()
    question, moved_to = steps.moved(slice(taken))
    action[question] = moved_to  # a question's later steps overwrite its earlier ones
    table = np.asarray(prepared.utility).reshape(prepared.actions, -1)
    weight = None if prepared.weight is None else np.asarray(prepared.weight).reshape(-1)[: prepared.count]
    chosen = table[action, np.arange(prepared.count)].astype(np.float64)
    utility = chosen.sum() if weight is None else weight @ chosen
    infeasible, last = target < spend, len(steps.keys)
    if taken < last and not infeasible:
        question, other = steps.moved(slice(taken, taken + 1))
        extra = float(steps.extra[other[0], question[0]])
        gain = float(table[other[0], question[0]]) - chosen[question[0]]
        gain *= 1 if weight is None else weight[question[0]]
        share = double_double.rounded_down(double_double.split((target - spend) / extra, found.spend.dtype))
        mixed = MixedPlan(question, other, share[None])
        mixed_spend, mixed_utility = spend + float(share) * extra, utility + float(share) * gain
        multiplier = of_keys(steps.keys[taken : taken + 1])[1][0]
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

GRID_SAMPLE = 1024  # questions whose hulls place the grid: sorting the steps of more takes as long as many points


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
    sample = (x[:, :, :width].reshape(len(x), -1) for x in (prepared.cost, -prepared.utility))
    cost, loss = jax.lax.sort(tuple(sample), dimension=0, num_keys=2)
    hull = hulls(jnp, -loss, cost)
    slope = jnp.concatenate([jnp.where(*x, 0) for x in zip(hull.vertex, hull.slope, strict=True)] or [jnp.zeros(1)])
    extra = jnp.concatenate([*(after - before for after, before in zip(cost[1:], hull.before, strict=True))] or [slope])
    extra = jnp.where(slope > 0, extra, 0)
    slope, extra = jax.lax.sort((-slope, extra), num_keys=1)
    slope, spend = -slope, jnp.cumsum(extra)
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
