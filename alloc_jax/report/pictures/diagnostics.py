"""Pictures of what policies do and where they lose: who gets the compute, calibration, regret, learning curves. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.evaluate.reliability import Reliability
from alloc_jax.evaluate.scoring import Report
from alloc_jax.report.pictures.style import COLOURS, GREY, INK, label_ends, line_style, pyplot, save
from alloc_jax.report.tables import whole_percent
from alloc_jax.types import OutcomeTable

FAMILIES = ("Purples", "Oranges", "Greens", "Blues", "Reds", "Greys")  # a source's actions share one, and a hatch
HATCHES = ("", "//", "..", "\\\\", "xx", "--")
RARE = 0.005  # actions that fewer questions get have no line of their own in a legend


def plot_shares(
    actions: Sequence[Action], difficulty: np.ndarray, chosen: Sequence[tuple[str, np.ndarray]], path: Path
) -> str:
    """Who gets the compute: the shares of the actions among questions of about the same difficulty.

    Args:
      actions: K actions.
      difficulty: f32[N] the share of right samples, over all sources and the samples nobody chose on.
      chosen: (title, plan f64[N, K]) of each panel.
      path: of the picture.
    """
    plt = pyplot()
    figure, panels = plt.subplots(
        1, len(chosen), figsize=(3 * len(chosen) + 2, 4.6), sharey=True, layout="constrained", squeeze=False
    )
    groups = alike(difficulty)
    sources = list(dict.fromkeys(action.source for action in actions))
    used = np.max([plan.mean(axis=0) for _, plan in chosen], axis=0) >= RARE
    for axes, (title, plan) in zip(panels[0], chosen, strict=True):
        floor = np.zeros(len(groups))
        for k, action in enumerate(actions):
            share = np.array([100 * plan[group, k].mean() for group in groups])
            ladder = sorted((a for a in actions if a.source == action.source), key=lambda a: a.samples)
            depth = 0.25 + 0.6 * (ladder.index(action) + 1) / len(ladder)
            family = sources.index(action.source) % len(FAMILIES)
            axes.bar(
                range(len(groups)), share, bottom=floor, width=0.95, label=action.name if used[k] else "_",
                color=plt.get_cmap(FAMILIES[family])(depth), hatch=HATCHES[family], edgecolor="white", linewidth=0.4,
            )  # fmt: skip
            floor += share
        axes.set_xticks(range(len(groups)), [f"{100 * difficulty[group].mean():.0f}" for group in groups])
        axes.set_title(title, loc="left", fontsize=9)
        axes.set(ylim=(0, 100))
    panels[0][0].set_ylabel("share of the questions (%)")
    sizes = sorted(int(group.sum()) for group in groups)
    each = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
    figure.supxlabel(f"right samples (%), from hard to easy: {len(groups)} groups of {each} questions", fontsize=10)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right", frameon=False, fontsize=8)
    save(figure, path)
    mine = [[a.source == source for a in actions] for source in sources]
    parts = (f"{title}: {'; '.join(_at_ends(plan, mine, sources, groups))}" for title, plan in chosen)
    return (
        f"Bars of the shares of the actions in {len(groups)} groups of questions from hard to easy. {'. '.join(parts)}."
    )


def alike(difficulty: np.ndarray, groups: int = 8) -> list[np.ndarray]:
    """Questions of about the same difficulty, bool[N] each, from hard to easy; equal ones stay together, so there may be fewer groups."""
    edges = np.quantile(difficulty, np.linspace(0, 1, groups + 1))
    bins = np.clip(np.searchsorted(edges, difficulty, side="right") - 1, 0, groups - 1)
    return [bins == b for b in range(groups) if (bins == b).any()]


def plot_spend(difficulty: np.ndarray, spent: Mapping[str, np.ndarray], budget: float, unit: str, path: Path) -> str:
    """Mean spend of rules among questions of about the same difficulty, beside the same spend for all.

    Args:
      difficulty: f64[N] the share of right samples, of samples that nobody was scored on.
      spent: f64[N] what each rule spent on every question, by the rule's name.
      budget: at which.
      unit: of the budget.
      path: of the picture.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    groups = alike(difficulty)
    right = [100 * difficulty[group].mean() for group in groups]
    axes.axhline(budget, color=GREY, linewidth=1)
    axes.annotate("the same for all", (right[-1], budget), (0, 4), textcoords="offset points", ha="right", fontsize=9)
    parts = []
    for number, (name, cost) in enumerate(spent.items()):
        mean = np.array([cost[group].mean() for group in groups])
        error = np.array([cost[group].std() / np.sqrt(group.sum()) for group in groups])
        style = line_style(number)
        axes.plot(right, mean, marker="os^Dv"[number % 5], markersize=5, label=name, **style)
        axes.fill_between(
            right, mean - 1.96 * error, mean + 1.96 * error, color=style["color"], alpha=0.15, linewidth=0
        )
        parts.append(f"{name}: " + ", ".join(f"{m:.2g} at {r:.0f} %" for r, m in zip(right, mean, strict=True)))
    axes.set(xlabel="right samples of a question (%), from hard to easy", ylabel=f"mean spend ({unit})", ylim=(0, None))
    axes.set_title(
        f"Who gets the compute at a budget of {budget:g} ({len(difficulty):,} questions; 95 % bands)", loc="left"
    )
    axes.legend(frameon=False, fontsize=9)
    save(figure, path)
    return f"Lines of mean spend against the share of right samples, budget {budget:g}. {'; '.join(parts)}."


