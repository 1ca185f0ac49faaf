"""Latent classes fitted by EM: what training questions say of how sources err, and err together.

Which wrong answers of a question are its traps is hidden, too, so the E-step sums over readings of every question as it does over classes. In the
M-step effects and the gate, which tells classes apart by features of the text, take Newton steps, and the rest has a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from alloc_jax.solve.mesh import devices, put, questions_on, whole_on_host
from alloc_jax.stopping.sources.beliefs import Classes, balanced, shares
from alloc_jax.stopping.sources.evidence import bins_of, count_bins
from alloc_jax.types import Array, SampleLog

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
ROUNDS = 40  # of EM
TRIED = 12  # of EM, to choose a penalty
STEPS = 12  # of Newton's method
GATE_STEPS = 4  # of the gate's, in each round of EM
SPREAD = 1.0  # deviation of the effects' prior, in log-odds
PENALTIES = (300.0, 3000.0, 30000.0, 1000000.0)  # of regressions on standardised features
TOGETHER = 6.0  # log-odds that agreement on wrong answers, and on right ones, counts where classes begin
TRUST = 4.0  # of the text's log-odds as they are, in squared log-odds
SHARED = 5.0  # samples that all classes together count in a class's spread of wrong answers


class Kinds(NamedTuple):
    """What training questions say, before it is known which wrong answers are their traps, and how the right one is usually written."""

    right: np.ndarray  # f32[N, M] right samples
    wrong: np.ndarray  # f32[N, M] the others
    spread: np.ndarray  # f32[N, H, M, 4] of wrong samples by kind, under each of H readings
    possible: np.ndarray  # bool[N, H]
    written: np.ndarray  # f32[N, W, M, 2] of right samples the usual ones and the variants, under each of W readings; 0 where fewer than two tell
    writable: np.ndarray  # bool[N, W]
    bin: np.ndarray  # f32[N, V, 2] wrong and right samples in the bins of every source


def read_kinds(
    log: SampleLog,
    sources: Sequence[str],
    verified: bool,
    most: int = MOST,
    evidence: str | None = None,
    cuts: np.ndarray | None = None,
) -> Kinds:
    """What the first samples of each source say, with their numbers of a field in bins where cuts f64[M, C] are given."""
    columns = [log.source_index(name) for name in sources]
    sampled = log.sampled[:, columns, :most]
    answer, right = log.answer[:, columns, :most], log.correct[:, columns, :most] & sampled
    n, m, _ = answer.shape
    code = np.where(sampled & ~right, answer, -2)
    wrong, none = (sampled & ~right).sum(axis=2), (code == -1).sum(axis=2)
    each = np.zeros((n, TEMPTING, m), int) if verified else _frequent(code)
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
    written, writable = _written(np.where(right, 0 if verified else answer, -2))
    counts = right.sum(axis=2).astype(np.float32), wrong.astype(np.float32)
    if evidence is None or cuts is None:
        counted = np.stack(counts[::-1], axis=-1)
    else:
        of = bins_of(getattr(log, evidence)[:, columns, :most], cuts[:, None])
        here = [(m, of[:, m] == b) for m, many in enumerate(count_bins(cuts)) for b in range(many)]
        binned = [[(part[:, m] & at).sum(axis=1) for part in (sampled & ~right, right)] for m, at in here]
        counted = np.moveaxis(np.array(binned, np.float32), 2, 0)
    return Kinds(*counts, spread, possible, written, writable, counted)


def _frequent(code: np.ndarray) -> np.ndarray:
    """i64[N, TEMPTING, M] how often each source gave the most frequent of the answers i[N, M, S]."""
    each = np.zeros((len(code), TEMPTING, code.shape[1]), int)
    for i in range(len(code)):
        codes, many = np.unique(code[i][code[i] >= 0], return_counts=True)
        for b, c in enumerate(codes[np.argsort(-many, kind="stable")][:TEMPTING]):
            each[i, b] = (code[i] == c).sum(axis=1)
    return each


def _written(code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The readings of right answers i[N, M, S], as in `Kinds`: one of the most frequent is the usual one, or none where all differ."""
    each = _frequent(code)
    total = (code >= 0).sum(axis=2)
    usual = np.concatenate([each, np.zeros_like(each[:, :1])], axis=1)
    tells = (total.sum(axis=1) > 1) & (each.sum(axis=(1, 2)) > 0)
    written = np.stack([usual, total[:, None] - usual], axis=-1) * tells[:, None, None, None]
    times = usual.sum(axis=2)
    possible = times == times.max(axis=1, keepdims=True)
    possible[:, -1] = times.max(axis=1) <= 1
    return written.astype(np.float32), possible


