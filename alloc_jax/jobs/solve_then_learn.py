"""The jobs behind the experiments: from a log to a folder with a report.

`solve_then_learn` is the main job: it measures, solves, learns and scores. `solve_only` stops before learning: what
knowing every question would buy.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import jax
import numpy as np

from alloc_jax.evaluate.baselines import NearestNeighbours, prompt_length
from alloc_jax.evaluate.comparison.cases import default_budgets, sample_halves
from alloc_jax.evaluate.comparison.contenders import GENERATOR, KNN
from alloc_jax.evaluate.evaluation import check_budgets, deploy, evaluate, score_plans
from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.evaluate.scoring import Report
from alloc_jax.evaluate.sequential.escalation import Ways
from alloc_jax.jobs.config import ByGroup, Log, LogConfig, Policies, TrainShare
from alloc_jax.jobs.escalate import ESCALATE, escalate_beside
from alloc_jax.jobs.job_log import JobLog
from alloc_jax.jobs.workdir import new_workdir, provenance
from alloc_jax.learn.features.inputs import Given
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.learn.protocols import PolicyLike
from alloc_jax.learn.training import KINDS, PolicyConfig, train
from alloc_jax.report.escalation import paths_section
from alloc_jax.report.examples import example_questions
from alloc_jax.report.headline import best_policy, middle_budget
from alloc_jax.report.pages.html import write_report
from alloc_jax.report.pages.page import report_page
from alloc_jax.report.pictures.selection import draw_all, draw_frontier, draw_multiplier
from alloc_jax.solve import frontier
from alloc_jax.types import OutcomeTable, SampleLog

# Beside the kinks of the built-in log's uniform mix, at 0.37, 1, 4 and 8: one sample of think, or 4 and 8 of the larger one.
BUILTIN_BUDGETS = (0.5, 1.5, 3.0, 6.0)
CURVE_REPLICATES = 300  # of the bootstrap: bands of a picture need fewer than intervals


@dataclass(frozen=True, kw_only=True)
class FrontierConfig(LogConfig):
    """What is solved."""

    log: Log = "builtin"
    budgets: Annotated[
        tuple[float, ...],
        "Mean costs per question, in the resource's unit; default: three between the cheapest and the most expensive useful action.",
    ] = ()
    shrink: Annotated[
        str, "empirical_bayes: utilities that are learned from and chosen on are shrunken; scores never are."
    ] = ""

    def __post_init__(self):
        positive = all(np.isfinite(budget) and budget > 0 for budget in self.budgets)
        if not positive or len(set(self.budgets)) < len(self.budgets):
            raise ValueError(f"budgets are different positive numbers, got {self.budgets}")


@dataclass(frozen=True, kw_only=True)
class JobConfig(FrontierConfig):
    """What is solved, learned and scored."""

    policies: Policies = ("value", "imitation")
    train_share: TrainShare = 0.6
    by_group: ByGroup = False

    def __post_init__(self):
        super().__post_init__()
        for kind in self.policies:
            if kind not in KINDS:
                raise ValueError(f"unknown policy {kind!r}: {' or '.join(KINDS)}")
        if len(set(self.policies)) < len(self.policies):
            raise ValueError(f"policies need different names, got {self.policies}")
        if not 0 < self.train_share < 1:
            raise ValueError(f"train_share is between 0 and 1, got {self.train_share}")

    def candidates(self, report: Report) -> tuple[str, ...]:
        """The rules of a report of which the best one is its answer."""
        escalates = (ESCALATE,) if any(row.rule == ESCALATE for row in report.rows) else ()
        return (*(self.policies or (KNN,)), *escalates)


_Config = TypeVar("_Config", bound=FrontierConfig)


@dataclass(frozen=True)
class Tables:
    """What the job measured: one table to learn from and two of the held-out questions."""

    train: OutcomeTable
    choose: OutcomeTable
    score: OutcomeTable  # from samples that choose has not seen; choose itself where samples cannot be halved
    learn: SampleLog  # what train was measured on
    half: SampleLog  # what score was measured on


def solve_then_learn(
    config: JobConfig, workdir: str | Path, overwrite: bool = False, reading: Mapping[str, Any] | None = None
) -> Report:
    """Run the main job and write report.md, report.html, pictures, policies, predictions and records into a folder.

    Args:
      config: what is solved, learned and scored.
      workdir: the folder; must be new or empty.
      overwrite: whether a folder of an earlier run is replaced.
      reading: options of `read_logs`, for a log that does not tell everything itself.

    Raises:
      ValueError: anything is wrong with the configuration, the log or the folder; nothing is left behind.
    """
    with new_workdir(workdir, asdict(config) | {"reading": dict(reading or {})}, overwrite) as folder:
        clock = _Clock()
        known, config = _read(config, reading)
        tables = _split_and_measure(known, config, config.seed)
        samples, split = int(known.log.count.sum()), f"{len(tables.train)} to learn from, {len(tables.score)} held out"
        clock.log(
            "measure", f"{len(known.log)} questions, {split}; {samples} samples of {len(known.log.sources)} sources"
        )
        policies = train_policies(tables.train, config, config.seed)
        rules: list[PolicyLike] = [*policies, *_rivals(known, tables.train, config, config.seed)]
        grid = _budget_grid(tables.score, config.budgets)
        budgets = sorted({*config.budgets, *grid})
        beside: dict[tuple[str, float], Outcome] = {}
        ways: Ways | None = None
        if priors := [policy for policy in policies if policy.predicts_utility]:
            parts = tables.learn, tables.half
            beside, ways = escalate_beside(known, *parts, priors[0], budgets, config.budgets, config.seed)
        clock.log("learn", ", ".join(dict.fromkeys([*(rule.name for rule in rules), *(rule for rule, _ in beside)])))
        deployed = [made for rule in rules for made in deploy(rule, tables.score, budgets, config.seed)]
        halves = tables.choose, tables.score
        report = score_plans(deployed, *halves, config.budgets, beside=beside, seed=config.seed)
        report = replace(report, dropped=known.dropped)
        curve = score_plans(deployed, *halves, grid, beside=beside, replicates=CURVE_REPLICATES, seed=config.seed)
        clock.log("evaluate", f"{len(rules)} rules at {len(config.budgets)} budgets, and at {len(grid)} for a curve")
        for policy in policies:
            policy.save(folder / "policy" / policy.name)
        predictions = {made.rule: made.prediction for made in deployed}
        predicted = {rule.name: predictions[rule.name] for rule in rules if rule.predicts_utility}
        trained = {name: predicted[name] for name in config.policies if name in predicted}
        _write_predictions(folder / "predictions.jsonl", report, trained, tables.score)
        shown = {name: predicted[name].score for name in (*config.policies, KNN) if name in predicted}
        candidates = config.candidates(report)
        pictures = draw_all(folder, report, curve, config.policies, candidates, shown, *halves)
        best = best_policy(report, candidates)
        row = report.row(best, middle_budget(report, best))
        examples = None
        if row.outcome is not None:
            said = best if best in shown else next(iter(shown), None)  # of sequential rules: what their prior is
            plan = None if said is None else report.row(said, row.budget).plan
            promised = None if plan is None else (plan * shown[said]).sum(axis=1)
            examples = example_questions(report, row, tables.score, promised, "" if said == best else said)
        made, paths = provenance(folder, config), None if ways is None else paths_section(folder, ways)
        page = report_page(report, "Who gets the compute", pictures, candidates, curve, examples, made, paths)
        write_report(folder, page)
        clock.log("write", "report and pictures")
    return report


def solve_only(config: FrontierConfig, workdir: str | Path, overwrite: bool = False) -> Report:
    """Solve a log at every budget and write frontier.csv, frontier.png, multiplier.png and report.md into a folder.

    Everything is chosen on one half of every question's samples and scored on the other; frontier.csv holds the exact
    frontier of the half that is chosen on.

    Raises:
      ValueError: anything is wrong with the configuration, the log or the folder; nothing is left behind.
    """
    with new_workdir(workdir, asdict(config), overwrite) as folder:
        known, config = _read(config)
        choose, score = known.measure_halves(
            sample_halves(known.log, jax.random.key(config.seed)), config.shrink or None
        )
        report = replace(score_plans([], choose, score, config.budgets, seed=config.seed), dropped=known.dropped)
        exact = frontier(choose.problem())
        points = np.stack([exact.spend, exact.utility, exact.multiplier], axis=1)
        np.savetxt(folder / "frontier.csv", points, delimiter=",", header="spend,utility,multiplier", comments="")
        grid = _budget_grid(score, config.budgets)
        curve = score_plans([], choose, score, grid, replicates=CURVE_REPLICATES, seed=config.seed)
        pictures = [draw_frontier(folder, curve), draw_multiplier(folder, exact, config.budgets, report.unit)]
        write_report(
            folder,
            report_page(report, "What knowing the questions buys", pictures, provenance=provenance(folder, config)),
        )
    return report


def resplit(config: JobConfig, splits: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the comparison over many splits of the questions: seeds config.seed, config.seed + 1, ..."""
    known, config = _read(config)
    found: dict[tuple[str, float], list] = {}
    for seed in range(config.seed, config.seed + splits):
        tables = _split_and_measure(known, config, seed)
        policies = train_policies(tables.train, config, seed)
        rules: list[PolicyLike] = [*policies, *_rivals(known, tables.train, config, seed)]
        for row in evaluate(rules, tables.choose, tables.score, config.budgets, replicates=500, seed=seed).rows:
            found.setdefault((row.rule, row.budget), []).append(row)
        logging.getLogger("alloc_jax").info("split %d of %d", seed - config.seed + 1, splits)
    header = ["rule", "budget", "spend / budget", "sd", "gap closed (%)", "sd", "above uniform"]
    rows = []
    for (rule, budget), seen in found.items():
        spend = np.array([row.spend.value / budget for row in seen])
        closed = 100 * np.array([row.closed.value for row in seen])
        above = sum(row.over_uniform.low > 0 for row in seen)
        cells = []
        for values, digits in ((spend, 4), (closed, 1)):
            unknown = int(np.isnan(values).sum())  # a mean over the other splits would be one over the lucky ones
            shown = (
                [f"n/a in {unknown}", ""]
                if unknown
                else [f"{f:.{digits}f}" for f in (values.mean(), values.std(ddof=1))]
            )
            cells += shown
        rows.append([rule, f"{budget:g}", *cells, f"{above} of {splits}"])
    return header, rows


