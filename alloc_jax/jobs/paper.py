"""The protocol of arXiv 2604.14853 on any log, beside its published rows, and next to it what an honest reading of the same log shows.

As published: some 200 questions with 48 samples each of one source, votes of 1, 2, 4, 8, 16, a cost of one per sample; an oracle
that is chosen and scored on the same samples; boosted trees that imitate it at one budget, deployed as they are; 80 % of the
questions to learn from, 20 % to score, three splits. 'Fixed' is the largest vote within the budget.

The honest reading has the same questions and samples: half of the samples to choose on and half to score, every question
scored by rules that learned from others, multipliers solved again after learning, and the best uniform mix at the same spend to compare
with. The exact mean over all subsets stands in for the paper's windows of responses in both: it estimates the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import jax
import numpy as np

from alloc_jax.actions import vote
from alloc_jax.evaluate.baselines import prompt_length, random_mix
from alloc_jax.evaluate.comparison.cases import Case, make_case, measure_halves, sample_halves
from alloc_jax.evaluate.comparison.contenders import BASELINES, POLICIES
from alloc_jax.evaluate.comparison.trees import boosted_classes
from alloc_jax.evaluate.evaluation import deploy
from alloc_jax.evaluate.intervals import Bootstrap
from alloc_jax.evaluate.outcomes import Outcome, one_hot_plan
from alloc_jax.evaluate.uniform_mix import UniformMix
from alloc_jax.jobs.compare import CompareConfig, compare
from alloc_jax.jobs.config import Budgets, Folds, Log, Policies, Questions, Seed, Seeds, TrainShare
from alloc_jax.jobs.workdir import new_workdir
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.logs import read_log
from alloc_jax.measure import measure
from alloc_jax.report.comparison import Comparison, difference_table
from alloc_jax.report.headline import answer_page
from alloc_jax.report.pictures.frontiers import plot_frontier
from alloc_jax.report.records import write_metrics
from alloc_jax.report.tables import HOW_TO_READ, main_table, markdown_table, percent, regret_table, whole_percent
from alloc_jax.solve import solve
from alloc_jax.types import SAMPLE_FIELDS, OutcomeTable, SampleLog, inseparable

RUNGS = (1, 2, 4, 8, 16)
RULES = ("Fixed", "prompt length", "Random", "learned (trees)", "oracle (in sample)")
# MATH, DeepSeek-V3: accuracies of RULES by budget; None where the paper's value is not known.
PUBLISHED = {2.0: (0.517, None, None, 0.562, None), 3.0: (0.517, 0.529, 0.534, 0.575, 0.586)}
# Points that the learned rule gains over Fixed at a budget of 3.
PUBLISHED_GAINS = {
    "MATH, DeepSeek-V3": 5.8,
    "MATH, GPT-4o-mini": 5.2,
    "MATH, Qwen2.5-7B": 6.4,
    "GSM8K, DeepSeek-V3": 1.9,
}
PUBLISHED_SPEND = {2.0: 1.87}


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """The protocol; its defaults are the paper's."""

    log: Log = "builtin"
    source: Annotated[str, "The source whose votes are the actions; default: the log's most accurate one."] = ""
    questions: Questions = 200
    samples: Annotated[int, "Samples of each question that are used."] = 48
    budgets: Budgets = (1.5, 2.0, 3.0)
    train_share: TrainShare = 0.8
    seeds: Seeds = 3
    policies: Policies = POLICIES
    folds: Folds = 5
    seed: Seed = 0

    def __post_init__(self):
        if len(self.rungs) < 3:
            raise ValueError(f"half of the samples must fill a vote of 4: 8 or more, got {self.samples}")
        if not 0 < self.train_share < 1 or self.seeds < 1 or self.questions < 2:
            raise ValueError(f"a share to learn from between 0 and 1, a seed and 2 questions or more, got {self}")

    @property
    def rungs(self) -> tuple[int, ...]:
        """The votes that half of the samples fill; all of the paper's from 32 samples on."""
        return tuple(k for k in RUNGS if 2 * k <= self.samples)


@dataclass(frozen=True, eq=False)
class Published:
    """The published way to judge, on one log: a number for every split."""

    rule: str
    budget: float
    accuracy: np.ndarray  # f64[seeds]
    spend: np.ndarray  # f64[seeds]
    over_uniform: np.ndarray  # f64[seeds] accuracy minus that of the best uniform mix at the same spend
    agreement: np.ndarray = field(default_factory=lambda: np.array([]))  # f64[seeds] with the oracle's labels
    majority: np.ndarray = field(default_factory=lambda: np.array([]))  # f64[seeds] share of their most common one


