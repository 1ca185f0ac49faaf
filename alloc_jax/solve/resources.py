"""Several budgets at once: Newton on the entropy-smoothed dual, started from a sample; then a plan that fits in every one.

    D_t(l) = l . B + mean_i  t log sum_a exp((u - l . c)[i, a] / t)

The gradient of D_t is the unspent budget of the softmax plan, its Hessian the mean covariance of the costs over t: R x R numbers
that come out of the same pass. A step is Newton's on the resources whose budget binds, shortened until D_t falls.

    sample   temperatures from 0.05 to 1e-3 of the utility's range on 20,000 questions, which lands within 1e-4;
    full     1e-4, then 1e-5, at most STEPS passes each. The plain dual D(l), which bounds every plan, comes out of them too.
    round    The softmax plan meets the budgets, ties included, which it splits. Question i takes the action that a point of a
             low-discrepancy sequence picks, so that spends stay within a few questions' worth of the softmax plan's.
    repair   What the rounding overspends: questions follow, from the last one back, the best response at prices raised
             until it fits in every resource. So the plan is feasible whenever any such price exists.

Costs are divided by their budgets on entry, so that units do not matter. Passes go over the data in chunks that fit into a core's
cache: a chunk's softmax is computed once and read by all R + R^2 sums.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import pairs
from alloc_jax.solve.layout import in_rows
from alloc_jax.solve.pairs import Pair
from alloc_jax.types import AllocationProblem, MixedPlan, Solution, Status

CHUNK = 4096  # questions whose [K, R] costs fit into a core's cache
SAMPLE = 20_000  # questions: its multipliers lie within 1e-4 of the dual value
STEPS = 6  # Newton passes a temperature
COARSE, FINE = (0.05, 0.01, 1e-3), (1e-4, 1e-5)  # temperatures in units of the utility's range


class Chunks(NamedTuple):
    """A problem in chunks, its costs in units of the budgets."""

    utility: jax.Array  # f32[chunks, K, CHUNK]
    cost: jax.Array  # f32[chunks, R, K, CHUNK]
    weight: jax.Array  # f32[chunks, CHUNK] summing to 1; 0 in the padding


class Sums(NamedTuple):
    """What one pass gives at one multiplier."""

    dual: jax.Array  # f32[] D(l), the bound
    smooth: jax.Array  # f32[] D_t(l)
    unspent: jax.Array  # f32[R] gradient of D_t
    curvature: jax.Array  # f32[R, R] its Hessian


def solve_resources(problem: AllocationProblem, budget: jax.Array) -> Solution:
    """The plan for R budgets, one a resource.

    Args:
      problem: utility f32[N, K], cost f32[N, K, R].
      budget: f32[R] allowed mean cost of each resource.

    Returns:
      A `Solution` with multiplier and spends f32[R]. Its mixed plan mixes the one question at which the repair ends.
    """
    data, unit, invalid = in_chunks(problem, budget)
    heights = jnp.where(data.utility > _lowest(data.utility), data.utility, jnp.nan)
    scale = jnp.nanmax(heights, axis=1) - jnp.nanmin(heights, axis=1)
    scale = jnp.maximum((data.weight * scale).sum(), jnp.finfo(scale.dtype).tiny)
    multiplier = jnp.full(budget.shape, scale)
    size = problem.utility.shape[0]
    if size > 2 * SAMPLE:
        every = size // SAMPLE
        some = AllocationProblem(
            *(None if x is None else x[::every] for x in jax.tree.leaves(problem, is_leaf=_is_none))
        )
        sample, _, _ = in_chunks(some, budget)
        multiplier = descend(sample, multiplier, scale, COARSE, 30)
        multiplier = descend(data, multiplier, scale, FINE, STEPS)
    else:
        multiplier = descend(data, multiplier, scale, COARSE + FINE, 30)
    bound = sums_at(data, multiplier, FINE[-1] * scale).dual
    return certified(problem, budget, data, unit, multiplier, bound, FINE[-1] * scale, invalid)


def by_group(problem: AllocationProblem, group: jax.Array, budget: jax.Array) -> tuple[AllocationProblem, jax.Array]:
    """A budget for every group (a tenant, a difficulty class) as a problem with one resource a group.

    Args:
      problem: utility f32[N, K], cost f32[N, K].
      group: i32[N] every question's group, in 0..G-1.
      budget: f32[G] allowed mean cost of a question of each group.

    Returns:
      The problem with cost f32[N, K, G], and its budget f32[G] a question of the whole table. `solve` takes both.
    """
    budget = jnp.asarray(budget, jnp.asarray(problem.cost).dtype)
    member = (jnp.asarray(group)[:, None] == jnp.arange(budget.size)[None]).astype(budget.dtype)
    weight = jnp.ones_like(member[:, 0]) if problem.weight is None else jnp.asarray(problem.weight)
    share = (weight[:, None] * member).sum(axis=0) / weight.sum()
    cost = jnp.asarray(problem.cost)[:, :, None] * member[:, None]
    return AllocationProblem(problem.utility, cost, problem.valid, problem.weight), budget * share


def _is_none(x):
    return x is None


def _lowest(x: jax.Array) -> jax.Array:
    return jnp.finfo(x.dtype).min / 4


def in_chunks(problem: AllocationProblem, budget: jax.Array) -> tuple[Chunks, jax.Array, jax.Array]:
    """The problem in chunks; f32[R] what a cost of 1 in them is; and whether a value is invalid."""
    utility, cost, valid = problem.utility, problem.cost, problem.valid
    size = utility.shape[0]
    unit = jnp.where(budget > 0, budget, 1)
    bad = ~(jnp.isfinite(utility) & (jnp.isfinite(cost) & (cost >= 0)).all(axis=2))
    invalid = bad.any() if valid is None else (bad & valid).any() | ~valid.any(axis=1).all()
    invalid |= ~jnp.isfinite(budget).all()
    if valid is not None:
        utility, cost = jnp.where(valid, utility, _lowest(utility)), jnp.where(valid[:, :, None], cost, 0)
    weight = jnp.ones_like(utility[:, 0]) if problem.weight is None else problem.weight
    invalid |= ~(jnp.isfinite(weight) & (weight >= 0)).all() | ~(weight.sum() > 0)
    width = min(CHUNK, size)
    pad = -size % width

    def chunked(x):
        return jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, width, *x.shape[1:])

    utility, cost = chunked(utility).transpose(0, 2, 1), chunked(cost / unit[None, None]).transpose(0, 3, 2, 1)
    return Chunks(utility, cost, chunked(weight / weight.sum())), unit, invalid


def net_of(utility: jax.Array, cost: jax.Array, multiplier: jax.Array) -> jax.Array:
    """utility - multiplier . cost of one chunk, f32[K, CHUNK]."""
    net = utility
    for r in range(cost.shape[0]):
        net = net - multiplier[r] * cost[r]
    return net


def sums_at(data: Chunks, multiplier: jax.Array, temperature: jax.Array) -> Sums:
    """One pass over the data: both duals, the gradient and the Hessian at a multiplier."""
    resources = data.cost.shape[1]

    def add_chunk(totals, chunk):
        utility, cost, weight = chunk
        net = net_of(utility, cost, multiplier)
        best = net.max(axis=0)
        plan = jnp.exp((net - best[None]) / temperature)
        mass = plan.sum(axis=0)
        share = jax.lax.optimization_barrier(plan * (weight / mass)[None])  # read by every sum, computed once
        mean = (plan[None] * cost).sum(axis=1) / mass[None]
        deviation = (cost - mean[:, None]) * jnp.sqrt(share)[None]
        deviation = jax.lax.optimization_barrier(deviation.reshape(resources, -1))
        new = (
            (weight * best).sum(),
            (weight * jnp.log(mass)).sum(),
            (mean * weight[None]).sum(axis=1),
            jnp.matmul(deviation, deviation.T, precision="highest"),
        )
        return jax.tree.map(jnp.add, totals, new), None

    zeros = jax.tree.map(
        lambda shape: jnp.zeros(shape, multiplier.dtype), ((), (), (resources,), (resources,) * 2), is_leaf=_is_shape
    )
    (best, spread, spend, curvature), _ = jax.lax.scan(add_chunk, zeros, data)
    dual = multiplier.sum() + best
    return Sums(dual, dual + temperature * spread, 1 - spend, curvature / temperature)


def _is_shape(x) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def newton_step(multiplier: jax.Array, sums: Sums) -> jax.Array:
    """Newton's step on the resources that bind: those with a price, and those overspent at price 0."""
    free = (multiplier > 0) | (sums.unspent < 0)
    trace = jnp.where(free, jnp.diag(sums.curvature), 0).sum()
    ridge = 1e-6 * trace / multiplier.size + jnp.finfo(trace.dtype).tiny
    both = free[:, None] & free[None]
    matrix = jnp.where(both, sums.curvature, 0) + jnp.diag(jnp.where(free, ridge, 1))
    step = jnp.where(free, -jnp.linalg.solve(matrix, jnp.where(free, sums.unspent, 0)), 0)
    # A price may fall by nine tenths, or rise ninefold, and no further: the smoothed dual is not a parabola that far away.
    reach = jnp.maximum(multiplier, 0.01 * multiplier.max() + jnp.finfo(trace.dtype).tiny)
    return jnp.clip(step, -reach, 9 * reach)


