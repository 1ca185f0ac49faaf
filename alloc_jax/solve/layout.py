"""The layout the kernels read.

Arrays come as [N, K] and are kept as [K, rows, WIDTH]: an action is one contiguous stream, so that a best response is K
multiply-adds and compares a question, in registers. Question i sits at row i // WIDTH, column i % WIDTH. `prepare` does this once,
and `solve` takes what it returns, so that many budgets on one table pay for it once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.solve import double_double, validation
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.plans import extremes, row_totals
from alloc_jax.types import AllocationProblem

WIDTH = 1024  # questions a row: what sums exactly in slices, and small enough to search through


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PreparedProblem:
    """An `AllocationProblem` with one resource in the kernels' layout, with the totals of its two extreme plans."""

    utility: jax.Array  # f32[K, rows, WIDTH] lowest float where an action may not be taken; 0 in the padding
    cost: jax.Array  # f32[K, rows, WIDTH] highest float where an action may not be taken; 0 in the padding
    weight: jax.Array | None  # f32[rows, WIDTH] 0 in the padding
    questions: DoubleDouble  # f32[] total weight
    cheapest: DoubleDouble  # f32[2] total spend and utility where every question takes its cheapest action, the best of several
    dearest: DoubleDouble  # f32[2] the same where every question takes its best action, the cheapest of several
    steepest: jax.Array  # f32[] a multiplier at which every question takes its cheapest action
    invalid: jax.Array  # bool[] a value out of the promised range, NaN among them, or a question without a valid action
    size: int = field(metadata={"static": True})  # N, or the questions of a device
    mesh: Mesh | None = field(default=None, metadata={"static": True})  # whose devices share out the rows

    @property
    def axes(self) -> tuple[str, ...] | None:
        return None if self.mesh is None else self.mesh.axis_names

    @property
    def actions(self) -> int:
        return self.utility.shape[0]


def transposed(problem: AllocationProblem, axes: tuple[str, ...] | None) -> tuple[AllocationProblem, jax.Array]:
    """A problem with one resource as [K, rows, WIDTH] and [rows, WIDTH], its forbidden actions masked; and whether it is invalid.

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
    laid = AllocationProblem(in_rows(utility.T), in_rows(cost.T), None, weight)
    return laid, highest_of(invalid.astype(jnp.int32), axes) > 0


def lay_out(problem: AllocationProblem, invalid: jax.Array, size: int, mesh: Mesh | None) -> PreparedProblem:
    """What the kernels want to know of a problem beside its arrays, which the result leaves out.

    Args:
      problem: from `transposed`, and `invalid` too.
      size: N, or the questions of a device.
      mesh: this runs on every device of it, for the device's questions.
    """
    axes = None if mesh is None else mesh.axis_names
    problem = jax.lax.stop_gradient(problem)  # an optimal value moves with the arrays alone, see `envelope`
    utility, cost, weight = problem.utility, problem.cost, problem.weight
    count = double_double.split(float(size if mesh is None else size * mesh.size), utility.dtype)
    questions = DoubleDouble(jnp.asarray(count.hi), jnp.asarray(count.lo))
    if weight is not None:
        total = double_double.total(row_totals(jnp.ones_like(weight) + 0j, weight))
        questions = DoubleDouble(*(x[0] for x in double_double.across(total, axes)))
        invalid |= ~(questions.hi > 0)
    cheapest, dearest, steepest = extremes(utility, cost)
    cheapest, dearest = (
        double_double.across(double_double.total(row_totals(plan, weight)), axes) for plan in (cheapest, dearest)
    )
    steepest = highest_of(steepest, axes)
    return PreparedProblem(None, None, None, questions, cheapest, dearest, steepest, invalid, size, mesh)


def on_mesh(kernel, mesh: Mesh | None, *specs, out):
    """The kernel on every device of a mesh, its first argument shared out as the specs say and the others whole."""
    if mesh is None:
        return kernel
    return lambda *args: jax.shard_map(
        kernel, mesh=mesh, in_specs=specs + (P(),) * (len(args) - len(specs)), out_specs=out, check_vma=False
    )(*args)


def transposed_specs(mesh: Mesh | None, weighted: bool) -> AllocationProblem | None:
    """How a transposed problem lies on a mesh."""
    if mesh is None:
        return None
    cells = P(None, mesh.axis_names)
    return AllocationProblem(cells, cells, None, P(mesh.axis_names) if weighted else None)


def specs_of(mesh: Mesh | None, size: int, weighted: bool) -> PreparedProblem | None:
    """How a `PreparedProblem` lies on a mesh."""
    if mesh is None:
        return None
    cells = P(None, mesh.axis_names)
    weight = P(mesh.axis_names) if weighted else None
    return PreparedProblem(cells, cells, weight, P(), P(), P(), P(), P(), size, mesh)


def highest_of(x: jax.Array, axes: tuple[str, ...] | None) -> jax.Array:
    """The highest over the devices of a mesh's axes."""
    return x if axes is None else jax.lax.pmax(x, axes)


def in_rows(x: jax.Array, most: int = WIDTH) -> jax.Array:
    """[..., N] as [..., rows, WIDTH], padded with zeros; another width where `most` says so."""
    width = min(most, x.shape[-1])
    if x.shape[-1] % width:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % width)])
    return x.reshape(*x.shape[:-1], -1, width)
