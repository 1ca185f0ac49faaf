"""Stopping rules in front of a server: drawn one by one, paced, and the same offline and live."""

from dataclasses import replace

import pytest

import alloc_jax as aj
from alloc_jax.logs.decisions import DecisionLog
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.planning.escalator import rules_beside
from alloc_jax.serve.planning.stopper import Stopper
from alloc_jax.serve.replay import drifting, replay_stream
from alloc_jax.serve.tickets import Seen, Tenant
from alloc_jax.serve.traffic.recording import Recorder
from alloc_jax.serve.verdicts.verifier import Verifier
from alloc_jax.stopping.rules import DRAW, prior_features, vote_state
from tests.serve.made import RECIPES, sums_log
from tests.serve.running import running
from tests.serve.test_command import failed
from tests.serve.test_verdicts import scorer

KEYS = (["1"], ["1", "1"], ["1", "2"], ["1", None, "2", "2"], [None, None, None], ["1", "2", "3", "4", "5"])


def seen(keys):
    return [Seen("m", key) for key in keys]


@pytest.fixture(scope="module", params=["alike", "by text"])
def stopper(request, policy):
    log = sums_log(300, seed=9)
    prior = None if request.param == "alike" else prior_features(policy.predict(log.question).score)
    return Stopper(aj.solve_sequential(log, "m", cap=8, prior=prior, contexts=4, orders=4), policy)


def test_at_the_multiplier_of_a_rule_it_decides_as_the_rule(stopper, policy):
    frontier, text = stopper.frontier, "123 + 456"
    prediction = policy.predict([text])
    context = frontier.context(prior_features(prediction.score)[0] if frontier.center.shape[1] else None)
    decided = set()
    for budget in (1.2, 2.0, 3.0, 5.0):
        rule = frontier.at(budget)
        multiplier = float(frontier.multiplier[rule.more])
        plan = stopper.plan(prediction, multiplier, None, 0.0, text)
        assert plan.action.samples == 8 and plan.expected == pytest.approx(frontier.spend[rule.more])
        for keys in KEYS:
            draw = rule.decide(vote_state(keys, context)) == DRAW
            assert (plan.next(seen(keys)) == ("m",)) == draw
            decided.add(draw)
    assert decided == {True, False}
    assert stopper.plan(prediction, 0.0, 3, 0.0, text).next(seen([None] * 3)) == ()


@pytest.mark.long
def test_the_budget_is_kept_when_difficulty_shifts(stopper, policy):
    log = sums_log(1000, seed=10)
    rows = drifting(log, 2000, late=(0.4, 0.7))
    paced = replay_stream(policy, log, 3.0, rows=rows, stopping=stopper)
    fixed = replay_stream(policy, log, 3.0, rows=rows, stopping=stopper, step=0.0)
    assert abs(paced.spend / 3.0 - 1) < 0.02 < abs(fixed.spend / 3.0 - 1)
    assert set(paced.action) == {"vote(m,8)"} and len(set(paced.cost)) > 4


@pytest.fixture(scope="module")
def passing(policy):
    return replace(policy, actions=tuple(name.replace("vote(", "passes(") for name in policy.actions))


@pytest.fixture(scope="module")
def verified():
    return aj.solve_sequential(sums_log(300, seed=9), "m", cap=8, answer="verified")


def test_a_verdict_ends_a_question_and_its_cost_is_in_the_price(passing, verified):
    dear = Stopper(verified, passing, Verifier(url="http://127.0.0.1:9/score", exact=True, cost=0.5))
    free = Stopper(verified, passing, Verifier(url="http://127.0.0.1:9/score", exact=True, cost=0.0))
    prediction, no, yes = passing.predict(["123 + 456"]), Seen("m", None, 0, 0.2), Seen("m", None, 0, 0.9)
    for multiplier in (0.0, 0.03, 0.1, 0.3):
        plan, same = (s.plan(prediction, m, None, 0.0, "") for s, m in ((dear, multiplier), (free, 1.5 * multiplier)))
        assert plan.action.name == "passes(m,8)" and plan.expected == pytest.approx(1.5 * same.expected)
        assert plan.next([]) == ("m",) and plan.next([yes]) == plan.next([no, yes]) == plan.next(8 * [no]) == ()
        for drawn in range(1, 8):
            rule = verified.multiplier.dtype.type(verified.index[0, 0, drawn, 0]) >= 1.5 * multiplier
            assert (plan.next(drawn * [no]) == ("m",)) == (same.next(drawn * [no]) == ("m",)) == rule
    assert dear.pace(3.0, 0.03).start * 1.5 == pytest.approx(free.pace(2.0, 0.03).start)


def test_rules_that_use_verdicts_are_served(passing, verified, tmp_path):
    passing.save(tmp_path)
    verified.save(tmp_path)
    with pytest.raises(ValueError, match=r"answer by 'verified': describe a verifier that is exact in \[verifier\]"):
        rules_beside(tmp_path, passing, Verifier(url="http://127.0.0.1:9/score", cost=0.5))
    with scorer() as (url, scored):
        verifier = Verifier(url=f"{url}/score", exact=True, cost=0.5)
        rules = rules_beside(tmp_path, passing, verifier)
        log = DecisionLog(tmp_path / "traffic.sqlite")
        with running(
            passing, stopping=rules, verifier=verifier, recorder=Recorder(log, passing, rule=rules.mark)
        ) as gateway:
            for _ in range(6):
                said, headers = gateway.ask("1 + 2")
                right = said.choices[0].message.content.split()[-1] == "3"
                assert headers["action"] == "passes(m,8)" and float(headers["verdict"]) == right
                assert right or int(headers["samples"]) > 1
            totals = gateway.settled(6)
            assert len(scored) > 0 and totals["cost"] == 1.5 * totals["samples"]
        assert {row[0] for row in log._db.execute("SELECT action FROM decisions")} == {"stopping"}


def test_what_does_not_fit_the_policy_is_refused(stopper, policy, token_policy):
    with pytest.raises(ValueError, match="answer by 'verified'"):
        Stopper(replace(stopper.frontier, answer="verified"), policy)
    with pytest.raises(ValueError, match="the stopping rules are paid in samples"):
        Stopper(stopper.frontier, token_policy)
    with pytest.raises(ValueError, match="below"):
        Core(policy, RECIPES, {"default": Tenant(budget=0.5)}, Ledger(), stopping=stopper)


def test_the_command_follows_the_rules_in_the_policys_folder(stopper, policy, tmp_path):
    policy.save(tmp_path / "policy")
    stopper.frontier.save(tmp_path / "policy")
    usual = ["--upstream=http://127.0.0.1:9/v1", "--budget=0.5", "--resource=samples", "--ledger="]
    assert "the rule that draws least" in failed(tmp_path / "policy", *usual)
    assert "the policy's cheapest plan" in failed(tmp_path / "policy", *usual, "--nosequential")
