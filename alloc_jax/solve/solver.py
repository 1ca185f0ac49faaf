"""The front door: one budget in, one certified plan out."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alloc_jax.solve import door, pairs
from alloc_jax.solve.fill import solution_specs, solve_kernel
from alloc_jax.solve.layout import PreparedProblem, lay_out, on_mesh, specs_of
from alloc_jax.solve.resources import solve_resources
from alloc_jax.types import AllocationProblem, Solution, Status

_solve_resources_jit = jax.jit(solve_resources)


@partial(jax.jit, static_argnames="mesh")
def _lay_out_jit(problem: AllocationProblem, mesh: Mesh | None) -> PreparedProblem:
    if mesh is None:
        return lay_out(problem)
    out = specs_of(mesh, problem.utility.shape[0] // mesh.size, problem.weight is not None)
    return on_mesh(lambda problem: lay_out(problem, mesh), mesh, P(mesh.axis_names), out=out)(problem)


@partial(jax.jit, static_argnames="goal")
def _solve_jit(prepared: PreparedProblem, wanted: pairs.Pair, goal: str) -> Solution:
    specs = specs_of(prepared.mesh, prepared.size, prepared.weight is not None)
    kernel = on_mesh(partial(solve_kernel, goal=goal), prepared.mesh, specs, out=solution_specs(prepared.mesh))
    return kernel(prepared, wanted)


def prepare(problem: AllocationProblem, *, mesh: Mesh | None = None) -> PreparedProblem:
    """What `solve` and `frontier` make of a problem first; pass it in the problem's place to pay for it once.

    Args:
      problem: utility f32[N, K], cost f32[N, K].
      mesh: share the questions out over the devices of a mesh. `solve` and the gridded frontier then run where the
        questions are, and exchange a few scalars a pass.

    Raises:
      ValueError: like `solve`; or N is not a multiple of the mesh's size.
    """
    problem = door.as_arrays(problem)
    if mesh is not None and problem.utility.shape[0] % mesh.size:
        raise ValueError(f"a mesh of {mesh.size} devices takes equal shares, got {problem.utility.shape[0]} questions")
    prepared = _lay_out_jit(problem, mesh)
    if not door.is_traced(prepared.invalid) and bool(prepared.invalid):
        door.explain(problem)
    return prepared


def solve(problem: AllocationProblem | PreparedProblem, budget=None, *, utility=None, check: bool = False) -> Solution:
    """The plan of greatest mean utility within a budget, or of least spend that reaches a mean utility.

        max mean_i utility[i, a_i]   subject to   mean_i cost[i, a_i] <= budget

    `action` is one action a question, and never spends more than the budget; `mixed` splits one question between two
    actions so that the budget is spent to the end, and is optimal among all mixed plans. `dual_value` bounds both from above.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, R]; or what `prepare` made of it.
      budget: allowed mean cost a question, a number or f32[R]. A Python number keeps its digits; inside jit it is a float32.
      utility: instead of a budget, the mean utility to reach. The integral plan reaches it and the mixed plan meets it;
        INFEASIBLE says that no plan does, and the best one is returned. Then `dual_value` bounds the utility of any plan that spends
        `mixed_spend`, and `gap` holds the integral plan against the bound at its own spend. One resource only.
      check: raise where the status is not OPTIMAL; outside jit only.

    Returns:
      A `Solution`. Budget below the cheapest plan: that plan, status INFEASIBLE. Budget above the dearest useful plan: that
      plan, multiplier 0.

    Raises:
      ValueError: shapes that do not match, float64 without x64, a bad budget; outside jit also NaN, infinities, negative costs and
        questions without a valid action, of which the first is named (inside jit, the status is INVALID).

    >>> import numpy as np
    >>> problem = AllocationProblem(np.float32([[0, 1], [0, 0.5]]), np.float32([[1, 3], [1, 3]]))
    >>> found = solve(problem, 2.5)
    >>> found.action.tolist(), float(found.spend), float(found.mixed_utility), float(found.dual_value)
    ([1, 0], 2.0, 0.625, 0.625)

    Source: the relaxation and its dual, P. Sinha and A. Zoltners, The multiple-choice knapsack problem, 1979.
    """
    if (budget is None) == (utility is None):
        raise ValueError("pass a budget, or the utility to reach at least spend: one of the two")
    name, value, goal = ("budget", budget, "spend") if utility is None else ("utility", utility, "utility")
    if not isinstance(problem, PreparedProblem) and jnp.ndim(problem.cost) == 3 and jnp.shape(problem.cost)[2] > 1:
        solution = _solve_several(problem, budget)
    else:
        prepared = problem if isinstance(problem, PreparedProblem) else prepare(problem)
        several = not isinstance(problem, PreparedProblem) and jnp.ndim(problem.cost) == 3
        value = jnp.reshape(value, ()) if several and jnp.shape(value) == (1,) else value
        wanted = door.as_pair(value, prepared.utility.dtype, name)
        solution = _solve_jit(prepared, wanted, goal=goal)
    if check:
        door.raise_unless_optimal(solution.status, name)
    return solution


def _solve_several(problem: AllocationProblem, budget) -> Solution:
    if budget is None:
        raise ValueError("the least spend for a utility has a meaning for one resource only")
    problem = door.as_arrays(problem)
    wanted = door.as_pair(budget, problem.utility.dtype, "budget", problem.cost.shape[2])
    # float32 budgets are rounded down: several resources are decided without their lower halves.
    solution = _solve_resources_jit(problem, pairs.rounded_down(pairs.Pair(*map(jnp.asarray, wanted))))
    if not door.is_traced(solution.status) and int(solution.status) == Status.INVALID:
        door.explain(problem)
    return solution
