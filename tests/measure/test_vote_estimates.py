"""The k-vote: exact over all subsets, and with standard errors that cover."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from alloc_jax.actions import vote
from alloc_jax.measure.estimators.choice import estimate_actions
from alloc_jax.measure.estimators.u_statistics import Pairs
from alloc_jax.measure.estimators.vote_batches import win_moments
from alloc_jax.measure.estimators.vote_kernel import vote_batch
from tests.logs.sample_logs import counted_vote, enumerated_vote, vote_of, worth_of
from tests.precision import double_precision

EVERY = tuple(range(1, 9))  # the votes of 8 samples; one set for many tests, because each set is compiled once


def count(answer, correct=None, n=None) -> Pairs:
    """Pairs of rows of answers; answer 0 is right unless `correct` says otherwise, and n gives ragged lengths."""
    answer = np.asarray(answer)
    correct = answer == 0 if correct is None else np.asarray(correct)
    n = np.full(len(answer), answer.shape[1]) if n is None else np.asarray(n)
    return Pairs(answer, correct, np.arange(answer.shape[1]) < n[:, None])


def expected_votes(pairs: Pairs, votes) -> tuple[np.ndarray, np.ndarray]:
    """Utilities and standard errors [P, V] of k-votes."""
    found = estimate_actions(pairs, [vote("s", k) for k in votes])
    return np.stack([part.mean for part in found], axis=1), np.stack([part.error for part in found], axis=1)


def random_answers(pairs, n, seed):
    """Answers with few or many classes, and some samples without one."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(-1, rng.integers(1, 8), n) for _ in range(pairs)])


def pair_of(target, others, silent=0) -> Pairs:
    """One pair with these counts, the target right."""
    classes = [0] * target + [j + 1 for j, c in enumerate(others) for _ in range(c)] + [-1] * silent
    return count([classes])


def test_equals_enumeration_over_all_subsets_also_where_graders_disagree():
    answer = random_answers(40, 8, seed=0)
    rng = np.random.default_rng(1)
    correct = (answer >= 0) & ((answer % 3 == 0) ^ (rng.random(answer.shape) < 0.2))
    utility, _ = expected_votes(count(answer, correct), EVERY)
    for i, j in itertools.product(range(len(answer)), range(8)):
        expected = enumerated_vote(answer[i].tolist(), correct[i], EVERY[j])
        assert utility[i, j] == pytest.approx(float(expected), abs=2e-6)


@pytest.mark.parametrize(
    "target, others, silent",
    [
        (20, (18, 9, 4, 3, 2, 2, 1, 1, 1, 1), 2),
        (2, (2,) * 31, 0),
        (4, (3, 2) + (1,) * 50, 5),
        (1, (1,) * 60, 3),
        (64, (), 0),
    ],
)
def test_equals_integer_arithmetic_at_64_samples(target, others, silent):
    utility, _ = expected_votes(pair_of(target, others, silent), (4, 8, 16))
    expected = [float(counted_vote(target, others, silent, k)) for k in (4, 8, 16)]
    np.testing.assert_allclose(utility[0], expected, atol=2e-6)


def test_neither_overflows_nor_drifts_at_a_thousand_samples_and_256_votes():
    utility, error = expected_votes(pair_of(480, (470,), 50), (2, 256))
    expected = [float(counted_vote(480, (470,), 50, k)) for k in (2, 256)]
    np.testing.assert_allclose(utility[0], expected, atol=1e-5)
    assert np.isfinite(error).all()


@pytest.mark.parametrize(
    "target, others, silent",
    [
        pytest.param(90, (80, 20, 7, 1, 1), 1, marks=pytest.mark.long),
        (3, (3,) * 30 + (1,) * 20, 7),
        pytest.param(12, (9,) * 10 + (2,) * 30, 38, marks=pytest.mark.long),
    ],
)
def test_equals_integer_arithmetic_where_many_winning_counts_are_possible(target, others, silent):
    votes = (40, 64, 100)  # one pass, and more nodes than are summed at once
    utility, error = expected_votes(pair_of(target, others, silent), votes)
    expected = [float(counted_vote(target, others, silent, k)) for k in votes]
    np.testing.assert_allclose(utility[0], expected, atol=2e-6)
    alone = np.stack([expected_votes(pair_of(target, others, silent), (k,))[1][0, 0] for k in votes])
    np.testing.assert_allclose(error[0], alone, rtol=1e-3, atol=1e-6)


def test_a_vote_of_two_equals_a_vote_of_one_where_every_sample_has_an_answer():
    answer = np.maximum(random_answers(30, 8, seed=2), 0)
    utility, _ = expected_votes(count(answer), EVERY)
    np.testing.assert_allclose(utility[:, 1], utility[:, 0], atol=1e-6)


def test_a_vote_over_all_samples_is_that_one_vote():
    answer = random_answers(30, 8, seed=3)
    utility, _ = expected_votes(count(answer), EVERY)
    expected = [float(vote_of(row, worth_of(row, np.equal(row, 0)))) for row in answer.tolist()]
    np.testing.assert_allclose(utility[:, -1], expected, atol=2e-6)


def test_no_answer_never_wins():
    utility, _ = expected_votes(pair_of(1, (), silent=7), EVERY)
    np.testing.assert_allclose(utility[0], np.arange(1, 9) / 8, atol=1e-6)  # right wherever it is drawn at all
    utility, error = expected_votes(pair_of(0, (), silent=8), EVERY)
    assert not utility.any() and not error.any()


