"""Plans: the action of every question, and the totals of spend and utility.

A plan is c64[rows, WIDTH], the chosen cost + i utility of every question (`complex_plan`). It holds values and not action numbers
because totals then read the plan and not the data. The values are copies, so comparing for equality finds the actions again.

What works around the XLA compiler stands here, once each: `complex_plan`, `computed_once`, `by_itself`, `update_if` and `greatest`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble

Tree = TypeVar("Tree")

FOLD = 8  # parts of a row that are added lane by lane before it is summed


def complex_plan(cost: jax.Array, utility: jax.Array) -> jax.Array:
    """Costs and utilities as one complex array: two arrays would be two loops over the data."""
    return jax.lax.complex(cost, utility)


def computed_once(x: Tree) -> Tree:
    """Arrays that are computed here and not again in each loop that reads them, where the compiler may round differently."""
    return jax.lax.optimization_barrier(x)


def update_if(condition: jax.Array, update: Callable[[Tree], Tree], state: Tree) -> Tree:
    """The state, updated where a condition holds: a loop of one turn at most, because a branch would copy the plans."""
    return jax.lax.while_loop(lambda x: x[1], lambda x: (update(x[0]), jnp.bool_(False)), (state, condition))[0]


def by_itself(always: jax.Array, compute: Callable[[], Tree]) -> Tree:
    """What is computed, in a loop of its own, so that readers do not evaluate it again, and what it captures is read as it lies in memory.

    A barrier does not keep the CPU compiler from either. A loop does, if the compiler cannot tell that it turns once.

    Args:
      always: bool[], true, which the compiler must not be able to tell.
      compute: of captured arrays.
    """
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(compute))
    return update_if(always, lambda _: compute(), empty)


def respond_once(utility: jax.Array, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    """`respond`, evaluated once: in a plain expression, each sum over the plan would evaluate it again."""
    return by_itself(~(multiplier < 0), lambda: respond(utility, cost, multiplier))


def respond(utility: jax.Array, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    """The best responses to a multiplier; the first of equals.

    Args:
      utility: f32[K, ...], and cost alike.
      multiplier: f32[], at least 0.

    Returns:
      c64[...] the plan.
    """
    best_cost, best_utility = cost[0], utility[0]
    for k in range(1, utility.shape[0]):
        # Differences, not scores: what all actions of a question earn or cost alike takes no digits from what they differ by.
        better = utility[k] - best_utility > multiplier * (cost[k] - best_cost)
        best_cost, best_utility = jnp.where(better, cost[k], best_cost), jnp.where(better, utility[k], best_utility)
    return complex_plan(best_cost, best_utility)


def extremes(utility: jax.Array, cost: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The cheapest plan, the best plan, and a multiplier at which the cheapest is the best response.

    Of several cheapest actions the plan takes the best; of several best ones, the cheapest.
    """
    cheap_cost, cheap_utility, best_cost, best_utility = cost[0], utility[0], cost[0], utility[0]
    for k in range(1, utility.shape[0]):
        cheaper = (cost[k] < cheap_cost) | ((cost[k] == cheap_cost) & (utility[k] > cheap_utility))
        better = (utility[k] > best_utility) | ((utility[k] == best_utility) & (cost[k] < best_cost))
        cheap_cost, cheap_utility = (
            jnp.where(cheaper, cost[k], cheap_cost),
            jnp.where(cheaper, utility[k], cheap_utility),
        )
        best_cost, best_utility = jnp.where(better, cost[k], best_cost), jnp.where(better, utility[k], best_utility)
    steepest = jnp.zeros_like(cheap_cost)
    for k in range(utility.shape[0]):
        gain, extra = utility[k] - cheap_utility, cost[k] - cheap_cost
        rises = (gain > 0) & (extra > 0)
        steepest = jnp.maximum(steepest, jnp.where(rises, gain / jnp.where(rises, extra, 1), 0))
    steepest = greatest(steepest) * (1 + 8 * jnp.finfo(utility.dtype).eps)  # the margin covers the slope's rounding
    return complex_plan(cheap_cost, cheap_utility), complex_plan(best_cost, best_utility), steepest


def greatest(x: jax.Array) -> jax.Array:
    """The maximum of numbers that are at least 0, taken over their bits as integers, which have the same order.

    The CPU compiler splits the maximum of a chain of float maxima into an array for each of them.
    """
    integer = jnp.int32 if x.dtype == jnp.float32 else jnp.int64
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, integer).max(), x.dtype)


def row_totals(plan: jax.Array, weight: jax.Array | None) -> DoubleDouble:
    """Spend and utility of each row of a plan, to twice the precision of the type: relative to the row's own greatest.

    Args:
      plan: c64[rows, WIDTH].
      weight: f32[rows, WIDTH], or None.

    Returns:
      f32[2, rows] spends, then utilities.
    """
    rows, width = plan.shape
    lanes = FOLD if width % FOLD == 0 else 1
    folded = [x.reshape(rows, lanes, -1) for x in ((plan,) if weight is None else (plan, weight))]
    ceiling = _ceilings(*folded)
    sums: list[Any] = [0, 0, 0]
    for lane in range(lanes):
        values = [x[:, lane] for x in folded]
        for part, terms in enumerate(_slices(*values, ceiling=ceiling)):
            sums[part] = sums[part] + terms
    # In two steps: of one long sum the compiler neither vectorises nor spreads over cores.
    sums = [x.sum(axis=1) for x in computed_once(sums)]
    first, second, third = (jnp.stack([x.real, x.imag]) for x in sums)
    return double_double.add_float(double_double.two_sum(first, second), third)


def _ceilings(plan: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """c64[rows, 1] powers of two above every cost and utility (times weight) of each row of a plan [rows, FOLD, ...]."""
    highest = jnp.zeros((), plan.dtype)
    for lane in range(plan.shape[1]):
        values = [jnp.abs(x[:, lane]) for x in (plan.real, plan.imag)]
        values = values if weight is None else [x * weight[:, lane] for x in values]
        tops = zip((highest.real, highest.imag), values, strict=True)
        highest = jax.lax.complex(*(jnp.where(x > top, x, top) for top, x in tops))
    highest = computed_once(highest)
    whole = (x.max(axis=1, keepdims=True) for x in (highest.real, highest.imag))
    return jax.lax.complex(*map(double_double.power_above, whole))


def _slices(plan: jax.Array, weight: jax.Array | None = None, *, ceiling: jax.Array) -> list[jax.Array]:
    """A plan (times weights) as the sum of three, of which the first two add up exactly over a row."""
    parts = []
    for x, top in ((plan.real, ceiling.real), (plan.imag, ceiling.imag)):
        # Real and imaginary parts are sliced apart: XLA simplifies (x + y) - y to x for complex numbers, and only for those.
        hi, lo = (x, None) if weight is None else double_double.two_product(x, weight)
        first, second, third = double_double.slices(hi, top)
        parts.append((first, second, third if lo is None else third + lo))
    return [jax.lax.complex(*pair) for pair in zip(*parts, strict=True)]


def actions_of(utility: jax.Array, cost: jax.Array, plan: jax.Array) -> jax.Array:
    """i32[...] the first action with the plan's cost and utility."""
    action = jnp.zeros(plan.shape, jnp.int32)
    for k in reversed(range(utility.shape[0])):
        action = jnp.where((cost[k] == plan.real) & (utility[k] == plan.imag), k, action)
    return action
