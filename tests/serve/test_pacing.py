"""The multiplier follows the spend, inside its guard rails."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.serve.pacing import Pace, make_pace

PACE = Pace(budget=3.0, start=0.02, low=0.0, high=1.0, scale=0.005, step=0.03)


def test_the_multiplier_starts_where_it_was_calibrated_and_moves_against_the_spend():
    assert PACE.multiplier(PACE.dual) == pytest.approx(0.02)
    assert PACE.multiplier(PACE.moved(PACE.dual, 2.0)) > 0.02 > PACE.multiplier(PACE.moved(PACE.dual, -2.0))
    still = replace(PACE, step=0.0)
    assert still.moved(still.dual, 1e9) == still.dual


def test_guard_rails_hold():
    assert PACE.multiplier(PACE.moved(PACE.dual, 1e9)) == pytest.approx(1.0)
    assert PACE.multiplier(PACE.moved(PACE.dual, -1e9)) == 0.0
    signed = replace(PACE, low=-1.0)
    assert signed.multiplier(signed.moved(signed.dual, -1e9)) == pytest.approx(-1.0)


def test_a_debt_beyond_the_upper_rail_is_paid_back_and_a_credit_beyond_the_lower_one_is_not_saved_up():
    top = PACE.moved(PACE.dual, 1e9)
    for _ in range(99):
        top = PACE.moved(top, -3.0)
        assert PACE.multiplier(top) == pytest.approx(1.0)
    assert PACE.multiplier(PACE.moved(PACE.moved(top, -3.0), -3.0)) < 1.0
    assert PACE.multiplier(PACE.moved(PACE.moved(PACE.dual, -1e9), 3.0)) > 0.0


def test_the_overspend_of_any_stream_is_what_the_multiplier_has_moved():
    cost = np.random.default_rng(0).choice([1.0, 2.0, 4.0, 5.0], 500)
    dual = PACE.dual
    for spent in cost:
        dual = PACE.moved(dual, spent - 3.0)
        assert 0 < PACE.multiplier(dual) < 1
    assert (cost - 3.0).sum() == pytest.approx(3.0 * (dual - PACE.dual) / PACE.step, rel=1e-6)


def test_expecting_first_and_correcting_later_is_the_same_in_any_order():
    one = PACE.moved(PACE.moved(PACE.dual, 2.0 - 3.0), 4.0 - 3.0)
    other = PACE.dual
    for excess in (1.0 - 3.0, 5.0 - 3.0, 2.0 - 1.0, 4.0 - 5.0):  # two expected, then corrected to 2 and 4
        other = PACE.moved(other, excess)
    assert one == pytest.approx(other)


def test_a_pace_of_a_policy_starts_at_its_multiplier_and_ends_where_nothing_changes(policy):
    pace = make_pace(policy, 3.0, 0.03)
    assert pace.start == pytest.approx(policy.multiplier(3.0).mean)
    prediction, cost = policy.calibration[0].whole, policy.calibration_cost
    assert prediction.spend(pace.high, cost) == pytest.approx(1.0) == prediction.spend(1e6, cost)


@pytest.mark.parametrize("wrong", [{"budget": 0.0}, {"budget": float("nan")}, {"step": 1.0}, {"start": 2.0}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        replace(PACE, **wrong)
