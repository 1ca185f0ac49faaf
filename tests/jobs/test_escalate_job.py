"""The comparison of escalation as its user runs it."""

import json

import pytest

from alloc_jax.evaluate.scoring import HINDSIGHT, ORACLE, UNIFORM
from alloc_jax.jobs.escalate import BLIND, ESCALATE, EscalateConfig, compare_escalation
from alloc_jax.learn.policy import load_policy
from alloc_jax.logs import write_log
from alloc_jax.stopping.sources.rules import load_escalation
from alloc_jax.stopping.sources.solver_input import policy_promise
from tests.conftest import made_log
from tests.stopping.test_escalate import SOURCES, made_answers, scored

OPTIONS = {
    "folds": 2,
    "policies": ("value(epochs=5, folds=2, left_out=1)",),
    "replicates": 50,
    "beliefs": ("classes", "classes without text"),
}


@pytest.fixture(scope="module")
def single_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "answers.jsonl"
    write_log(made_answers(300), path)
    folder = tmp_path_factory.mktemp("runs") / "one"
    config = EscalateConfig(log=str(path), sources=SOURCES, budgets=(2.5, 6.0), **OPTIONS)
    return compare_escalation(config, folder), folder


def test_a_run_leaves_everything_it_promised(single_run):
    report, folder = single_run
    names = {path.name for path in folder.iterdir()}
    drawn = {f"{name}.{ending}" for name in ("escalate", "paths") for ending in ("png", "svg", "pdf")}
    records = {"report.md", "report.html", "metrics.jsonl", "policy", "config.json", "stamp.json"}
    assert names == drawn | records
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines]
    rules = {row.rule for row in report.rows}
    cascades = {
        "agreement cascade",
        "confidence cascade",
        "consistency cascade",
        "Adaptive-Consistency",
        "ESC",
        "cascade routing",
    }
    assert {ESCALATE, BLIND, HINDSIGHT, UNIFORM, "one-shot, value", "best single source", *cascades} <= rules
    text = (folder / "report.md").read_text()
    assert "Where questions go" in text and "posterior" in text and "mean seconds" in text


def test_the_rule_spends_its_budget_on_held_out_questions_and_is_not_below_a_mix_that_is_learned_from_as_few(
    single_run,
):
    report, _ = single_run
    for budget in (2.5, 6.0):  # beside the kink of the uniform mix at 3, the cost of a source
        assert report.row(ESCALATE, budget).spend.value == pytest.approx(
            budget, rel=0.15
        )  # 150 questions to learn from
        assert report.difference(ESCALATE, "uniform mix, learned", budget).high > 0


def test_the_saved_rules_serve_beside_their_policy(single_run):
    _, folder = single_run
    policy, frontier = load_policy(folder / "policy"), load_escalation(folder / "policy")
    assert policy.actions == tuple(f"single({name})" for name in frontier.sources)
    promise = policy_promise(policy, frontier.sources, ["a plain question 7"])
    rule = frontier.at(3.0)
    question = rule.start(promise.accuracy[0], promise.cost[0], promise.features[0], ticket=0.5)
    assert rule.decide(question)
    known = policy_promise(policy, frontier.sources, ["a plain question 7"] * 300, seen=True)
    assert known.accuracy.shape == known.cost.shape == (300, 3) and (known.accuracy[0] != known.accuracy[1]).any()
    with pytest.raises(ValueError, match="trained on 300 questions, got 1"):
        policy_promise(policy, frontier.sources, ["a plain question 7"], seen=True)
    with pytest.raises(ValueError, match="no action of one sample of source 'nobody'"):
        policy_promise(policy, ["nobody"], ["a plain question 7"])


@pytest.mark.long
def test_repeated_samples_meet_an_oracle_of_disjoint_samples(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(made_log(120, 8), path)
    config = EscalateConfig(
        log=str(path), resource="compute", budgets=(1.0,), limits=("2", "3"), cap=4, rounds=2, wave=3, **OPTIONS
    )
    report = compare_escalation(config, tmp_path / "run")
    assert report.row(ESCALATE, 1.0).spend.value == pytest.approx(1.0, rel=0.1)
    assert report.oracle == ORACLE and load_escalation(tmp_path / "run" / "policy").rounds == 2


@pytest.mark.long
def test_votes_of_one_source_are_compared_with_the_cascades_that_need_no_second_one(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(made_log(120, 8), path)
    options = {
        "sources": ("large",),
        "resource": "samples",
        "budgets": (2.0,),
        "limits": ("4",),
        "policies": (),
        "folds": 2,
    }
    report = compare_escalation(EscalateConfig(log=str(path), **options, replicates=50), tmp_path / "run")
    rules = {row.rule for row in report.rows}
    assert {ESCALATE, "Adaptive-Consistency"} <= rules and not {"consistency cascade", BLIND} & rules


@pytest.mark.long
def test_a_reward_that_the_job_is_told_to_look_at_helps(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(scored(made_answers(300), 2.0), path)
    options = {"log": str(path), "sources": SOURCES, "resource": "usd", "budgets": (2.5,), "policies": (), "folds": 2}
    plain, read = (
        compare_escalation(
            EscalateConfig(**options, beliefs=("classes",), replicates=50, evidence=evidence),
            tmp_path / f"run {evidence}",
        )
        for evidence in ("", "reward")
    )
    assert read.row(ESCALATE, 2.5).accuracy.value > plain.row(ESCALATE, 2.5).accuracy.value + 0.02
    with pytest.raises(ValueError, match="evidence 'completion_tokens': no sample of the log has it"):
        compare_escalation(EscalateConfig(**options, evidence="completion_tokens"), tmp_path / "none")


@pytest.mark.long
def test_one_source_with_one_sample_is_asked_and_no_cascade_stands_in_the_way(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(made_answers(120), path)
    options = {"sources": SOURCES[-1:], "resource": "usd", "policies": (), "folds": 2, "replicates": 50}
    report = compare_escalation(EscalateConfig(log=str(path), budgets=(10.5,), **options), tmp_path / "run")
    assert report.row(ESCALATE, 10.5).spend.value == pytest.approx(10)
    with pytest.raises(ValueError, match="below what one sample of the cheapest source costs, 10"):
        compare_escalation(EscalateConfig(log=str(path), budgets=(0.1, 20.0), **options), tmp_path / "none")


@pytest.mark.long
def test_a_verifier_ends_questions_of_one_source_early(tmp_path):
    path = tmp_path / "log.jsonl"
    write_log(made_log(120, 8), path)
    config = EscalateConfig(
        log=str(path),
        answer="verified",
        sources=("large",),
        resource="samples",
        budgets=(1.5, 2.5),
        limits=("4",),
        **OPTIONS,
    )
    report = compare_escalation(config, tmp_path / "run")
    row = report.row(ESCALATE, 1.5)
    assert row.spend.value == pytest.approx(1.5, rel=0.15) and row.over_uniform.high > 0
    assert report.row("confidence cascade", 2.5).spend.value > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "best"}, "vote or verified"),
        ({"policies": ("imitation",)}, "predicts no utilities"),
        ({"policies": ("value", "decision")}, "one policy"),
        ({"limits": ("0",)}, "whole numbers"),
        ({"wave": 0}, "wave is 1 or more"),
        ({"questions": -5}, "questions are 0 or more"),
        ({"budgets": (5.0, 5.0)}, "budgets differ"),
    ],
)
def test_a_wrong_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EscalateConfig(**options)
