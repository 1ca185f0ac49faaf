"""Solve for one budget: validate, lay out, find the multiplier, round to plans, certify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
from jax.sharding import Mesh

from alloc_jax.solve import validation
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.envelope import with_envelope
from alloc_jax.solve.layout import PreparedProblem, ProblemInRows, prepare_rows
from alloc_jax.solve.mesh import on_mesh, specs_of
from alloc_jax.solve.plans import by_itself
from alloc_jax.solve.resources.kernel import solve_resources
from alloc_jax.solve.resources.layout import prepare_chunks
from alloc_jax.solve.root_finding import search
from alloc_jax.solve.rounding import finish
from alloc_jax.types import AllocationProblem, MixedPlan, OutcomeTable, Solution


def on_its_mesh(kernel: Callable[..., Solution], prepared: PreparedProblem) -> Callable[..., Solution]:
    """A kernel of a prepared problem on the problem's mesh, without the questions that fill up the last share."""
    mesh, count = prepared.mesh, prepared.count
    specs = specs_of(Solution, mesh, mixed=specs_of(MixedPlan, mesh))
    shared = on_mesh(kernel, mesh, prepared.specs, out=specs)

    def solved(*args) -> Solution:
        found = shared(*args)
        mixed = found.mixed
        if mixed.action is not None:
            mixed = replace(mixed, action=mixed.action[:count])
        return replace(found, action=found.action[:count], mixed=mixed)

    return solved


def solve_one_resource(prepared: ProblemInRows, wanted: DoubleDouble, goal: str) -> Solution:
    """The plan for one budget (goal "spend"), or of least spend for one mean utility (goal "utility").

    Args:
      prepared: from `prepare`.
      wanted: the mean spend or mean utility, as two floats.
      goal: "spend" or "utility".
    """

    def found() -> Solution:
        target = prepared.target(wanted, goal)
        return finish(prepared, search(prepared, target, goal), target, goal)

    # By itself where `prepare` is part of the same program: the rows would be laid out once more for what reads them outside loops.
    return by_itself(~(prepared.steepest < 0), found)


@partial(jax.jit, static_argnames="goal")
def _solve_jit(prepared: PreparedProblem, wanted: DoubleDouble, goal: str) -> Solution:
    kernel = partial(solve_one_resource, goal=goal) if isinstance(prepared, ProblemInRows) else solve_resources
    return with_envelope(on_its_mesh(kernel, prepared), goal)(prepared, wanted)


def prepare(problem: AllocationProblem | OutcomeTable, *, mesh: Mesh | None = None) -> PreparedProblem:
    """Validate a problem and lay it out for the kernels, so that many budgets on one table pay for it once.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, R]; or a table that holds them.
      mesh: share the questions out over the devices of a mesh. `solve` and the gridded frontier then run where the
        questions are, and exchange a few scalars per pass. Where N does not divide, the last share is filled up with questions
        that cost, earn and count nothing, and plans are gathered at the end.

    Raises:
      ValueError: like `solve`.
    """
    problem = validation.as_arrays(problem.problem() if isinstance(problem, OutcomeTable) else problem)
    several = problem.cost.ndim == 3 and problem.cost.shape[2] > 1
    prepared = prepare_chunks(problem, mesh) if several else prepare_rows(problem, mesh)
    if not validation.is_traced(prepared.invalid) and bool(prepared.invalid):
        validation.explain(problem)
    return prepared


def solve(
    problem: AllocationProblem | OutcomeTable | PreparedProblem,
    budget=None,
    *,
    utility=None,
    check: bool = False,
) -> Solution:
    """The plan of greatest mean utility within a budget, or of least spend that reaches a mean utility.

        max mean_i utility[i, a_i]   subject to   mean_i cost[i, a_i] <= budget

    `action` is one action per question, and never spends more than the budget; `mixed` splits one question between two
    actions so that the budget is spent to the end, and is optimal among all mixed plans. `dual_value` bounds both from above.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, R]; or what `prepare` made of it.
      budget: allowed mean cost per question, a number or f32[R]. A Python number is not rounded to float32, except inside jit.
        With one resource, [1] is a number, and multiplier and spends come back as [1].
      utility: instead of a budget, the mean utility to reach. The integral plan reaches it and the mixed plan meets it;
        INFEASIBLE says that no plan does, and the best one is returned. Then `dual_value` bounds the utility of any plan that spends
        `mixed_spend`, and `gap` holds the integral plan against the bound at its own spend. One resource only.
      check: raise where the status is not OPTIMAL; outside jit only.

    Returns:
      A `Solution`. Budget below the cheapest plan: that plan, status INFEASIBLE. Budget above the most expensive useful plan: that
      plan, multiplier 0.

      Promised with one resource, in float32: the plan is within the budget to 2^-42 of it. `dual_value` is below the optimum, and
      `mixed_utility` away from it, by at most 1e-6 of the mean range of a question's utilities and the rounding of the
      result. An offset that the utilities of a question share does not change that. The range: costs 0 or 1e-12 to
      1e18, weights 0 or 1e-9 to 1e9, utilities to 1e12 in size, all in one table. What lies outside is refused; inside
      jit, it is INVALID.

      Differentiable, forward and reverse, under jit and vmap: `dual_value` and `mixed_utility` of a budget, with respect to
      utility, cost, weight and budget, by the envelope theorem (see `dual_value`). Of the rest, reverse mode raises, and
      forward mode gives NaN.

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
    prepared = problem if isinstance(problem, PreparedProblem) else prepare(problem)
    count = prepared.resources if prepared.resources > 1 else None
    if count is not None and goal == "utility":
        raise ValueError("the least spend for a utility has a meaning for one resource only")
    solution = _solve_jit(prepared, validation.as_pair(value, prepared.utility.dtype, name, count), goal=goal)
    if check:
        validation.raise_unless_optimal(solution.status, name)
    return validation.shaped_like(solution, value)
