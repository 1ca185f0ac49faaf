"""From a file of decisions to the answer: still right, safe to switch on, and a policy recalibrated beside the others."""

import json
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.jobs.traffic import TrafficConfig, review_traffic
from alloc_jax.learn.policy import load_policy
from alloc_jax.logs.decisions import DecisionLog
from alloc_jax.report.traffic import drift_table, still_right_line, switch_line, switch_table, traffic_line, weak_table
from alloc_jax.serve.replay import replay_stream
from alloc_jax.serve.traffic.recording import Recorder
from tests.serve.made import make_policy, sums_log


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A live policy, a candidate that believes less in votes, and 1500 decisions."""
    folder = tmp_path_factory.mktemp("traffic")
    live = make_policy()
    weights = dict(live.weights)
    last = max(name for name in weights if name.endswith("/bias"))
    weights[last] = weights[last].copy()
    weights[last][..., 1:4] -= 0.05
    other = replace(live, name="other", weights=weights)
    live.save(folder / "value")
    other.save(folder / "other")
    recorder = Recorder(DecisionLog(folder / "decisions.sqlite"), live, exploration=0.4, candidate=other)
    replay_stream(live, sums_log(1500, seed=9), 3.0, recorder=recorder)
    recorder.log.close()
    return folder


def test_the_answer_is_said_first_and_rests_on_what_is_there(place):
    config = TrafficConfig(budget=3.0, candidate=str(place / "other"), reference=700)
    review = review_traffic(config, place / "decisions.sqlite")
    line = switch_line(review.switch)
    assert line.startswith("safe to switch on: ") and ("need" in line or "yes" in line or "no" in line)
    assert still_right_line(review.monitors, config.every).startswith(
        "still right: nothing rang; one false alarm in 100000"
    )
    assert "1500 decisions of sums in samples" in traffic_line(review.recorded)
    for header, rows in (switch_table(review.switch), drift_table(review.monitors), weak_table(review.weak)):
        assert rows and all(len(row) == len(header) for row in rows)
    assert review.weak.count.sum() == review.recorded.verdicts["agreement"]
    assert still_right_line((), 1e5).startswith("still right: not known")


def test_a_recalibrated_policy_is_put_beside_the_others_and_replaces_none(place):
    config = TrafficConfig(policy=str(place / "value"), refit=str(place), reference=2000)
    folders = [review_traffic(config, place / "decisions.sqlite").folder.name for _ in range(2)]
    assert folders == ["value.v2", "value.v3"]
    again = load_policy(place / "value.v2")
    assert again.actions == load_policy(place / "value").actions and again.multiplier(3.0).mean > 0
    said = json.loads((place / "value.v2" / "traffic.json").read_text())
    assert said["decisions"] == 1500 and said["made_from"].startswith("sums in samples")
    assert np.isfinite(again.calibration_cost).all()


def test_what_is_lacking_is_named(place):
    file = place / "decisions.sqlite"
    for config, why in (
        (TrafficConfig(candidate=str(place / "other")), "held to a budget: say --budget"),
        (TrafficConfig(refit=str(place)), "say which policy is recalibrated: --policy"),
        (TrafficConfig(refit=str(place), policy=str(place / "other")), "holds another policy"),
        (TrafficConfig(tenant="nobody"), "no decision of a policy"),
    ):
        with pytest.raises(ValueError, match=why):
            review_traffic(config, file)
    stranger = replace(load_policy(place / "other"), name="stranger")
    stranger.save(place / "stranger")
    with pytest.raises(ValueError, match="nobody asked stranger"):
        review_traffic(TrafficConfig(candidate=str(place / "stranger"), budget=3.0), file)
