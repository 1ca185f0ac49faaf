"""Prepared problems, and the layout for one resource: rows of questions.

Arrays come as [N, K] and are kept as [K, rows, WIDTH]: an action is one contiguous stream, so that a best response is K
multiply-adds and compares per question, in registers. Question i sits at row i // WIDTH, column i % WIDTH. Many budgets on
one table pay for the layout once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.display import Shown, brief
from alloc_jax.solve import double_double, validation
from alloc_jax.solve.double_double import DoubleDouble
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
from alloc_jax.solve.plans import by_itself, extremes, row_totals
from alloc_jax.types import AllocationProblem

WIDTH = 1024  # questions per row: what sums exactly in slices, and small enough to search through


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class PreparedProblem(Shown):
    """An `AllocationProblem` as the kernels read it: `ProblemInRows` with one resource, `ProblemInChunks` with several.

    The padding at the end of a row or a chunk costs, earns and counts nothing.
    """

    utility: jax.Array
    cost: jax.Array
    weight: jax.Array | None
    questions: DoubleDouble  # f32[] total weight
    invalid: jax.Array  # bool[] a value that `validation.explain` refuses
    count: int = field(metadata={"static": True})  # N
    mesh: Mesh | None = field(metadata={"static": True})  # whose devices share out the questions

    action_axis: ClassVar[int]  # of the utility
    width: ClassVar[int]  # questions that lie side by side

    def parts(self) -> dict[str, str]:
        """What is shown of each field: totals to four digits, as one number each."""
        shown = super().parts()
        totals = {name: total for name in shown if isinstance(total := getattr(self, name), DoubleDouble)}
        return shown | {name: brief(total.hi) for name, total in totals.items()}

    @property
    def size(self) -> int:
        """Questions on each device; those of the last include the padding."""
        return whole_shares(self.count, devices(self.mesh)) // devices(self.mesh)

    @property
    def actions(self) -> int:
        """K."""
        return self.utility.shape[self.action_axis]

    @property
    def resources(self) -> int:
        """R."""
        raise NotImplementedError

    @property
    def axes(self) -> tuple[str, ...] | None:
        """The names of the mesh's axes, over which totals are sums."""
        return None if self.mesh is None else self.mesh.axis_names

    @property
    def specs(self) -> PreparedProblem | None:
        """How the arrays lie on the mesh."""
        return specs_of(type(self), self.mesh, count=self.count, mesh=self.mesh)

    def mean(self, total: DoubleDouble) -> DoubleDouble:
        """The mean per question that a total stands for."""
        return double_double.divide(total, self._questions_as(total))

    def target(self, wanted: DoubleDouble, goal: str = "spend") -> DoubleDouble:
        """The total that a mean stands for, with a tolerance for the rounding of totals."""
        total = double_double.multiply(wanted, self._questions_as(wanted))
        slack = jnp.abs(total.hi) * double_double.slack(total.hi.dtype)
        return double_double.add_float(total, slack if goal == "spend" else -slack)

    def _questions_as(self, x: DoubleDouble) -> DoubleDouble:
        return DoubleDouble(*(jnp.broadcast_to(part, x.hi.shape) for part in self.questions))

    def net_utility(self, multiplier: jax.Array) -> jax.Array:
        """utility - multiplier * cost, in the layout of the utility."""
        raise NotImplementedError

    def in_layout(self, x: jax.Array) -> jax.Array:
        """Numbers [N, K] in the layout of the utility."""
        x = filled(x.T, self.size * devices(self.mesh), axis=1, value=0)
        x = in_rows(x.reshape(x.shape[0], -1, self.size), self.width)
        return jnp.moveaxis(x.reshape(x.shape[0], -1, x.shape[-1]), 0, self.action_axis)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Rows:
    """The arrays of a problem with one resource."""

    utility: jax.Array = field(metadata={"questions": 1})  # f32[K, rows, WIDTH] lowest float for a forbidden action
    cost: jax.Array = field(metadata={"questions": 1})  # f32[K, rows, WIDTH] highest float for a forbidden action
    weight: jax.Array | None = field(metadata={"questions": 0})  # f32[rows, WIDTH]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class ProblemInRows(PreparedProblem):
    """A prepared problem with one resource: `Rows`, and the totals of its two extreme plans."""

    utility: jax.Array = field(metadata={"questions": 1})
    cost: jax.Array = field(metadata={"questions": 1})
    weight: jax.Array | None = field(metadata={"questions": 0})
    cheapest: (
        DoubleDouble  # f32[2] spend and utility where each question takes its cheapest action, the best of several
    )
    dearest: DoubleDouble  # f32[2] the same where each question takes its best action, the cheapest of several
    steepest: jax.Array  # f32[] a multiplier at which every question takes its cheapest action

    action_axis: ClassVar[int] = 0
    width: ClassVar[int] = WIDTH

    @property
    def resources(self) -> int:
        return 1

    def net_utility(self, multiplier: jax.Array) -> jax.Array:
        return self.utility - multiplier * self.cost


