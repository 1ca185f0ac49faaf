"""The linear programme at the end of a solve, against HiGHS, from near and from far."""

import highspy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve import double_double
from alloc_jax.solve.resources import simplex
from alloc_jax.solve.resources.simplex import CoreProblem

optimise, local_search = jax.jit(simplex.optimise), jax.jit(simplex.local_search)


def instance(rng, questions, actions, resources, tied):
    """Utilities, costs in units of about the budgets, and budgets that some plan meets."""
    if tied:
        utility = rng.integers(0, 5, (questions, actions)) / 4
        cost = rng.integers(0, 4, (resources, questions, actions)) / questions
    else:
        utility, cost = rng.random((questions, actions)), rng.random((resources, questions, actions)) / questions
    weight = rng.integers(0, 3, questions)
    spend = (weight[:, None] * cost).sum(axis=1)
    budget = 0.8 * spend.mean(axis=1) + 0.2 * spend.min(axis=1)
    return (x.astype(np.float32) for x in (utility, cost, weight, budget))


def highs(utility, cost, weight, budget):
    """The programme's optimum."""
    model = highspy.Highs()
    model.silent()
    x = [[model.addVariable(0, 1, -float(w * u)) for u in row] for w, row in zip(weight, utility, strict=True)]
    for row in x:
        model.addConstr(sum(row) == 1)
    for resource, limit in zip(cost, budget, strict=True):
        model.addConstr(sum(float(weight[i] * c) * x[i][a] for (i, a), c in np.ndenumerate(resource)) <= float(limit))
    model.run()
    return -model.getInfo().objective_function_value


def spent(cost, weight, action):
    return (weight * np.take_along_axis(cost, action[None, :, None], axis=2)[:, :, 0]).sum(axis=1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("resources", [1, 2, 4])
def test_the_vertex_is_the_optimum_wherever_it_starts(resources, tied):
    for seed in range(5):
        rng = np.random.default_rng([seed, resources, tied])
        utility, cost, weight, budget = instance(rng, 40, 4, resources, tied)
        key = rng.integers(0, 4, 40).astype(np.int32)
        rest = double_double.pair(jnp.asarray(budget - spent(cost, weight, key), jnp.float32))
        core = CoreProblem(*map(jnp.asarray, (utility, cost, weight)))
        mix = optimise(core, jnp.asarray(key), rest, jnp.ones(resources))
        assert mix.fits
        share = np.zeros(utility.shape)
        share[np.arange(40), mix.key] = 1
        for question, action, part in zip(mix.question, mix.action, mix.share, strict=True):
            share[question, action] += part
            share[question, mix.key[question]] -= part
        assert share.min() > -1e-5
        assert ((weight[:, None] * share * cost).sum(axis=(1, 2)) <= budget * (1 + 1e-5)).all()
        best = highs(utility, cost, weight, budget)
        np.testing.assert_allclose((weight[:, None] * share * utility).sum(), best, rtol=2e-6)
        # The multipliers close the bound.
        net = utility - np.tensordot(np.asarray(mix.multiplier), cost, 1)
        np.testing.assert_allclose((weight * net.max(axis=1)).sum() + mix.multiplier @ budget, best, rtol=1e-5)


def test_what_cannot_be_met_does_not_fit():
    utility, cost, weight, budget = instance(np.random.default_rng(0), 20, 3, 2, False)
    lowest = (weight[:, None] * cost.min(axis=2).T).sum(axis=0)
    rest = double_double.pair(
        jnp.asarray(np.float32([0.9 * lowest[0], budget[1]]) - spent(cost, weight, np.zeros(20, int)))
    )
    core = CoreProblem(*map(jnp.asarray, (utility, cost, weight)))
    assert not optimise(core, jnp.zeros(20, jnp.int32), rest, jnp.ones(2)).fits


def test_settling_buys_back_what_is_overspent_and_spends_what_is_left():
    for seed in range(5):
        utility, cost, weight, budget = instance(np.random.default_rng(seed), 40, 4, 2, False)
        core = CoreProblem(*map(jnp.asarray, (utility, cost, weight)))
        for start in (cost[0].argmax(axis=1), cost.sum(axis=0).argmin(axis=1)):
            rest = jnp.asarray(budget - spent(cost, weight, start), jnp.float32)
            multiplier = jnp.ones(2) / budget.mean()
            action = np.asarray(
                local_search(core, jnp.asarray(start, jnp.int32), double_double.pair(rest), 0 * rest, multiplier)
            )
            left = budget - spent(cost, weight, action)
            assert (left >= -1e-6).all()
            # No single move that fits gains any more.
            extra = weight[:, None] * (cost - np.take_along_axis(cost, action[None, :, None], axis=2))
            gain = weight[:, None] * (utility - np.take_along_axis(utility, action[:, None], axis=1))
            assert gain[(extra <= left[:, None, None] - 1e-6).all(axis=0)].max() <= 1e-5
