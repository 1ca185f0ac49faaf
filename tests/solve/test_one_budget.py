"""One budget, one resource: feasible, optimal, certified to the last digit, on every kind of input. Programs are optimised."""

import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import prepare, solve
from alloc_jax.types import AllocationProblem, Status
from tests.precision import double_precision
from tests.solve import reference
from tests.solve.instances import cases, mean_of, problem_of, smooth, tied

CASES = list(cases())
RARE = "1x1-masked-weighted", "1x4", "1x4-masked-weighted", "6x3"  # sizes that compile anew, each between two that stay
LARGEST = [case for case in CASES if "300x8" in case[0]]


def budgets_of(utility, cost, valid, weight):
    spend, _, _ = reference.frontier(utility, cost, valid, weight)
    inner = spend[0] + np.linspace(0, 1, 7) * (spend[-1] - spend[0])
    return np.concatenate([inner, spend[:3], [spend[-1] * 1.5 + 1]])


def assert_certified(solution, utility, cost, valid, weight, budget, tolerance=2e-6):
    best = reference.value(utility, cost, budget, valid, weight)
    spend, _, _ = reference.frontier(utility, cost, valid, weight)
    scale = max(1e-3, np.abs(utility).max())
    action = np.asarray(solution.action)
    assert solution.status == Status.OPTIMAL
    assert mean_of(cost, action, weight) <= budget * (1 + 1e-12)
    assert float(solution.spend) <= budget * (1 + 1e-12)
    np.testing.assert_allclose(solution.spend, mean_of(cost, action, weight), rtol=3e-7)
    np.testing.assert_allclose(solution.utility, mean_of(utility, action, weight), rtol=3e-7, atol=1e-7)
    np.testing.assert_allclose(solution.mixed_spend, min(budget, spend[-1]), rtol=1e-6)
    np.testing.assert_allclose(solution.mixed_utility, best, atol=tolerance * scale)
    np.testing.assert_allclose(solution.dual_value, best, atol=tolerance * scale)
    assert solution.dual_value >= best - 1e-6 * scale
    assert solution.gap >= solution.mixed_gap - 1e-6 * scale
    dual = reference.dual(utility, cost, budget, np.asarray(solution.multiplier), valid, weight)
    np.testing.assert_allclose(solution.dual_value, dual, atol=tolerance * scale)
    if valid is not None:
        assert valid[np.arange(len(action)), action].all()
    # The mixed plan is what it says: one question moved in part from its action to another.
    mixed, share = solution.mixed, float(solution.mixed.probability[0])
    moved = action.copy()
    moved[mixed.question[0]] = mixed.other[0]
    for x, claimed in ((cost, solution.mixed_spend), (utility, solution.mixed_utility)):
        mean = (1 - share) * mean_of(x, action, weight) + share * mean_of(x, moved, weight)
        np.testing.assert_allclose(claimed, mean, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case[0], marks=pytest.mark.long if case[0].endswith(RARE) else ()) for case in CASES]
)
def test_agrees_with_the_reference_and_never_overspends(case):
    _, *arrays = case
    prepared = prepare(problem_of(*arrays))
    for budget in budgets_of(*arrays):
        assert_certified(solve(prepared, budget), *arrays, budget)


@pytest.mark.long
@pytest.mark.parametrize("case", LARGEST, ids=[case[0] for case in LARGEST])
def test_x64_agrees_with_the_reference_more_closely(case):
    _, utility, cost, valid, weight = case
    arrays = utility.astype(np.float64), cost.astype(np.float64), valid, weight
    with double_precision():
        prepared = prepare(problem_of(*arrays))
        for budget in budgets_of(*arrays):
            solution = solve(prepared, budget)
            assert solution.utility.dtype == jnp.float64
            assert_certified(solution, *arrays, budget, tolerance=2e-7)


@pytest.mark.long
def test_the_integral_plan_is_within_one_question_of_the_bound():
    rng = np.random.default_rng(0)
    for family in (smooth, tied):
        utility, cost = family(rng, 20_000, 4)
        for share in (0.1, 0.5, 0.9):
            budget = cost[:, 0].mean() + share * (cost[:, -1].mean() - cost[:, 0].mean())
            solution = solve(AllocationProblem(utility, cost), budget)
            assert budget - solution.spend <= cost.max() / 20_000
            assert 0 <= solution.gap <= 1 / 20_000