@dataclass(frozen=True)
class Reproduction:
    """What the protocol and the honest reading found."""

    published: tuple[Published, ...]
    honest: Comparison

    def row(self, rule: str, budget: float) -> Published:
        """The published row of a rule at a budget."""
        return next(row for row in self.published if (row.rule, row.budget) == (rule, budget))


def reproduce(config: PaperConfig, workdir: str | Path, overwrite: bool = False) -> Reproduction:
    """Run the protocol and the honest reading, and write report.md, frontier.png and metrics.jsonl into a folder.

    Raises:
      ValueError: anything is wrong with the configuration, the log or the folder; nothing is left behind.
    """
    with new_workdir(workdir, asdict(config), overwrite) as folder:
        log, source = protocol_log(read_log(config.log), config)
        actions = [vote(source, k) for k in config.rungs]
        table = measure(log, actions, "samples")
        published = as_published(table, config)
        choose, score = measure_halves(sample_halves(log, jax.random.key(config.seed)), actions, "samples")
        case = make_case(source, table, choose, score, budgets=config.budgets)
        found = Reproduction(tuple(published), _honest(case, config))
        alt = plot_frontier(found.honest.curve, folder / "frontier.png", found.honest.learned)
        write_metrics(folder / "metrics.jsonl", {"honest": found.honest.report})
        (folder / "report.md").write_text(_page(found, config, source, alt))
    return found


def protocol_log(log: SampleLog, config: PaperConfig) -> tuple[SampleLog, str]:
    """As many questions and samples as the protocol has, and the source they are of.

    Raises:
      ValueError: the log has no such source, or no question with enough samples of it.
    """
    rates = log.correct.sum(axis=(0, 2)) / np.maximum(log.count.sum(axis=0), 1)
    source = config.source or log.sources[int(np.argmax(rates))].name
    at = log.source_index(source)
    enough = np.flatnonzero(log.count[:, at] >= config.samples)
    if len(enough) < config.questions:
        raise ValueError(
            f"the protocol takes {config.questions} questions with {config.samples} samples of {source!r}, the log has"
            f" {len(enough)}: ask for fewer"
        )
    drawn = np.random.default_rng(config.seed).permutation(enough)[: config.questions]
    log = log.select(np.sort(drawn))
    arrays = {name: getattr(log, name) for name in ("answer", "correct", *SAMPLE_FIELDS)}
    kept = {name: None if a is None else a[:, [at], : config.samples] for name, a in arrays.items()}
    count = np.minimum(log.count[:, [at]], config.samples)
    return replace(log, sources=(log.sources[at],), count=count, **kept), source


def as_published(table: OutcomeTable, config: PaperConfig) -> list[Published]:
    """The paper's rules at every budget, scored its way: on the samples that the oracle is chosen on, 20 % of the questions a split."""
    lexical = TextFeatures(shape_buckets=0, character_buckets=0, word_buckets=0)
    found: dict[tuple[str, float], list[tuple]] = {}
    for seed in range(config.seed, config.seed + config.seeds):
        train, test = map(table.select, published_split(table, config.train_share, seed))
        bootstrap = Bootstrap(len(test), 1, seed)
        uniform = UniformMix(test, bootstrap)
        trees = boosted_classes(train, config.budgets, lexical, seed)
        features = lexical.encode(test.question)
        for budget, length in zip(
            config.budgets, deploy(prompt_length(train), test, config.budgets, seed), strict=True
        ):
            oracle = np.asarray(solve(test.problem(), budget).action)
            learned = trees.predict_features(features, budget).score.argmax(
                axis=1
            )  # as it is: no multiplier solved again
            fixed = max(k for k, rung in enumerate(config.rungs) if rung <= budget)
            actions = len(config.rungs)
            plans = (
                one_hot_plan(np.full(len(test), fixed), actions),
                length.plan,
                np.broadcast_to(random_mix(test.cost.mean(axis=0, dtype=float), budget), test.utility.shape),
                one_hot_plan(learned, actions),
                one_hot_plan(oracle, actions),
            )
            for rule, plan in zip(RULES, plans, strict=True):
                outcome = Outcome.of(plan, test)
                accuracy, spend = outcome.utility.mean(), outcome.cost.mean()
                above = accuracy - uniform.utility(np.full(2, spend))[0]
                row: tuple[float, ...] = (accuracy, spend, above)
                if rule == RULES[3]:
                    row += (np.mean(learned == oracle), np.bincount(oracle).max() / len(oracle))
                found.setdefault((rule, float(budget)), []).append(row)
    return [Published(*key, *np.array(rows).T) for key, rows in found.items()]


