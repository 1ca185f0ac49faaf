"""Batches of `vote_kernel` over many questions: equal jobs are computed once, the others in chunks of few shapes.

A job is the sample counts of one pair with the answer that is to win. Jobs are sorted by depth and counts, so that a
chunk holds jobs alike and stops at its own largest classes; shapes are rounded up, so that a log of any size needs few
compilations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from alloc_jax.measure.estimators.vote_kernel import (
    Nodes,
    log_binomial,
    vote_batch,
    vote_nodes,
    with_replacement,
    without_replacement,
)

_FLOATS_PER_CHUNK = 2**20  # of one pass's stored states: stays near the cache
_FEW_NODES = 128  # are all summed over at once
_PARTS = (4, 16, 64)  # winning counts at which many nodes part
_LOWEST = -30.0  # log of the normaliser that float32 products may reach


def win_moments(
    count: np.ndarray,
    silent: np.ndarray,
    slot: np.ndarray,
    votes: tuple[int, ...],
    *,
    replacement: bool = False,
    ties: str = "uniform",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[win], and E[win * samples drawn] of every class and of the silent, for jobs that ask whether one answer wins.

    Args:
      count: i32[P, C] samples of each answer, descending; 0 is padding.
      silent: i32[P] samples without an answer.
      slot: i32[P] the answer that is to win.
      votes: V sample counts that share a pass (`vote_groups`).
      replacement: draw with replacement.
      ties: "uniform", "abstain" or "square", as in `vote_nodes`.

    Returns:
      f64[P, V], f64[P, V, C], f64[P, V]
    """
    jobs, width = count.shape
    slots = np.arange(width)
    shifted = np.minimum(slots + (slots >= slot[:, None]), width - 1)  # the other classes, still descending
    others = np.where(slots < width - 1, np.take_along_axis(count, shifted, axis=1), 0)
    # With replacement one sample can be drawn twice, so that answers seen once are classes like any other.
    merged = 0 if replacement else 1
    kept = np.where(others > merged, others, 0)
    singles = (others == merged).sum(axis=1) * merged
    depth = (kept > 0).sum(axis=1)
    signature = np.column_stack([depth, kept, singles, silent, count[np.arange(jobs), slot]])
    distinct, back = np.unique(signature.astype(np.int32), axis=0, return_inverse=True)
    results = _run(distinct, votes, replacement, ties)[back.reshape(-1)]
    win, drawn_target, drawn_silent, drawn_singles = np.moveaxis(results[..., :4], 2, 0)
    # Put each class's moment back into the slot that its count came from.
    source = np.minimum(np.where(slots > slot[:, None], slots - 1, slots), width - 1)
    drawn = np.take_along_axis(results[..., 4:], source[:, None], axis=2)
    single = (count == merged) & (count > 0)
    drawn = np.where(single[:, None], (drawn_singles / np.maximum(singles, 1)[:, None])[..., None], drawn)
    drawn[np.arange(jobs), :, slot] = drawn_target
    return win, drawn, drawn_silent


def _run(jobs: np.ndarray, votes: tuple[int, ...], replacement: bool, ties: str) -> np.ndarray:
    """f64[P, V, 4 + C] the moments of distinct jobs (depth, others..., singles, silent, target), in few shapes."""
    width, k = jobs.shape[1] - 4, max(votes)
    depth, others, (singles, silent, target) = jobs[:, 0], jobs[:, 1:-3], jobs[:, -3:].T
    samples = jobs[:, 1:].sum(axis=1)
    nodes = vote_nodes(votes, ties)
    out = np.zeros((len(jobs), len(votes), 4 + width))
    for rows, chance, normaliser in _tables(samples, votes, replacement):
        for bucket, within in _buckets(depth[rows]):
            size = _chunk(nodes, bucket, len(within))
            for start in range(0, len(within), size):
                at = within[start : start + size]
                part = np.resize(rows[at], size)  # the last chunk is filled up with repetitions
                classes = np.zeros((size, bucket), np.int32)
                classes[:, : min(bucket, width)] = others[part, : min(bucket, width)]
                largest = np.concatenate([[singles[part].max()], classes.max(axis=0)])
                # With replacement a class can be drawn more often than it was logged.
                taps = (np.where(largest > 0, k, 0) if replacement else np.minimum(largest, k)).astype(np.int32)
                for some in _in_parts(nodes, chance[target[part]].max(axis=0), normaliser[at].min()):
                    # No class may be drawn more often than the target, but for answers seen once: they are many classes.
                    fewer = np.append(taps[:1], np.minimum(taps[1:], some.winning.max())).astype(np.int32)
                    moments = vote_batch(
                        target[part],
                        classes,
                        singles[part],
                        silent[part],
                        depth[part].max(),
                        fewer,
                        chance,
                        some,
                        votes,
                    )
                    *heads, drawn = (np.asarray(x, np.float64)[: len(at)] for x in moments)
                    flat = np.concatenate([np.stack(heads, axis=2), drawn[..., :width]], axis=2)
                    out[rows[at], :, : flat.shape[2]] += flat / normaliser[at][:, :, None]
    return out


