"""The comparison of stopping rules as its user runs it."""

import json

import pytest

from alloc_jax.evaluate.scoring import ORACLE, UNIFORM
from alloc_jax.jobs.sequential import FIRST, INDEX, TEXT, SequentialConfig, compare_sequential
from alloc_jax.learn.policy import load_policy
from alloc_jax.logs import write_log
from alloc_jax.stopping.rules import load_stopping, prior_features, vote_state
from tests.conftest import made_log

OPTIONS = {
    "cap": 6,
    "orders": 4,
    "folds": 2,
    "policies": ("value(epochs=5, folds=2, left_out=1)",),
    "replicates": 50,
    "contexts": 2,
}


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"
    write_log(made_log(questions=160, samples=12), path)
    return str(path)


@pytest.fixture(scope="module")
def run(log_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    return compare_sequential(SequentialConfig(log=log_file, budgets=(1.5, 3.0), **OPTIONS), folder), folder


@pytest.mark.long
def test_a_run_leaves_everything_it_promised(run):
    report, folder = run
    names = {path.name for path in folder.iterdir()}
    drawn = {f"sequential.{ending}" for ending in ("png", "svg", "pdf")}
    assert names == drawn | {"report.md", "report.html", "metrics.jsonl", "policy", "config.json", "stamp.json"}
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(lines) == len(report.rows)
    assert report.questions == 160
    rules = {row.rule for row in report.rows}
    assert {INDEX, TEXT, ORACLE, UNIFORM, "ESC", "myopic", "patient", "index, bayes", "index, fitted, text"} <= rules


@pytest.mark.long
def test_every_rule_spends_about_its_budget_on_held_out_questions(run):
    report, _ = run
    for row in report.rows:
        if not row.rule.startswith(("myopic", "one-shot")):  # these may find nothing worth all of it, or learned little
            assert row.spend.value == pytest.approx(row.budget, rel=0.06), row.rule


@pytest.mark.long
def test_the_saved_rules_serve_beside_their_policy(run):
    _, folder = run
    policy, frontier = load_policy(folder / "policy"), load_stopping(folder / "policy")
    rule = frontier.at(2.0)
    context = frontier.context(prior_features(policy.predict(["1+2+3"]).score)[0])
    assert rule.decide(vote_state([], context)) == "draw"
    assert rule.decide(vote_state(["6"] * 6, context)) == "stop"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "guess"}, "answer is one of"),
        ({"cap": 0}, "cap is 1 or more"),
        ({"policies": ("magic",)}, "unknown policy"),
        ({"sources": ("huge",)}, "unknown source 'huge'"),
        ({"budgets": (0.5,)}, "below the cheapest plan"),
    ],
)
def test_what_cannot_be_compared_leaves_nothing_behind(options, message, log_file, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare_sequential(SequentialConfig(log=log_file, **{**OPTIONS, **options}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_questions_that_lack_samples_are_named_or_left_out_and_sources_chosen_first(tmp_path):
    lines = tmp_path / "samples.jsonl"
    write_log(made_log(questions=140, samples=8), lines)
    kept = [line for line in lines.read_text().splitlines() if not ('"q7"' in line and '"large"' in line)]
    lines.write_text("\n".join(kept) + "\n")
    options = {**OPTIONS, "cap": 4, "sources": ("small", "large"), "resource": "compute", "budgets": (2.0,)}
    with pytest.raises(ValueError, match="'q7' has fewer than 2 samples"):
        compare_sequential(SequentialConfig(log=str(lines), **options), tmp_path / "run")
    report = compare_sequential(SequentialConfig(log=str(lines), skip_bad=True, **options), tmp_path / "run")
    assert report.questions == 139
    assert report.row(FIRST, 2.0).spend.value == pytest.approx(2.0, rel=0.15)
    assert f"{INDEX} (large)" in report.policies
    assert load_stopping(tmp_path / "run" / "policy").sources == ("small", "large")
