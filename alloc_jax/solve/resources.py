"""Several budgets at once: Newton on the entropy-smoothed dual, started from a sample; then a plan that fits in every one.

    D_t(l) = l . B + mean_i  t log sum_a exp((u - l . c)[i, a] / t)

The gradient of D_t is the unspent budget of the softmax plan, its Hessian the mean covariance of the costs over t: R x R numbers
that come out of the same pass. A step is Newton's on the resources whose budget binds, damped until D_t falls.

    cool     The temperature falls by half decades from the utility's range, as soon as a Newton step is smaller than it.
    stop     The softmax plan loses `loss` to the best responses at its prices, so the plain dual D(l), which bounds every plan,
             is within loss + (l - l*) . unspent of its minimum. At 2e-7 of it the search ends: on smooth data at a
             temperature of 1e-4, on ties, which a softmax plan splits, at 1e-6.
    sample   Above 40,000 questions all this is done on 20,000 first. The whole table begins where they ended, and takes
             two to four passes.
    round    The softmax plan meets the budgets, ties included. Question i takes the action that a point of a
             low-discrepancy sequence picks, so that spends stay within a few questions' worth of the softmax plan's.
    repair   What the rounding overspends: questions follow, from the last one back, the best response at prices raised
             until it fits in every resource. Status INFEASIBLE says that no such prices were found.

Costs are divided by their budgets on entry, so that units do not matter. Passes go over the data in chunks that fit into a core's
cache: a chunk's softmax is computed once and read by all R + R^2 sums. Spends and the bound are exact totals in two floats.
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
TOLERANCE = 2e-7  # of the dual value, relative, at which the search for the prices stops
PASSES = 120  # over the data at most; on more than 2 SAMPLE questions two to four are usual
STAGES = 12  # temperatures: half a decade apart, from the utility's range to a millionth of it


class Chunks(NamedTuple):
    """A problem in chunks, its costs in units of the budgets."""

    utility: jax.Array  # f32[chunks, K, CHUNK]
    cost: jax.Array  # f32[chunks, R, K, CHUNK]
    weight: jax.Array  # f32[chunks, CHUNK] summing to 1; 0 in the padding
    budget: jax.Array  # f32[R] 1, or 0 where the budget is 0


class Sums(NamedTuple):
    """What one pass gives at one multiplier."""

    dual: jax.Array  # f32[] D(l), the bound
    smooth: jax.Array  # f32[] D_t(l)
    unspent: jax.Array  # f32[R] gradient of D_t
    curvature: jax.Array  # f32[R, R] its Hessian
    loss: jax.Array  # f32[] what the softmax plan loses to the best responses at these prices


def solve_resources(problem: AllocationProblem, budget: jax.Array) -> Solution:
    """The plan for R budgets, one a resource.

    Args:
      problem: utility f32[N, K], cost f32[N, K, R].
      budget: f32[R] allowed mean cost of each resource.

    Returns:
      A `Solution` with multiplier and spends f32[R]. Its mixed plan mixes the one question at which the repair ends.
    """
    data, unit, invalid = in_chunks(problem, budget)
    scale, tolerance = scale_of(data), TOLERANCE if budget.dtype == jnp.float32 else 1e-9
    temperatures = scale * jnp.logspace(0, -STAGES / 2, STAGES + 1, dtype=budget.dtype)
    start, stage = jnp.full(budget.shape, scale / budget.size), 0
    size = problem.utility.shape[0]
    if size > 2 * SAMPLE:
        some = jax.tree.map(lambda x: x[:: size // SAMPLE], problem)
        found = descend(in_chunks(some, budget)[0], start, temperatures, PASSES, tolerance)
        start, stage = found.multiplier, found.stage
    found = descend(data, start, temperatures, PASSES, tolerance, stage)
    return certified(problem, budget, data, unit, found, temperatures[found.stage], invalid)


def scale_of(data: Chunks) -> jax.Array:
    """f32[] the mean over the questions of how much their utilities differ; above 0."""
    allowed = data.utility > _lowest(data.utility)
    top = jnp.where(allowed, data.utility, -jnp.inf).max(axis=1)
    bottom = jnp.where(allowed, data.utility, jnp.inf).min(axis=1)
    size = jnp.where(allowed.any(axis=1), jnp.maximum(jnp.abs(top), jnp.abs(bottom)), 0)
    spread = jnp.where(allowed.any(axis=1), top - bottom, 0)
    eps = jnp.finfo(spread.dtype).eps
    spread, size = ((data.weight * x).sum() for x in (spread, size))
    # Below the rounding of the utilities there is no difference to trade.
    return jnp.maximum(spread, 1e3 * eps * size) + eps * jnp.finfo(spread.dtype).tiny ** 0.5


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
    limit = (budget > 0).astype(budget.dtype)
    return Chunks(utility, cost, chunked(weight / weight.sum()), limit), unit, invalid


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
            (share * (best[None] - net)).sum(),
            (mean * weight[None]).sum(axis=1),
            jnp.matmul(deviation, deviation.T, precision="highest"),
        )
        return jax.tree.map(jnp.add, totals, new), None

    zeros = jax.tree.map(
        lambda shape: jnp.zeros(shape, multiplier.dtype),
        ((), (), (), (resources,), (resources,) * 2),
        is_leaf=_is_shape,
    )
    (best, spread, loss, spend, curvature), _ = jax.lax.scan(add_chunk, zeros, data[:3])
    dual = (multiplier * data.budget).sum() + best
    return Sums(dual, dual + temperature * spread, data.budget - spend, curvature / temperature, loss)


def _is_shape(x) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def newton_step(multiplier: jax.Array, sums: Sums, temperature: jax.Array, damping: jax.Array | float) -> jax.Array:
    """Newton's step on the resources that bind: those with a price, and those overspent at price 0.

    The ridge |unspent| / reach stops a price without curvature from leaping; it vanishes with the gradient.
    """
    free = (multiplier > 0) | (sums.unspent < 0)
    tiny = jnp.finfo(multiplier.dtype).tiny
    curvature = jnp.diag(sums.curvature)
    reach = jnp.maximum(jnp.maximum(multiplier, 0.01 * multiplier.max()), temperature)
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
    """Where the search for the prices stands."""

    multiplier: jax.Array  # f32[R]
    sums: Sums
    damping: jax.Array  # f32[]
    stage: jax.Array  # i32[] of the temperatures
    passes: jax.Array  # i32[] over the data
    best: jax.Array  # f32[R] where the plain dual was least
    bound: jax.Array  # f32[] its value there


def descend(
    data: Chunks,
    multiplier: jax.Array,
    temperatures: jax.Array,
    passes: int,
    tolerance: float | None = None,
    stage: jax.Array | int = 0,
) -> Descent:
    """Minimises the smoothed dual at falling temperatures, by Newton steps damped until they go down.

    Args:
      data: the problem.
      multiplier: f32[R] the start.
      temperatures: f32[T] falling.
      passes: over the data, at most.
      tolerance: stop where the plain dual is this close (relative) to its minimum; None: the minimiser at the last temperature.
      stage: the temperature to begin with.
    """
    exact = 1e-6 if multiplier.dtype == jnp.float32 else 1e-12
    last = temperatures.shape[0] - 1

    def finished(state: Descent):
        multiplier, sums = state.multiplier, state.sums
        stuck = (state.stage == last) & (state.damping > 1e6)
        if tolerance is None:
            binding = jnp.where((multiplier > 0) | (sums.unspent < 0), jnp.abs(sums.unspent), 0)
            return stuck | ((state.stage == last) & (binding.max() <= exact))
        # D(l) - D(l*) <= loss + (l - l*) . unspent for any plan with these spends; Newton's step says where l* is.
        away = jnp.abs(newton_step(multiplier, sums, temperatures[state.stage], 0.0) * sums.unspent).sum()
        return stuck | (sums.loss + away <= tolerance * jnp.abs(sums.dual))

    def step(state: Descent):
        multiplier, sums, damping, stage = state[:4]
        move = newton_step(multiplier, sums, temperatures[stage], damping)
        trial = jnp.minimum(jnp.maximum(multiplier + move, 0), 1e12 * temperatures[0])
        near = jnp.abs(newton_step(multiplier, sums, temperatures[stage], 0.0)).max() <= 0.5 * temperatures[stage]
        cooler = jnp.where((near | (damping > 1e6)) & (stage < last), stage + 1, stage)
        found = sums_at(data, trial, temperatures[cooler])
        rounding = 4 * jnp.finfo(trial.dtype).eps * jnp.abs(sums.smooth)
        falls = (found.smooth <= sums.smooth + rounding) | (cooler > stage)
        multiplier, sums = jax.tree.map(lambda a, b: jnp.where(falls, a, b), (trial, found), (multiplier, sums))
        damping = jnp.where(falls, jnp.where(damping < 1e-3, 0.0, damping / 8), jnp.maximum(8 * damping, 0.05))
        damping = jnp.where(cooler > stage, 0.0, damping).astype(trial.dtype)
        lower = found.dual < state.bound
        best, bound = jnp.where(lower, trial, state.best), jnp.where(lower, found.dual, state.bound)
        return Descent(multiplier, sums, damping, cooler, state.passes + 1, best, bound)

    stage = jnp.asarray(stage, jnp.int32)
    sums = sums_at(data, multiplier, temperatures[stage])
    start = Descent(multiplier, sums, jnp.zeros_like(sums.dual), stage, jnp.int32(1), multiplier, sums.dual)
    return jax.lax.while_loop(lambda state: ~finished(state) & (state.passes < passes), step, start)


def responses(data: Chunks, multiplier: jax.Array) -> jax.Array:
    """i32[chunks, CHUNK] best responses."""
    return jax.lax.map(
        lambda chunk: jnp.argmax(net_of(*chunk, multiplier), axis=0).astype(jnp.int32), (data.utility, data.cost)
    )


def rounded(data: Chunks, multiplier: jax.Array, temperature: jax.Array) -> jax.Array:
    """i32[chunks, CHUNK] the softmax plan, each question rounded to the action that its point of a sequence picks."""
    width = data.utility.shape[2]

    def pick(entry):
        number, utility, cost = entry
        net = net_of(utility, cost, multiplier)
        plan = jax.nn.softmax(net / temperature, axis=0)
        index = number.astype(jnp.uint32) * jnp.uint32(width) + jnp.arange(width, dtype=jnp.uint32)
        point = (index * jnp.uint32(2654435769) >> 8).astype(
            plan.dtype
        ) / 2**24  # multiples of the golden ratio, modulo 1
        below = (jnp.cumsum(plan, axis=0) <= point[None]).sum(axis=0)
        # Rounding may leave the last sum below 1: then the likeliest action is taken.
        return jnp.where(below < plan.shape[0], below, jnp.argmax(plan, axis=0)).astype(jnp.int32)

    return jax.lax.map(pick, (jnp.arange(data.utility.shape[0]), data.utility, data.cost))


def certified(problem, budget, data, unit, found: Descent, temperature, invalid) -> Solution:
    """The rounded plan, repaired until it fits, with exact totals."""
    size = problem.utility.shape[0]
    wanted, spare = rounded(data, found.multiplier, temperature), within(problem, budget, data, found.multiplier)
    wanted, spare, best = (x.reshape(-1)[:size] for x in (wanted, spare, responses(data, found.best)))
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
    # The bound is the Lagrangian of the best responses, from exact totals.
    price = found.best / unit
    response = pairs.divide(_total(_chosen(problem, best), weight), questions)
    unspent = pairs.subtract(pairs.pair(budget), Pair(response.hi[1:], response.lo[1:])).hi
    bound = response.hi[0] + (price * unspent).sum()
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

    The prices of overspent resources rise, by factors that grow from 1 + 1e-6 to 4. A price that keeps rising makes utility weigh
    less and less, so that in the end this is the multiplicative-weights search for a plan that fits.
    """
    size = problem.utility.shape[0]
    weight = jnp.asarray(size, budget.dtype) if problem.weight is None else problem.weight.sum()

    def overspent(action):
        spend = _total(_chosen(problem, action.reshape(-1)[:size]), problem.weight)
        return spend.hi[1:] / weight > budget * (1 - 2e-7)

    def raised(state):
        turn, price, action, over = state
        factor = 1 + jnp.minimum(1e-6 * 2.0 ** (2 * turn.astype(price.dtype)), 3)
        price = jnp.where(over, price * factor, price)
        price = price / jnp.maximum(1, price.max() / jnp.finfo(price.dtype).max ** 0.25)
        action = responses(data, price)
        return turn + 1, price, action, overspent(action)

    price = jnp.maximum(multiplier, 1e-6 * multiplier.max() + jnp.finfo(multiplier.dtype).tiny ** 0.5)
    action = responses(data, price)
    start = jnp.int32(0), price, action, overspent(action)
    return jax.lax.while_loop(lambda state: state[3].any() & (state[0] < 60), raised, start)[2]


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