def _at_ends(plan: np.ndarray, mine: list, sources: list, groups: list) -> list[str]:
    ends = (("the hardest group", 0), ("the middle one", len(groups) // 2), ("the easiest", -1))
    return [
        f"{name} gets "
        + ", ".join(
            f"{source or 'no source'} {100 * plan[groups[at]][:, m].sum(axis=1).mean():.0f} %"
            for source, m in zip(sources, mine, strict=True)
        )
        for name, at in ends
    ]


def plot_calibration(panels: Sequence[tuple[str, Mapping[str, Reliability]]], questions: int, path: Path) -> str:
    """What was measured against what was predicted, in bins; on the diagonal, predictions can be believed.

    Args:
      panels: (what is predicted, with its unit, a hundredth of a utility; each rule's reliability); the first rule has a band.
      questions: how many, held out.
      path: of the picture.
    """
    plt = pyplot()
    figure, grid = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.3), layout="constrained", squeeze=False)
    parts = []
    for axes, (what, rules) in zip(grid[0], panels, strict=True):
        ends = [x for found in rules.values() for x in (found.predicted.min(), found.predicted.max())]
        ends = [100 * min(ends), 100 * max(ends)]
        axes.plot(ends, ends, color=GREY, linestyle=":", linewidth=1)
        for number, (name, found) in enumerate(rules.items()):
            x = 100 * found.predicted
            value, low, high = (100 * np.array([getattr(m, end) for m in found.measured]) for end in _ENDS)
            style = line_style(number)
            label = f"{name}: off by {100 * found.error:.1f} on average"
            axes.plot(x, value, marker="os^Dv"[number % 5], markersize=5, linewidth=1.2, label=label, **style)
            if number == 0:
                axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
            parts.append(f"{what}, {name}: " + ", ".join(f"{p:.0f} as {m:.0f}" for p, m in zip(x, value, strict=True)))
        axes.set(xlabel=f"predicted {what}", ylabel=f"measured {what}")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    first = next(iter(panels[0][1]))
    figure.suptitle(f"Can predictions be believed? {questions:,} held-out questions; band: 95 % ({first})", fontsize=10)
    save(figure, path)
    return f"Lines of measured against predicted values, by bin. {'; '.join(parts)}."


_ENDS = ("value", "low", "high")


