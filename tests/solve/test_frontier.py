"""All budgets at once, the bound and its derivatives, an independent solver, and what validation says to bad input."""

import itertools
from functools import partial

import highspy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import best_response, dual_value, frontier, prepare, solve
from alloc_jax.types import AllocationProblem, Status
from tests.precision import double_precision
from tests.solve import reference
from tests.solve.instances import mean_of, smooth, tied, unsorted

FAMILIES = pytest.mark.parametrize("family", [smooth, tied, unsorted])


def highs(utility, cost, budget):
    """The linear programme's optimum, by HiGHS."""
    n, k = utility.shape
    model = highspy.Highs()
    model.silent()
    x = [[model.addVariable(0, 1, -float(utility[i, a]) / n) for a in range(k)] for i in range(n)]
    for row in x:
        model.addConstr(sum(row) == 1)
    for resource, limit in zip(np.moveaxis(cost.reshape(n, k, -1), 2, 0), np.atleast_1d(budget), strict=True):
        model.addConstr(sum(float(c) / n * x[i][a] for (i, a), c in np.ndenumerate(resource)) <= float(limit))
    model.run()
    return -model.getInfo().objective_function_value


@FAMILIES
def test_agrees_with_highs(family):
    utility, cost = family(np.random.default_rng(0), 300)
    spend, _, _ = reference.frontier(utility, cost)
    for share in (0.1, 0.5, 0.9):
        budget = float(np.float32(spend[0] + share * (spend[-1] - spend[0])))
        solution = solve(AllocationProblem(utility, cost), budget)
        expected = highs(utility, cost, budget)
        np.testing.assert_allclose(solution.dual_value, expected, atol=1e-6)
        np.testing.assert_allclose(solution.mixed_utility, expected, atol=1e-6)


@FAMILIES
def test_the_exact_frontier_is_the_references(family):
    utility, cost = family(np.random.default_rng(1), 300)
    found = frontier(AllocationProblem(utility, cost))
    spend, value, _ = reference.frontier(utility, cost)
    np.testing.assert_allclose(np.interp(spend, found.spend, found.utility), value, atol=2e-6)
    assert (np.diff(found.spend) >= 0).all()
    assert (np.diff(found.utility) >= 0).all()
    assert (np.diff(found.multiplier) <= 0).all()


@FAMILIES
def test_a_frontiers_plans_are_those_of_solve(family):
    utility, cost = family(np.random.default_rng(2), 300)
    problem = AllocationProblem(utility, cost)
    found = frontier(problem)
    low, high = float(found.spend[0]), float(found.spend[-1])
    for budget in np.linspace(low, 1.1 * high, 6):
        at, solved = found.at(budget), solve(problem, budget)
        assert mean_of(cost, at.action) <= budget * (1 + 1e-12)
        np.testing.assert_allclose(at.mixed_utility, solved.mixed_utility, atol=2e-6)
        np.testing.assert_allclose(at.mixed_spend, solved.mixed_spend, rtol=2e-6)
        np.testing.assert_allclose(found.value(budget), solved.dual_value, atol=2e-6)


@FAMILIES
def test_a_grid_lies_on_the_frontier_and_its_chords_below(family):
    problem = AllocationProblem(*family(np.random.default_rng(3), 300))
    exact, grid = frontier(problem), frontier(problem, points=12)
    np.testing.assert_allclose(grid.utility, exact.value(grid.spend), atol=5e-6)
    between = jnp.linspace(exact.spend[0], exact.spend[-1], 50)
    assert (grid.value(between) <= exact.value(between) + 5e-6).all()
    plan = grid.at(float(between[20]))
    assert mean_of(problem.cost, plan.action) <= float(between[20]) * (1 + 1e-12)


@pytest.mark.long
def test_a_grid_works_under_jit_and_vmap():
    problem = AllocationProblem(*smooth(np.random.default_rng(4), 300))
    weights = jnp.asarray(np.random.default_rng(5).multinomial(300, np.full(300, 1 / 300), 3), jnp.float32)

    def curve(weight):
        return frontier(AllocationProblem(problem.utility, problem.cost, weight=weight), points=8).utility

    mapped = jax.jit(jax.vmap(curve))(weights)
    for weight, row in zip(weights, mapped, strict=True):
        np.testing.assert_allclose(row, curve(weight), atol=1e-5)


def test_a_grid_rises_where_nothing_or_little_is_useful():
    rng = np.random.default_rng(20)
    cost = np.float32(rng.random((300, 8)))
    for utility in (np.zeros((300, 8)), -cost, np.where(rng.random((300, 1)) < 0.02, cost, 0.5)):
        grid = frontier(AllocationProblem(np.float32(utility), cost), points=12)
        assert (np.diff(grid.spend) >= 0).all() and (np.diff(grid.utility) >= 0).all()


