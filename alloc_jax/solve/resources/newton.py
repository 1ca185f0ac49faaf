"""Newton's method on the entropy-smoothed dual of R budgets.

    D_t(l) = l . B + mean_i  t log sum_a exp((u - l . c)[i, a] / t)

The gradient is the unspent budget of the softmax plan. The Hessian is the mean covariance of the costs, divided by t: R x R
numbers that the same pass gives. A step is Newton's on the resources whose budget binds, damped until D_t falls.

    cool    The temperature falls by the stages it is given, as soon as a Newton step is smaller than it.
    stop    The softmax plan loses `loss` to the best responses at its multipliers, so the plain dual D(l), which bounds every plan,
            is within loss + (l - l*) . unspent of its minimum. The search ends when that is within the tolerance.

Costs are scaled by powers of two near the budgets: units then do not matter, and scaling rounds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.mesh import sum_over
from alloc_jax.solve.plans import computed_once
from alloc_jax.solve.resources.layout import ProblemInChunks, forbidden


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Budgeted:
    """A prepared problem and its budgets, in units in which every budget lies in [1/2, 1), or is 0."""

    utility: jax.Array  # f32[chunks, K, width]
    cost: jax.Array  # f32[chunks, R, K, width] in the problem's own units
    share: jax.Array  # f32[chunks, width] weights that sum to 1 over all devices
    unit: jax.Array  # f32[R] powers of two
    budget: jax.Array  # f32[R] in these units
    varies: jax.Array  # bool[R] False where a question's actions all cost the same: that multiplier stays 0
    axes: tuple[str, ...] | None = field(metadata={"static": True})  # of the mesh

    @classmethod
    def of(cls, prepared: ProblemInChunks, budget: jax.Array) -> Budgeted:
        unit = jnp.where(budget > 0, double_double.power_above(jnp.where(budget > 0, budget, 1)), 1)
        share = prepared.weight / prepared.questions.hi
        return cls(prepared.utility, prepared.cost, share, unit, budget / unit, prepared.varies, prepared.axes)

    def sample(self, questions: int) -> Budgeted:
        """A sample of about so many questions: the first columns of every chunk. Its multipliers are near those of all questions."""
        chunks, _, width = self.utility.shape
        columns = max(1, min(width, questions // chunks))
        share = self.share[:, :columns]
        share = share / sum_over(share.sum(), self.axes)
        return replace(self, utility=self.utility[..., :columns], cost=self.cost[..., :columns], share=share)


class Parts(NamedTuple):
    """What a pass at one multiplier adds up; those of parts of the questions add up to those of all."""

    best: jax.Array  # f32[] net utility of the best responses
    spread: jax.Array  # f32[] what the softmax plan's freedom adds to it, over the temperature
    loss: jax.Array  # f32[] what the softmax plan loses to it
    spend: jax.Array  # f32[R] of the softmax plan, in the problem's own units
    curvature: jax.Array  # f32[R, R] covariance of its costs


class Sums(NamedTuple):
    """The results of one pass at one multiplier."""

    dual: jax.Array  # f32[] D(l), the bound
    smooth: jax.Array  # f32[] D_t(l)
    unspent: jax.Array  # f32[R] gradient of D_t
    curvature: jax.Array  # f32[R, R] its Hessian
    loss: jax.Array  # f32[] what the softmax plan loses to the best responses at these multipliers


def scale_of(data: Budgeted) -> jax.Array:
    """f32[] the mean range of a question's utilities; above 0."""
    allowed = data.utility > forbidden(data.utility.dtype)
    top = jnp.where(allowed, data.utility, -jnp.inf).max(axis=1)
    bottom = jnp.where(allowed, data.utility, jnp.inf).min(axis=1)
    some = allowed.any(axis=1)
    size = jnp.where(some, jnp.maximum(jnp.abs(top), jnp.abs(bottom)), 0)
    spread = jnp.where(some, top - bottom, 0)
    spread, size = (sum_over((data.share * x).sum(), data.axes) for x in (spread, size))
    # Below the rounding of the utilities there is no difference to trade.
    eps = jnp.finfo(spread.dtype).eps
    return jnp.maximum(spread, 1e3 * eps * size) + eps * jnp.finfo(spread.dtype).tiny ** 0.5


