"""The comparison of stopping rules: a multiplier on the next sample beside fixed confidence, fixed numbers and one-shot policies.

Cross-fitted: every question is answered for by rules, multipliers and settings that come from other questions, and scored on half of
its samples, in many orders; the oracle chooses on the other half. All rules are scored on the same questions, samples, orders and
resamples, so that differences are paired.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from alloc_jax.actions import Action, best_of, passes, single, vote
from alloc_jax.evaluate.comparison.contenders import parse_policy
from alloc_jax.evaluate.comparison.crossfit import Part, question_folds
from alloc_jax.evaluate.evaluation import check_budgets, deploy
from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.evaluate.scoring import Report
from alloc_jax.evaluate.sequential.replay import mixed, replay, replay_frontier, replay_rule
from alloc_jax.evaluate.sequential.stopping_rules import beta_confidence, dirichlet_confidence, until_right, windows
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.jobs.config import Budgets, LogConfig, Orders, Policies, Resource, SamplingConfig
from alloc_jax.jobs.job_log import JobLog
from alloc_jax.jobs.workdir import new_workdir, provenance
from alloc_jax.learn.policy import Policy
from alloc_jax.learn.training import train
from alloc_jax.report.pages.html import write_report
from alloc_jax.report.stopping import score_outcomes, stopping_page
from alloc_jax.stopping import solve_sequential
from alloc_jax.stopping.paths import Paths, sample_paths
from alloc_jax.stopping.rules import StoppingFrontier, adjacent, policy_prior, prior_features
from alloc_jax.types import OutcomeTable, SampleLog

ACTIONS = {"vote": vote, "verified": passes, "best": best_of}
NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # of samples that one-shot policies and the oracle choose from
INDEX, TEXT, FIRST = "index", "index, text", "index, text, source first"
VARIANTS = {  # of the index rule, each compared with and without the text prior
    INDEX: {},
    "index, bayes": {"model": "bayes"},
    "index, fitted": {"model": "fitted"},
    "myopic": {"follow": "myopic"},
    "patient": {"follow": "patient"},
}


@dataclass(frozen=True, kw_only=True)
class SequentialConfig(SamplingConfig):
    """What is compared, on which log."""

    sources: Annotated[
        tuple[str, ...],
        "Sources that samples are drawn from; of several, the rule chooses one first. Default: the log's most accurate one.",
    ] = ()
    answer: Annotated[
        str, "How a question is answered: vote, verified (an exact verifier) or best (the greatest reward)."
    ] = "vote"
    resource: Resource = "samples"
    budgets: Budgets = (1.5, 2.0, 2.5, 3.0, 4.0)
    cap: Annotated[int, "The most samples of a question."] = 16
    contexts: Annotated[int, "The most groups of questions that a text prior tells apart."] = 16
    orders: Orders = 16
    policies: Policies = ("value", "imitation")

    def __post_init__(self):
        super().__post_init__()
        if self.answer not in ACTIONS:
            raise ValueError(f"answer is one of {', '.join(ACTIONS)}, got {self.answer!r}")
        for text in self.policies:
            parse_policy(text, (1.0,))
        for name in ("cap", "contexts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class StoppingBench:
    """What the rules are compared on."""

    config: SequentialConfig
    known: JobLog  # with the actions that one-shot policies and the oracle choose from
    sources: tuple[str, ...]
    cap: int
    held: SampleLog  # half of every question's samples, to score on
    choose: OutcomeTable  # of the other half
    score: OutcomeTable

    @property
    def options(self) -> dict[str, Any]:
        """What paths and rules have in common."""
        known, config = self.known, self.config
        fixed = {"answer": config.answer, "resource": known.resource, "prices": known.prices}
        return {**fixed, "cap": self.cap, "orders": config.orders}

    def paths(self, log: SampleLog, source: str, seed: int) -> Paths:
        return sample_paths(log, source, seed=seed, **self.options)

    def solve(self, log: SampleLog, source: str | Sequence[str], **options) -> StoppingFrontier:
        config = self.config
        fixed: dict[str, Any] = {
            "wave": config.wave,
            "rounds": config.rounds or None,
            "contexts": config.contexts,
            "seed": config.seed,
        }
        return solve_sequential(log, source, **fixed, **self.options, **options)


def compare_sequential(config: SequentialConfig, workdir: str | Path, overwrite: bool = False) -> Report:
    """Compare stopping rules on a log, and write report.md, a picture, metrics.jsonl and the rules of all questions into a folder.

    The rules are saved as policy/stopping.npz beside the policy that is their prior, both fitted to all questions.

    Raises:
      ValueError: anything is wrong with the configuration, the log or the folder; nothing is left behind.
    """
    with new_workdir(workdir, asdict(config), overwrite) as folder:
        bench = _bench(config)
        between = np.geomspace(min(config.budgets), max(config.budgets), 7) if len(config.budgets) > 1 else ()
        grid = sorted({*map(float, config.budgets), *map(float, between)})
        found = _cross_fit(bench, grid)
        fixed = [ACTIONS[config.answer](source, k) for source in bench.sources for k in range(1, bench.cap + 1)]
        uniform = replace(bench.known, actions=tuple(fixed)).measure(bench.held)
        tables = bench.choose, bench.score
        report = score_outcomes(found, tables, uniform, config.budgets, replicates=config.replicates, seed=config.seed)
        hidden = {name + text for name in VARIANTS if name != INDEX for text in ("", ", text")}  # they crowd a picture
        poor = tuple(
            f" ({source})" for source in bench.sources if source != _most_accurate(bench.known.log, bench.sources)
        )
        drawn = {key: o for key, o in found.items() if key[0] not in hidden and not key[0].endswith(poor)}
        curve = score_outcomes(drawn, tables, uniform, grid, replicates=300, seed=config.seed)
        main = FIRST if len(bench.sources) > 1 else TEXT
        write_report(folder, stopping_page(folder, report, curve, main, _about(bench), provenance(folder, config)))
        policy = _value_policy(bench, bench.known.log)
        policy.save(folder / "policy")
        sources = bench.sources if len(bench.sources) > 1 else bench.sources[0]
        bench.solve(bench.known.log, sources, prior=policy_prior(policy)).save(folder / "policy")
    return report


def _bench(config: SequentialConfig) -> StoppingBench:
    def samples(log: SampleLog) -> list[Action]:
        sources = config.sources or (_most_accurate(log, [source.name for source in log.sources]),)
        return [single(name) for name in sources]

    paid = LogConfig(resource=config.resource, prices=config.prices)
    known = JobLog.read(config.log, paid, reading={"skip_bad": config.skip_bad}, menu=samples)
    sources = tuple(action.source for action in known.actions)
    count = known.log.count[:, [known.log.source_index(name) for name in sources]]
    whole = np.all(count > 1, axis=1)
    if not whole.all() and not (config.skip_bad and whole.any()):
        i = int(np.argmin(whole))
        raise ValueError(
            f"question {known.log.ids[i]!r} has fewer than 2 samples of a source: --skip_bad leaves it out"
        )
    cap = min(config.cap, int(count[whole].min()) // 2)
    if cap < config.cap:
        logging.getLogger("alloc_jax").warning("half of a question's samples are %d: the cap is %d", cap, cap)
    numbers = [k for k in NUMBERS if k <= cap and not (k == 2 and config.answer == "vote")]
    actions = tuple(ACTIONS[config.answer](source, k) for source in sources for k in numbers)
    known = replace(known.select(whole), actions=actions)
    choose, held = known.log.split_samples(jax.random.key(config.seed))
    first, second = known.measure(choose), known.measure(held)
    check_budgets({"choose": first, "score": second}, config.budgets)
    return StoppingBench(config, known, sources, cap, held, first, second)


def _most_accurate(log: SampleLog, sources: Sequence[str]) -> str:
    """The source whose samples are right most often."""
    columns = [log.source_index(name) for name in sources]
    rates = log.correct[:, columns].sum(axis=(0, 2)) / np.maximum(log.count[:, columns].sum(axis=0), 1)
    return sources[int(np.argmax(rates))]


def _about(bench: StoppingBench) -> str:
    config = bench.config
    waves = "" if config.wave == 1 else f", in waves of {config.wave}"
    return (
        f"{len(bench.known.log)} questions of {bench.known.name}; samples of "
        f"{', '.join(bench.sources)}; answered by {config.answer}; at most {bench.cap} samples{waves}; {config.folds} folds, "
        f"{config.orders} orders of every question's samples; seed {config.seed}."
    )


def _value_policy(bench: StoppingBench, log: SampleLog, kind: str = "value") -> Policy:
    return train(bench.known.measure(log), replace(parse_policy(kind, bench.config.budgets), seed=bench.config.seed))


Found = dict[tuple[str, float], Outcome]  # (rule, budget) -> utility and cost f64[N]


def _cross_fit(bench: StoppingBench, budgets: Sequence[float]) -> Found:
    """What every rule does with every question at each budget it can keep in every fold."""
    config, count = bench.config, len(bench.known.log)
    found: dict[tuple[str, float], np.ndarray] = {}
    parts = question_folds(bench.score, config.folds, (config.seed,))
    for part in parts:
        for (rule, budget), outcome in _on_fold(bench, part, budgets):
            into = found.setdefault((rule, budget), np.full((2, count), np.nan))
            into[:, part.held] = outcome.utility, outcome.cost
        logging.getLogger("alloc_jax").info("fold %d of %d done", part.number + 1, len(parts))
    return {key: Outcome(*parts) for key, parts in found.items() if not np.isnan(parts).any()}


def _on_fold(bench: StoppingBench, part: Part, budgets: Sequence[float]):
    """((rule, budget), outcome) of all rules on the questions of a fold."""
    log, held = bench.known.log.select(part.train), bench.held.select(part.held)
    score = bench.score.select(part.held)
    policies = {kind: _value_policy(bench, log, kind) for kind in {"value", *bench.config.policies}}
    for kind in bench.config.policies:
        for made in deploy(policies[kind], score, budgets, bench.config.seed):
            yield (f"one-shot, {kind}", made.budget), Outcome.of(made.plan, score)
    prior = policy_prior(policies["value"])
    features = prior_features(policies["value"].predict(held.question).score)
    several = len(bench.sources) > 1
    walked = {source: bench.paths(held, source, bench.config.seed + 1) for source in bench.sources}

    def indexed(name: str, frontier: StoppingFrontier, text: bool):
        context = frontier.contexts(features if text else None, len(held))
        played = [replay_frontier(frontier, walked[source], context, m) for m, source in enumerate(frontier.sources)]
        for budget in _kept(budgets, frontier.spend[0]):
            yield (name, budget), replay_rule(frontier.at(budget), played, context)

    for source in bench.sources:
        suffix = f" ({source})" if several else ""
        for name, sweep in _rivals(bench.config.answer, bench.paths(log, source, bench.config.seed), walked[source]):
            for budget, outcome in sweep(budgets):
                yield (name + suffix, budget), outcome
        for name, options in VARIANTS.items():
            if options.get("model") == "bayes" and bench.config.answer == "best":
                continue
            if several and name != INDEX:
                continue
            yield from indexed(name + suffix, bench.solve(log, source, **options), False)
            yield from indexed(f"{name}, text{suffix}", bench.solve(log, source, prior=prior, **options), True)
    if several:
        yield from indexed(FIRST, bench.solve(log, bench.sources, prior=prior), True)


def _kept(budgets: Sequence[float], least: float) -> list[float]:
    return [budget for budget in budgets if budget >= least]


def _rivals(answer: str, known: Paths, held: Paths):
    """(name, budgets -> (budget, outcome)) of the rules without a multiplier, their settings chosen on training paths."""

    def swept(rule: Callable[[Paths], np.ndarray], budgets):
        found, play = replay(rule, known).rules(), replay(rule, held)
        for budget in _kept(budgets, found.spend[0]):
            yield budget, play.at(budget, found)

    def esc(budgets):
        """Windows on the upper hull of what they earned on training questions, adjacent ones mixed."""
        rules = list(windows(known.cap).values())
        trained = [replay(rule, known).outcome(0.0) for rule in rules]
        spend, utility = (np.array([getattr(o, name).mean() for o in trained]) for name in ("cost", "utility"))
        hull = upper_hull(spend, utility)
        on_held = {int(m): replay(rules[m], held).outcome(0.0) for m in hull}
        for budget in _kept(budgets, spend[hull[0]]):
            less, more, weight = adjacent(spend[hull], budget)
            yield budget, mixed(on_held[int(hull[less])], on_held[int(hull[more])], weight)

    if answer == "vote":
        yield "Adaptive-Consistency, Beta", partial(swept, beta_confidence)
        yield "Adaptive-Consistency, Dirichlet", partial(swept, dirichlet_confidence)
        yield "ESC", esc
    if answer == "verified":
        yield "until right, at most k", partial(swept, until_right)
