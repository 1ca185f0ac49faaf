"""Polish a solve with several resources: from multipliers near the best ones to certified plans.

The docstring of `kernel` describes the whole algorithm. A round frees the questions of the core, solves their linear programme, and
rounds the result to an integral plan. It keeps the best mixed plan, the best integral plan and the least bound. Rounds end when the
bound has closed on the mixed plan and an integral plan fits, or when it is proven that none can.

The dual value is rounded up. Totals are exact to 2^-42. What a best response can lose because net utilities are rounded is known
for every question: nothing, unless two actions are closer than their rounding. `Bound.margin` holds both errors and is part of
the bound, so that no plan within the budgets earns more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.mesh import by_device, devices, sum_over
from alloc_jax.solve.resources.layout import ProblemInChunks, totals
from alloc_jax.solve.resources.newton import Budgeted, net_of
from alloc_jax.solve.resources.simplex import CoreOptimum, CoreProblem, local_search, may_take, optimise
from alloc_jax.types import MixedPlan, Solution, Status

CORE = 4096  # questions of the linear programme, spread over all chunks
ROUNDS = 6  # one or two are usual
CERTIFIED = 5  # times the gap at which rounds end: what is still optimal when they have run out


class Bound(NamedTuple):
    """The dual at one multiplier, summed over all questions: what no plan within the budgets exceeds."""

    multiplier: jax.Array  # f32[R] in the units of `Budgeted`
    value: DoubleDouble  # f32[] of the best responses as they were computed
    margin: jax.Array  # f32[] by how much they, and their totals, may be below the true dual

    @property
    def upper(self) -> DoubleDouble:
        return double_double.add_float(self.value, self.margin)


class IntegralPlan(NamedTuple):
    """An integral plan with its totals."""

    action: jax.Array  # i32[chunks, width]
    total: DoubleDouble  # f32[1 + R] utility and spends
    fits: jax.Array  # bool[] within the budgets


class Mixed(NamedTuple):
    """A mixed plan: an integral plan, which need not fit, and what is mixed into it."""

    plan: IntegralPlan  # but for `fits`, which is the mixed plan's, and `total`, too
    beside: MixedPlan


class Rounds(NamedTuple):
    """The state of the rounds."""

    mixed: Mixed  # the best so far
    integral: IntegralPlan
    best: Bound
    key: IntegralPlan  # where the next round starts
    gain: jax.Array  # f32[chunks, width] what every question gains there by the best of its other actions
    tighten: jax.Array  # f32[] how many questions' costs its budgets are lowered by
    round: jax.Array  # i32[]


def polished(
    prepared: ProblemInChunks,
    data: Budgeted,
    wanted: DoubleDouble,
    plan: jax.Array,
    multiplier: jax.Array,
    scale: jax.Array,
) -> Solution:
    """The mixed and the integral plan near a plan, with what certifies them.

    Args:
      prepared: the problem, and `data` the same at its budgets.
      wanted: f32[R] the budgets.
      plan: i32[chunks, width] that nearly meets them.
      multiplier: f32[R] near the best, in the units of `data`.
      scale: f32[] how much utilities differ.
    """
    target = prepared.target(wanted)

    def unfinished(state: Rounds):
        closed = is_closed(prepared, data, target, state, scale)
        return ~(closed & state.integral.fits) & ~is_impossible(prepared, target, state) & (state.round < ROUNDS)

    def improve(state: Rounds) -> Rounds:
        where, core = core_of(prepared, data, state.gain)
        rest = left_of(target, state.key.total, data.unit)
        swing = (core.weight[None] * jnp.ptp(core.cost, axis=2)).max(axis=1)
        own = gathered(jnp.take_along_axis(state.key.action, where, axis=1).reshape(-1), prepared.axes)
        penalty = jnp.maximum(2 * state.best.multiplier, scale)
        mix = optimise(core, own, double_double.add_float(rest, -state.tighten * swing), penalty)
        worth = worths(core, data.unit)

        def moved(plan: IntegralPlan, before: jax.Array, after: jax.Array) -> IntegralPlan:
            total = double_double.add(
                plan.total, double_double.subtract(summed_at(worth, after), summed_at(worth, before))
            )
            return plan_of(put(plan.action, where, after, prepared.axes), total, target)

        key = moved(state.key, own, mix.key)
        beside = MixedPlan(numbers(prepared, where)[mix.question], mix.action, mix.share, None)
        mixed_total = double_double.add(key.total, mixture(core, mix, data.unit))
        mixed = Mixed(
            IntegralPlan(key.action, mixed_total, mix.fits & nearly_within(mixed_total, target, prepared.cheapest)),
            beside,
        )
        slack = double_double.slack(scale.dtype) * jnp.abs(target.hi / data.unit)
        action = local_search(core, mix.key, left_of(target, key.total, data.unit), slack, penalty)
        integral = moved(key, mix.key, action)

        # Where the budgets as they are could not be met, the multipliers with their penalties may prove that none can.
        multiplier = jnp.where(mix.fits | (state.tighten == 0), mix.multiplier, state.best.multiplier)
        found, gain = responses_at(prepared, data, key.action, multiplier)
        bound = bound_of(data, found, multiplier, target)
        mixed = choose(integral.fits & ~mixed.plan.fits, unmixed(integral), mixed)
        integral = choose(better(integral, state.integral, target), integral, state.integral)
        tighten = jnp.where(integral.fits, 0, jnp.maximum(2 * state.tighten, 1)).astype(scale.dtype)
        return Rounds(
            mixed=choose(better(mixed.plan, state.mixed.plan, target), mixed, state.mixed),
            integral=integral,
            best=choose(tighter(bound, state.best), bound, state.best),
            key=key,
            gain=gain,
            tighten=tighten,
            round=state.round + 1,
        )

    found, gain = responses_at(prepared, data, plan, multiplier)
    bound = bound_of(data, found, multiplier, target)
    integral = plan_of(plan, totals(prepared, plan), target)
    mixed = unmixed(integral)
    start = Rounds(mixed, integral, bound, integral, gain, jnp.zeros_like(scale), jnp.int32(0))
    state = jax.lax.while_loop(unfinished, improve, start)
    return certified(prepared, data, target, state, scale)


def is_closed(
    prepared: ProblemInChunks,
    data: Budgeted,
    target: DoubleDouble,
    state: Rounds,
    scale: jax.Array,
    times: float = 1,
) -> jax.Array:
    """Whether mixed plan and bound meet to a part of how much utilities differ, and of what the budgets pay over the cheapest.

    No offset of the costs widens that, and one of the utilities only by their own rounding. A mixed plan above the bound
    contradicts it: there, only the utility's own rounding counts, not what a rounded probability overspends at a large multiplier.
    """
    part = times * (1e-7 if scale.dtype == jnp.float32 else 1e-11)
    gap = double_double.subtract(state.best.value, utility_of(state.mixed.plan.total)).hi
    differ = part * scale * prepared.questions.hi + jnp.finfo(scale.dtype).eps * jnp.abs(state.best.value.hi)
    spare = jnp.maximum(double_double.subtract(target, prepared.cheapest).hi, 0)
    paid = (state.best.multiplier / data.unit * spare).sum()
    meets = (gap <= differ + part * paid + state.best.margin) & (gap >= -differ - state.best.margin)
    return state.mixed.plan.fits & meets


def is_impossible(prepared: ProblemInChunks, target: DoubleDouble, state: Rounds) -> jax.Array:
    """Whether it is proven that no plan fits, mixed or not: one budget is too small, or the bound is below the worst plan."""
    dear = ~double_double.at_most(prepared.cheapest, target).all()
    return dear | (double_double.subtract(state.best.upper, prepared.least).hi < 0)


def certified(
    prepared: ProblemInChunks, data: Budgeted, target: DoubleDouble, state: Rounds, scale: jax.Array
) -> Solution:
    """What the rounds found, as means; of the problem and of `data` no question is read."""
    mixed, integral, best = state.mixed, state.integral, state.best
    closed = is_closed(prepared, data, target, state, scale, CERTIFIED)
    impossible = is_impossible(prepared, target, state)
    bound = best.upper
    contradicted = integral.fits & (double_double.subtract(bound, utility_of(integral.total)).hi < 0)
    status = jnp.where(integral.fits, Status.OPTIMAL, Status.MIXED_ONLY)
    status = jnp.where(closed & ~contradicted, status, Status.NOT_CONVERGED)
    status = jnp.where(impossible & ~integral.fits, Status.INFEASIBLE, status)
    status = jnp.where(prepared.invalid | ~jnp.isfinite(target.hi).all(), Status.INVALID, status)

    mean = prepared.mean

    def flat(action):
        return action.reshape(-1)[: prepared.size]

    def gap(plan: IntegralPlan):
        return mean(double_double.subtract(bound, utility_of(plan.total))).hi

    return Solution(
        action=flat(integral.action),
        multiplier=best.multiplier / data.unit,
        spend=double_double.rounded_down(mean(spends_of(integral.total))),
        utility=mean(utility_of(integral.total)).hi,
        dual_value=double_double.rounded_up(mean(bound)),
        gap=gap(integral),
        mixed=replace(mixed.beside, action=flat(mixed.plan.action)),
        mixed_spend=double_double.rounded_down(mean(spends_of(mixed.plan.total))),
        mixed_utility=mean(utility_of(mixed.plan.total)).hi,
        mixed_gap=gap(mixed.plan),
        status=status.astype(jnp.int32),
    )


def choose(condition: jax.Array, one, other):
    """One tree where the condition holds, else the other."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def better(one: IntegralPlan, other: IntegralPlan, target: DoubleDouble) -> jax.Array:
    """Whether a plan is better: it alone fits, both fit and it earns more, or neither fits and it overspends less."""
    gains = double_double.subtract(utility_of(one.total), utility_of(other.total)).hi > 0
    over, others = (overspent(x.total, target) for x in (one, other))
    return jnp.where(one.fits, ~other.fits | gains, ~other.fits & (over < others))


