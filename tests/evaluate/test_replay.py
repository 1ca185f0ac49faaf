"""Replay on logs: it sees no future, sweeps all multipliers at once, and meets budgets exactly."""

import numpy as np
import pytest

from alloc_jax.evaluate.sequential.replay import Replay, replay, replay_frontier, replay_rule
from alloc_jax.evaluate.sequential.stopping_rules import (
    beta_confidence,
    dirichlet_confidence,
    fixed,
    until_right,
    window,
)
from alloc_jax.stopping.paths import Paths, sample_paths
from alloc_jax.stopping.sequential import solve_sequential
from tests.conftest import made_log


@pytest.fixture(scope="module")
def paths() -> Paths:
    return sample_paths(made_log(questions=80, samples=12), "large", resource="tokens", orders=6)


def leaky(paths: Paths) -> np.ndarray:
    """Goes on where the question will be answered rightly in the end."""
    return np.where(paths.utility[..., -1:] > 0.5, 1.0, 0.0) - 0.01 * np.arange(paths.cap)


def slightly_leaky(paths: Paths) -> np.ndarray:
    """Knows what the next sample is going to cost."""
    return -paths.cost


@pytest.mark.parametrize("rule", [leaky, slightly_leaky])
def test_a_rule_that_peeks_is_caught(rule, paths):
    with pytest.raises(ValueError, match="the rule peeks: after"):
        replay(rule, paths)


@pytest.mark.long
@pytest.mark.parametrize("rule", [fixed, beta_confidence, dirichlet_confidence, lambda paths: window(paths, 3)])
def test_rules_that_do_not_peek_pass(rule, paths):
    assert isinstance(replay(rule, paths), Replay)


def walked(index: np.ndarray, paths: Paths, multiplier: float) -> tuple[float, float]:
    """Spend and utility of drawing while the index is at least the multiplier: one sample after the other."""
    spend = utility = 0.0
    for i in range(len(paths)):
        for p in range(paths.cost.shape[1]):
            n = 0
            while n < paths.cap and index[i, p, n] >= multiplier:
                spend += paths.cost[i, p, n]
                n += 1
            utility += paths.utility[i, p, n]
    count = len(paths) * paths.cost.shape[1]
    return spend / count, utility / count


@pytest.mark.parametrize("rule", [fixed, beta_confidence])
def test_one_sort_gives_what_walking_every_path_at_every_multiplier_gives(rule, paths):
    play = replay(rule, paths)
    found = play.rules()
    index = rule(paths)
    for m in {0, 1, len(found.spend) // 2, len(found.spend) - 1}:
        spend, utility = walked(index, paths, found.multiplier[m])
        assert found.spend[m] == pytest.approx(spend, rel=1e-6)
        assert found.utility[m] == pytest.approx(utility, rel=1e-5)
        outcome = play.outcome(found.multiplier[m])
        assert outcome.cost.mean() == pytest.approx(spend, rel=1e-6)
        assert outcome.utility.mean() == pytest.approx(utility, rel=1e-5)


def test_fixed_k_earns_what_k_samples_earn(paths):
    outcome = replay(fixed, paths).outcome(-4.0)
    np.testing.assert_allclose(outcome.utility, paths.utility[:, :, 5].mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("budget", [20.0, 55.5, 101.0])
def test_a_mix_of_two_adjacent_rules_spends_the_budget(budget, paths):
    assert replay(beta_confidence, paths).at(budget).cost.mean() == pytest.approx(budget, rel=1e-6)


def test_until_right_draws_no_more_once_a_sample_was_right():
    log = made_log(questions=50, samples=8)
    right = sample_paths(log, "large", answer="verified", orders=4)
    outcome = replay(until_right, right).outcome(-4.0)
    first = np.where(right.lead[..., 1:].any(axis=2), 1 + np.argmax(right.lead[..., 1:] > 0, axis=2), 99)
    np.testing.assert_allclose(outcome.cost, np.minimum(first, 5).mean(axis=1))
    np.testing.assert_allclose(outcome.utility, (first <= 5).mean(axis=1))


def test_esc_draws_windows_until_one_agrees(paths):
    outcome = replay(lambda paths: window(paths, 4), paths).outcome(0.0)
    code = paths.code[0, 0]
    wanted = next((n for n in (4, 8) if len(set(code[n - 4 : n])) == 1), 12)
    single = sample_paths(made_log(questions=80, samples=12), "large", orders=6)
    drawn = replay(lambda paths: window(paths, 4), single).bar[0, 0] > 0
    assert drawn.sum() == wanted
    assert outcome.cost.mean() > paths.cost[..., :4].sum(axis=2).mean()


def test_the_dirichlet_rule_is_the_beta_rule_where_two_answers_occur():
    log = made_log(questions=40, samples=10)
    two = np.minimum(log.answer, 1)
    paths = sample_paths(type(log)(**{**vars(log), "answer": two}), "large", orders=4)
    np.testing.assert_allclose(dirichlet_confidence(paths), beta_confidence(paths), atol=2e-4)


def test_the_rules_of_a_frontier_spend_on_their_own_paths_what_they_say():
    log = made_log(questions=120, samples=12)
    frontier = solve_sequential(log, "large", cap=8, orders=6, seed=5)
    paths = sample_paths(log, "large", cap=8, orders=6, seed=5)
    for budget in (1.5, 2.0, 3.0):
        outcome = replay_rule(
            frontier.at(budget), [replay_frontier(frontier, paths, np.zeros(120, int))], np.zeros(120, int)
        )
        assert outcome.cost.mean() == pytest.approx(budget, rel=1e-6)
        assert outcome.utility.mean() == pytest.approx(float(frontier.value(budget)), rel=1e-5)


def test_paths_that_are_too_short_are_refused():
    log = made_log(questions=60, samples=8)
    frontier = solve_sequential(log, "large", orders=2)
    with pytest.raises(ValueError, match="cannot be replayed on paths of 4 samples"):
        replay_frontier(frontier, sample_paths(log, "large", cap=4, orders=2), np.zeros(60, int))