def test_neither_the_order_of_samples_nor_the_names_of_answers_matter():
    answer = random_answers(20, 8, seed=4)
    rng = np.random.default_rng(5)
    shuffled = rng.permuted(answer, axis=1)
    renamed = np.where(shuffled >= 0, 11 - shuffled, -1)
    before, after = expected_votes(count(answer), EVERY), expected_votes(count(renamed, renamed == 11), EVERY)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_pairs_of_different_sizes_share_a_batch_and_change_nothing():
    answer = random_answers(24, 64, seed=6)
    n = np.random.default_rng(7).integers(16, 65, len(answer))
    together = expected_votes(count(answer, n=n), (4, 8, 16))
    for i in range(len(answer)):
        alone = expected_votes(count(answer[i : i + 1, : n[i]]), (4, 8, 16))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=2e-5)


def test_draws_of_all_classes_add_up_to_k_where_the_answer_wins():
    counts = count(random_answers(30, 8, seed=8)).answers
    pair, slot = np.nonzero(counts.count)
    votes = EVERY[1:]
    win, drawn, silent = win_moments(counts.count[pair], counts.silent[pair], slot, votes)
    np.testing.assert_allclose(drawn.sum(axis=2) + silent, win * np.array(votes), atol=1e-5)
    nobody = (counts.silent[:, None] == 8) | (counts.silent[:, None] >= np.array(votes))
    total = np.stack([np.bincount(pair, w, minlength=30) for w in win.T], axis=1)
    np.testing.assert_allclose(total[~nobody], 1, atol=1e-5)  # someone wins


def test_the_standard_error_is_the_delete_one_jackknife_up_to_its_bound():
    answer = random_answers(30, 8, seed=9)
    _, error = expected_votes(count(answer), EVERY)
    worth = {a: Fraction(a == 0) for a in range(-1, 8)}
    for i, k in itertools.product(range(len(answer)), range(2, 8)):
        row = answer[i].tolist()
        mean = float(enumerated_vote(row, None, k, worth))
        without = [float(enumerated_vote(row[:j] + row[j + 1 :], None, k, worth)) for j in range(8)]
        jackknife = 7 / 8 * sum((u - mean) ** 2 for u in without)
        bound = k * (mean - mean**2) / (8 - k)
        assert error[i, k - 1] == pytest.approx(min(jackknife, bound) ** 0.5, abs=1e-3)


def test_the_standard_error_of_one_sample_is_that_of_a_mean():
    _, error = expected_votes(pair_of(3, (2,)), (1,))
    assert error[0, 0] == pytest.approx((0.6 * 0.4 / 4) ** 0.5)


def test_with_all_samples_voting_the_variance_is_that_of_the_exact_bootstrap():
    answer = np.array([[0, 0, 1, 2], [0, 1, 1, -1], [0, 0, 0, 0], [0, 1, 2, 3]])
    _, error = expected_votes(count(answer), (4,))
    worth = {a: Fraction(a == 0) for a in range(-1, 4)}
    for row, got in zip(answer.tolist(), error[:, 0], strict=True):
        wins = [float(vote_of(draw, worth)) for draw in itertools.product(row, repeat=4)]
        # A tie is worth the mean of its answers: what a coin would add says nothing of the samples. And n / (n - 1), as for a mean.
        assert got == pytest.approx(np.std(wins) * (4 / 3) ** 0.5, abs=1e-4)


def simulated(questions, n, votes, seed):
    """Estimates on `questions` questions of random difficulty with n samples each, and what they estimate."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1.2, 0.8, 0.4, 0.2, 0.2], questions)
    draws = (rng.random((questions, n, 1)) > p.cumsum(axis=1)[:, None, :-1]).sum(axis=2)
    return p, expected_votes(count(draws), votes)


def test_intervals_of_means_over_questions_cover():
    votes, n, questions, repeats = (1, 4, 8), 32, 150, 400
    p, _ = simulated(questions, n, votes, seed=10)
    rng = np.random.default_rng(11)
    draws = (rng.random((repeats * questions, n, 1)) > np.tile(p, (repeats, 1)).cumsum(axis=1)[:, None, :-1]).sum(
        axis=2
    )
    utility, error = (x.reshape(repeats, questions, -1).astype(np.float64) for x in expected_votes(count(draws), votes))
    truth = utility.mean(axis=(0, 1))  # unbiased: 60,000 tables
    miss = np.abs(utility.mean(axis=1) - truth) > 1.96 * np.sqrt((error**2).sum(axis=1)) / questions
    assert np.all((miss.mean(axis=0) > 0.02) & (miss.mean(axis=0) < 0.08)), miss.mean(axis=0)
    # The variance itself, question by question: right to a few percent, and rather too large than too small.
    ratio = (error**2).mean(axis=(0, 1)) / utility.var(axis=0).mean(axis=0)
    assert np.all((ratio > 0.97) & (ratio < 1.2)), ratio


def test_the_estimate_from_few_samples_is_unbiased():
    _, (few, _) = simulated(4000, 8, (1, 4, 8), seed=12)
    _, (many, _) = simulated(4000, 64, (1, 4, 8), seed=12)
    np.testing.assert_allclose(few.mean(axis=0), many.mean(axis=0), atol=0.012)


def test_a_log_and_its_halves_share_one_trace():
    answer = random_answers(600, 64, seed=13)
    expected_votes(count(answer), (1, 4, 8))
    traces = vote_batch._cache_size()
    expected_votes(count(answer[:500, :32]), (1, 4, 8))
    assert vote_batch._cache_size() == traces


def test_double_precision_elsewhere_changes_nothing():
    pairs = count(random_answers(10, 8, seed=14))
    single = expected_votes(pairs, EVERY)
    with double_precision():
        double = expected_votes(pairs, EVERY)
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_vote_that_no_pair_can_hold_is_refused():
    with pytest.raises(ValueError, match="between 1 and 8 samples"):
        expected_votes(pair_of(4, (4,)), (2, 9))
