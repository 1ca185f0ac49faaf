"""One budget, one resource: ends of the range, ties, units, order; under jit and vmap, and what is refused."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import double_double, frontier, prepare, solve
from alloc_jax.solve.root_finding import extreme_bracket, propose
from alloc_jax.types import AllocationProblem, Status
from tests.solve.instances import smooth, tied


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


@pytest.mark.long
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
    utility, cost = tied(rng, 300)
    order = rng.permutation(300)
    one, other = (solve(AllocationProblem(utility[o], cost[o]), 2.7) for o in (np.arange(300), order))
    np.testing.assert_allclose(one.mixed_utility, other.mixed_utility, rtol=1e-6)


def test_jit_is_eager_and_lowers():
    problem = AllocationProblem(*(jnp.asarray(x) for x in smooth(np.random.default_rng(5), 300)))
    budget = jnp.float32(5.0)
    compiled = jax.jit(solve).lower(problem, budget).compile()
    eager = solve(problem, budget)
    for one, other in zip(jax.tree.leaves(compiled(problem, budget)), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.long
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


@pytest.mark.long
def test_in_one_program_with_prepare_the_rows_are_laid_out_once():
    utility, cost = smooth(np.random.default_rng(4), 20_000)
    compiled = jax.jit(solve).lower(AllocationProblem(utility, cost), 3.0).compile()
    data = utility.nbytes + cost.nbytes
    assert (
        compiled.memory_analysis().temp_size_in_bytes < 2.3 * data
    )  # one layout and three plans; two layouts took 2.8


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
    prepared = prepare(AllocationProblem(*smooth(np.random.default_rng(15), 300)))
    for share in (0.0, 2.0**-40, 1 - 2.0**-40, 1.0):
        low, high = (double_double.DoubleDouble(x.hi[0], x.lo[0]) for x in (prepared.cheapest, prepared.dearest))
        span = double_double.subtract(high, low)
        target = double_double.add(low, double_double.DoubleDouble(span.hi * share, span.lo * share))
        bracket = extreme_bracket(prepared)
        for passes in range(4):
            found = propose(bracket._replace(passes=jnp.int32(passes)), target, "spend", None, prepared.steepest)
            assert 0 < found < prepared.steepest


@pytest.mark.long
def test_one_resource_may_come_with_an_axis_of_its_own():
    utility, cost = tied(np.random.default_rng(16), 300)
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
