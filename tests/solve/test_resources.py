"""Several budgets: within every one, near the bound, and the bound is HiGHS's optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import by_group, dual_value, solve
from alloc_jax.types import AllocationProblem, Status
from tests.precision import double_precision
from tests.solve.instances import mean_of, smooth, tied, unsorted
from tests.solve.test_frontier import highs


def several(rng, family, questions, resources, actions=5):
    """Costs of several resources that rise with the action, in units that differ by orders of magnitude."""
    utility, cost = family(rng, questions, actions)
    costs = np.stack([cost * rng.lognormal(0, 0.4, cost.shape) for _ in range(resources)], axis=2)
    costs = (costs * 10.0 ** np.arange(-2, resources - 2)).astype(np.float32)
    return utility, costs, (costs[:, 0].mean(axis=0) * np.linspace(1.8, 3, resources)).astype(np.float32)


def assert_within(solution, cost, budget, weight=None):
    spend = mean_of(cost, solution.action, weight)
    assert (spend <= budget * (1 + 1e-12)).all()
    np.testing.assert_allclose(solution.spend, spend, rtol=1e-6)
    assert solution.status == Status.OPTIMAL


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


@pytest.mark.parametrize("resources", [2, 4])
def test_within_every_budget_and_the_bound_is_highs_optimum(resources):
    families = (smooth, tied, unsorted) if resources == 2 else (smooth, tied)
    for seed, family in enumerate(families):
        for name, utility, cost, budget in variants(np.random.default_rng([seed, resources]), family, resources):
            solution = solve(AllocationProblem(utility, cost), budget)
            assert_within(solution, cost, budget)
            scale = np.abs(utility).max()
            best = highs(utility, cost, budget)
            np.testing.assert_allclose(solution.dual_value, best, atol=1e-6 * scale, err_msg=f"{family} {name}")
            assert solution.utility <= solution.mixed_utility <= solution.dual_value + 1e-6 * scale, name
            assert (mean_of(utility, solution.action) - solution.utility) < 1e-6 * scale
            assert solution.gap <= 0.05 * scale, (family, name)


@pytest.mark.parametrize("family", [smooth, tied])
def test_the_gap_closes_on_a_large_problem_which_starts_from_a_sample(family):
    utility, cost, budget = several(np.random.default_rng(3), family, 50_000, 2)
    solution = solve(AllocationProblem(utility, cost), budget)
    assert_within(solution, cost, budget)
    assert solution.gap / solution.dual_value < 2e-4


@pytest.mark.parametrize("family", [smooth, tied])
def test_the_gap_closes_with_the_number_of_questions(family):
    gaps = []
    for questions in (100, 10_000):
        utility, cost, budget = several(np.random.default_rng(0), family, questions, 3)
        solution = solve(AllocationProblem(utility, cost), budget)
        assert_within(solution, cost, budget)
        gaps.append(float(solution.gap))
    assert gaps[1] < 2e-4 and gaps[1] < gaps[0]


def test_x64_closes_the_bound_further():
    with double_precision():
        utility, cost, budget = (x.astype(np.float64) for x in several(np.random.default_rng(8), tied, 60, 2))
        solution = solve(AllocationProblem(utility, cost), budget)
        assert_within(solution, cost, budget)
        np.testing.assert_allclose(solution.dual_value, highs(utility, cost, budget), rtol=1e-6)


def test_weights_masks_and_a_slack_resource():
    rng = np.random.default_rng(2)
    utility, cost, budget = several(rng, smooth, 300, 2)
    budget[1] *= 1e3
    weight = rng.integers(0, 3, 300).astype(np.float32)
    valid = rng.random(utility.shape) < 0.8
    valid[:, 0] = True
    solution = solve(AllocationProblem(utility, cost, valid, weight), budget)
    assert_within(solution, cost, budget, weight)
    assert valid[np.arange(300), solution.action].all()
    assert solution.multiplier[1] == 0
    single = solve(AllocationProblem(utility, cost[:, :, 0], valid, weight), budget[0])
    np.testing.assert_allclose(solution.dual_value, single.dual_value, rtol=1e-6)


def test_budgets_by_group_are_problems_apart():
    rng = np.random.default_rng(4)
    utility, cost = smooth(rng, 400, 5)
    group = rng.permutation(400) % 2
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


def test_the_bounds_derivative_is_the_price():
    utility, cost, budget = several(np.random.default_rng(6), smooth, 60, 2)
    problem = AllocationProblem(utility, cost)
    slope = jax.grad(lambda b: dual_value(problem, b))(jnp.asarray(budget))
    np.testing.assert_allclose(slope, solve(problem, budget).multiplier, rtol=1e-4)
