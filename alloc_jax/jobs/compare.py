"""The comparison: every policy and every rule to beat, over several tables and budgets, by cross-fitting.

Every question is scored by rules that learned from other questions; where samples can be halved, oracles choose on one half
and everything is scored on the other one. Where a log has one sample per question, the oracle's score is hindsight; what the
others score is not, since they learned from other questions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from alloc_jax.evaluate.comparison.cases import Case, transferred
from alloc_jax.evaluate.comparison.contenders import (
    ABLATIONS,
    BASELINES,
    POLICIES,
    ablation,
    baseline,
    parse_policy,
    policy,
    with_oracle_features,
)
from alloc_jax.evaluate.comparison.crossfit import Part, cross_fit, question_folds
from alloc_jax.evaluate.evaluation import score_plans
from alloc_jax.evaluate.scoring import Report
from alloc_jax.jobs.config import ByGroup, Folds, LogConfig, Policies, Questions, Replicates, Seeds
from alloc_jax.jobs.job_log import JobLog
from alloc_jax.jobs.workdir import new_workdir
from alloc_jax.report.comparison import Comparison, write_comparison


@dataclass(frozen=True, kw_only=True)
class CompareConfig(LogConfig):
    """What is compared, and how."""

    logs: Annotated[tuple[str, ...], "Sample logs, with commas between; `builtin` and `smollm2` are two."] = (
        "builtin",
    )
    budgets: Annotated[
        tuple[float, ...], "Mean costs per question; default: three for each log, between its ends."
    ] = ()
    policies: Policies = POLICIES
    baselines: Annotated[tuple[str, ...], "Rules to beat that learn."] = BASELINES
    ablations: Annotated[tuple[str, ...], "Parts to ablate: features, size, heads, loss, temperature, ensemble."] = ()
    ablate: Annotated[str, "The policy that is ablated and transferred."] = POLICIES[0]
    transfer: Annotated[bool, "Also learn from each source and deploy on each."] = False
    questions: Questions = 0
    folds: Folds = 5
    by_group: ByGroup = False
    seeds: Seeds = 3
    replicates: Replicates = 2000
    workers: Annotated[int, "Threads."] = os.cpu_count() or 1

    def __post_init__(self):
        if not self.logs or not (self.policies or self.baselines):
            raise ValueError("a comparison needs a log, and a policy or a baseline")
        for text in (*self.policies, self.ablate):
            parse_policy(text, (1.0,))
        for name in self.baselines:
            baseline(name, (1.0,))
        for name in self.ablations:
            if name not in ABLATIONS:
                raise ValueError(f"unknown ablation {name!r}: {' or '.join(ABLATIONS)}")
        if self.seeds < 1 or self.workers < 1 or self.questions < 0:
            raise ValueError(f"seeds and workers are 1 or more, questions 0 or more, got {self}")


def compare_policies(config: CompareConfig, workdir: str | Path, overwrite: bool = False) -> list[Comparison]:
    """Compare on the logs of a config, and write report.md, pictures and metrics.jsonl into a folder.

    Raises:
      ValueError: anything is wrong with the configuration, a log or the folder; nothing is left behind.
    """
    with new_workdir(workdir, asdict(config), overwrite) as folder:
        logs = [JobLog.read(log, config, config.questions) for log in config.logs]
        cases = [log.case(config.budgets, config.seed) for log in logs]
        between = [log.source_cases(config.seed) for log in logs] if config.transfer else []
        found = compare(cases, config)
        transfers = [compare_transfer(cases, config) for cases in between]
        write_comparison(found, transfers, config.folds, folder)
    return found


def compare(cases: Sequence[Case], config: CompareConfig) -> list[Comparison]:
    """Compare on cases; what the config says of logs plays no part.

    Raises:
      ValueError: a case has too few questions for the folds, or a rule cannot learn or keep a budget; the message says where.
    """
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"cases need different names, got {names}")
    return [_compare_on(case, parts, config) for case, parts in zip(cases, _parts(cases, config), strict=True)]


def compare_transfer(cases: Sequence[Case], config: CompareConfig) -> dict[str, Report]:
    """For each case, policies that learned the outcomes of one of the cases each (its own among them), named after it.

    The cases hold the same questions. Costs, and so multipliers, are those of the case a policy is deployed on.
    """
    reports = {}
    for case, parts in zip(cases, _parts(cases, config), strict=True):
        like = [other for other in cases if len(other.learn.actions) == len(case.learn.actions)]
        learned = policy(config.ablate, case.budgets, by_group=config.by_group)
        contenders = [replace(learned, name=other.name, table=transferred(case, other)) for other in like]
        reports[case.name] = _scored(contenders, case, case.budgets, parts, config)
    return reports


def _parts(cases: Sequence[Case], config: CompareConfig) -> list[list[Part]]:
    seeds = range(config.seed, config.seed + config.seeds)
    return [question_folds(case.learn, config.folds, seeds, config.by_group) for case in cases]


def _compare_on(case: Case, parts: Sequence[Part], config: CompareConfig) -> Comparison:
    contenders = [policy(text, case.budgets, by_group=config.by_group) for text in config.policies]
    contenders += [baseline(name, case.budgets, by_group=config.by_group) for name in config.baselines]
    contenders += with_oracle_features(case, config.by_group)
    between = np.geomspace(min(case.budgets), max(case.budgets), 7)[1:-1] if len(case.budgets) > 1 else ()
    grid = sorted({*case.budgets, *between})
    deployed = cross_fit(contenders, case, grid, parts, config.workers)
    tables = (case.choose, case.score)
    report = score_plans(deployed, *tables, case.budgets, replicates=config.replicates, seed=config.seed)
    curve = score_plans(deployed, *tables, grid, replicates=200, seed=config.seed)
    reports = {}
    for name in config.ablations:
        variants = ablation(name, config.ablate, case.budgets)
        reports[name] = _scored(variants, case, case.budgets, parts, config)
    return Comparison(case, report, curve, reports)


def _scored(contenders, case: Case, budgets, parts: Sequence[Part], config: CompareConfig) -> Report:
    deployed = cross_fit(contenders, case, budgets, parts, config.workers)
    return score_plans(deployed, case.choose, case.score, budgets, replicates=config.replicates, seed=config.seed)
