"""Latent classes fitted by EM: what training questions say of how sources err, and err together.

Which wrong answers of a question are its traps is hidden, too, so the E-step sums over readings of every question as it does over classes. In the
M-step slopes and effects take Newton steps, and the rest has a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import permutations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from alloc_jax.stopping.classes import Classes, balanced
from alloc_jax.types import SampleLog

TEMPTING = 3  # wrong answers of a training question that may be its traps
NAMED = (  # which of them is the trap, and which the second, in every reading
    (),
    *permutations(range(TEMPTING), 1),
    *permutations(range(TEMPTING), 2),
    *((None, b) for b in range(TEMPTING)),
)
USUAL = tuple(reading in ((), (0,), (0, 1)) for reading in NAMED)  # more frequent, more tempting: where EM begins
UNUSUAL = 0.1
MOST = 16  # samples of a source that EM looks at
ROUNDS = 60  # of EM
STEPS = 12  # of Newton's method
SPREAD = 1.0  # deviation of the effects' prior, in log-odds
NEAR = 10.0  # questions that all classes together count in where a class's texts lie
TRUST = 4.0  # of the text's log-odds as they are, in squared log-odds
SHARED = 5.0  # samples that all classes together count in a class's spread of wrong answers


class Kinds(NamedTuple):
    """What training questions say, before it is known which wrong answers are their traps."""

    right: np.ndarray  # f32[N, M] right samples
    wrong: np.ndarray  # f32[N, M] the others
    spread: np.ndarray  # f32[N, H, M, 4] of wrong samples by kind, under each of H readings
    possible: np.ndarray  # bool[N, H]


def read_kinds(log: SampleLog, sources: Sequence[str], verified: bool, most: int = MOST) -> Kinds:
    """What the first samples of each source say."""
    columns = [log.source_index(name) for name in sources]
    sampled = log.sampled[:, columns, :most]
    answer, right = log.answer[:, columns, :most], log.correct[:, columns, :most] & sampled
    n, m, _ = answer.shape
    code = np.where(sampled & ~right, answer, -2)
    wrong, none = (sampled & ~right).sum(axis=2), (code == -1).sum(axis=2)
    each = np.zeros((n, TEMPTING, m), int)  # of the most frequent wrong answers
    for i in range(0 if verified else n):
        codes, many = np.unique(code[i][code[i] >= 0], return_counts=True)
        for b, c in enumerate(codes[np.argsort(-many, kind="stable")][:TEMPTING]):
            each[i, b] = (code[i] == c).sum(axis=1)
    times = each.sum(axis=2)  # [N, TEMPTING]
    spread = np.zeros((n, len(NAMED), m, 4), np.float32)
    twice, exists = np.zeros((n, len(NAMED)), int), np.ones((n, len(NAMED)), bool)
    for h, reading in enumerate(NAMED):
        for kind, b in enumerate(reading):
            if b is not None:
                spread[:, h, :, kind] = each[:, b]
                exists[:, h] &= times[:, b] > 0
        spread[:, h, :, 2] = wrong - none - spread[:, h, :, :2].sum(axis=2)
        spread[:, h, :, 3] = none
        left = [times[:, b] for b in range(TEMPTING) if b not in reading]
        twice[:, h] = np.max(left, axis=0)
    # A stray answer that comes twice contradicts a reading; where all are contradicted, those that are least.
    twice = np.where(exists, np.maximum(twice, 1), twice.max() + 1)
    possible = twice == twice.min(axis=1, keepdims=True)
    return Kinds(right.sum(axis=2).astype(np.float32), wrong.astype(np.float32), spread, possible)


def fit_classes(kinds: Kinds, promised: np.ndarray, classes: int, gated: bool = False) -> Classes:
    """The classes of the greatest penalised likelihood that EM finds.

    Args:
      kinds: of the training questions.
      promised: f[N, M] log-odds that their texts promise, by models that have not seen them.
      classes: Z.
      gated: whether the text tells classes apart, beside what it promises every source.
    """
    n = len(promised)
    slope, level = _calibrate(kinds, promised)
    odds = np.float32(promised * slope + level)
    right, wrong = kinds.right, kinds.wrong
    surplus = (right / np.maximum(right + wrong, 1) - 1 / (1 + np.exp(-odds))).mean(axis=1)
    if gated:
        start = np.eye(classes)[_cells(odds, classes)]
    else:
        rank = np.argsort(np.argsort(surplus, kind="stable"), kind="stable")
        start = np.eye(classes)[rank * classes // n]
    spare = -n % 256  # few shapes, so that few fits compile

    def padded(x: np.ndarray, value=0) -> np.ndarray:
        return np.pad(x, ((0, spare), *((0, 0),) * (x.ndim - 1)), constant_values=value)

    data = _Data(
        *(padded(np.float32(x))[:, None] for x in (right, wrong)),
        padded(kinds.spread),
        padded(kinds.possible, True),
        padded(np.ones(n, np.float32)),
        padded(odds)[:, None],
    )
    found = _fit(data, padded(np.float32(0.8 * start + 0.2 / classes)), gated)
    weight, *rest = (np.asarray(x) for x in found)
    return Classes(weight, slope, level, *rest)


def _calibrate(kinds: Kinds, promised: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and level f32[M] of a logistic regression of being right on the log-odds that texts promise; as they are where questions are few."""
    total = kinds.right + kinds.wrong
    slope, level = np.ones(promised.shape[1]), np.zeros(promised.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(promised * slope + level)))
        left, bend = kinds.right - total * p, total * p * (1 - p)
        gradient = [(left * promised).sum(axis=0) - TRUST * (slope - 1), left.sum(axis=0) - TRUST * level]
        a, b, c = (bend * promised**2).sum(axis=0) + TRUST, (bend * promised).sum(axis=0), bend.sum(axis=0) + TRUST
        away = np.maximum(a * c - b * b, 1e-9)
        slope = slope + np.clip((c * gradient[0] - b * gradient[1]) / away, -0.5, 0.5)
        level = level + np.clip((a * gradient[1] - b * gradient[0]) / away, -0.5, 0.5)
    return slope.astype(np.float32), level.astype(np.float32)


