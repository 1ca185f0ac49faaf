"""Pictures and what stands beside them: bins that tell whether predictions can be believed, labels apart, words with the numbers."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alloc_jax.evaluate import evaluate
from alloc_jax.evaluate.baselines import NearestNeighbours, prompt_length
from alloc_jax.evaluate.reliability import reliability
from alloc_jax.measure import measure, menu
from alloc_jax.report.pictures.diagnostics import plot_calibration, plot_regret, plot_shares, plot_sizes, share_right
from alloc_jax.report.pictures.frontiers import plot_frontier, plot_multiplier
from alloc_jax.report.pictures.style import spread_out
from alloc_jax.report.tables import whole_percent
from alloc_jax.solve import frontier
from tests.conftest import made_log


def drawn(rng, questions=400, actions=3, samples=8):
    chance = rng.random((questions, actions))
    return chance, rng.binomial(samples, chance) / samples


def test_true_chances_are_reliable_and_their_intervals_cover():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(30):
        chance, measured = drawn(rng)
        found = reliability(chance, measured, replicates=200)
        covered += [m.low <= p <= m.high for p, m in zip(found.predicted, found.measured, strict=True)]
        assert found.error < 0.03
        assert found.count.sum() == chance.size and np.ptp(found.count) <= 1
    assert 0.88 < np.mean(covered) < 0.99


def test_intervals_know_that_the_actions_of_a_question_err_together():
    rng = np.random.default_rng(1)
    one = rng.random((300, 1))
    same = np.repeat(one, 6, axis=1)
    flat = np.full_like(same, 0.5)
    (alone,), (together,) = (reliability(flat[:, :k], same[:, :k], bins=1).measured for k in (1, 6))
    assert together.high - together.low == pytest.approx(alone.high - alone.low)


def test_a_prediction_that_flatters_is_off_by_what_it_flatters():
    chance, measured = drawn(np.random.default_rng(2))
    honest, flattering = (reliability(chance + shift, measured) for shift in (0.0, 0.2))
    assert flattering.error == pytest.approx(0.2, abs=0.01) and honest.error < 0.02


def test_equal_predictions_share_a_bin_and_invalid_pairs_none():
    predicted = np.array([[0.0, 0.5], [0.0, 0.5], [0.0, 0.9]])
    valid = np.array([[True, True], [True, True], [True, False]])
    found = reliability(predicted, predicted, valid=valid, bins=10)
    np.testing.assert_array_equal(found.predicted, [0.0, 0.5])
    np.testing.assert_array_equal(found.count, [3, 2])
    with pytest.raises(ValueError, match="one shape"):
        reliability(predicted, predicted[:, :1])


def test_labels_keep_their_order_their_distance_and_their_place_where_there_is_room():
    rng = np.random.default_rng(0)
    for _ in range(50):
        heights = np.sort(rng.random(rng.integers(1, 8)))
        apart = spread_out(heights, 0.1)
        assert (np.diff(apart) >= 0.1 - 1e-9).all()
        assert apart.mean() == pytest.approx(heights.mean())
    np.testing.assert_allclose(spread_out([0.1, 0.5, 0.9], 0.1), [0.1, 0.5, 0.9])


@pytest.fixture(scope="module")
def held_out():
    log = made_log(questions=120, samples=32)
    learn, test = log.split_questions((0.5, 0.5), 0)
    train, choose, score = (
        measure(part, menu(log, votes=(1, 4)), "samples") for part in (learn, *test.split_samples(1))
    )
    report = evaluate([NearestNeighbours("kNN", train), prompt_length(train)], choose, score, (1.5, 2.5), replicates=50)
    return report, choose, score


def test_every_picture_is_small_and_told_in_words_with_its_numbers(held_out, tmp_path):
    report, choose, score = held_out
    row = report.row("kNN", 2.5)
    path = tmp_path / "picture.png"
    accuracy, regret = f"{100 * row.accuracy.value:.1f}", f"{100 * row.regret.regret.value:.1f}"
    found = reliability(score.utility, choose.utility)
    closed = whole_percent(row.closed.value)
    sizes = replace(
        report, rows=tuple(replace(r, rule=f"{r.rule}, 50.0%") for r in report.rows), policies=("kNN, 50.0%",)
    )
    ends = f"{100 * found.predicted[0]:.0f} as"
    for plot, number in (
        (lambda: plot_frontier(report, path, ["kNN"]), f"kNN {accuracy} "),
        (lambda: plot_multiplier(frontier(choose.problem()), report.budgets, report.unit, path), "at a budget of 1.5"),
        (lambda: plot_shares(score.actions, share_right(choose), [("kNN", row.plan)], path), "hardest group gets"),
        (lambda: plot_calibration([("utility (%)", {"kNN": found})], len(score), path), ends),
        (lambda: plot_regret(report, path), f"kNN at 2.5: {regret} of at most"),
        (lambda: plot_sizes(sizes, 60, path), f"kNN at 2.5: {closed} from 30"),
    ):
        assert number in plot()
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.convert("L").histogram().count(0) < 246
        assert path.stat().st_size < 150_000
        path.unlink()
