"""Drift is noticed while a gateway runs, and shown where its operators look."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.logs.decisions import DecisionLog, read_traffic
from alloc_jax.serve.replay import replay_stream
from alloc_jax.serve.tickets import AnswerRequest
from alloc_jax.serve.traffic.recording import Recorder
from alloc_jax.serve.traffic.watching import Watch
from tests.serve.made import sums_log
from tests.serve.running import running, until
from tests.serve.traffic.test_recording import core

TENANTS = [("default", 3.0)]


@pytest.fixture(scope="module")
def drifted(policy, tmp_path_factory):
    """A file of decisions on sums of any length, and then on long ones alone."""
    path = tmp_path_factory.mktemp("watched") / "traffic.sqlite"
    digits = np.concatenate([np.random.default_rng(0).integers(1, 7, 600), np.full(400, 6)])
    replay_stream(policy, sums_log(1000, digits=digits), 3.0, recorder=Recorder(DecisionLog(path), policy))
    return path


def test_an_alarm_rings_once_and_stays_until_another_policy(policy, drifted, caplog):
    watch = Watch(drifted, reference=300, every=1e4)
    for _ in range(2):
        watch.look(TENANTS)
    assert "inputs: ease" in watch.rang["default"] and "cost of m" not in watch.rang["default"]
    assert caplog.text.count("inputs: ease is no longer what it was") == 1
    made = core(replace(policy, name="another"), drifted)
    made.settle(made.admit(AnswerRequest(id="new", text="1 + 2")), 1.0, 1.0, 1, 0, 0)
    made.close()
    watch.look([*TENANTS, ("nobody", None)])
    assert watch.rang == {"default": set()}


def test_what_is_read_of_a_long_file_is_bounded(policy, tmp_path):
    path = tmp_path / "traffic.sqlite"
    replay_stream(policy, sums_log(50), 3.0, recorder=Recorder(DecisionLog(path), policy))
    whole, ends, short = (read_traffic(path, **k) for k in ({}, {"ends": (10, 5)}, {"ends": (30, 30)}))
    assert (
        ends.traffic.ids == whole.traffic.ids[:10] + whole.traffic.ids[-5:] and short.traffic.ids == whole.traffic.ids
    )
    rows = [*range(10), *range(45, 50)]
    assert np.array_equal(ends.traffic.reward, whole.traffic.reward[rows]) and ends.verdicts["grader"] == 15
    assert np.array_equal(ends.agreement, whole.agreement[rows], equal_nan=True)


def test_metrics_show_what_rang(policy, tmp_path):
    path = tmp_path / "traffic.sqlite"
    digits = np.concatenate([np.random.default_rng(0).integers(1, 7, 600), np.full(400, 6)])
    replay_stream(policy, sums_log(1000, digits=digits), 3.0, recorder=Recorder(DecisionLog(path), policy))
    watch = Watch(path, reference=300, every=1e4)
    with running(policy, config={"watch_s": 0.05}, drift=watch) as gateway:
        rang = 'alloc_drift_alarm{monitor="inputs: ease",tenant="default"} 1.0'
        until(lambda: rang in gateway.get("/metrics"))
        shown = gateway.get("/metrics")
        assert gateway.ask()[0].choices
    assert 'alloc_drift_alarm{monitor="cost of m",tenant="default"} 0.0' in shown and "alloc_drift_change" in shown
