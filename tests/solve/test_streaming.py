"""A table that is read in blocks has the plan of the same table in memory."""

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from alloc_jax.solve import solve
from alloc_jax.solve.streaming.bracketing import HostBracket, HostEnd, next_multipliers
from alloc_jax.solve.streaming.passes import AHEAD, read_ahead, to_device
from alloc_jax.solve.streaming.processes import flat, in_form
from alloc_jax.solve.streaming.stream import solve_stream
from alloc_jax.types import AllocationProblem, Status
from tests.devices import run_on_eight
from tests.solve.instances import FAMILIES, mean_of, smooth, tied
from tests.solve.test_one_budget import assert_certified, budgets_of


def blocks_of(rows, utility, cost, valid=None, weight=None):
    parts = [slice(start, start + rows) for start in range(0, len(utility), rows)]
    every = utility, cost, valid, weight
    return [AllocationProblem(*(None if x is None else x[at] for x in every)) for at in parts]


def action_of(solution, blocks):
    return np.concatenate(list(solution.plan(blocks)))


def written(solution, blocks):
    """A stream's solution as `solve` gives it."""
    numbers = {name: getattr(solution, name) for name in solution.__dataclass_fields__}
    return SimpleNamespace(**numbers, action=action_of(solution, blocks))


def assert_alike(one, other):
    for name in ("dual_value", "mixed_spend", "mixed_utility"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6, err_msg=name)
    # The integral plans may leave out different questions, the worth of one each.
    np.testing.assert_allclose(one.gap, other.gap, atol=1 / one.questions)
    assert one.status == other.status


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("questions", "rows"), [(290, 100), *(pytest.param(*x, marks=pytest.mark.long) for x in ((300, 300), (3, 1)))]
)
def test_agrees_with_the_reference_and_never_overspends(family, masked, questions, rows):
    rng = np.random.default_rng([questions, masked])
    utility, cost = FAMILIES[family](rng, questions, 4)
    valid = weight = None
    if masked:
        valid = rng.uniform(size=utility.shape) < 0.7
        valid[:, 0] = True
        weight = np.float32(rng.integers(0, 4, questions))
        weight[: rows // 2] = 0  # a first block of which little counts
        weight[-1] = 2.5
    blocks = blocks_of(rows, utility, cost, valid, weight)
    for budget in budgets_of(utility, cost, valid, weight)[[0, 2, 5, 8, 10]]:
        found = written(solve_stream(blocks, budget), blocks)
        assert found.questions == questions
        assert_certified(found, utility, cost, valid, weight, budget)


@pytest.mark.long
@pytest.mark.parametrize("family", [smooth, tied])
def test_an_ordered_table_costs_passes_and_nothing_else(family):
    utility, cost = family(np.random.default_rng(2), 30_000, 4)
    order = np.argsort(utility[:, -1] - utility[:, 0])
    utility, cost = utility[order], cost[order]
    for budget in (1.5, 2.5, 6.0):
        blocks = blocks_of(1024, utility, cost)
        found, inside = solve_stream(blocks, budget), solve(AllocationProblem(utility, cost), budget)
        assert_alike(found, inside)
        assert -1e-12 <= found.mixed_gap <= 1.1e-7 and found.passes <= 5
        assert mean_of(cost, action_of(found, blocks)) <= budget


def test_below_the_cheapest_plan_the_status_is_infeasible_and_the_plan_the_cheapest():
    utility, cost = np.float32([[1, 2, 5], [4, 3, 9]]), np.float32([[2, 2, 3], [1, 1, 7]])
    blocks = blocks_of(1, utility, cost)
    found = solve_stream(blocks, 1.49)
    assert (found.status, found.spend) == (Status.INFEASIBLE, 1.5)
    assert action_of(found, blocks).tolist() == [1, 0]


def test_above_the_dearest_useful_plan_the_multiplier_is_zero():
    blocks = blocks_of(1, np.float32([[0, 1, 1], [0.5, 0.5, 0.2]]), np.float32([[1, 2, 5], [1, 3, 4]]))
    found = solve_stream(blocks, 100)
    assert (found.multiplier, found.spend, found.mixed_spend, found.gap) == (0, 1.5, 1.5, 0)
    assert action_of(found, blocks).tolist() == [1, 0]


def test_an_invalid_question_is_named_by_its_place_in_the_whole_table():
    utility, cost = smooth(np.random.default_rng(0), 100, 3)
    utility[57, 2] = np.nan
    with pytest.raises(ValueError, match="utility is not finite on question 57, action 2"):
        solve_stream(blocks_of(20, utility, cost), 2.0)


def test_what_cannot_stream_is_refused_by_name():
    utility, cost = smooth(np.random.default_rng(0), 20, 3)
    with pytest.raises(ValueError, match="the weights sum to 0"):
        solve_stream([AllocationProblem(utility, cost, weight=np.zeros(20, np.float32))], 2.0)
    with pytest.raises(ValueError, match="weight of question 27 is not a finite number"):
        solve_stream(
            blocks_of(10, *smooth(np.random.default_rng(0), 30, 3), None, -np.float32(np.arange(30) == 27)), 2.0
        )
    with pytest.raises(ValueError, match=r"block 1: .*resources"):
        solve_stream([AllocationProblem(utility, cost), AllocationProblem(utility, np.stack([cost] * 2, 2))], 2.0)
    with pytest.raises(ValueError, match="block 1: cost is"):
        solve_stream([AllocationProblem(utility, cost), AllocationProblem(utility, cost[:5])], 2.0)
    with pytest.raises(ValueError, match="no blocks"):
        solve_stream([], 2.0)
    with pytest.raises(ValueError, match="budget"):
        solve_stream(blocks_of(20, utility, cost), float("nan"))


def test_a_broken_block_ends_the_pass_with_its_own_error():
    class Broken(list):
        def __iter__(self):
            yield self[0]
            raise OSError("the disk is gone")

    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        solve_stream(Broken(blocks_of(20, *smooth(np.random.default_rng(0), 100, 3))), 2.0)
    assert threading.active_count() == before


def test_the_next_blocks_are_read_while_one_is_computed_and_no_more_than_a_few():
    """So that neither waits for the other, and memory does not grow with the table."""
    many = 20
    read, enough = [], threading.Event()

    class Slow(list):
        def __iter__(self):
            for i, block in enumerate(super().__iter__()):
                read.append(i)
                if i == 1 + AHEAD:
                    enough.set()
                yield block

    ahead = read_ahead(Slow(blocks_of(5, *smooth(np.random.default_rng(0), 5 * many, 3))), to_device, None)
    next(ahead)  # in hand, and computed for as long as it takes
    assert enough.wait(30), "nothing was read while a block was in hand"
    time.sleep(0.2)
    assert len(read) == 2 + AHEAD  # in hand, in the queue, and one that waits for a place in it
    assert len(list(ahead)) == many - 1 and read == list(range(many))


def test_a_plan_of_other_blocks_is_refused():
    utility, cost = smooth(np.random.default_rng(0), 100, 3)
    found = solve_stream(blocks_of(20, utility, cost), 2.0)
    with pytest.raises(ValueError, match="block 3 is not what it was"):
        action_of(found, blocks_of(20, np.where(np.arange(100)[:, None] < 60, utility, 0), cost))
    with pytest.raises(ValueError, match="2 blocks where 5 were solved"):
        action_of(found, blocks_of(20, utility[:40], cost[:40]))


@pytest.mark.long
def test_a_search_resumes_after_any_pass_to_the_same_plan():
    utility, cost = smooth(np.random.default_rng(5), 5000, 4)
    order = np.argsort(utility[:, 0])  # a first block that does not represent the table
    utility, cost = utility[order], cost[order]
    blocks, saved = blocks_of(1024, utility, cost), []
    whole = solve_stream(blocks, 4.0, save=lambda bracket: saved.append(json.dumps(flat(bracket).tolist())))
    assert len(saved) == whole.passes > 1
    for text in saved:
        bracket = in_form(np.asarray(json.loads(text)), HostBracket.form())
        found = solve_stream(blocks, 4.0, resume=bracket)
        assert np.array_equal(action_of(found, blocks), action_of(whole, blocks))
        assert found.spend == whole.spend and found.multiplier == whole.multiplier
    with pytest.raises(ValueError, match="over 5000 questions on a table of 4096"):
        solve_stream(blocks[:-1], 4.0, resume=bracket)


class Threads:
    """Processes as threads of one."""

    def __init__(self, count):
        self.count, self.barrier, self.said = count, threading.Barrier(count), [None] * count

    def peer(self, rank):
        def gather(mine):
            self.said[rank] = np.asarray(mine, np.float64)
            self.barrier.wait()
            everything = np.stack(self.said)
            self.barrier.wait()
            return everything

        return SimpleNamespace(rank=rank, count=self.count, gather=gather)

    def run(self, parts, budget):
        found = [None] * self.count

        def work(rank):
            try:
                found[rank] = solve_stream(parts[rank], budget, peers=self.peer(rank))
            except ValueError as error:
                found[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


@pytest.mark.parametrize("family", [smooth, tied])
def test_processes_that_share_a_table_make_the_plan_of_one(family):
    utility, cost = family(np.random.default_rng(3), 9000, 4)
    blocks = blocks_of(1024, utility, cost)
    parts = [blocks[:2], blocks[2:6], blocks[6:]]
    for budget in (0.3, 1.7, 3.0, 100.0):
        alone, found = solve_stream(blocks, budget), Threads(3).run(parts, budget)
        for one in found:
            assert_alike(one, alone)
            assert one.questions == 9000 and one.mixed.question == found[0].mixed.question
        action = np.concatenate([action_of(one, part) for one, part in zip(found, parts, strict=True)])
        assert mean_of(cost, action) <= max(budget, cost.min(axis=1).mean(dtype=np.float64))
        np.testing.assert_allclose(mean_of(cost, action), found[0].spend, rtol=1e-12)
        np.testing.assert_allclose(mean_of(utility, action), found[0].utility, rtol=1e-12)


def test_an_invalid_question_of_one_process_ends_all():
    utility, cost = smooth(np.random.default_rng(0), 100, 3)
    cost[71, 1] = -1
    blocks = blocks_of(20, utility, cost)
    one, other = Threads(2).run([blocks[:2], blocks[2:]], 2.0)
    assert "cost is negative on question 71, action 1" in str(other)
    assert "process 1 found an invalid question" in str(one)


@given(
    st.floats(0, 1, width=32),
    st.floats(2.0**-20, 10, width=32),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_a_pass_narrows_the_bracket_at_least_sevenfold(low, width, share, bend):
    high = float(np.float32(low + width))
    more, less = HostEnd(low, 2.0, 1.0 + low + bend * (high - low)), HostEnd(high, 1.0, 1.0)
    bracket = HostBracket(more, less, high, 0.0, 10, 3)
    found = next_multipliers(bracket, 1 + share)
    assert ((found > low) & (found < high)).all() and (np.diff(found) > 0).all() and found.size <= 16
    edges = np.concatenate([[low], found, [high]])
    if high <= 16 * low:
        assert np.diff(edges).max() <= (high - low) / 7 + 2 * np.spacing(np.float32(high))


PROGRAM = """
import jax, numpy as np
from alloc_jax.solve.streaming.stream import solve_stream
from tests.solve.instances import mean_of, smooth
from tests.solve.test_streaming import action_of, assert_alike, blocks_of
utility, cost = smooth(np.random.default_rng(0), 20_003, 4)
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
blocks = blocks_of(4100, utility, cost)
for budget in (0.5, 2.0, 50.0):
    one, shared = solve_stream(blocks, budget), solve_stream(blocks, budget, mesh=mesh)
    assert_alike(one, shared)
    action = action_of(shared, blocks)
    np.testing.assert_allclose(mean_of(cost, action), shared.spend, rtol=1e-12)
    np.testing.assert_allclose(mean_of(utility, action), shared.utility, rtol=1e-12)
"""


@pytest.mark.long
def test_blocks_are_shared_out_over_a_mesh():
    run_on_eight(PROGRAM)
