"""The layout for several resources: chunks of questions whose costs of every resource fit into a core's cache.

A problem with one resource has another layout (`solve.layout`), because its passes are bound by memory. Here a chunk is read once,
and R + R^2 sums use its softmax.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.layout import PreparedProblem, filled_problem, in_rows
from alloc_jax.solve.mesh import (
    devices,
    exact_sum_over,
    filled,
    max_over,
    on_mesh,
    questions_on,
    specs_of,
    whole_shares,
)
from alloc_jax.types import AllocationProblem

CHUNK = 4096  # questions whose [K, R] costs fit into a core's cache


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class ProblemInChunks(PreparedProblem):
    """A prepared problem with several resources. Question i sits at chunk i // width, column i % width."""

    utility: jax.Array = field(metadata={"questions": 0})  # f32[chunks, K, width] `forbidden` where it may not be taken
    cost: jax.Array = field(metadata={"questions": 0})  # f32[chunks, R, K, width] 0 where an action may not be taken
    weight: jax.Array = field(metadata={"questions": 0})  # f32[chunks, width] 1 where there are no weights
    least: DoubleDouble  # f32[] total utility where every question takes its worst action
    cheapest: DoubleDouble  # f32[R] total cost of each resource where every question takes its cheapest action for it
    varies: jax.Array  # bool[R] whether the actions of any question differ in it; if not, its budget decides nothing

    action_axis: ClassVar[int] = 1
    width: ClassVar[int] = CHUNK

    @property
    def resources(self) -> int:
        return self.cost.shape[1]

    def net_utility(self, multiplier: jax.Array) -> jax.Array:
        return self.utility - jnp.tensordot(multiplier, self.cost, axes=(0, 1))


def forbidden(dtype) -> float:
    """The utility of an action that may not be taken: it loses every comparison, and stays finite beside any cost."""
    return float(jnp.finfo(dtype).min / 4)


@partial(jax.jit, static_argnames="mesh")
def prepare_chunks(problem: AllocationProblem, mesh: Mesh | None) -> ProblemInChunks:
    """The layout of a problem with cost f32[N, K, R]."""
    found = chunked(problem, mesh)
    return replace(found, invalid=found.invalid | ~(found.questions.hi > 0))


@partial(jax.jit, static_argnames="mesh")
def chunked(problem: AllocationProblem, mesh: Mesh | None) -> ProblemInChunks:
    """The same of a part of a table, in which no question need count."""
    count = problem.utility.shape[0]
    if problem.weight is None:
        problem = replace(problem, weight=jnp.ones_like(problem.utility[:, 0]))
    problem = filled_problem(problem, whole_shares(count, devices(mesh)))
    out = specs_of(ProblemInChunks, mesh, count=count, mesh=mesh)
    return on_mesh(partial(_prepared, count=count, mesh=mesh), mesh, questions_on(mesh), out=out)(problem)


def _prepared(problem: AllocationProblem, count: int, mesh: Mesh | None) -> ProblemInChunks:
    axes = None if mesh is None else mesh.axis_names
    utility, cost, valid = problem.utility, problem.cost, problem.valid
    bad = ~(jnp.isfinite(utility) & (jnp.isfinite(cost) & (cost >= 0)).all(axis=2))
    worst, cheapest, dearest = utility.min(axis=1), cost.min(axis=1), cost.max(axis=1)
    if valid is None:
        invalid = bad.any()
    else:
        invalid = (bad & valid).any() | ~valid.any(axis=1).all()
        worst = jnp.where(valid, utility, jnp.inf).min(axis=1)
        cheapest = jnp.where(valid[:, :, None], cost, jnp.inf).min(axis=1)
        dearest = jnp.where(valid[:, :, None], cost, 0).max(axis=1)
        utility, cost = jnp.where(valid, utility, forbidden(utility.dtype)), jnp.where(valid[:, :, None], cost, 0)
    weight = problem.weight
    size = utility.shape[0]
    width = min(CHUNK, size)

    def in_chunks(x):
        x = filled(x, whole_shares(size, width), value=0)
        return jnp.moveaxis(x.reshape(-1, width, *x.shape[1:]), 1, -1)

    # Totals that no derivative goes through.
    of_rows = jnp.concatenate([jnp.ones_like(worst)[None], worst[None], cheapest.T])
    sums = summed(*jax.lax.stop_gradient((of_rows, weight)), axes)
    questions, least = (DoubleDouble(*(x[part] for x in sums)) for part in (0, 1))
    varies = ((dearest > cheapest) & (weight > 0)[:, None]).any(axis=0)
    invalid |= ~(jnp.isfinite(weight) & (weight >= 0)).all()
    return ProblemInChunks(
        utility=in_chunks(utility),
        cost=in_chunks(cost).swapaxes(1, 2),
        weight=in_chunks(weight),
        questions=questions,
        least=least,
        cheapest=DoubleDouble(*(x[2:] for x in sums)),
        varies=max_over(varies.astype(jnp.int32), axes) > 0,
        invalid=max_over(invalid.astype(jnp.int32), axes) > 0,
        count=count,
        mesh=mesh,
    )


def totals(prepared: ProblemInChunks, action: jax.Array) -> DoubleDouble:
    """f32[1 + R] total utility and costs of a plan i32[chunks, width], to twice the precision of the type."""

    def chosen(x):
        value = x[:, 0]
        for k in range(1, x.shape[1]):
            value = jnp.where(action == k, x[:, k], value)
        return value

    costs = [chosen(prepared.cost[:, r]) for r in range(prepared.resources)]
    values = jnp.stack([chosen(prepared.utility), *costs])
    return summed(values.reshape(len(values), -1), prepared.weight.reshape(-1), prepared.axes)


def summed(values: jax.Array, weight: jax.Array, axes: tuple[str, ...] | None) -> DoubleDouble:
    """The weighted sums of f32[M, N] over all questions of all devices, in two floats."""
    high, low = (in_rows(x) for x in double_double.two_product(values, jnp.broadcast_to(weight[None], values.shape)))
    top = double_double.power_above(jnp.abs(high).max(axis=(1, 2), keepdims=True))
    first, second, third = double_double.slices(high, jnp.broadcast_to(top, high.shape))
    first, second, third = (x.sum(axis=2) for x in (first, second, third + low))
    return exact_sum_over(
        double_double.total(double_double.add_float(double_double.two_sum(first, second), third)), axes
    )
