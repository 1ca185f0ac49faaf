"""Few samples: shrinkage, and what choosing and scoring on the same ones does."""

import numpy as np
import pytest

from alloc_jax.actions import abstain, single, vote
from alloc_jax.measure import measure, plan_utility
from alloc_jax.measure.shrink import shrunk
from alloc_jax.solve import solve
from alloc_jax.types import Source
from tests.logs.sample_logs import make_log

ACTIONS = (single("small"), vote("small", 4), single("large"), vote("large", 4), abstain())


def simulated_log(questions, samples, seed, chance=None):
    """A log of right and wrong, and the true chances of being right f[N, M]."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.8, 0.6, (questions, 2)) if chance is None else chance
    names = [f"s{m}" for m in range(chance.shape[1])] if chance.shape[1] > 2 else ["small", "large"]
    answer = (rng.random((*chance.shape, samples)) > chance[..., None]).astype(np.int32)
    sources = tuple(Source(name) for name in names)
    return make_log(questions, samples, sources=sources, answer=answer, correct=answer == 0), chance


def truth(chance, actions, log):
    """The true utilities f[N, K] of votes between right and one wrong answer."""
    columns = []
    for action in actions:
        p = chance[:, log.source_index(action.source)] if action.source else np.zeros(len(chance))
        if action.samples == 4:  # 3 or 4 right, or a tie of 2 and 2 that a coin decides
            p = p**4 + 4 * p**3 * (1 - p) + 3 * p**2 * (1 - p) ** 2
        columns.append(p)
    return np.stack(columns, axis=1)


def test_shrunken_utilities_are_nearer_to_the_truth_and_know_how_near():
    log, chance = simulated_log(2000, 6, seed=0)
    true = truth(chance, ACTIONS, log)
    raw, drawn = (measure(log, ACTIONS, shrink=way) for way in (None, "empirical_bayes"))
    before, after = (((table.utility - true) ** 2).mean(axis=0)[:4] for table in (raw, drawn))
    assert (after < 0.95 * before).all(), (before, after)
    claimed = (drawn.utility_se**2).mean(axis=0)[
        :4
    ]  # the errors of 4-votes from 6 samples err upwards, and so does this
    assert ((claimed > 0.95 * after) & (claimed < 1.25 * after)).all(), (claimed, after)
    np.testing.assert_array_equal(drawn.cost, raw.cost)
    np.testing.assert_array_equal(drawn.utility[:, 4], 0)  # abstaining has nothing to learn


def test_the_fewer_samples_the_more_is_drawn():
    _, chance = simulated_log(1000, 64, seed=1)
    weights = []
    for samples in (4, 16, 64):
        part, _ = simulated_log(1000, samples, 2, chance)
        raw, drawn = (measure(part, ACTIONS[:1], shrink=way).utility[:, 0] for way in (None, "empirical_bayes"))
        weights.append(drawn.std() / raw.std())
    assert weights[0] < weights[1] < weights[2] < 1 and weights[2] > 0.95


def test_the_mean_over_questions_stays_where_it_was():
    log, _ = simulated_log(500, 4, seed=3)
    raw, drawn = (measure(log, ACTIONS, shrink=way).utility.mean(axis=0) for way in (None, "empirical_bayes"))
    np.testing.assert_allclose(raw, drawn, atol=1e-5)


def test_questions_that_differ_by_no_more_than_noise_become_one():
    rng = np.random.default_rng(4)
    estimate = rng.binomial(8, 0.5, 400) / 8
    estimate *= 0.5 / estimate.mean()
    error = np.full(400, estimate.std(ddof=1) + 1e-3)
    mean, _ = shrunk(estimate, error, np.full(400, 8), np.ones(400, bool))
    np.testing.assert_allclose(mean, estimate.mean())


def test_estimates_without_error_are_left_alone_and_so_are_questions_without_samples():
    estimate, valid = np.array([0.0, 0.2, 1.0, 0.7]), np.array([True, True, True, False])
    mean, deviation = shrunk(estimate, np.zeros(4), np.full(4, 9), valid)
    np.testing.assert_allclose(mean, estimate)
    assert not deviation.any()
    mean, deviation = shrunk(estimate, np.full(4, 0.2), np.full(4, 9), valid)
    assert mean[3] == 0.7 and deviation[3] == 0.2 and 0 < mean[0] < mean[1] < mean[2] < 1


def test_a_question_with_fewer_samples_is_drawn_further():
    mean, _ = shrunk(np.array([0.0, 0.0, 1.0, 1.0]), np.full(4, 0.2), np.array([2, 20, 2, 20]), np.ones(4, bool))
    assert mean[0] > mean[1] and mean[2] < mean[3]


def test_a_single_sample_borrows_the_noise_of_the_others():
    estimate, error = np.array([0.0, 1.0, 0.5, 0.5, 1.0]), np.array([0.2, 0.2, 0.2, 0.2, np.nan])
    mean, deviation = shrunk(estimate, error, np.array([4, 4, 4, 4, 1]), np.ones(5, bool))
    assert 0.5 < mean[4] < mean[1] < 1 and deviation[4] > deviation[1] > 0
    with pytest.raises(ValueError, match="needs two samples or more on some questions"):
        shrunk(estimate, np.full(5, np.nan), np.ones(5, int), np.ones(5, bool))


def test_covariances_follow_the_deviations():
    log, _ = simulated_log(300, 6, seed=5)
    table = measure(log, ACTIONS, shrink="empirical_bayes", covariance=True)
    diagonal = np.diagonal(table.utility_cov, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, table.utility_se**2, atol=1e-6)
    assert np.linalg.eigvalsh(table.utility_cov.astype(np.float64)).min() > -1e-6


def test_shrinkage_that_cannot_learn_is_refused():
    log, _ = simulated_log(1, 4, seed=6)
    with pytest.raises(ValueError, match="learns from the other questions, and there are 1"):
        measure(log, ACTIONS, shrink="empirical_bayes")
    with pytest.raises(ValueError, match="shrink is None or 'empirical_bayes', got 'bayes'"):
        measure(log, ACTIONS, shrink="bayes")


@pytest.mark.long
def test_the_winners_curse_flatters_a_plan_scored_on_the_samples_it_was_chosen_on_and_a_split_removes_it():
    questions, sources = 1500, 6
    rng = np.random.default_rng(7)
    alike = rng.beta(2, 2, (questions, 1)) + np.zeros(sources)  # no source is better: all choosing is by noise
    log, _ = simulated_log(questions, 16, 8, alike)
    actions = [single(source.name) for source in log.sources]
    choose, score = (measure(half, actions) for half in log.split_samples(0))
    plan = np.asarray(solve(choose.problem(), 1.0).action)
    true = truth(alike, actions, log)[np.arange(questions), plan].mean()
    flattered, fair = (plan_utility(table, [plan]) for table in (choose, score))
    assert flattered.utility[0] - true > 0.1
    assert abs(fair.utility[0] - true) < 3 * np.sqrt((score.utility_se**2).mean() / questions)
    # All 16 samples at once flatter less, but still by many standard errors.
    whole = measure(log, actions)
    best = np.asarray(solve(whole.problem(), 1.0).action)
    assert whole.utility[np.arange(questions), best].mean() - true > 0.08
    # Drawn towards the mean, utilities promise less.
    modest = measure(log, actions, shrink="empirical_bayes")
    promised = modest.utility[np.arange(questions), np.asarray(solve(modest.problem(), 1.0).action)].mean()
    assert promised < whole.utility[np.arange(questions), best].mean() - 0.01