def net_of(utility: jax.Array, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    """utility - multiplier . cost of one chunk, f32[K, width]."""
    net = utility
    for r in range(cost.shape[0]):
        net = net - multiplier[r] * cost[r]
    return net


def parts_at(data: Budgeted, multiplier: jax.Array, temperature: jax.Array) -> Parts:
    """One pass over the data at a multiplier (in the units of `data`)."""
    resources = data.cost.shape[1]
    unit = data.unit[:, None]

    def add_chunk(totals, chunk):
        utility, cost, share = chunk
        net = net_of(utility, cost, multiplier / data.unit)
        best = net.max(axis=0)
        plan = jnp.exp((net - best[None]) / temperature)
        mass = plan.sum(axis=0)
        plan = computed_once(plan * (share / mass)[None])
        mean = (plan[None] * cost).sum(axis=1) / jnp.where(share > 0, share, 1)[None]
        deviation = (cost - mean[:, None]) * jnp.sqrt(plan)[None]
        deviation = computed_once(deviation.reshape(resources, -1) / unit)
        new = (
            (share * best).sum(),
            (share * jnp.log(mass)).sum(),
            (plan * (best[None] - net)).sum(),
            (mean * share[None]).sum(axis=1),
            jnp.matmul(deviation, deviation.T, precision="highest"),
        )
        return jax.tree.map(jnp.add, totals, new), None

    shapes = ((), (), (), (resources,), (resources,) * 2)
    zeros = tuple(jnp.zeros(shape, multiplier.dtype) for shape in shapes)
    found, _ = jax.lax.scan(add_chunk, zeros, (data.utility, data.cost, data.share))
    return Parts(*(sum_over(x, data.axes) for x in found))


def sums_of(data: Budgeted, parts: Parts, multiplier: jax.Array, temperature: jax.Array) -> Sums:
    """Both duals, the gradient and the Hessian, from what a pass over all questions has added up; `data` needs no questions."""
    best, spread, loss, spend, curvature = parts
    dual = (multiplier * data.budget).sum() + best
    unspent = jnp.where(data.varies, data.budget - spend / data.unit, 0)
    return Sums(dual, dual + temperature * spread, unspent, curvature / temperature, loss)


def newton_step(multiplier: jax.Array, sums: Sums, temperature: jax.Array, damping: jax.Array | float) -> jax.Array:
    """Newton's step on the resources that bind: those with a multiplier, and those overspent at multiplier 0.

    The ridge |unspent| / reach keeps a multiplier without curvature from leaping, and vanishes with the gradient. A multiplier stays
    where the gradient, and what curvature makes of it within reach, are below the rounding of a spend: it would run away.
    """
    tiny, noise = jnp.finfo(multiplier.dtype).tiny, 16 * jnp.finfo(multiplier.dtype).eps
    curvature = jnp.diag(sums.curvature)
    reach = jnp.maximum(jnp.maximum(multiplier, 0.01 * multiplier.max()), temperature)
    resolved = (jnp.abs(sums.unspent) > noise) | (curvature * reach > noise)
    free = ((multiplier > 0) | (sums.unspent < 0)) & resolved
    limit = jnp.abs(sums.unspent) / reach
    ridge = 1e-7 * curvature + 0.2 * limit + damping * (curvature + limit) + tiny
    size = jnp.sqrt(jnp.where(free, curvature + ridge, 1))
    both = free[:, None] & free[None] & ~jnp.eye(multiplier.size, dtype=bool)
    matrix = jnp.where(both, sums.curvature / size[:, None] / size[None], 0) + jnp.eye(
        multiplier.size, dtype=size.dtype
    )
    step = -jnp.linalg.solve(matrix, jnp.where(free, sums.unspent, 0) / size) / size
    step = jnp.where(free & jnp.isfinite(step), step, 0)
    return jnp.clip(step, -multiplier, 9 * reach)


class Descent(NamedTuple):
    """The state of the descent."""

    multiplier: jax.Array  # f32[R]
    sums: Sums
    damping: jax.Array  # f32[]
    stage: jax.Array  # i32[] of the temperatures
    passes: jax.Array  # i32[] over the data
    best: jax.Array  # f32[R] where the plain dual was least
    bound: jax.Array  # f32[] its value there


def descend(
    data: Budgeted,
    multiplier: jax.Array,
    temperatures: jax.Array,
    passes: int,
    tolerance: float | None = None,
    stage: jax.Array | int = 0,
) -> Descent:
    """Minimise the smoothed dual at falling temperatures, by Newton steps damped until they go down.

    Args:
      data: the problem.
      multiplier: f32[R] the start.
      temperatures: f32[T] falling.
      passes: over the data, at most.
      tolerance: stop where the plain dual is this close (relative) to its minimum; None: the minimiser at the last temperature.
      stage: the temperature to begin with.
    """
    stage = jnp.asarray(stage, jnp.int32)

    def sums_at(multiplier: jax.Array, stage: jax.Array) -> Sums:
        return sums_of(data, parts_at(data, multiplier, temperatures[stage]), multiplier, temperatures[stage])

    def step(state: Descent) -> Descent:
        trial, cooler = proposed(state, temperatures)
        return accepted(state, trial, cooler, sums_at(trial, cooler))

    return jax.lax.while_loop(
        lambda state: ~finished(state, temperatures, tolerance) & (state.passes < passes),
        step,
        begun(multiplier, stage, sums_at(multiplier, stage)),
    )


def begun(multiplier: jax.Array, stage: jax.Array, sums: Sums) -> Descent:
    """The state after the first pass, at the start."""
    return Descent(multiplier, sums, jnp.zeros_like(sums.dual), stage, jnp.int32(1), multiplier, sums.dual)


def finished(state: Descent, temperatures: jax.Array, tolerance: float | None) -> jax.Array:
    """bool[] whether the descent has arrived; see `descend`."""
    multiplier, sums = state.multiplier, state.sums
    last = temperatures.shape[0] - 1
    stuck = (state.stage == last) & (state.damping > 1e6)
    if tolerance is None:
        exact = 1e-6 if multiplier.dtype == jnp.float32 else 1e-12
        binding = jnp.where((multiplier > 0) | (sums.unspent < 0), jnp.abs(sums.unspent), 0)
        return stuck | ((state.stage == last) & (binding.max() <= exact))
    # D(l) - D(l*) <= loss + (l - l*) . unspent for any plan with these spends; Newton's step says where l* is.
    away = jnp.abs(newton_step(multiplier, sums, temperatures[state.stage], 0.0) * sums.unspent).sum()
    return stuck | (sums.loss + away <= tolerance * jnp.abs(sums.dual))


def proposed(state: Descent, temperatures: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the next pass is made: f32[R] the multiplier, and i32[] the stage."""
    multiplier, sums, damping, stage = state[:4]
    move = newton_step(multiplier, sums, temperatures[stage], damping)
    trial = jnp.minimum(jnp.maximum(multiplier + move, 0), 1e12 * temperatures[0])
    near = jnp.abs(newton_step(multiplier, sums, temperatures[stage], 0.0)).max() <= 0.5 * temperatures[stage]
    return trial, jnp.where((near | (damping > 1e6)) & (stage < temperatures.shape[0] - 1), stage + 1, stage)


def accepted(state: Descent, trial: jax.Array, cooler: jax.Array, found: Sums) -> Descent:
    """The state after a pass at what was proposed: there, if the dual fell, and more damped, if not."""
    multiplier, sums, damping, stage = state[:4]
    rounding = 4 * jnp.finfo(trial.dtype).eps * jnp.abs(sums.smooth)
    falls = (found.smooth <= sums.smooth + rounding) | (cooler > stage)
    multiplier, sums = jax.tree.map(lambda a, b: jnp.where(falls, a, b), (trial, found), (multiplier, sums))
    damping = jnp.where(falls, jnp.where(damping < 1e-3, 0.0, damping / 8), jnp.maximum(8 * damping, 0.05))
    damping = jnp.where(cooler > stage, 0.0, damping).astype(trial.dtype)
    lower = found.dual < state.bound
    best, bound = jnp.where(lower, trial, state.best), jnp.where(lower, found.dual, state.bound)
    return Descent(multiplier, sums, damping, cooler, state.passes + 1, best, bound)
