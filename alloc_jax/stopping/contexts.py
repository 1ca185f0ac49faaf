"""Contexts: groups of questions with similar predictions from their texts, counted separately.

Features f[N, D], such as a policy's predictions of questions it has not seen, are standardised and cut at medians, the widest
first, into cells of equal size. A question belongs to the cell with the nearest mean. The questions of other contexts count, too,
the more the nearer they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alloc_jax.stopping.rules import nearest

CELL = 40  # at least so many questions in a cell
NEAR = 0.5  # distance, in standard deviations of the features, at which a question counts exp(-1/2)


@dataclass(frozen=True, eq=False)
class Contexts:
    """G contexts of questions."""

    center: np.ndarray  # f32[G, D] of standardised features
    mean: np.ndarray  # f32[D]
    scale: np.ndarray  # f32[D]
    of: np.ndarray  # i64[N] the contexts of the questions they were made from
    nearness: np.ndarray  # f64[G, G] by how much the questions of a context count in another


def make_contexts(prior: np.ndarray | None, questions: int, most: int, least: int = CELL) -> Contexts:
    """At most so many contexts; one where there is no prior.

    Args:
      prior: f[N, D] features.
      questions: N.
      most: contexts.
      least: questions of each.

    Raises:
      ValueError: the features are no [N, D] array of finite numbers, or fewer than one context is asked for.
    """
    if most < 1:
        raise ValueError(f"contexts is 1 or more, got {most}")
    if prior is None:
        empty = np.zeros(0, np.float32)
        return Contexts(np.zeros((1, 0), np.float32), empty, empty, np.zeros(questions, int), np.ones((1, 1)))
    prior = np.asarray(prior, np.float32)
    if prior.ndim != 2 or len(prior) != questions:
        raise ValueError(f"the prior holds features [{questions}, D], one row per question, got shape {prior.shape}")
    if not np.isfinite(prior).all():
        row = int(np.argmax(~np.isfinite(prior).all(axis=1)))
        raise ValueError(f"the prior's features of question {row} are not finite")
    mean, scale = prior.mean(axis=0), prior.std(axis=0)
    scale = np.where(scale > 1e-6, scale, np.inf).astype(np.float32)
    x = (prior - mean) / scale
    cells = [np.arange(questions)]
    while 2 * len(cells) <= most and min(map(len, cells)) >= 2 * least:
        cells = [half for cell in cells for half in _halves(x[cell], cell)]
    center = np.stack([x[cell].mean(axis=0) for cell in cells])
    apart = ((center[:, None] - center[None]) ** 2).sum(axis=2)
    return Contexts(center, mean, scale, nearest(x, center), np.exp(-0.5 * apart.astype(float) / NEAR**2))


def _halves(x: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    """A cell cut at the median of the feature that varies most in it."""
    order = np.argsort(x[:, np.argmax(x.std(axis=0))], kind="stable")
    return [cell[order[: len(cell) // 2]], cell[order[len(cell) // 2 :]]]
