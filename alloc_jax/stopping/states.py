"""The model of the states: the reward of answering in each, the next state, and the cost of getting there.

A state is what was seen after n samples: (lead, chase), number lead * width + chase (`alloc_jax.stopping.paths`). The leader of a
vote may be a wrong answer. Its chance to be right is therefore no posterior of its share, but learned from questions whose answers
are known:

    counts  How often the training questions' samples, in many orders, went from a state where, and what answering in it
            earned. The counts of all questions are shrunk towards the Bayesian model with the weight of one question. The
            counts of a context are shrunk towards those of all questions, with the weight that predicts left-out questions
            best: an uninformative prior does not split the evidence.
    bayes   `alloc_jax.stopping.priors`: Beta for a verifier, Dirichlet with a wrong answer and an open tail for votes.

A state does not hold the order of the answers. For a verifier the order is no evidence, and for a vote it is little.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from alloc_jax.stopping.paths import Paths
from alloc_jax.types import Array

POOLED = (3.0, 10.0, 30.0, 100.0, 1000.0)  # questions that all questions together may count in a context
MODELLED = 1.0  # questions that the Bayesian model counts
FOLDS = 4  # of the questions that are left out in turn, to choose between them


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class StateModel:
    """Expectations of G contexts in layers n = 0 .. T of J states, with K ways on."""

    stop: Array  # f32[G, T + 1, J] reward of answering now
    chance: Array  # f32[G, T, J, K] of the ways on; sums to 1
    cost: Array  # f32[G, T, J] of the next sample
    successor: Array  # i32[J, K] the state each way leads to
    may_stop: Array  # bool[T] whether layer n < T is a place to stop; samples in the middle of a wave are paid for

    def __post_init__(self):
        shapes = [np.shape(x) for x in (self.stop, self.chance, self.cost, self.successor, self.may_stop)]
        if len(shapes[1]) == 4:
            contexts, cap, states, ways = shapes[1]
            wanted = [(contexts, cap + 1, states), shapes[1], (contexts, cap, states), (states, ways), (cap,)]
            if shapes == wanted:
                return
        if all(isinstance(x, (np.ndarray, jax.Array)) for x in (self.stop, self.chance)):
            raise ValueError(f"a state model's arrays are [G,T+1,J], [G,T,J,K], [G,T,J], [J,K] and [T], got {shapes}")


@dataclass(frozen=True, eq=False)
class Lattice:
    """The states of one way of answering, and the ways on from each."""

    answer: str
    cap: int
    width: int  # state (lead, chase) is number lead * width + chase
    states: int
    successor: np.ndarray  # i32[J, K]

    @classmethod
    def of(cls, answer: str, cap: int, bins: int = 0) -> Lattice:
        """Votes go on by one for the leader, one for the next, or neither; verified ones become right or not; a best reward
        stays or goes to any bin above."""
        if answer == "vote":
            width = cap // 2 + 1
            lead, chase = np.divmod(np.arange((cap + 1) * width), width)
            ahead = np.minimum(lead + 1, cap) * width + chase
            behind = lead * width + np.minimum(chase + 1, width - 1)
            return cls(
                answer, cap, width, len(lead), np.stack([ahead, behind, lead * width + chase], 1).astype(np.int32)
            )
        states = 2 if answer == "verified" else bins + 2  # none yet, and bins + 1 levels
        way = np.broadcast_to(np.arange(states, dtype=np.int32), (states, states))
        return cls(answer, cap, 1, states, np.maximum(way, np.arange(states, dtype=np.int32)[:, None]))

    def number(self, lead: np.ndarray, chase: np.ndarray) -> np.ndarray:
        """i64[...] the numbers of states."""
        return lead.astype(np.int64) * self.width + np.minimum(chase, self.width - 1)

    def way(self, lead: np.ndarray, chase: np.ndarray) -> np.ndarray:
        """i64[..., T] which way was gone between states [..., T + 1] that follow each other."""
        if self.answer != "vote":
            return lead[..., 1:].astype(np.int64)
        return np.where(np.diff(lead) > 0, 0, np.where(np.diff(chase) > 0, 1, 2))


@dataclass(frozen=True, eq=False)
class Tally:
    """Weighted counts over states, as many contexts as their first axis has. Ratios of them are expectations."""

    seen: np.ndarray  # f64[G, T + 1, J] questions that come through a state
    earned: np.ndarray  # f64[G, T + 1, J] what answering there earns them, summed
    gone: np.ndarray  # f64[G, T, J, K] questions that go each way
    paid: np.ndarray  # f64[G, T, J] what their next samples cost, summed

    def mixed(self, weight: np.ndarray) -> Tally:
        """Counts of contexts [H], each a sum over these ones with weights f64[H, G]."""
        return Tally(*(np.tensordot(weight, x, axes=1) for x in (self.seen, self.earned, self.gone, self.paid)))

    def towards(self, other: Tally, strength: float) -> Tally:
        """With the other's expectations as if they had been seen so many times in every state."""
        known = other.seen > 1e-12  # what cannot happen is not expected to be free
        scale = np.where(known, strength / np.where(known, other.seen, 1), 0)
        before = scale[:, :-1]
        return Tally(
            self.seen + scale * other.seen,
            self.earned + scale * other.earned,
            self.gone + before[..., None] * other.gone,
            self.paid + before * other.paid,
        )

    def minus(self, other: Tally) -> Tally:
        """Without the questions of another tally."""
        names = ("seen", "earned", "gone", "paid")
        return Tally(*(np.maximum(getattr(self, name) - getattr(other, name), 0) for name in names))

    def likelihood(self, expected: Tally) -> float:
        """The log chance, by another tally's expectations, of what these questions did and earned."""
        right = np.clip(expected.earned / np.maximum(expected.seen, 1e-30), 1e-6, 1 - 1e-6)
        earned = self.earned * np.log(right) + (self.seen - self.earned) * np.log(1 - right)
        way = expected.gone / np.maximum(expected.seen[:, :-1, :, None], 1e-30)
        return float(earned.sum() + (self.gone * np.log(np.maximum(way, 1e-6))).sum())

    def model(self, successor: np.ndarray, may_stop: np.ndarray) -> StateModel:
        """The expectations; a state that nobody came through earns nothing and may go anywhere."""
        seen = np.maximum(self.seen, 1e-300)
        gone = self.gone + 1e-300
        return StateModel(
            stop=(self.earned / seen).astype(np.float32),
            chance=(gone / gone.sum(axis=-1, keepdims=True)).astype(np.float32),
            cost=(self.paid / seen[:, :-1]).astype(np.float32),
            successor=successor,
            may_stop=may_stop,
        )