def descend(
    data: Chunks, multiplier: jax.Array, scale: jax.Array, temperatures: tuple[float, ...], steps: int
) -> jax.Array:
    """The minimiser of the smoothed dual at the last of some falling temperatures, each the start of the next."""

    tolerance = 1e-6 if multiplier.dtype == jnp.float32 else 1e-12

    def at_temperature(multiplier, temperature):
        temperature = temperature * scale

        def unfinished(state):
            _, sums, _, fraction, passes = state
            binding = jnp.where((multiplier_of(state) > 0) | (sums.unspent < 0), jnp.abs(sums.unspent), 0)
            return (binding.max() > tolerance) & (passes < steps) & (fraction > 1e-4)

        def step(state):
            multiplier, sums, direction, fraction, passes = state
            trial = jnp.maximum(multiplier + fraction * direction, 0)
            found = sums_at(data, trial, temperature)
            rounding = 4 * jnp.finfo(trial.dtype).eps * jnp.abs(sums.smooth)
            falls = found.smooth <= sums.smooth + rounding
            multiplier, sums = jax.tree.map(lambda a, b: jnp.where(falls, a, b), (trial, found), (multiplier, sums))
            return multiplier, sums, newton_step(multiplier, sums), jnp.where(falls, 1.0, fraction / 4), passes + 1

        sums = sums_at(data, multiplier, temperature)
        state = multiplier, sums, newton_step(multiplier, sums), jnp.ones_like(temperature), 1
        return jax.lax.while_loop(unfinished, step, state)[0], None

    return jax.lax.scan(at_temperature, multiplier, jnp.asarray(temperatures, multiplier.dtype))[0]


