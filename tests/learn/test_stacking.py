"""Stacking: weights are never negative, never worse than one model alone, and what teaches nothing is not believed."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from alloc_jax.learn.stacking import nonnegative_fit
from alloc_jax.learn.training import PolicyConfig, train
from alloc_jax.measure import measure, menu
from tests.conftest import made_log

QUICK = {"epochs": 10, "hidden": (16,), "folds": 4, "left_out": 2}


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_the_best_of_all_weights_that_are_not_negative(seed):
    rng = np.random.default_rng(seed)
    models, target = rng.normal(size=(3, 30)), rng.normal(size=30)
    weights = nonnegative_fit(models, target)
    assert (weights >= 0).all()
    error = np.sum((target - weights @ models) ** 2)
    for other in product(np.linspace(0, 1.5, 16), repeat=3):
        assert error <= np.sum((target - np.array(other) @ models) ** 2) + 1e-9


def test_models_that_point_the_wrong_way_or_nowhere_have_no_weight():
    target = np.random.default_rng(0).normal(size=30)
    np.testing.assert_array_equal(nonnegative_fit(np.stack([-target, 0 * target]), target), 0)
    assert nonnegative_fit(np.stack([target, target]), target).sum() == pytest.approx(1)  # twins share it


@pytest.fixture(scope="module")
def table():
    log = made_log(questions=240, samples=8)
    return measure(log, menu(log, votes=(1, 4)), "samples")


def error(table, **options):
    """How far predicted gains of unseen questions are from the measured ones."""
    policy = train(table, PolicyConfig(**QUICK, **options))
    score, utility = policy.calibration[0].whole.score, table.utility
    return np.mean((score - score[:, :1] - utility + utility[:, :1]) ** 2)


def test_stacked_gains_of_unseen_questions_are_nearer_than_those_of_the_networks_alone(table):
    assert error(table) <= error(table, stacked=False) * (1 + 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_where_the_text_tells_nothing_the_mean_gains_are_not_lost(table, seed):
    order = np.random.default_rng(seed).permutation(len(table))
    names = ("utility", "successes", "samples")
    shuffled = replace(table, **{name: getattr(table, name)[order] for name in names})
    gain = shuffled.utility - shuffled.utility[:, :1]
    assert error(shuffled) <= np.mean((gain - gain.mean(axis=0)) ** 2) * (1 + 1e-3)
    assert error(table) < 0.97 * np.mean((gain - gain.mean(axis=0)) ** 2)  # where it does, they are improved on
