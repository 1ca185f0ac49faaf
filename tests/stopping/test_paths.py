"""Paths of samples drawn one at a time: what they say after n samples, against plain counting and the exact expectations."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.actions import passes, vote
from alloc_jax.measure import measure
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.types import SampleLog
from tests.conftest import made_log


def with_silence(log: SampleLog) -> SampleLog:
    """Every fifth sample gives no answer."""
    silent = np.random.default_rng(3).random(log.answer.shape) < 0.2
    return replace(log, answer=np.where(silent, -1, log.answer), correct=log.correct & ~silent)


def test_states_are_what_counting_the_answers_drawn_so_far_gives():
    log = with_silence(made_log(questions=12, samples=9))
    paths = sample_paths(log, "large", orders=3)
    for i in range(12):
        for p in range(3):
            for n in range(10):
                drawn = [c for c in paths.code[i, p, :n] if c >= 0]
                top = [count for _, count in Counter(drawn).most_common()]
                wanted = [*top, 0, 0][:2]
                assert [paths.lead[i, p, n], paths.chase[i, p, n]] == wanted
                assert paths.distinct[i, p, n] == len(top)


def test_each_path_is_an_order_of_the_logged_samples():
    log = with_silence(made_log(questions=20, samples=8))
    paths = sample_paths(log, "small", orders=4)
    for i in range(20):
        wanted = sorted(Counter(log.answer[i, 0][log.answer[i, 0] >= 0]).values())
        for p in range(4):
            assert sorted(Counter(paths.code[i, p][paths.code[i, p] >= 0]).values()) == wanted
    orders = paths.code.reshape(-1, 8)
    assert len(np.unique(orders, axis=0)) > 40


@pytest.mark.long
@pytest.mark.parametrize(("answer", "action"), [("vote", vote), ("verified", passes)])
def test_the_mean_over_orders_tends_to_the_exact_expectation(answer, action):
    log = with_silence(made_log(questions=60, samples=10))
    sizes = (1, 2, 3, 5, 8, 10)
    table = measure(log, [action("large", k) for k in sizes], "samples")
    paths = sample_paths(log, "large", answer=answer, orders=400)
    found = paths.utility[:, :, list(sizes)]
    error = np.sqrt(table.utility * (1 - table.utility) / 400)
    assert (np.abs(found.mean(axis=1) - table.utility) < 5 * error + 0.005).all()
    assert np.abs((found - table.utility[:, None]).mean()) < 0.003


def test_costs_are_those_of_the_samples_in_their_order():
    log = made_log(questions=5, samples=6)
    paths = sample_paths(log, "small", resource="tokens", orders=2)
    total = log.tokens[:, 0].sum(axis=1)
    np.testing.assert_allclose(paths.cost.sum(axis=2), np.broadcast_to(total[:, None], (5, 2)), rtol=1e-6)


def test_the_best_reward_answers():
    log = made_log(questions=30, samples=6)
    reward = np.random.default_rng(0).normal(size=log.correct.shape).astype(np.float32)
    log = replace(log, reward=np.where(log.correct, 1 + reward, reward))
    paths = sample_paths(log, "large", answer="best", orders=3, bins=np.float32([0.0, 1.0]))
    best = np.argmax(np.where(log.sampled[:, 1], log.reward[:, 1], -np.inf), axis=1)
    whole = log.correct[np.arange(30), 1, best]
    np.testing.assert_array_equal(paths.utility[:, :, -1], np.broadcast_to(whole[:, None], (30, 3)))
    level = 1 + np.searchsorted([0.0, 1.0], log.reward[np.arange(30), 1, best], side="right")
    np.testing.assert_array_equal(paths.lead[:, :, -1], np.broadcast_to(level[:, None], (30, 3)))
    assert (np.diff(paths.lead) >= 0).all()


def test_fewer_samples_than_the_cap_are_refused_by_name():
    log = made_log(questions=6, samples=8)
    count = log.count.copy()
    count[4, 1] = 3
    short = replace(log, count=count)
    with pytest.raises(ValueError, match="'q4': 3"):
        sample_paths(short, "large", cap=8)
    assert sample_paths(short, "large").cap == 3
    count[4, 1] = 0
    with pytest.raises(ValueError, match="'q4' has none"):
        sample_paths(replace(log, count=count), "large")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "guess"}, "answer is one of vote, verified, best"),
        ({"answer": "best"}, "no rewards|has none"),
        ({"orders": 0}, "orders is 1 or more"),
        ({"resource": "seconds"}, "latency_s"),
        ({"resource": "joules"}, "unknown resource"),
    ],
)
def test_what_cannot_be_walked_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sample_paths(made_log(questions=4, samples=4), "large", **options)


def test_votes_need_answers():
    log = made_log(questions=4, samples=4)
    with pytest.raises(ValueError, match="a vote counts answers"):
        sample_paths(replace(log, answer=np.full_like(log.answer, -1)), "large")
