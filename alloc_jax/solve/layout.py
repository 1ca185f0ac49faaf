"""The layout the kernels read.

Arrays come as [N, K] and are kept as [K, rows, WIDTH]: an action is one contiguous stream, so that a best response is K
multiply-adds and compares a question, in registers. Question i sits at row i // WIDTH, column i % WIDTH. `prepare` does this once,
and `solve` takes what it returns, so that many budgets on one table pay for it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from alloc_jax.solve import double_double, validation
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.mesh import devices, exact_sum_over, max_over, specs_of
from alloc_jax.solve.plans import extremes, row_totals
from alloc_jax.types import AllocationProblem

WIDTH = 1024  # questions a row: what sums exactly in slices, and small enough to search through


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Rows:
    """The arrays of a problem with one resource, in rows of questions."""

    utility: jax.Array = field(metadata={"questions": 1})  # f32[K, rows, WIDTH]
    cost: jax.Array = field(metadata={"questions": 1})  # f32[K, rows, WIDTH]
    weight: jax.Array | None = field(metadata={"questions": 0})  # f32[rows, WIDTH]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PreparedProblem:
    """An `AllocationProblem` with one resource in the kernels' layout, with the totals of its two extreme plans."""

    utility: jax.Array = field(
        metadata={"questions": 1}
    )  # f32[K, rows, WIDTH] lowest float where an action may not be taken; 0 in the padding
    cost: jax.Array = field(
        metadata={"questions": 1}
    )  # f32[K, rows, WIDTH] highest float where an action may not be taken; 0 in the padding
    weight: jax.Array | None = field(metadata={"questions": 0})  # f32[rows, WIDTH] 0 in the padding
    questions: DoubleDouble  # f32[] total weight
    cheapest: DoubleDouble  # f32[2] total spend and utility where every question takes its cheapest action, the best of several
    dearest: DoubleDouble  # f32[2] the same where every question takes its best action, the cheapest of several
    steepest: jax.Array  # f32[] a multiplier at which every question takes its cheapest action
    invalid: jax.Array  # bool[] a value out of the promised range, NaN among them, or a question without a valid action
    size: int = field(metadata={"static": True})  # N, or the questions of a device
    mesh: Mesh | None = field(default=None, metadata={"static": True})  # whose devices share out the rows

    @property
    def specs(self) -> PreparedProblem | None:
        """How this lies on its mesh."""
        return specs_of(PreparedProblem, self.mesh, size=self.size, mesh=self.mesh)

    @property
    def axes(self) -> tuple[str, ...] | None:
        return None if self.mesh is None else self.mesh.axis_names

    @property
    def actions(self) -> int:
        return self.utility.shape[0]


def transposed(problem: AllocationProblem, axes: tuple[str, ...] | None) -> tuple[Rows, jax.Array]:
    """A problem with one resource in rows, its forbidden actions masked; and whether it is invalid.

    This is a program of its own: in one with `lay_out`, the compiler transposes again for every loop that reads.
    """
    utility, cost, valid, weight = problem.utility, problem.cost, problem.valid, problem.weight
    cost = cost[..., 0] if cost.ndim == 3 else cost
    bad = validation.out_of_range(cost, validation.COSTS) | ~(jnp.abs(utility) <= validation.GREATEST_UTILITY)
    if valid is None:
        invalid = bad.any()
    else:
        invalid = (bad & valid).any() | ~valid.any(axis=1).all()
        top = jnp.finfo(utility.dtype).max  # loses every comparison; padding keeps zeros, which add nothing
        utility, cost = jnp.where(valid, utility, -top), jnp.where(valid, cost, top)
    if weight is not None:
        invalid |= validation.out_of_range(weight, validation.WEIGHTS).any()
        weight = in_rows(weight)
    laid = Rows(in_rows(utility.T), in_rows(cost.T), weight)
    return laid, max_over(invalid.astype(jnp.int32), axes) > 0


def lay_out(rows: Rows, invalid: jax.Array, size: int, mesh: Mesh | None) -> PreparedProblem:
    """What the kernels want to know of a problem beside its arrays, which the result leaves out.

    Args:
      rows: from `transposed`, and `invalid` too.
      size: N, or the questions of a device.
      mesh: this runs on every device of it, for the device's questions.
    """
    axes = None if mesh is None else mesh.axis_names
    rows = jax.lax.stop_gradient(rows)  # an optimal value moves with the arrays alone, see `envelope`
    utility, cost, weight = rows.utility, rows.cost, rows.weight
    count = double_double.split(float(size * devices(mesh)), utility.dtype)
    questions = DoubleDouble(jnp.asarray(count.hi), jnp.asarray(count.lo))
    if weight is not None:
        total = double_double.total(row_totals(jnp.ones_like(weight) + 0j, weight))
        questions = DoubleDouble(*(x[0] for x in exact_sum_over(total, axes)))
        invalid |= ~(questions.hi > 0)
    cheapest, dearest, steepest = extremes(utility, cost)
    cheapest, dearest = (
        exact_sum_over(double_double.total(row_totals(plan, weight)), axes) for plan in (cheapest, dearest)
    )
    steepest = max_over(steepest, axes)
    return PreparedProblem(None, None, None, questions, cheapest, dearest, steepest, invalid, size, mesh)


def in_rows(x: jax.Array, most: int = WIDTH) -> jax.Array:
    """[..., N] as [..., rows, WIDTH], padded with zeros; another width where `most` says so."""
    width = min(most, x.shape[-1])
    if x.shape[-1] % width:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % width)])
    return x.reshape(*x.shape[:-1], -1, width)