@pytest.mark.long
def test_ties_leave_at_most_one_question_unspent():
    utility, cost = tied(np.random.default_rng(3), 20_000, 4)
    prepared = prepare(AllocationProblem(utility, cost))
    for budget in np.linspace(1.0, 4.0, 25):
        solution = solve(prepared, budget)
        useful = min(budget, reference.frontier(utility[:500], cost[:500])[0][-1])
        assert mean_of(cost, solution.action) <= budget
        if solution.multiplier > 0:
            assert useful and budget - mean_of(cost, solution.action) <= 8 / 20_000
        assert solution.mixed_gap <= 1e-6


@pytest.mark.long
def test_x64_agrees_with_float32():
    utility, cost = smooth(np.random.default_rng(9), 300, dtype=np.float64)
    with double_precision():
        found = solve(AllocationProblem(utility, cost), 5.1)
        assert found.spend.dtype == jnp.float64
        np.testing.assert_allclose(found.mixed_utility, reference.value(utility, cost, 5.1), rtol=2e-7)
        np.testing.assert_allclose(found.mixed_spend, 5.1, rtol=1e-14)
    single = solve(AllocationProblem(utility.astype(np.float32), cost.astype(np.float32)), 5.1)
    np.testing.assert_allclose(single.mixed_utility, found.mixed_utility, rtol=1e-6)


def test_what_a_questions_utilities_have_in_common_changes_nothing():
    rng = np.random.default_rng(10)
    utility, cost = np.sort(rng.integers(0, 65, (300, 8)), axis=1) / np.float32(64), np.float32(rng.random((300, 8)))
    common = 1000 * rng.integers(-1, 2, (300, 1)).astype(np.float32)
    for budget in (0.1, 0.22, 0.3):
        plain, shifted = (solve(AllocationProblem(np.float32(u), cost), budget) for u in (utility, utility + common))
        assert plain.action.tolist() == shifted.action.tolist()
        np.testing.assert_allclose(shifted.multiplier, plain.multiplier, rtol=1e-6)
        np.testing.assert_allclose(shifted.gap, plain.gap, atol=1e-7)


def test_costs_that_differ_in_their_last_digits_bound_the_optimum():
    """Scores of utility - multiplier * cost would have no digits left at the steep multipliers."""
    rng = np.random.default_rng(11)
    utility, cost = np.float32(rng.random((300, 8))), np.float32(1000 + rng.integers(0, 9, (300, 8)) * 2.0**-13)
    spend, _, _ = reference.frontier(utility, cost)
    for budget in spend[0] + np.linspace(0.05, 0.95, 7) * (spend[-1] - spend[0]):
        assert_certified(solve(AllocationProblem(utility, cost), budget), utility, cost, None, None, budget)


def test_a_hair_below_the_dearest_useful_plan_little_is_lost():
    utility, cost = smooth(np.random.default_rng(12), 300)
    cost[:, 1:] += np.float32(1e-4) * np.arange(1, 8, dtype=np.float32)
    spend, _, _ = reference.frontier(utility, cost)
    for budget in spend[-1] * (1 - np.float64([1e-9, 1e-7, 1e-5])):
        found = solve(AllocationProblem(utility, cost), budget)
        np.testing.assert_allclose(found.mixed_utility, reference.value(utility, cost, budget), atol=2e-7)
        assert mean_of(cost, found.action) <= budget * (1 + 1e-12)


def test_thirty_decades_of_cost_in_one_table():
    rng = np.random.default_rng(13)
    utility = np.sort(rng.random((300, 8)), axis=1).astype(np.float32)
    cost = np.sort(10.0 ** rng.uniform(-11.9, 17.9, (300, 8)), axis=1).astype(np.float32)
    spend, _, _ = reference.frontier(utility, cost)
    for budget in np.geomspace(spend[0] * 1.01, spend[-1], 8):
        assert_certified(solve(AllocationProblem(utility, cost), budget), utility, cost, None, None, budget)
