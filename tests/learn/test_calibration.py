"""Prices: a budget kept in expectation, and with a confidence that holds over many draws of the calibration questions."""

import numpy as np
import pytest

from alloc_jax.learn.calibration import Prediction, Unseen, calibrate, calibrate_surely

RNG = np.random.default_rng(7)


def population(n=20_000, ties=False):
    """Predictions with errors, and true costs that vary around what is predicted."""
    truth = np.sort(RNG.random((n, 4)), axis=1) ** 2
    cost = np.tile(np.float32([1, 2, 4, 8]), (n, 1)) * RNG.uniform(0.5, 1.5, (n, 1)).astype(np.float32)
    score = np.round(8 * truth) / 8 if ties else truth + RNG.normal(0, 0.2, truth.shape)
    predicted = np.tile(np.float32([1, 2, 4, 8]), (n, 1))
    return Prediction(score.astype(np.float32), predicted), cost


def mixed_spend(price, prediction, cost):
    return price.weight * prediction.spend(price.low, cost) + (1 - price.weight) * prediction.spend(price.high, cost)


@pytest.mark.parametrize("ties", [False, True])
def test_in_at_most_a_share_delta_of_200_draws_the_expected_spend_exceeds_the_budget(ties):
    delta, budget, draws = 0.1, 3.0, 200
    whole, cost = population(ties=ties)
    spends, plain = [], []
    for _ in range(draws):
        rows = RNG.integers(0, len(cost), 400)
        drawn = Prediction(whole.score[rows], whole.cost[rows])
        spends.append(mixed_spend(calibrate_surely(drawn, cost[rows], budget, delta), whole, cost))
        plain.append(mixed_spend(calibrate(drawn, cost[rows], budget), whole, cost))
    assert np.mean(np.array(spends) > budget) <= delta
    assert np.mean(np.array(plain) > budget) > 3 * delta  # what expectation mode does, so that the promise is not empty
    assert np.mean(spends) > 0.85 * budget  # nor is it kept by spending nothing


def test_more_confidence_spends_less_and_more_questions_more():
    whole, cost = population()

    def spend(questions, delta):
        part = Prediction(whole.score[:questions], whole.cost[:questions])
        return mixed_spend(calibrate_surely(part, cost[:questions], 3.0, delta), whole, cost)

    assert spend(1000, 0.001) < spend(1000, 0.1) < spend(10_000, 0.1) < 3.0


def test_a_budget_that_questions_cannot_vouch_for_is_refused():
    whole, cost = population(n=50)
    with pytest.raises(ValueError, match=r"50 calibration questions do not show with confidence 0\.9"):
        calibrate_surely(whole, cost, 1.05, 0.1)


def test_a_budget_that_nobody_can_exceed_has_price_0():
    whole, cost = population(n=500)
    assert calibrate_surely(whole, cost, 100.0, 0.1).mean == 0


def test_a_single_action_is_priced_like_any_other():
    lone = Prediction(np.zeros((9, 1), np.float32), np.ones((9, 1), np.float32))
    assert calibrate(lone, lone.cost, 1.0).mean == 0
    with pytest.raises(ValueError, match="below the policy's cheapest plan"):
        calibrate(lone, lone.cost, 0.5)


def test_constant_scores_take_the_cheapest_action():
    flat = Prediction(np.full((9, 3), 0.4, np.float32), np.tile(np.float32([2, 1, 3]), (9, 1)))
    price = calibrate(flat, flat.cost, 1.5)
    assert (flat.best_response(price.high) == 1).all()


@pytest.mark.parametrize("budget", [np.nan, np.inf, -np.inf])
def test_a_budget_that_is_no_number_is_refused(budget):
    whole, cost = population(n=50)
    with pytest.raises(ValueError, match="a budget is a finite number"):
        calibrate(whole, cost, budget)
    with pytest.raises(ValueError, match="a budget is a finite number"):
        calibrate_surely(whole, cost, budget, 0.1)


@pytest.mark.parametrize("delta", [0.0, 1.0, np.nan])
def test_a_confidence_that_is_no_probability_is_refused(delta):
    whole, cost = population(n=50)
    with pytest.raises(ValueError, match="delta is a probability"):
        calibrate_surely(whole, cost, 3.0, delta)


def test_extrapolated_spends_average_to_the_extrapolated_spend():
    whole, cost = population(n=300)
    unseen = Unseen(whole, (whole, Prediction(whole.score + np.float32(0.1) * whole.cost, whole.cost)), reach=0.5)
    halves = np.mean([half.spend(0.1, cost) for half in unseen.halves])
    expected = 1.5 * whole.spend(0.1, cost) - 0.5 * halves
    np.testing.assert_allclose(unseen.spend(0.1, cost), expected, rtol=1e-9)
    np.testing.assert_allclose(unseen.spends(0.1, cost).mean(), expected, rtol=1e-9)
