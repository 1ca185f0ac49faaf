"""How sure means over questions are: covariances of actions that share samples, and intervals that cover."""

import itertools

import numpy as np
import pytest

from alloc_jax.actions import abstain, best_of, passes, single, unanimous, vote
from alloc_jax.measure import format_table, measure, plan_utility
from alloc_jax.measure.estimators.choice import estimate_actions
from alloc_jax.measure.estimators.u_statistics import Pairs, covariance
from alloc_jax.solve import solve
from tests.logs.sample_logs import make_log
from tests.measure.rules import average, pair_at, random_pairs

ACTIONS = (
    single("small"),
    vote("large", 8),
    vote("large", 4),
    passes("small", 4),
    best_of("large", 4),
    unanimous("large", 4),
    abstain(),
)
PAIRS = ((1, 0), (2, 0), (2, 1), (3, 2), (4, 1))  # of plans that are compared


def simulated_log(questions, samples, seed, chance=None):
    """A log of questions of random difficulty, or with these chances of every answer f[N, M, 4]."""
    rng = np.random.default_rng(seed)
    chance = difficulties(questions, rng) if chance is None else chance
    draws = rng.random((questions, 2, samples, 1)) > chance.cumsum(axis=2)[:, :, None, :-1]
    answer = np.array([0, -1, 1, 2], np.int32)[draws.sum(axis=3)]
    reward = ((answer == 0) + rng.normal(0, 1, answer.shape)).astype(np.float32)
    return make_log(questions=questions, samples=samples, answer=answer, correct=answer == 0, reward=reward)


def difficulties(questions, rng):
    return rng.dirichlet([1.2, 0.4, 0.8, 0.3], (questions, 2))


def misses(utility, error, truth):
    """The share of nominal 95 % intervals that miss."""
    return np.mean(np.abs(utility - truth) > 1.959964 * error, axis=0)


def assert_covers(miss):
    assert np.all((miss >= 0.03) & (miss <= 0.07)), miss


def gains(scored):
    """Paired differences and their errors, f64[2, R, pairs]."""
    return np.array([[one.difference(*pair) for pair in PAIRS] for one in scored]).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def same_questions():
    """Plans of three budgets, chosen on other samples, and two actions for all: on 60 questions, scored on 1,200 logs."""
    questions, repeats = 60, 1200
    chance = difficulties(questions, np.random.default_rng(0))
    problem = measure(simulated_log(questions, 16, 1, chance), ACTIONS).problem()
    plans = [*(np.asarray(solve(problem, budget).action) for budget in (1.0, 2.0, 3.5)), ACTIONS[1], ACTIONS[2]]
    log = simulated_log(repeats * questions, 16, 2, np.tile(chance, (repeats, 1, 1)))
    table = measure(log, ACTIONS, covariance=True)
    parts = [table.select(range(r * questions, (r + 1) * questions)) for r in range(repeats)]
    return [plan_utility(part, plans, questions="fixed") for part in parts]


@pytest.mark.long
def test_intervals_over_fixed_questions_cover(same_questions):
    utility, error = (np.stack([getattr(one, name) for one in same_questions]) for name in ("utility", "error"))
    assert_covers(misses(utility, error, utility.mean(axis=0)))  # the estimates are unbiased


@pytest.mark.long
def test_paired_differences_of_a_frontier_over_fixed_questions_cover(same_questions):
    gain, error = gains(same_questions)
    assert_covers(misses(gain, error, gain.mean(axis=0)))


@pytest.mark.long
def test_errors_of_two_votes_over_all_the_same_samples_are_safe_and_surer_than_unpaired_ones(same_questions):
    """Where the linear parts cancel, the rest remains, on which the jackknife errs upwards: here by up to 2 in variance."""
    gain, error = np.array([one.difference(4, 3) for one in same_questions]).T
    assert 1 < np.mean(error**2) / gain.var() < 2 and misses(gain, error, gain.mean()) < 0.05
    alone = np.array([one.covariance[4, 4] + one.covariance[3, 3] for one in same_questions])
    assert np.mean(alone) > 3 * np.mean(error**2)


def paired_with_one_sample(samples, repeats, chance, seed):
    """Differences between a vote of all samples and one sample on fixed questions, and their errors, f64[repeats] each."""
    questions = len(chance)
    log = simulated_log(repeats * questions, samples, seed, np.tile(chance, (repeats, 1, 1)))
    table = measure(log, [single("small"), vote("small", samples)], covariance=True)
    parts = (table.select(range(r * questions, (r + 1) * questions)) for r in range(repeats))
    return np.array(
        [
            plan_utility(part, [0 * part.samples[:, 0], 0 * part.samples[:, 0] + 1], "fixed").difference()
            for part in parts
        ]
    ).T


@pytest.mark.long
@pytest.mark.parametrize("samples", [4, 8])
def test_the_paired_error_of_a_vote_of_all_samples_against_one_covers(samples):
    gain, error = paired_with_one_sample(samples, 400, difficulties(60, np.random.default_rng(5)), 6)
    assert 0.7 < np.mean(error**2) / gain.var() < 1.4
    assert misses(gain, error, gain.mean()) < 0.1


@pytest.mark.long
@pytest.mark.parametrize("spread", [(1.2, 0.4, 0.8, 0.3), (2.0, 0.001, 2.0, 0.001)])
@pytest.mark.parametrize("samples", [3, 4, 8, 16])
def test_the_paired_error_of_a_vote_of_all_samples_covers_whatever_their_number(samples, spread):
    chance = np.random.default_rng(7).dirichlet(spread, (100, 2))
    gain, error = paired_with_one_sample(samples, 2000, chance, 8)
    assert 0.02 < misses(gain, error, gain.mean()) < 0.08


