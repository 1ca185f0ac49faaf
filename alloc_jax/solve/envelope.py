"""Derivatives of a solution: the envelope theorem for the optimal value, and an error for what has none.

The value V of a problem moves as if its multiplier l and its mixed plan p stood still:

    dV = mean_i sum_a p[i, a] (dutility[i, a] - l dcost[i, a]) + l dbudget

Plans and what an integral plan earns are constant between jumps: their derivative is 0 almost everywhere and means
nothing. The multiplier moves in jumps, too. Reverse mode refuses to go through them; forward mode, which cannot
see what is used of a result, gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.layout import PreparedProblem
from alloc_jax.types import MixedPlan, Solution

VALUES = ("dual_value", "mixed_utility")  # of a solution for a budget: equal, and the optimum of the mixed problem


def with_envelope(kernel: Callable[..., Solution], goal: str) -> Callable[..., Solution]:
    """A kernel of (prepared, wanted) to which derivatives of the optimal value are added, where the goal is to stay within a budget."""
    solved = jax.custom_jvp(kernel)

    @solved.defjvp
    def rule(primals, tangents):
        solution = solved(*primals)
        (prepared, wanted), (d_prepared, d_wanted) = primals, tangents
        change = _change(prepared, wanted, solution, d_prepared, d_wanted)

        def tangent(name, x):
            if not jnp.issubdtype(x.dtype, jnp.floating):
                return np.zeros(x.shape, jax.dtypes.float0)
            if name in VALUES and goal == "spend":
                return change
            return undefined.bind(jnp.broadcast_to(change, x.shape), why=OF_A_SOLUTION)

        plain = {field.name: getattr(solution, field.name) for field in fields(Solution) if field.name != "mixed"}
        mixed = {field.name: getattr(solution.mixed, field.name) for field in fields(MixedPlan)}
        beside = MixedPlan(**{name: None if x is None else tangent(name, x) for name, x in mixed.items()})
        return solution, Solution(mixed=beside, **{name: tangent(name, x) for name, x in plain.items()})

    return solved


def _change(
    prepared: PreparedProblem,
    wanted: DoubleDouble,
    solution: Solution,
    d_prepared: PreparedProblem,
    d_wanted: DoubleDouble,
) -> jax.Array:
    """f32[] the change of the optimal value."""
    multiplier, plan = solution.multiplier, prepared.in_layout(mixed_plan(solution, prepared.actions))

    def net(x: PreparedProblem) -> jax.Array:
        """The net utility of each question under the mixed plan. Forbidden actions are left out: theirs may overflow."""
        return jnp.where(plan > 0, plan * x.net_utility(multiplier), 0).sum(axis=prepared.action_axis)

    weight = jnp.ones_like(prepared.utility[0]) if prepared.weight is None else prepared.weight
    count = prepared.questions.hi
    change = (weight * net(d_prepared)).sum() / count + (multiplier * (d_wanted.hi + d_wanted.lo)).sum()
    if prepared.weight is not None:
        excess = net(prepared) + (multiplier * wanted.hi).sum() - solution.dual_value
        change += (d_prepared.weight * excess).sum() / count
    return change


def mixed_plan(solution: Solution, actions: int, xp=jnp):
    """f[N, K] how much of every question each action gets in the mixed plan, which spends the budget.

    Args:
      solution: for one budget; of NumPy arrays where xp is NumPy.
      actions: K.
      xp: jax.numpy, or numpy for float64 on the host.
    """
    mixed = solution.mixed
    own = solution.action if mixed.action is None else mixed.action
    one_hot = xp.eye(actions, dtype=float if xp is np else mixed.probability.dtype)
    question, other, share = (xp.atleast_1d(x) for x in (mixed.question, mixed.other, mixed.probability))
    moved = share[:, None] * (one_hot[other] - one_hot[own[question]])  # [R, K]
    at = xp.arange(len(own))[:, None] == question[None]  # [N, R]
    return one_hot[own] + (at[:, :, None] * moved[None]).sum(axis=1)


# ---------------------------------------------------------------------------------------------------------------
# No derivative
# ---------------------------------------------------------------------------------------------------------------

OF_A_SOLUTION = (
    "of a solution, only `dual_value` and `mixed_utility` for a budget have a derivative (as `aj.dual_value` has): "
    "plans and what they spend and earn change in jumps, and so does the multiplier. "
    "Differentiate `aj.smooth_plan` or `aj.smooth_multiplier` instead, or put `jax.lax.stop_gradient` around the rest"
)
OF_A_FRONTIER = (
    "the points of a frontier have no derivative: each is a plan, and plans change in jumps. "
    "Differentiate `aj.dual_value` at budgets instead, or put `jax.lax.stop_gradient` around the problem"
)


def without_derivatives(kernel: Callable[..., tuple[jax.Array, ...]], why: str) -> Callable[..., tuple[jax.Array, ...]]:
    """A kernel of floating-point results that refuses to be differentiated, and says why."""
    refusing = jax.custom_jvp(kernel)

    @refusing.defjvp
    def rule(primals, tangents):
        results = refusing(*primals)
        changes = [x.sum() for x in jax.tree.leaves(tangents) if jnp.issubdtype(x.dtype, jnp.floating)]
        return results, tuple(undefined.bind(jnp.broadcast_to(sum(changes), x.shape), why=why) for x in results)

    return refusing


undefined = Primitive("undefined_derivative")


def _refuse(cotangent, _, *, why: str):
    raise ValueError(why)


undefined.def_impl(lambda x, *, why: x * jnp.nan)
undefined.def_abstract_eval(lambda x, *, why: x)
ad.deflinear2(undefined, _refuse)
batching.defvectorized(undefined)
mlir.register_lowering(undefined, mlir.lower_fun(lambda x, *, why: x * jnp.nan, multiple_results=False))
