"""One budget, one resource: feasible, optimal, certified, on every kind of input."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import double_double, frontier, prepare, reference, solve
from alloc_jax.solve.root_finding import extreme_bracket, propose
from alloc_jax.types import AllocationProblem, Status
from tests.precision import double_precision
from tests.solve.instances import cases, mean_of, problem_of, smooth, tied

CASES = list(cases())
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


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_agrees_with_the_reference_and_never_overspends(case):
    _, *arrays = case
    prepared = prepare(problem_of(*arrays))
    for budget in budgets_of(*arrays):
        assert_certified(solve(prepared, budget), *arrays, budget)


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


def test_the_integral_plan_is_within_one_question_of_the_bound():
    rng = np.random.default_rng(0)
    for family in (smooth, tied):
        utility, cost = family(rng, 20_000, 4)
        for share in (0.1, 0.5, 0.9):
            budget = cost[:, 0].mean() + share * (cost[:, -1].mean() - cost[:, 0].mean())
            solution = solve(AllocationProblem(utility, cost), budget)
            assert budget - solution.spend <= cost.max() / 20_000
            assert 0 <= solution.gap <= 1 / 20_000


def test_a_deterministic_plan_can_be_short_of_the_mixed_one():
    solution = solve(AllocationProblem(np.float32([[0, 1]]), np.float32([[1, 3]])), 2.0)
    assert (solution.utility, solution.mixed_utility, solution.dual_value) == (0.0, 0.5, 0.5)
    assert (solution.spend, solution.mixed_spend, solution.mixed.probability[0]) == (1.0, 2.0, 0.5)


def test_below_the_cheapest_plan_the_status_is_infeasible_and_the_plan_the_cheapest():
    utility, cost = np.float32([[1, 2, 5], [4, 3, 9]]), np.float32([[2, 2, 3], [1, 1, 7]])
    solution = solve(AllocationProblem(utility, cost), 1.49)
    assert solution.status == Status.INFEASIBLE
    assert solution.action.tolist() == [1, 0]
    assert solution.spend == 1.5
    with pytest.raises(ValueError, match="INFEASIBLE"):
        solve(AllocationProblem(utility, cost), 1.49, check=True)


def test_above_the_dearest_useful_plan_the_multiplier_is_zero():
    utility, cost = np.float32([[0, 1, 1], [0.5, 0.5, 0.2]]), np.float32([[1, 2, 5], [1, 3, 4]])
    solution = solve(AllocationProblem(utility, cost), 100)
    assert (solution.multiplier, solution.spend, solution.mixed_spend, solution.gap) == (0, 1.5, 1.5, 0)
    assert solution.action.tolist() == [1, 0]


@pytest.mark.parametrize("total", range(10, 31))
def test_a_budget_that_a_plan_meets_exactly_is_spent_to_the_end(total):
    utility = np.tile(np.float32([[0, 1]]), (10, 1))
    cost = np.tile(np.float32([[1, 3]]), (10, 1))
    solution = solve(AllocationProblem(utility, cost), total / 10)
    assert solution.action.sum() == (total - 10) // 2
    assert solution.status == Status.OPTIMAL
    # Ties are filled in index order.
    assert solution.action.tolist() == sorted(solution.action.tolist(), reverse=True)


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


def test_spend_and_utility_rise_with_the_budget():
    prepared = prepare(AllocationProblem(*smooth(np.random.default_rng(1), 300)))
    found = jax.vmap(lambda budget: solve(prepared, budget))(jnp.linspace(2, 60, 40))
    assert (jnp.diff(found.mixed_spend) >= 0).all() and (jnp.diff(found.mixed_utility) >= -1e-7).all()
    assert (jnp.diff(found.multiplier) <= 0).all()


def test_units_of_cost_only_rescale_the_multiplier():
    utility, cost = smooth(np.random.default_rng(2), 300)
    plain = solve(AllocationProblem(utility, cost), 6.0)
    for unit in (2.0**-30, 2.0**20):
        scaled = solve(AllocationProblem(utility, cost * np.float32(unit)), 6.0 * unit)
        np.testing.assert_allclose(scaled.multiplier * unit, plain.multiplier, rtol=1e-5)
        np.testing.assert_allclose(scaled.mixed_utility, plain.mixed_utility, rtol=1e-6)


def test_the_order_of_questions_does_not_change_the_value():
    rng = np.random.default_rng(4)
    utility, cost = tied(rng, 2000)
    order = rng.permutation(2000)
    one, other = (solve(AllocationProblem(utility[o], cost[o]), 2.7) for o in (np.arange(2000), order))
    np.testing.assert_allclose(one.mixed_utility, other.mixed_utility, rtol=1e-6)


def test_jit_is_eager_and_lowers():
    problem = AllocationProblem(*(jnp.asarray(x) for x in smooth(np.random.default_rng(5), 300)))
    budget = jnp.float32(5.0)
    compiled = jax.jit(solve).lower(problem, budget).compile()
    eager = solve(problem, budget)
    for one, other in zip(jax.tree.leaves(compiled(problem, budget)), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_vmap_over_budgets_and_problems_is_a_loop():
    rng = np.random.default_rng(6)
    arrays = [smooth(rng, 300) for _ in range(3)]
    problems = AllocationProblem(*(jnp.stack([jnp.asarray(a[j]) for a in arrays]) for j in range(2)))
    budgets = jnp.float32([3.0, 5.0, 30.0])
    mapped = jax.vmap(solve)(problems, budgets)
    for i in range(3):
        single = solve(jax.tree.map(lambda x, i=i: x[i], problems), budgets[i])
        assert (mapped.action[i] == single.action).all()
        np.testing.assert_allclose(mapped.gap[i], single.gap, atol=1e-7)


def test_one_trace_a_shape():
    problem = AllocationProblem(*smooth(np.random.default_rng(7), 300))
    traces = []

    @jax.jit
    def counted(problem, budget):
        traces.append(1)
        return solve(problem, budget)

    for budget in (2.0, 3.0, 4.0):
        counted(problem, jnp.float32(budget))
    assert len(traces) == 1


def test_inside_jit_bad_values_are_a_status():
    utility, cost = smooth(np.random.default_rng(8), 300)
    good = AllocationProblem(utility, cost, np.ones(utility.shape, bool), np.ones(300, np.float32))
    assert jax.jit(solve)(good, 3.0).status == Status.OPTIMAL
    for name, value in (("utility", np.nan), ("utility", np.inf), ("cost", -1.0), ("cost", np.nan)):
        array = getattr(good, name).copy()
        array[3, 1] = value
        assert jax.jit(solve)(replace(good, **{name: array}), 3.0).status == Status.INVALID
    masked = good.valid.copy()
    masked[7] = False
    assert jax.jit(solve)(replace(good, valid=masked), 3.0).status == Status.INVALID
    assert jax.jit(solve)(good, float("nan")).status == Status.INVALID


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
    utility, cost = np.sort(rng.integers(0, 65, (300, 4)), axis=1) / np.float32(64), np.float32(rng.random((300, 4)))
    common = 1000 * rng.integers(-1, 2, (300, 1)).astype(np.float32)
    for budget in (0.1, 0.22, 0.3):
        plain, shifted = (solve(AllocationProblem(np.float32(u), cost), budget) for u in (utility, utility + common))
        assert plain.action.tolist() == shifted.action.tolist()
        np.testing.assert_allclose(shifted.multiplier, plain.multiplier, rtol=1e-6)
        np.testing.assert_allclose(shifted.gap, plain.gap, atol=1e-7)


def test_costs_that_differ_in_their_last_digits_bound_the_optimum():
    """Scores of utility - multiplier * cost would have no digits left at the steep multipliers."""
    rng = np.random.default_rng(11)
    utility, cost = np.float32(rng.random((300, 4))), np.float32(1000 + rng.integers(0, 9, (300, 4)) * 2.0**-13)
    spend, _, _ = reference.frontier(utility, cost)
    for budget in spend[0] + np.linspace(0.05, 0.95, 7) * (spend[-1] - spend[0]):
        assert_certified(solve(AllocationProblem(utility, cost), budget), utility, cost, None, None, budget)


def test_a_hair_below_the_dearest_useful_plan_little_is_lost():
    utility, cost = smooth(np.random.default_rng(12), 2000)
    cost[:, 1:] += np.float32(1e-4) * np.arange(1, 8, dtype=np.float32)
    spend, _, _ = reference.frontier(utility, cost)
    for budget in spend[-1] * (1 - np.float64([1e-9, 1e-7, 1e-5])):
        found = solve(AllocationProblem(utility, cost), budget)
        np.testing.assert_allclose(found.mixed_utility, reference.value(utility, cost, budget), atol=2e-7)
        assert mean_of(cost, found.action) <= budget * (1 + 1e-12)


def test_thirty_decades_of_cost_in_one_table():
    rng = np.random.default_rng(13)
    utility = np.sort(rng.random((300, 4)), axis=1).astype(np.float32)
    cost = np.sort(10.0 ** rng.uniform(-11.9, 17.9, (300, 4)), axis=1).astype(np.float32)
    spend, _, _ = reference.frontier(utility, cost)
    for budget in np.geomspace(spend[0] * 1.01, spend[-1], 8):
        assert_certified(solve(AllocationProblem(utility, cost), budget), utility, cost, None, None, budget)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cost", 1e-13, r"cost is outside .*0 or 1e-12 to 1e\+18.* on question 3, action 1"),
        ("cost", 1e19, r"cost is outside .* on question 3, action 1"),
        ("utility", -1e13, r"utility is outside .*1e\+12 in size.* on question 3, action 1"),
        ("weight", 1e10, r"weight of question 3 is 1e\+10.*0 or 1e-09 to 1e\+09"),
    ],
)
def test_numbers_out_of_the_promised_range_are_refused(name, value, message):
    utility, cost = smooth(np.random.default_rng(14), 300)
    arrays = {"utility": utility, "cost": cost, "weight": np.ones(300, np.float32)}
    arrays[name][(3, 1) if arrays[name].ndim == 2 else 3] = value
    problem = AllocationProblem(arrays["utility"], arrays["cost"], np.ones(utility.shape, bool), arrays["weight"])
    with pytest.raises(ValueError, match=message):
        solve(problem, 3.0)
    assert jax.jit(solve)(problem, 3.0).status == Status.INVALID


def test_the_next_multiplier_lies_strictly_inside_the_bracket():
    """An end evaluated again would be taken for an extreme, whose totals are those of another plan."""
    prepared = prepare(AllocationProblem(*smooth(np.random.default_rng(15), 100)))
    for share in (0.0, 2.0**-40, 1 - 2.0**-40, 1.0):
        low, high = (double_double.DoubleDouble(x.hi[0], x.lo[0]) for x in (prepared.cheapest, prepared.dearest))
        span = double_double.subtract(high, low)
        target = double_double.add(low, double_double.DoubleDouble(span.hi * share, span.lo * share))
        bracket = extreme_bracket(prepared)
        for passes in range(4):
            found = propose(bracket._replace(passes=jnp.int32(passes)), target, "spend", None, prepared.steepest)
            assert 0 < found < prepared.steepest


def test_one_resource_may_come_with_an_axis_of_its_own():
    utility, cost = tied(np.random.default_rng(16), 60)
    problem, plain = AllocationProblem(utility, cost[:, :, None]), solve(AllocationProblem(utility, cost), 2.5)
    curves = [frontier(problem), frontier(problem, points=8)]
    for given in ([2.5], np.float32([2.5]), 2.5):
        solvers = (partial(solve, problem), partial(solve, prepare(problem)), *(curve.at for curve in curves))
        for found in (solver(given) for solver in solvers):
            for name in ("multiplier", "spend", "mixed_spend"):
                assert getattr(found, name).shape == np.shape(given)
            np.testing.assert_allclose(found.mixed_spend, np.broadcast_to(plain.mixed_spend, np.shape(given)))
        assert solve(problem, given).action.tolist() == plain.action.tolist()
    assert jax.jit(solve)(problem, jnp.float32([2.5])).spend.shape == (1,)
