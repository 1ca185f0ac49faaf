"""The report on stopping rules: outcomes of every question to rows with paired intervals, tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alloc_jax.evaluate.oracle_intervals import resolved
from alloc_jax.evaluate.outcomes import Means, Outcome
from alloc_jax.evaluate.scoring import ORACLE, UNIFORM, Report, Scorer
from alloc_jax.report.pages.page import Page, Section
from alloc_jax.report.pictures.frontiers import plot_frontier
from alloc_jax.report.pictures.style import Picture
from alloc_jax.report.tables import Cells, percent
from alloc_jax.types import OutcomeTable

HOW_TO_READ = (
    "*Over uniform* is the accuracy above the fair uniform mix (the upper hull of every fixed number of samples, on the very samples"
    " that score it) at the rule's own spend, and *gap closed* its share of what the one-shot oracle gains there, which knows every"
    " question from other samples; more than 100 % lies above the oracle, which no one-shot rule can. *Saving* is 1 - spend / what the"
    " uniform mix spends for the same accuracy. Brackets are paired 95 % bootstrap intervals over questions; n/a stands where the"
    " oracle's gain is inside its own noise, or the uniform mix surely reaches no such accuracy."
)


def score_outcomes(
    found: Mapping[tuple[str, float], Outcome],
    tables: tuple[OutcomeTable, OutcomeTable],
    fixed: OutcomeTable,
    budgets: Sequence[float],
    *,
    replicates: int,
    seed: int,
    oracle: str = ORACLE,
) -> Report:
    """Rows of rules at budgets, beside the one-shot oracle and the uniform mix.

    Args:
      found: what each rule earned and spent on every question at each budget.
      tables: of the one-shot actions: the one that the oracle chooses on, and the one that scores it.
      fixed: the actions of the uniform mix, on the samples that score.
      budgets: those to report on.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap.
      oracle: what it is called; one that has seen the samples which score is called by another name.
    """
    scorer, budgets = Scorer(fixed, replicates, seed), tuple(map(float, budgets))
    oracles = map(Means, *resolved(*tables, budgets, scorer.bootstrap))
    means = scorer.means({key: outcome for key, outcome in found.items() if key[1] in budgets})
    rows = []
    for budget, best in zip(budgets, oracles, strict=True):
        at_budget = {rule: outcome for (rule, at), outcome in found.items() if at == budget}
        rows += [scorer.row(rule, budget, means[rule, budget], best, outcome=o) for rule, o in at_budget.items()]
        rows.append(scorer.row(oracle, budget, best, best))
        rows.append(scorer.uniform_row(budget))
    return scorer.report(rows, [rule for rule, _ in found], oracle)


def rules_table(report: Report) -> Cells:
    """Header and rows of every rule at every budget."""
    header = ["rule", "budget", "accuracy", "spend", "over uniform (points)", "gap closed (%)", "saving (%)"]
    rows = []
    for row in report.rows:
        beside = [percent(row.over_uniform, "+.2f"), *(percent(share, ".0f") for share in (row.closed, row.saving))]
        beside = ["", "", ""] if row.rule == UNIFORM else beside
        rows.append([row.rule, f"{row.budget:g}", percent(row.accuracy), f"{row.spend.value:.4g}", *beside])
    return Cells(header, rows)


def ahead_table(report: Report, main: str) -> Cells:
    """Header and rows of how far one rule is ahead of every other, in points at equal spend, by budget."""
    known = {(row.rule, row.budget) for row in report.rows}
    others = dict.fromkeys(row.rule for row in report.rows if row.rule != main)

    def cell(rule: str, budget: float) -> str:
        if not {(rule, budget), (main, budget)} <= known:
            return "-"
        return percent(report.difference(main, rule, budget), "+.2f")

    rows = [[rule, *(cell(rule, budget) for budget in report.budgets)] for rule in others]
    return Cells([f"{main}, ahead of", *(f"B = {budget:g}" for budget in report.budgets)], rows)


def stopping_page(
    folder: Path, report: Report, curve: Report, main: str, about: str, provenance: Mapping[str, str]
) -> Page:
    """The page of a comparison of stopping rules, whose picture is drawn into a folder."""
    banded = [rule for rule in (main, "index") if rule in curve.policies]
    path = folder / "sequential.png"
    picture = Picture(path, "Accuracy against spend, and above the uniform mix", plot_frontier(curve, path, banded))
    sections = (
        Section("What a budget buys", (picture,), folded=False),
        Section("Beside every other rule", (HOW_TO_READ, ahead_table(report, main), rules_table(report))),
    )
    return Page("A multiplier on the next sample", report, (main,), curve, about, sections, provenance)
