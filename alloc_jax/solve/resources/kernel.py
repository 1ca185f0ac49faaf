"""Several budgets at once: Newton finds the multipliers, a small linear programme makes the plan exact.

    sample   Above 40,000 questions Newton (`newton`) first runs on 20,000 of them. The whole table begins where they ended, and
             takes two to four passes until the dual is within 2e-7 of its minimum. The temperature is then 1e-4 of the utility's
             range on smooth data, and 1e-6 on ties, which a softmax plan splits.
    round    The softmax plan meets the budgets, ties included. Question i takes the action that a point of a
             low-discrepancy sequence picks, so that spends stay near the softmax plan's.
    core     Some 4,000 questions are freed: those that have most to gain, or least to lose, by another action.
    vertex   The linear programme over the core (`simplex`) is solved exactly. At most R questions are mixed in
             it, and its multipliers, in one pass, bound every plan of the whole table. Where the bound has not closed,
             a second round starts from there.
    search   The mixed questions take one of their actions; single moves buy back what is overspent and spend what is left.
             Where they cannot, a tabu search looks for a plan that fits, and the next round's budgets are lowered by what
             rounding may cost. Where neither finds one, the status is MIXED_ONLY and the action the plan that overspends least.

The last three are `polish`. Spends and bounds are exact totals in two floats, and a bound is rounded up. INFEASIBLE is proven: the
cheapest actions overspend a budget, or the bound is below the utility of the worst plan.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.plans import computed_once
from alloc_jax.solve.resources.layout import ProblemInChunks, forbidden
from alloc_jax.solve.resources.newton import Budgeted, descend, net_of, scale_of
from alloc_jax.solve.resources.polish import polished
from alloc_jax.types import AllocationProblem, Solution

SAMPLE = 20_000  # questions: their multipliers lie within 1e-4 of the dual value
TOLERANCE = 2e-7  # of the dual value, relative, at which Newton stops
PASSES = 120  # over the data at most; on more than 2 SAMPLE questions two to four are usual
STAGES = 12  # temperatures: half a decade apart, from the utility's range to a millionth of it


def solve_resources(prepared: ProblemInChunks, wanted: DoubleDouble) -> Solution:
    """The plan for R budgets, one per resource.

    Args:
      prepared: from `prepare`.
      wanted: f32[R] allowed mean cost of each resource, as two floats.

    Returns:
      A `Solution` with multiplier and spends f32[R], whose mixed plan mixes at most R questions. A resource in which the actions
      of no question differ has multiplier 0. `gap` and `mixed_gap` are differences, never clipped. Whatever the status,
      no plan takes a forbidden action; with status INVALID no field has a meaning.
    """
    data = Budgeted.of(prepared, wanted.hi)
    scale = scale_of(data)
    tolerance, temperatures = tolerance_of(scale), temperatures_of(scale)
    stage: int | jax.Array = 0
    start = jnp.where(data.varies, scale / wanted.hi.size, 0)
    if prepared.weight.size > 2 * SAMPLE:
        found = descend(data.sample(SAMPLE), start, temperatures, PASSES, tolerance)
        start, stage = found.multiplier, found.stage
    found = descend(data, start, temperatures, PASSES, tolerance, stage)
    plan = rounded(data, found.multiplier, temperatures[found.stage])
    return polished(prepared, data, wanted, plan, found.best, scale)


def tolerance_of(scale: jax.Array) -> float:
    """Of the dual value, relative, at which Newton stops."""
    return TOLERANCE if scale.dtype == jnp.float32 else 1e-9


def temperatures_of(scale: jax.Array) -> jax.Array:
    """f32[STAGES + 1] falling."""
    return scale * jnp.logspace(0, -STAGES / 2, STAGES + 1, dtype=scale.dtype)


def rounded(data: Budgeted, multiplier: jax.Array, temperature: jax.Array) -> jax.Array:
    """i32[chunks, width] the softmax plan, each question rounded to the action that its point of a sequence picks."""
    chunks, _, width = data.utility.shape

    def pick(entry):
        number, utility, cost = entry
        allowed = utility > forbidden(utility.dtype)
        net = jnp.where(allowed, net_of(utility, cost, multiplier / data.unit), jnp.finfo(utility.dtype).min)
        net = computed_once(net)  # or its maximum may be none of its values
        plan = jnp.where(allowed, jnp.exp((net - net.max(axis=0)[None]) / temperature), 0)
        plan = plan / plan.sum(axis=0)[None]
        index = number.astype(jnp.uint32) * jnp.uint32(width) + jnp.arange(width, dtype=jnp.uint32)
        point = index * jnp.uint32(2654435769) >> 8  # multiples of the golden ratio, modulo 1
        below = (jnp.cumsum(plan, axis=0) <= (point.astype(plan.dtype) / 2**24)[None]).sum(axis=0)
        # Rounding may leave the last sum below 1: then the likeliest action is taken.
        return jnp.where(below < plan.shape[0], below, jnp.argmax(plan, axis=0)).astype(jnp.int32)

    return jax.lax.map(pick, (jnp.arange(chunks), data.utility, data.cost))


def by_group(problem: AllocationProblem, group: jax.Array, budget: jax.Array) -> tuple[AllocationProblem, jax.Array]:
    """A budget for every group (a tenant, a difficulty class), as a problem with one resource per group.

    Args:
      problem: utility f32[N, K], cost f32[N, K].
      group: i32[N] every question's group, in 0..G-1.
      budget: f32[G] allowed mean cost per question of each group.

    Returns:
      The problem with cost f32[N, K, G], and its budget f32[G] per question of the whole table. `solve` takes both.
    """
    budget = jnp.asarray(budget, jnp.asarray(problem.cost).dtype)
    member = (jnp.asarray(group)[:, None] == jnp.arange(budget.size)[None]).astype(budget.dtype)
    weight = jnp.ones_like(member[:, 0]) if problem.weight is None else jnp.asarray(problem.weight)
    share = (weight[:, None] * member).sum(axis=0) / weight.sum()
    cost = jnp.asarray(problem.cost)[:, :, None] * member[:, None]
    return AllocationProblem(problem.utility, cost, problem.valid, problem.weight), budget * share
