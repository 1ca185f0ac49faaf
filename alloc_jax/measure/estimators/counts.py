"""Counts of answers, which are all that a vote depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class AnswerCounts:
    """How often each answer occurs among the samples of a pair, most frequent first."""

    count: np.ndarray  # i32[P, C] descending; 0 is padding
    correct: np.ndarray  # f32[P, C] mean of `correct` over the samples of that answer (graders may disagree)
    silent: np.ndarray  # i32[P] samples with no answer, which win no vote
    place: np.ndarray  # i32[P, S] each sample's answer as a position on axis C; C for no answer and in the padding


def answer_counts(answer: np.ndarray, correct: np.ndarray, sampled: np.ndarray) -> AnswerCounts:
    """Count the answers of every pair.

    Args:
      answer: i32[P, S] codes, -1 for no answer.
      correct: bool[P, S].
      sampled: bool[P, S] where a slot holds a sample.

    >>> counts = answer_counts(np.array([[4, 7, 7, -1]]), np.array([[False, True, True, False]]), np.ones((1, 4), bool))
    >>> counts.count.tolist(), counts.correct.tolist(), counts.silent.tolist(), counts.place.tolist()
    ([[2, 1]], [[1.0, 0.0]], [1], [[1, 0, 0, 2]])
    """
    pairs, slots = answer.shape
    given = sampled & (answer >= 0)
    code = np.where(given, answer, np.iinfo(np.int32).max)
    order = np.argsort(code, axis=1, kind="stable")
    code = np.take_along_axis(code, order, axis=1)
    given_sorted = np.take_along_axis(given, order, axis=1)
    first = np.diff(code, axis=1, prepend=-1) != 0
    number = np.cumsum(first, axis=1) - 1  # of the answer, by code
    cell = np.arange(pairs)[:, None] * slots + number
    count = np.bincount(cell[given_sorted], minlength=pairs * slots).reshape(pairs, slots)
    good = np.take_along_axis(correct, order, axis=1) & given_sorted
    right = np.bincount(cell[good], minlength=pairs * slots).reshape(pairs, slots)
    width = max(int((count > 0).sum(axis=1).max(initial=0)), 1)
    by_count = np.argsort(-count, axis=1, kind="stable")
    rank = np.argsort(by_count, axis=1, kind="stable")  # of each answer, the inverse of by_count
    place = np.empty((pairs, slots), np.int32)
    np.put_along_axis(place, order, np.take_along_axis(rank, number, axis=1).astype(np.int32), axis=1)
    most, right = (np.take_along_axis(x, by_count[:, :width], axis=1) for x in (count, right))
    return AnswerCounts(
        count=most.astype(np.int32),
        correct=(right / np.maximum(most, 1)).astype(np.float32),
        silent=(sampled & (answer < 0)).sum(axis=1).astype(np.int32),
        place=np.where(given, place, width).astype(np.int32),
    )
