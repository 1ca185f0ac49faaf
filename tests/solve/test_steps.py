"""The exact frontier's steps: the hulls of every question, in one order, with exact totals, however they are shared out in blocks."""

import numpy as np
import pytest

from alloc_jax.solve import frontier, prepare
from alloc_jax.solve.breakpoints import steps
from alloc_jax.types import Status
from tests.precision import double_precision
from tests.solve import reference
from tests.solve.instances import FAMILIES, cases, mean_of, problem_of, tied

CASES = list(cases())
EACH = pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
FEW = 64  # questions or steps of a block: five blocks of the largest case, and many of its steps


@EACH
def test_every_question_takes_the_steps_of_its_hull_in_order(case):
    _, utility, cost, valid, weight = case
    found = frontier(problem_of(utility, cost, valid, weight)).steps
    question, action = found.moved(slice(None))
    allowed = np.ones(cost.shape, bool) if valid is None else valid
    for i, (u, c, ok) in enumerate(zip(utility.astype(float), cost.astype(float), allowed, strict=True)):
        own = [found.start[i], *action[question == i]]
        assert ok[own].all()
        assert list(zip(c[own], u[own], strict=True)) == reference.hull_steps(u[ok], c[ok])


@EACH
def test_blocks_change_no_breakpoint_and_no_plan(case, monkeypatch):
    _, utility, cost, valid, weight = case
    problem = problem_of(utility, cost, valid, weight)
    whole = frontier(problem)
    budgets = np.linspace(float(whole.spend[0]), 1.1 * float(whole.spend[-1]), 9)
    plans = [whole.at(budget) for budget in budgets]
    monkeypatch.setattr(steps, "BLOCK", FEW)
    parted = frontier(problem)
    for name in ("spend", "utility", "multiplier"):
        np.testing.assert_allclose(getattr(parted, name), getattr(whole, name), rtol=2e-7, err_msg=name)
    for budget, expected in zip(budgets, plans, strict=True):
        plan = parted.at(budget)
        assert plan.action.tolist() == expected.action.tolist()
        assert mean_of(cost, plan.action, weight) <= budget * (1 + 1e-12)
        best = reference.value(utility, cost, budget, valid, weight)
        np.testing.assert_allclose(plan.mixed_utility, best, atol=1e-6)
        np.testing.assert_allclose(plan.utility, mean_of(utility, plan.action, weight), rtol=1e-7)


@EACH
def test_compiled_loops_give_the_same_to_the_bit(case, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(steps, "BLOCK", FEW)
    prepared = prepare(problem_of(*case[1:]))
    found = []
    for least in (0, np.inf):
        monkeypatch.setattr(steps, "COMPILED", least)
        taken, points = steps.steps_of(prepared)
        added = taken.extra.reshape(-1)[steps.of_keys(taken.keys)[0]]
        found.append((taken.start, taken.keys.tolist(), added, taken.totals, points))
    assert steps.compiled_loops() is not None
    for compiled, plain in zip(*found, strict=True):
        np.testing.assert_array_equal(compiled, plain)


@EACH
def test_every_breakpoint_is_a_budget_that_suffices(case):
    _, utility, cost, valid, weight = case
    found = frontier(problem_of(utility, cost, valid, weight))
    spend, best, multiplier = (np.asarray(x, np.float64) for x in (found.spend, found.utility, found.multiplier))
    assert (np.diff(spend) >= 0).all() and (np.diff(best) >= 0).all() and (np.diff(multiplier) < 0).all()
    for m in range(0, len(spend), 1 + len(spend) // 20):
        plan = found.at(spend[m])
        assert plan.status == Status.OPTIMAL
        assert mean_of(utility, plan.action, weight) >= best[m] - 2e-7 * max(1, abs(best[m]))


@pytest.mark.parametrize("family", FAMILIES)
def test_float64_keeps_its_digits(family):
    utility, cost = FAMILIES[family](np.random.default_rng(3), 300, 8, np.float64)
    with double_precision():
        found = frontier(problem_of(utility, cost))
        spend, best, _ = reference.frontier(utility, cost)
        np.testing.assert_allclose(np.interp(spend, found.spend, found.utility), best, rtol=1e-12)
        budget = float(spend[len(spend) // 2]) + 1e-3
        np.testing.assert_allclose(found.at(budget).mixed_utility, np.interp(budget, spend, best), rtol=1e-12)


def test_many_steps_of_one_slope_are_one_piece(monkeypatch):
    utility, cost = tied(np.random.default_rng(4), 300)
    monkeypatch.setattr(steps, "BLOCK", 16)
    found = frontier(problem_of(utility, cost))
    slopes = {slope for row in zip(utility, cost, strict=True) for slope in _slopes(*row)}
    assert len(found.multiplier) == 1 + len(slopes)


def _slopes(utility, cost):
    hull = np.float32(reference.hull_steps(utility, cost))
    return (np.diff(hull[:, 1]) / np.diff(hull[:, 0])).tolist()
