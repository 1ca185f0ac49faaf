"""The answer that a report begins with: the numbers of its rows, in words that stay true where there is no telling."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.intervals import NOTHING, Interval
from alloc_jax.evaluate.scoring import UNIFORM
from alloc_jax.report.headline import answer, answer_notes, answer_table, best_policy
from alloc_jax.report.tables import plain_table


@pytest.fixture
def report(scored):
    return scored[0]


def changed(report, policy, **values):
    rows = (replace(row, **values) if row.rule == policy else row for row in report.rows)
    return replace(report, rows=tuple(rows))


def test_the_sentence_holds_the_numbers_of_the_middle_row(report):
    row, uniform = report.row("kNN", 2.0), report.row(UNIFORM, 2.0)
    kept = changed(report, "kNN", saving=Interval(0.4, 0.349, 0.426), spend=Interval(2.05, 1.9, 2.2))
    first, second = answer(kept, "kNN").splitlines()
    assert first == (
        f"At a budget of 2 {report.unit} per question the policy 'kNN' is right on {100 * row.accuracy.value:.1f} % where treating all"
        f" questions alike gives {100 * uniform.accuracy.value:.1f} %."
    )
    missed = answer(changed(report, "kNN", spend=Interval(2.95, 2.5, 3.4)), "kNN")
    assert f"{100 * row.accuracy.value:.1f} %, spending 2.95, where" in missed
    assert second.startswith("It spends 40 % less [35, 43] than treating all alike would need to reach the same ")


def test_what_costs_more_is_not_called_less_and_nothing_is_said_where_there_is_no_telling(report):
    assert "It spends 20 % more [-5, 45] than" in answer(
        changed(report, "kNN", saving=Interval(-0.2, -0.45, 0.05)), "kNN"
    )
    assert "It spends" not in answer(changed(report, "kNN", saving=NOTHING), "kNN")
    dear = answer(changed(report, UNIFORM, accuracy=NOTHING), "kNN")
    assert "where treating all questions alike costs more than that." in dear and "nan" not in dear


def test_the_best_policy_earns_most_above_the_uniform_mix(report):
    better = changed(report, "prompt length", over_uniform=Interval.exactly(1.0))
    assert best_policy(better) == "prompt length" and best_policy(better, ("kNN",)) == "kNN"
    assert best_policy(replace(report, policies=())) == report.oracle
    assert "Of 2 policies (kNN, prompt length)" in answer_notes(report) and "Of" not in answer_notes(report, ("kNN",))


def test_a_budget_that_a_policy_cannot_keep_is_left_out(report):
    fewer = replace(report, rows=tuple(row for row in report.rows if (row.rule, row.budget) != ("kNN", 1.5)))
    assert [row[0] for row in answer_table(fewer, "kNN")[1]] == ["2", "3"]
    assert answer(fewer, "kNN").startswith("At a budget of 2 ") and best_policy(fewer, ("kNN",)) == "kNN"


def test_the_table_has_a_row_per_budget(report):
    header, rows = answer_table(report, "kNN")
    assert [row[0] for row in rows] == ["1.5", "2", "3"]
    lines = plain_table(header, rows).splitlines()
    assert len(lines) == 4 and len(set(map(len, lines))) == 1
    assert np.all([f"{100 * report.row('kNN', 2.0).over_uniform.value:+.1f}" in rows[1][4]])