def plot_regret(report: Report, path: Path) -> str:
    """What each policy's regret at each budget is made of: mispriced questions and unspent budget, beside the regret itself."""
    plt = pyplot()
    budgets = report.budgets
    rules = [rule for rule in report.policies if report.row(rule, budgets[0]).regret is not None]
    height = 1.2 + 0.3 * len(rules)
    figure, panels = plt.subplots(
        1, len(budgets), figsize=(2.4 * len(budgets) + 2, height), sharey=True, sharex=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    at = np.arange(len(rules))
    parts = []
    for axes, budget in zip(panels[0], budgets, strict=True):
        found = [report.row(rule, budget).regret for rule in rules]
        total, mispriced, unspent = (
            100 * np.array([getattr(r, part).value for r in found]) for part in ("regret", "mispriced", "unspent")
        )
        axes.barh(at, mispriced, color=COLOURS[6], label="mispriced questions")
        left = np.where(unspent > 0, mispriced, 0)
        style = {"color": COLOURS[1], "hatch": "///", "edgecolor": "white", "linewidth": 0}
        axes.barh(at, unspent, left=left, label="unspent budget (left of 0: overspent)", **style)
        axes.plot(total, at, "D", color=INK, markersize=5, label="regret V(B) - U")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_title(f"budget {budget:g}", loc="left", fontsize=10)
        rows = zip(rules, total, mispriced, unspent, strict=True)
        parts += [f"{rule} at {budget:g}: {t:.1f} of at most {m:.1f} {u:+z.1f}" for rule, t, m, u in rows]
    panels[0][0].set_yticks(at, rules)
    panels[0][0].invert_yaxis()
    figure.supxlabel(f"points of accuracy; {report.questions:,} questions", fontsize=10)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    save(figure, path)
    return f"Bars of the regret's bound, mispriced plus unspent, in points of accuracy. {'; '.join(parts)}."


def plot_sizes(report: Report, questions: int, path: Path) -> str:
    """Learning curves: the share of the gap that is closed against the number of training questions.

    Args:
      report: of rules that are named after what they are and, behind the last comma, a share of the questions.
      questions: how many all of the training questions are.
      path: of the picture.
    """
    plt = pyplot()
    budgets = report.budgets
    figure, panels = plt.subplots(
        1, len(budgets), figsize=(2.8 * len(budgets) + 1.2, 3.8), sharey=True, layout="constrained", squeeze=False
    )
    rules = list(dict.fromkeys(name.rpartition(", ")[0] for name in report.policies))
    parts = []
    for axes, budget in zip(panels[0], budgets, strict=True):
        lines = []
        for number, rule in enumerate(rules):
            names = [name for name in report.policies if name.rpartition(", ")[0] == rule]
            size = [questions * float(name.rpartition(", ")[2].partition("%")[0]) / 100 for name in names]
            rows = [report.row(name, budget).closed for name in names]
            value, low, high = (100 * np.array([getattr(row, end) for row in rows]) for end in _ENDS)
            style = line_style(number)
            lines += axes.plot(size, value, marker="os^Dv"[number % 5], label=rule, **style)
            axes.fill_between(size, low, high, color=style["color"], alpha=0.15, linewidth=0)
            parts.append(
                f"{rule} at {budget:g}: "
                + ", ".join(f"{whole_percent(v / 100)} from {s:.0f}" for s, v in zip(size, value, strict=True))
            )
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set(xscale="log", xlim=(0.85 * min(size), 1.18 * max(size)))
        axes.set_xticks(size, [f"{x:.0f}" for x in size], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(f"budget {budget:g}", loc="left", fontsize=10)
    panels[0][0].set_ylabel("gap closed (%)")
    label_ends(panels[0][-1], lines, gap=0.07)
    figure.supxlabel(f"training questions; scored on {report.questions:,}; bands: 95 %", fontsize=10)
    save(figure, path)
    return f"Lines of the share of the gap that is closed against training questions. {'; '.join(parts)}."


def share_right(table: OutcomeTable) -> np.ndarray:
    """The share of right samples of each question, f64[N], every source that was sampled on it counting the same."""
    sources = {action.source: k for k, action in enumerate(table.actions) if action.source is not None}
    right, drawn = (counts[:, list(sources.values())] for counts in (table.successes, table.samples))
    return (right / np.maximum(drawn, 1)).sum(axis=1) / np.maximum((drawn > 0).sum(axis=1), 1)
