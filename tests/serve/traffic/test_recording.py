"""Every decision is written down with its chance before it is done, and what it explores is priced into the budget."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.logs.decisions import AGREEMENT, DecisionLog, OutcomeRecord, read_traffic
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.replay import GRADER, replay_stream
from alloc_jax.serve.tickets import AnswerRequest, Refused, Tenant
from alloc_jax.serve.traffic.exploring import chances, draw, ticket_of
from alloc_jax.serve.traffic.recording import Recorder, session_of
from tests.serve.made import RECIPES, AgreementOfTwo, sums_log

HARD = "4321 + 1234"


def core(policy, path, ledger=None, tenant=None, stopping=None, **options):
    recorder = Recorder(DecisionLog(path), policy, rule=stopping.mark if stopping else None, **options)
    tenants = {"default": Tenant(**{"budget": 3.0, **(tenant or {})})}
    return Core(policy, RECIPES, tenants, ledger or Ledger(), recorder=recorder, stopping=stopping)


def test_chances_are_a_floor_and_the_rest(policy):
    allowed = np.array([True, False, True, True])
    found = chances(allowed, 2, 0.3, candidate=3, share=0.1)
    assert found == pytest.approx([0.1, 0.0, 0.7, 0.2]) and chances(allowed, 2, 0.0) == [0, 0, 1, 0]
    tickets = [ticket_of(f"{i:032x}") for i in range(4000)]
    taken = Counter(draw(found, ticket) for ticket in tickets)
    assert taken[1] == 0 and all(abs(taken[k] / 4000 - found[k]) < 0.03 for k in range(4))
    assert draw(found, 1 - 1e-16) == 3 and ticket_of("a") == ticket_of("a") != ticket_of("b")


def test_what_was_drawn_is_what_its_chance_says(policy, tmp_path):
    path, log = tmp_path / "traffic.sqlite", sums_log(1500, seed=3)
    recorder = Recorder(DecisionLog(path), policy, exploration=0.3)
    ran = replay_stream(policy, log, 3.0, recorder=recorder)
    found = read_traffic(path)
    traffic = found.traffic
    assert len(traffic) == 1500 and tuple(traffic.actions[a] for a in traffic.action) == ran.action
    assert traffic.behaviour.min() == pytest.approx(0.3 / len(policy.actions), rel=1e-5)
    hits = traffic.action == traffic.behaviour.argmax(axis=1)
    assert abs(hits.mean() - traffic.behaviour.max(axis=1).mean()) < 0.05
    assert np.allclose(traffic.spent, ran.cost) and np.array_equal(traffic.reward, ran.correct)
    assert np.allclose(traffic.multiplier, ran.multiplier)
    best = (traffic.utility - traffic.multiplier[:, None] * traffic.cost).argmax(axis=1)
    assert (best == traffic.behaviour.argmax(axis=1)).mean() > 0.999
    assert abs(ran.spend / 3.0 - 1) < 0.03 and found.verdicts[GRADER] == 1500
    voted = np.isfinite(found.agreement)
    assert 0 < found.verdicts[AGREEMENT] == voted.sum() < 1500 and not found.left_out and not found.shadows
    predicted = policy.predict(log.question)
    assert np.allclose(traffic.utility, predicted.score, atol=1e-5) and found.text == (None,) * 1500


def test_exploration_is_priced_into_the_budget_from_the_first_question(policy, tmp_path):
    plain = core(policy, None)
    explores = core(policy, None, exploration=0.2)
    assert (
        explores.multiplier("default") > plain.multiplier("default")
        and explores.multipliers.paces["default"].budget == 3.0
    )
    with pytest.raises(ValueError, match=r"an exploration of 0.9, at 3.75 .* takes .* of the budget of 2"):
        core(policy, None, exploration=0.9, tenant={"budget": 2.0})


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_candidate_decides_beside_and_a_share_is_really_its_own(policy, tmp_path, share):
    path, log = tmp_path / "traffic.sqlite", sums_log(600, seed=4)
    weights = policy.weights | {"action_cost": policy.weights["action_cost"][::-1].copy()}
    other = replace(policy, name="other", weights=weights)
    recorder = Recorder(DecisionLog(path), policy, exploration=0.1, candidate=other, share=share, texts=True)
    ran = replay_stream(policy, log, 3.0, recorder=recorder)
    found = read_traffic(path)
    ((described, figures),) = found.shadows.values()
    assert described.name == "other" and np.isfinite(figures).all() and found.text == log.question
    predicted = other.predict(log.question)
    assert np.allclose(figures[:, 0], predicted.score, atol=1e-5) and np.allclose(
        figures[:, 1], predicted.cost, rtol=1e-4
    )
    second = np.sort(found.traffic.behaviour, axis=1)[:, -2] - found.traffic.behaviour.min(axis=1)
    own = np.isclose(second, share, atol=1e-5)
    assert (own | np.isclose(second, 0, atol=1e-5)).all() and own.any()
    assert abs(ran.spend / 3.0 - 1) < 0.1


def test_what_left_the_policy_no_choice_is_left_out_by_name(policy, tmp_path):
    path = tmp_path / "traffic.sqlite"
    made = core(policy, path, exploration=0.1)
    asked = [{}, {"action": "vote(m,8)"}, {"gradable": False}, {}]
    tickets = [made.admit(AnswerRequest(id=f"q{j}", text=HARD, **fields)) for j, fields in enumerate(asked)]
    for ticket in tickets[:3]:
        made.settle(ticket, 2.0, 2.0, 2, 0, 0)
    found = read_traffic(path)
    assert found.traffic.ids == ("q0",) and found.left_out == {"named": 1, "one sample": 1, "not settled": 1}
    assert found.traffic.behaviour.sum() == pytest.approx(1)
    bounded = made.admit(AnswerRequest(id="q4", text=HARD, max_samples=1))
    made.settle(bounded, 1.0, 1.0, 1, 0, 0)
    again = read_traffic(path).traffic
    assert bounded.action.samples == 1 and not again.allowed[1, -1] and again.allowed[0].all()


def test_rules_are_one_more_action(policy, tmp_path):
    path = tmp_path / "traffic.sqlite"
    stopping = AgreementOfTwo(policy)
    recorder = Recorder(DecisionLog(path), policy, exploration=0.4, rule=stopping.mark)
    ran = replay_stream(policy, sums_log(300, seed=5), 3.0, stopping=stopping, recorder=recorder)
    traffic = read_traffic(path).traffic
    assert traffic.actions == (*policy.actions, "agreement")
    rules = traffic.action == len(policy.actions)
    assert 0.5 < rules.mean() < 0.85 and (traffic.chance[rules] > 0.6).all() and len(set(ran.action)) > 2


def test_sessions_are_what_the_client_says_and_are_not_readable():
    def asked(**extra):
        return session_of(AnswerRequest(id=extra.pop("id", "a"), text="x", extra=extra))

    assert asked(user="ann") == asked(user="ann", id="b") != asked(user="bob") and "ann" not in asked(user="ann")
    assert asked(prompt_cache_key="k", user="ann") == asked(prompt_cache_key="k") and asked() != asked(id="b")
    assert asked(user=7) == asked()


def test_shares_and_candidates_that_make_no_sense_are_refused(policy, token_policy):
    for options, why in (
        ({"exploration": 1.0}, "parts of 1"),
        ({"share": 0.1}, "for a candidate"),
        ({"candidate": token_policy}, "the candidate chooses among"),
    ):
        with pytest.raises(ValueError, match=why):
            Recorder(DecisionLog(), policy, **options)


def test_what_cannot_be_recorded_is_not_done_and_not_charged(policy, tmp_path):
    made = core(policy, tmp_path / "traffic.sqlite", tenant={"cap": 100.0})
    before = made.multiplier("default")
    made.recorder.log.close()
    with pytest.raises(Refused, match="the decision cannot be recorded"):
        made.admit(AnswerRequest(id="a", text=HARD))
    assert made.ledger.totals()["charged"] == 0 and made.ledger.totals()["open"] == 0
    assert (
        made.multiplier("default") == pytest.approx(before) and made.reservations.held(made.tenants["default"], 0) == 0
    )


def test_what_a_request_cost_waits_for_a_file_that_can_be_written(policy, tmp_path):
    path = tmp_path / "traffic.sqlite"
    made = core(policy, path)
    ticket = made.admit(AnswerRequest(id="a", text=HARD))
    log, made.recorder.log = made.recorder.log, DecisionLog()
    made.recorder.log.close()
    assert made.settle(ticket, 4.0, 4.0, 4, 0, 0) and len(made.recorder.late) == 1
    made.recorder.log = log
    made.retry()
    assert not made.recorder.late and read_traffic(path).traffic.spent.tolist() == [4.0]


_KILLED = """
import os, sys
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import AnswerRequest, Tenant
from alloc_jax.serve.traffic.recording import Recorder
from alloc_jax.logs.decisions import DecisionLog
from tests.serve.made import RECIPES, make_policy
policy = make_policy()
core = Core(policy, RECIPES, {"default": Tenant(budget=3.0)}, Ledger(sys.argv[1]), recorder=Recorder(DecisionLog(sys.argv[2]), policy))
for j in range(50):
    ticket = core.admit(AnswerRequest(id=str(j), text="12 + 45"))
    if j % 2:
        core.settle(ticket, 1.0, 1.0, 1, 0, 0)
