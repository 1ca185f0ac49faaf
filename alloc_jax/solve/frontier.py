"""All budgets at once: the best utility as a function of spend.

The frontier of a problem is concave and piecewise linear. Its pieces are the steps of all questions' hulls, steepest
first, so one sort gives every breakpoint (`exact`, on the host). For millions of questions, or under `jit` and `vmap`,
`gridded` evaluates the best response at chosen multipliers instead: its points lie on the exact frontier and its chords
below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from alloc_jax.solve import door, pairs
from alloc_jax.solve.fill import between, from_device, solution_specs
from alloc_jax.solve.hull import hulls
from alloc_jax.solve.layout import PreparedProblem, on_mesh, specs_of
from alloc_jax.solve.plans import respond, row_totals
from alloc_jax.solve.solver import prepare
from alloc_jax.types import AllocationProblem, MixedPlan, Solution, Status


@dataclass(frozen=True, eq=False)
class Steps:
    """The exact frontier's steps in the order they are taken; NumPy arrays on the host."""

    start: np.ndarray  # i32[N] the cheapest plan
    question: np.ndarray  # i32[S] which question moves
    action: np.ndarray  # i32[S] to which action
    slope: np.ndarray  # f32[S] falling
    spend: np.ndarray  # f64[S + 1] total spend before each step, and after the last
    utility: np.ndarray  # f64[S + 1]


jax.tree_util.register_dataclass(Steps, [f for f in Steps.__dataclass_fields__], [])


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Frontier:
    """The best mean utility at every mean spend. Between two points, the frontier (or a lower bound of it) is the chord."""

    spend: jax.Array  # f32[M] rising; rounded up, so that each is a budget that suffices
    utility: jax.Array  # f32[M] rising
    multiplier: jax.Array  # f32[M] falling; a best response at multiplier[m] earns utility[m] at spend[m]
    prepared: PreparedProblem
    steps: Steps | None = None  # None on a grid

    def value(self, budget) -> jax.Array:
        """The best utility at these budgets, f32 of their shape; NaN below the cheapest plan.

        Between the points of a grid it is a lower bound.
        """
        budget = jnp.asarray(budget, self.utility.dtype)
        value = jnp.interp(budget, self.spend, self.utility)
        return jnp.where(budget < self.spend[0], jnp.nan, value)

    def at(self, budget) -> Solution:
        """The plan of one budget, without a new solve: the steps up to it, or the fill between two points of the grid."""
        if self.steps is None:
            wanted = door.as_pair(budget, self.spend.dtype, "budget")
            return _at_grid(self.prepared, self.spend, self.multiplier, wanted)
        return _at_steps(self, budget)


def frontier(problem: AllocationProblem | PreparedProblem, *, points: int | None = None) -> Frontier:
    """The best mean utility at every mean spend.

    Args:
      problem: utility f32[N, K], cost f32[N, K].
      points: None: every breakpoint of the exact frontier, sorted on the host. M: the best responses at M multipliers,
        spread evenly over the spend; jittable, vmappable.

    Returns:
      A `Frontier` of M points, the cheapest plan first and the dearest useful plan last.

    Raises:
      ValueError: like `solve`; or `points` is below 2, or None inside jit.

    >>> problem = AllocationProblem(np.float32([[0, 1], [0, 2]]), np.float32([[1, 5], [1, 5]]))
    >>> found = frontier(problem)
    >>> found.spend.tolist(), found.utility.tolist(), found.at(3).action.tolist()
    ([1.0, 3.0, 5.0], [0.0, 1.0, 1.5], [0, 1])
    """
    prepared = problem if isinstance(problem, PreparedProblem) else prepare(problem)
    if points is None:
        if prepared.mesh is not None:
            raise ValueError("the exact frontier sorts on one device: pass points= for a table shared out over a mesh")
        if door.is_traced(prepared):
            raise ValueError("the exact frontier sorts on the host: pass points= for a grid inside jit and vmap")
        return exact(prepared)
    if points < 2:
        raise ValueError(f"a frontier has at least 2 points, got points={points}")
    return _gridded_jit(prepared, points)


