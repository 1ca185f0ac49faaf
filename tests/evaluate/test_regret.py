"""The regret, its terms and its bounds, on tables with ties and without."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from alloc_jax.evaluate.intervals import Bootstrap
from alloc_jax.evaluate.outcomes import Means, one_hot_plan
from alloc_jax.evaluate.regret import bracket, decompose_regret, label_agreement, mispriced
from alloc_jax.solve import solve
from alloc_jax.types import AllocationProblem

MULTIPLIERS = (0.0, 0.01, 0.1, 1.0, 10.0)
shape = (40, 4)  # one shape: one compilation


def made(seed: int, tied: bool):
    """A table of utilities and costs; tied ones are few numbers, so that many questions switch at one multiplier."""
    rng = np.random.default_rng(seed)
    utility = rng.integers(0, 5, shape) / 4 if tied else rng.random(shape)
    cost = rng.integers(1, 4, shape) if tied else rng.uniform(1, 4, shape)
    return table_of(utility.astype(np.float32), cost.astype(np.float32))


def table_of(utility, cost):
    problem = AllocationProblem(utility, cost)
    return SimpleNamespace(utility=utility, cost=cost, valid=np.ones(utility.shape, bool), problem=lambda: problem)


def regret_of(table, plan, budget, multiplier, best, other=None):
    both = {"utility": (plan * table.utility).sum(axis=1), "cost": (plan * table.cost).sum(axis=1)}
    means = Bootstrap(len(plan), 2, 0).means({**both, "lost": mispriced(table, plan, multiplier)})
    earned = Means(means["utility"], means["cost"])
    return decompose_regret(table, plan, budget, multiplier, best, earned, means["lost"], other)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.floats(2.0, 3.5), st.booleans())
def test_regret_is_its_terms_at_the_optimal_multiplier_and_at_most_them_at_any(seed, tied, budget, mixed):
    table = made(seed, tied)
    rng = np.random.default_rng(seed + 1)
    plan = rng.dirichlet(np.ones(4), 40) if mixed else one_hot_plan(rng.integers(0, 4, 40), 4)
    solution = solve(table.problem(), budget)
    best = float(solution.mixed_utility)
    exact = regret_of(table, plan, budget, float(solution.multiplier), best)
    assert exact.regret.value == pytest.approx(exact.mispriced.value + exact.unspent.value, abs=5e-6)
    for multiplier in MULTIPLIERS:
        terms = regret_of(table, plan, budget, multiplier, best)
        assert terms.regret.value <= terms.mispriced.value + terms.unspent.value + 5e-6
        assert terms.mispriced.value <= (1 - terms.best_response.rate) * terms.worst_gap + 1e-9
        assert terms.mispriced.value + terms.unspent.value <= terms.bound + 1e-9
        assert terms.best_response.rate <= 1 + 1e-12


def test_without_the_slack_term_the_bound_is_false():
    # One question, two actions: the cheap one is a best response at this multiplier, so nothing is mispriced, yet the budget
    # would have paid for the dear one.
    table = table_of(np.array([[0.0, 1.0]], np.float32), np.array([[1.0, 3.0]], np.float32))
    best = float(solve(table.problem(), 3.0).mixed_utility)
    terms = regret_of(table, one_hot_plan(np.array([0]), 2), 3.0, 0.5, best)
    assert (1 - terms.best_response.rate) * terms.worst_gap == 0
    assert terms.regret.value == pytest.approx(1.0)
    assert terms.bound == pytest.approx(1.0)


def test_ties_at_the_multiplier_are_no_errors():
    table = made(3, tied=True)
    solution = solve(table.problem(), 2.0)
    plan = one_hot_plan(np.asarray(solution.action), 4)
    terms = regret_of(table, plan, 2.0, float(solution.multiplier), float(solution.mixed_utility))
    assert terms.best_response.rate == 1
    assert terms.mispriced.value == 0


def test_doing_the_same_everywhere_reaches_the_majority_rate_and_no_more():
    table = made(5, tied=False)
    rates = []
    for k in range(4):
        plan = one_hot_plan(np.full(40, k), 4)
        rates.append(regret_of(table, plan, 2.0, 0.1, 1.0).best_response)
    assert max(agrees.rate for agrees in rates) == pytest.approx(rates[0].majority)


def test_perfect_knowledge_lies_in_its_bracket():
    # Labels are drawn from each question's own chances; the best guess of one who knows the chances is their mode.
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.full(5, 0.5), 20_000)
    first, second = ((chances.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1).clip(max=4) for _ in range(2))
    found = label_agreement(one_hot_plan(chances.argmax(axis=1), 5), first, second)
    low, high = found.noise_ceiling
    assert low < found.rate < high
    assert found.rate > found.majority + 0.2
    assert bracket(1.0) == (1.0, 1.0)


def test_other_samples_of_the_same_truth_bracket_the_best_responses():
    rng = np.random.default_rng(1)
    truth = rng.random((2000, 3))
    cost = np.broadcast_to(np.array([1.0, 2.0, 3.0], np.float32), truth.shape)
    first, second = (table_of(rng.binomial(20, truth).astype(np.float32) / 20, cost) for _ in range(2))
    knowing = one_hot_plan((truth - 0.1 * cost).argmax(axis=1), 3)
    found = regret_of(first, knowing, 2.0, 0.1, 1.0, other=second).best_response
    assert found.noise_ceiling[0] - 0.01 < found.rate < found.noise_ceiling[1]
    assert regret_of(first, knowing, 2.0, 0.1, 1.0).best_response.noise_ceiling is None