def _chunk(nodes: Nodes, bucket: int, jobs: int) -> int:
    """Jobs in a batch: a power of two that fits the states into `_FLOATS_PER_CHUNK`, and at most 32 for a small log."""
    state = (nodes.vote.max() + 1) * len(nodes.winning)
    fits = int(np.log2(max(_FLOATS_PER_CHUNK / (state * (bucket + 1)), 1)))
    return 2 ** min(fits, 8 if jobs > 128 else 5)


def _in_parts(nodes: Nodes, chance: np.ndarray, normaliser: float) -> Iterator[Nodes]:
    """The nodes of the winning counts that some target of a batch has with a chance f[k + 1] worth counting, by size.

    Of the many nodes of a large vote few matter: an answer with 480 of 1,000 samples wins a vote of 256 with 120 votes or so, plus
    or minus 60, never with 5. Where a target wins with 5, no rival has more, which saves most of the convolutions.
    """
    if len(nodes.winning) <= _FEW_NODES:
        yield nodes
        return
    keep = np.argsort(nodes.winning, kind="stable")
    keep = keep[chance[nodes.winning[keep]] > 1e-10 * normaliser]
    for part in np.split(keep, np.searchsorted(nodes.winning[keep], _PARTS)):
        if len(part):
            size = 2 ** max(math.ceil(math.log2(len(part))), 5)
            padded = Nodes(*(np.resize(x[part], size) for x in nodes))
            yield padded._replace(weight=np.where(np.arange(size) < len(part), padded.weight, 0).astype(np.float32))


def _log_normaliser(samples: np.ndarray, votes: Sequence[int], p: float) -> np.ndarray:
    """f64[P, V] log P(sum = k)"""
    return log_binomial(samples[:, None], np.asarray(votes), p)


def vote_groups(samples: np.ndarray, votes: set[int]) -> Iterator[tuple[int, ...]]:
    """Votes that can share one table of chances, and so one pass.

    Where a large vote is the likely sum, a small one is unlikely: votes that are further apart than float32 allows get separate passes.
    """
    left = sorted(votes, reverse=True)
    while left:
        n = samples.max(initial=left[0])
        low = _log_normaliser(np.array([n]), left, left[0] / (n + 1))[0] < _LOWEST / 2
        size = int(np.argmax(low)) if low.any() else len(left)
        yield tuple(left[:size][::-1])
        left = left[size:]


def _tables(samples: np.ndarray, votes: tuple[int, ...], replacement: bool) -> Iterator[tuple[np.ndarray, ...]]:
    """Rows that can share one table of chances, with the table and their normalisers [rows, V].

    Any probability may stand behind the table, so rows of different n share one as long as P(sum = k) is representable.
    """
    left = np.unique(samples)[::-1]
    k = max(votes)
    while left.size:
        n = int(left[0])
        if replacement:
            size, chance = 1, with_replacement(n, k)
            log_normaliser = np.array([[k * np.log(k) - k - np.log(np.arange(1, k + 1)).sum()]])
        else:
            p = k / (n + 1)
            log_normaliser = _log_normaliser(left, votes, p)
            low = (log_normaliser < _LOWEST).any(axis=1)
            size = max(int(np.argmax(low)), 1) if low.any() else len(left)
            chance = without_replacement(max(n, 128), k, p)  # at least 128 rows, so that halves of a log share a trace
        rows = np.flatnonzero(np.isin(samples, left[:size]))
        place = np.searchsorted(-left[:size], -samples[rows])
        yield rows, chance, np.exp(log_normaliser[place])
        left = left[size:]


def _buckets(depth: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Jobs by the number of classes they need, rounded up to 32, 128, 512, ..."""
    bucket = 32 * 4 ** np.ceil(np.log(np.maximum(depth, 32) / 32) / np.log(4) - 1e-9).astype(int)
    for width in np.unique(bucket):
        yield int(width), np.flatnonzero(bucket == width)