def prepare_rows(problem: AllocationProblem, mesh: Mesh | None) -> ProblemInRows:
    """The layout of a problem with one resource, by two programs.

    In a single program the compiler would transpose the arrays again in every loop that reads them.
    """
    rows, invalid = transposed(problem, mesh)
    about = described(rows, invalid, problem.utility.shape[0], mesh)
    return replace(about, utility=rows.utility, cost=rows.cost, weight=rows.weight)


@partial(jax.jit, static_argnames="mesh")
def transposed(problem: AllocationProblem, mesh: Mesh | None) -> tuple[Rows, jax.Array]:
    """A problem with one resource in rows, its forbidden actions masked; and whether it is invalid."""
    problem = filled_problem(problem, whole_shares(problem.utility.shape[0], devices(mesh)))
    kernel = partial(_transposed, axes=None if mesh is None else mesh.axis_names)
    return on_mesh(kernel, mesh, questions_on(mesh), out=(specs_of(Rows, mesh), P()))(problem)


def _transposed(problem: AllocationProblem, axes: tuple[str, ...] | None) -> tuple[Rows, jax.Array]:
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
    return Rows(in_rows(utility.T), in_rows(cost.T), weight), max_over(invalid.astype(jnp.int32), axes) > 0


@partial(jax.jit, static_argnames=("count", "mesh"))
def described(rows: Rows, invalid: jax.Array, count: int, mesh: Mesh | None) -> ProblemInRows:
    """The prepared problem without its arrays: the totals and extremes that the kernels need.

    Args:
      rows: from `transposed`, and `invalid` too.
      count: N.
      mesh: whose devices share out the rows.
    """
    return on_mesh(partial(_described, count=count, mesh=mesh), mesh, specs_of(Rows, mesh), out=P())(rows, invalid)


def _described(rows: Rows, invalid: jax.Array, count: int, mesh: Mesh | None) -> ProblemInRows:
    axes = None if mesh is None else mesh.axis_names
    rows = jax.lax.stop_gradient(rows)  # an optimal value moves with the arrays alone, see `envelope`
    weight = rows.weight
    questions = DoubleDouble(*map(jnp.asarray, double_double.split(float(count), rows.utility.dtype)))
    if weight is not None:
        total = double_double.total(row_totals(jnp.ones_like(weight) + 0j, weight))
        questions = DoubleDouble(*(x[0] for x in exact_sum_over(total, axes)))
        invalid |= ~(questions.hi > 0)

    def of_extremes():
        *plans, steepest = extremes(rows.utility, rows.cost)
        return *(double_double.total(row_totals(plan, weight)) for plan in plans), steepest

    # By itself where `prepare` is part of a larger program: the rows would be laid out once more for this.
    cheapest, dearest, steepest = by_itself(~(invalid.astype(rows.cost.dtype) < 0), of_extremes)
    cheapest, dearest = (exact_sum_over(total, axes) for total in (cheapest, dearest))
    return ProblemInRows(
        utility=None,
        cost=None,
        weight=None,
        questions=questions,
        invalid=invalid,
        count=count,
        mesh=mesh,
        cheapest=cheapest,
        dearest=dearest,
        steepest=max_over(steepest, axes),
    )


def filled_problem(problem: AllocationProblem, length: int) -> AllocationProblem:
    """A problem filled up to a number of questions with questions that cost, earn and count nothing."""
    missing = length - len(problem.utility)  # of each array, so that shapes that do not match still do not

    def of(x, value):
        return None if x is None else filled(x, len(x) + missing, value=value)

    utility, cost, valid, weight = problem.utility, problem.cost, problem.valid, problem.weight
    return AllocationProblem(of(utility, 0), of(cost, 0), of(valid, True), of(weight, 0))


def in_rows(x: jax.Array, most: int = WIDTH) -> jax.Array:
    """[..., N] as [..., rows, WIDTH], padded with zeros; another width where `most` says so."""
    width = min(most, x.shape[-1])
    x = filled(x, whole_shares(x.shape[-1], width), axis=x.ndim - 1, value=0)
    return x.reshape(*x.shape[:-1], -1, width)