class Text(NamedTuple):
    """Features of the texts, turned for regressions on them."""

    basis: np.ndarray  # f32[N, R] orthonormal columns
    square: np.ndarray  # f32[R] of the standardised features along each column
    back: np.ndarray  # f32[D, R] from coefficients to weights of the features as they are
    mean: np.ndarray  # f32[D]


def read_text(features: np.ndarray) -> Text:
    """The principal directions of features f[N, D]."""
    features = np.asarray(features, float)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale < 1e-6, np.inf, scale)
    x = (features - mean) / scale
    square, vectors = np.linalg.eigh(x.T @ x)
    use = square > 1e-6 * square[-1]
    square, vectors = square[use], vectors[:, use]
    back = vectors / scale[:, None] / np.sqrt(square)
    return Text(*(np.asarray(x, np.float32) for x in (x @ vectors / np.sqrt(square), square, back, mean)))


def _left_out(text: Text, target: np.ndarray) -> np.ndarray:
    """f[N] what the ridge regression that predicts questions left out best says of each from the others."""
    away = target - target.mean()
    found = []
    for penalty in PENALTIES:
        kept = text.square / (text.square + penalty)
        leverage = text.basis**2 @ kept + 1 / len(target)
        found.append((away - text.basis @ (kept * (text.basis.T @ away))) / (1 - leverage))
    return target - min(found, key=lambda missed: (missed**2).mean())