def _read(config: _Config, reading: Mapping[str, Any] | None = None) -> tuple[JobLog, _Config]:
    """The log of a configuration, of the questions that were sampled from every source, and the budgets it is solved at."""
    known = JobLog.read(config.log, config, reading=reading).where_sampled(config.missing)
    if not config.budgets:
        builtin = config.log == "builtin" and known.resource == "compute"
        config = replace(config, budgets=BUILTIN_BUDGETS if builtin else default_budgets(known.measure(known.log)))
    return known, config


def _split_and_measure(known: JobLog, config: JobConfig, seed: int) -> Tables:
    """Split the questions, and the held-out questions' samples, by a seed, and measure the parts."""
    question_key, sample_key = jax.random.split(jax.random.key(seed))
    shares, shrink = (config.train_share, 1 - config.train_share), config.shrink or None
    learn, held_out = known.log.split_questions(shares, question_key, by_group=config.by_group)
    halves = sample_halves(held_out, sample_key)
    train, (choose, score) = known.measure(learn, shrink), known.measure_halves(halves, shrink)
    check_budgets({"train": train, "choose": choose, "score": score}, config.budgets)  # here, not after the training
    return Tables(train, choose, score, learn, halves[1])


def train_policies(table: OutcomeTable, config: JobConfig, seed: int) -> list[Policy]:
    """A policy of each kind, trained on a table."""
    options: dict[str, Any] = {"budgets": tuple(config.budgets), "by_group": config.by_group, "seed": seed}
    return [train(table, PolicyConfig(kind=kind, **options)) for kind in config.policies]