os.kill(os.getpid(), 9)
"""


def test_a_server_that_is_killed_loses_no_record_of_what_was_sent(tmp_path):
    paths = [str(tmp_path / name) for name in ("ledger.sqlite", "traffic.sqlite")]
    subprocess.run([sys.executable, "-c", _KILLED, *paths], check=False)
    found = read_traffic(paths[1])
    assert len(found.traffic) == 25 and found.left_out == {"not settled": 25}
    assert Ledger(paths[0]).totals()["requests"] == 50


def test_verdicts_come_late_in_part_and_again(tmp_path, policy):
    path = tmp_path / "traffic.sqlite"
    made = core(policy, path)
    for j in range(4):
        made.settle(made.admit(AnswerRequest(id=f"q{j}", text=HARD)), 1.0, 1.0, 1, 0, 0)
    log = made.recorder.log
    assert log.judged([OutcomeRecord("q0", 1.0, "tests"), OutcomeRecord("q2", 0.0, "tests")]) == ["new", "new"]
    again = [OutcomeRecord("q0", 1.0, "tests"), OutcomeRecord("q2", 1.0, "tests"), OutcomeRecord("q9", 1.0, "tests")]
    assert log.judged(again) == ["known", "contradicts", "unknown"]
    assert log.judged([OutcomeRecord("q1", 1.0, "tests")], tenant="other") == ["unknown"]
    assert read_traffic(path).traffic.reward.tolist()[::2] == [1.0, 0.0]
    log.judged([OutcomeRecord("q0", 0.0, "user"), OutcomeRecord("q3", 0.5, "user")])
    with pytest.raises(ValueError, match="verdicts come from tests, user: say whose count"):
        read_traffic(path)
    found = read_traffic(path, verdict=("tests", "user")).traffic.reward
    assert found[[0, 2, 3]].tolist() == [1.0, 0.0, 0.5] and np.isnan(found[1])
    with pytest.raises(ValueError, match="no verdict comes from 'nobody'; there are tests, user"):
        read_traffic(path, verdict=("nobody",))


def test_files_that_hold_no_decisions_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        read_traffic(tmp_path / "none")
    (tmp_path / "mine").write_text("a text that is longer than the header of a database would be" * 20)
    for open_it in (DecisionLog, read_traffic):
        with pytest.raises(ValueError, match="no file of decisions"):
            open_it(tmp_path / "mine")
    DecisionLog(tmp_path / "empty").close()
    with pytest.raises(ValueError, match="no decision of a policy"):
        read_traffic(tmp_path / "empty")
