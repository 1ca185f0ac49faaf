"""Pictures of what budgets buy: the frontier, the multiplier, how far rules lie above the uniform mix. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alloc_jax.evaluate.scoring import HINDSIGHT, Report, Row
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.report.pictures.style import COLOURS, FAINT, GREY, INK, line_style, listed, pyplot, save
from alloc_jax.solve import Frontier


@dataclass(frozen=True, eq=False)
class Band:
    """What a rule earns along its spend, in points, with intervals."""

    name: str
    spend: np.ndarray  # f64[M]
    accuracy: np.ndarray  # f64[M, 3] value, low, high
    gain: np.ndarray  # f64[M, 3] above the uniform mix at the same spend

    @classmethod
    def of(cls, rows: Iterable[Row], rule: str) -> Band:
        """The band of a rule, from the rows of a report."""
        mine = sorted((row for row in rows if row.rule == rule), key=lambda row: row.spend.value)
        parts = ([row.accuracy for row in mine], [row.over_uniform for row in mine])
        ends = (np.array([[100 * end for end in (i.value, i.low, i.high)] for i in part]) for part in parts)
        return cls(rule, np.array([row.spend.value for row in mine]), *(e.reshape(-1, 3) for e in ends))


def plot_frontier(report: Report, path: Path, banded: Sequence[str] = (), answer: Row | None = None) -> str:
    """Accuracy against spend, and how far it lies above the uniform mix at the same spend, with 95 % bands.

    Args:
      report: at the budgets of the curves.
      path: of the picture.
      banded: the rules that stand out, with bands; those on the right are paired and much narrower.
      answer: the row whose saving at equal accuracy is marked, where it has one.
    """
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    left.plot(*uniform_line(report), color=GREY, label="uniform mix")
    cost, accuracy = (np.array([i.value for i in x]) for x in (report.fixed_cost, report.fixed_accuracy))
    left.plot(cost, 100 * accuracy, "o", color=GREY, markersize=4, zorder=1, label="one action for all questions")
    right.axhline(0, color=GREY)
    present = dict.fromkeys(row.rule for row in report.rows)
    others = [rule for rule in present if rule in banded and rule not in report.policies]
    names = [report.oracle, *sorted((*report.policies, *others), key=lambda name: name not in banded)]
    for number, name in enumerate(names):
        band = Band.of(report.rows, name)
        style = {"color": "black", "linestyle": "--"} if number == 0 else line_style(number - 1)
        style |= {"linewidth": 2 if name in banded else 1}
        left.plot(band.spend, band.accuracy[:, 0], label=name, **style)
        if name != HINDSIGHT:  # far above everybody: it would squeeze what is compared
            right.plot(band.spend, band.gain[:, 0], **style)
        if name in banded:
            for axes, ends in ((left, band.accuracy), (right, band.gain)):
                axes.fill_between(band.spend, *ends[:, 1:].T, color=style["color"], alpha=0.15, linewidth=0)
    shown = [row for row in report.rows if row.rule in names]
    spends = [row.spend.value for row in shown]
    whole = [end for row in shown if row.rule in banded for end in (row.accuracy.low, row.accuracy.high)]
    accuracies = 100 * np.array([row.accuracy.value for row in shown] + whole)
    margin = 0.03 * np.ptp(accuracies) or 1.0
    for axes in (left, right):
        wide = max(spends) > 30 * min(spends)
        axes.set(xscale="log" if wide else "linear", xlim=(0.95 * min(spends) if wide else 0, 1.05 * max(spends)))
        axes.set_xlabel(f"spend per question ({report.unit})")
    left.set(ylim=(np.nanmin(accuracies) - margin, np.nanmax(accuracies) + margin), ylabel="accuracy (%)")
    left.set_title(f"{report.questions:,} questions", loc="left")
    if answer is not None and answer.saving.low > 0:
        _mark_saving(left, answer)
    right.set(ylabel="points above the uniform mix at the same spend")
    right.set_title(f"Paired differences{', 95 % bands' if banded else ''}", loc="left")
    figure.legend(loc="outside right", frameon=False, fontsize=8)
    save(figure, path)
    return (
        f"Two panels on {report.questions} questions: accuracy against spend, and points above the uniform mix at the same"
        f" spend. {_values(report, names)}."
    )


def _mark_saving(axes, row: Row) -> None:
    """An arrow from the uniform mix to a rule of the same accuracy, and what the rule saves."""
    right, spend = 100 * row.accuracy.value, row.spend.value
    needed = spend / (1 - row.saving.value)
    axes.annotate(
        "", (spend, right), (needed, right), arrowprops={"arrowstyle": "->", "color": INK, "shrinkA": 0, "shrinkB": 3}
    )
    note = f"the same accuracy for\n{100 * row.saving.value:.0f} % less ({row.rule})"
    axes.annotate(
        note,
        (needed, right),
        (0.97, 0.4),
        textcoords="axes fraction",
        ha="right",
        fontsize=9,
        arrowprops={"arrowstyle": "-", "color": FAINT, "relpos": (0.5, 1)},
    )


def plot_multiplier(frontier: Frontier, budgets: Sequence[float], unit: str, path: Path) -> str:
    """The multiplier against the budget, and what is spent of it."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    spend, multiplier = np.asarray(frontier.spend), np.asarray(frontier.multiplier)
    left.step(spend, 100 * multiplier, where="pre", color=COLOURS[0])
    left.set(xlabel=f"budget ({unit})", ylabel="multiplier: points of accuracy one more unit buys")
    if multiplier.max() > 0:  # 0 where no action is both better and more expensive than another
        left.set(yscale="log", ylim=(1e-2 * multiplier.max(), None))
    left.set_title("Multiplier", loc="left")
    grid = np.linspace(0, spend[-1] * 1.15, 200)
    right.plot(grid, np.where(grid < spend[0], np.nan, np.minimum(grid, spend[-1])), color=COLOURS[1])
    right.plot(grid, grid, color=GREY, linestyle=":")
    right.annotate("all of the budget", (grid[-1], grid[-1]), (-4, 0), textcoords="offset points", ha="right")
    right.set(xlabel=f"budget ({unit})", ylabel="what the mixed plan spends")
    right.set_title(f"No use for more than {spend[-1]:.4g} a question", loc="left")
    for axes in (left, right):
        for budget in budgets:
            axes.axvline(budget, color="#DDDDDD", linewidth=1, zorder=0)
    save(figure, path)
    at = np.minimum(np.searchsorted(spend, budgets), len(spend) - 1)
    falling = listed(
        f"{100 * multiplier[i]:.2g} at a budget of {budget:g}" for i, budget in zip(at, budgets, strict=True)
    )
    return (
        f"Two panels. Left: the multiplier, in points of accuracy one more unit ({unit}) buys, falls with the budget:"
        f" {falling}. Right: what is spent equals the budget up to {spend[-1]:.4g} and stays there."
    )


def uniform_line(report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Spend and accuracy (%) of the uniform mix, at enough points that a logarithmic axis bends the line between two actions."""
    cost, accuracy = (np.array([i.value for i in x]) for x in (report.fixed_cost, report.fixed_accuracy))
    hull = upper_hull(cost, accuracy)
    spend = np.union1d(np.geomspace(max(cost[hull[0]], 1e-9), cost[hull[-1]], 200), cost[hull])
    return spend, 100 * np.interp(spend, cost[hull], accuracy[hull])


def _values(report: Report, rules: Sequence[str]) -> str:
    """Accuracies at the least, a middle and the largest budget, and how far they lie above the uniform mix."""
    known = {(row.rule, row.budget): row for row in report.rows}
    budgets = sorted(report.budgets)
    budgets = sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})

    def at(budget: float) -> str:
        rows = (known[rule, budget] for rule in rules if (rule, budget) in known)
        return ", ".join(f"{r.rule} {100 * r.accuracy.value:.1f} ({100 * r.over_uniform.value:+.1f})" for r in rows)

    values = "; ".join(f"at a budget of {budget:.3g}: {at(budget)}" for budget in budgets)
    return f"Accuracy in percent, and in brackets points above the uniform mix at the same spend, {values}"
