"""The comparison as its user runs it: tables, verdicts, ablations, transfer, pictures, and what it says to bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.comparison.contenders import (
    ABLATIONS,
    BASELINES,
    KNN,
    LENGTH,
    OUTCOMES,
    POLICIES,
    ablation,
    parse_policy,
)
from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.scoring import HINDSIGHT, ORACLE, UNIFORM
from alloc_jax.jobs.compare import CompareConfig, compare_policies
from alloc_jax.learn.targets import LABELS
from alloc_jax.learn.training import KINDS
from alloc_jax.logs import write_log
from alloc_jax.report.comparison import (
    difference_table,
    transfer_table,
    variant_table,
    verdict,
    verdict_table,
)
from tests.conftest import made_log

SMALL = "value(epochs=2, hidden=(8,), folds=2, left_out=1)"
QUICK = {
    "policies": (SMALL,),
    "resource": "samples",
    "baselines": (KNN, LENGTH),
    "folds": 2,
    "seeds": 1,
    "replicates": 100,
    "workers": 2,
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_log(made_log(questions=240, samples=32), folder / "first.jsonl")
    write_log(made_log(questions=90, samples=1, seed=1), folder / "single.jsonl")
    return str(folder / "first.jsonl"), str(folder / "single.jsonl")


@pytest.fixture(scope="module")
def run(logs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    config = CompareConfig(logs=logs[:1], budgets=(2.0, 4.0), ablate=SMALL, transfer=True, **QUICK)
    return compare_policies(config, folder)[0], folder


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


@pytest.mark.long
def test_a_run_leaves_everything_it_promised(run):
    comparison, folder = run
    names = {path.name for path in folder.iterdir()}
    drawn = {f"first_frontier.{ending}" for ending in ("png", "svg", "pdf")}
    assert names == drawn | {"report.md", "metrics.jsonl", "config.json", "stamp.json"}
    page = (folder / "report.md").read_text()
    assert "wins / ties / losses" in page and "learned from large" in page
    lines = metrics(folder)
    assert {line["of"] for line in lines} == {"first", "transfer to small", "transfer to large"}
    assert sum(line["of"] == "first" for line in lines) == len(comparison.report.rows)


@pytest.mark.long
def test_every_rule_is_scored_on_every_question(run):
    comparison, _ = run
    assert comparison.report.questions == 240
    assert comparison.report.policies == (SMALL, KNN, LENGTH, OUTCOMES)
    assert comparison.report.oracle == ORACLE
    assert comparison.learned == [SMALL]


@pytest.mark.long
def test_the_rule_that_is_told_the_outcomes_is_above_the_oracle_that_trusts_them_and_has_no_agreement(run):
    report = run[0].report
    for budget in report.budgets:
        assert report.row(OUTCOMES, budget).agreement is None
        assert report.difference(OUTCOMES, ORACLE, budget).low > 0


@pytest.mark.long
def test_wins_ties_and_losses_are_those_of_the_intervals(run):
    comparison, _ = run
    header, rows = verdict_table([comparison])
    assert header[1:] == [f"over {name}" for name in (UNIFORM, KNN, LENGTH, "best baseline")]
    cells = dict(zip(header, next(row for row in rows if row[0] == OUTCOMES), strict=True))
    verdicts = [verdict(comparison.report.difference(OUTCOMES, KNN, budget)) for budget in (2.0, 4.0)]
    assert cells[f"over {KNN}"] == " / ".join(str(verdicts.count(v)) for v in (1, 0, -1))
    assert next(row for row in rows if row[0] == KNN)[2] == ""  # nobody is measured against himself
    assert [verdict(Interval(0.0, low, high)) for low, high in ((0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1))] == [1, 0, -1]


@pytest.mark.long
def test_the_best_baseline_is_the_best_at_that_budget(run):
    comparison, _ = run
    for budget in (2.0, 4.0):
        best = comparison.best_of((KNN, LENGTH), budget)
        assert all(comparison.difference(rule, best, budget).value <= 0 for rule in comparison.baselines)
    assert len(difference_table(comparison)[1]) == 2


@pytest.mark.long  # as many programs as sizes
def test_an_ablation_has_a_row_for_every_variant_and_a_picture(logs, tmp_path):
    config = CompareConfig(logs=logs[:1], budgets=(2.0, 4.0), ablate=SMALL, ablations=("size",), **QUICK)
    (comparison,) = compare_policies(config, tmp_path / "run")
    header, rows = variant_table(comparison.ablations["size"])
    assert len(header) == 3 and len(rows) == 8
    assert (tmp_path / "run" / "first_sizes.png").exists()
    assert "ablation of size" in (tmp_path / "run" / "report.md").read_text()
    assert {line["of"] for line in metrics(tmp_path / "run")} == {"first", "first, ablation of size"}


@pytest.mark.long
def test_transfers_have_a_row_for_every_variant(run):
    reports = {"small": run[0].report}
    assert transfer_table(reports)[1][0][0] == "small"


@pytest.mark.long
def test_single_samples_are_compared_in_hindsight(logs, tmp_path):
    config = CompareConfig(logs=logs[1:], **{**QUICK, "resource": "compute"})
    (comparison,) = compare_policies(config, tmp_path / "run")
    assert comparison.report.oracle == HINDSIGHT
    assert OUTCOMES not in comparison.report.policies
    assert "hindsight" in (tmp_path / "run" / "report.md").read_text()


def test_every_kind_of_policy_takes_part_unasked():
    assert CompareConfig().policies == POLICIES
    assert {parse_policy(text, (1.0,)).kind for text in POLICIES} == set(KINDS)
    assert {parse_policy(text, (1.0,)).labels for text in POLICIES} == set(LABELS)
    assert CompareConfig().baselines == BASELINES


@pytest.mark.parametrize("name", ABLATIONS)
def test_variants_of_an_ablation_differ(name):
    variants = ablation(name, "value", (2.0, 4.0))
    assert len({variant.name for variant in variants}) == len(variants) > 2


def test_options_of_a_policy_are_taken_over():
    config = parse_policy("imitation(epochs=3, hidden=(8, 8))", (2.0,))
    assert (config.kind, config.epochs, config.hidden, config.budgets) == ("imitation", 3, (8, 8), (2.0,))


BAD = [
    ({"logs": ()}, "needs a log"),
    ({"logs": ("nowhere.jsonl",)}, "nowhere.jsonl"),
    ({"policies": ("guess",)}, "unknown policy 'guess'"),
    ({"policies": ("value(speed=3)",)}, "no option 'speed'"),
    ({"policies": ("value(epochs=",)}, "not of the form"),
    ({"policies": ("value(3)",)}, "not of the form"),
    ({"policies": ("value(epochs=0)",)}, "1 epoch or more"),
    ({"baselines": ("luck",)}, "unknown baseline 'luck'"),
    ({"ablations": ("all",)}, "unknown ablation 'all'"),
    ({"folds": 1}, "2 folds or more"),
    ({"folds": 500}, "500 folds need as many questions"),
    ({"folds": 20, "by_group": True}, "20 folds need as many groups"),
    ({"questions": 6}, "training on 2 folds needs 4 questions or more, got 3"),
    ({"seeds": 0}, "seeds and workers"),
    ({"actions": "vote(large,1)"}, "one action"),
    ({"budgets": (0.5,)}, "first: budget 0.5 is below the cheapest plan"),
    ({"actions": "vote(large,1),vote(large,2)", "transfer": True}, "needs two sources"),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_bad_input_is_named_and_leaves_nothing(changed, message, logs, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        compare_policies(CompareConfig(**{"logs": logs[:1], "budgets": (2.0,), **QUICK, **changed}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_logs_of_the_same_name_are_refused(logs, tmp_path):
    with pytest.raises(ValueError, match="different names"):
        compare_policies(CompareConfig(logs=logs[:1] * 2, **QUICK), tmp_path / "run")


@pytest.mark.long
def test_seeds_change_the_folds(logs, tmp_path):
    config = CompareConfig(logs=logs[:1], budgets=(2.0,), **{**QUICK, "policies": ()})
    (first,), (again,), (other,) = (
        compare_policies(replace(config, seed=seed), tmp_path / name) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    plans = [found.report.row(KNN, 2.0).plan for found in (first, again, other)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])
