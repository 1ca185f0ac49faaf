"""Several budgets: within every one, near the bound, and the bound is HiGHS's optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import by_group, dual_value, solve
from alloc_jax.types import AllocationProblem, Status
from tests.precision import double_precision
from tests.solve import reference
from tests.solve.instances import mean_of, smooth, tied, unsorted
from tests.solve.test_frontier import highs


def several(rng, family, questions, resources):
    """Costs of several resources that rise with the action, in units that differ by orders of magnitude."""
    utility, cost = family(rng, questions, 5)
    costs = np.stack([cost * rng.lognormal(0, 0.4, cost.shape) for _ in range(resources)], axis=2)
    costs = (costs * 10.0 ** np.arange(-2, resources - 2)).astype(np.float32)
    return utility, costs, (costs[:, 0].mean(axis=0) * np.linspace(1.8, 3, resources)).astype(np.float32)


def assert_within(solution, cost, budget, weight=None):
    spend = mean_of(cost, solution.action, weight)
    assert (spend <= budget * (1 + 1e-12)).all()
    assert (solution.spend <= budget).all()
    np.testing.assert_allclose(solution.spend, spend, rtol=1e-6)
    assert solution.status == Status.OPTIMAL


def assert_mixes_few(solution, utility, cost, budget, weight=None):
    """The mixed plan is what its fields say, mixes at most R questions, and spends every budget that has a multiplier."""
    mixed, resources = solution.mixed, len(budget)
    assert mixed.question.size == resources
    scale = np.abs(utility).max()
    for values, claimed in ((utility[:, :, None], [solution.mixed_utility]), (cost, solution.mixed_spend)):
        mean = mean_of(values, mixed.action, weight)
        for question, other, probability in zip(mixed.question, mixed.other, mixed.probability, strict=True):
            moved = np.array(mixed.action)
            moved[question] = other
            mean = mean + float(probability) * (mean_of(values, moved, weight) - mean_of(values, mixed.action, weight))
        np.testing.assert_allclose(claimed, mean, rtol=2e-6, atol=1e-6 * scale)
    taken = np.zeros(len(utility))
    np.add.at(taken, np.asarray(mixed.question), np.asarray(mixed.probability))
    assert (mixed.probability >= 0).all() and (taken <= 1 + 1e-5).all()
    assert (solution.mixed_spend <= budget * (1 + 1e-6)).all()
    binds = np.asarray(solution.multiplier * budget) > 1e-3 * scale
    np.testing.assert_allclose(solution.mixed_spend[binds], budget[binds], rtol=2e-6)


def variants(rng, family, resources):
    """The budgets and costs that a solver of several resources meets: (name, utility, cost, budget)."""
    utility, cost, budget = several(rng, family, 60, resources)
    yield "plain", utility, cost, budget
    yield "one slack", utility, cost, budget * np.float32([1e3] + [1] * (resources - 1))
    yield "all slack", utility, cost, cost.max(axis=1).sum(axis=0)
    equal, free = cost.copy(), cost.copy()
    equal[:, :, 0] = 3
    free[:, :, 0] = 0
    yield "one resource costs the same everywhere", utility, equal, np.float32([3.01, *budget[1:]])
    yield "one resource is free and has no budget", utility, free, np.float32([0, *budget[1:]])
    yield "the same resource twice", utility, cost[:, :, [0] * resources], budget[[0] * resources]
    opposed = cost.copy()
    opposed[:, :, 1] = cost[:, ::-1, 0]
    yield "one dear where the other is cheap", utility, opposed, opposed.mean(axis=(0, 1)) * np.float32(0.9)
    yield "no utility to gain", np.full_like(utility, 0.5), cost, budget
    yield "negative utility", utility - 5, cost, budget


@pytest.mark.parametrize("resources", [2, pytest.param(4, marks=pytest.mark.long)])
def test_within_every_budget_and_the_bound_is_highs_optimum(resources):
    families = (smooth, tied, unsorted) if resources == 2 else (smooth, tied)
    for seed, family in enumerate(families):
        for name, utility, cost, budget in variants(np.random.default_rng([seed, resources]), family, resources):
            solution = solve(AllocationProblem(utility, cost), budget)
            assert_within(solution, cost, budget)
            scale = np.abs(utility).max()
            best = highs(utility, cost, budget)
            np.testing.assert_allclose(solution.dual_value, best, atol=1e-6 * scale, err_msg=f"{family} {name}")
            np.testing.assert_allclose(solution.mixed_utility, best, atol=1e-6 * scale, err_msg=f"{family} {name}")
            assert_mixes_few(solution, utility, cost, budget)
            assert solution.utility <= solution.mixed_utility + 1e-6 * scale, name
            np.testing.assert_allclose(solution.utility, mean_of(utility, solution.action), atol=1e-6 * scale)
            assert solution.mixed_gap <= 1e-6 * scale and solution.gap <= 0.01 * scale, (family, name)


@pytest.mark.long
@pytest.mark.parametrize("family", [smooth, tied])
def test_the_gap_closes_on_a_large_problem_which_starts_from_a_sample(family):
    utility, cost, budget = several(np.random.default_rng(3), family, 50_000, 2)
    solution = solve(AllocationProblem(utility, cost), budget)
    assert_within(solution, cost, budget)
    assert_mixes_few(solution, utility, cost, budget)
    assert solution.gap / solution.dual_value < 1e-5
    assert solution.mixed_gap / solution.dual_value < 1e-6


@pytest.mark.long
@pytest.mark.parametrize("family", [smooth, tied])
def test_the_gap_closes_with_the_number_of_questions(family):
    gaps = []
    for questions in (100, 10_000):
        utility, cost, budget = several(np.random.default_rng(0), family, questions, 3)
        solution = solve(AllocationProblem(utility, cost), budget)
        assert_within(solution, cost, budget)
        gaps.append(float(solution.gap))
    assert gaps[1] < 2e-5 and gaps[1] < gaps[0]


@pytest.mark.long
def test_x64_closes_the_bound_further():
    with double_precision():
        utility, cost, budget = (x.astype(np.float64) for x in several(np.random.default_rng(8), tied, 60, 2))
        solution = solve(AllocationProblem(utility, cost), budget)
        assert_within(solution, cost, budget)
        np.testing.assert_allclose(solution.dual_value, highs(utility, cost, budget), rtol=1e-9)
        assert solution.mixed_gap < 1e-10


@pytest.mark.long
def test_a_plan_is_found_wherever_one_fits():
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        questions, actions = rng.integers(3, 5), 3
        utility = rng.uniform(0, 1, (questions, actions)).astype(np.float32)
        cost = (rng.integers(0, 9, (questions, actions, 2)) / 4).astype(np.float32)
        least, most = cost.min(axis=1).mean(axis=0), cost.max(axis=1).mean(axis=0)
        budget = (least + (most - least) * rng.uniform(0.05, 0.9, 2)).astype(np.float32)
        solution = solve(AllocationProblem(utility, cost), budget)
        best, _ = reference.best_integral(utility, cost, budget)
        assert (solution.status == Status.OPTIMAL) == (best is not None), seed
        if best is not None:
            found += 1
            assert_within(solution, cost, budget)
            assert solution.utility <= best + 1e-6 and solution.dual_value >= best - 1e-6
    assert 10 < found < 40


def test_a_mixed_plan_can_fit_where_no_integral_one_does():
    utility, cost = np.zeros((60, 5), np.float32), np.zeros((60, 5, 2), np.float32)
    utility[0, 1], cost[0, :2] = 1, [[0, 2], [2, 0]]
    valid, weight = np.zeros(utility.shape, bool), np.zeros(60, np.float32)
    valid[:, 0], valid[0, 1], weight[0] = True, True, 1  # one question of two actions; the others weigh nothing
    solution = solve(AllocationProblem(utility, cost, valid, weight), np.float32([1, 1]))
    assert solution.status == Status.MIXED_ONLY
    np.testing.assert_allclose(solution.mixed_spend, [1, 1], rtol=1e-6)
    np.testing.assert_allclose([solution.mixed_utility, solution.dual_value], 0.5, rtol=2e-6)
    np.testing.assert_allclose(solution.multiplier, [0.5, 0], atol=1e-6)
    assert solution.spend.tolist() in ([0, 2], [2, 0])


@pytest.mark.long
def test_a_bound_below_the_worst_plan_proves_that_none_fits():
    utility, cost, budget = several(np.random.default_rng(10), smooth, 60, 4)
    solution = solve(AllocationProblem(utility, cost), 0.2 * budget)
    assert solution.status == Status.INFEASIBLE
    assert solution.dual_value < utility.min(axis=1).mean()


@pytest.mark.parametrize("resources", [2, pytest.param(3, marks=pytest.mark.long)])
def test_ties_that_every_resource_shares_are_filled(resources):
    rng = np.random.default_rng(11)
    questions, actions = (50_000, 5) if resources == 2 else (6000, 4)
    utility, cost = tied(rng, questions, actions)
    costs = np.stack([cost * 10.0**r for r in range(resources)], axis=2).astype(np.float32)
    costs[:, :, -1] = np.float32([1, 1, 2, 3, 5])[:actions]  # and one in which others are expensive
    budget = costs[:, 0].mean(axis=0) * np.float32([1.7] * (resources - 1) + [1.3])
    solution = solve(AllocationProblem(utility, costs), budget)
    assert_within(solution, costs, budget)
    assert_mixes_few(solution, utility, costs, budget)
    assert solution.mixed_gap <= 1e-6 and solution.gap <= resources / questions


@pytest.mark.long
def test_vmap_over_budgets_and_problems_is_a_loop():
    rng = np.random.default_rng(12)
    arrays = [several(rng, smooth, 60, 2) for _ in range(3)]
    problems = AllocationProblem(*(jnp.stack([a[j] for a in arrays]) for j in range(2)))
    budgets = jnp.stack([arrays[i][2] * scale for i, scale in enumerate(np.float32([0.8, 1, 1e3]))])
    mapped = jax.vmap(solve)(problems, budgets)
    for i in range(3):
        single = solve(jax.tree.map(lambda x, i=i: x[i], problems), budgets[i])
        np.testing.assert_allclose(mapped.mixed_utility[i], single.mixed_utility, atol=1e-6)
        np.testing.assert_allclose(mapped.dual_value[i], single.dual_value, atol=1e-6)
        assert (mean_of(arrays[i][1], mapped.action[i]) <= np.asarray(budgets[i]) * (1 + 1e-12)).all()


def test_units_of_cost_only_rescale_the_multipliers():
    utility, cost, budget = several(np.random.default_rng(13), smooth, 60, 2)
    plain = solve(AllocationProblem(utility, cost), budget)
    unit = np.float32([2.0**-30, 2.0**20])
    scaled = solve(AllocationProblem(utility, cost * unit), budget * unit)
    np.testing.assert_array_equal(scaled.action, plain.action)
    np.testing.assert_allclose(scaled.multiplier * unit, plain.multiplier, rtol=1e-6)


def test_weights_masks_and_a_slack_resource():
    rng = np.random.default_rng(2)
    utility, cost, budget = several(rng, smooth, 60, 2)
    budget[1] *= 1e3
    weight = rng.integers(0, 3, 60).astype(np.float32)
    valid = rng.random(utility.shape) < 0.8
    valid[:, 0] = True
    solution = solve(AllocationProblem(utility, cost, valid, weight), budget)
    assert_within(solution, cost, budget, weight)
    assert valid[np.arange(60), solution.action].all()
    assert solution.multiplier[1] == 0
    single = solve(AllocationProblem(utility, cost[:, :, 0], valid, weight), budget[0])
    np.testing.assert_allclose(solution.dual_value, single.dual_value, rtol=1e-6)


def test_budgets_by_group_are_problems_apart():
    rng = np.random.default_rng(4)
    utility, cost = smooth(rng, 60, 5)
    group = rng.permutation(60) % 2
    budgets = np.float32([3.0, 6.0])
    problem, budget = by_group(AllocationProblem(utility, cost), group, budgets)
    solution = solve(problem, budget)
    value = 0.0
    for g in range(2):
        members = group == g
        assert mean_of(cost[members], solution.action[members]) <= budgets[g] * (1 + 1e-6)
        apart = solve(AllocationProblem(utility[members], cost[members]), float(budgets[g]))
        value += members.mean() * float(apart.dual_value)
        np.testing.assert_allclose(solution.multiplier[g], apart.multiplier, rtol=0.05)
    np.testing.assert_allclose(solution.dual_value, value, rtol=2e-6)


def test_jit_is_eager_and_impossible_budgets_are_infeasible():
    utility, cost, budget = several(np.random.default_rng(5), smooth, 60, 2)
    problem = AllocationProblem(utility, cost)
    eager, jitted = solve(problem, budget), jax.jit(solve)(problem, jnp.asarray(budget))
    np.testing.assert_allclose(eager.utility, jitted.utility, atol=1e-3)
    np.testing.assert_allclose(eager.dual_value, jitted.dual_value, rtol=1e-5)
    for share in ([0.1, 0.1], [0.1, 1], [1, 0]):
        assert solve(problem, budget * np.float32(share)).status == Status.INFEASIBLE
    cost[3, 1, 1] = np.nan
    assert jax.jit(solve)(AllocationProblem(utility, cost), budget).status == Status.INVALID
    with pytest.raises(ValueError, match=r"question 3.*action 1"):
        solve(AllocationProblem(utility, cost), budget)


@pytest.mark.long
def test_the_bounds_derivatives_are_the_multiplier_and_finite_differences():
    with double_precision():
        utility, cost, budget = (jnp.asarray(x, jnp.float64) for x in several(np.random.default_rng(6), smooth, 60, 2))
        rng = np.random.default_rng(7)
        directions = [jnp.asarray(rng.random(x.shape)) * x.mean() for x in (utility, cost, budget)]

        def value(u, c, b):
            moved = zip((utility, cost, budget), (u, c, b), directions, strict=True)
            u, c, b = (x + step * direction for x, step, direction in moved)
            return dual_value(AllocationProblem(u, c), b)

        value = jax.jit(value)
        slopes = jax.grad(value, (0, 1, 2))(0.0, 0.0, 0.0)
        for position, slope in enumerate(slopes):
            ends = [value(*(np.arange(3) == position) * step) for step in (1e-6, -1e-6)]
            np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-4)
        by_budget = jax.grad(lambda b: dual_value(AllocationProblem(utility, cost), b))(budget)
        np.testing.assert_allclose(by_budget, solve(AllocationProblem(utility, cost), budget).multiplier)