def published_split(table: OutcomeTable, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are learned from and those that are scored; questions of one text are on one side."""
    unit = inseparable(table)
    order = np.random.default_rng(seed).permutation(unit.max() + 1)
    sizes = np.cumsum(np.bincount(unit)[order])
    learned = np.isin(unit, order[: np.argmin(np.abs(sizes - round(share * len(table)))) + 1])
    return np.flatnonzero(learned), np.flatnonzero(~learned)


def published_table(found: Reproduction, budgets: Sequence[float]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of accuracies (%) as published and here, each rule in a column, with the spread over splits."""
    rows = []
    for budget in budgets:
        if (known := PUBLISHED.get(float(budget))) is not None:
            spend = f"{PUBLISHED_SPEND[budget]:.2f}" if budget in PUBLISHED_SPEND else ""
            cells = ["" if value is None else f"{100 * value:.1f}" for value in known]
            rows.append(["published: MATH, DeepSeek-V3", f"{budget:g}", *cells, spend, ""])
        seen = [found.row(rule, float(budget)) for rule in RULES]
        learned = seen[3]
        agrees = f"{learned.agreement.mean():.2f} / {learned.majority.mean():.2f}"
        cells = [f"{100 * row.accuracy.mean():.1f} ± {100 * _spread(row.accuracy):.1f}" for row in seen]
        rows.append(["this log", f"{budget:g}", *cells, f"{learned.spend.mean():.2f}", agrees])
    return ["accuracy (%)", "budget", *RULES, "learned spends", "agrees / majority"], rows


def gains_table(found: Reproduction, budgets: Sequence[float]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what the learned trees gain (points): the published way, at equal spend, and read honestly."""
    honest = found.honest.report
    rows = []
    for budget in map(float, budgets):
        fixed, learned, oracle = (found.row(RULES[k], budget) for k in (0, 3, 4))
        over_fixed, over_uniform = learned.accuracy - fixed.accuracy, learned.over_uniform
        cells = [f"{100 * gain.mean():+.1f} ± {100 * _spread(gain):.1f}" for gain in (over_fixed, over_uniform)]
        cells[0] += f" ({100 * over_fixed.mean() / fixed.accuracy.mean():+.1f} %)"
        trees = honest.row("trees (classes)", budget)
        share = (learned.accuracy.mean() - fixed.accuracy.mean()) / (oracle.accuracy.mean() - fixed.accuracy.mean())
        cells += [percent(trees.over_uniform, "+.1f"), f"{100 * share:.0f} %", whole_percent(trees.closed.value)]
        rows.append([f"{budget:g}", *cells])
    header = [
        "budget",
        "over Fixed, as published (relative)",
        "over the uniform mix at its spend, same splits",
        "read honestly",
    ]
    return [*header, "share of the oracle's gain: as published", "read honestly"], rows


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _honest(case: Case, config: PaperConfig) -> Comparison:
    settings = {name: getattr(config, name) for name in ("policies", "folds", "seeds", "seed")}
    (comparison,) = compare([case], CompareConfig(**settings, baselines=BASELINES))
    return comparison


def _page(found: Reproduction, config: PaperConfig, source: str, alt: str) -> str:
    held = round((1 - config.train_share) * config.questions)
    gains = ", ".join(f"{setting} +{gain}" for setting, gain in PUBLISHED_GAINS.items())
    report = found.honest.report
    return (
        "\n\n".join(
            [
                "# The protocol of arXiv 2604.14853, and an honest reading of the same log",
                f"{config.questions} questions, {config.samples} samples each of {source}; votes of {', '.join(map(str, config.rungs))}.",
                "## As published",
                f"{config.seeds} splits, {held} questions scored in each; ± is the standard deviation over splits. The oracle is chosen and"
                " scored on the same samples. The published rows are of another model and other questions: what can be compared is the"
                " pattern, not the level.",
                markdown_table(*published_table(found, config.budgets)),
                f"Published gains of the learned rule over Fixed at a budget of 3, in points: {gains}.",
                "## What the learned trees gain, step by step",
                markdown_table(*gains_table(found, config.budgets)),
                "'Fixed' spends less than its budget (2 of 3, and a vote of 2 is worth a vote of 1), so part of the gain over it is bought."
                " The honest reading adds disjoint samples, every question by cross-fitting, and a multiplier solved again after learning.",
                "## Read honestly",
                *answer_page(report, found.honest.candidates),
                HOW_TO_READ,
                markdown_table(*main_table(report)),
                f"![{alt}](frontier.png)",
                "### Paired differences",
                markdown_table(*difference_table(found.honest)),
                "### Regret and what it is made of (points of accuracy)",
                markdown_table(*regret_table(report)),
            ]
        )
        + "\n"
    )
