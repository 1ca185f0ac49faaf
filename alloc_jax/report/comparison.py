"""What a comparison found, as tables, pictures and a page: who wins where, by how much, and what each part contributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alloc_jax.evaluate.comparison.cases import Case
from alloc_jax.evaluate.comparison.contenders import BASELINES, CLASSES, GAINS, KNN, ORACLE_FEATURES
from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.scoring import UNIFORM, Report
from alloc_jax.report.headline import answer_page
from alloc_jax.report.pictures import diagnostics
from alloc_jax.report.pictures.frontiers import plot_frontier
from alloc_jax.report.records import write_metrics
from alloc_jax.report.tables import (
    HOW_TO_READ,
    fixed_table,
    main_table,
    markdown_table,
    percent,
    regret_table,
    whole_percent,
)

BEST = {"best of kNN and trees": (KNN, CLASSES, GAINS), "best baseline": BASELINES}
_HOW = (
    "Every question is answered for by rules that learned from other questions, multipliers included; repetitions with other folds and"
    " seeds are averaged question by question. Differences are between what two rules earn above the uniform mix at their own"
    " spends, paired over questions; a win or a loss has a 95 % interval that excludes 0."
)


@dataclass(frozen=True)
class Comparison:
    """What was found on one case."""

    case: Case
    report: Report
    curve: Report  # at more budgets, for the picture
    ablations: Mapping[str, Report]

    @property
    def learned(self) -> list[str]:
        """The rules that are neither baselines nor have oracle features."""
        return [rule for rule in self.report.policies if rule not in (*BASELINES, *ORACLE_FEATURES)]

    @property
    def baselines(self) -> list[str]:
        return [rule for rule in BASELINES if rule in self.report.policies]

    @property
    def candidates(self) -> list[str]:
        """The rules of which the best one is the answer: those that were learned, or else the baselines."""
        return self.learned or self.baselines

    def best_of(self, rules: Sequence[str], budget: float) -> str:
        """The rule that earned most at a budget: known only afterwards, so harder to beat than any one of them."""
        rows = [self.report.row(rule, budget) for rule in rules if rule in self.baselines]
        return max(rows, key=lambda row: row.over_uniform.value).rule

    def difference(self, rule: str, other: str, budget: float) -> Interval:
        """By how much a rule earns more than another one, or than the best of some (`BEST`), at a budget."""
        other = self.best_of(BEST[other], budget) if other in BEST else other
        return self.report.difference(rule, other, budget)


def verdict(difference: Interval) -> int:
    """1 for a win, -1 for a loss, 0 for a tie."""
    return int(difference.low > 0) - int(difference.high < 0)


def opponents(found: Sequence[Comparison]) -> list[str]:
    """Whom rules are measured against: the uniform mix, each baseline, and the best of several."""
    common = [rule for rule in BASELINES if all(rule in comparison.baselines for comparison in found)]
    return [UNIFORM, *common, *(best for best, rules in BEST.items() if len(set(rules) & set(common)) > 1)]


def verdict_table(found: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of wins / ties / losses of every rule against every opponent, over all cases and budgets."""
    against = opponents(found)
    rows = []
    for rule in _common_rules(found):
        cells = []
        for other in against:
            if rule == other or rule in BEST.get(other, ()):
                cells.append("")
                continue
            verdicts = [verdict(c.difference(rule, other, budget)) for c in found for budget in c.report.budgets]
            cells.append(" / ".join(str(verdicts.count(v)) for v in (1, 0, -1)))
        rows.append([rule, *cells])
    return ["wins / ties / losses", *(f"over {other}" for other in against)], rows


def difference_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the learned rules' paired differences, in points of accuracy, at every budget of a case."""
    against = opponents([comparison])
    rows = []
    for rule in comparison.learned:
        for budget in comparison.report.budgets:
            cells = []
            for other in against:
                name = f" ({comparison.best_of(BEST[other], budget)})" if other in BEST else ""
                cells.append(percent(comparison.difference(rule, other, budget), "+.2f") + name)
            rows.append([rule, f"{budget:g}", *cells])
    return ["points", "budget", *(f"over {other}" for other in against)], rows