def _cells(features: np.ndarray, most: int) -> np.ndarray:
    """i64[N] a cell for every question, cut at medians of the feature that varies most in the largest cell."""
    cells = [np.arange(len(features))]
    while len(cells) < most:
        cell = cells.pop(int(np.argmax([len(cell) for cell in cells])))
        order = cell[np.argsort(features[cell, np.argmax(features[cell].std(axis=0))], kind="stable")]
        cells += [order[: len(order) // 2], order[len(order) // 2 :]]
    of = np.zeros(len(features), int)
    for number, cell in enumerate(cells):
        of[cell] = number
    return of


class _Data(NamedTuple):
    right: jax.Array  # f32[N, 1, M]
    wrong: jax.Array  # f32[N, 1, M]
    spread: jax.Array  # f32[N, H, M, 4]
    possible: jax.Array  # bool[N, H]
    weight: jax.Array  # f32[N] 0 in the padding
    odds: jax.Array  # f32[N, 1, M] calibrated


class _Found(NamedTuple):
    """What EM finds, as in `Classes`."""

    weight: jax.Array
    effect: jax.Array
    spread: jax.Array
    centre: jax.Array
    width: jax.Array

    def prior(self, odds: jax.Array) -> jax.Array:
        """The log chance f[N, Z] of the classes, by the texts."""
        apart = (odds - self.centre[None]) / self.width[None, None]
        return jax.nn.log_softmax(jnp.log(self.weight)[None] - 0.5 * jnp.square(apart).sum(axis=2), axis=1)

    def odds(self, odds: jax.Array) -> jax.Array:
        """f[N, Z, M] of being right."""
        return balanced(odds, self.effect[None], jnp.exp(self.prior(odds))[:, :, None], jnp)


@partial(jax.jit, static_argnames="gated")
def _fit(data: _Data, start: jax.Array, gated: bool) -> _Found:
    """EM from memberships f32[N, Z]: readings and classes are hidden."""
    usual = (
        jnp.where(jnp.asarray(USUAL), 1.0, UNUSUAL)[None] * data.possible
    )  # or EM could not tell a trap from the second
    reading = usual / usual.sum(axis=1, keepdims=True)
    chance = (reading * data.weight[:, None])[:, :, None] * start[:, None, :]
    classes, sources = start.shape[1], data.right.shape[2]
    flat = jnp.zeros((classes, sources))
    even = _Found(
        jnp.ones(classes) / classes, flat, jnp.ones((classes, sources, 4)) / 4, flat, jnp.full(sources, jnp.inf)
    )

    def improve(found: _Found, _):
        return _maximise(data, _expect(data, found), found, gated), None

    return jax.lax.scan(improve, _maximise(data, chance, even, gated), None, length=ROUNDS)[0]


def _expect(data: _Data, found: _Found) -> jax.Array:
    """The chances f[N, H, Z] of readings and classes."""
    odds = found.odds(data.odds)
    each = data.right * jax.nn.log_sigmoid(odds) + data.wrong * jax.nn.log_sigmoid(-odds)
    joint = jnp.einsum("nhmk,zmk->nhz", data.spread, jnp.log(found.spread))
    joint = joint + (found.prior(data.odds) + each.sum(axis=2))[:, None]
    joint = jnp.where(data.possible[:, :, None], joint, -1e9)
    return jnp.exp(joint - logsumexp(joint, axis=(1, 2), keepdims=True)) * data.weight[:, None, None]


def _maximise(data: _Data, chance: jax.Array, found: _Found, gated: bool) -> _Found:
    """The classes of the greatest penalised likelihood, given f[N, H, Z]; effects take a Newton step."""
    mine = chance.sum(axis=1)[:, :, None]  # [N, Z, 1]
    total, p, effect = data.right + data.wrong, jax.nn.sigmoid(found.odds(data.odds)), found.effect
    left = (mine * (data.right - total * p)).sum(axis=0) - effect / SPREAD**2
    bend = (mine * total * p * (1 - p)).sum(axis=0) + 1 / SPREAD**2
    effect = effect + jnp.clip(left / bend, -1, 1)
    seen = jnp.einsum("nhz,nhmk->zmk", chance, data.spread)
    pooled = seen.sum(axis=0, keepdims=True) + 0.5
    seen = seen + SHARED * pooled / pooled.sum(axis=-1, keepdims=True)
    members, questions = mine[:, :, 0].sum(axis=0), data.weight.sum()
    middle = jnp.einsum("n,nm->m", data.weight, data.odds[:, 0]) / questions
    centre = jnp.einsum("nz,nm->zm", mine[:, :, 0], data.odds[:, 0]) + NEAR * middle[None]
    centre = centre / (members[:, None] + NEAR)
    apart = (mine * jnp.square(data.odds - centre[None])).sum(axis=(0, 1)) / questions
    # The sources' log-odds go together: as if independent, they would tell the classes apart too surely.
    width = jnp.sqrt(jnp.maximum(apart, 0.05) * len(middle)) if gated else jnp.full(len(middle), jnp.inf)
    share = (members + 1) / (members + 1).sum()
    return _Found(share, effect, seen / seen.sum(axis=-1, keepdims=True), centre, width)
