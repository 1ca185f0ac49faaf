"""The pictures of a report: the frontier, who gets the compute, and what the price does. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.evaluate.outcomes import upper_hull
from alloc_jax.evaluate.report import HINDSIGHT, RANDOM, Report
from alloc_jax.solve import Frontier
from alloc_jax.types import OutcomeTable

# Okabe and Ito's colours, which most colour-blind readers can tell apart.
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)))
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def _pyplot():
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'alloc_jax[plot]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10, "svg.hashsalt": "0"})
    return plt


@dataclass(frozen=True)
class Band:
    """A rule's accuracy along its spend, with an interval."""

    name: str
    spend: np.ndarray  # f64[M]
    accuracy: np.ndarray  # f64[M, 3] value, low, high

    @classmethod
    def of(cls, report: Report, rule: str) -> Band:
        rows = sorted((row for row in report.rows if row.rule == rule), key=lambda row: row.spend.value)
        ends = [[row.accuracy.value, row.accuracy.low, row.accuracy.high] for row in rows]
        return cls(rule, np.array([row.spend.value for row in rows]), np.array(ends))


def plot_frontier(report: Report, path: Path, banded: Sequence[str] = ()) -> None:
    """Accuracy against spend: oracle, policies, baselines, fixed actions and their mix.

    Args:
      report: at the budgets of the curves.
      path: of the picture.
      banded: the policies that stand out, with their 95 % bands.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    cost = np.array([interval.value for interval in report.fixed_cost])
    accuracy = np.array([interval.value for interval in report.fixed_accuracy])
    hull = upper_hull(cost, accuracy)
    axes.plot(cost[hull], accuracy[hull], color="#888888", label="uniform mix")
    axes.plot(cost, accuracy, "o", color="#BBBBBB", markersize=4, label="fixed actions", zorder=1)
    oracle = Band.of(report, report.oracle)
    axes.plot(oracle.spend, oracle.accuracy[:, 0], color="black", linestyle="--", label=oracle.name)
    for number, name in enumerate(report.policies):
        band, colour = Band.of(report, name), COLOURS[number % len(COLOURS)]
        stands_out = name in banded
        axes.plot(band.spend, band.accuracy[:, 0], color=colour, label=name, linewidth=2 if stands_out else 1)
        if stands_out:
            axes.fill_between(
                band.spend, band.accuracy[:, 1], band.accuracy[:, 2], color=colour, alpha=0.15, linewidth=0
            )
    reach = 1.1 * max(report.budgets)
    floor = oracle.accuracy[0, 0] - 0.02  # the worst fixed actions would squeeze everything that is compared
    band = Band.of(report, RANDOM)
    if band.accuracy[:, 0].max() > floor:
        axes.plot(band.spend, band.accuracy[:, 0], color="#BBBBBB", linestyle=":", label=RANDOM)
    axes.set(xlim=(0, reach), ylim=(floor, None), xlabel=f"spend a question ({report.unit})", ylabel="accuracy")
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(f"How much accuracy a budget buys ({report.questions} held-out questions)", loc="left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_shares(
    actions: Sequence[Action], difficulty: np.ndarray, chosen: Sequence[tuple[str, np.ndarray]], path: Path
) -> None:
    """Who gets the compute: the shares of the actions among questions of about the same difficulty.

    Args:
      actions: K actions.
      difficulty: f32[N] the share of right samples, over all sources and the samples nobody chose on.
      chosen: (title, plan f64[N, K]) of each panel.
      path: of the picture.
    """
    plt = _pyplot()
    figure, panels = plt.subplots(
        1, len(chosen), figsize=(4.5 * len(chosen), 4.6), sharey=True, layout="constrained", squeeze=False
    )
    edges = np.quantile(difficulty, np.linspace(0, 1, 9))
    bins = np.clip(np.searchsorted(edges, difficulty, side="right") - 1, 0, len(edges) - 2)
    centres = [f"{difficulty[bins == b].mean():.2f}" if (bins == b).any() else "" for b in range(len(edges) - 1)]
    sources = list(dict.fromkeys(action.source for action in actions))
    maps = ("Purples", "Oranges", "Greens", "Blues", "Reds", "Greys")
    for axes, (title, plan) in zip(panels[0], chosen, strict=True):
        floor = np.zeros(len(centres))
        for k, action in enumerate(actions):
            share = np.array([plan[bins == b, k].mean() if (bins == b).any() else 0 for b in range(len(centres))])
            ladder = sorted((a for a in actions if a.source == action.source), key=lambda a: a.samples)
            depth = 0.35 + 0.6 * (ladder.index(action) + 1) / len(ladder)
            colour = plt.get_cmap(maps[sources.index(action.source) % len(maps)])(depth)
            axes.bar(range(len(centres)), share, bottom=floor, width=0.95, color=colour, label=action.name)
            floor += share
        axes.set_xticks(range(len(centres)), centres, rotation=45)
        axes.set(xlabel="mean share of right samples: hard to easy", title=title, ylim=(0, 1))
    panels[0][0].set_ylabel("share of the questions")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_price(frontier: Frontier, budgets: Sequence[float], unit: str, path: Path) -> None:
    """The price of compute against the budget, and what is spent of it."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    spend, multiplier = np.asarray(frontier.spend), np.asarray(frontier.multiplier)
    left.step(spend, multiplier, where="pre", color=COLOURS[0])
    left.set(xlabel=f"budget ({unit})", ylabel="multiplier: accuracy one more unit buys")
    if multiplier.max() > 0:  # 0 where no action is dearer and better than another
        left.set(yscale="log", ylim=(1e-4 * multiplier.max(), None))
    left.set_title("Price of compute", loc="left")
    grid = np.linspace(0, spend[-1] * 1.15, 200)
    right.plot(grid, np.where(grid < spend[0], np.nan, np.minimum(grid, spend[-1])), color=COLOURS[1])
    right.plot(grid, grid, color="#BBBBBB", linestyle=":", label="all of the budget")
    right.set(xlabel=f"budget ({unit})", ylabel="what the mixed plan spends")
    right.set_title(f"No use for more than {spend[-1]:.2f} a question", loc="left")
    right.legend(frameon=False)
    for axes in (left, right):
        for budget in budgets:
            axes.axvline(budget, color="#DDDDDD", linewidth=1, zorder=0)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_gains(report: Report, path: Path, banded: Sequence[str] = ()) -> None:
    """Frontiers of many rules: accuracy against spend, and how far it lies above the uniform mix, with paired 95 % bands.

    Args:
      report: at the budgets of the curves.
      path: of the picture.
      banded: the rules that stand out, with bands on the right, where differences are paired and bands are narrow.
    """
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    left.plot(*uniform_line(report), color="#888888", label="uniform mix")
    right.axhline(0, color="#888888")
    oracle = {"color": "black", "linestyle": "--"}
    names = [report.oracle, *sorted(report.policies, key=lambda name: name not in banded)]
    for number, name in enumerate(names):
        rows = sorted((row for row in report.rows if row.rule == name), key=lambda row: row.spend.value)
        spend = [row.spend.value for row in rows]
        style = {"color": COLOURS[(number - 1) % len(COLOURS)], "linewidth": 2}
        if name not in banded:
            style |= {"linewidth": 1, "linestyle": DASHES[number % len(DASHES)]}
        style = oracle if number == 0 else style
        left.plot(spend, [100 * row.accuracy.value for row in rows], label=name, **style)
        if name != HINDSIGHT:  # far above everybody: it would squeeze what is compared
            right.plot(spend, [100 * row.over_uniform.value for row in rows], **style)
        if name in banded:
            ends = [[100 * getattr(row.over_uniform, end) for row in rows] for end in ("low", "high")]
            right.fill_between(spend, *ends, color=style["color"], alpha=0.15, linewidth=0)
    shown = [row for row in report.rows if row.rule in names]
    spends = [row.spend.value for row in shown]
    accuracies = [100 * row.accuracy.value for row in shown]
    margin = 0.03 * np.ptp(accuracies)
    for axes in (left, right):
        wide = max(spends) > 30 * min(spends)
        axes.set(xscale="log" if wide else "linear", xlim=(0.95 * min(spends), 1.05 * max(spends)))
        axes.set_xlabel(f"spend a question ({report.unit})")
    left.set(ylim=(min(accuracies) - margin, max(accuracies) + margin), ylabel="accuracy (%)")
    right.set(ylabel="points above the uniform mix at the same spend")
    figure.legend(loc="outside right", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def uniform_line(report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Spend and accuracy (%) of the uniform mix, at enough points that a logarithmic axis bends the line between two actions."""
    cost, accuracy = (np.array([i.value for i in x]) for x in (report.fixed_cost, report.fixed_accuracy))
    hull = upper_hull(cost, accuracy)
    spend = np.union1d(np.geomspace(max(cost[hull[0]], 1e-9), cost[hull[-1]], 200), cost[hull])
    return spend, 100 * np.interp(spend, cost[hull], accuracy[hull])


def plot_sizes(report: Report, path: Path) -> None:
    """Learning curves: the share of the gap that is closed against the share of the training questions.

    Args:
      report: of rules that are named after what they are and, behind the last comma, a share of the questions.
      path: of the picture.
    """
    plt = _pyplot()
    figure, panels = plt.subplots(
        1, len(report.budgets), figsize=(4 * len(report.budgets), 3.6), sharey=True, layout="constrained", squeeze=False
    )
    rules = list(dict.fromkeys(name.rpartition(", ")[0] for name in report.policies))
    for axes, budget in zip(panels[0], report.budgets, strict=True):
        for number, rule in enumerate(rules):
            names = [name for name in report.policies if name.rpartition(", ")[0] == rule]
            share = [float(name.rpartition(", ")[2].partition("%")[0]) for name in names]
            rows = [report.row(name, budget).closed for name in names]
            value, low, high = (100 * np.array([getattr(row, end) for row in rows]) for end in ("value", "low", "high"))
            axes.plot(share, value, "o-", color=COLOURS[number], label=rule)
            axes.fill_between(share, low, high, color=COLOURS[number], alpha=0.15, linewidth=0)
        axes.axhline(0, color="#BBBBBB", linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks(share, [f"{x:g}" for x in share], minor=False)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="% of the training questions", title=f"budget {budget:g}")
    panels[0][0].set_ylabel("gap closed (%)")
    panels[0][0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def share_right(table: OutcomeTable) -> np.ndarray:
    """The share of right samples of each question, f64[N], every source counting the same."""
    sources = {action.source: k for k, action in enumerate(table.actions) if action.source is not None}
    columns = list(sources.values())
    return (table.successes[:, columns] / np.maximum(table.samples[:, columns], 1)).mean(axis=1)
