"""A table with several resources that is read in blocks has the plan of the same table in memory."""

import json

import numpy as np
import pytest

from alloc_jax.solve import solve
from alloc_jax.solve.streaming import several
from alloc_jax.solve.streaming.processes import flat, in_form
from alloc_jax.solve.streaming.several import HostDescent
from alloc_jax.solve.streaming.stream import solve_stream
from alloc_jax.types import AllocationProblem, Status
from tests.devices import run_on_eight
from tests.solve.instances import FAMILIES, mean_of, smooth, tied
from tests.solve.test_streaming import Threads, action_of, blocks_of


def instance(family, seed, questions, resources, part=0.4):
    """Utility, cost of several resources and budgets between the least they can be and an even plan's."""
    rng = np.random.default_rng(seed)
    utility, cost = family(rng, questions, 4)
    others = [rng.integers(0, 5, cost.shape) for _ in range(resources - 1)]
    cost = np.stack([cost, *others], axis=2).astype(np.float32)
    least, even = (x.mean(axis=0, dtype=np.float64) for x in (cost.min(axis=1), cost.mean(axis=1)))
    return utility, cost, least + part * (even - least)


def assert_certified(found, blocks, utility, cost, budget, valid=None, weight=None):
    """The plan is within its budgets, its numbers are its own, and the bound is the one that `solve` finds in memory."""
    inside = solve(AllocationProblem(utility, cost, valid, weight), budget)
    action = action_of(found, blocks)
    np.testing.assert_allclose(mean_of(cost, action, weight), found.spend, rtol=1e-11)
    np.testing.assert_allclose(mean_of(utility, action, weight), found.utility, rtol=1e-11)
    assert (np.asarray(found.spend) <= budget).all() and (np.asarray(found.mixed_spend) <= budget * (1 + 1e-5)).all()
    np.testing.assert_allclose(found.dual_value, inside.dual_value, rtol=1e-6)
    np.testing.assert_allclose(found.mixed_utility, inside.mixed_utility, rtol=2e-6)
    assert found.gap <= float(inside.gap) + 3 * np.ptp(utility) / len(utility) and found.mixed_gap >= -1e-6
    assert found.status == inside.status == Status.OPTIMAL
    if valid is not None:
        assert valid[np.arange(len(action)), action].all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("resources", [2, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_memory_and_never_overspends(monkeypatch, family, resources, masked):
    monkeypatch.setattr(several, "SAMPLE", 90)  # a core of a third of the questions
    utility, cost, budget = instance(FAMILIES[family], [resources, masked], 290, resources)
    valid = weight = None
    if masked:
        rng = np.random.default_rng(0)
        valid = rng.uniform(size=utility.shape) < 0.7
        valid[:, 0] = True
        weight = np.float32(rng.integers(0, 4, 290))
        weight[:100] = 0  # a first block of which nothing counts
        budget = np.average(cost[:, 0], axis=0, weights=weight) * 1.2
    blocks = blocks_of(100, utility, cost, valid, weight)
    assert_certified(solve_stream(blocks, budget), blocks, utility, cost, budget, valid, weight)


@pytest.mark.long
@pytest.mark.parametrize("family", [smooth, tied])
@pytest.mark.parametrize("resources", [2, 3])
def test_a_table_larger_than_its_core_and_in_order(family, resources):
    utility, cost, budget = instance(family, 2, 60_000, resources)
    order = np.argsort(utility[:, -1] - utility[:, 0])
    utility, cost = utility[order], cost[order]
    blocks = blocks_of(8192, utility, cost)
    found = solve_stream(blocks, budget)
    assert_certified(found, blocks, utility, cost, budget)
    assert found.passes <= 15 and found.gap < 1e-4


def test_the_mixed_plan_is_written_too():
    utility, cost, budget = instance(smooth, 4, 290, 2)
    blocks = blocks_of(100, utility, cost)
    found = solve_stream(blocks, budget)
    action = np.concatenate(list(found.plan(blocks, mixed=True)))
    for values, mean in ((cost, found.mixed_spend), (utility, found.mixed_utility)):
        at, other, share = found.mixed.question, found.mixed.other, found.mixed.probability
        change = (values[at, other] - values[at, action[at]]).astype(np.float64)
        mixed = mean_of(values, action) + (change.T * share).T.sum(axis=0) / len(utility)
        np.testing.assert_allclose(mixed, mean, rtol=1e-10)


def test_a_budget_that_changes_nothing_has_multiplier_zero(monkeypatch):
    monkeypatch.setattr(several, "SAMPLE", 90)
    utility, cost, budget = instance(smooth, 5, 290, 2)
    blocks = blocks_of(100, utility, cost)
    found = solve_stream(blocks, [budget[0], 100.0])
    assert found.status == Status.OPTIMAL and found.multiplier[1] == 0 < found.multiplier[0]
    one = solve(AllocationProblem(utility, cost[:, :, 0]), budget[0])
    np.testing.assert_allclose(found.mixed_utility, one.mixed_utility, rtol=1e-6)


def test_budgets_that_cannot_be_met_are_infeasible():
    utility, cost, _ = instance(smooth, 6, 290, 2)
    blocks = blocks_of(100, utility, cost)
    assert solve_stream(blocks, [0.9 * cost[:, :, 0].min(axis=1).mean(), 100.0]).status == Status.INFEASIBLE
    # Each alone can be met, both together cannot.
    opposed = np.stack([cost[:, :, 0], cost[:, ::-1, 0]], axis=2)
    least = opposed.min(axis=1).mean(axis=0)
    assert solve_stream(blocks_of(100, utility, opposed), 1.1 * least).status == Status.INFEASIBLE


def test_what_cannot_stream_is_refused_by_name():
    utility, cost, budget = instance(smooth, 7, 100, 2)
    blocks = blocks_of(20, utility, cost)
    with pytest.raises(ValueError, match="block 0: costs of 2 resources where the budget is for 3"):
        solve_stream(blocks, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="block 0: costs of 2 resources where the budget is for 1"):
        solve_stream(blocks, 2.0)
    with pytest.raises(ValueError, match="the weights sum to 0"):
        solve_stream(blocks_of(20, utility, cost, None, np.zeros(100, np.float32)), budget)
    found = solve_stream(blocks, budget)
    with pytest.raises(ValueError, match="block 3 is not what it was"):
        action_of(found, blocks_of(20, np.where(np.arange(100)[:, None] < 60, utility, 0), cost))
    with pytest.raises(ValueError, match="2 blocks where 5 were solved"):
        action_of(found, blocks[:2])
    cost[57, 2, 1] = -1
    with pytest.raises(ValueError, match="cost is negative on question 57, action 2"):
        solve_stream(blocks_of(20, utility, cost), budget)


def test_a_search_resumes_after_any_pass_to_the_same_plan(monkeypatch):
    monkeypatch.setattr(several, "SAMPLE", 90)
    utility, cost, budget = instance(smooth, 8, 290, 2)
    blocks, saved = blocks_of(100, utility, cost), []
    whole = solve_stream(blocks, budget, save=lambda search: saved.append(json.dumps(flat(search).tolist())))
    assert len(saved) > 1
    for text in saved:
        search = in_form(np.asarray(json.loads(text)), HostDescent.form(2))
        assert json.dumps([search.passes, *search.facts[:3]])  # plain numbers, for the next checkpoint
        found = solve_stream(blocks, budget, resume=search)
        assert np.array_equal(action_of(found, blocks), action_of(whole, blocks))
        assert found.passes == whole.passes and np.array_equal(found.multiplier, whole.multiplier)
    with pytest.raises(ValueError, match="over 290 questions on a table of 200"):
        solve_stream(blocks[:-1], budget, resume=in_form(np.asarray(json.loads(saved[0])), HostDescent.form(2)))


def test_processes_that_share_a_table_make_the_plan_of_one(monkeypatch):
    monkeypatch.setattr(several, "SAMPLE", 90)
    utility, cost, budget = instance(smooth, 9, 290, 2)
    blocks = blocks_of(60, utility, cost)
    parts = [blocks[:1], blocks[1:4], blocks[4:]]
    found = Threads(3).run(parts, budget)
    action = np.concatenate([action_of(one, part) for one, part in zip(found, parts, strict=True)])
    alone = solve_stream(blocks, budget)
    for one in found:
        np.testing.assert_allclose(one.dual_value, alone.dual_value, rtol=1e-6)
        np.testing.assert_allclose(mean_of(cost, action), one.spend, rtol=1e-11)
        np.testing.assert_allclose(mean_of(utility, action), one.utility, rtol=1e-11)
        assert (one.spend <= budget).all() and one.status == Status.OPTIMAL and one.questions == 290
        assert np.array_equal(one.mixed.question, found[0].mixed.question)
    cost[71, 1] = -1
    broken = blocks_of(60, utility, cost)
    one, other, _ = Threads(3).run([broken[:1], broken[1:4], broken[4:]], budget)
    assert "cost is negative on question 71, action 1" in str(other)
    assert "process 1 found an invalid question" in str(one)


PROGRAM = """
import jax, numpy as np
from alloc_jax.solve.streaming.stream import solve_stream
from tests.solve.instances import mean_of, smooth
from tests.solve.test_streaming import action_of, blocks_of
from tests.solve.test_streaming_several import assert_certified, instance
utility, cost, budget = instance(smooth, 1, 20_003, 2)
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
blocks = blocks_of(4100, utility, cost)
assert_certified(solve_stream(blocks, budget, mesh=mesh), blocks, utility, cost, budget)
"""


@pytest.mark.long
def test_blocks_are_shared_out_over_a_mesh():
    run_on_eight(PROGRAM)