def test_the_error_of_one_sample_is_unknown_and_not_0():
    count = np.full((6, 2), 4, np.int32)
    count[2, 0] = 1
    log = make_log(6, 4, count=count)
    table = measure(log, ["single(small)", "vote(small,1)", "single(large)"], covariance=True)
    np.testing.assert_array_equal(np.isnan(table.utility_se), [[i == 2, i == 2, False] for i in range(6)])
    assert np.isnan(table.utility_cov[2, :2, :2]).all() and np.isfinite(table.utility_cov[2, 2]).sum() == 3
    assert np.isfinite(table.utility_cov[[0, 1, 3, 4, 5]]).all()
    with pytest.raises(ValueError, match=r"question 'q2' has one sample for single\(small\)"):
        plan_utility(table, ["single(small)"], questions="fixed")
    assert np.isfinite(plan_utility(table, ["single(large)"], questions="fixed").error).all()
    assert np.isfinite(plan_utility(table, ["single(small)"]).error).all()
    assert "single(small)" in format_table(table) and "nan" not in format_table(table)


@pytest.mark.long
def test_intervals_and_paired_differences_over_sampled_questions_cover():
    questions, repeats = 150, 1000
    table = measure(simulated_log(repeats * questions, 16, 3), ACTIONS)
    parts = [table.select(range(r * questions, (r + 1) * questions)) for r in range(repeats)]
    anything = np.random.default_rng(4).integers(len(ACTIONS), size=(repeats, questions))
    scored = [plan_utility(part, [*ACTIONS[:4], plan]) for part, plan in zip(parts, anything, strict=True)]
    utility, error = (np.stack([getattr(one, name) for one in scored]) for name in ("utility", "error"))
    assert_covers(misses(utility, error, utility.mean(axis=0)))
    gain, error = gains(scored)
    assert_covers(misses(gain, error, gain.mean(axis=0)))


def test_the_covariance_of_two_rules_is_that_of_their_delete_one_differences():
    pairs = random_pairs(10, 7, seed=4)
    actions = [vote("s", 2), passes("s", 3), best_of("s", 2), unanimous("s", 2)]
    influence = np.stack([part.influence for part in estimate_actions(pairs, actions)])
    found = np.einsum("vps,wps->pvw", influence, influence)
    for i in range(len(pairs.answer)):
        differences = np.zeros((len(actions), 7))
        for a, action in enumerate(actions):

            def mean_over(samples, i=i, action=action):
                draws = itertools.combinations(samples, action.samples)
                return average(action.aggregator, pair_at(pairs, i), draws)[0]

            for j in range(7):
                differences[a, j] = mean_over([x for x in range(7) if x != j]) - mean_over(range(7))
        np.testing.assert_allclose(found[i], differences @ differences.T * 6 / 7, atol=2e-5)


def test_a_covariance_is_positive_semidefinite_with_the_squared_errors_on_its_diagonal():
    table = measure(simulated_log(80, 8, 5), ACTIONS, covariance=True)
    diagonal = np.diagonal(table.utility_cov, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, table.utility_se**2, atol=1e-6)
    assert np.linalg.eigvalsh(table.utility_cov.astype(np.float64)).min() > -1e-6
    sources = np.array([str(action.source) for action in ACTIONS])
    assert not table.utility_cov[:, sources[:, None] != sources].any()  # other sources have samples of their own
    assert not table.utility_cov[:, -1].any()  # abstaining is certain


def test_where_nothing_varies_nothing_is_uncertain():
    pairs = Pairs(np.zeros((1, 8), int), np.ones((1, 8), bool), np.ones((1, 8), bool), np.ones((1, 8)))
    found = estimate_actions(pairs, [vote("s", 4), passes("s", 8), best_of("s", 3)])
    error = np.stack([part.error for part in found], axis=1)
    np.testing.assert_allclose(error, 0, atol=2e-3)
    assert np.isfinite(covariance(np.stack([part.influence for part in found], axis=1), error)).all()


def test_a_mixed_plan_is_the_mean_of_its_actions():
    table = measure(simulated_log(40, 8, 6), ACTIONS, covariance=True)
    even = np.full(table.utility.shape, 1 / len(ACTIONS))
    scored = plan_utility(table, [even, even], questions="fixed")
    assert scored.utility[0] == pytest.approx(table.utility.mean(), abs=1e-6)
    each = np.einsum("nkl->n", table.utility_cov.astype(np.float64)) / len(ACTIONS) ** 2
    assert scored.error[0] == pytest.approx(np.sqrt(each.sum()) / 40, rel=1e-5)
    gain, error = scored.difference()
    assert gain == 0 and error == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    "plans, options, message",
    [
        ([np.zeros(3, int)], {}, r"a plan is \(6,\) actions or \(6, 1\) probabilities, got int64\[3\]"),
        ([np.full(6, 0.5)], {}, "a plan is"),
        ([np.full((6, 1), 0.5)], {}, "a plan is"),
        ([np.full(6, 1)], {}, "between 0 and 0, got 1 to 1"),
        (["vote(small,4)"], {}, r"no action vote\(small,4\)"),
        (["vote(small,2)"], {}, "plan 0 takes .* on question 'q2', where it has no samples"),
        (["vote(small,2)"], {"questions": "all"}, "'sampled' or 'fixed', got 'all'"),
        (["vote(small,2)"], {"questions": "fixed"}, "covariance=True"),
    ],
)
def test_a_plan_that_cannot_be_scored_is_refused(plans, options, message):
    count = np.full((6, 2), 4, np.int32)
    count[2, 0] = 0 if "no samples" in message else 4
    table = measure(make_log(count=count), ["vote(small,2)"])
    with pytest.raises(ValueError, match=message):
        plan_utility(table, plans, **options)
