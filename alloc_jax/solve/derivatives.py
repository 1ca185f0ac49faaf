"""The dual function, its best response, and the optimal value with the envelope theorem's derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alloc_jax.solve import validation
from alloc_jax.solve.solver import solve
from alloc_jax.types import AllocationProblem


def net_utility(problem: AllocationProblem, multiplier: jax.Array) -> jax.Array:
    """f32[N, K] utility - multiplier * cost, the lowest float where an action may not be taken."""
    if problem.cost.ndim == 3:
        per_resource = jnp.reshape(jnp.asarray(multiplier, problem.cost.dtype), (1, 1, -1))
        net = problem.utility - (problem.cost * per_resource).sum(-1)
    else:
        net = problem.utility - jnp.asarray(multiplier, problem.cost.dtype) * problem.cost
    return net if problem.valid is None else jnp.where(problem.valid, net, jnp.finfo(net.dtype).min)


def best_response(problem: AllocationProblem, multiplier) -> jax.Array:
    """argmax over actions of utility - multiplier * cost; the first of equals.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, R].
      multiplier: f32[] or f32[R], at least 0, in utility per unit of cost.

    Returns:
      i32[N] the actions.

    >>> import numpy as np
    >>> problem = AllocationProblem(np.float32([[0, 1], [0, 2]]), np.float32([[1, 4], [1, 4]]))
    >>> best_response(problem, 0.5).tolist()
    [0, 1]
    """
    return jnp.argmax(net_utility(validation.as_arrays(problem), multiplier), axis=1).astype(jnp.int32)


def dual_value(problem: AllocationProblem, budget, *, multiplier=None) -> jax.Array:
    """The bound D(l) = l B + mean_i max_a (utility - l cost); at the best l, the optimal value V(B) of the mixed problem.

    Differentiable, forward and reverse, with respect to the problem's utility, cost and weight and to the budget.
    Without a multiplier the derivative is the envelope theorem's: dV/dB = multiplier, dV/dutility = mixed plan / N,
    dV/dcost = -multiplier * mixed plan / N; nothing is smoothed. V is not differentiable in B where the frontier has a
    breakpoint, and what is returned there is one of the slopes on its sides.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, R].
      budget: f32[] or f32[R] allowed mean cost.
      multiplier: f32[] or f32[R] where to take the bound; None: where it is least.

    Returns:
      f32[] an upper bound on the mean utility of any plan within the budget. Without a multiplier it is the least one,
      rounded up; with one it is the sum above in the precision of the problem, and its rounding may go either way.

    Raises:
      ValueError: like `solve`.
    """
    problem = validation.as_arrays(problem)
    if multiplier is None:
        return solve(problem, budget).dual_value
    best = net_utility(problem, multiplier).max(axis=1)
    weight = jnp.ones_like(best) if problem.weight is None else problem.weight
    budget, multiplier = (jnp.asarray(x, best.dtype) for x in (budget, multiplier))
    return (multiplier * budget).sum() + (weight * best).sum() / weight.sum()
