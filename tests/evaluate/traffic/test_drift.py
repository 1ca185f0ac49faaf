"""Alarms ring when something has changed and seldom else; recalibration wins back what was lost; the pace keeps the budget throughout."""

import numpy as np
import pytest

from alloc_jax.evaluate.traffic.recalibrating import recalibrated
from alloc_jax.measure.drift import _evidence, watch_traffic
from tests.evaluate.traffic.streams import earned, policy_of, stream, world

BUDGET, TURNS, REFERENCE = 4.0, 2000, 1000
WITHIN = {"harder": 300, "replaced": 300, "dearer": 200}  # questions within which the alarm rings
RINGS = {"harder": "inputs: ease", "replaced": "accuracy of large", "dearer": "cost of large"}


@pytest.fixture(scope="module")
def known():
    return world()


@pytest.fixture(scope="module")
def live(known):
    return policy_of(known)


def drifted(known, live, how, seed=1):
    """A stream whose world changes halfway, that world, and the questions of its second half."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(known.cost), size=2 * TURNS)
    after = {"replaced": known.replaced(), "dearer": known.dearer()}.get(how, known)
    if how == "harder":
        rows[TURNS:] = rng.choice(known.harder(), TURNS)
    return stream(live, [known] * TURNS + [after] * TURNS, rows, BUDGET, seed=seed), after, rows[TURNS:]


@pytest.mark.parametrize("how", WITHIN)
def test_the_alarm_rings_within_a_stated_number_of_questions_and_the_budget_holds(known, live, how):
    traffic, _, _ = drifted(known, live, how)
    monitors = {m.name: m for m in watch_traffic(traffic, reference=REFERENCE, budget=BUDGET)}
    rang = monitors[RINGS[how]].alarm
    assert TURNS - REFERENCE < rang <= TURNS - REFERENCE + WITHIN[how]
    assert min(m.alarm for m in monitors.values() if m.alarm) > TURNS - REFERENCE and monitors["spend"].alarm is None
    assert abs(traffic.spent.mean() / BUDGET - 1) < 0.02 and abs(traffic.spent[-1000:].mean() / BUDGET - 1) < 0.02


def test_nothing_rings_where_nothing_has_changed(known, live):
    traffic, _, _ = drifted(known, live, "nothing")
    monitors = watch_traffic(traffic, reference=REFERENCE, budget=BUDGET)
    assert len(monitors) == 7 and all(m.alarm is None for m in monitors)
    assert all(abs(m.now - m.reference) < m.tolerance for m in monitors)
    with pytest.raises(ValueError, match="leaves nothing to watch of 4000"):
        watch_traffic(traffic, reference=4000)


def test_false_alarms_are_as_rare_as_is_said():
    """The mean first time at which evidence passes A, without any change and at the edge of the tolerance, is A or more."""
    rng, rate = np.random.default_rng(0), 200.0
    first = []
    for _ in range(300):
        off = rng.choice([-1.0, 1.0], 2000, p=[0.45, 0.55])  # a mean of 0.1
        rang = np.flatnonzero(_evidence(off, 1.0, 0.1, (1.0, -1.0)) >= np.log(rate))
        first.append(rang[0] + 1 if len(rang) else 2000)
    assert np.mean(first) >= rate


def test_evidence_is_that_of_the_recursion():
    off = np.random.default_rng(1).uniform(-0.5, 1, 50)
    sums = []
    for side in (1.0, -1.0):
        for stake in (0.05, 0.1, 0.2, 0.4, 0.8):
            total = 0.0
            for x in off:
                total = (1 + total) * (1 + stake * (side * x - 0.1) / 1.1)
            sums.append(total)
    assert _evidence(off, 1.0, 0.1, (1.0, -1.0))[-1] == pytest.approx(np.log(np.mean(sums)))


def test_recalibration_wins_back_half_of_what_a_replaced_model_lost(known, live):
    shares = []
    for seed in (1, 2, 3):
        traffic, after, rows = drifted(known, live, "replaced", seed)
        again, _ = recalibrated(live, traffic, TURNS)
        stale, now, best = (earned(p, after, rows, BUDGET) for p in (live, again, policy_of(after)))
        shares.append((now - stale) / (best - stale))
    assert np.mean(shares) >= 0.5 and min(shares) > 0.3


def test_recalibration_sets_the_multiplier_for_what_questions_cost_now(known, live):
    traffic, after, rows = drifted(known, live, "dearer")
    again, corrections = recalibrated(live, traffic, TURNS)
    off = []
    for policy in (live, again):
        multiplier = policy.multiplier(BUDGET).mean
        best = policy.predict(known.log.question).best_response(multiplier)
        off.append(abs(after.cost[np.arange(len(best)), best][rows].mean() - BUDGET))
    assert off[1] < 0.5 * off[0] and np.allclose(corrections.factor[[0, 2]], 2, atol=0.15)


def test_recalibration_costs_nothing_where_questions_are_harder_and_the_policy_right(known, live):
    traffic, after, rows = drifted(known, live, "harder")
    again, _ = recalibrated(live, traffic, TURNS)
    assert earned(again, after, rows, BUDGET) > earned(live, after, rows, BUDGET) - 0.01


def test_recalibration_leaves_a_policy_that_is_right_as_it_is(known, live):
    traffic, _, rows = drifted(known, live, "nothing")
    again, corrections = recalibrated(live, traffic, TURNS)
    assert earned(again, known, rows, BUDGET) > earned(live, known, rows, BUDGET) - 0.005
    assert np.allclose(corrections.factor, 1, atol=0.1) and corrections.verdicts.sum() == TURNS


def test_the_corrections_are_in_the_weights(known, live):
    traffic, _, _ = drifted(known, live, "replaced")
    again, c = recalibrated(live, traffic, TURNS)
    before, after = (p.predict(known.log.question[:50]) for p in (live, again))
    assert np.allclose(after.score, c.offset + c.slope * before.score, atol=1e-4)
    assert np.allclose(after.cost, c.factor * before.cost, rtol=1e-4)
    assert np.allclose(again.calibration[0].whole.score, c.offset + c.slope * traffic.utility[-TURNS:], atol=1e-4)


def test_a_window_that_holds_too_little_is_refused(known, live):
    traffic, _, _ = drifted(known, live, "nothing")
    with pytest.raises(ValueError, match="50 verdicts in the window; 100 are needed"):
        recalibrated(live, traffic, 50)