def multiplier_of(state) -> jax.Array:
    return state[0]


def responses(data: Chunks, multiplier: jax.Array) -> jax.Array:
    """i32[chunks, CHUNK] best responses."""
    return jax.lax.map(
        lambda chunk: jnp.argmax(net_of(chunk.utility, chunk.cost, multiplier), axis=0).astype(jnp.int32), data
    )


def rounded(data: Chunks, multiplier: jax.Array, temperature: jax.Array) -> jax.Array:
    """i32[chunks, CHUNK] the softmax plan, each question rounded to the action that its point of a sequence picks."""
    width = data.utility.shape[2]

    def pick(entry):
        number, chunk = entry
        net = net_of(chunk.utility, chunk.cost, multiplier)
        plan = jax.nn.softmax(net / temperature, axis=0)
        index = number.astype(jnp.uint32) * jnp.uint32(width) + jnp.arange(width, dtype=jnp.uint32)
        point = (index * jnp.uint32(2654435769) >> 8).astype(
            plan.dtype
        ) / 2**24  # multiples of the golden ratio, modulo 1
        below = (jnp.cumsum(plan, axis=0) <= point[None]).sum(axis=0)
        # Rounding may leave the last sum below 1: then the likeliest action is taken.
        return jnp.where(below < plan.shape[0], below, jnp.argmax(plan, axis=0)).astype(jnp.int32)

    return jax.lax.map(pick, (jnp.arange(data.utility.shape[0]), data))


