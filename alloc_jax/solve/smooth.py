"""The smoothed problem: every question spreads over its actions, entropy is a reward, and everything has derivatives.

    D_t(l) = l . B + mean_i  t log sum_a exp((u - l . c)[i, a] / t)

with a temperature t in units of utility. Its minimiser over l >= 0 is the smoothed multiplier and the softmax there the smoothed
plan; D_t lies above the dual D by at most t log K. A temperature of 1e-3 of the utility's range moves the multiplier by
a few thousandths; below 1e-4 the derivative depends on so few questions that it becomes noise.

The multiplier is an implicit function of the problem: grad D_t(l) = 0. So

    dl = - H^-1 d(grad D_t)        H = mean covariance of the costs under the plan, over t

on the resources whose multiplier is positive; one that does not bind has multiplier 0 and derivative 0. `smooth_multiplier` carries
this as its rule, for forward and reverse mode; iterations are never differentiated (those of a bisection would give zero). The
derivative is not defined where a budget just begins to bind, nor where no question trades off (H = 0), and is 0 in the second case.

Source: the implicit function theorem as in M. Blondel et al., Efficient and modular implicit differentiation, 2022.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alloc_jax.solve import validation
from alloc_jax.solve.derivatives import net_utility
from alloc_jax.solve.resources.layout import prepare_chunks
from alloc_jax.solve.resources.newton import Budgeted, descend
from alloc_jax.types import AllocationProblem

STAGES = (625.0, 125.0, 25.0, 5.0, 1.0)  # temperatures on the way down, in units of the last
PASSES = 200  # at most; five a temperature are usual
MOST = 1e6  # temperatures that a budget's worth may cost: beyond, a plan is the cheapest, and its net utilities are all rounding


def smooth_multiplier(problem: AllocationProblem, budget, temperature) -> jax.Array:
    """The multiplier at which the smoothed plan spends the budget.

    Differentiable, forward and reverse, under jit and vmap, with respect to utility, cost, weight, budget and temperature.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, R].
      budget: f32[] or f32[R] allowed mean cost.
      temperature: f32[] above 0, in units of utility.

    Returns:
      f32[] or f32[R], 0 where the budget does not bind. Below the cheapest smoothed plan there is no such multiplier; the one
      returned is only large.

    Raises:
      ValueError: shapes that do not match.
    """
    problem = validation.as_arrays(problem)
    budget, temperature = (jnp.asarray(x, problem.utility.dtype) for x in (budget, temperature))
    if budget.shape != problem.cost.shape[2:]:
        raise ValueError(f"budget has shape {problem.cost.shape[2:]} for this problem, got {budget.shape}")
    return _multiplier_jit(problem, budget, temperature)


def smooth_plan(problem: AllocationProblem, budget, temperature) -> jax.Array:
    """f32[N, K] the smoothed plan of a budget: how much of every question each action gets; see `smooth_multiplier`."""
    problem = validation.as_arrays(problem)
    return softmax_plan(problem, smooth_multiplier(problem, budget, temperature), temperature)


def softmax_plan(problem: AllocationProblem, multiplier: jax.Array, temperature) -> jax.Array:
    """f32[N, K] the softmax of net utility over temperature."""
    return jax.nn.softmax(net_utility(problem, multiplier) / temperature, axis=1)


def unspent(problem: AllocationProblem, budget: jax.Array, multiplier: jax.Array, temperature: jax.Array) -> jax.Array:
    """f32[] or f32[R] the gradient of the smoothed dual: the budget less what the softmax plan spends."""
    plan = softmax_plan(problem, multiplier, temperature)
    cost = problem.cost.reshape(*plan.shape, -1)
    weight = jnp.ones_like(plan[:, 0]) if problem.weight is None else problem.weight
    spend = ((weight[:, None] * plan)[:, :, None] * cost).sum(axis=(0, 1)) / weight.sum()
    return budget - spend.reshape(budget.shape)


@jax.custom_jvp
def _multiplier(problem: AllocationProblem, budget: jax.Array, temperature: jax.Array) -> jax.Array:
    several = AllocationProblem(
        problem.utility, problem.cost.reshape(*problem.utility.shape, -1), problem.valid, problem.weight
    )
    flat = budget.reshape(-1)
    data = Budgeted.of(prepare_chunks(several, None), flat)
    start = jnp.where(data.varies, temperature, 0)
    found = descend(data, start, temperature * jnp.asarray(STAGES, flat.dtype), PASSES)
    return (jnp.minimum(found.multiplier, MOST * temperature) / data.unit).reshape(budget.shape)


@_multiplier.defjvp
def _implicit(primals, tangents):
    multiplier = _multiplier(*primals)
    problem, budget, temperature = primals
    _, change = jax.jvp(lambda p, b, t: unspent(p, b, multiplier, t), primals, tangents)
    curvature = jax.jacfwd(lambda at: unspent(problem, budget, at, temperature))(multiplier)
    curvature, change, free = curvature.reshape(budget.size, -1), change.reshape(-1), multiplier.reshape(-1) > 0
    moves = free & (jnp.diag(curvature) > 0)
    matrix = jnp.where(moves[:, None] & moves[None], curvature, jnp.eye(budget.size, dtype=curvature.dtype))
    step = -jnp.linalg.solve(matrix, jnp.where(moves, change, 0))
    return multiplier, jnp.where(moves, step, 0).reshape(budget.shape)


_multiplier_jit = jax.jit(_multiplier)  # once a shape, for callers outside jit as well
