"""Random instances of many kinds against exact arithmetic: within the budget, bounded from above, allowed, and told truly."""

import math
from fractions import Fraction
from functools import partial

import jax
import numpy as np
import pytest

from alloc_jax.solve import frontier, solve
from alloc_jax.types import AllocationProblem, Status
from tests.solve.exact import Exact

SLACK = Fraction(1, 2**41)  # of a budget: what the solver's totals may be off by
MARGIN = 1e-6  # of the mean range of a question's utilities: what rounding may take from a bound or a plan
ULP = 2.0**-23
SHAPES = ((1, 4), (6, 1), (7, 4))


def tied(rng, shape):
    return np.sort(rng.integers(0, 9, shape), axis=1) / 8, np.broadcast_to(2.0 ** np.arange(shape[1]), shape)


def smooth(rng, shape):
    return rng.random(shape), rng.random(shape)


def whole_costs(rng, shape):
    return rng.integers(-3, 4, shape), rng.integers(0, 4, shape)


def ten_decades(rng, shape):
    return rng.random(shape), 10.0 ** rng.uniform(-5, 5, shape)


def rising_decades(rng, shape):
    return np.sort(rng.random(shape), axis=1), np.sort(10.0 ** rng.uniform(-9, 3, shape), axis=1)


def offset(rng, shape):
    return rng.integers(0, 65, shape) / 64 + 1000.0 * rng.integers(0, 3, (shape[0], 1)), rng.random(shape)


def nearly_equal_costs(rng, shape):
    return rng.random(shape), 1000 + rng.integers(0, 9, shape) * 2.0**-13


def all_equal(rng, shape):
    return np.full(shape, rng.random()), np.full(shape, rng.random())


def useless(rng, shape):
    return -np.sort(rng.random(shape), axis=1), np.sort(rng.random(shape), axis=1)


def small_gains(rng, shape):
    return 10.0 ** rng.uniform(-9, 0, shape), rng.lognormal(0, 2, shape)


def whole_range(rng, shape):
    return 10.0 ** rng.uniform(-12, 12, shape), 10.0 ** rng.uniform(-12, 18, shape)


def zeros(rng, shape):
    return rng.random(shape) * (rng.random(shape) < 0.5), rng.random(shape) * (rng.random(shape) < 0.5)


FAMILIES = (
    tied,
    smooth,
    whole_costs,
    ten_decades,
    rising_decades,
    offset,
    nearly_equal_costs,
    all_equal,
    useless,
    small_gains,
    whole_range,
    zeros,
)
WEIGHTS = (
    lambda rng, n: np.ones(n),
    lambda rng, n: rng.integers(0, 3, n) + (np.arange(n) == rng.integers(n)),
    lambda rng, n: 10.0 ** rng.uniform(-9, 9, n),
)


