"""The input of the escalation solver: training questions with their promises and samples, their states, and the families of beliefs to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from alloc_jax.actions import single_samples
from alloc_jax.stopping.contexts import make_contexts
from alloc_jax.stopping.rules import CalibratedPolicy
from alloc_jax.stopping.sources.beliefs import log_odds
from alloc_jax.stopping.sources.evidence import BINS, count_bins, find_cuts, no_cuts
from alloc_jax.stopping.sources.latent import Kinds, read_kinds
from alloc_jax.stopping.sources.patterns import Patterns, all_moves, make_patterns
from alloc_jax.stopping.sources.rules import PLANNED
from alloc_jax.stopping.sources.walks import Walks, make_walks
from alloc_jax.types import SampleLog

MULTIPLIERS = 48
CELLS = 512  # of like questions at most, where patterns are too many to plan each question,
CELL_STATES = 400_000  # so many states in all of them together,
CELL = 8  # and at least so many questions in each


class Family(NamedTuple):
    """Assumptions of one belief about how sources go right and wrong together."""

    classes: int  # latent classes of questions; 1: sources err independently, given the text
    gated: bool = False  # whether features of the text shift the chances of the classes
    counted: bool = False  # whether the chances of outcomes are corrected by their counts in training questions
    read: bool = True  # whether promises from the texts are used; if not, all questions start alike
    myopic: bool = False  # whether a plan looks one move ahead alone, however far it goes

    @property
    def simplicity(self) -> tuple[bool, bool, bool, bool, int]:
        """Smaller for families that assume less; a myopic one serves only where it is the best by itself."""
        return self.myopic, self.read, self.counted, self.gated, self.classes


BELIEFS = {
    "independent": Family(1),
    "classes": Family(4),
    "classes by text": Family(12, gated=True),
    "patterns": Family(4, counted=True),
    "patterns by text": Family(12, gated=True, counted=True),
    "classes without text": Family(4, read=False),
    "patterns without text": Family(4, counted=True, read=False),
    "one step ahead": Family(1, myopic=True),
}


class Promise(NamedTuple):
    """Predicted accuracy and cost of one sample of each of M sources on N questions, from their texts alone."""

    accuracy: np.ndarray  # f[N, M] in [0, 1], by models that have not seen the outcomes
    cost: np.ndarray | None = None  # f[N, M] of a sample; None: each source's mean
    features: np.ndarray | None = None  # f[N, D] of the texts themselves, which may tell classes of questions apart


def policy_promise(
    policy: CalibratedPolicy, sources: Sequence[str], questions: Sequence[str], seen: bool = False
) -> Promise:
    """Predicted accuracy and cost of one sample of each source, by a trained policy: the `promise` of `solve_escalation`.

    Args:
      policy: one that predicts utilities, of actions that are single samples of each source among others.
      sources: M of them.
      questions: N texts.
      seen: whether these are the questions that the policy was trained on, in their order. The prediction for each is then by
        networks that had not seen it.

    Raises:
      ValueError: the policy predicts no utilities, or a source has no action of one sample.
    """
    if not policy.predicts_utility:
        raise ValueError("an imitation policy predicts no utilities: use a value policy")
    first = single_samples(policy.actions)
    if lacking := [name for name in sources if name not in first]:
        raise ValueError(
            f"the policy has no action of one sample of source {lacking[0]!r}: its actions are {', '.join(policy.actions)}"
        )
    prediction = policy.calibration[0].whole if seen else policy.predict(questions)
    if len(prediction.score) != len(questions):
        raise ValueError(f"the policy was trained on {len(prediction.score)} questions, got {len(questions)}")
    accuracy, cost = (part[:, [first[name] for name in sources]] for part in (prediction.score, prediction.cost))
    return Promise(np.clip(accuracy, 0, 1), np.maximum(cost, 0), policy.featurizer.encode(questions))


@dataclass(frozen=True, eq=False)
class Task:
    """Training questions with everything that a belief is fitted to and its rules are replayed on."""

    patterns: Patterns
    walks: Walks
    kinds: Kinds
    promised: np.ndarray  # f32[N, M]
    cost: np.ndarray  # f32[N, M]
    features: np.ndarray  # f32[N, D]; D = 0 where no text is read
    multipliers: np.ndarray  # f64[P]
    wave: int
    rounds: int | None
    evidence: str | None
    read: bool  # whether texts promise anything; without, all questions are alike before the first sample
    myopic: bool = False
    mesh: Mesh | None = None  # whose devices share out the questions

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
        if not self.read:
            return self.promised[:1], self.cost[:1], self.features[:1]
        most = max(min(CELLS, CELL_STATES // len(self.patterns)), 1)
        near = make_contexts(self.promised, len(self.promised), most, CELL)
        of = [near.of == g for g in range(len(near.center)) if (near.of == g).any()]
        promised, cost, features = (
            np.stack([x[mine].mean(axis=0) for mine in of]) for x in (self.promised, self.cost, self.features)
        )
        return promised, cost, features

    @property
    def ahead(self) -> int | None:
        """The moves that a plan looks ahead; None: all that may come."""
        return 1 if self.myopic else self.rounds

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
        if family.myopic:
            return replace(self, myopic=True)
        if family.read or not self.read:
            return self
        typical, cost = (np.broadcast_to(x, self.cost.shape) for x in (self.typical, self.cost.mean(axis=0)))
        return replace(self, promised=typical, cost=cost, features=np.zeros((len(cost), 0), np.float32), read=False)


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
    evidence=None,
) -> Task:
    """The questions of `solve_escalation`, checked."""
    sources = tuple(sources)
    if not sources or len(set(sources)) < len(sources):
        raise ValueError(f"sources are one or more different names, got {sources}")
    if answer not in ("vote", "verified"):
        raise ValueError(f"answer is 'vote' or 'verified', got {answer!r}")
    if wave < 1 or (rounds is not None and rounds < 1) or wave != int(wave) or orders < 1:
        raise ValueError(
            f"a wave, the rounds and the orders are whole numbers from 1 on, got {wave}, {rounds} and {orders}"
        )
    columns = [log.source_index(name) for name in sources]
    limits = tuple(np.clip(log.count[:, columns].min(axis=0), 1, 4)) if limits is None else np.atleast_1d(limits)
    if len(limits) != len(sources) or any(limit != int(limit) or limit < 1 for limit in limits):
        raise ValueError(
            f"limits are whole numbers from 1 on, one for each of {len(sources)} sources, got {tuple(limits)}"
        )
    limits = tuple(int(limit) for limit in limits)
    cap = usual_cap(limits, blocks, answer == "verified") if cap is None else min(sum(limits), cap)
    rounds = -(-cap // wave) if rounds is None and wave > 1 else rounds
    rounds = None if rounds is not None and rounds >= cap else rounds
    verified = answer == "verified"
    if evidence is not None and verified:
        raise ValueError(f"a verifier says what is right: there is nothing for evidence {evidence!r} to add")
    walks = make_walks(
        log, sources, limits, resource=resource, verified=verified, orders=orders, seed=seed, prices=prices, evidence=evidence
    )  # fmt: skip
    shape = (len(log), len(sources))
    mean = np.array([np.nanmean(walks.cost[:, :, m, : limits[m]]) for m in range(len(sources))])
    if not (mean > 0).any():
        raise ValueError(
            f"every sample of {', '.join(map(repr, sources))} costs 0 in {resource}: there is nothing to save"
        )
    accuracy = log.correct[:, columns].sum(axis=(0, 2)) / log.count[:, columns].sum(axis=0)
    read, promise = promise is not None, promise or Promise(np.broadcast_to(accuracy, shape))
    promise = checked_promise(promise, *shape)
    cost = np.broadcast_to(mean, shape) if promise.cost is None else promise.cost
    features = np.zeros((len(log), 0)) if promise.features is None else np.asarray(promise.features)
    cuts = no_cuts(len(sources))
    if evidence is not None:
        cuts = _affordable_cuts(log, sources, evidence, promise.accuracy, (limits, cap, blocks, verified))
    kinds = read_kinds(log, sources, verified, evidence=evidence, cuts=cuts)
    return Task(
        make_patterns(limits, cap, blocks, verified, count_bins(cuts)), walks.binned(cuts), kinds, log_odds(promise.accuracy), cost.astype(np.float32), features.astype(np.float32),
        np.geomspace(2 / mean[mean > 0].min(), 0.002 / mean.max(), MULTIPLIERS), wave, rounds, evidence, read,
    )  # fmt: skip


def _affordable_cuts(
    log: SampleLog, sources: tuple[str, ...], evidence: str, accuracy: np.ndarray, shape: tuple
) -> np.ndarray:
    """The cuts of the most bins with which each question can still be planned; none, where not even two can."""
    for bins in range(BINS, 1, -1):
        cuts = find_cuts(log, sources, evidence, accuracy, bins)
        try:
            if len(make_patterns(*shape, count_bins(cuts))) <= PLANNED:
                return cuts
        except ValueError:  # far too many states
            continue
    return no_cuts(len(sources))


def checked_promise(promise: Promise, questions: int, sources: int) -> Promise:
    """A promise whose parts are arrays of N questions and M sources.

    Raises:
      ValueError: a part of another shape, with a number that is not finite, an accuracy outside [0, 1] or a negative cost.
    """
    parts = {}
    for name, part, least, most in zip(Promise._fields, promise, (0, 0, -np.inf), (1, np.inf, np.inf), strict=True):
        if part is None and name != "accuracy":
            continue
        part = parts[name] = np.asarray(part, np.float32)
        wanted = f"{questions} x {sources}" if name != "features" else f"{questions} rows"
        if part.ndim != 2 or len(part) != questions or (name != "features" and part.shape[1] != sources):
            raise ValueError(f"the promised {name} is {wanted}, got shape {part.shape}")
        if not ((part >= least) & (part <= most) & np.isfinite(part)).all():
            row = int(np.argmin(((part >= least) & (part <= most) & np.isfinite(part)).all(axis=1)))
            between = (
                "finite" if name == "features" else f"finite and from {least} on" if name == "cost" else "from 0 to 1"
            )
            raise ValueError(
                f"the promised {name} is {between}; question {row} has {part[row].min()} to {part[row].max()}"
            )
    return Promise(**parts)


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
