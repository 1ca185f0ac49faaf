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
from jax.sharding import PartitionSpec as P

from alloc_jax.solve import pairs
from alloc_jax.solve.pairs import Pair
from alloc_jax.solve.plans import extremes, row_totals
from alloc_jax.types import AllocationProblem

WIDTH = 1024  # questions a row: what sums exactly in slices, and small enough to search through


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PreparedProblem:
    """An `AllocationProblem` with one resource in the kernels' layout, with the totals of its two extreme plans."""

    utility: jax.Array  # f32[K, rows, WIDTH] lowest float where an action may not be taken; 0 in the padding
    cost: jax.Array  # f32[K, rows, WIDTH] highest float where an action may not be taken; 0 in the padding
    weight: jax.Array | None  # f32[rows, WIDTH] 0 in the padding
    questions: Pair  # f32[] total weight
    ceiling: jax.Array  # c64[] powers of two above every cost and utility (times weight) that a plan can choose
    cheapest: Pair  # f32[2] total spend and utility where every question takes its cheapest action, the best of several
    dearest: Pair  # f32[2] the same where every question takes its best action, the cheapest of several
    steepest: jax.Array  # f32[] a multiplier at which every question takes its cheapest action
    invalid: jax.Array  # bool[] NaN, an infinity, a negative cost or weight, or a question without a valid action
    size: int = field(metadata={"static": True})  # N, or the questions of a device
    mesh: Mesh | None = field(default=None, metadata={"static": True})  # whose devices share out the rows

    @property
    def axes(self) -> tuple[str, ...] | None:
        return None if self.mesh is None else self.mesh.axis_names

    @property
    def actions(self) -> int:
        return self.utility.shape[0]


def lay_out(problem: AllocationProblem, mesh: Mesh | None = None) -> PreparedProblem:
    """The kernels' layout of a problem with one resource: a pass to lay out, and one for the extreme plans.

    Args:
      problem: utility f32[N, K], cost f32[N, K] or f32[N, K, 1].
      mesh: this runs on every device of it, for the device's questions.
    """
    axes = None if mesh is None else mesh.axis_names
    utility, cost = problem.utility, problem.cost
    if cost.ndim == 3:
        cost = cost[..., 0]
    size, dtype = utility.shape[0], utility.dtype
    valid = None if problem.valid is None else in_rows(problem.valid.T)
    weight = None if problem.weight is None else in_rows(problem.weight)
    utility, cost = in_rows(utility.T), in_rows(cost.T)

    bad = ~(jnp.isfinite(utility) & jnp.isfinite(cost) & (cost >= 0))
    heights = utility, cost
    if valid is None:
        invalid = bad.any()
    else:
        padding = (jnp.arange(valid[0].size) >= size).reshape(valid[0].shape)
        invalid = (bad & valid).any() | ~(valid.any(axis=0) | padding).all()
        heights = (jnp.where(valid, x, 0) for x in heights)
        # The sentinels lose every comparison; padding keeps zeros, which add nothing.
        top, masked = jnp.finfo(dtype).max, ~(valid | padding[None])
        utility, cost = jnp.where(masked, -top, utility), jnp.where(masked, top, cost)
    highest = [highest_of(jnp.abs(x).max(), axes) for x in heights]
    count = pairs.split(float(size if mesh is None else size * mesh.size), dtype)
    questions = Pair(jnp.asarray(count.hi), jnp.asarray(count.lo))
    if weight is not None:
        heaviest = highest_of(weight.max(), axes)
        ones = jnp.ones_like(weight) + 0j
        highest = [x * heaviest for x in highest]
        total = pairs.total(row_totals(ones, weight, _ceiling([heaviest] * 2)))
        questions = Pair(*(x[0] for x in pairs.across(total, axes)))
        invalid |= ~(jnp.isfinite(weight) & (weight >= 0)).all() | ~(questions.hi > 0)
    ceiling = _ceiling(reversed(highest))
    cheapest, dearest, steepest = extremes(utility, cost)
    cheapest, dearest = (
        pairs.across(pairs.total(row_totals(plan, weight, ceiling)), axes) for plan in (cheapest, dearest)
    )
    steepest, invalid = highest_of(steepest, axes), highest_of(invalid.astype(jnp.int32), axes) > 0
    return PreparedProblem(utility, cost, weight, questions, ceiling, cheapest, dearest, steepest, invalid, size, mesh)


def on_mesh(kernel, mesh: Mesh | None, *specs, out):
    """The kernel on every device of a mesh, its first argument shared out as the specs say and the others whole."""
    if mesh is None:
        return kernel
    return lambda *args: jax.shard_map(
        kernel, mesh=mesh, in_specs=specs + (P(),) * (len(args) - len(specs)), out_specs=out, check_vma=False
    )(*args)


def specs_of(mesh: Mesh | None, size: int, weighted: bool) -> PreparedProblem | None:
    """How a `PreparedProblem` lies on a mesh."""
    if mesh is None:
        return None
    cells = P(None, mesh.axis_names)
    weight = P(mesh.axis_names) if weighted else None
    return PreparedProblem(cells, cells, weight, P(), P(), P(), P(), P(), P(), size, mesh)


def highest_of(x: jax.Array, axes: tuple[str, ...] | None) -> jax.Array:
    """The highest over the devices of a mesh's axes."""
    return x if axes is None else jax.lax.pmax(x, axes)


def in_rows(x: jax.Array) -> jax.Array:
    """[..., N] as [..., rows, WIDTH], padded with zeros."""
    width = min(WIDTH, x.shape[-1])
    if x.shape[-1] % width:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % width)])
    return x.reshape(*x.shape[:-1], -1, width)


def _ceiling(highest) -> jax.Array:
    return jax.lax.complex(*(pairs.power_above(x) for x in highest))