def fit_classes(
    kinds: Kinds,
    promised: np.ndarray,
    classes: int,
    features: np.ndarray | None = None,
    of: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Classes:
    """The classes of the greatest penalised likelihood that EM finds.

    Args:
      kinds: of the training questions.
      promised: f[N, M] log-odds that their texts promise, by models that have not seen them.
      classes: Z.
      features: f[N, D] of the texts, which then tell classes apart: a question's prior is what a logistic regression of the other
        questions' memberships predicts. None: all questions have the same prior.
      of: i[V] the source of each of the bins, `Patterns.of`; None: one bin a source.
      mesh: its devices share out the questions, and add up what they find of every class.
    """
    n = len(promised)
    of = np.arange(promised.shape[1]) if of is None else of
    slope, level = _calibrate(kinds, promised)
    odds = np.asarray(promised * slope + level, np.float32)
    right, wrong = kinds.right, kinds.wrong
    rate = right / np.maximum(right + wrong, 1)
    if features is None:
        surplus = (rate - 1 / (1 + np.exp(-odds))).mean(axis=1)
        rank = np.argsort(np.argsort(surplus, kind="stable"), kind="stable")
        start = np.eye(classes)[rank * classes // n]
        text = Text(*(np.asarray(x, np.float32) for x in (np.zeros((n, 1)), np.ones(1), np.zeros((0, 1)), np.zeros(0))))
    else:
        text = read_text(features)
        together = kinds.spread[:, 1 : 1 + TEMPTING, :, 0].sum(axis=2).max(axis=1) / np.maximum(wrong.sum(axis=1), 1)
        apart = kinds.written[:, 0, :, 1].sum(axis=1) / np.maximum(kinds.written[:, 0].sum(axis=(1, 2)), 1)
        seen = [TOGETHER * _left_out(text, share)[:, None] for share in (together, apart)]
        start = np.eye(classes)[_cells(np.concatenate([odds, *seen], axis=1), classes)]
    spare = -n % math.lcm(256, devices(mesh))  # few shapes, so that few fits compile

    def padded(x: np.ndarray, value=0) -> np.ndarray:
        return np.pad(x, ((0, spare), *((0, 0),) * (x.ndim - 1)), constant_values=value)

    data = _Data(
        padded(right.astype(np.float32))[:, None],
        padded(wrong.astype(np.float32))[:, None],
        padded(kinds.spread),
        padded(kinds.possible, True),
        padded(kinds.written),
        padded(kinds.writable, True),
        padded(kinds.bin),
        (of[:, None] == of).astype(np.float32),
        padded(np.ones(n, np.float32)),
        padded(odds)[:, None],
        padded(text.basis),
        text.square,
    )
    start = padded((0.8 * start + 0.2 / classes).astype(np.float32))
    if mesh is not None:
        data, start = _shared_out(data, start, mesh)
    penalty = PENALTIES[0] if features is None else _best_penalty(data, start, features)
    found, _ = _fit(data, np.float32(penalty), start, ROUNDS)
    weights = text.back @ np.asarray(found.gate)
    gate = np.concatenate([weights, np.asarray(found.level) - text.mean @ weights]).astype(np.float32)
    mean = whole_on_host(found.prior)[:n].mean(axis=0, dtype=float)
    effect, spread, variant, of_bin = (
        np.asarray(part) for part in (found.effect, found.spread, found.variant, found.bin)
    )
    return Classes(mean.astype(np.float32), slope, level, effect, spread, variant, of_bin, gate)


def _shared_out(data: _Data, start: np.ndarray, mesh: Mesh) -> tuple[_Data, Any]:
    """The data and the memberships on the devices that share out the questions."""
    split, whole = NamedSharding(mesh, questions_on(mesh)), NamedSharding(mesh, P())
    placed = {name: put(x, whole if name in ("mates", "square") else split) for name, x in data._asdict().items()}
    return _Data(**placed), put(start, split)


def _best_penalty(data: _Data, start: np.ndarray, features: np.ndarray) -> float:
    """The penalty of the gate under which a third of the questions, fitted without, are the most likely; those of one text lie together."""
    rng = np.random.default_rng(0)
    _, unit = np.unique(features @ np.asarray(rng.normal(size=features.shape[1]), np.float32), return_inverse=True)
    held = (rng.permutation(unit.max() + 1) % 3 == 0)[unit]
    held = np.pad(held, (0, len(start) - len(held)))
    rest = data._replace(weight=data.weight * ~held)

    def likelihood(penalty: float) -> float:
        return float(whole_on_host(_fit(rest, np.float32(penalty), start, TRIED)[1])[held].sum())

    return max(PENALTIES, key=likelihood)


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
    right: Array  # f32[N, 1, M]
    wrong: Array  # f32[N, 1, M]
    spread: Array  # f32[N, H, M, 4]
    possible: Array  # bool[N, H]
    written: Array  # f32[N, W, M, 2]
    writable: Array  # bool[N, W]
    bin: Array  # f32[N, V, 2]
    mates: Array  # f32[V, V] which bins are of one source
    weight: Array  # f32[N] 0 in the padding
    odds: Array  # f32[N, 1, M] calibrated
    basis: Array  # f32[N, R] of the texts, as in `Text`
    square: Array  # f32[R]


class _Found(NamedTuple):
    """What EM finds, as in `Classes`; the prior is that of the training questions."""

    prior: jax.Array  # f32[N, Z] each by a gate that has not seen the question
    gate: jax.Array  # f32[R, Z] coefficients of the texts' basis
    level: jax.Array  # f32[1, Z]
    effect: jax.Array
    spread: jax.Array
    variant: jax.Array
    bin: jax.Array

    def odds(self, odds: Array) -> jax.Array:
        """f[N, Z, M] of being right."""
        return balanced(odds, self.effect[None], self.prior[:, :, None], jnp)


@partial(jax.jit, static_argnames="rounds")
def _fit(data: _Data, penalty: jax.Array, start: jax.Array, rounds: int) -> tuple[_Found, jax.Array]:
    """EM from memberships f32[N, Z]: readings and classes are hidden. Also log likelihoods f32[N], each under a gate that has not seen the question."""
    # The first readings are the usual ones, or EM could not tell a trap from the second.
    usual = jnp.where(jnp.asarray(USUAL), 1.0, UNUSUAL)[None] * data.possible
    first = jnp.where(jnp.arange(data.writable.shape[1]) == 0, 1.0, UNUSUAL)[None] * data.writable
    mine = start * data.weight[:, None]
    read, wrote = ((part / part.sum(axis=1, keepdims=True))[:, :, None] * mine[:, None, :] for part in (usual, first))
    classes, sources = start.shape[1], data.right.shape[2]
    flat = jnp.zeros((classes, sources))
    even = jnp.ones_like(start) / classes
    none = jnp.zeros((data.basis.shape[1], classes))
    begun = _Found(
        even, none, jnp.zeros((1, classes)), flat, jnp.ones((classes, sources, 4)) / 4, flat + 0.1,
        jnp.ones((classes, *data.bin.shape[1:])) / data.mates.sum(axis=1)[None, :, None],
    )  # fmt: skip

    def improve(found: _Found, _):
        return _maximise(data, penalty, *_expect(data, found)[:2], found), None

    found = jax.lax.scan(improve, _maximise(data, penalty, read, wrote, begun), None, length=rounds)[0]
    return found, _expect(data, found)[2]


def _expect(data: _Data, found: _Found) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The chances of readings and classes, f[N, H, Z] of wrong answers and f[N, W, Z] of right ones, and log likelihoods f[N]."""
    odds = found.odds(data.odds)
    each = data.right * jax.nn.log_sigmoid(odds) + data.wrong * jax.nn.log_sigmoid(-odds)
    wrong = jnp.einsum("nhmk,zmk->nhz", data.spread, jnp.log(found.spread))
    wrong = jnp.where(data.possible[:, :, None], wrong, -1e9)
    ways = jnp.stack([1 - found.variant, found.variant], axis=-1)
    right = jnp.einsum("nwmk,zmk->nwz", data.written, jnp.log(ways))
    right = jnp.where(data.writable[:, :, None], right, -1e9)
    one, other = (logsumexp(part, axis=1, keepdims=True) for part in (wrong, right))
    binned = jnp.einsum("nvk,zvk->nz", data.bin, jnp.log(found.bin))
    joint = one[:, 0] + other[:, 0] + binned + jnp.log(found.prior) + each.sum(axis=2)
    total = logsumexp(joint, axis=1, keepdims=True)
    mine = (jnp.exp(joint - total) * data.weight[:, None])[:, None]
    return jnp.exp(wrong - one) * mine, jnp.exp(right - other) * mine, total[:, 0]


def _maximise(data: _Data, penalty: jax.Array, read: jax.Array, wrote: jax.Array, found: _Found) -> _Found:
    """The classes of the greatest penalised likelihood, given f[N, H, Z] and f[N, W, Z]; effects take a Newton step."""
    mine = read.sum(axis=1)  # [N, Z]
    total, p, effect = data.right + data.wrong, jax.nn.sigmoid(found.odds(data.odds)), found.effect
    left = (mine[:, :, None] * (data.right - total * p)).sum(axis=0) - effect / SPREAD**2
    bend = (mine[:, :, None] * total * p * (1 - p)).sum(axis=0) + 1 / SPREAD**2
    effect = effect + jnp.clip(left / bend, -1, 1)
    seen = jnp.einsum("nhz,nhmk->zmk", read, data.spread)
    pooled = seen.sum(axis=0, keepdims=True) + 0.5
    seen = seen + SHARED * pooled / pooled.sum(axis=-1, keepdims=True)
    said = jnp.einsum("nwz,nwmk->zmk", wrote, data.written)
    pooled = said.sum(axis=(0, 1), keepdims=True) + jnp.array([[[9.5, 0.5]]])
    said = said + SHARED * pooled / pooled.sum()
    binned = jnp.einsum("nz,nvk->zvk", mine, data.bin)
    pooled = binned.sum(axis=0, keepdims=True) + 0.5
    binned = binned + SHARED * pooled / jnp.einsum("vw,zwk->zvk", data.mates, pooled)
    binned = binned / jnp.einsum("vw,zwk->zvk", data.mates, binned)
    prior, gate, level = _gated(data, penalty, mine, found.gate, found.level)
    seen, variant = seen / seen.sum(axis=-1, keepdims=True), said[..., 1] / said.sum(axis=-1)
    return _Found(prior, gate, level, effect, seen, variant, binned)


def _gated(data: _Data, penalty: jax.Array, mine: jax.Array, gate: jax.Array, level: jax.Array):
    """A multinomial logistic regression of memberships f32[N, Z] on texts, some steps further: priors, coefficients and levels.

    The steps are Newton's with a bound on the curvature (Böhning 1992), which is diagonal in the texts' basis. A prior is what the regression would
    say had it not seen the question, to first order.
    """
    classes = mine.shape[1]
    even = max(1 - 1 / classes, 0.1) / classes  # variance of an even membership
    weight, basis = data.weight[:, None], data.basis
    leverage = (basis**2 @ (data.square / (data.square + penalty)) + 1 / weight.sum())[:, None]
    penalty = even * (penalty / data.square)[:, None]

    def chances(gate, level):
        return weight * jax.nn.softmax(basis @ gate + level)

    for _ in range(GATE_STEPS):
        held = jnp.maximum(chances(gate, level).sum(axis=0, keepdims=True), 1e-3)
        level = level + jnp.log(jnp.maximum(mine.sum(axis=0, keepdims=True), 1e-3) / held)
        gate = gate + (basis.T @ (mine - chances(gate, level)) - penalty * gate) / (0.5 + penalty)
    p = chances(gate, level)
    spread = jnp.maximum((p * (1 - p)).sum(axis=0, keepdims=True) / weight.sum(), even / 4)
    unseen = basis @ gate + level - (mine - p) * leverage / (jnp.maximum(1 - leverage, 1e-3) * spread)
    return shares(unseen, jnp), gate, level
