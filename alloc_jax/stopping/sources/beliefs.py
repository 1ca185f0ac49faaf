"""Beliefs about several sources: latent classes of questions, with the text as prior. NumPy alone; `latent` fits them.

A question belongs to a hidden class z, which says how much easier or harder it is for each source than its text promises, and how its
wrong answers spread. Given class and text its samples are independent, right with chance sigmoid(t[m] + effect[z, m] + shift[m]), t the
calibrated log-odds that the text promises source m, and each of one of six kinds:

    right        as the right answer is usually written
    variant      right, and written as nobody else does; or one of many right answers
    trap         the question's most tempting wrong answer, the same for all sources
    second trap  another one
    stray        a wrong answer that nobody else gives
    none         no answer

The shift makes the mean over classes what the text promises: classes say what comes together, and leave alone how much there is of it. Features of
the text may tell classes apart, too.

The state of a question is a pattern: which samples are equal. Its chance is a sum over classes and over which of its blocks is the right
answer, which a variant of it, which a trap, and which a stray one; all of them products of kinds. That gives the chances of all patterns
(`tables`), the posterior of each block and the chance of every next outcome. One class is the belief that sources err independently given the
text; more classes let errors come together where the data show it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from alloc_jax.stopping.sources.patterns import Patterns

RIGHT, TRAP, SECOND, STRAY, VARIANT, NONE = range(6)
KINDS = 6
REST = 6  # REST + mask: an answer, but of no kind in the mask
WRONG = KINDS + 8
WIDTH = WRONG + 1
FURTHEST = 6.0  # log-odds that a text may promise
NEWTON = 4  # steps
LEAST = 0.1  # of an even share: what a text may at least leave to every class
CELLS = 1_000_000  # numbers at a time: they stay in the cache


def log_odds(accuracy: np.ndarray) -> np.ndarray:
    """f32[...] the log-odds of accuracies, none beyond +-6.

    >>> log_odds(np.array([0.5, 1.0])).tolist()
    [0.0, 6.0]
    """
    low = 1 / (1 + np.exp(FURTHEST))
    accuracy = np.clip(np.asarray(accuracy, float), low, 1 - low)
    return np.log(accuracy / (1 - accuracy)).astype(np.float32)


class Classes(NamedTuple):
    """Z latent classes of questions over M sources."""

    weight: np.ndarray  # f32[Z]
    slope: np.ndarray  # f32[M] and
    level: np.ndarray  # f32[M] make calibrated log-odds of those that texts promise
    effect: np.ndarray  # f32[Z, M] in log-odds
    spread: np.ndarray  # f32[Z, M, 4] of the wrong samples: trap, second trap, stray, none; sums to 1
    variant: np.ndarray  # f32[Z, M] the share of the right samples that are written as nobody else's
    bin: (
        np.ndarray
    )  # f32[Z, V, 2] how often wrong and right samples fall into the bins of their source, V of all sources
    gate: (
        np.ndarray
    )  # f32[D + 1, Z] from features of the text to the classes, the last row constant; zero rows where no text is read

    def calibrated(self, promised: np.ndarray) -> np.ndarray:
        """f32[G, 1, M] log-odds of being right, of those that texts promise f[G, M]."""
        return (promised * self.slope + self.level)[:, None]

    def prior(self, features: np.ndarray) -> np.ndarray:
        """f32[G, Z] the classes of questions with features f[G, D] of their texts."""
        return shares(features @ self.gate[:-1] + self.gate[-1])

    def chances(self, promised: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """f32[G, Z, M, 6] of every kind, for questions whose texts promise log-odds f[G, M] and classes f[G, Z]."""
        prior = prior[:, :, None]
        right = 1 / (1 + np.exp(-balanced(self.calibrated(promised), self.effect[None], prior)))
        wrong = (1 - right)[..., None] * self.spread
        usual, variant = right * (1 - self.variant), right * self.variant
        return np.concatenate([usual[..., None], wrong[..., :3], variant[..., None], wrong[..., 3:]], axis=-1)


def shares(score, xp=np):
    """Chances f[G, Z] of a gate's scores: their softmax, none below a small one, and summing to 1."""
    chance = xp.exp(score - score.max(axis=1, keepdims=True))
    return (1 - LEAST) * chance / chance.sum(axis=1, keepdims=True) + LEAST / score.shape[1]


def balanced(odds, effect, prior, xp=np):
    """Log-odds f[G, Z, M] of classes, shifted so that their mean chance is what the text promises: classes say what comes together, and
    leave alone how much there is of it.

    Args:
      odds: f[G, 1, M] calibrated log-odds.
      effect: f[1, Z, M] of the classes.
      prior: f[G, Z, 1] of the classes.
      xp: NumPy, or JAX's.
    """
    wanted, shift = 1 / (1 + xp.exp(-odds)), xp.zeros_like(odds)
    for _ in range(NEWTON):
        p = 1 / (1 + xp.exp(-(odds + effect + shift)))
        bend = (prior * p * (1 - p)).sum(axis=1, keepdims=True)
        shift = shift - xp.clip(((prior * p).sum(axis=1, keepdims=True) - wanted) / xp.maximum(bend, 1e-4), -1, 1)
    return odds + effect + shift


class BeliefTable(NamedTuple):
    """Chances under a belief, in each of S states of questions of G contexts: which answer is right, and what a draw gives."""

    right: np.ndarray  # f32[G, S, B] that each block of equal answers is right
    chance: np.ndarray  # f32[G, S, M, W] of every outcome of one more sample of each source
    reach: np.ndarray  # f32[G, S] that the samples of a state, drawn in a given order, show its pattern


