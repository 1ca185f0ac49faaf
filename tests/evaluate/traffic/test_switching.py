"""Whether a candidate is safe to switch on: yes, no, so many more, or that the log cannot tell."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.traffic.switching import MORE, NO, UNKNOWN, YES, anytime, compare_candidate
from alloc_jax.learn.calibration import Prediction
from tests.evaluate.traffic.made import made_world

BUDGET = 2.5


@pytest.fixture(scope="module")
def world():
    return made_world()


def test_a_better_one_a_worse_one_and_too_little(world):
    traffic, better, _ = world.traffic(20000, 0, explore=0.5)
    assert compare_candidate(traffic, better, BUDGET, margin=0.02).verdict == YES
    upside_down = Prediction(1 - better.score, better.cost)
    found = compare_candidate(traffic, upside_down, BUDGET, margin=0.01)
    assert found.verdict == NO and found.more is None
    few = slice(0, 4000)
    little = compare_candidate(traffic.select(few), Prediction(better.score[few], better.cost[few]), BUDGET, margin=0.0)
    assert little.verdict == MORE and little.more > 0
    assert little.always.low < little.difference.low < little.difference.value < little.always.high


def test_the_number_that_is_lacking_is_about_the_number_that_is_needed(world):
    traffic, better, _ = world.traffic(20000, 1, explore=0.5)
    few = slice(0, 4000)
    found = compare_candidate(traffic.select(few), Prediction(better.score[few], better.cost[few]), BUDGET, margin=0.01)
    assert found.verdict == MORE and 300 < found.more < 8000
    most = slice(0, 4000 + 4 * found.more)
    assert (
        compare_candidate(traffic.select(most), Prediction(better.score[most], better.cost[most]), BUDGET, 0.01).verdict
        == YES
    )


def test_what_the_log_cannot_show_is_said_by_name(world):
    traffic, better, _ = world.traffic(4000, 2, explore=0.0)
    found = compare_candidate(traffic, better, BUDGET)
    assert found.verdict == UNKNOWN and "vote(m,4)" in found.lacking and found.difference is None


def test_an_interval_that_is_looked_at_again_and_again_holds_the_truth(world):
    """The share of streams in which the truth ever lies outside, over looks from 100 sessions on, is below 5 %."""
    rng, misses = np.random.default_rng(0), 0
    for _ in range(200):
        terms = rng.random(2000) < 0.3
        for count in range(100, 2001, 50):
            found, _, _ = anytime(terms[:count].astype(float), np.arange(count))
            if not found.low <= 0.3 <= found.high:
                misses += 1
                break
    assert misses <= 10


def test_rules_in_the_policys_place_are_what_a_candidate_is_compared_with(world):
    traffic, better, _ = world.traffic(8000, 3, explore=0.3)
    many = len(traffic.actions)
    rng = np.random.default_rng(0)
    rule = (traffic.action == traffic.behaviour.argmax(axis=1)) & (rng.random(len(traffic)) < 0.7 / 0.775)
    action = np.where(rule, many, traffic.action).astype(np.int32)
    behaviour = np.full((len(traffic), many + 1), 0.3 / many, np.float32)
    behaviour[:, many] = 0.7
    wider = replace(
        traffic, actions=(*traffic.actions, "escalation"), action=action, behaviour=behaviour,
        utility=np.pad(traffic.utility, ((0, 0), (0, 1))), cost=np.pad(traffic.cost, ((0, 0), (0, 1))),
        allowed=np.ones((len(traffic), many + 1), bool),
    )  # fmt: skip
    found = compare_candidate(wider, better, BUDGET, margin=1.0)
    assert found.verdict == YES and found.live.share["escalation"] == 1 and found.candidate.share["escalation"] == 0
