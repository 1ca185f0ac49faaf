"""Cascades to beat: rules with settings, all of which are tried; training questions choose among them.

A cascade asks a chain of samples in a fixed order and stops by a test on what it has seen. Each family is a list of settings with what they
earn and spend on every question; those on the upper hull of the training questions, adjacent ones mixed, are its rules for all
budgets (`Sweep.at`). What a setting earns is a function of a prefix of its chain, so that it cannot look ahead.

    agreement        along the chain until the leading answer has so many votes; else the last source answers
    confidence       along the chain until the best answer's posterior, by the same belief as the rule of one multiplier, is high enough
    consistency      Mixture-of-Thought (Yue et al., arXiv 2310.03094): the majority of cheap samples if its share is high enough, else
                     the expensive source answers
    Adaptive-Consistency (Aggarwal et al., arXiv 2305.11860): along the chain until the leader beats the runner-up with a confidence
    ESC              (Li et al., arXiv 2401.10480): along the chain in windows until one gives a single answer
    routing          what the text promises minus multiplier * cost, before any answer
    cascade routing  (Dekoninck et al., arXiv 2410.10347): after every answer, the set of sources of the greatest expected maximum
                     quality minus multiplier * cost is asked next, cheapest first; qualities are learned on training questions
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.evaluate.sequential.replay import mixed
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.stopping.rules import adjacent
from alloc_jax.stopping.sources.patterns import Patterns, likeliest
from alloc_jax.stopping.sources.simulation import Walkers
from alloc_jax.stopping.sources.walks import Walks

LONGEST = 4  # sources of a chain, of the many that could be tried
LEVELS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)  # of confidence


@dataclass(frozen=True, eq=False)
class Sweep:
    """The settings of a family."""

    utility: np.ndarray  # f32[K, N]
    cost: np.ndarray  # f32[K, N]

    @classmethod
    def of(cls, settings: Iterator[tuple[np.ndarray, np.ndarray]]) -> Sweep:
        """The sweep of (utility, cost) f[N, O] of each setting, orders averaged; of none where sources are too few for any."""
        pairs = [(u.mean(axis=1), c.mean(axis=1)) for u, c in settings]
        if not pairs:
            return cls(*np.zeros((2, 0, 0), np.float32))
        return cls(*(np.stack(part).astype(np.float32) for part in zip(*pairs, strict=True)))

    def at(self, budget: float, known: Sweep, mix: bool = True) -> Outcome | None:
        """What the best settings by another sweep, that of training questions, do at a budget; None below the cheapest, or without any."""
        if not len(known.utility):
            return None
        spend, utility = known.cost.mean(axis=1, dtype=float), known.utility.mean(axis=1, dtype=float)
        hull = upper_hull(spend, utility)
        if budget < spend[hull[0]] * (1 - 1e-9):
            return None
        less, more, weight = adjacent(spend[hull], budget)
        one, other = (
            Outcome(self.utility[hull[k]].astype(float), self.cost[hull[k]].astype(float)) for k in (less, more)
        )
        if not mix:
            return other if weight >= 1 else one
        return mixed(one, other, weight)


class Chain(NamedTuple):
    """What is seen along a chain of T samples, after each."""

    paid: np.ndarray  # f64[N, O, T] for the samples so far
    lead: np.ndarray  # i64[N, O, T] votes of the leading answer
    chase: np.ndarray  # i64[N, O, T] of the next
    leader: np.ndarray  # bool[N, O, T] whether the leading answer is right; the earliest of those that tie
    last: np.ndarray  # bool[N, O, T] whether the newest is
    answer: np.ndarray  # i32[N, O, T] the newest

    def stopped(self, stop: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Utility and cost f[N, O] where the first of bool[N, O, T] that holds, or the end, stops and answers bool[N, O, T]."""
        ends = np.concatenate([stop[..., :-1], np.ones_like(stop[..., :1])], axis=-1)
        at = ends.argmax(axis=-1)[..., None]
        utility, cost = (np.take_along_axis(x, at, -1)[..., 0].astype(np.float32) for x in (right, self.paid))
        return utility, cost


