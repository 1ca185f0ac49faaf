"""Escalation for a budget: a log in, rules out that draw the next sample from any source, at one price for all questions.

The belief (`classes`) is fitted to the training questions, and which family of beliefs serves is chosen by what its rules earn on training
questions that they had not seen. What each price spends is counted on the training questions' own samples; between two prices lies their mix,
which spends a budget exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from alloc_jax.measure.costs import unit_name
from alloc_jax.price_book import PriceBook
from alloc_jax.stopping.contexts import make_contexts
from alloc_jax.stopping.rules import nearest
from alloc_jax.stopping.sources.classes import Belief, Classes, log_odds, uncounted
from alloc_jax.stopping.sources.counted import count_patterns
from alloc_jax.stopping.sources.latent import Kinds, fit_classes, read_kinds
from alloc_jax.stopping.sources.patterns import Patterns, all_moves, make_patterns
from alloc_jax.stopping.sources.rules import PLANNED, EscalationFrontier
from alloc_jax.stopping.sources.superprocess import Certificate, certify, solve_patterns
from alloc_jax.stopping.sources.walking import Walked, walk
from alloc_jax.stopping.sources.walks import Walks, make_walks
from alloc_jax.types import SampleLog, inseparable

PRICES = 48
SPENDS = 40  # at which families are compared
FOLDS = 3  # of the training questions, for the choice of a belief
THINNED = 3  # every so many prices are tried for that choice
CELLS = 512  # of like questions at most, where patterns are too many to plan each question,
CELL_STATES = 400_000  # so many states in all of them together,
CELL = 8  # and at least so many questions in each
CHUNK = 256  # contexts that are solved at a time
COUNTED = 20.0  # questions that count as if they had done as the classes expect


class Family(NamedTuple):
    """A way to believe."""

    classes: int
    gated: bool = False  # whether the text tells classes apart
    counted: bool = False  # whether agreement patterns are counted against the classes
    read: bool = True  # whether it believes what the texts promise
    once: bool = False  # whether it asks once, and looks at no answer

    @property
    def simplicity(self) -> tuple[bool, bool, bool, bool, int]:
        """Smaller for families that assume less; one that looks at no answer serves only where it is the best by itself."""
        return self.once, self.read, self.counted, self.gated, self.classes


BELIEFS = {
    "independent": Family(1),
    "classes": Family(4),
    "classes by text": Family(12, gated=True),
    "patterns": Family(4, counted=True),
    "patterns by text": Family(12, gated=True, counted=True),
    "classes without text": Family(4, read=False),
    "patterns without text": Family(4, counted=True, read=False),
    "text alone": Family(1, once=True),
}


class Promise(NamedTuple):
    """What the texts of N questions promise of M sources, by models that have not seen their outcomes."""

    accuracy: np.ndarray  # f[N, M]
    cost: np.ndarray | None = None  # f[N, M] of a sample; None: each source's mean
    features: np.ndarray | None = None  # f[N, D] of the texts themselves, which may tell classes of questions apart


@dataclass(frozen=True, eq=False)
class Task:
    """What a belief is fitted to and tried on."""

    patterns: Patterns
    walks: Walks
    kinds: Kinds
    promised: np.ndarray  # f32[N, M]
    cost: np.ndarray  # f32[N, M]
    features: np.ndarray  # f32[N, D]; D = 0 where no text is read
    prices: np.ndarray  # f64[P]
    wave: int
    rounds: int | None
    read: bool  # whether texts promise anything; without, all questions are alike before the first sample

    @property
    def planned(self) -> bool:
        """Whether each question has a plan of its own; else like questions share one."""
        return self.read and len(self.patterns) <= PLANNED

    def select(self, rows: np.ndarray) -> Task:
        """The task of some of its questions."""
        kinds = Kinds(*(part[rows] for part in self.kinds))
        walks, each = self.walks.select(rows), (self.promised[rows], self.cost[rows], self.features[rows])
        return replace(self, walks=walks, kinds=kinds, promised=each[0], cost=each[1], features=each[2])

    @cached_property
    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-odds and costs f32[G, M], and features f32[G, D], of cells of like questions."""
        every = self.promised, self.cost, self.features
        if not self.read:
            return tuple(x[:1] for x in every)
        most = max(min(CELLS, CELL_STATES // len(self.patterns)), 1)
        near = make_contexts(self.promised, len(self.promised), most, CELL)
        of = [near.of == g for g in range(len(near.center)) if (near.of == g).any()]
        return tuple(np.stack([x[mine].mean(axis=0) for mine in of]) for x in every)

    @property
    def moves(self):
        return all_moves(self.patterns.sources, self.wave if self.rounds is not None else 1)

    @property
    def typical(self) -> np.ndarray:
        """f32[M] log-odds of a question of which no text is known."""
        right, wrong = self.kinds.right.sum(axis=0), self.kinds.wrong.sum(axis=0)
        return log_odds(right / (right + wrong))

    def seen_by(self, family: Family) -> Task:
        """The same as far as a family of beliefs looks: unread, all questions are alike before the first sample."""
        if family.once:
            return replace(self, rounds=1)
        if family.read or not self.read:
            return self
        typical, cost = (np.broadcast_to(x, self.cost.shape) for x in (self.typical, self.cost.mean(axis=0)))
        return replace(self, promised=typical, cost=cost, features=np.zeros((len(cost), 0), np.float32), read=False)


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
    orders: int = 4,
    seed: int = 0,
    prices: PriceBook | None = None,
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
      orders: of repeated samples that are walked through.
      seed: of orders and folds.
      prices: behind the resource `usd`.

    Returns:
      An `EscalationFrontier`: `.at(budget)` gives the rule, whose `decide(question)` serves.

    Raises:
      ValueError: an unknown option, sources without shared questions, samples, answers or costs; the message says which.
    """
    task = make_task(
        log, sources, answer=answer, resource=resource, limits=limits, cap=cap, wave=wave, rounds=rounds, blocks=blocks,
        promise=promise, orders=orders, seed=seed, prices=prices,
    )  # fmt: skip
    unknown = [name for name in beliefs if name not in BELIEFS]
    if unknown or not beliefs:
        raise ValueError(f"beliefs are some of {', '.join(map(repr, BELIEFS))}; got {tuple(beliefs)}")
    if promise is None:  # families that differ in what they read alone are one
        beliefs = [name for name in beliefs if BELIEFS[name].read] or beliefs
    best = _best_family(task, beliefs, inseparable(log), seed)
    task = task.seen_by(BELIEFS[best])
    belief = fit_belief(task, BELIEFS[best])
    keep, spend, utility = _earned(task, belief, task, task.prices)
    found = _certificate(task, belief, task.prices[keep])
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
        family=best,
        read=task.read,
        multiplier=task.prices[keep],
        spend=spend,
        utility=utility.mean(axis=1),
        value=found.value,
        bound=found.bound,
        whittle=found.whittle,
        typical=task.typical,
        cost=task.cost.mean(axis=0),
        features=task.features.mean(axis=0),
        **_cells(task, belief, task.prices[keep]),
        **belief.classes._asdict(),
        scale=belief.scale,
    )


def make_task(
    log,
    sources,
    *,
    answer,
    resource,
    limits=None,
    cap=None,
    wave=1,
    rounds=None,
    blocks=3,
    promise=None,
    orders=4,
    seed=0,
    prices=None,
) -> Task:
    """The questions of `solve_escalation`, checked."""
    sources = tuple(sources)
    if not sources or len(set(sources)) < len(sources):
        raise ValueError(f"sources are one or more different names, got {sources}")
    if answer not in ("vote", "verified"):
        raise ValueError(f"answer is 'vote' or 'verified', got {answer!r}")
    if wave < 1 or (rounds is not None and rounds < 1):
        raise ValueError(f"a wave and the rounds are 1 or more, got {wave} and {rounds}")
    columns = [log.source_index(name) for name in sources]
    limits = tuple(np.minimum(log.count[:, columns].min(axis=0), 4)) if limits is None else limits
    limits = tuple(max(int(limit), 1) for limit in limits)
    cap = usual_cap(limits, blocks, answer == "verified") if cap is None else min(sum(limits), cap)
    rounds = -(-cap // wave) if rounds is None and wave > 1 else rounds
    rounds = None if rounds is not None and rounds >= cap else rounds
    walks = make_walks(
        log, sources, limits, resource=resource, verified=answer == "verified", orders=orders, seed=seed, prices=prices
    )
    shape = (len(log), len(sources))
    kinds = read_kinds(log, sources, answer == "verified")
    mean = np.array([np.nanmean(walks.cost[:, :, m, : limits[m]]) for m in range(len(sources))])
    accuracy = kinds.right.sum(axis=0) / (kinds.right + kinds.wrong).sum(axis=0)
    read, promise = promise is not None, promise or Promise(np.broadcast_to(accuracy, shape))
    cost = np.broadcast_to(mean, shape) if promise.cost is None else np.asarray(promise.cost)
    for name, given in (("accuracy", np.asarray(promise.accuracy)), ("cost", cost)):
        if given.shape != shape or not np.isfinite(given).all():
            raise ValueError(f"the promised {name} is {shape[0]} x {shape[1]} finite numbers, got shape {given.shape}")
    features = np.zeros((len(log), 0)) if promise.features is None else np.asarray(promise.features)
    if len(features) != len(log) or not np.isfinite(features).all():
        raise ValueError(f"the features of texts are {len(log)} rows of finite numbers, got shape {features.shape}")
    features = np.float32(features)
    return Task(
        make_patterns(limits, cap, blocks, answer == "verified"), walks, kinds, log_odds(promise.accuracy), np.float32(cost), features,
        np.geomspace(2 / mean[mean > 0].min(), 0.002 / mean.max(), PRICES), wave, rounds, read,
    )  # fmt: skip


def usual_cap(limits: Sequence[int], blocks: int = 3, verified: bool = False) -> int:
    """The most samples of a question where nobody says: 3, or 6 of sources that repeat, as far as each question can be planned.

    >>> usual_cap((1, 1, 1, 1)), usual_cap((4, 4)), usual_cap((4, 4, 4, 4))
    (3, 6, 4)
    """
    limits, cap = tuple(limits), 1
    most = min(sum(limits), 3 if max(limits) == 1 else 6)
    while cap < most and len(make_patterns(limits, cap + 1, blocks, verified)) <= PLANNED:
        cap += 1
    return cap


def fit_belief(task: Task, family: Family, classes: Classes | None = None) -> Belief:
    """A belief fitted to all questions of a task; classes that were fitted to them before are taken as they are."""
    if classes is None:
        read = task.features if family.gated and task.features.shape[1] else None
        classes = fit_classes(task.kinds, task.promised, family.classes, read)
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
    prices: np.ndarray,
    moves,
    rounds,
    walks: Walks,
) -> Walked:
    """What the rules of P prices do with questions, each planned with what its own text promises."""
    count = len(promised)
    found = []
    for first in range(0, count, CHUNK):
        rows = np.arange(first, min(first + CHUNK, count))
        padded = np.resize(rows, CHUNK)
        table = belief.table(patterns, promised[padded], features[padded])
        plan = solve_patterns(patterns, table.right.max(axis=-1), table.chance, cost[padded], prices, moves, rounds)
        answer = table.right.argmax(axis=-1).astype(np.int8)
        found.append(walk(patterns, plan.move, moves, answer, walks.select(rows), np.arange(len(rows))))
    return Walked(*(None if parts[0] is None else np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))


def _earned(known: Task, belief: Belief, task: Task, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool[P] the prices whose rules are worth keeping, and what each of those spends f64[L] and earns f64[L, N] on a task's questions.

    Args:
      known: the questions that the belief was fitted to, whose cells share plans.
      belief: what the rules believe.
      task: the questions to play, the same or others.
      prices: f64[P] falling.
    """
    if task.planned:
        given = task.promised, task.features, task.cost
        walked = play(task.patterns, belief, *given, prices, task.moves, task.rounds, task.walks)
    else:
        move, answer, cell = _cell_plan(known, belief, prices)
        walked = walk(task.patterns, move, task.moves, answer, task.walks, nearest(task.promised, cell))
    spend = walked.cost.mean(axis=(1, 2))
    keep = np.append(
        True, spend[1:] > np.maximum.accumulate(spend)[:-1] * (1 + 1e-9)
    )  # without those of a higher price
    return keep, spend[keep], walked.utility[keep].mean(axis=2, dtype=float)


def _cell_plan(task: Task, belief: Belief, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The moves i8[P, R, G, S] and answers i8[G, S] of cells of like questions, and their log-odds f32[G, M]."""
    cell, cost, features = task.cells
    table = belief.table(task.patterns, cell, features)
    right = table.right.max(axis=-1)
    plan = solve_patterns(task.patterns, right, table.chance, cost, prices, task.moves, task.rounds)
    return plan.move, table.right.argmax(axis=-1).astype(np.int8), cell


def _cells(task: Task, belief: Belief, prices: np.ndarray) -> dict[str, np.ndarray]:
    """The cells of like questions with their plans, where not each question has its own."""
    if task.planned:
        cell = cost = np.zeros((0, task.patterns.sources), np.float32)
        features, move = np.zeros((0, task.features.shape[1]), np.float32), np.zeros((len(prices), 1, 0, 0), np.int8)
    else:
        cell, cost, features = task.cells
        move, *_ = _cell_plan(task, belief, prices)
    return {"cell": cell, "cell_cost": cost, "cell_features": features, "cell_move": move}


def _certificate(task: Task, belief: Belief, prices: np.ndarray) -> Certificate:
    """Of questions drawn evenly from the training questions, or of the cells of all."""
    if task.planned:
        rows = np.resize(np.arange(0, len(task.promised), max(len(task.promised) // CHUNK, 1)), CHUNK)
        centre, cost, features = task.promised[rows], task.cost[rows], task.features[rows]
    else:
        centre, cost, features = task.cells
    table = belief.table(task.patterns, centre, features)
    right = table.right.max(axis=-1)
    return certify(task.patterns, right, table.chance, table.reach, cost, prices, task.moves, task.rounds)


def _best_family(task: Task, names: Sequence[str], unit: np.ndarray, seed: int) -> str:
    """The simplest family whose rules earn as much as any, on training questions that their beliefs have not seen.

    Over all spends that every family reaches. As much is within a standard error over questions of the difference from the best: so
    a text that says nothing, or few questions, leave the choice to the family that assumes least.
    Questions of one unit, i64[N], are left out together.
    """
    names = sorted(names, key=lambda name: BELIEFS[name].simplicity)
    count = len(np.unique(unit))
    if len(names) == 1 or count == 1:
        return names[0]
    told = {name: task.seen_by(BELIEFS[name]) for name in names}
    fold = np.random.default_rng(seed).permutation(count)[unit] % min(FOLDS, count)
    earned = {name: [] for name in names}
    for k in range(fold.max() + 1):
        known, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        found, fitted = {}, {}
        for name, whole in told.items():
            family, one, other = BELIEFS[name], whole.select(known), whole.select(held)
            belief = fit_belief(one, family, fitted.get(family._replace(counted=False)))
            fitted[family._replace(counted=False)] = belief.classes
            _, *found[name] = _earned(one, belief, other, task.prices[::THINNED])
        low, high = max(spend[0] for spend, _ in found.values()), min(spend[-1] for spend, _ in found.values())
        grid = np.geomspace(low, max(high, low), SPENDS)
        for name, (spend, utility) in found.items():
            share = np.mean([np.interp(grid, spend, rule) for rule in np.eye(len(spend))], axis=1)  # of each rule
            earned[name].append(share @ utility)
    each = {name: np.concatenate(parts) for name, parts in earned.items()}
    best = max(names, key=lambda name: each[name].mean())

    def as_good(name: str) -> bool:
        behind = each[best] - each[name]
        return behind.mean() <= behind.std() / np.sqrt(len(behind))

    return next(name for name in names if name == best or as_good(name))
