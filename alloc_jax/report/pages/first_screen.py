"""The first screen of a report's page: a headline, a budget to move, what it buys, and a drawing that needs no scripts to be read."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from alloc_jax.evaluate.scoring import HINDSIGHT, UNIFORM, Report, Row
from alloc_jax.report.headline import middle_budget
from alloc_jax.report.pages.page import Page
from alloc_jax.report.pictures.frontiers import Band, uniform_line
from alloc_jax.report.pictures.style import spread_out
from alloc_jax.report.tables import percent, whole_percent

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 380, 50, 190, 24, 44  # of the drawing, and its margins
NAMED = 3  # actions or sources that a card names

STYLE = """
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0 } .card { border: 1px solid var(--line); border-radius: .5rem;
padding: .6rem .9rem; flex: 1 1 13rem } .card b { display: block; font-size: 1.5rem; line-height: 1.3 } .card span { color: var(--soft); font-size: .9rem }
input[type=range] { width: 100%; accent-color: var(--policy) } .drawing { width: 100%; min-width: 34rem; height: auto; max-width: 62rem }
.drawing text { fill: var(--ink); font-size: 13px; paint-order: stroke; stroke: var(--ground); stroke-width: 4px; stroke-linejoin: round }
.drawing .name { fill: var(--policy); font-weight: 600 } .drawing .grid { stroke: var(--line) } .drawing .leader { stroke: var(--line) }
.drawing .policy { stroke: var(--policy); fill: none; stroke-width: 3 } .drawing .band { fill: var(--policy); opacity: .15 }
.drawing .uniform { stroke: var(--soft); fill: none; stroke-width: 2.5 } .drawing .oracle { stroke: var(--ink); fill: none; stroke-dasharray: 6 4; stroke-width: 1.5 }
.drawing circle { stroke: var(--ground) } .drawing .dot { fill: var(--policy) } .drawing .alike { fill: var(--soft) } .drawing .step { stroke: var(--ink); stroke-width: 1.5 }
"""

_SCRIPT = """
const stops = JSON.parse(document.getElementById('stops').textContent), slide = document.getElementById('budget');
const at = id => document.getElementById(id), put = (id, names) => Object.entries(names).forEach(([k, v]) => at(id).setAttribute(k, v));
const show = () => {
    const stop = stops[slide.value], m = stop.marks;
    for (const [name, text] of Object.entries(stop.texts)) if (at(name)) at(name).textContent = text;
    slide.setAttribute('aria-valuetext', `${stop.texts.chosen}: ${stop.texts.accuracy}`);
    put('mark-policy', {cx: m.policy[0], cy: m.policy[1]});
    for (const name of ['uniform', 'equal']) {
        at(`mark-${name}`).style.display = at(`step-${name}`).style.display = m[name] ? '' : 'none';
        if (!m[name]) continue;
        put(`mark-${name}`, {cx: m[name][0], cy: m[name][1]});
        put(`step-${name}`, {x1: m.policy[0], y1: m.policy[1], x2: m[name][0], y2: m[name][1]});
    }
};
at('slide').hidden = false;
slide.addEventListener('input', show);
"""


@dataclass(frozen=True)
class Stop:
    """What stands on the page at one budget."""

    texts: Mapping[str, str]  # by the id of the element that holds it
    marks: Mapping[
        str, tuple[float, float] | None
    ]  # the policy, the uniform mix, and the mix at equal accuracy; in pixels


def first_screen(page: Page, policy: str) -> str:
    """Cards, slider and drawing of a policy's report, as HTML; without a script they show the middle budget."""
    rows = _rows(page, policy)
    scale = _Scale(page, policy, rows)
    stops = [_stop(page, row, scale) for row in rows]
    start = [row.budget for row in rows].index(middle_budget(page.report, policy))
    unit, now = html.escape(page.report.unit), stops[start].texts
    cards = "".join(
        f'<div class="card"><span>{title}</span><b id="{name}">{html.escape(now[name])}</b>'
        f'<span id="{name}-note">{html.escape(now[f"{name}-note"])}</span></div>'
        for name, title in (
            ("accuracy", "right answers"),
            ("saving", "spend for the same accuracy"),
            ("who", "a question gets"),
        )
        if now[name]
    )
    data = json.dumps([asdict(stop) for stop in stops]).replace("<", "\\u003c")
    slide = (
        f'<div id="slide" hidden><label for="budget">Budget: <output id="chosen" for="budget">{now["chosen"]}</output> {unit} per'
        f' question</label><input id="budget" type="range" min="0" max="{len(stops) - 1}" step="1" value="{start}"></div>'
        if len(stops) > 1
        else ""
    )
    script = f'<script type="application/json" id="stops">{data}</script><script>{_SCRIPT}</script>' if slide else ""
    drawing = _drawing(page, policy, scale, stops[start])
    box = f'<div class="wide" role="region" aria-label="Accuracy against spend" tabindex="0">{drawing}</div>'
    return f'{slide}<div class="cards" aria-live="polite">{cards}</div>{box}{script}'