def certified(problem, budget, data, unit, multiplier, bound, temperature, invalid) -> Solution:
    """The rounded plan, repaired until it fits, with exact totals."""
    size = problem.utility.shape[0]
    wanted, spare = rounded(data, multiplier, temperature), within(problem, budget, data, multiplier)
    wanted, spare = (x.reshape(-1)[:size] for x in (wanted, spare))
    weight = problem.weight
    # [1 + R, N] utility and costs of either plan, of which the first questions follow `wanted` and the others `spare`.
    values = [_chosen(problem, plan) for plan in (wanted, spare)]
    count = pairs.split(float(size), budget.dtype) if weight is None else None
    total = Pair(*map(jnp.asarray, count)) if weight is None else _total(jnp.ones_like(weight)[None], weight)
    questions = Pair(*(jnp.broadcast_to(x.reshape(-1)[:1], (1 + budget.size,)) for x in total))
    position = jnp.arange(size)[None]

    def means(cut):
        return pairs.divide(_total(jnp.where(position < cut, *values), weight), questions)

    def fits(mean):
        slack = 2.0**-42 if budget.dtype == jnp.float32 else 2.0**-50
        return pairs.at_most(Pair(mean.hi[1:], mean.lo[1:]), pairs.add_float(pairs.pair(budget), slack * budget)).all()

    def halve(_, ends):
        inside, beyond = ends
        middle = inside + (beyond - inside + 1) // 2
        ok = fits(means(middle))
        return jnp.where(ok, middle, inside), jnp.where(ok, beyond, middle - 1)

    cut, _ = jax.lax.fori_loop(0, size.bit_length() + 1, halve, (jnp.int32(0), jnp.int32(size)))
    mean = means(cut)
    # The question at the cut is mixed, by as much as fits in every resource.
    at = jnp.minimum(cut, size - 1)
    share = (1.0 if weight is None else weight[at]) / questions.hi[0]
    extra = share * (values[0][:, at] - values[1][:, at])
    room = pairs.subtract(pairs.pair(budget), Pair(mean.hi[1:], mean.lo[1:])).hi
    most = jnp.where(extra[1:] > 0, room / jnp.where(extra[1:] > 0, extra[1:], 1), 1).min()
    probability = jnp.where(cut < size, jnp.clip(most, 0, 1), 0) * (extra[0] > 0)
    price = jnp.where(budget > 0, multiplier / unit, multiplier)
    mixed_utility = mean.hi[0] + probability * extra[0]
    feasible = fits(mean)
    status = jnp.where(feasible, Status.OPTIMAL, Status.INFEASIBLE)
    return Solution(
        action=jnp.where(position[0] < cut, wanted, spare),
        multiplier=price,
        spend=pairs.rounded_down(mean)[1:],
        utility=mean.hi[0],
        dual_value=bound,
        gap=jnp.maximum(bound - mean.hi[0], 0),
        mixed=MixedPlan(at[None], wanted[at][None], probability[None]),
        mixed_spend=mean.hi[1:] + probability * extra[1:],
        mixed_utility=mixed_utility,
        mixed_gap=jnp.maximum(bound - mixed_utility, 0),
        status=jnp.where(invalid, Status.INVALID, status).astype(jnp.int32),
    )


def within(problem: AllocationProblem, budget: jax.Array, data: Chunks, multiplier: jax.Array) -> jax.Array:
    """i32[chunks, CHUNK] best responses at the multipliers, raised until they fit in every budget.

    All prices rise together, by a factor that grows from 1 + 1e-6 to 2^40; the last is the plan that is cheapest at these prices.
    """
    size = problem.utility.shape[0]
    floor = 1e-6 * multiplier.max() + jnp.finfo(multiplier.dtype).tiny

    def plan(turn):
        factor = 1 + 1e-6 * 2.0 ** (2 * turn.astype(multiplier.dtype))
        return responses(data, jnp.maximum(multiplier, floor) * factor)

    def over(state):
        turn, action = state
        spend = _total(_chosen(problem, action.reshape(-1)[:size]), problem.weight)
        weight = jnp.asarray(size, budget.dtype) if problem.weight is None else problem.weight.sum()
        return (spend.hi[1:] / weight > budget * (1 - 2e-7)).any() & (turn < 30)

    def raised(state):
        turn = state[0] + 1
        return turn, plan(turn)

    return jax.lax.while_loop(over, raised, (jnp.int32(0), plan(jnp.int32(0))))[1]


def _chosen(problem: AllocationProblem, action: jax.Array) -> jax.Array:
    """f32[1 + R, N] utility and costs of a plan."""
    rows = jnp.arange(action.size)
    return jnp.concatenate([problem.utility[rows, action][None], problem.cost[rows, action].T])


def _total(values: jax.Array, weight: jax.Array | None) -> Pair:
    """The weighted sum over the last axis of f32[M, N], in two floats."""
    values = values if weight is None else pairs.two_product(values, jnp.broadcast_to(weight[None], values.shape))
    hi, lo = (values, None) if weight is None else values
    hi = in_rows(hi)
    top = pairs.power_above(jnp.abs(hi).max(axis=(1, 2), keepdims=True))
    first, second, third = pairs.slices(hi, jnp.broadcast_to(top, hi.shape))
    third = third if lo is None else third + in_rows(lo)
    first, second, third = (x.sum(axis=2) for x in (first, second, third))
    return pairs.total(pairs.add_float(pairs.two_sum(first, second), third))
