"""Pages: what a slider's stops, drawings, tables and examples show are the report's numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.intervals import NOTHING, Interval
from alloc_jax.report.examples import example_questions
from alloc_jax.report.headline import headline
from alloc_jax.report.pages.html import to_html
from alloc_jax.report.pages.page import report_page
from alloc_jax.report.pictures.style import COLOURS, DASHES, line_style


def changed(report, **values):
    return replace(report, rows=tuple(replace(r, **values) if r.rule == "kNN" else r for r in report.rows))


@pytest.mark.parametrize(
    "gain, saving, words",
    [
        ((0.05, 0.02, 0.08), (0.4, 0.3, 0.5), "The same accuracy for 40 % less at a budget of 2, or 5.0 points more"),
        ((0.05, 0.02, 0.08), (0.4, -0.1, 0.5), "5.0 points more for the same spend at a budget of 2"),
        ((0.05, -0.02, 0.08), (0.4, 0.3, 0.5), "No clear gain over treating all questions alike at a budget of 2"),
        ((-0.05, -0.08, -0.02), (-0.4, -0.5, -0.3), "5.0 points less than treating all questions alike"),
    ],
)
def test_the_headline_claims_what_the_intervals_carry(scored, gain, saving, words):
    report = changed(scored[0], over_uniform=Interval(*gain), saving=Interval(*saving))
    assert headline(report, "kNN").startswith(words)


def test_a_page_says_nothing_of_what_cannot_be_told(scored):
    page = to_html(report_page(changed(scored[0], over_uniform=NOTHING, saving=NOTHING), "title", candidates=("kNN",)))
    assert "nan" not in page and "% right at a budget of 2" in page


def test_text_of_a_log_cannot_break_out_of_the_page(scored):
    report, score = scored
    bad = "</script><script>alert(1)</script>"
    cells = example_questions(report, report.row("kNN", 2.0), replace(score, question=(bad,) * len(score)))
    page = to_html(
        report_page(replace(report, unit=bad), bad, candidates=("kNN",), examples=cells, provenance={bad: bad})
    )
    assert bad not in page and page.count("<script") == page.count("</script>") == 3


def test_examples_are_the_questions_that_got_most_gained_most_and_lost_most(scored):
    report, score = scored
    row = report.row("kNN", 2.0)
    table = replace(score, question=score.ids)
    predicted = np.linspace(-0.1, 1, len(score))
    header, rows = example_questions(report, row, table, predicted, "value")
    assert header[4] == "predicted right (value)" and len(example_questions(report, row, table).header) == 6
    place = {name: i for i, name in enumerate(score.ids)}
    shown = [place[cells[1]] for cells in rows]
    assert len(set(shown)) == len(shown) > 6
    spent = sorted(row.outcome.cost, reverse=True)
    assert sorted((row.outcome.cost[i] for i in shown[:7]), reverse=True) == spent[:7]
    for why, name, got, cost, guess, right, alike in rows:
        assert guess == f"{100 * max(predicted[place[name]], 0):.0f} %"
        sign = {"most spent": 0, "most gained": 1, "most lost": -1}[why]
        assert sign * (float(right.split()[0]) - float(alike.split()[0])) >= 0 and got and float(cost) > 0
    at = report.budgets.index(2.0)
    assert at == 1 and np.mean(row.outcome.utility) == pytest.approx(row.accuracy.value)


def test_no_two_lines_look_alike_and_thin_ones_are_seen():
    looks = [tuple(map(str, line_style(n).values())) for n in range(len(COLOURS) * len(DASHES))]
    assert len(set(looks)) == len(looks)
    for colour in COLOURS:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        light = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], light) + 0.05) >= 3, colour


def test_the_drawing_stays_inside_its_frame(scored):
    page = to_html(report_page(scored[0], "title", candidates=("kNN",)))
    points = re.findall(r'points="([^"]+)"', page)
    numbers = [tuple(map(float, point.split(","))) for line in points for point in line.split()]
    assert len(points) == 4 and all(0 <= x <= 860 and 0 <= y <= 380 for x, y in numbers)