def tallies(paths: Paths, lattice: Lattice, context: np.ndarray, contexts: int, folds: int) -> list[Tally]:
    """The tallies of every `folds`-th question, from the first on, from the second on, and so on."""
    parts = [np.arange(first, len(paths), folds) for first in range(min(folds, len(paths)))]
    return [tally(paths.select(part), lattice, context[part], contexts) for part in parts]


def tally(paths: Paths, lattice: Lattice, context: np.ndarray, contexts: int) -> Tally:
    """How often the paths' questions come through each state, by context.

    Args:
      paths: of N questions; the P orders of a question count 1 / P each.
      lattice: their states.
      context: i64[N] in [0, G).
      contexts: G.
    """
    cap, states, ways = lattice.cap, lattice.states, lattice.successor.shape[1]
    number = lattice.number(paths.lead, paths.chase)
    cell = (context[:, None, None] * (cap + 1) + np.arange(cap + 1)) * states + number
    before = (context[:, None, None] * cap + np.arange(cap)) * states + number[..., :-1]
    gone = before * ways + lattice.way(paths.lead, paths.chase)
    share = 1 / number.shape[1]

    def total(cells, weights, *shape):
        weights = None if weights is None else weights.ravel()
        return share * np.bincount(cells.ravel(), weights, minlength=int(np.prod(shape))).reshape(shape)

    return Tally(
        total(cell, None, contexts, cap + 1, states),
        total(cell, paths.utility, contexts, cap + 1, states),
        total(gone, None, contexts, cap, states, ways),
        total(before, paths.cost, contexts, cap, states),
    )


def by_context(parts: list[Tally], nearness: np.ndarray, expected: Tally | None) -> Tally:
    """What the questions of each context do: near ones counted, drawn towards all of them, and those towards a model.

    Args:
      parts: the tallies of disjoint sets of questions, by context.
      nearness: f64[G, G] by how much the questions of a context count in another.
      expected: what a model expects of all questions, one context; None where there is none.
    """

    def drawn(counted: Tally, pooled: float) -> Tally:
        every = counted.mixed(np.ones((1, len(nearness))))
        if expected is not None:
            every = every.towards(expected, MODELLED)
        return every if len(nearness) == 1 else counted.mixed(nearness).towards(every, pooled)

    whole = Tally(*(np.sum([getattr(t, n) for t in parts], axis=0) for n in ("seen", "earned", "gone", "paid")))
    if len(nearness) == 1:
        return drawn(whole, 0)
    others = [whole.minus(part) for part in parts]
    fits = [sum(p.likelihood(drawn(o, pooled)) for p, o in zip(parts, others, strict=True)) for pooled in POOLED]
    return drawn(whole, POOLED[int(np.argmax(fits))])


def waves(cap: int, wave: int, rounds: int | None) -> tuple[int, np.ndarray]:
    """The most samples, and bool[T] the layers at which a rule may stop: between waves, and never before the first.

    Raises:
      ValueError: a wave or a number of rounds below 1.

    >>> waves(cap=10, wave=3, rounds=3)[0], np.flatnonzero(waves(10, 3, 3)[1]).tolist()
    (9, [3, 6])
    """
    if wave < 1 or (rounds is not None and rounds < 1):
        raise ValueError(f"waves have 1 sample or more, and there is 1 round or more; got {wave} and {rounds}")
    cap = cap if rounds is None else min(cap, wave * rounds)
    layer = np.arange(cap)
    return cap, (layer % wave == 0) & (layer > 0)