def _rows(page: Page, policy: str) -> list[Row]:
    """The policy's rows at the budgets of the curve and at those that were asked for, which have the better intervals."""
    known = {
        row.budget: row for report in (page.curve, page.report) if report for row in report.rows if row.rule == policy
    }
    return [known[budget] for budget in sorted(known)]


def _uniform(page: Page, budget: float) -> Row:
    asked = budget in page.report.budgets
    return (page.report if asked or page.curve is None else page.curve).row(UNIFORM, budget)


class _Scale:
    """From spend and accuracy (%) to pixels."""

    def __init__(self, page: Page, policy: str, rows: Sequence[Row]):
        report = page.curve or page.report
        self.band = Band.of(rows, policy)
        self.oracle = None if report.oracle in (HINDSIGHT, policy) else Band.of(report.rows, report.oracle)
        self.uniform = uniform_line(report)
        self.reach = 1.02 * max(*(row.budget for row in rows), *(row.spend.value for row in rows))
        alike = [100 * _uniform(page, row.budget).accuracy.value for row in rows]
        known = np.zeros(0) if self.oracle is None else self.oracle.accuracy[:, 0]
        values = np.concatenate([self.band.accuracy[:, 1:].ravel(), known, alike])
        self.low, self.high = np.nanmin(values) - 1, np.nanmax(values) + 1

    def x(self, spend):
        return LEFT + np.asarray(spend) / self.reach * (WIDTH - LEFT - RIGHT)

    def y(self, accuracy):
        return HEIGHT - BOTTOM - (np.asarray(accuracy) - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def point(self, spend: float, accuracy: float) -> tuple[float, float] | None:
        """In pixels; None outside the drawing or where a number is unknown."""
        if not (0 <= spend <= self.reach and self.low <= accuracy <= self.high):
            return None
        return round(float(self.x(spend)), 1), round(float(self.y(accuracy)), 1)


def _stop(page: Page, row: Row, scale: _Scale) -> Stop:
    uniform, saving = _uniform(page, row.budget), row.saving
    alike = (
        "" if np.isnan(uniform.accuracy.value) else f"treating all alike: {whole_percent(uniform.accuracy.value, 1)}"
    )
    paid, equal = row.spend.value, np.nan
    note = f"it spends {paid:.3g}; how much the uniform mix would need is unknown"
    saved = "n/a"
    if not np.isnan(saving.value):
        saved = f"{abs(100 * saving.value):.0f} % {'less' if saving.value >= 0 else 'more'}"
        equal = paid / (1 - saving.value)
        note = f"saving {percent(saving, '.0f')} %: it spends {paid:.3g} where the uniform mix needs {equal:.3g}"
    who = _who(page.report, row)
    texts = {
        "chosen": f"{row.budget:.3g}",
        "accuracy": whole_percent(row.accuracy.value, 1),
        "accuracy-note": "; ".join(filter(None, (alike, f"{percent(row.over_uniform, '+.1f')} points at equal spend"))),
        "saving": saved,
        "saving-note": note,
        "who": next(iter(who), ""),
        "who-note": ", ".join(who[1:]),
    }
    right = 100 * row.accuracy.value
    marks = {
        "policy": scale.point(paid, right),
        "uniform": scale.point(row.budget, 100 * uniform.accuracy.value),
        "equal": scale.point(equal, right),
    }
    return Stop(texts, marks)


def _who(report: Report, row: Row) -> list[str]:
    """What a question gets on average: the commonest actions with their shares, or samples of each source."""
    if row.outcome is not None and row.outcome.samples is not None:
        means = {source: float(np.mean(drawn)) for source, drawn in row.outcome.samples.items()}
        return [
            f"{mean:.2g} {source}" if mean >= 0.1 else f"{mean:.2f} {source}"
            for source, mean in _largest(means.items())
        ]
    if row.plan is None:
        return []
    shares = zip(report.actions, map(float, row.plan.mean(axis=0)), strict=True)
    return [f"{100 * share:.0f} % {action}" for action, share in _largest(shares)]


def _largest(parts: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return [part for part in sorted(parts, key=lambda part: -part[1]) if part[1] >= 0.005][: NAMED + 1]


def _drawing(page: Page, policy: str, scale: _Scale, stop: Stop) -> str:
    """Accuracy against spend: the policy with its band, the uniform mix, the oracle, and the marks of one budget."""
    band, lines = (
        scale.band,
        {"uniform": (*scale.uniform, UNIFORM), "policy": (scale.band.spend, scale.band.accuracy[:, 0], policy)},
    )
    if scale.oracle is not None:
        lines["oracle"] = (scale.oracle.spend, scale.oracle.accuracy[:, 0], scale.oracle.name)
    around = [
        *zip(band.spend, band.accuracy[:, 2], strict=True),
        *reversed(list(zip(band.spend, band.accuracy[:, 1], strict=True))),
    ]
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{scale.y(y):.1f}" y2="{scale.y(y):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{scale.y(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        for y in _ticks(scale.low, scale.high)
    ]
    parts += [
        f'<text x="{scale.x(x):.1f}" y="{floor + 18}" text-anchor="middle">{x:g}</text>' for x in _ticks(0, scale.reach)
    ]
    parts.append(f'<polygon class="band" points="{_points(around, scale)}"/>')
    ends = []
    for name, (spend, accuracy, label) in lines.items():
        shown = _clipped(spend, accuracy, scale)
        parts.append(f'<polyline class="{name}" points="{_points(shown, scale)}"/>')
        x, y = float(scale.x(shown[-1][0])), float(scale.y(shown[-1][1]))
        if x < right - 60:  # beside its end; the others at the margin, apart
            kind = ' class="name"' if name == "policy" else ""
            parts.append(f'<text{kind} x="{x + 10:.1f}" y="{y + 20:.1f}">{html.escape(label)}</text>')
        else:
            ends.append((y, x, label))
    ends.sort()
    for (y, x, label), height in zip(ends, spread_out([end[0] for end in ends], 18), strict=True):
        parts.append(f'<line class="leader" x1="{x + 3:.1f}" y1="{y:.1f}" x2="{right + 8}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{right + 12}" y="{height + 4:.1f}">{html.escape(label)}</text>')
    here = stop.marks["policy"] or (LEFT, floor)
    for name, mark in stop.marks.items():
        x, y = mark or here
        hidden = "" if mark else ' style="display:none"'
        if name != "policy":
            parts.append(
                f'<line class="step" id="step-{name}" x1="{here[0]}" y1="{here[1]}" x2="{x}" y2="{y}"{hidden}/>'
            )
        kind = "dot" if name == "policy" else "alike"
        parts.append(f'<circle class="{kind}" id="mark-{name}" cx="{x}" cy="{y}" r="6"{hidden}/>')
    parts.append(f'<text x="{LEFT}" y="14">right answers (%)</text>')
    unit = html.escape(page.report.unit)
    parts.append(
        f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">spend per question ({unit})</text>'
    )
    alt = html.escape(f"Accuracy against spend of {policy}, beside the uniform mix; the table below has the numbers")
    return f'<svg class="drawing" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{alt}">{"".join(parts)}</svg>'


def _clipped(spend, accuracy, scale: _Scale) -> list[tuple[float, float]]:
    """The part of a line that lies in the drawing."""
    inside = np.isfinite(accuracy) & (np.asarray(spend) <= scale.reach) & (np.asarray(accuracy) >= scale.low)
    return list(zip(np.asarray(spend)[inside], np.asarray(accuracy)[inside], strict=True))


def _points(points: Iterable[tuple[float, float]], scale: _Scale) -> str:
    return " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points if np.isfinite(y))


def _ticks(low: float, high: float) -> np.ndarray:
    """Five to ten round numbers between two."""
    rough = (high - low) / 10
    size = 10 ** np.floor(np.log10(rough))
    step = size * next(m for m in (1, 2, 5, 10) if m * size >= rough)
    return np.round(np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step, 12)
