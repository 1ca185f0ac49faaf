"""Off-policy estimates are the truth's, as sure as they say, and refuse what the log does not show."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.traffic.off_policy import METHODS, NoOverlap, clustered, evaluate_traffic
from alloc_jax.learn.calibration import Prediction
from alloc_jax.logs import read_log
from alloc_jax.measure import measure, menu
from tests.evaluate.traffic.made import World, made_world

BUDGET = 2.5


@pytest.fixture(scope="module")
def world():
    return made_world()


def coverage(world, decisions, replicates, method, labelled=0.7):
    """How often the truth lies in the interval: of the accuracy, of the spend, and of the difference from the live policy."""
    truth, live = (world.truth(p, BUDGET) for p in (world.candidate, world.live))
    hits = np.zeros(3)
    for seed in range(replicates):
        traffic, candidate, _ = world.traffic(decisions, seed, labelled=labelled)
        found = evaluate_traffic(traffic, candidate, BUDGET, method)
        low, high = (world.candidate.spend(m, world.cost) for m in found.multiplier)
        beside = found.minus(evaluate_traffic(traffic, Prediction(traffic.utility, traffic.cost), BUDGET, method))
        truths = truth, found.weight * low + (1 - found.weight) * high, truth - live
        hits += [i.low <= t <= i.high for i, t in zip((found.accuracy, found.spend, beside), truths, strict=True)]
    return hits / replicates


@pytest.mark.long
def test_intervals_hold_the_truth(world):
    assert (abs(coverage(world, 4000, 80, "doubly robust") - 0.95) < 0.08).all()


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_from_93_to_97_percent(method):
    log = read_log("builtin")
    table = measure(log, [a for a in menu(log, (1, 4, 8, 16)) if a.source == "large/think"], "samples")
    world = World(table.utility.astype(float), table.cost.astype(float))
    found = coverage(world, 4000, 300, method)
    assert ((found >= 0.93) & (found <= 0.97)).all(), found


def test_every_method_is_unbiased_and_the_model_makes_it_surer(world):
    truth, found = world.truth(world.candidate, BUDGET), {}
    for method in METHODS:
        parts = [world.traffic(4000, seed) for seed in range(12)]
        found[method] = [
            evaluate_traffic(traffic, candidate, BUDGET, method).accuracy for traffic, candidate, _ in parts
        ]
    errors = {method: np.array([i.value for i in each]) - truth for method, each in found.items()}
    widths = {method: np.mean([i.high - i.low for i in each]) for method, each in found.items()}
    assert all(abs(error.mean()) < 3 * error.std() / np.sqrt(12) for error in errors.values())
    assert widths["doubly robust"] < widths["self-normalised"] < widths["inverse propensity"]


def test_a_wrong_model_makes_it_less_sure_and_not_wrong(world):
    values = []
    for seed in range(15):
        traffic, candidate, _ = world.traffic(4000, seed)
        wrong = replace(traffic, utility=1 - traffic.utility, cost=3 * traffic.cost)
        values.append(evaluate_traffic(wrong, candidate, BUDGET).accuracy.value)
    assert abs(np.mean(values) - world.truth(world.candidate, BUDGET)) < 3 * np.std(values) / np.sqrt(15)


@pytest.mark.parametrize("method", METHODS)
def test_a_candidate_that_did_decide_is_what_was_seen(world, method):
    traffic, _, _ = world.traffic(4000, 0, explore=0.0)
    taken = np.eye(4, dtype=np.float32)[traffic.action]
    found = evaluate_traffic(traffic, Prediction(taken, 1 + 0 * taken), 1e9, method)
    assert found.accuracy.value == pytest.approx(traffic.reward.mean()) and found.multiplier == (0.0, 0.0)
    assert found.spend.value == pytest.approx(traffic.spent.mean(), rel=1e-5) and found.effective == pytest.approx(4000)


def test_the_estimates_are_those_of_the_formula(world):
    traffic, candidate, _ = world.traffic(4000, 3, labelled=0.5)
    found = evaluate_traffic(traffic, candidate, BUDGET)
    rows, came = np.arange(4000), traffic.labelled
    accuracy = spend = 0.0
    for multiplier, part in zip(found.multiplier, (found.weight, 1 - found.weight), strict=True):
        best = candidate.best_response(multiplier)
        weight = (best == traffic.action) / traffic.chance.astype(float)
        share = np.array([came[traffic.action == k].mean() for k in range(4)])[traffic.action]
        off = np.where(came, np.nan_to_num(traffic.reward) - traffic.utility[rows, traffic.action], 0)
        accuracy += part * (traffic.utility[rows, best] + weight / share * off).mean()
        off = traffic.spent - traffic.cost[rows, traffic.action]
        spend += part * (traffic.cost[rows, best] + weight * off).mean()
    assert found.accuracy.value == pytest.approx(accuracy, abs=1e-5)
    assert found.spend.value == pytest.approx(spend, rel=1e-4) and spend == pytest.approx(BUDGET, rel=1e-3)
    assert found.decisions == 4000 and found.labelled == came.sum() and sum(found.share.values()) == pytest.approx(1)


def test_another_unit_of_cost_changes_nothing_but_the_multiplier(world):
    traffic, candidate, _ = world.traffic(4000, 4)
    found = evaluate_traffic(traffic, candidate, BUDGET)
    cents = replace(traffic, cost=100 * traffic.cost, spent=100 * traffic.spent)
    again = evaluate_traffic(cents, Prediction(candidate.score, 100 * candidate.cost), 100 * BUDGET)
    assert again.accuracy.value == pytest.approx(found.accuracy.value, abs=2e-3)
    assert 100 * again.multiplier[0] == pytest.approx(found.multiplier[0], rel=1e-2)


def test_what_a_request_did_not_allow_is_not_taken(world):
    traffic, candidate, _ = world.traffic(4000, 5)
    cheap = traffic.action == 0
    allowed = np.where(cheap[:, None], np.arange(4) == 0, True)
    behaviour = np.where(cheap[:, None], np.arange(4) == 0, traffic.behaviour).astype(np.float32)
    found = evaluate_traffic(replace(traffic, allowed=allowed, behaviour=behaviour), candidate, 1e9)
    assert found.share["vote(m,1)"] >= cheap.mean()


def test_sessions_whose_decisions_are_alike_widen_the_interval(world):
    traffic, candidate, _ = world.traffic(4000, 6, session=1)
    whole = evaluate_traffic(traffic, candidate, BUDGET)
    copied = traffic.select(np.repeat(np.arange(1000), 4))
    doubled = evaluate_traffic(
        copied, Prediction(*(p[np.repeat(np.arange(1000), 4)] for p in (candidate.score, candidate.cost))), BUDGET
    )
    apart = clustered(doubled.terms, np.arange(4000))
    assert doubled.sessions == 1000 and whole.sessions == 4000
    assert doubled.accuracy.high - doubled.accuracy.low > 1.8 * (apart.high - apart.low)


def test_what_no_decision_tried_is_refused_by_name(world):
    traffic, candidate, _ = world.traffic(4000, 7, explore=0.0)
    with pytest.raises(NoOverlap, match=r"vote\(m,4\): had no chance on .* % of the decisions") as refused:
        evaluate_traffic(traffic, candidate, BUDGET)
    assert "vote(m,4)" in refused.value.lacking
    traffic, candidate, _ = world.traffic(4000, 7)
    silent = replace(traffic, reward=np.where(traffic.action == 2, np.nan, traffic.reward))
    with pytest.raises(NoOverlap, match=r"vote\(m,4\): 0 verdicts"):
        evaluate_traffic(silent, candidate, BUDGET)


def test_what_cannot_be_evaluated_is_refused(world):
    traffic, candidate, _ = world.traffic(4000, 8)
    with pytest.raises(ValueError, match="unknown method 'guess': inverse"):
        evaluate_traffic(traffic, candidate, BUDGET, "guess")
    with pytest.raises(ValueError, match="the candidate predicts shape"):
        evaluate_traffic(traffic.select(slice(10)), candidate, BUDGET)
    with pytest.raises(ValueError, match="below the candidate's cheapest plan"):
        evaluate_traffic(traffic, candidate, 0.01)
    with pytest.raises(ValueError, match="none of 4000 decisions has a verdict"):
        evaluate_traffic(replace(traffic, reward=np.full(4000, np.nan)), candidate, BUDGET)
    with pytest.raises(ValueError, match=r"took 'vote\(m,1\)', which had no chance"):
        replace(traffic, action=np.zeros(4000, np.int32), behaviour=np.eye(4, dtype=np.float32)[np.ones(4000, int)])
    with pytest.raises(ValueError, match="do not add up to 1"):
        replace(traffic, behaviour=traffic.behaviour / 2)
