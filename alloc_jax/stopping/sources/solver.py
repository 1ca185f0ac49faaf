"""Escalation for a budget: a log in, rules out that draw the next sample from any source, at one multiplier for all questions.

The belief (`beliefs`) is fitted to the training questions, and which family of beliefs serves is chosen by what its rules earn on training
questions that they had not seen. What each multiplier spends is counted on the training questions' own samples; between two multipliers lies their mix,
which spends a budget exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
from jax.sharding import Mesh

from alloc_jax.measure.costs import unit_name
from alloc_jax.price_book import PriceBook
from alloc_jax.stopping.rules import nearest
from alloc_jax.stopping.sources.beliefs import Belief, Classes, uncounted
from alloc_jax.stopping.sources.count_correction import count_patterns
from alloc_jax.stopping.sources.latent import fit_classes
from alloc_jax.stopping.sources.patterns import Patterns, likeliest
from alloc_jax.stopping.sources.rules import EscalationFrontier
from alloc_jax.stopping.sources.simulation import Walked, walk
from alloc_jax.stopping.sources.solver_input import BELIEFS, Family, Promise, Task, make_task
from alloc_jax.stopping.sources.superprocess import Certificate, certify, solve_patterns
from alloc_jax.stopping.sources.walks import Walks
from alloc_jax.types import SampleLog, inseparable

SPENDS = 40  # at which families are compared
FOLDS = 3  # of the training questions, for the choice of a belief
THINNED = 3  # every so many multipliers are tried for that choice
CHUNK = 256  # contexts that are solved at a time
COUNTED = 20.0  # questions that count as if they had done as the classes expect


def solve_escalation(
    log: SampleLog,
    sources: Sequence[str],
    *,
    answer: str = "vote",
    resource: str = "samples",
    limits: Sequence[int] | None = None,
    cap: int | None = None,
    wave: int = 1,
    rounds: int | None = None,
    blocks: int = 3,
    promise: Promise | None = None,
    beliefs: Sequence[str] = tuple(BELIEFS),
    budgets: Sequence[float] = (),
    orders: int = 4,
    seed: int = 0,
    prices: PriceBook | None = None,
    evidence: str | None = None,
    by_group: bool = False,
    mesh: Mesh | None = None,
) -> EscalationFrontier:
    """The escalation rules of all budgets, fitted to a log.

    Args:
      log: training questions, each with samples of every source (`shared_questions` leaves others out).
      sources: that may be asked, in any order: one, or several.
      answer: "vote" (the answer of the greatest posterior) or "verified" (an exact verifier says which sample is right).
      resource: what a sample is paid with, as in `measure`.
      limits: the most samples of each source; default: as many as every question has, up to 4.
      cap: the most samples of a question; default: `usual_cap`.
      wave: the most samples that are drawn at a time.
      rounds: the most moves of a question, one after the other; default: as many as the cap needs. Fewer rounds, less waiting.
      blocks: of equal answers that are told apart.
      promise: what the questions' texts promise of the sources, such as a policy's predictions of questions it has not seen. None: all questions are
        alike before the first sample.
      beliefs: names of `BELIEFS` to choose from.
      budgets: spends at which the choice matters; default: all, evenly in their logarithm.
      orders: of repeated samples that are walked through.
      seed: of orders and folds.
      prices: behind the resource `usd`.
      evidence: a field of the samples that is looked at beside their answers, such as `reward` (a verifier's score, a confidence or a mean
        log-probability that was logged as one), `completion_tokens` or `usd` (long answers are wrong more often). In bins, as far as it
        tells right from wrong beyond the text. None: answers alone.
      by_group: the choice of a belief holds whole groups out, as it must where the rules will meet other groups.
      mesh: its devices share out the questions where beliefs are fitted and rules are planned.

    Returns:
      An `EscalationFrontier`: `.at(budget)` gives the rule, whose `decide(question)` serves.

    Raises:
      ValueError: an unknown option, sources without shared questions, samples, answers or costs; the message says which.
    """
    task = make_task(
        log, sources, answer=answer, resource=resource, limits=limits, cap=cap, wave=wave, rounds=rounds, blocks=blocks,
        promise=promise, orders=orders, seed=seed, prices=prices, evidence=evidence,
    )  # fmt: skip
    task = replace(task, mesh=mesh)
    unknown = [name for name in beliefs if name not in BELIEFS]
    if unknown or not beliefs:
        raise ValueError(f"beliefs are some of {', '.join(map(repr, BELIEFS))}; got {tuple(beliefs)}")
    if promise is None:  # families that differ in what they read alone are one
        beliefs = [name for name in beliefs if BELIEFS[name].read] or beliefs
    best = _best_family(task, beliefs, inseparable(log, by_group), budgets, seed)
    task = task.seen_by(BELIEFS[best])
    belief = fit_belief(task, BELIEFS[best])
    shared = None if task.planned else _cell_plan(task, belief, task.multipliers)
    keep, spend, utility = earned(task, belief, task, task.multipliers, shared)
    found = _certificate(task, belief, task.multipliers[keep])
    return EscalationFrontier(
        answer=answer,
        sources=tuple(sources),
        resource=resource,
        unit=unit_name(log, resource, [log.source_index(name) for name in sources], prices),
        limits=task.patterns.limits,
        cap=task.patterns.cap,
        blocks=task.patterns.blocks,
        wave=wave,
        rounds=task.rounds,
        myopic=task.myopic,
        family=best,
        read=task.read,
        evidence=evidence,
        cuts=task.walks.cuts,
        multiplier=task.multipliers[keep],
        spend=spend,
        utility=utility.mean(axis=1),
        net_utility=found.value,
        bound=found.bound,
        whittle=found.whittle,
        typical=task.typical,
        cost=task.cost.mean(axis=0),
        features=task.features.mean(axis=0),
        **_cells(task, keep, shared),
        **belief.classes._asdict(),
        scale=belief.scale,
    )


def fit_belief(task: Task, family: Family, classes: Classes | None = None) -> Belief:
    """A belief fitted to all questions of a task; classes that were fitted to them before are taken as they are."""
    if classes is None:
        read = task.features if family.gated and task.features.shape[1] else None
        classes = fit_classes(task.kinds, task.promised, family.classes, read, task.patterns.of, task.mesh)
    belief = Belief(classes, uncounted(task.patterns))
    if not family.counted:
        return belief
    if task.planned:
        given, context = (task.promised, task.features), np.arange(len(task.promised))
    else:
        cell, _, features = task.cells
        given, context = (cell, features), nearest(task.promised, cell)
    table = belief.table(task.patterns, *given)
    return Belief(classes, count_patterns(task.patterns, table, task.walks, context, COUNTED))


def play(
    patterns: Patterns,
    belief: Belief,
    promised: np.ndarray,
    features: np.ndarray,
    cost: np.ndarray,
    multipliers: np.ndarray,
    moves,
    ahead,
    rounds,
    walks: Walks,
    mesh: Mesh | None = None,
) -> Walked:
    """What the rules of P multipliers do with questions, each planned with what its own text promises."""
    count = len(promised)

    def chunk(first: int) -> Walked:
        rows = np.arange(first, min(first + CHUNK, count))
        padded = np.resize(rows, CHUNK)
        table = belief.table(patterns, promised[padded], features[padded])
        right = table.right.max(axis=-1)
        plan = solve_patterns(patterns, right, table.chance, cost[padded], multipliers, moves, ahead, mesh)
        answer = likeliest(table.right)
        return walk(patterns, plan.move, moves, answer, walks.select(rows), np.arange(len(rows)), rounds)

    found = list(_threads(1 if mesh else 2).map(chunk, range(0, count, CHUNK)))  # one plans while another walks
    return Walked(*(None if parts[0] is None else np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """The same threads each time: what a thread has freed is kept for it alone, and new ones would take as much again."""
    return ThreadPoolExecutor(count)


def earned(
    known: Task, belief: Belief, task: Task, multipliers: np.ndarray, shared: tuple[np.ndarray, ...] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool[P] the multipliers whose rules are worth keeping, and what each of those spends f64[L] and earns f64[L, N] on a task's questions.

    Args:
      known: the questions that the belief was fitted to, whose cells share plans.
      belief: what the rules believe.
      task: the questions to play, the same or others.
      multipliers: f64[P] falling.
      shared: the plan of the cells, where it was made before.
    """
    if task.planned:
        given = task.promised, task.features, task.cost
        walked = play(
            task.patterns, belief, *given, multipliers, task.moves, task.ahead, task.rounds, task.walks, task.mesh
        )
    else:
        move, answer, cell = shared or _cell_plan(known, belief, multipliers)
        walked = walk(task.patterns, move, task.moves, answer, task.walks, nearest(task.promised, cell), task.rounds)
    spend = walked.cost.mean(axis=(1, 2))
    # Without rules that spend no more than one of a higher multiplier.
    keep = np.append(True, spend[1:] > np.maximum.accumulate(spend)[:-1] * (1 + 1e-9))
    return keep, spend[keep], walked.utility[keep].mean(axis=2, dtype=float)