def overspent(total: DoubleDouble, target: DoubleDouble) -> jax.Array:
    """f32[] the sum of all overspends, each relative to its budget."""
    over = jnp.maximum(double_double.subtract(spends_of(total), target).hi, 0)
    return (over / jnp.where(target.hi > 0, target.hi, 1)).sum()


def tighter(one: Bound, other: Bound) -> jax.Array:
    """Whether a bound is below another, or equal to it within rounding.

    Later multipliers are a vertex of the dual, at which a budget that changes nothing has multiplier 0: they win ties.
    """
    rounding = jnp.finfo(one.margin.dtype).eps / 8 * jnp.abs(other.value.hi)
    return double_double.subtract(one.upper, other.upper).hi <= rounding


def unmixed(plan: IntegralPlan) -> Mixed:
    """An integral plan as a mixed one."""
    nothing = jnp.zeros(plan.total.hi.size - 1, jnp.int32)
    return Mixed(plan, MixedPlan(nothing, plan.action.reshape(-1)[nothing], nothing.astype(plan.total.hi.dtype), None))


# ---------------------------------------------------------------------------------------------------------------
# Totals
# ---------------------------------------------------------------------------------------------------------------


def nearly_within(total: DoubleDouble, target: DoubleDouble, cheapest: DoubleDouble) -> jax.Array:
    """bool[] whether a mixed plan is within the budgets, but for the rounding of its probabilities: a part of what they buy."""
    over = double_double.subtract(spends_of(total), target).hi
    spare = jnp.maximum(double_double.subtract(target, cheapest).hi, 0)
    return (over <= 8 * jnp.finfo(over.dtype).eps * spare).all()


