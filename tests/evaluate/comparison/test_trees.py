"""Boosted trees as rules: they learn, keep their budget on unseen questions, and say what is missing."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate import evaluate
from alloc_jax.evaluate.comparison.trees import boosted_classes, boosted_gains
from alloc_jax.evaluate.scoring import UNIFORM
from alloc_jax.learn.calibration import Prediction
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.measure import measure, menu
from tests.conftest import made_log

pytest.importorskip("xgboost")
BUDGETS = (1.5, 2.0)
FEW = TextFeatures(shape_buckets=8, character_buckets=16, word_buckets=0)  # a fraction of the time


@pytest.fixture(scope="module")
def tables():
    log = made_log(questions=600, samples=32)
    learn, held_out = log.split_questions((0.5, 0.5), 0)
    halves = held_out.split_samples(1)
    return [measure(part, menu(log, votes=(1, 4, 8)), "samples") for part in (learn, *halves)]


@pytest.fixture(scope="module")
def report(tables):
    train, choose, score = tables
    rules = [boosted_classes(train, BUDGETS), boosted_gains(train)]
    return evaluate(rules, choose, score, BUDGETS, replicates=300)


@pytest.mark.long
@pytest.mark.parametrize("rule", ["trees (classes)", "trees (gains)"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_trees_keep_the_budget_and_are_above_the_uniform_mix(report, rule, budget):
    spend = report.row(rule, budget).spend
    error = np.sqrt(2) * (spend.high - spend.low) / (2 * 1.96)  # as many questions set the multiplier as are scored
    assert abs(spend.value - budget) < 3 * error < 0.3 * budget
    assert report.difference(rule, UNIFORM, budget).low > 0


@pytest.mark.long
def test_gains_have_one_head_and_classes_one_for_each_budget(tables):
    train = tables[0]
    classes, gains = boosted_classes(train, BUDGETS, FEW), boosted_gains(train, FEW)
    assert [gains.head(budget) for budget in BUDGETS] == [None, None]
    assert [classes.head(budget) for budget in (1.4, 1.6, 1.9, 99)] == [0, 0, 1, 1]
    features = classes.featurizer.encode(train.question[:5])
    low, high = (classes.predict_features(features, budget).score for budget in BUDGETS)
    assert not np.allclose(low, high)
    np.testing.assert_allclose(np.exp(low).sum(axis=1), 1, atol=1e-3)


def test_costs_that_differ_between_questions_are_predicted():
    log = made_log(questions=300)
    table = measure(log, menu(log, votes=(1, 4)), "tokens")
    trees = boosted_gains(table, FEW)
    predicted = trees.predict_features(trees.featurizer.encode(table.question)).cost
    assert np.corrcoef(predicted[:, 0], table.cost[:, 0])[0, 1] > 0.9
    assert (predicted >= 0).all()
    np.testing.assert_allclose(predicted[:, 1], 4 * predicted[:, 0], rtol=1e-4)  # votes of one source share their trees


def test_calibration_never_sees_its_own_questions(tables):
    train = tables[0]
    trees = boosted_gains(train, FEW)
    seen = trees.predict_features(trees.featurizer.encode(train.question))
    gain = train.utility - train.utility[:, [0]]
    errors = [np.mean((prediction.score - gain) ** 2) for prediction in (seen, trees.unseen[0])]
    assert errors[0] < 0.8 * errors[1]


def test_questions_of_one_text_are_predicted_by_trees_that_saw_neither(tables, monkeypatch):
    table = tables[0].select(np.arange(40))
    learned_from = []

    def fit(gain, cost, features, rows):
        learned_from.append(rows)
        return lambda x: Prediction(*(np.zeros((len(x), cost.shape[1]), np.float32) for _ in range(2)))

    def folds(question):
        learned_from.clear()
        boosted_gains(replace(table, question=question), FEW, seed=3)
        *parts, whole = learned_from
        assert len(whole) == 40
        return [set(range(40)) - set(rows) for rows in parts]

    monkeypatch.setattr("alloc_jax.evaluate.comparison.trees._fit_gains", fit)
    by_row = np.random.default_rng(3).permutation(40) % 5
    assert folds(tuple(map(str, range(40)))) == [set(np.flatnonzero(by_row == k)) for k in range(5)]
    for held in folds(tuple(map(str, range(20))) * 2):
        assert len(held) == 8 and held == {(i + 20) % 40 for i in held}


@pytest.mark.long
def test_seeds_change_the_folds_of_the_calibration(tables):
    train = tables[0]
    first, again, other = (boosted_gains(train, FEW, seed=seed).multiplier(2.0) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_one_label_everywhere_is_learned(tables):
    train = tables[0].select(np.arange(40))
    cheapest = boosted_classes(train, (1.0,), FEW)
    prediction = cheapest.predict_features(cheapest.featurizer.encode(train.question[:3]), 1.0)
    assert len(np.unique(prediction.best_response(0.0))) == 1


def test_too_few_questions_are_refused(tables):
    with pytest.raises(ValueError, match="10 questions or more, got 6"):
        boosted_gains(tables[0].select(np.arange(6)))


def test_a_missing_extra_is_named(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ImportError, match=r"pip install 'alloc_jax\[trees\]'"):
        boosted_gains(tables[0])
