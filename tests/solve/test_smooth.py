"""The smoothed problem's derivatives, forward and reverse, against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import smooth_multiplier, smooth_plan, solve
from alloc_jax.types import AllocationProblem
from tests.precision import double_precision
from tests.solve.instances import smooth

TEMPERATURE = 0.02


def problem_and_budget(resources, questions=40):
    rng = np.random.default_rng(resources)
    utility, cost = smooth(rng, questions, 5, np.float64)
    if resources == 0:
        return jnp.asarray(utility), jnp.asarray(cost), jnp.asarray(3.0)
    costs = np.stack([cost * rng.lognormal(0, 0.5, cost.shape) for _ in range(resources)], axis=2)
    return jnp.asarray(utility), jnp.asarray(costs), jnp.asarray(costs[:, 0].mean(0) * np.linspace(2, 3, resources))


@pytest.mark.long
@pytest.mark.parametrize("resources", [0, 3])
def test_derivatives_are_finite_differences(resources):
    with double_precision():
        utility, cost, budget = problem_and_budget(resources)
        rng = np.random.default_rng(7)
        directions = [jnp.asarray(rng.random(x.shape)) * x.mean() for x in (utility, cost, budget)]
        directions.append(jnp.asarray(TEMPERATURE))
        at = (utility, cost, budget, jnp.asarray(TEMPERATURE))

        def multiplier(step):
            u, c, b, t = (x + s * d for x, s, d in zip(at, step, directions, strict=True))
            return smooth_multiplier(AllocationProblem(u, c), b, t)

        def plan(step):
            u, c, b, t = (x + s * d for x, s, d in zip(at, step, directions, strict=True))
            return smooth_plan(AllocationProblem(u, c), b, t)[:3]

        for function in (multiplier, plan):
            function = jax.jit(function)
            forward, reverse = (jax.jit(jac(function))(jnp.zeros(4)) for jac in (jax.jacfwd, jax.jacrev))
            np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-12)
            for k in range(4):
                step = 1e-5 * jnp.eye(4)[k]
                difference = (function(step) - function(-step)) / 2e-5
                np.testing.assert_allclose(
                    forward[..., k], difference, rtol=2e-5, atol=1e-7 * float(jnp.abs(forward).max())
                )


def test_the_smoothed_multiplier_nears_the_exact_one_and_its_plan_spends_the_budget():
    utility, cost = smooth(np.random.default_rng(1), 2000)
    problem, budget = AllocationProblem(utility, cost), 5.0
    exact = solve(problem, budget).multiplier
    errors = []
    for temperature in (1e-2, 1e-3, 1e-4):
        plan = smooth_plan(problem, budget, temperature)
        np.testing.assert_allclose((plan * cost).sum(axis=1).mean(), budget, rtol=1e-5)
        errors.append(abs(float(smooth_multiplier(problem, budget, temperature) - exact)))
    assert errors[0] > errors[1] > errors[2]


def test_vmap_is_a_loop_and_a_slack_budget_has_no_multiplier():
    problem = AllocationProblem(*smooth(np.random.default_rng(2), 100))
    budgets = jnp.float32([3.0, 8.0, 1e4])
    slope = jax.vmap(jax.grad(smooth_multiplier, argnums=1), in_axes=(None, 0, None))(problem, budgets, 0.01)
    singly = [jax.grad(smooth_multiplier, argnums=1)(problem, budget, 0.01) for budget in budgets]
    np.testing.assert_allclose(slope, jnp.stack(singly), rtol=1e-4)
    assert (slope[:2] < 0).all()
    assert slope[2] == 0 and smooth_multiplier(problem, budgets[2], 0.01) == 0


def test_a_budget_below_the_cheapest_plan_has_a_multiplier_that_float32_can_tell_apart_and_finite_derivatives():
    rng = np.random.default_rng(0)
    utility = rng.normal(0, 0.1, (16, 5)).astype(np.float32)
    cost = (2.0 ** np.arange(5) * np.exp(rng.normal(0, 0.3, (16, 5)))).astype(np.float32)

    def earned(utility, cost, budget):
        return (smooth_plan(AllocationProblem(utility, cost), budget, 0.02) * utility).sum()

    budget = 0.9 * cost.min(axis=1).mean()
    assert 1e3 < smooth_multiplier(AllocationProblem(utility, cost), budget, 0.02) < 1e6
    found, slopes = jax.jit(jax.value_and_grad(earned, (0, 1, 2)))(utility, cost, budget)
    np.testing.assert_allclose(found, utility[np.arange(16), cost.argmin(axis=1)].sum(), rtol=1e-3)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.long
def test_float32_derivatives_agree_with_float64():
    utility, cost = smooth(np.random.default_rng(3), 500, dtype=np.float64)
    single = jax.grad(smooth_multiplier, argnums=1)(AllocationProblem(*map(np.float32, (utility, cost))), 4.0, 0.01)
    with double_precision():
        double = jax.grad(smooth_multiplier, argnums=1)(AllocationProblem(utility, cost), 4.0, 0.01)
    np.testing.assert_allclose(single, double, rtol=1e-3)