def utility_of(total: DoubleDouble) -> DoubleDouble:
    return DoubleDouble(total.hi[0], total.lo[0])


def spends_of(total: DoubleDouble) -> DoubleDouble:
    return DoubleDouble(total.hi[1:], total.lo[1:])


def left_of(target: DoubleDouble, total: DoubleDouble, unit: jax.Array) -> DoubleDouble:
    """f32[R] the unspent part of the budgets, in the units of `Budgeted`."""
    return DoubleDouble(*(x / unit for x in double_double.subtract(target, spends_of(total))))


def plan_of(action: jax.Array, total: DoubleDouble, target: DoubleDouble) -> IntegralPlan:
    """A plan with these totals."""
    return IntegralPlan(action, total, double_double.at_most(spends_of(total), target).all())


def worths(core: CoreProblem, unit: jax.Array) -> DoubleDouble:
    """f32[1 + R, M, K] what the core's actions add to the totals of a plan."""
    utility, cost, weight = core
    values = jnp.concatenate([utility[None], cost * unit[:, None, None]])
    return double_double.two_product(values, jnp.broadcast_to(weight[None, :, None], values.shape))


def summed_at(worth: DoubleDouble, action: jax.Array) -> DoubleDouble:
    """f32[1 + R] the totals of the core alone."""
    return double_double.total(
        DoubleDouble(*(jnp.take_along_axis(x, action[None, :, None], axis=2)[:, :, 0] for x in worth))
    )


def mixture(core: CoreProblem, mix: CoreOptimum, unit: jax.Array) -> DoubleDouble:
    """f32[1 + R] what the mixed questions add to the totals of the keys."""
    utility, cost, weight = core
    question, key = mix.question, mix.key[mix.question]
    gain = utility[question, mix.action] - utility[question, key]
    extra = (cost[:, question, mix.action] - cost[:, question, key]) * unit[:, None]
    change = jnp.concatenate([gain[None], extra])
    return double_double.total(
        double_double.two_product(change, jnp.broadcast_to((weight[question] * mix.share)[None], change.shape))
    )


class BestResponses(NamedTuple):
    """The best responses at one multiplier, summed over questions; those of parts of the questions add up to those of all."""

    total: DoubleDouble  # f32[1 + R] utility and spends, as they were computed
    lost: jax.Array  # f32[] what they may lose because net utilities are rounded
    terms: jax.Array  # f32[] the size of what they add up


