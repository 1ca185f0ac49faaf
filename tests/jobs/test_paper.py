"""The paper's protocol: what it takes from a log, and that its two readings are scored as they say."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.scoring import IN_SAMPLE, ORACLE
from alloc_jax.jobs.paper import (
    RULES,
    RUNGS,
    PaperConfig,
    gains_table,
    protocol_log,
    published_split,
    published_table,
    reproduce,
)
from alloc_jax.logs import write_log
from tests.conftest import made_log

pytest.importorskip("xgboost")
CONFIG = PaperConfig(
    questions=100, samples=32, seeds=2, folds=2, policies=("value(epochs=2, hidden=(8,), folds=2, left_out=1)",)
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    write_log(made_log(questions=130, samples=40), folder / "log.jsonl")
    config = PaperConfig(**{**vars(CONFIG), "log": str(folder / "log.jsonl")})
    return reproduce(config, folder / "run"), folder / "run"


def test_the_log_is_cut_to_the_protocol():
    log, source = protocol_log(made_log(questions=130, samples=40), CONFIG)
    assert source == "large"  # the most accurate one
    assert len(log) == 100 and log.correct.shape == (100, 1, 32)
    assert (log.count == 32).all() and log.completion_tokens.shape == (100, 1, 32)
    assert protocol_log(made_log(130, 40), PaperConfig(**{**vars(CONFIG), "source": "small"}))[1] == "small"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"questions": 200}, "has 130: ask for fewer"),
        ({"samples": 48}, "has 0: ask for fewer"),
        ({"source": "huge"}, "unknown source 'huge'"),
    ],
)
def test_too_little_for_the_protocol_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        protocol_log(made_log(questions=130, samples=40), PaperConfig(**{**vars(CONFIG), **changed}))


def test_half_of_the_samples_fill_the_votes():
    assert PaperConfig().rungs == PaperConfig(samples=32).rungs == RUNGS
    assert PaperConfig(samples=31).rungs == RUNGS[:4] and PaperConfig(samples=8).rungs == RUNGS[:3]
    with pytest.raises(ValueError, match="8 or more, got 7"):
        PaperConfig(samples=7)


def test_questions_of_one_text_are_learned_from_or_scored():
    log = made_log(questions=60, samples=4)
    apart = replace(log, question=tuple(map(str, range(60))))
    order = np.random.default_rng(5).permutation(60)
    train, test = published_split(apart, 0.8, 5)
    assert train.tolist() == sorted(order[:48]) and test.tolist() == sorted(order[48:])
    train, test = published_split(replace(log, question=tuple(map(str, range(20))) * 3), 0.8, 5)
    assert len(train) == 48 and sorted([*train, *test]) == list(range(60))
    assert not set(train % 20) & set(test % 20)


@pytest.mark.long
def test_fixed_spends_the_largest_vote_within_the_budget_and_the_oracle_is_best(found):
    reproduction, _ = found
    for budget, rung in ((1.5, 1), (2.0, 2), (3.0, 2)):
        assert (reproduction.row("Fixed", budget).spend == rung).all()
        oracle = reproduction.row(RULES[4], budget)
        assert (oracle.spend <= budget + 1e-6).all()
        for rule in RULES[:3:2]:  # of rules that spend no more
            assert (oracle.accuracy >= reproduction.row(rule, budget).accuracy - 1e-6).all()
    assert reproduction.row("Fixed", 3.0).accuracy == pytest.approx(reproduction.row("Fixed", 1.5).accuracy, abs=1e-5)


@pytest.mark.long
def test_the_honest_reading_has_all_questions_and_disjoint_samples(found):
    report = found[0].honest.report
    assert report.questions == 100
    for budget in CONFIG.budgets:
        assert report.row(ORACLE, budget).accuracy.value <= report.row(IN_SAMPLE, budget).accuracy.value
        assert len(np.unique(report.row("trees (classes)", budget).plan)) <= 3  # averaged over two repetitions


@pytest.mark.long
def test_the_page_has_published_rows_beside_ours(found):
    reproduction, folder = found
    header, rows = published_table(reproduction, CONFIG.budgets)
    assert [row[:2] for row in rows] == [
        ["this log", "1.5"],
        ["published: MATH, DeepSeek-V3", "2"],
        ["this log", "2"],
        ["published: MATH, DeepSeek-V3", "3"],
        ["this log", "3"],
    ]
    assert rows[3][header.index("oracle (in sample)")] == "58.6"
    assert len(gains_table(reproduction, CONFIG.budgets)[1]) == 3
    page = (folder / "report.md").read_text()
    assert "57.5" in page and ", ".join(map(str, RUNGS)) in page
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        *(f"frontier.{ending}" for ending in ("png", "svg", "pdf")),
        "metrics.jsonl",
        "config.json",
        "stamp.json",
    }
