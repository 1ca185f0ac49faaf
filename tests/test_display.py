"""Values fit a few lines, and tables become records that hold what the arrays hold."""

import re
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.display import WIDTH, brief
from tests.conftest import made_log


@pytest.fixture(scope="module")
def values():
    log = made_log(questions=60)
    table = aj.measure(log, aj.menu(log, (1, 4)))
    policy = aj.train(table, aj.PolicyConfig(epochs=1, hidden=(4,), folds=2, left_out=1))
    report = aj.evaluate([policy], *(aj.measure(half, table.actions) for half in log.split_samples(0)), (2.0,))
    problem = table.problem()
    several = aj.AllocationProblem(problem.utility, jnp.stack([problem.cost, problem.cost**2], axis=2))
    prepared = aj.prepare(problem), aj.prepare(several)
    found = (log, table, problem, *prepared, aj.solve(problem, 2.0), aj.frontier(problem), policy, report)
    return {type(value).__name__: value for value in found}


@pytest.mark.parametrize(
    "name",
    [
        *("SampleLog", "OutcomeTable", "AllocationProblem", "ProblemInRows", "ProblemInChunks"),
        *("Solution", "Frontier", "Policy", "Report"),
    ],
)
def test_a_value_is_shown_in_a_few_lines(values, name):
    lines = repr(values[name]).splitlines()
    assert lines[0].startswith(f"{name}(") and len(lines) <= 5 and max(map(len, lines)) <= WIDTH
    html = values[name]._repr_html_()
    assert html.count("<table>") == html.count("</table>") and name in html and len(html) < 10_000


def test_numbers_are_shown_where_they_are_known_and_types_where_not(values):
    problem = values["AllocationProblem"]
    assert "status=OPTIMAL" in repr(values["Solution"]) and "action=i32[60]" in repr(values["Solution"])
    infeasible = aj.solve(problem, 0.5)
    assert "status=INFEASIBLE" in repr(infeasible)
    shapes = jax.eval_shape(aj.solve, problem, 2.0)
    assert "spend=f32[]" in repr(shapes) and "status=i32[]" in repr(shapes)
    many = jax.vmap(aj.solve, in_axes=(None, 0))(problem, np.float32([2.0, 3.0]))
    assert re.search(r"spend=\[\d\.\d+, \d\.\d+\]", repr(many))
    assert "u16[3, 1, 2]" in brief([np.zeros((3, 1, 2), np.uint16)])


def test_what_holds_arrays_is_equal_to_itself_alone(values):
    for name in ("AllocationProblem", "Solution", "Policy"):
        assert values[name] == values[name] and values[name] != replace(values[name])


def test_records_of_a_table_are_its_arrays(values):
    table = values["OutcomeTable"]
    frame = table.to_pandas()
    assert len(frame) == table.utility.size and list(frame["action"][:4]) == [a.name for a in table.actions]
    for name in ("utility", "utility_se", "cost", "cost_se", "successes", "samples"):
        assert np.array_equal(frame[name].to_numpy(), getattr(table, name).ravel())
    assert table.records(3) == table.records()[:3] and len(table._repr_html_()) < 10_000
    assert {type(value) for value in table.records()[0].values()} <= {str, float, int}


def test_what_a_table_does_not_know_is_no_number(values):
    table = values["OutcomeTable"]
    valid = table.valid.copy()
    valid[3, 1] = False
    unknown = replace(table, valid=valid).records()[3 * len(table.actions) + 1]
    assert [unknown[name] for name in ("utility", "utility_se", "cost", "cost_se")] == [None] * 4
    several = aj.measure(made_log(questions=5), table.actions, ("samples", "tokens")).records()
    assert {"cost[samples]", "cost_se[tokens]"} <= several[0].keys() and "cost" not in several[0]


def test_records_of_a_frontier_and_a_report_are_their_rows(values):
    found, report = values["Frontier"], values["Report"]
    assert np.array_equal(found.to_pandas()[["spend", "utility", "multiplier"]].to_numpy(), np.stack(
        [found.spend, found.utility, found.multiplier], axis=1))  # fmt: skip
    records = report.records()
    assert report.records(2) == records[:2] and found.records(2) == found.records()[:2]
    assert [(r["rule"], r["budget"]) for r in records] == [(row.rule, row.budget) for row in report.rows]
    (mine,) = (r for r in records if r["rule"] == "value")
    row = report.row("value", 2.0)
    assert (mine["accuracy"], mine["accuracy_low"]) == (row.accuracy.value, row.accuracy.low)
    regret = row.regret.regret
    assert (mine["regret"], mine["regret_low"], mine["regret_high"]) == (regret.value, regret.low, regret.high)
    assert (mine["agreement"], mine["regret_bound"]) == (row.agreement.rate, row.regret.bound)
    assert next(r for r in records if r["rule"] == "uniform mix")["regret"] is None


def test_a_missing_pandas_names_the_extra(values, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"alloc_jax\[pandas\]"):
        values["Frontier"].to_pandas()