def chain(walks: Walks, sources: Sequence[int]) -> Chain:
    """Along samples of these sources, one after the other; a source that occurs again gives its next sample."""
    number = [list(sources[:t]).count(m) for t, m in enumerate(sources)]
    pick = (slice(None), slice(None), list(sources), number)
    answer, right, cost = walks.answer[pick], walks.right[pick], walks.cost[pick]
    same = (answer[..., :, None] == answer[..., None, :]) & (answer >= 0)[..., None]
    votes = np.cumsum(same, axis=-2)  # [.., t, j] votes of the answer of sample j after sample t
    votes = np.where(np.tri(len(sources), dtype=bool), votes, 0)
    first = votes.argmax(axis=-1)
    lead = votes.max(axis=-1)
    leading = np.take_along_axis(answer, first, -1)
    chase = np.where(answer[..., None, :] == leading[..., :, None], 0, votes).max(axis=-1)
    return Chain(
        np.cumsum(cost, axis=-1), lead, chase, np.take_along_axis(right, first, -1) & (lead > 0), right, answer
    )


def ladders(cost: np.ndarray, most: int = LONGEST) -> list[tuple[int, ...]]:
    """All chains of 2 or more sources, cheap ones first."""
    order = np.argsort(cost, kind="stable").tolist()
    return [chosen for size in range(2, min(len(order), most) + 1) for chosen in combinations(order, size)]


def agreement(walks: Walks, chains: Sequence[Sequence[int]]) -> Sweep:
    """Stop where the leader has v votes, for every v and chain; without such a leader the last source answers."""

    def settings():
        for sources in chains:
            seen = chain(walks, sources)
            for votes in range(1, len(sources) + 1):
                stop = seen.lead >= votes
                yield seen.stopped(stop, np.where(stop, seen.leader, seen.last))

    return Sweep.of(settings())


def confidence(
    walks: Walks, chains: Sequence[Sequence[int]], patterns: Patterns, right: np.ndarray, context: np.ndarray
) -> Sweep:
    """Stop where the posterior of the best answer is at least a level, for every level and chain.

    Args:
      walks: of N questions.
      chains: of at most `patterns.cap` samples.
      patterns: the states.
      right: f[G, S, B] the posterior of each block.
      context: i64[N] of the questions.
    """

    def settings():
        for sources in chains:
            seen = chain(walks, sources)
            posterior, good = _posteriors(walks, sources, patterns, right, context)
            for level in LEVELS:
                yield seen.stopped(posterior >= level, good)

    return Sweep.of(settings())


def _posteriors(walks, sources, patterns, right, context) -> tuple[np.ndarray, np.ndarray]:
    """The posterior f[N, O, T] of the best answer along a chain, and whether it is right."""
    shape = walks.answer.shape[:2]
    question, order = (x.reshape(-1) for x in np.indices(shape))
    walkers = Walkers(patterns, walks, question, order)
    every, found = np.arange(len(question)), []
    for source in sources:
        goes = every[
            (patterns.next[walkers.state, source] >= 0).any(axis=1)
        ]  # a question that a verifier ended draws no more
        walkers.draw(goes, np.full(len(goes), source))
        each = right[context[question], walkers.state]
        best = each.argmax(axis=1)
        found.append((each[every, best], walkers.good[every, best]))
    posterior, good = (np.stack(part, axis=-1).reshape(*shape, -1) for part in zip(*found, strict=True))
    return posterior, good


def consistency(walks: Walks, limits: Sequence[int], cost: np.ndarray) -> Sweep:
    """Mixture-of-Thought: k samples of cheap sources vote; a majority of at least a share answers, else one sample of a more expensive source.

    With one sample per source, the cheap samples are of the k cheapest sources below the expensive one.
    """

    def settings():
        order = np.argsort(cost, kind="stable").tolist()
        for place, dear in enumerate(order):
            weak = [(m,) * k for m in order[:place] for k in range(2, limits[m] + 1)]
            weak += [tuple(order[start:end]) for start in range(place) for end in range(start + 2, place + 1)]
            for cheap in weak:
                seen = chain(walks, (*cheap, dear))
                for votes in range(1, len(cheap) + 1):
                    stop = np.zeros(seen.lead.shape, bool)
                    stop[..., len(cheap) - 1] = seen.lead[..., len(cheap) - 1] >= votes
                    yield seen.stopped(stop, np.where(stop, seen.leader, seen.last))

    return Sweep.of(settings())


def adaptive_consistency(walks: Walks, chains: Sequence[Sequence[int]]) -> Sweep:
    """Stop where the leader beats the runner-up with a confidence, P(p > 1/2) for p ~ Beta(lead + 1, chase + 1); the majority answers."""
    most = max(map(len, chains), default=0) + 1
    # P(p > 1/2) for integers is a binomial tail: at most `chase` heads of lead + chase + 1 fair coins.
    beats = np.array(
        [[sum(comb(a + b + 1, j) for j in range(b + 1)) / 2 ** (a + b + 1) for b in range(most)] for a in range(most)]
    )
    beats = 1 - beats

    def settings():
        for sources in chains:
            seen = chain(walks, sources)
            sure = beats[seen.lead, seen.chase]
            for level in np.unique(sure):
                yield seen.stopped(sure >= level, seen.leader)

    return Sweep.of(settings())


