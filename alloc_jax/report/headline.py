"""The answer that a report begins with: what the best policy buys at a budget, in a sentence and a row per budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.evaluate.scoring import UNIFORM, Report
from alloc_jax.report.tables import Cells, markdown_table, percent, whole_percent

WIDE = 1.5  # points to either side, from which an interval is said to be wide
KEPT = 0.05  # of a budget: a spend as near to it goes without saying


def best_policy(report: Report, policies: Sequence[str] = ()) -> str:
    """The policy that earns most above the uniform mix at its own spend, on average over the budgets.

    Args:
      report: what `evaluate` found.
      policies: those to choose from; by default all of the report, and the oracle where it has none.
    """

    def earned(policy: str) -> float:
        return float(np.mean([report.row(policy, budget).over_uniform.value for budget in _kept(report, policy)]))

    return max(policies or report.policies, key=earned, default=report.oracle)


def headline(report: Report, policy: str) -> str:
    """What the policy buys at a middle budget, in some ten words; a difference whose interval holds 0 is called none."""
    budget = middle_budget(report, policy)
    row = report.row(policy, budget)
    gain, saving, more = row.over_uniform, row.saving, f"{abs(100 * row.over_uniform.value):.1f} points"
    if np.isnan(gain.value):
        return f"{whole_percent(row.accuracy.value, 1)} right at a budget of {budget:g}"
    if gain.low <= 0 <= gain.high:
        return f"No clear gain over treating all questions alike at a budget of {budget:g}"
    if gain.high < 0:
        return f"{more} less than treating all questions alike at a budget of {budget:g}"
    if saving.low > 0:
        return f"The same accuracy for {100 * saving.value:.0f} % less at a budget of {budget:g}, or {more} more for the same spend"
    return f"{more} more for the same spend at a budget of {budget:g}"


def middle_budget(report: Report, policy: str) -> float:
    """The budget that the answer is about: the middle one of those that the policy has a row for."""
    budgets = _kept(report, policy)
    return budgets[(len(budgets) - 1) // 2]


def answer(report: Report, policy: str) -> str:
    """Two sentences, each on a line: accuracy beside the uniform mix's at a middle budget, and what is saved."""
    budget = middle_budget(report, policy)
    row, uniform = report.row(policy, budget), report.row(UNIFORM, budget)
    who = f"the {policy}" if policy == report.oracle else f"the policy '{policy}'"
    right, alike = (f"{100 * r.accuracy.value:.1f} %" for r in (row, uniform))
    beside = f"treating all questions alike gives {alike}"
    if np.isnan(uniform.accuracy.value):
        beside = "treating all questions alike costs more than that"
    spent = row.spend.value
    paid = "" if abs(spent - budget) <= KEPT * budget else f", spending {spent:.3g},"
    first = f"At a budget of {budget:g} {report.unit} per question {who} is right on {right}{paid} where {beside}."
    value, low, high = (100 * end for end in (row.saving.value, row.saving.low, row.saving.high))
    if np.isnan(value):
        return first
    amount = f"{value:.0f} % less [{low:.0f}, {high:.0f}]"
    if value < 0:
        amount = f"{-value:.0f} % more [{-high:z.0f}, {-low:z.0f}]"
    return f"{first}\nIt spends {amount} than treating all alike would need to reach the same {right}."


def answer_width(report: Report, policy: str) -> str:
    """How wide the interval of the answer is, and what would make it narrower; empty where it is narrow."""
    gain = report.row(policy, middle_budget(report, policy)).over_uniform
    half = 50 * (gain.high - gain.low)
    if not half > WIDE:
        return ""
    return f"{report.questions} held-out questions leave an interval of ±{half:.1f} points; four times as many would halve it."


def answer_table(report: Report, policy: str) -> Cells:
    """Header and a row per budget: a policy beside the uniform mix, at the same budget and at the same spend."""
    header = ["budget", policy, "uniform mix", "more at the budget", "more at its spend", "saving"]
    rows = []
    for budget in _kept(report, policy):
        row = report.row(policy, budget)
        more = [percent(gain, "+.1f") for gain in (row.over_uniform_at_budget, row.over_uniform)]
        right = [whole_percent(r.accuracy.value, 1) for r in (row, report.row(UNIFORM, budget))]
        rows.append([f"{budget:g}", *right, *more, percent(row.saving, ".0f")])
    return Cells(header, rows)


def answer_notes(report: Report, policies: Sequence[str] = ()) -> str:
    """How to read the table of the answer, and from which policies the best was chosen."""
    chosen, policies = "", policies or report.policies
    if len(policies) > 1:
        chosen = (
            f" Of {len(policies)} policies ({', '.join(policies)}) it is the one that earned most on these very questions,"
            " which flatters it a little."
        )
    return (
        "Differences are points of accuracy above the best mix of fixed actions that treats all questions alike, at the same budget and"
        " at the spend that the policy really had; *saving* (%) is 1 - spend / what that mix spends for the same accuracy. Brackets are"
        f" paired 95 % intervals; n/a: there is no telling.{chosen}"
    )


def answer_page(report: Report, policies: Sequence[str] = ()) -> list[str]:
    """The answer as paragraphs of Markdown: the sentences, the table, how to read it."""
    best = best_policy(report, policies)
    table = markdown_table(*answer_table(report, best))
    return [f"**{answer(report, best)}**", table, answer_notes(report, policies)]


def _kept(report: Report, policy: str) -> list[float]:
    """The budgets that a policy has a row for: a rule may not be able to keep the lowest."""
    return [row.budget for row in report.rows if row.rule == policy]
