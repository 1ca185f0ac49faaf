"""Questions of a report, with what became of them: those that got most, that gained most and that lost most."""

from __future__ import annotations

import numpy as np

from alloc_jax.evaluate.scoring import Report, Row
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.report.tables import Cells, shortened, whole_percent
from alloc_jax.stopping.rules import adjacent
from alloc_jax.types import OutcomeTable

SHOWN = (("most spent", 7), ("most gained", 7), ("most lost", 6))
LONGEST = 100  # characters of a question's text


def example_questions(
    report: Report, row: Row, table: OutcomeTable, predicted: np.ndarray | None = None, by: str = ""
) -> Cells:
    """Header and rows of some twenty questions of a rule at a budget.

    Args:
      report: whose fixed actions treat all questions alike.
      row: what the rule did, question by question.
      table: of the same questions.
      predicted: f64[N] the chance of a right answer that was predicted of each question; None where nothing was.
      by: whose predictions they are, where the rule makes none itself.

    Raises:
      ValueError: the row does not say what came of each question.
    """
    if row.outcome is None:
        raise ValueError(f"the row of {row.rule!r} does not hold what came of each question")
    alike = _alike(report, row.budget, table)
    right, spent = row.outcome.utility, row.outcome.cost
    gain = right - alike
    order = {"most spent": np.argsort(-spent, kind="stable"), "most gained": np.argsort(-gain, kind="stable")}
    order["most lost"] = np.argsort(gain, kind="stable")
    header = ["", "question", "got", "spent", "right", "right if all were treated alike"]
    if predicted is not None:
        header.insert(4, f"predicted right ({by})" if by else "predicted right")
    taken: set[int] = set()
    cells = []
    for why, most in SHOWN:
        wanted = (int(i) for i in order[why] if why == "most spent" or (gain[i] > 0) == (why == "most gained"))
        rows = [i for i in wanted if i not in taken and (why == "most spent" or gain[i] != 0)][:most]
        taken.update(rows)
        for i in rows:
            guess = [] if predicted is None else [float(np.clip(predicted[i], 0, 1))]
            shares = [whole_percent(share) for share in (*guess, right[i], alike[i])]
            cells.append(
                [
                    why,
                    shortened(table.question[i] or table.ids[i], LONGEST),
                    _got(report, row, i),
                    f"{spent[i]:.3g}",
                    *shares,
                ]
            )
    return Cells(header, cells)


def _alike(report: Report, budget: float, table: OutcomeTable) -> np.ndarray:
    """f64[N] the chance of a right answer to each question under the uniform mix of a budget."""
    cost, accuracy = (np.array([i.value for i in part]) for part in (report.fixed_cost, report.fixed_accuracy))
    hull = upper_hull(cost, accuracy)
    less, more, share = adjacent(cost[hull], max(budget, cost[hull[0]]))
    return (1 - share) * table.utility[:, hull[less]].astype(float) + share * table.utility[:, hull[more]]


def _got(report: Report, row: Row, i: int) -> str:
    """What a question was given: the likeliest action, or the samples of each source."""
    if row.outcome is not None and row.outcome.samples is not None:
        parts = [(float(drawn[i]), source) for source, drawn in row.outcome.samples.items()]
        return ", ".join(f"{drawn:.2g} {source}" for drawn, source in parts if drawn >= 0.05)
    return "" if row.plan is None else report.actions[int(row.plan[i].argmax())]
