"""Every question's upper concave hull of (cost, utility): the only actions a best response ever takes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve.layout import ProblemInRows
from alloc_jax.solve.plans import as_plan, computed_once


class Hull(NamedTuple):
    """The steps along every question's hull, each at the action it leads to; slope 0 where an action ends no step."""

    start: jax.Array  # i32[rows, WIDTH] the cheapest action, the best of several
    slope: jax.Array  # f32[K, rows, WIDTH] utility gained per unit of cost; falls strictly along a question's hull
    before: jax.Array  # c64[K, rows, WIDTH] cost + i utility of where the step begins
    after: jax.Array  # c64[K, rows, WIDTH] and of the action it leads to


def hulls(prepared: ProblemInRows) -> Hull:
    """All hulls at once, in two elementwise passes of K^2 comparisons; costs may come in any order.

    Action k lies on the hull where the least slope that leads to it, min (u_k - u_j) / (c_k - c_j) over cheaper j, is above
    the greatest that leads on, max (u_l - u_k) / (c_l - c_k) over more expensive l, and above 0. A slope is one number for both
    of its ends, so that the steps of a hull fall strictly whatever the rounding. The step to k begins at the most expensive of the
    cheaper vertices.
    """
    utility, cost = prepared.utility, prepared.cost
    actions = range(utility.shape[0])
    start, at_cost, at_utility = jnp.zeros(cost.shape[1:], jnp.int32), cost[0], utility[0]
    for k in actions[1:]:
        cheaper = (cost[k] < at_cost) | ((cost[k] == at_cost) & (utility[k] > at_utility))
        start = jnp.where(cheaper, k, start)
        at_cost, at_utility = jnp.where(cheaper, cost[k], at_cost), jnp.where(cheaper, utility[k], at_utility)

    highest = jnp.finfo(cost.dtype).max
    vertices = []
    for k in actions:
        leads_to, leads_on = jnp.full_like(at_cost, highest), jnp.zeros_like(at_cost)
        for j in actions:
            if j == k:
                continue
            less, more = cost[j] < cost[k], cost[j] > cost[k]
            better = (utility[j] > utility[k]) | ((utility[j] == utility[k]) & (j < k))
            slope = (utility[k] - utility[j]) / (cost[k] - cost[j])
            leads_to = jnp.where(less, jnp.minimum(leads_to, slope), leads_to)
            leads_on = jnp.where(more, jnp.maximum(leads_on, slope), leads_on)
            leads_on = jnp.where(
                ~less & ~more & better, highest, leads_on
            )  # at the same cost only the best is a vertex
        vertices.append(leads_to > leads_on)
    vertex = computed_once(jnp.stack(vertices))

    before_cost, before_utility = jnp.full_like(cost, -1), jnp.zeros_like(utility)
    for j in actions:
        nearer = vertex[j][None] & (cost[j][None] < cost) & (cost[j][None] > before_cost)
        before_cost = jnp.where(nearer, cost[j][None], before_cost)
        before_utility = jnp.where(nearer, utility[j][None], before_utility)
    ends = vertex & (before_cost >= 0)
    slope = jnp.where(ends, (utility - before_utility) / jnp.where(ends, cost - before_cost, 1), 0)
    return Hull(start, slope, as_plan(before_cost, before_utility), as_plan(cost, utility))
