"""Every question's upper concave hull of (cost, utility): the only actions a best response ever takes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve.layout import PreparedProblem


class Hull(NamedTuple):
    """The steps from a question's cheapest action up its hull, steepest first; K - 1 at most, slope 0 where there is none."""

    start: jax.Array  # i32[rows, WIDTH] the cheapest action, the best of several
    slope: jax.Array  # f32[K - 1, rows, WIDTH] utility gained a unit of cost, never rising from step to step
    action: jax.Array  # i32[K - 1, rows, WIDTH] where the step leads
    cost: (
        jax.Array
    )  # f32[K, rows, WIDTH] of the cheapest action, then of where each step leads; unchanged where there is none
    utility: jax.Array  # f32[K, rows, WIDTH]


def hulls(prepared: PreparedProblem) -> Hull:
    """All hulls by gift wrapping: K - 1 times, the steepest step to a dearer action, the longest of several.

    K^2 comparisons a question, in registers and without a sort; costs may come in any order.
    """
    utility, cost = prepared.utility, prepared.cost
    actions = utility.shape[0]
    at_cost, at_utility, start = cost[0], utility[0], jnp.zeros(cost.shape[1:], jnp.int32)
    for k in range(1, actions):
        cheaper = (cost[k] < at_cost) | ((cost[k] == at_cost) & (utility[k] > at_utility))
        start = jnp.where(cheaper, k, start)
        at_cost, at_utility = jnp.where(cheaper, cost[k], at_cost), jnp.where(cheaper, utility[k], at_utility)

    def step(carry, _):
        at_cost, at_utility, ceiling = carry
        slope = jnp.zeros_like(at_cost)
        action = jnp.zeros(at_cost.shape, jnp.int32)
        next_cost, next_utility = at_cost, at_utility
        for k in range(actions):
            gain, extra = utility[k] - at_utility, cost[k] - at_cost
            rise = jnp.where((gain > 0) & (extra > 0), gain / jnp.where(extra > 0, extra, 1), 0)
            take = (rise > slope) | ((rise == slope) & (rise > 0) & (cost[k] > next_cost))
            slope, action = jnp.where(take, rise, slope), jnp.where(take, k, action)
            next_cost, next_utility = jnp.where(take, cost[k], next_cost), jnp.where(take, utility[k], next_utility)
        slope = jnp.minimum(slope, ceiling)  # rounding may let a slope rise by a digit; the order of steps may not
        return (next_cost, next_utility, slope), (slope, action, next_cost, next_utility)

    top = jnp.full_like(at_cost, jnp.finfo(at_cost.dtype).max)
    _, (slope, action, *reached) = jax.lax.scan(step, (at_cost, at_utility, top), length=actions - 1)
    along = (jnp.concatenate([x[None], later]) for x, later in zip((at_cost, at_utility), reached, strict=True))
    return Hull(start, slope, action, *along)
