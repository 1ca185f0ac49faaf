"""Cascades against what they should do by hand, and that none of them looks ahead."""

import numpy as np
import pytest

from alloc_jax.evaluate.sequential import cascades
from alloc_jax.evaluate.sequential.cascades import Sweep, chain
from alloc_jax.evaluate.sequential.default_sources import default_ladder
from alloc_jax.stopping.sources.beliefs import log_odds, tables
from alloc_jax.stopping.sources.patterns import make_patterns
from alloc_jax.stopping.sources.walks import Walks, make_walks
from tests.stopping.test_escalate import made_answers, some_classes


def made_walks(answers, right, cost=(1.0, 2.0, 4.0)) -> Walks:
    answer = np.array(answers, np.int32)[:, None, :, None]
    good = np.array(right, bool)[:, None, :, None]
    paid = np.broadcast_to(np.array(cost)[:, None], answer.shape).astype(float)
    return Walks(tuple(f"q{i}" for i in range(len(answer))), answer, good, paid, None)


WALKS = made_walks([[0, 0, 1], [0, 1, 1], [-1, 0, 2]], [[1, 1, 0], [0, 1, 1], [0, 0, 1]])


def test_a_chain_counts_votes_and_costs():
    seen = chain(WALKS, (0, 1, 2))
    np.testing.assert_array_equal(seen.lead[:, 0], [[1, 2, 2], [1, 1, 2], [0, 1, 1]])
    np.testing.assert_array_equal(seen.chase[:, 0], [[0, 0, 1], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(seen.leader[:, 0], [[1, 1, 1], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(seen.paid[0, 0], [1, 3, 7])


def test_an_agreement_cascade_stops_at_agreement_or_asks_the_last():
    sweep = cascades.agreement(WALKS, [(0, 1, 2)])
    two = 1  # votes needed: 1, 2, 3
    np.testing.assert_array_equal(sweep.utility[two], [1, 1, 1])
    np.testing.assert_array_equal(sweep.cost[two], [3, 7, 7])
    np.testing.assert_array_equal(sweep.cost[0], [1, 1, 3])


def test_the_consistency_cascade_lets_the_dear_source_answer():
    sweep = cascades.consistency(WALKS, (1, 1, 1), np.array([1.0, 2.0, 4.0]))
    both = sweep.cost.tolist().index([3, 7, 7])
    np.testing.assert_array_equal(sweep.utility[both], [1, 1, 1])


def test_a_cascade_of_two_sources_is_none_where_there_is_one():
    alone = made_walks([[0], [1]], [[1], [0]], cost=(1.0,))
    sweep = cascades.consistency(alone, (1,), np.array([1.0]))
    assert len(sweep.utility) == 0 and sweep.at(5.0, sweep) is None


def test_esc_and_adaptive_consistency_stop_early_where_answers_agree():
    for sweep in (cascades.esc(WALKS, [(0, 1, 2)]), cascades.adaptive_consistency(WALKS, [(0, 1, 2)])):
        assert [3, 7, 7] in sweep.cost.tolist()


def test_no_cascade_looks_ahead():
    """What comes after a setting stopped changes nothing."""
    rng = np.random.default_rng(0)
    answers, right = rng.integers(-1, 3, (200, 3)), rng.random((200, 3)) < 0.5
    walks = made_walks(answers, right)
    other = made_walks(np.c_[answers[:, :2], (answers[:, 2] + 1) % 3], np.c_[right[:, :2], ~right[:, 2]])
    for make in (cascades.agreement, cascades.adaptive_consistency, cascades.esc):
        before, after = make(walks, [(0, 1, 2)]), make(other, [(0, 1, 2)])
        if before.cost.shape != after.cost.shape:
            continue
        early = before.cost < 7
        np.testing.assert_array_equal(before.cost[early], after.cost[early])
        np.testing.assert_array_equal(before.utility[early], after.utility[early])


def test_settings_are_chosen_on_other_questions_and_mixed_to_the_budget():
    known = Sweep(np.array([[0.2, 0.4], [0.8, 0.8], [0.5, 0.5]]), np.array([[1.0, 1.0], [3.0, 3.0], [2.9, 2.9]]))
    held = Sweep(np.array([[0.0], [1.0], [0.9]]), np.array([[1.0], [3.5], [2.0]]))
    found = held.at(2.0, known)
    assert found.utility == pytest.approx([0.5]) and found.cost == pytest.approx([2.25])
    assert held.at(0.5, known) is None
    assert held.at(2.0, known, mix=False).utility == pytest.approx([0.0])


def test_cascade_routing_spends_more_where_cost_weighs_less():
    log = made_answers(100)
    walks = make_walks(log, ("cheap", "middle", "dear"), (1, 1, 1), resource="usd")
    patterns, promised = make_patterns((1, 1, 1), 3), np.full((100, 3), 0.7)
    right = tables(some_classes(), patterns, log_odds(promised)).right
    cost = np.broadcast_to([1.0, 3.0, 10.0], (100, 3))
    sweep = cascades.cascade_routing(
        walks, patterns, right, promised, np.full(3, 0.2), cost, np.array([1.0, 0.03, 0.001])
    )
    spend = sweep.cost.mean(axis=1)
    assert spend[0] == pytest.approx(1) and spend[0] <= spend[1] <= spend[2] and spend[2] > 1


def test_the_ladder_keeps_the_ends_of_the_hull_and_what_lies_near_it():
    assert default_ladder([0.5, 0.8, 0.4, 0.9], [1, 2, 3, 9]) == [0, 1, 3]
    accuracy, cost = np.linspace(0.5, 0.9, 20) ** 0.5, np.geomspace(1, 100, 20)
    found = default_ladder(accuracy, cost, most=5)
    assert len(found) == 5 and found[0] == 0 and found[-1] == 19
    assert default_ladder([0.7], [1]) == [0]