_hulls_jit = jax.jit(hulls)


def exact(prepared: PreparedProblem) -> Frontier:
    """Every breakpoint, by one sort of all hull steps."""
    hull = jax.tree.map(np.asarray, _hulls_jit(prepared))
    rows = hull.start.size
    slope = hull.slope.reshape(-1)
    weight = None if prepared.weight is None else np.asarray(prepared.weight).reshape(-1)
    real = np.flatnonzero(slope > 0).astype(np.uint64)
    order = _steepest_first(slope, real)
    slope, action = slope[order], hull.action.reshape(-1)[order]
    question = (order % rows).astype(np.int32)
    extra, gain = (np.subtract(x[1:], x[:-1], dtype=np.float64).reshape(-1)[order] for x in (hull.cost, hull.utility))
    if weight is not None:
        extra, gain = extra * weight[question], gain * weight[question]
    first = np.asarray(prepared.cheapest.hi, np.float64) + np.asarray(prepared.cheapest.lo)
    spend, value = (
        start + np.concatenate([[0.0], np.cumsum(x)]) for start, x in zip(first, (extra, gain), strict=True)
    )
    steps = Steps(hull.start.reshape(-1)[: prepared.size], question, action, slope, spend, value)
    # Steps of one slope are one piece of the frontier.
    ends = np.flatnonzero(np.append(slope[1:] != slope[:-1], True)) + 1 if slope.size else np.zeros(0, int)
    points = np.concatenate([[0], ends])
    count = float(prepared.questions.hi) + float(prepared.questions.lo)
    multiplier = np.concatenate([[np.asarray(prepared.steepest)], slope[ends - 1]])
    dtype = prepared.utility.dtype
    mean_spend = spend[points] / count
    enough = mean_spend.astype(dtype)
    enough = np.where(enough < mean_spend, np.nextafter(enough, dtype.type(np.inf)), enough)
    enough, mean, multiplier = (jnp.asarray(x, dtype) for x in (enough, value[points] / count, multiplier))
    return Frontier(enough, mean, multiplier, prepared, steps)


def _steepest_first(slope: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The real steps' positions, steepest first, equal slopes in their order (a question's earlier step comes first)."""
    if slope.dtype != np.float32:
        return real[np.argsort(-slope[real], kind="stable")].astype(np.int64)
    # Bits of positive floats sort like the floats: slope and position in one integer sort several times faster than an
    # argsort.
    falling = np.uint64(0xFFFFFFFF) - slope.view(np.uint32)[real].astype(np.uint64)
    keys = (falling << np.uint64(32)) | real
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _at_steps(found: Frontier, budget) -> Solution:
    """The plan of one budget on the exact frontier: every step that fits, and the part of the next that meets it."""
    prepared, steps = found.prepared, found.steps
    wanted = door.as_pair(budget, found.spend.dtype, "budget")
    count = float(prepared.questions.hi) + float(prepared.questions.lo)
    target = (float(wanted.hi) + float(wanted.lo)) * count * (1 + 2.0**-50)
    last = len(steps.slope)
    taken = max(int(np.searchsorted(steps.spend, target, side="right")) - 1, 0)
    action = steps.start.copy()
    action[steps.question[:taken]] = steps.action[:taken]  # a question's later steps overwrite its earlier ones
    spend, utility = steps.spend[taken], steps.utility[taken]
    step = min(taken, last - 1)
    if taken < last and target >= steps.spend[0]:
        share = (target - spend) / (steps.spend[taken + 1] - spend)
        mixed = MixedPlan(*(np.array([x]) for x in (steps.question[step], steps.action[step], np.float32(share))))
        mixed_spend, mixed_utility = target, utility + share * (steps.utility[taken + 1] - utility)
        multiplier = steps.slope[taken]
    else:
        mixed = MixedPlan(np.zeros(1, np.int32), action[:1], np.zeros(1, np.float32))
        mixed_spend, mixed_utility = spend, utility
        multiplier = 0.0 if taken == last else float(prepared.steepest)
    status = Status.INFEASIBLE if target < steps.spend[0] else Status.INVALID if prepared.invalid else Status.OPTIMAL
    dtype = found.spend.dtype
    numbers = {
        "multiplier": multiplier,
        "spend": pairs.rounded_down(pairs.split(spend / count, dtype)),
        "utility": utility / count,
        "dual_value": mixed_utility / count,
        "gap": (mixed_utility - utility) / count,
        "mixed_spend": pairs.rounded_down(pairs.split(mixed_spend / count, dtype)),
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

GRID_SAMPLE = 16384  # questions whose hulls place the grid


def gridded(prepared: PreparedProblem, points: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Spend, utility and multiplier of the best responses at `points` multipliers: one pass over the data each, nothing sorted but a sample."""
    multiplier = grid(prepared, points)

    def at(multiplier):
        plan = respond(prepared.utility, prepared.cost, multiplier)
        return pairs.across(pairs.total(row_totals(plan, prepared.weight, prepared.ceiling)), prepared.axes)

    inner = jax.lax.map(at, multiplier[1:-1])
    parts = zip(prepared.cheapest, inner, prepared.dearest, strict=True)
    total = pairs.Pair(*(jnp.concatenate([first[None], x, last[None]]) for first, x, last in parts))
    mean = pairs.divide(total, pairs.Pair(*(jnp.broadcast_to(x, total.hi.shape) for x in prepared.questions)))
    return pairs.rounded_up(mean)[:, 0], mean.hi[:, 1], multiplier


