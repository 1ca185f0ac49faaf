"""What may be differentiated through `solve`, that it is right, and what is refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.solve import dual_value, frontier, prepare, solve
from alloc_jax.solve.envelope import mixed_plan
from alloc_jax.types import AllocationProblem
from tests.precision import double_precision
from tests.solve.instances import smooth

QUESTIONS, ACTIONS = 60, 5


def problem_of(resources, dtype=np.float32, masked=False):
    rng = np.random.default_rng(1)
    utility, cost = smooth(rng, QUESTIONS, ACTIONS, dtype)
    valid = None
    if masked:
        valid = rng.random(utility.shape) < 0.7
        valid[:, 0] = True
    weight = rng.uniform(0.5, 2, QUESTIONS).astype(dtype)
    if resources > 1:
        cost = cost[:, :, None] * np.exp(0.4 * rng.standard_normal((*cost.shape, resources))).astype(dtype)
    budget = (weight[:, None] * cost.reshape(QUESTIONS, ACTIONS, -1)[:, 0]).sum(0) / weight.sum() * 2.5
    budget = jnp.asarray(budget if resources > 1 else budget[0], dtype)
    return AllocationProblem(jnp.asarray(utility), jnp.asarray(cost), valid, jnp.asarray(weight)), budget


@pytest.mark.parametrize("resources", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["dual_value", "mixed_utility"])
def test_the_optimal_value_moves_as_the_envelope_theorem_says(resources, name):
    problem, budget = problem_of(resources, masked=resources == 1)

    def value(utility, cost, budget):
        moved = AllocationProblem(utility, cost, problem.valid, problem.weight)
        return getattr(solve(moved, budget), name)

    by_utility, by_cost, by_budget = jax.grad(value, (0, 1, 2))(problem.utility, problem.cost, budget)
    found = solve(problem, budget)
    share = (problem.weight / problem.weight.sum())[:, None] * mixed_plan(found, ACTIONS)
    multiplier = jnp.reshape(found.multiplier, (1, 1, -1))
    np.testing.assert_allclose(by_utility, share, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(by_cost.reshape(*share.shape, -1), -multiplier * share[:, :, None], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(by_budget, found.multiplier, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("resources", [1, 2])
def test_derivatives_are_finite_differences(resources):
    with double_precision():
        problem, budget = problem_of(resources, np.float64)
        rng = np.random.default_rng(2)
        ways = [rng.standard_normal(np.shape(x)) for x in (problem.utility, problem.cost, problem.weight, budget)]

        def solved(steps):
            utility, cost, weight, limit = (
                x + step * way
                for x, step, way in zip(
                    (problem.utility, problem.cost, problem.weight, budget), steps, ways, strict=True
                )
            )
            return solve(AllocationProblem(utility, cost, None, weight), limit)

        def value(steps):
            return solved(steps).dual_value

        zero = jnp.zeros(4)
        reverse, forward = jax.grad(value)(zero), jax.jacfwd(value)(zero)
        np.testing.assert_allclose(reverse, forward, rtol=1e-9)
        for i, unit in enumerate(np.eye(4) * 1e-6):
            # The mixed plan has all digits; the bound is as far above it as the search's tolerance allows.
            expected = (solved(zero + unit).mixed_utility - solved(zero - unit).mixed_utility) / 2e-6
            np.testing.assert_allclose(reverse[i], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.long
def test_derivatives_work_under_jit_and_vmap_and_of_a_prepared_problem():
    problem, _ = problem_of(1)
    prepared, budgets = prepare(problem), jnp.float32([2.0, 3.0, 5.0])

    def value(budget):
        return solve(prepared, budget).dual_value

    slopes = jax.jit(jax.vmap(jax.grad(value)))(budgets)
    np.testing.assert_allclose(slopes, [solve(prepared, float(b)).multiplier for b in budgets], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda b: jax.vmap(value)(b).sum())(budgets), slopes, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda b: jax.jit(value)(b))(budgets[1]), slopes[1], rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(value, (budgets[1],), (jnp.float32(2),))[1], 2 * slopes[1], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda b: dual_value(problem, b))(budgets[1]), slopes[1], rtol=1e-6)
    assert jax.grad(lambda b: solve(problem, b[None]).dual_value)(budgets[1]) == slopes[1]


@pytest.mark.parametrize("name", ["utility", "spend", "multiplier", "gap", "mixed_spend", "mixed_gap"])
def test_what_has_no_derivative_is_refused_by_name(name):
    problem, budget = problem_of(1)

    def value(budget):
        return getattr(solve(problem, budget), name)

    for transformed in (jax.grad(value), jax.jit(jax.grad(value)), jax.grad(lambda b: jax.vmap(value)(b[None]).sum())):
        with pytest.raises(ValueError, match=r"aj\.dual_value.*aj\.smooth_plan") as error:
            transformed(budget)
        for named in re.findall(r"`aj\.(\w+)", str(error.value)):
            assert callable(getattr(aj, named)), named
    assert jnp.isnan(jax.jvp(value, (budget,), (budget,))[1])


@pytest.mark.parametrize("name", ["spend", "utility", "multiplier"])
def test_the_points_of_a_frontier_are_refused_in_reverse_and_nan_forward(name):
    problem, _ = problem_of(1)

    def value(utility):
        moved = AllocationProblem(utility, problem.cost, problem.valid, problem.weight)
        return getattr(frontier(moved, points=8), name).sum()

    for transformed in (jax.grad(value), jax.jit(jax.grad(value))):
        with pytest.raises(ValueError, match=r"points of a frontier have no derivative.*`aj\.dual_value`"):
            transformed(problem.utility)
    assert jnp.isnan(jax.jvp(value, (problem.utility,), (problem.utility,))[1])


def test_the_value_between_the_points_of_a_grid_has_the_slope_of_its_chord():
    problem, budget = problem_of(1)
    grid = frontier(problem, points=8)
    m = int(jnp.searchsorted(grid.spend, budget))
    chord = (grid.utility[m] - grid.utility[m - 1]) / (grid.spend[m] - grid.spend[m - 1])
    np.testing.assert_allclose(jax.grad(lambda b: grid.value(b))(budget), chord, rtol=1e-5)


def test_the_share_of_a_mixed_plan_and_the_least_spend_have_no_derivative():
    problem, budget = problem_of(2)
    with pytest.raises(ValueError, match=r"aj\.smooth_plan"):
        jax.eval_shape(jax.grad(lambda b: solve(problem, b).mixed.probability.sum()), budget)
    problem, _ = problem_of(1)
    with pytest.raises(ValueError, match="for a budget"):
        jax.eval_shape(jax.grad(lambda wanted: solve(problem, utility=wanted).dual_value), jnp.float32(0.5))