def instance(rng, family, shape, number):
    """utility, cost, valid, weight: every second one masked, the weights in turn."""
    utility, cost = family(rng, shape)
    valid = rng.random(shape) < (0.7 if number % 2 else 2)
    valid[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = True
    weight = WEIGHTS[number % 3](rng, shape[0])
    return np.float32(utility), np.float32(cost), valid, np.float32(weight)


def budgets(rng, exact):
    """Twelve budgets: breakpoints and a hair beside them, both extremes, some in between, some where no plan fits."""
    spends = [float(exact.mean(total)) for total in exact.spends]
    low, high = np.float32(spends[0]), np.float32(spends[-1])
    inner = np.float32(spends[rng.integers(len(spends))])
    beside = [np.nextafter(x, np.float32(way)) for x in (low, inner, high) for way in (0, np.inf)]
    free = rng.uniform(spends[0], spends[-1], 1)
    return np.float32([low, inner, high, *beside, *free, 0.9 * low, 2 * high + 1])


@jax.jit
@partial(jax.vmap, in_axes=(0, 0))
@partial(jax.vmap, in_axes=(None, 0))
def solve_all(problem, budget):
    return solve(problem, budget)


def faults(exact, budget, found, valid):
    """What is wrong with a solution, in words."""
    best, gain = exact.value(budget), exact.gain()
    target = Fraction(float(budget)) * (exact.questions << 149)
    spend, utility = exact.totals(found.action)
    status, numbers = Status(int(found.status)), {}
    for name in ("spend", "utility", "dual_value", "gap", "mixed_spend", "mixed_utility", "mixed_gap", "multiplier"):
        numbers[name] = float(np.reshape(getattr(found, name), ()))
        if not math.isfinite(numbers[name]):
            yield f"{name} is {numbers[name]}"
    if not valid[np.arange(len(valid)), np.asarray(found.action)].all():
        yield "a forbidden action"
    for name, total in (("spend", spend), ("utility", utility)):
        mean = float(exact.mean(total))
        if abs(numbers[name] - mean) > ULP * abs(mean) + 1e-37:
            yield f"{name} {numbers[name]} is not the plan's, {mean}"
    if exact.spends[0] > target * (1 + SLACK):
        if status != Status.INFEASIBLE:
            yield f"{status.name} where no plan fits"
        if spend != exact.spends[0]:
            yield "infeasible, and not the cheapest plan"
        return
    if best is None:  # within the slack: either answer is right
        return
    if status != Status.OPTIMAL:
        yield f"{status.name} where the cheapest plan fits"
        return
    best, most = float(best), float(exact.value(budget, 1 + SLACK))
    if spend > target * (1 + SLACK):
        yield f"overspent by {float(spend / target - 1)} of the budget"
    if numbers["spend"] > budget or numbers["mixed_spend"] > budget:
        yield f"spend {numbers['spend']!r} or mixed {numbers['mixed_spend']!r} reported above the budget {budget!r}, plan {float(exact.mean(spend))!r}"
    if numbers["dual_value"] < best - MARGIN * gain:
        yield f"bound {numbers['dual_value']} below the optimum {best} of {gain}"
    rounding = ULP * abs(best) + MARGIN * gain
    if not best - rounding <= numbers["mixed_utility"] <= most + rounding or numbers["dual_value"] > most + rounding:
        yield f"mixed utility {numbers['mixed_utility']}, bound {numbers['dual_value']}, optimum {best}, gain {gain}"
    if numbers["mixed_gap"] < -MARGIN * gain or numbers["gap"] < numbers["mixed_gap"] - MARGIN * gain:
        yield f"gaps {numbers['gap']} and mixed {numbers['mixed_gap']}"
    if abs(numbers["dual_value"] - numbers["utility"] - numbers["gap"]) > 2 * rounding:
        yield f"gap {numbers['gap']} is not bound - utility"
    yield from mixed_faults(exact, found, numbers, gain)


def mixed_faults(exact, found, numbers, gain):
    """The mixed plan is what it says: one question moved in part from its action to another."""
    question, other, share = (
        np.ravel(x)[0] for x in (found.mixed.question, found.mixed.other, found.mixed.probability)
    )
    moved = np.array(found.action)
    moved[question] = other
    ends = [exact.totals(plan) for plan in (found.action, moved)]
    for name, at, moved_to in zip(("mixed_spend", "mixed_utility"), *ends, strict=True):
        mean = float(exact.mean(at)) + float(share) * float(exact.mean(moved_to - at))
        if abs(mean - numbers[name]) > 2 * ULP * abs(mean) + (MARGIN * gain if name == "mixed_utility" else 1e-37):
            yield f"{name} {numbers[name]} is not the mixed plan's, {mean}"


def run(count, shape, with_frontier):
    rng = np.random.default_rng([count, *shape])
    instances = [instance(rng, family, shape, number) for family in FAMILIES for number in range(count)]
    exact = [Exact(*one) for one in instances]
    wanted = np.stack([budgets(rng, one) for one in exact])
    utility, cost, valid, weight = (np.stack(x) for x in zip(*instances, strict=True))
    found = jax.tree.map(np.asarray, solve_all(AllocationProblem(utility, cost, valid, weight), wanted))
    wrong = []
    for i, one in enumerate(exact):
        name = FAMILIES[i // count].__name__
        curve = frontier(AllocationProblem(*instances[i])) if with_frontier(i) else None
        for j, budget in enumerate(wanted[i]):
            answers = {"solve": jax.tree.map(lambda x, at=(i, j): x[at], found)}
            if curve is not None:
                answers["frontier"] = curve.at(budget)
            for who, answer in answers.items():
                wrong += [f"{who} {name} {i} {j}: {what}" for what in faults(one, budget, answer, instances[i][2])]
    assert not wrong, f"{len(wrong)} faults in {wanted.size} instances:\n" + "\n".join(wrong[:40])
    return wanted.size


@pytest.mark.long
@pytest.mark.parametrize(("shape", "count"), [(SHAPES[0], 36), (SHAPES[1], 12), (SHAPES[2], 60), ((2100, 3), 1)])
def test_thousands_of_instances_hold(shape, count):
    run(count, shape, with_frontier=lambda i: i % 4 == 0)