@partial(jax.jit, static_argnames="points")
def _gridded_jit(prepared: PreparedProblem, points: int) -> Frontier:
    specs = specs_of(prepared.mesh, prepared.size, prepared.weight is not None)
    kernel = on_mesh(lambda prepared: gridded(prepared, points), prepared.mesh, specs, out=P())
    return Frontier(*kernel(prepared), prepared)


def grid(prepared: PreparedProblem, points: int) -> jax.Array:
    """f32[points] falling multipliers, at which a sample's best responses spread evenly over the spend.

    The grid does not depend on the weights, so that under vmap over bootstrap weights all share the best responses.
    """
    width = max(1, min(prepared.cost.shape[2], GRID_SAMPLE // prepared.cost.shape[1]))
    sample = PreparedProblem(
        **{
            **{name: getattr(prepared, name) for name in prepared.__dataclass_fields__},
            "utility": prepared.utility[:, :, :width],
            "cost": prepared.cost[:, :, :width],
        }
    )
    hull = hulls(sample)
    slope, extra = hull.slope.reshape(-1), (hull.cost[1:] - hull.cost[:-1]).reshape(-1)
    extra = jnp.where(slope > 0, extra, 0)
    order = jnp.argsort(-slope)
    slope, spend = slope[order], jnp.cumsum(extra[order])
    wanted = spend[-1] * jnp.arange(1, points - 1, dtype=spend.dtype) / (points - 1)
    inner = slope[jnp.minimum(jnp.searchsorted(spend, wanted), slope.size - 1)]
    inner = jnp.clip(inner, 0, prepared.steepest)
    inner = from_device(inner, 0, prepared.axes)
    return jnp.concatenate([prepared.steepest[None], inner, jnp.zeros_like(prepared.steepest)[None]])


@jax.jit
def _at_grid(prepared: PreparedProblem, spend: jax.Array, multiplier: jax.Array, wanted: pairs.Pair) -> Solution:
    # The points' spends are rounded: where the budget is one of them, the bracket reaches over it.
    margin = 8 * jnp.finfo(spend.dtype).eps
    less = (spend * (1 + margin) <= wanted.hi).sum() - 1
    more = (spend * (1 - margin) <= wanted.hi).sum()
    low, high = multiplier[jnp.minimum(more, spend.size - 1)], multiplier[jnp.maximum(less, 0)]
    specs = specs_of(prepared.mesh, prepared.size, prepared.weight is not None)
    return on_mesh(between, prepared.mesh, specs, out=solution_specs(prepared.mesh))(prepared, wanted, low, high)
