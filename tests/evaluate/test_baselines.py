"""Rules to beat: what they say of a training question, they say without having seen it."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.baselines import NearestNeighbours, RidgeRegression, prompt_length
from alloc_jax.learn import Given
from alloc_jax.measure import measure, menu
from tests.conftest import made_log


@pytest.fixture(scope="module")
def table():
    log = made_log(questions=40, samples=8)
    table = measure(log, menu(log, votes=(1, 4)), "tokens")
    return replace(table, question=tuple(f"{i} {text}" for i, text in enumerate(table.question)))


def given(table, width=3):
    features = np.random.default_rng(0).normal(size=(len(table), width)) + table.utility[:, :width]
    return Given.of("given", table.question, features - features.mean(axis=0))


def test_a_ridge_regression_says_of_a_training_question_what_one_without_it_would(table):
    known = given(table)
    whole = RidgeRegression("ridge", table, known, penalty=1e-6)  # with a penalty, the scale of features counts, too
    for i in (0, 17):
        rest = RidgeRegression("ridge", table.select(np.delete(np.arange(len(table)), i)), known, penalty=1e-6)
        said = rest.predict_features(known.encode(table.question[i : i + 1]))
        np.testing.assert_allclose(whole._calibration.score[i], said.score[0], atol=2e-5)
        np.testing.assert_allclose(whole._calibration.cost[i], said.cost[0], rtol=1e-4)


def twice(table):
    """The first 20 questions, and 20 others under the same texts but for the way of writing."""
    texts = [f"Question {i}" for i in range(20)]
    return replace(table, question=(*texts, *(text.upper() for text in texts)))


def test_a_ridge_regression_leaves_out_questions_of_one_text_together(table):
    twins = twice(table)
    known = given(twins)
    whole = RidgeRegression("ridge", twins, known, penalty=1e-6)
    for i in (0, 17):
        pair = [i, i + 20]
        rest = RidgeRegression("ridge", twins.select(np.delete(np.arange(40), pair)), known, penalty=1e-6)
        said = rest.predict_features(known.encode([twins.question[j] for j in pair]))
        np.testing.assert_allclose(whole._calibration.score[pair], said.score, atol=2e-5)
        np.testing.assert_allclose(whole._calibration.cost[pair], said.cost, rtol=1e-4)


def test_neighbours_of_a_training_question_have_other_texts(table):
    twins = replace(twice(table), question=tuple(map(str, range(20))) * 2)  # the nearest by far
    text = np.arange(40) % 20
    told = replace(twins, utility=np.broadcast_to(text[:, None], twins.utility.shape).astype(np.float32))
    near = NearestNeighbours("kNN", told, neighbours=1)  # predicts which text is the nearest
    assert (near._calibration.score != text[:, None]).all()
    np.testing.assert_array_equal(near.predict_features(near.featurizer.encode(twins.question)).score, told.utility)
    assert (NearestNeighbours("kNN", told, neighbours=99)._calibration.score[0] == told.utility[text > 0].mean()).all()

    alone = NearestNeighbours("kNN", table, neighbours=5)  # where no text repeats, only the question itself is left out
    placed, own = alone._placed(alone.featurizer.encode(table.question)), np.arange(len(table))
    nearest = alone._known.nearest(placed, 5, (own, own))
    np.testing.assert_array_equal(alone._calibration.score, table.utility[nearest].mean(axis=1))


def test_neighbours_of_a_training_question_have_other_groups_where_those_to_come_have(table):
    group = np.arange(40) % 8
    grouped = replace(table, group=tuple(map(str, group)))
    told = replace(grouped, utility=np.broadcast_to(group[:, None], table.utility.shape).astype(np.float32))
    near = NearestNeighbours("kNN", told, neighbours=1, by_group=True)  # predicts which group is the nearest
    assert (near._calibration.score != group[:, None]).all()
    assert (NearestNeighbours("kNN", told, neighbours=1)._calibration.score == group[:, None]).any()
    length = prompt_length(told, by_group=True)
    assert length._calibration.score.tolist() != prompt_length(told)._calibration.score.tolist()


@pytest.mark.parametrize("rule", [NearestNeighbours, RidgeRegression])
def test_one_text_everywhere_is_refused(table, rule):
    with pytest.raises(ValueError, match="every question has the same text"):
        rule("rule", replace(table, question=("the same",) * len(table)))


def test_a_ridge_regression_finds_a_linear_outcome_and_shrinks_to_the_mean(table):
    features = np.concatenate([table.utility, table.cost], axis=1)
    known = Given.of("outcomes", table.question, features)
    exact = RidgeRegression("ridge", table, known, penalty=1e-6).predict_features(known.encode(table.question))
    np.testing.assert_allclose(exact.score, table.utility, atol=1e-3)
    shrunk = RidgeRegression("ridge", table, known, penalty=1e9).predict_features(known.encode(table.question))
    np.testing.assert_allclose(shrunk.score, np.broadcast_to(table.utility.mean(axis=0), shrunk.score.shape), atol=1e-4)


def test_a_ridge_regression_keeps_the_budget(table):
    ridge = RidgeRegression("ridge", table, given(table))
    cheapest, dearest = (float(f(table.cost, axis=1).mean()) for f in (np.min, np.max))
    budget = 0.5 * (cheapest + dearest)
    multiplier = ridge.multiplier(budget)
    action = multiplier.choose(ridge._calibration, np.random.default_rng(0).random(len(table)))
    assert table.cost[np.arange(len(table)), action].mean() == pytest.approx(budget, rel=0.1)