def _rivals(known: JobLog, table: OutcomeTable, config: JobConfig, seed: int) -> list[PolicyLike]:
    """The baselines that policies are compared with, trained on a table of some of the log's questions."""
    informed = []
    if (
        known.generator is not None
    ):  # the baseline with oracle features: what questions were generated from, instead of text
        features = Given.of("generator", known.log.question, known.generator)
        informed = [replace(train(table, PolicyConfig(seed=seed, by_group=config.by_group), features), name=GENERATOR)]
    nearest = NearestNeighbours(KNN, table, by_group=config.by_group)
    return [nearest, prompt_length(table, config.by_group), *informed]


def _write_predictions(path: Path, report: Report, predicted: dict[str, Prediction], table: OutcomeTable) -> None:
    """One line per held-out question: utilities and costs that policies predict, and what every policy does at each budget."""
    chosen: dict[str, dict[str, np.ndarray]] = {policy: {} for policy in report.policies}
    for row in report.rows:
        if row.rule in chosen and row.plan is not None:
            chosen[row.rule][f"{row.budget:g}"] = row.plan.argmax(axis=1)
    with path.open("w") as lines:
        for i, name in enumerate(table.ids):
            record: dict[str, Any] = {"id": name, "question": table.question[i], "predicted": {}, "chosen": {}}
            for policy, prediction in predicted.items():
                parts = zip(report.actions, prediction.score[i], prediction.cost[i], strict=True)
                record["predicted"][policy] = {a: [round(float(u), 4), round(float(c), 4)] for a, u, c in parts}
            for policy, taken in chosen.items():
                record["chosen"][policy] = {at: report.actions[action[i]] for at, action in taken.items()}
            print(json.dumps(record), file=lines)


def _budget_grid(table: OutcomeTable, budgets: Sequence[float]) -> list[float]:
    """Twelve budgets for a curve, from just above the cheapest plan to just above the largest budget asked for."""
    cheapest = np.where(table.valid, table.cost, np.inf).min(axis=1).mean()
    return np.geomspace(max(1.05 * cheapest, 0.5 * min(budgets)), 1.1 * max(budgets), 12).tolist()


class _Clock:
    """Says how long each stage took."""

    def __init__(self):
        self._last = time.monotonic()

    def log(self, stage: str, what: str) -> None:
        now = time.monotonic()
        logging.getLogger("alloc_jax").info("%-8s %5.1f s  %s", stage, now - self._last, what)
        self._last = now