def esc(walks: Walks, chains: Sequence[Sequence[int]]) -> Sweep:
    """Draw windows of w samples along the chain until one of them gives a single answer; the majority answers."""

    def settings():
        for sources in chains:
            seen = chain(walks, sources)
            for size in range(1, len(sources) + 1):
                stop = np.zeros(seen.lead.shape, bool)
                for end in range(size, len(sources) + 1, size):
                    window = seen.answer[..., end - size : end]
                    stop[..., end - 1] = (window == window[..., :1]).all(axis=-1) & (window[..., 0] >= 0)
                yield seen.stopped(stop, seen.leader)

    return Sweep.of(settings())


def singles(walks: Walks, limits: Sequence[int]) -> Sweep:
    """Every fixed number of votes of every source."""

    def settings():
        for m, limit in enumerate(limits):
            seen = chain(walks, (m,) * limit)
            for k in range(limit):
                yield seen.leader[..., k].astype(np.float32), seen.paid[..., k]

    return Sweep.of(settings())


def routing(walks: Walks, accuracy: np.ndarray, cost: np.ndarray, multipliers: np.ndarray) -> Sweep:
    """Ask one source: that of the greatest promised accuracy f[N, M] minus multiplier * cost f[N, M]."""

    def settings():
        right, paid = walks.right[:, :, :, 0], walks.cost[:, :, :, 0]
        for multiplier in multipliers:
            at = (accuracy - multiplier * cost).argmax(axis=1)[:, None, None]
            yield tuple(np.take_along_axis(x, at, 2)[..., 0] for x in (right, paid))

    return Sweep.of(settings())


def cascade_routing(
    walks: Walks,
    patterns: Patterns,
    right: np.ndarray,
    promised: np.ndarray,
    spread: np.ndarray,
    cost: np.ndarray,
    multipliers: np.ndarray,
) -> Sweep:
    """Cascade routing with qualities that were learned on training questions.

    After every answer it looks at all sets that hold the sources asked so far. A set's quality is E[max over its sources of q], where q of a source
    asked is what the belief says of its best answer by now, and q of another is normal around the text's promise. The set of
    the greatest quality minus multiplier * cost is aimed at; its cheapest new source is asked, and the rule looks again.

    Args:
      walks: of N questions with one sample of each source.
      patterns: the states.
      right: f[N, S, B] each question's posteriors.
      promised: f[N, M] accuracies.
      spread: f[M] how far the posterior of a source's answer strays from its promise, on training questions.
      cost: f[N, M].
      multipliers: to sweep.
    """
    count, sources = cost.shape
    normal = np.random.default_rng(0).standard_normal((64, sources))
    sets = np.array([[bit >> m & 1 for m in range(sources)] for bit in range(1, 2**sources)], bool)
    sets = sets[sets.sum(axis=1) <= patterns.cap]
    ordered = np.argsort(cost.mean(axis=0), kind="stable")
    hoped = np.clip(promised[:, None, :] + spread * normal, 0, 1)  # [N, draws, M]

    def settings():
        for multiplier in multipliers:
            walkers = Walkers(patterns, walks, np.arange(count), np.zeros(count, int))
            asked, live = np.zeros((count, sources), bool), np.arange(count)
            while len(live):
                now = right[live, walkers.state[live]].max(axis=1)
                now = np.where(asked[live].any(axis=1), now, -np.inf)
                best, aim = np.full(len(live), -np.inf), np.zeros(len(live), int)
                for s, chosen in enumerate(sets):
                    fits = (asked[live] <= chosen).all(axis=1)
                    new = chosen & ~asked[live]
                    most = np.where(new[:, None, :], hoped[live], -np.inf).max(axis=2)
                    worth = np.maximum(most, now[:, None]).mean(axis=1) - multiplier * (new * cost[live]).sum(axis=1)
                    better = fits & (worth > best)
                    best, aim = np.where(better, worth, best), np.where(better, s, aim)
                new = sets[aim] & ~asked[live]
                go = new.any(axis=1)
                live, new = live[go], new[go]
                source = ordered[new[:, ordered].argmax(axis=1)] if len(live) else np.zeros(0, int)
                walkers.draw(live, source)
                asked[live, source] = True
            answer = likeliest(right[np.arange(count), walkers.state])
            yield walkers.good[np.arange(count), answer].astype(np.float32)[:, None], walkers.cost[:, None].copy()

    return Sweep.of(settings())