@pytest.mark.long
def test_the_cheapest_budget_fits_for_solve_and_for_both_frontiers():
    """One tolerance: weights make totals that round."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        utility, cost = np.float32(rng.random((20, 3))), np.float32(rng.random((20, 3)))
        weight = np.float32(rng.random(20) + 0.1)
        budget = np.average(cost.min(axis=1).astype(np.float64), weights=weight.astype(np.float64))
        problem = AllocationProblem(utility, cost, None, weight)
        for at in (partial(solve, problem), frontier(problem).at, frontier(problem, points=5).at):
            assert at(budget).status == Status.OPTIMAL
            assert at(budget * (1 - 1e-9)).status == Status.INFEASIBLE


def test_the_exact_frontier_needs_no_call_that_only_some_systems_have(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    found = frontier(AllocationProblem(*tied(np.random.default_rng(21), 60)))
    assert found.spend[0] == 1


@FAMILIES
def test_the_least_spend_that_reaches_a_utility(family):
    utility, cost = family(np.random.default_rng(6), 300)
    problem = AllocationProblem(utility, cost)
    found = frontier(problem)
    for share in (0.2, 0.7):
        wanted = float(found.utility[0] + share * (found.utility[-1] - found.utility[0]))
        solution = solve(problem, utility=wanted)
        np.testing.assert_allclose(solution.mixed_utility, wanted, atol=2e-6)
        np.testing.assert_allclose(found.value(solution.mixed_spend), wanted, atol=2e-5)
        assert mean_of(utility, solution.action) >= wanted - 1e-7


@FAMILIES
def test_any_multiplier_bounds_any_plan_within_the_budget(family):
    utility, cost = family(np.random.default_rng(7), 5, 3)
    problem = AllocationProblem(utility, cost)
    for budget, multiplier in itertools.product((1.0, 2.5), (0.0, 0.05, 0.5, 5.0)):
        best = reference.best_integral(utility, cost, budget)
        best = best[0] if isinstance(best, tuple) else best
        if best is None or not np.isfinite(best):
            continue
        assert dual_value(problem, budget, multiplier=multiplier) >= best - 1e-6


def test_best_responses_spend_less_as_the_multiplier_rises():
    problem = AllocationProblem(*unsorted(np.random.default_rng(8), 300))
    spends = [mean_of(problem.cost, best_response(problem, multiplier)) for multiplier in np.geomspace(1e-3, 10, 20)]
    assert (np.diff(spends) <= 1e-9).all()


@pytest.mark.long
def test_the_optimal_values_derivatives_are_finite_differences():
    utility, cost = smooth(np.random.default_rng(9), 60, 5, np.float64)
    direction = np.random.default_rng(10).random(utility.shape)
    with double_precision():
        problem = AllocationProblem(jnp.asarray(utility), jnp.asarray(cost))
        budget = jnp.asarray(4.0)

        def value(t, s, budget):
            return dual_value(AllocationProblem(problem.utility + t * direction, problem.cost + s * direction), budget)

        zero = jnp.asarray(0.0)
        exact = jax.grad(value, (0, 1, 2))(zero, zero, budget)
        step = 1e-6
        for position, derivative in enumerate(exact):
            at = [zero, zero, budget]
            ends = []
            for sign in (1, -1):
                moved = list(at)
                moved[position] = moved[position] + sign * step
                ends.append(float(value(*moved)))
            np.testing.assert_allclose(derivative, (ends[0] - ends[1]) / (2 * step), rtol=1e-3)
        forward = jax.jvp(lambda b: value(zero, zero, b), (budget,), (jnp.asarray(1.0),))[1]
        np.testing.assert_allclose(forward, solve(problem, budget).multiplier)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(utility=np.nan), r"question 3.*action 1"),
        (dict(utility=np.inf), r"question 3.*action 1"),
        (dict(cost=-1.0), r"question 3.*action 1"),
        (dict(cost=np.nan), r"question 3.*action 1"),
    ],
)
def test_bad_values_are_named_at_the_door(change, message):
    arrays = dict(zip(("utility", "cost"), smooth(np.random.default_rng(11), 300), strict=True))
    [(name, value)] = change.items()
    arrays[name][3, 1] = value
    with pytest.raises(ValueError, match=message):
        solve(AllocationProblem(**arrays), 3.0)


def test_bad_shapes_and_budgets_are_named_at_the_door():
    utility, cost = smooth(np.random.default_rng(12), 300)
    masked = np.ones(utility.shape, bool)
    masked[7] = False
    wide = utility.astype(np.float64), cost.astype(np.float64)
    for problem, budget, message in (
        (AllocationProblem(utility, cost[:, :3]), 3.0, r"cost is \[N, K\].*\(300, 8\).*\(300, 3\)"),
        (AllocationProblem(utility[:0], cost[:0]), 3.0, r"at least one question.*\(0, 8\)"),
        (AllocationProblem(utility, cost, masked), 3.0, "question 7 has no valid action"),
        (AllocationProblem(utility, cost), -1.0, "budget is not at least 0: -1.0"),
        (AllocationProblem(utility, cost), float("nan"), "budget is not a number"),
        (AllocationProblem(*wide), 3.0, "utility is float64.*jax_enable_x64"),
        (AllocationProblem(utility, np.stack([cost, cost], axis=2)), 3.0, r"budget has shape \(2,\).*got \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            solve(problem, budget)


def test_a_frontier_of_several_resources_is_refused():
    utility, cost = smooth(np.random.default_rng(12), 300)
    problem = AllocationProblem(utility, np.stack([cost, cost], axis=2))
    for given in (problem, prepare(problem)):
        with pytest.raises(ValueError, match="one budget, and the problem has 2 resources"):
            frontier(given, points=8)


def test_check_raises_what_the_status_says():
    problem = AllocationProblem(*smooth(np.random.default_rng(13), 300))
    assert solve(problem, 0.0).status == Status.INFEASIBLE
    with pytest.raises(ValueError, match="budget"):
        solve(problem, 0.0, check=True)