def variant_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of an ablation: what each variant earns above the uniform mix, and its share of the gap."""
    header = ["variant", *(f"B = {budget:g}: over uniform (gap closed)" for budget in report.budgets)]
    rows = []
    for rule in report.policies:
        seen = [report.row(rule, budget) for budget in report.budgets]
        rows.append([rule, *(f"{percent(r.over_uniform, '+.2f')} ({whole_percent(r.closed.value)})" for r in seen)])
    return header, rows


def transfer_table(reports: Mapping[str, Report]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a transfer: deployed on the row's source, having learned the outcomes of the column's source."""
    learned = list(dict.fromkeys(rule for report in reports.values() for rule in report.policies))
    rows = []
    for source, report in reports.items():
        for budget in report.budgets:
            seen = {rule: report.row(rule, budget).over_uniform for rule in report.policies}
            cells = [percent(seen[rule], "+.2f") if rule in seen else "" for rule in learned]
            rows.append(
                [source, f"{budget:g}", percent(report.row(report.oracle, budget).over_uniform, "+.2f"), *cells]
            )
    return ["deployed on", "budget", "oracle", *(f"learned from {rule}" for rule in learned)], rows


def write_comparison(
    found: Sequence[Comparison], transfers: Sequence[Mapping[str, Report]], folds: int, folder: Path
) -> None:
    """Write report.md, a picture of each case's frontiers and of its learning curves, and metrics.jsonl into a folder."""
    page = ["# Policies and baselines at equal spend"]
    for comparison in found:
        page += [f"## {comparison.case.name}: the answer", *answer_page(comparison.report, comparison.candidates)]
    page += [
        "## Who wins how often",
        _HOW,
        markdown_table(*verdict_table(found)),
        "## Every rule at every budget",
        HOW_TO_READ,
    ]
    reports: dict[str, Report] = {}
    for comparison in found:
        name = comparison.case.name
        file = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        reports |= {name: comparison.report}
        reports |= {f"{name}, ablation of {part}": report for part, report in comparison.ablations.items()}
        alt = plot_frontier(comparison.curve, folder / f"{file}_frontier.png", comparison.learned)
        page += _case_page(comparison, f"![{alt}]({file}_frontier.png)")
        for part, report in comparison.ablations.items():
            page += [f"### {name}: ablation of {part}", markdown_table(*variant_table(report))]
        if "size" in comparison.ablations:
            learned = round(len(comparison.case.learn) * (1 - 1 / folds))
            alt = diagnostics.plot_sizes(comparison.ablations["size"], learned, folder / f"{file}_sizes.png")
            page.append(f"![{alt}]({file}_sizes.png)")
    for sources in transfers:
        reports |= {f"transfer to {source}": report for source, report in sources.items()}
        page += ["## Learned from one source, deployed on another (points over the uniform mix)"]
        page += [markdown_table(*transfer_table(sources))]
    write_metrics(folder / "metrics.jsonl", reports)
    (folder / "report.md").write_text("\n\n".join(page) + "\n")


def _case_page(comparison: Comparison, picture: str) -> list[str]:
    case, report = comparison.case, comparison.report
    scored = (
        "scored on samples that nobody chose on" if case.halved else "one sample per question: the oracle is hindsight"
    )
    dropped = f"; {case.dropped} questions without an outcome of every action left out" if case.dropped else ""
    return [
        f"### {case.name}",
        f"{report.questions} questions, {len(report.actions)} actions; cost in {report.unit}; {scored}{dropped}.",
        markdown_table(*main_table(report)),
        picture,
        f"### {case.name}: paired differences",
        markdown_table(*difference_table(comparison)),
        f"### {case.name}: regret and what it is made of (points of accuracy)",
        markdown_table(*regret_table(report)),
        f"### {case.name}: every action on every question",
        markdown_table(*fixed_table(report)),
    ]


def _common_rules(found: Iterable[Comparison]) -> list[str]:
    rules = [comparison.report.policies for comparison in found]
    return [rule for rule in rules[0] if all(rule in others for others in rules)]