def responses_at(
    prepared: ProblemInChunks, data: Budgeted, key: jax.Array, multiplier: jax.Array
) -> tuple[BestResponses, jax.Array]:
    """The best responses, their rounding known, and f32[chunks, width] what each question gains by the best of its other actions."""
    per_cost = multiplier / data.unit
    nets = jax.vmap(net_of, in_axes=(0, 0, None))
    size = -nets(-jnp.abs(data.utility), data.cost, per_cost)  # what the terms of a net utility add up to
    net, lowest = nets(data.utility, data.cost, per_cost), jnp.finfo(per_cost.dtype).min
    net = jnp.where(may_take(data.utility), net, lowest)
    response = jnp.argmax(net, axis=1).astype(jnp.int32)

    def split(x, action):
        """The values at an action, and the highest of the others."""
        own = jnp.arange(x.shape[1])[None, :, None] == action[:, None]
        return jnp.where(own, x, lowest).max(axis=1), jnp.where(own, lowest, x).max(axis=1)

    at_key, beside = split(net, key)
    # The rounding of a net utility: a product and a difference for each multiplier that is not 0.
    binding = (per_cost > 0).sum()
    part = jnp.where(binding > 0, (binding + 2) * jnp.finfo(per_cost.dtype).eps / 2, 0).astype(per_cost.dtype)
    at_most = split(jnp.where(may_take(data.utility), net + part * size, lowest), response)[1]
    at_least = split(net - part * size, response)[0]
    terms = split(jnp.where(may_take(data.utility), size, 0), response)[0]
    lost = (prepared.weight * jnp.maximum(at_most - at_least, 0)).sum()
    terms = (prepared.weight * terms).sum()
    lost, terms = (sum_over(x, prepared.axes) for x in (lost, terms))
    gain = jnp.where(prepared.weight > 0, beside - at_key, lowest)
    return BestResponses(totals(prepared, response), lost, terms), gain


def bound_of(data: Budgeted, found: BestResponses, multiplier: jax.Array, target: DoubleDouble) -> Bound:
    """The bound from the best responses of all questions; `data` needs none of them."""
    per_cost, (total, lost, terms) = multiplier / data.unit, found
    unspent = double_double.multiply(double_double.subtract(target, spends_of(total)), double_double.pair(per_cost))
    value = double_double.add(utility_of(total), double_double.total(unspent))
    margin = 1.001 * lost + double_double.slack(per_cost.dtype) * (terms + (per_cost * target.hi).sum())
    return Bound(multiplier, value, margin)


# ---------------------------------------------------------------------------------------------------------------
# The core
# ---------------------------------------------------------------------------------------------------------------


def core_of(
    prepared: ProblemInChunks, data: Budgeted, gain: jax.Array, size: int = CORE
) -> tuple[jax.Array, CoreProblem]:
    """The questions of every chunk that gain most: i32[chunks, some] their columns, and those of all devices, about `size`."""
    chunks, width = gain.shape
    where = jax.lax.top_k(gain, min(width, max(1, size // (chunks * devices(prepared.mesh)))))[1]
    utility = jnp.take_along_axis(data.utility, where[:, None], axis=2)[:, None]
    cost = jnp.take_along_axis(data.cost, where[:, None, None], axis=3) / data.unit[None, :, None, None]
    cells = jnp.concatenate([utility, cost], axis=1)  # [chunks, 1 + R, K, some]
    cells = gathered(cells.transpose(0, 3, 1, 2).reshape(-1, *cells.shape[1:3]), prepared.axes)
    weight = gathered(jnp.take_along_axis(prepared.weight, where, axis=1).reshape(-1), prepared.axes)
    return where, CoreProblem(cells[:, 0], jnp.moveaxis(cells[:, 1:], 1, 0), weight)


def numbers(prepared: ProblemInChunks, where: jax.Array) -> jax.Array:
    """i32[M] the places of the core's questions in the problem."""
    chunk = prepared.weight.shape[1] * jnp.arange(where.shape[0], dtype=jnp.int32)
    number = chunk[:, None] + where
    if prepared.axes is not None:
        number = number + jax.lax.axis_index(prepared.axes) * prepared.size
    return gathered(number.reshape(-1), prepared.axes)


def put(x: jax.Array, where: jax.Array, values: jax.Array, axes: tuple[str, ...] | None) -> jax.Array:
    """[chunks, width] with the values of the core's questions, [M] of all devices, in their places."""
    if axes is not None:
        values = jax.lax.dynamic_index_in_dim(values.reshape(-1, where.size), jax.lax.axis_index(axes), keepdims=False)
    return jnp.put_along_axis(x, where, values.reshape(where.shape), axis=1, inplace=False)


def gathered(x: jax.Array, axes: tuple[str, ...] | None) -> jax.Array:
    """[devices * M, ...] what every device has."""
    return by_device(x, axes).reshape(-1, *x.shape[1:])
