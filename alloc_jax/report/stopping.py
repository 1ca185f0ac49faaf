"""The report on stopping rules: outcomes of every question to rows with paired intervals, tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alloc_jax.evaluate.evaluation import ORACLE, UNIFORM, Report, Row
from alloc_jax.evaluate.outcomes import Bootstrap, Interval, Outcome, UniformMix
from alloc_jax.report import plots
from alloc_jax.report.records import write_metrics
from alloc_jax.report.text import markdown_table, percent
from alloc_jax.types import OutcomeTable

HOW_TO_READ = (
    "*Over uniform* is the accuracy above the fair uniform mix (the upper hull of every fixed number of samples, on the very samples"
    " that score it) at the rule's own spend, and *gap closed* its share of what the one-shot oracle gains there, which knows every"
    " question from other samples; more than 100 % lies above the oracle, which no one-shot rule can. Brackets are paired 95 %"
    " bootstrap intervals over questions."
)


def score_outcomes(
    found: Mapping[tuple[str, float], Outcome],
    uniform: OutcomeTable,
    budgets: Sequence[float],
    *,
    replicates: int,
    seed: int,
    oracle: str = ORACLE,
) -> Report:
    """Rows of rules at budgets.

    Args:
      found: what each rule earned and spent on every question at each budget; the oracle is among the rules.
      uniform: the fixed actions on the samples that score.
      budgets: those to report on.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap.
      oracle: what it is called; one that has seen the samples which score is called by another name.
    """
    bootstrap = Bootstrap(len(uniform), replicates, seed)
    mix = UniformMix(uniform, bootstrap)

    def means(outcome: Outcome):
        utility, spend = bootstrap.mean(outcome.utility), bootstrap.mean(outcome.cost)
        return utility, spend, utility - mix.utility(spend)

    rows = []
    for budget in map(float, budgets):
        gap = means(found[oracle, budget])[2]
        for (rule, at), outcome in found.items():
            if at != budget:
                continue
            utility, spend, over = means(outcome)
            with np.errstate(divide="ignore", invalid="ignore"):
                closed = np.where(gap > 0, over / gap, np.nan)
            intervals = map(bootstrap.interval, (utility, spend, over, closed))
            rows.append(Row(rule, budget, *intervals, None, None, None, over))
        spend = np.full(1 + replicates, budget)
        exactly, nothing = Interval(budget, budget, budget), Interval(0.0, 0.0, 0.0)
        accuracy = bootstrap.interval(mix.utility(spend))
        rows.append(Row(UNIFORM, budget, accuracy, exactly, nothing, nothing, None, None, None, np.zeros(len(spend))))
    fixed = [bootstrap.mean(part.astype(float)).T for part in (uniform.utility, uniform.cost)]
    return Report(
        rows=tuple(rows),
        actions=tuple(action.name for action in uniform.actions),
        fixed_accuracy=tuple(map(bootstrap.interval, fixed[0])),
        fixed_cost=tuple(map(bootstrap.interval, fixed[1])),
        questions=len(uniform),
        resource=uniform.resources[0],
        unit=uniform.units[0],
        policies=tuple(dict.fromkeys(rule for rule, _ in found if rule != oracle)),
        oracle=oracle,
    )


def rules_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of every rule at every budget."""
    header = ["rule", "budget", "accuracy", "spend", "over uniform (points)", "gap closed (%)"]
    rows = []
    for row in report.rows:
        beside = [percent(row.over_uniform, "+.2f"), percent(row.closed, ".0f")] if row.rule != UNIFORM else ["", ""]
        rows.append([row.rule, f"{row.budget:g}", percent(row.accuracy), f"{row.spend.value:.4g}", *beside])
    return header, rows


def ahead_table(report: Report, main: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of how far one rule is ahead of every other, in points at equal spend, by budget."""
    known = {(row.rule, row.budget) for row in report.rows}
    others = dict.fromkeys(row.rule for row in report.rows if row.rule != main)

    def cell(rule: str, budget: float) -> str:
        if not {(rule, budget), (main, budget)} <= known:
            return "-"
        return percent(report.difference(main, rule, budget), "+.2f")

    rows = [[rule, *(cell(rule, budget) for budget in report.budgets)] for rule in others]
    return [f"{main}, ahead of", *(f"B = {budget:g}" for budget in report.budgets)], rows


def write_report(folder: Path, report: Report, curve: Report, main: str, about: str) -> None:
    """Writes report.md, sequential.png and metrics.jsonl."""
    write_metrics(folder / "metrics.jsonl", {"": report})
    banded = [rule for rule in (main, "priced") if rule in curve.policies]
    alt = plots.plot_gains(curve, folder / "sequential.png", banded)
    parts = [
        "# A price on the next sample",
        f"{about} Cost in {report.unit}.",
        HOW_TO_READ,
        f"![{alt}](sequential.png)",
        markdown_table(*ahead_table(report, main)),
        markdown_table(*rules_table(report)),
    ]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
