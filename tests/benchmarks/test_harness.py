"""Whether something has become slower is told by its ratio to a rival, beyond the noise of both."""

import numpy as np

from benchmarks.harness import by_turns, ratio, verdict, wider


def test_calls_take_turns_and_warm_up_first():
    told = []
    seconds = by_turns([lambda: told.append("ours"), lambda: told.append("theirs")], 0.0, least=3)
    assert told == ["ours", "theirs"] * 4
    assert seconds.shape == (3, 2) and (seconds >= 0).all()


def test_a_ratio_of_least_times_is_within_its_range_and_forgets_a_busy_machine():
    rng = np.random.default_rng(0)
    busy = 1 + rng.exponential(2, (80, 1))
    found = ratio(np.array([[0.003, 0.006]]) * busy * (1 + 0.01 * rng.random((80, 2))))
    assert found["low"] <= found["ratio"] <= found["high"]
    np.testing.assert_allclose(found["ratio"], 0.5, rtol=0.03)


def test_slower_means_beyond_the_noise_of_both():
    before = {"low": 0.45, "high": 0.6}
    assert verdict({"low": 0.7, "high": 0.8}, before) == "SLOWER"
    assert verdict({"low": 0.62, "high": 0.8}, before) == "same"
    assert verdict({"low": 0.3, "high": 0.38}, before) == "faster"
    assert verdict({"low": 0.3, "high": 0.44}, None) == "new"


def test_more_runs_of_a_baseline_know_more_of_its_noise():
    quiet, busy = {"ratio": 0.4, "low": 0.39, "high": 0.42}, {"ratio": 0.2, "low": 0.1, "high": 0.3}
    assert wider(busy, quiet) == {"ratio": 0.2, "low": 0.1, "high": 0.42}
    assert wider(quiet, None) == quiet
    assert verdict({"low": 0.4, "high": 0.41}, wider(busy, quiet)) == "same"