def _cell_plan(task: Task, belief: Belief, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The moves i8[P, R, G, S] and answers i8[G, S] of cells of like questions, and their log-odds f32[G, M]."""
    cell, cost, features = task.cells
    table = belief.table(task.patterns, cell, features)
    right = table.right.max(axis=-1)
    rules = multipliers, task.moves, task.ahead
    plan = solve_patterns(task.patterns, right, table.chance, cost, *rules, task.mesh)
    return plan.move, likeliest(table.right), cell


def _cells(task: Task, keep: np.ndarray, shared: tuple[np.ndarray, ...] | None) -> dict[str, np.ndarray]:
    """The cells of like questions with the plans that are kept, where not each question has its own."""
    if shared is None:
        cell = cost = np.zeros((0, task.patterns.sources), np.float32)
        features, move = np.zeros((0, task.features.shape[1]), np.float32), np.zeros((keep.sum(), 1, 0, 0), np.int8)
    else:
        (cell, cost, features), move = task.cells, shared[0][keep]
    return {"cell": cell, "cell_cost": cost, "cell_features": features, "cell_move": move}


def _certificate(task: Task, belief: Belief, multipliers: np.ndarray) -> Certificate:
    """Of questions drawn evenly from the training questions, or of the cells of all."""
    if task.planned:
        rows = np.resize(np.arange(0, len(task.promised), max(len(task.promised) // CHUNK, 1)), CHUNK)
        centre, cost, features = task.promised[rows], task.cost[rows], task.features[rows]
    else:
        centre, cost, features = task.cells
    table = belief.table(task.patterns, centre, features)
    right = table.right.max(axis=-1)
    rules = multipliers, task.moves, task.ahead
    return certify(task.patterns, right, table.chance, table.reach, cost, *rules, task.mesh)


def _best_family(task: Task, names: Sequence[str], unit: np.ndarray, budgets: Sequence[float], seed: int) -> str:
    """The simplest family whose rules earn as much as any, on training questions that their beliefs have not seen.

    At the budgets that every family can keep; without any, over all spends that every family reaches. As much is within a standard
    error over units of the difference from the best: so a text that says nothing, or few questions, leave the choice to the
    family that assumes least.
    Questions of one unit, i64[N], are left out together, and count as one.
    """
    names = sorted(names, key=lambda name: BELIEFS[name].simplicity)
    count = len(np.unique(unit))
    if len(names) == 1 or count == 1:
        return names[0]
    tasks = {name: task.seen_by(BELIEFS[name]) for name in names}
    fold = np.random.default_rng(seed).permutation(count)[unit] % min(FOLDS, count)
    gained = {name: np.empty(len(unit)) for name in names}
    for k in range(fold.max() + 1):
        known, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        found: dict[str, list[np.ndarray]] = {}
        fitted: dict[Family, Classes] = {}
        for name, whole in tasks.items():
            family, one, other = BELIEFS[name], whole.select(known), whole.select(held)
            belief = fit_belief(one, family, fitted.get(family._replace(counted=False)))
            fitted[family._replace(counted=False)] = belief.classes
            _, *found[name] = earned(one, belief, other, task.multipliers[::THINNED])
        low, high = max(spend[0] for spend, _ in found.values()), min(spend[-1] for spend, _ in found.values())
        grid = [budget for budget in budgets if low <= budget <= high] or np.geomspace(low, max(high, low), SPENDS)
        for name, (spend, utility) in found.items():
            share = np.mean([np.interp(grid, spend, rule) for rule in np.eye(len(spend))], axis=1)  # of each rule
            gained[name][held] = share @ utility
    best = max(names, key=lambda name: gained[name].mean())

    def as_good(name: str) -> bool:
        behind = np.bincount(unit, gained[best] - gained[name])  # of each unit
        return behind.mean() <= behind.std() / np.sqrt(count)

    return next(name for name in names if name == best or as_good(name))
