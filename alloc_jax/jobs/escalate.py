"""The comparison of escalation: one multiplier on the next sample of any source beside cascades, routers and fixed rules.

Cross-fitted: every question is answered for by rules, thresholds and multipliers that come from other questions. All rules are scored on
the same questions, samples, orders and resamples, so that differences are paired.
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

from alloc_jax.actions import passes, single, vote
from alloc_jax.evaluate.comparison.cases import default_budgets
from alloc_jax.evaluate.comparison.contenders import parse_policy
from alloc_jax.evaluate.comparison.crossfit import Part, question_folds
from alloc_jax.evaluate.evaluation import deploy
from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.evaluate.scoring import HINDSIGHT, ORACLE, Report
from alloc_jax.evaluate.sequential import cascades
from alloc_jax.evaluate.sequential.cascades import Sweep
from alloc_jax.evaluate.sequential.default_sources import default_ladder
from alloc_jax.evaluate.sequential.escalation import Path as Way, Ways, middle_paths, replay_budgets, served_paths
from alloc_jax.jobs.config import Budgets, ByGroup, Policies, Questions, SamplingConfig
from alloc_jax.jobs.job_log import JobLog, log_name, of_sources, paid_with
from alloc_jax.jobs.workdir import new_workdir, provenance
from alloc_jax.learn.policy import Policy
from alloc_jax.learn.training import train
from alloc_jax.logs import read_log
from alloc_jax.measure import measure
from alloc_jax.measure.costs import sample_costs
from alloc_jax.price_book import PriceBook
from alloc_jax.report.escalation import escalation_page
from alloc_jax.report.pages.html import write_report
from alloc_jax.report.stopping import score_outcomes
from alloc_jax.stopping.rules import nearest
from alloc_jax.stopping.sources.beliefs import log_odds
from alloc_jax.stopping.sources.rules import EscalationFrontier
from alloc_jax.stopping.sources.solver import solve_escalation
from alloc_jax.stopping.sources.solver_input import BELIEFS, Promise, policy_promise, usual_cap
from alloc_jax.stopping.sources.walks import Walks, answered_questions, make_walks, shared_questions
from alloc_jax.types import OutcomeTable, SampleLog

ESCALATE, BLIND = "escalate", "escalate, no text"
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)  # of the most expensive source's mean cost: budgets where none are given
FIXED = (1, 2, 3, 4, 6, 8, 12, 16)  # votes of one source


@dataclass(frozen=True, kw_only=True)
class EscalateConfig(SamplingConfig):
    """What is compared, on which log."""

    sources: Annotated[
        tuple[str, ...], "Sources that samples are drawn from; default: those on or near the cost-accuracy hull."
    ] = ()
    answer: Annotated[str, "How a question is answered: vote, or verified (an exact verifier)."] = "vote"
    budgets: Budgets = ()  # empty: SHARES of the most expensive source's cost
    limits: Annotated[
        tuple[str, ...],
        "The most samples of each source, in the order of the sources; default: as many as the log allows, up to 4.",
    ] = ()
    cap: Annotated[int, "The most samples of a question; 0: 3, or up to 6 where sources repeat."] = 0
    beliefs: Annotated[tuple[str, ...], "Families of beliefs to choose from."] = tuple(BELIEFS)
    evidence: Annotated[
        str,
        "Field of the samples that is looked at beside their answers: reward, completion_tokens, usd, ...; empty: none.",
    ] = ""
    policies: Policies = ("value",)  # the one-shot policy, whose predictions are the prior, too; empty: no text
    by_group: ByGroup = False
    questions: Questions = 0  # drawn at random; 0: all

    def __post_init__(self):
        super().__post_init__()
        if self.answer not in ("vote", "verified"):
            raise ValueError(f"answer is vote or verified, got {self.answer!r}")
        if len(self.policies) > 1:
            raise ValueError(f"one policy is the prior of the rule, got {self.policies}")
        for text in self.policies:
            if parse_policy(text, (1.0,)).kind == "imitation":
                raise ValueError("an imitation policy predicts no utilities: use a value policy")
        if self.questions < 0 or len(set(self.budgets)) < len(self.budgets):
            raise ValueError(f"questions are 0 or more and budgets differ, got {self.questions} and {self.budgets}")
        if any(not limit.isdigit() or limit == "0" for limit in self.limits):
            raise ValueError(f"limits are whole numbers of samples from 1 on, got {self.limits}")


@dataclass(frozen=True)
class EscalationBench:
    """What the rules are compared on."""

    config: EscalateConfig
    log: SampleLog
    sources: tuple[str, ...]
    limits: tuple[int, ...]
    walks: Walks  # of the samples that score
    choose: OutcomeTable  # what the oracle sees
    score: OutcomeTable  # of the samples that score; the same where samples cannot be halved
    budgets: tuple[float, ...]
    prices: PriceBook | None

    @property
    def cap(self) -> int:
        return min(self.config.cap, sum(self.limits)) or usual_cap(
            self.limits, verified=self.config.answer == "verified"
        )

    @property
    def oracle(self) -> str:
        return HINDSIGHT if self.choose is self.score else ORACLE

    def make_walks(self, log: SampleLog) -> Walks:
        config = self.config
        options: dict[str, Any] = {"resource": config.resource, "verified": config.answer == "verified"}
        options |= {"prices": self.prices, "evidence": config.evidence or None}
        return make_walks(log, self.sources, self.limits, orders=config.orders, seed=config.seed + 1, **options)

    def solve(self, log: SampleLog, promise: Promise | None) -> EscalationFrontier:
        config = self.config
        return solve_escalation(
            log, self.sources, answer=config.answer, resource=config.resource, limits=self.limits, cap=self.cap,
            wave=config.wave, rounds=config.rounds or None, promise=promise, beliefs=config.beliefs, budgets=self.budgets,
            orders=config.orders, seed=config.seed, prices=self.prices, evidence=config.evidence or None, by_group=config.by_group,
        )  # fmt: skip

    def table(self, log: SampleLog) -> OutcomeTable:
        return measure(log, self.score.actions, self.config.resource, prices=self.prices)

    def policy(self, log: SampleLog) -> Policy | None:
        if not self.config.policies:
            return None
        given = parse_policy(self.config.policies[0], self.budgets)
        by_group = given.by_group or self.config.by_group  # where what is held out is of other groups
        return train(self.table(log), replace(given, seed=self.config.seed, by_group=by_group))


def escalate_beside(
    known: JobLog, learn: SampleLog, score: SampleLog, policy: Policy, budgets: Sequence[float], shown: Sequence[float], seed: int
) -> tuple[dict[tuple[str, float], Outcome], Ways | None]:  # fmt: skip
    """What escalation does on held-out questions at budgets, to stand in a report beside one-shot policies.

    Args:
      known: the log and its actions.
      learn: the questions that the policy was trained on.
      score: held-out questions, with the samples that score.
      policy: a value policy, whose predictions are the prior.
      budgets: those that no rule keeps are left out.
      shown: those whose middle one is shown question by question.
      seed: of the orders of samples.

    Returns:
      Outcomes by rule and budget, and paths of questions; none where a source has no answers that could be compared.
    """
    first = [action.source for action in known.actions if action.samples == 1 and action.source is not None]
    if not first or not all((learn.answer[:, learn.source_index(name)] >= 0).any() for name in first):
        return {}, None
    sources = _ladder(of_sources(learn, [single(name) for name in first]), known.resource, known.prices)
    columns = [learn.source_index(name) for name in sources]
    limits = [min(4, int(part)) for part in np.minimum(learn.count[:, columns].min(0), score.count[:, columns].min(0))]
    rows = np.sort(np.random.default_rng(seed).permutation(len(learn))[: 1 << 14])  # a few classes need no more
    promise = Promise(*(part[rows] for part in policy_promise(policy, sources, learn.question, seen=True)))
    frontier = solve_escalation(
        learn.select(rows), sources, resource=known.resource, limits=limits, promise=promise, beliefs=("classes",), orders=2,
        seed=seed, prices=known.prices,
    )  # fmt: skip
    walks = make_walks(score, sources, limits, resource=known.resource, orders=4, seed=seed, prices=known.prices)
    promise = policy_promise(policy, sources, score.question)
    played = replay_budgets(frontier, budgets, walks, promise)
    ways = middle_paths(frontier, [budget for budget in shown if budget in played], score, walks, promise, seed)
    return {(ESCALATE, budget): one.outcome for budget, one in played.items()}, ways


def compare_escalation(config: EscalateConfig, workdir: str | Path, overwrite: bool = False) -> Report:
    """Compare escalation with its rivals on a log, and write report.md, pictures, metrics.jsonl and the rules of all questions.

    The rules are saved as policy/escalation.npz beside the policy that is their prior, both fitted to all questions.

    Raises:
      ValueError: anything is wrong with the configuration, the log or the folder; nothing is left behind.
    """
    with new_workdir(workdir, asdict(config), overwrite) as folder:
        bench = make_bench(config)
        found, waits, ways = cross_fit_escalation(bench)
        if not any(rule == ESCALATE for rule, _ in found):
            raise ValueError(f"no budget of {bench.budgets} reaches the cheapest rule in every fold: name larger ones")
        report = score_outcomes(
            found,
            (bench.choose, bench.score),
            bench.score,
            bench.budgets,
            replicates=config.replicates,
            seed=config.seed,
            oracle=bench.oracle,
        )
        policy = bench.policy(bench.log)
        promise = None if policy is None else policy_promise(policy, bench.sources, bench.log.question, seen=True)
        frontier = bench.solve(bench.log, promise)
        if policy is not None:
            policy.save(folder / "policy")
        frontier.save(folder / "policy")
        about, made = _about(bench), provenance(folder, config)
        page = escalation_page(folder, report, ESCALATE, _waited(waits), ways, bench.log, frontier, about, made)
        write_report(folder, page)
    return report


def make_bench(config: EscalateConfig) -> EscalationBench:
    """The log, its sources and budgets, checked."""
    reading: dict[str, Any] = {"skip_bad": True} if config.skip_bad else {}
    log = read_log(config.log, **reading)
    prices = PriceBook.load(config.prices) if config.prices else None
    config = replace(config, resource=config.resource or paid_with(log, prices))
    sources = config.sources or _ladder(log, config.resource, prices)
    columns = [log.source_index(name) for name in sources]
    log = shared_questions(log, sources)
    log = answered_questions(log, sources) if config.answer == "vote" else log
    if config.questions and config.questions < len(log):
        rows = np.random.default_rng(config.seed).permutation(len(log))[: config.questions]
        log = log.select(np.sort(rows))
    fewest = log.count[:, columns].min(axis=0)
    halved = bool((log.count[:, columns] >= 4).all())
    held, choose = log, log
    if halved:
        sampled = of_sources(log, [single(name) for name in sources])
        choose, held = sampled.split_samples(jax.random.key(config.seed))
        fewest = fewest // 2
    limits = tuple(map(int, config.limits)) or tuple(int(min(few, 4)) for few in fewest)
    if len(limits) != len(sources):
        raise ValueError(f"limits are one number for each of {len(sources)} sources, got {limits}")
    votes = {name: max(limit, 1) for name, limit in zip(sources, limits, strict=True)}
    actions = [
        _fixed(config.answer, name, k)
        for name, most in votes.items()
        for k in FIXED
        if k <= (int(fewest.min()) if halved else most) and not (k == 2 and config.answer == "vote")
    ]
    tables_ = [
        measure(part, actions, config.resource, prices=prices) for part in ((choose, held) if halved else (held,))
    ]
    one = [i for i, action in enumerate(actions) if action.samples == 1]
    dearest = float(tables_[-1].cost[:, one].mean(axis=0).max())
    cheapest = float(tables_[-1].cost[:, one].mean(axis=0).min())
    budgets = tuple(float(f"{share * dearest:.4g}") for share in SHARES if share * dearest > 1.05 * cheapest)
    budgets = config.budgets or budgets or default_budgets(tables_[-1])
    if min(budgets) < cheapest:
        raise ValueError(
            f"budget {min(budgets):g} is below what one sample of the cheapest source costs, {cheapest:.4g}: every question gets one"
        )
    bench = EscalationBench(config, log, tuple(sources), limits, None, tables_[0], tables_[-1], budgets, prices)
    return replace(bench, walks=bench.make_walks(held))


def _fixed(answer: str, source: str, k: int):
    if answer == "verified":
        return passes(source, k)
    return single(source) if k == 1 else vote(source, k)


def _ladder(log: SampleLog, resource: str, prices: PriceBook | None) -> tuple[str, ...]:
    """The default sources: on or near the hull of those that answer every question and whose costs are known."""
    names, accuracy, cost = [], [], []
    for m, source in enumerate(log.sources):
        try:
            paid = sample_costs(log, resource, m, prices)[log.sampled[:, m]]
        except (KeyError, TypeError):  # no price, or no such field
            continue
        if (log.count[:, m] > 0).mean() > 0.9 and np.isfinite(paid).all() and len(paid):
            names.append(source.name)
            accuracy.append(log.correct[:, m].sum() / log.count[:, m].sum())
            cost.append(paid.mean())
    if not names:
        raise ValueError(f"no source of the log has samples of nearly all questions and a cost in {resource!r}")
    chosen = tuple(names[m] for m in default_ladder(accuracy, cost))
    logging.getLogger("alloc_jax").info("sources: %s", ", ".join(chosen))
    return chosen


def cross_fit_escalation(bench: EscalationBench):
    """What every rule does with every question at each budget it can keep in every fold; how long the rule waits; the paths at a middle budget."""
    count, config = len(bench.log), bench.config
    found: dict[tuple[str, float], np.ndarray] = {}
    waits: dict[float, np.ndarray] = {}
    ways: list[Way] = []
    parts = question_folds(bench.score, config.folds, (config.seed,), config.by_group)
    for part in parts:
        for (rule, budget), outcome, seconds in _on_fold(bench, part, ways):
            into = found.setdefault((rule, budget), np.full((2, count), np.nan))
            into[:, part.held] = outcome.utility, outcome.cost
            if seconds is not None and rule == ESCALATE:
                waits.setdefault(budget, np.full(count, np.nan))[part.held] = seconds
        logging.getLogger("alloc_jax").info("fold %d of %d done", part.number + 1, len(parts))
    whole = {key: Outcome(*both) for key, both in found.items() if not np.isnan(both).any()}
    return whole, waits, ways


def _on_fold(bench: EscalationBench, part: Part, ways: list[Way]):
    """((rule, budget), outcome, seconds) of all rules on the questions of a fold."""
    config = bench.config
    log, score, walks = bench.log.select(part.train), bench.score.select(part.held), bench.walks.select(part.held)
    policy = bench.policy(log)
    promise = held = None
    if policy is not None:
        promise = policy_promise(policy, bench.sources, log.question, seen=True)
        held = policy_promise(policy, bench.sources, score.question)
        for made in deploy(policy, score, bench.budgets, config.seed):
            yield (f"one-shot, {policy.kind}", made.budget), Outcome.of(made.plan, score), None
    frontier = bench.solve(log, promise)
    logging.getLogger("alloc_jax").info("belief: %s", frontier.family)
    played = replay_budgets(frontier, bench.budgets, walks, held)
    middle = list(played)[len(played) // 2] if played else None
    for budget, one in played.items():
        yield (ESCALATE, budget), one.outcome, one.seconds
        if budget == middle:
            some = bench.log.select(part.held)
            mine = served_paths(frontier.at(budget), some, walks, held, config.seed)
            ways.extend(replace(way, row=int(part.held[way.row])) for way in mine)
    if promise is not None:
        blind = bench.solve(log, None)
        for budget, one in replay_budgets(blind, bench.budgets, walks).items():
            yield (BLIND, budget), one.outcome, one.seconds
    for name, (known, on_held) in _rivals(bench, frontier, log, promise, walks, held).items():
        for budget in bench.budgets:
            outcome = on_held.at(budget, known, mix=name != "best single source")
            if outcome is not None:
                yield (name, budget), outcome, None


def _rivals(
    bench: EscalationBench, frontier: EscalationFrontier, log, promise, walks: Walks, held
) -> dict[str, tuple[Sweep, ...]]:
    """The cascades on training and on held-out questions."""
    known, walks = bench.make_walks(log).binned(frontier.cuts), walks.binned(frontier.cuts)
    limits, cost = bench.limits, frontier.cost
    chains = [ladder for ladder in cascades.ladders(cost, most=min(cascades.LONGEST, max(bench.cap, 2)))]
    same = [(m,) * limit for m, limit in enumerate(limits) if limit > 1]
    sweeps: dict[str, Callable[..., Sweep]] = {
        "best single source": cascades.singles,
        "uniform mix, learned": cascades.singles,
    }
    sweeps = {name: partial(make, limits=limits) for name, make in sweeps.items()}
    if bench.config.answer == "vote":
        sweeps["agreement cascade"] = partial(cascades.agreement, chains=chains + same)
        sweeps["consistency cascade"] = partial(cascades.consistency, limits=limits, cost=cost)
        sweeps["Adaptive-Consistency"] = partial(cascades.adaptive_consistency, chains=chains + same)
        sweeps["ESC"] = partial(cascades.esc, chains=chains + same)
    found: dict[str, tuple[Sweep, ...]] = {name: (make(known), make(walks)) for name, make in sweeps.items()}
    own = []
    for part, given in ((known, promise), (walks, held)) if frontier.read else ((known, None), (walks, None)):
        shape = (len(part), len(bench.sources))
        promised = np.broadcast_to(frontier.typical, shape) if given is None else log_odds(given.accuracy)
        paid = np.broadcast_to(cost, shape) if given is None or given.cost is None else given.cost
        if len(frontier.cell):
            table, at = frontier.cell_table, nearest(promised, frontier.cell)
        else:
            features = None if given is None else given.features
            table, at = frontier.belief.table(frontier.patterns, promised, features), np.arange(len(promised))
        own.append((part, promised, paid, table.right, at))
    longest = [c for c in chains + same if len(c) <= frontier.cap]
    found["confidence cascade"] = tuple(
        cascades.confidence(part, longest, frontier.patterns, right, at) for part, _, _, right, at in own
    )
    multipliers = frontier.multiplier[:: max(len(frontier.multiplier) // 16, 1)]
    if max(bench.limits) == 1:
        found["cascade routing"] = tuple(
            cascades.cascade_routing(
                part, frontier.patterns, right[at], 1 / (1 + np.exp(-promised)), _strays(own[0]), paid, multipliers
            )
            for part, promised, paid, right, at in own
        )
    return found


def _strays(known) -> np.ndarray:
    """f[M] how far the posterior of a source's answer strays from what its text promised, on training questions."""
    walks, promised, *_ = known
    accuracy = 1 / (1 + np.exp(-promised))
    return np.abs(walks.right[:, 0, :, 0] - accuracy).mean(axis=0) / 2


def _waited(waits: dict[float, np.ndarray]) -> dict[float, tuple[float, float]]:
    """Mean and 95th percentile of the seconds a question takes, by budget."""
    return {
        budget: (float(np.mean(s)), float(np.percentile(s, 95))) for budget, s in waits.items() if np.isfinite(s).all()
    }


def _about(bench: EscalationBench) -> str:
    config = bench.config
    orders = "" if max(bench.limits) == 1 else f", up to {', '.join(map(str, bench.limits))} samples"
    text = f"the text prior is a {config.policies[0]} policy" if config.policies else "no text is read"
    kept = "questions of a group stay together" if config.by_group else "by question"
    return (
        f"{len(bench.log)} questions of {log_name(config.log)}; sources {', '.join(bench.sources)}{orders}; at most {bench.cap} samples per question; answered by"
        f" {config.answer}; {config.folds} folds ({kept}); {text}; seed {config.seed}."
    )