def tables(model: Classes, patterns: Patterns, promised: np.ndarray, features: np.ndarray | None = None) -> BeliefTable:
    """What the classes say of every state, for contexts whose texts promise log-odds f[G, M] and have features f[G, D]."""
    found = readings(patterns)
    if features is None or len(model.gate) == 1:  # the belief reads no text
        features = np.zeros((len(promised), len(model.gate) - 1), np.float32)
    prior = model.prior(features).astype(np.float32)
    kinds = model.chances(promised, prior)[:, :, patterns.of]  # [G, Z, V, 6]
    kinds = kinds * model.bin[..., [1, 0, 0, 0, 1, 0]]
    rest = [sum(kinds[..., k] for k in range(NONE) if k >= STRAY or not mask >> k & 1) for mask in range(8)]
    rest.append(kinds[..., [TRAP, SECOND, STRAY, NONE]].sum(axis=-1))
    each = np.concatenate([kinds, np.stack(rest, axis=-1)], axis=-1, dtype=np.float32)
    count, classes = each.shape[:2]
    each = np.maximum(each, 1e-9).reshape(count, classes, -1)
    both = np.zeros((len(patterns) << patterns.blocks, count), np.float32)
    step = max(1, CELLS // (len(found.products[-1][0]) * classes))
    for first in range(0, count, step):
        part = slice(first, first + step)
        factor = np.ascontiguousarray(each[part].transpose(2, 1, 0)).reshape(each.shape[2], -1)
        factor = np.concatenate(
            [factor, np.ones((1, factor.shape[1]), np.float32)]
        )  # where a reading has no more samples
        joint = prior[part].T.reshape(1, -1)
        for before, last in found.products:
            joint = joint[before]
            joint *= factor[last]
        total = joint.reshape(len(joint), classes, -1).sum(axis=1)[found.of]
        both[found.cells, part] = np.add.reduceat(total, found.starts, axis=0)
    by_right = np.ascontiguousarray(both.T).reshape(count, len(patterns), 1 << patterns.blocks)
    reach = by_right.sum(axis=2)
    holds = np.arange(1 << patterns.blocks)[:, None] >> np.arange(patterns.blocks) & 1
    right = by_right @ holds.astype(np.float32) / np.maximum(reach, 1e-30)[..., None]
    chance = np.where(patterns.next >= 0, reach[:, np.maximum(patterns.next, 0)], 0)
    chance /= np.maximum(chance.sum(axis=-1, keepdims=True), 1e-30)
    return BeliefTable(right, chance, reach)


class Belief(NamedTuple):
    """Latent classes, and how outcomes were counted against them."""

    classes: Classes
    scale: np.ndarray  # f32[S, M, W] of the chances of outcomes

    def table(self, patterns: Patterns, promised: np.ndarray, features: np.ndarray | None = None) -> BeliefTable:
        """What it says of every state, for contexts whose texts promise log-odds f[G, M] and have features f[G, D]."""
        table = tables(self.classes, patterns, promised, features)
        chance = table.chance * self.scale
        return table._replace(chance=chance / np.maximum(chance.sum(axis=-1, keepdims=True), 1e-30))


def uncounted(patterns: Patterns) -> np.ndarray:
    """The scale that changes nothing."""
    return np.ones(patterns.next.shape, np.float32)


class Readings(NamedTuple):
    """All J ways to say of which kind each block of each state is."""

    products: tuple[
        tuple[np.ndarray, np.ndarray], ...
    ]  # [cap] what the chances are products of, a sample longer each time: i64[L] which
    # of the products before, and i64[L] the source, bin and kind of the next sample, as a position in V * WIDTH; that number itself: no more
    of: np.ndarray  # i64[J] the last product of each reading; many have the same
    starts: np.ndarray  # i64[C] the first reading of each (state, right blocks); readings of one stand side by side
    cells: np.ndarray  # i64[C] state * 2**B + the right blocks, as bits


@lru_cache(maxsize=16)
def readings(patterns: Patterns) -> Readings:
    """The readings of all states."""
    rows, cells = [], []
    for s, (held, none, others) in enumerate(patterns.keys):
        for kinds in _assignments(tuple(sum(block) == 1 for block in held), patterns.verified):
            row = np.zeros((len(patterns.of), WIDTH), int)
            for block, kind in zip(held, kinds, strict=True):
                row[:, kind] += block
            row[:, REST + sum(1 << kind for kind in kinds if kind < STRAY)] += others
            # A verifier says no more of a wrong answer than that it is one.
            row[:, WRONG if patterns.verified else NONE] += none
            drawn = np.repeat(np.arange(row.size), row.reshape(-1))
            rows.append([*drawn, *[row.size] * (patterns.cap - len(drawn))])
            cells.append(
                (s << patterns.blocks) + sum(1 << b for b, kind in enumerate(kinds) if kind in (RIGHT, VARIANT))
            )
    order = np.argsort(cells, kind="stable")
    named, starts = np.unique(np.array(cells)[order], return_index=True)
    ordered = np.array(rows, np.int16)[order]
    products, of = [], np.zeros(len(ordered), np.int64)
    for column in ordered.T:
        longer, of = np.unique(of * (row.size + 1) + column, return_inverse=True)
        products.append(np.divmod(longer, row.size + 1))
    return Readings(tuple(products), of, starts, named)


@cache
def _assignments(alone: tuple[bool, ...], verified: bool) -> tuple[tuple[int, ...], ...]:
    """The kinds that blocks may be of: each but strays and variants at most once, and those stand alone."""
    if verified:
        return ((RIGHT,) * len(alone),)
    found: list[tuple[int, ...]] = [()]
    for stray in alone:
        kinds = (RIGHT, TRAP, SECOND, *((STRAY, VARIANT) if stray else ()))
        found = [(*before, kind) for before in found for kind in kinds if kind >= STRAY or kind not in before]
    return tuple(found)
