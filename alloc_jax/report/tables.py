"""A report's tables as text, and how to read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.regret import Agreement
from alloc_jax.evaluate.scoring import UNIFORM, Report, Row

HOW_TO_READ = (
    "Each row spends the budget its own way on the same held-out questions. *Accuracy* is the expected share of right"
    " answers and *spend* what was really paid per question. *Over uniform* is the accuracy above the uniform mix (the best mix"
    " of fixed actions that treats all questions alike): at the spend that the rule really had, and at the budget, of which the"
    " rule may have spent less or more. *Gap closed* is its share, at equal spend, of what the oracle gains; the oracle knows the"
    " questions from other samples than it is scored on. *Saving* is 1 - spend / what the uniform mix spends for the same"
    " accuracy. n/a stands where there is no telling: the oracle's gain is inside its own noise, the uniform mix surely reaches no"
    " such accuracy, or no fixed action costs so little. Brackets are paired 95 % bootstrap intervals over questions; the oracle"
    " and the random mix meet the budget anew in every resample, a policy keeps its multiplier. At a budget where the uniform mix has a"
    " kink (the cost of one of its actions) intervals against it are a little wide. *Agrees* is how often a policy does what the oracle does; beside it what a"
    " policy that knows nothing reaches (the oracle's most common action), and the noise ceiling: between which rates a policy that knows"
    " every true outcome would agree, since the oracle's labels come from noisy samples. The row *escalate*, where the log has"
    " answers, is no choice of one action: it looks at each answer, and stops or draws the next sample from any source"
    " (`alloc escalate` compares it with its rivals), so it can pass the oracle, which sees none; its answers come one after the"
    " other."
)
HOW_TO_READ_REGRET = (
    "V(B) - U is at most mispriced + unspent, all on the table of scores (whose own optimum V(B) is optimistic, chosen and"
    " scored on the same samples); mispriced is at most the imitation error (1 - best response) times the worst gap. A best"
    " response is counted on the table of scores at the deployed multiplier."
)


class Cells(NamedTuple):
    """A table as text: what stands above its columns, and its rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells):
        return (
            "| "
            + " | ".join(
                c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            )
            + " |"
        )

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal: columns to the right, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ("  ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)) for cells in (header, *rows))
    return "\n".join(lines)


def main_table(report: Report) -> Cells:
    """Header and rows of the comparison at every budget."""
    header = [
        "rule",
        "budget",
        "accuracy",
        "spend",
        "over uniform at its spend (points)",
        "at the budget",
        "gap closed (%)",
        "saving (%)",
        "agrees / majority / noise ceiling",
    ]
    return Cells(header, [_cells(row) for row in report.rows])


def fixed_table(report: Report) -> Cells:
    """Header and rows of the fixed actions, cheapest first."""
    parts = zip(report.actions, report.fixed_cost, report.fixed_accuracy, strict=True)
    rows = sorted(parts, key=lambda part: part[1].value)
    cells = [[name, _amount(c, c.value), percent(a)] for name, c, a in rows]
    return Cells(["action on every question", "cost", "accuracy"], cells)


def regret_table(report: Report) -> Cells:
    """Header and rows of the policies' regrets, in points of accuracy."""
    header = ["policy", "budget", "multiplier", "V(B) - U", "mispriced", "unspent"]
    header += ["best response / majority / noise ceiling", "imitation error x worst gap + unspent"]
    rows = []
    for row in report.rows:
        if (regret := row.regret) is not None:
            terms = [percent(term, ".2f") for term in (regret.regret, regret.mispriced, regret.unspent)]
            error, worst = 1 - regret.best_response.rate, 100 * regret.worst_gap
            bound = f"{error:.3f} x {worst:.1f} + {100 * regret.unspent.value:z.2f} = {100 * regret.bound:.1f}"
            cells = [f"{regret.multiplier:.4g}", *terms, _agreement(regret.best_response), bound]
            rows.append([row.rule, f"{row.budget:g}", *cells])
    return Cells(header, rows)


def about(report: Report) -> str:
    """What the numbers are of."""
    dropped = f"; {report.dropped} questions that lack an action or a price left out" if report.dropped else ""
    return f"{report.questions} held-out questions; cost in {report.unit}{dropped}."


def _cells(row: Row) -> list[str]:
    gains = [percent(gain, "+.1f") for gain in (row.over_uniform, row.over_uniform_at_budget)]
    shares = [percent(share, ".0f") for share in (row.closed, row.saving)]
    relative = [""] * 4 if row.rule == UNIFORM else [*gains, *shares]
    agrees = "" if row.agreement is None else _agreement(row.agreement)
    return [row.rule, f"{row.budget:g}", percent(row.accuracy), _amount(row.spend, row.budget), *relative, agrees]


def _amount(interval: Interval, size: float) -> str:
    """Three decimals, and more where the amounts are small: a sample may cost a thousandth of a dollar."""
    return format(interval, f".{max(3, 2 - math.floor(math.log10(size))) if size > 0 else 3}f")


def _agreement(agreement: Agreement) -> str:
    ends = agreement.noise_ceiling
    ceiling = "" if ends is None else f" / {ends[0]:.2f} to {ends[1]:.2f}"
    return f"{agreement.rate:.2f} / {agreement.majority:.2f}{ceiling}"


def whole_percent(value: float, digits: int = 0) -> str:
    """A share without its interval, in hundredths.

    >>> whole_percent(0.257), whole_percent(float("nan"))
    ('26 %', 'n/a')
    """
    return "n/a" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def percent(interval: Interval, spec: str = ".1f") -> str:
    """An interval in hundredths."""
    return format(Interval(*(100 * end for end in (interval.value, interval.low, interval.high))), spec)


def shortened(text: str | None, most: int) -> str:
    """A text in one line and a cell of a table, of at most so many characters.

    >>> shortened("one two", 5), shortened(None, 20)
    ('one …', 'no answer')
    """
    text = "no answer" if text is None else " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= most else text[: most - 1] + "…"


def right_by(what: str, names: Sequence[str], right: Sequence[bool], most: int | None = None) -> tuple[str, str]:
    """How many answers are right, in a line, and a table of the commonest of the names that the answers go by.

    Args:
      what: stands above the names.
      names: of each answer, such as the action that it comes from.
      right: whether each is right.
      most: names that are shown; None: all.
    """
    count, good = Counter(names), Counter(name for name, ok in zip(names, right, strict=True) if ok)
    rows = [(name, f"{many}", f"{100 * good[name] / many:.0f} %") for name, many in count.most_common(most)]
    line = f"{100 * sum(right) / len(right):.0f} %, known to {100 / len(right) ** 0.5:.0f} points either way"
    return line, markdown_table((what, "questions", "right"), rows)
