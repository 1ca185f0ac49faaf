"""Walks: each question's own samples of several sources, in orders in which a rule might have drawn them.

Sources are asked in any order, so that one sample of each suffices; of a source with more samples, the order is drawn at random. All of a
sample is kept together: its answer, whether it was right, what it cost and how long it took.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from alloc_jax.actions import single
from alloc_jax.measure.costs import sample_costs, with_known_costs
from alloc_jax.price_book import PriceBook
from alloc_jax.stopping.sources.evidence import bins_of
from alloc_jax.types import SAMPLE_FIELDS, SampleLog


@dataclass(frozen=True, eq=False)
class Walks:
    """N questions in O orders: the K first samples of M sources."""

    ids: tuple[str, ...]  # [N]
    answer: np.ndarray  # i32[N, O, M, K] codes of answers, the same over sources; -1 without a vote
    right: np.ndarray  # bool[N, O, M, K]
    cost: np.ndarray  # f64[N, O, M, K]
    seconds: np.ndarray | None  # f64[N, O, M, K]; None where the log has none
    number: np.ndarray | None = None  # f32[N, O, M, K] that is evidence beside the answer; None: none is looked at
    cuts: np.ndarray | None = None  # f64[M, C] which make bins of it

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: np.ndarray) -> Walks:
        """The walks of the questions at these positions."""
        parts = {name: getattr(self, name) for name in ("answer", "right", "cost", "seconds", "number")}
        parts = {name: None if part is None else part[rows] for name, part in parts.items()}
        return replace(self, ids=tuple(self.ids[i] for i in rows), **parts)

    @cached_property
    def bin(self) -> np.ndarray:
        """i8[N, O, M, K] the bin of every sample."""
        if self.number is None or self.cuts is None:
            return np.zeros(self.answer.shape, np.int8)
        return bins_of(self.number, self.cuts[:, None])

    def binned(self, cuts: np.ndarray) -> Walks:
        """The same, seen through the cuts f64[M, C] of some rules.

        Raises:
          ValueError: the rules look at a number that these walks lack.
        """
        if self.number is None and np.isfinite(cuts).any():
            raise ValueError(
                "the rules look at a number beside each answer, and the walks were made without: name it as evidence"
            )
        return replace(self, cuts=cuts)


def make_walks(
    log: SampleLog,
    sources: Sequence[str],
    limits: Sequence[int],
    *,
    resource: str,
    verified: bool = False,
    orders: int = 1,
    seed: int = 0,
    prices: PriceBook | None = None,
    evidence: str | None = None,
) -> Walks:
    """The walks of a log's questions.

    Args:
      log: the samples.
      sources: M of its sources.
      limits: samples of each that a rule may draw.
      resource: what a sample is paid with, as in `measure`.
      verified: whether a right sample is known as such; answers then do not matter.
      orders: O of each source's samples; where every source gives one, one order is all there is.
      seed: of the orders.
      prices: behind the resource `usd`.
      evidence: the field of a sample that rules look at beside its answer; None: none.

    Raises:
      ValueError: sources share no question, a question lacks samples, answers or costs; the message names question and source.
    """
    columns = [log.source_index(name) for name in sources]
    short = log.count[:, columns] < np.asarray(limits)
    if (log.count[:, columns] == 0).any(axis=1).all():
        raise ValueError(f"the sources {', '.join(map(repr, sources))} share no question: no answers can be compared")
    if short.any():
        i, j = np.argwhere(short)[0]
        raise ValueError(
            f"question {log.ids[i]!r} has {log.count[i, columns[j]]} samples of source {sources[j]!r}, a rule may draw {limits[j]}"
            f" ({short.any(axis=1).sum()} of {len(log)} questions lack samples); `shared_questions` leaves such questions out"
        )
    with_known_costs(log, [single(name) for name in sources], resource, prices=prices)
    if not verified:
        for name, m in zip(sources, columns, strict=True):
            if not (log.answer[:, m] >= 0).any():
                raise ValueError(
                    f"source {name!r} has no answers, such as {log.ids[0]!r} shows: votes need them; a log of bits alone is answered by "
                    "a verifier (answer='verified')"
                )
    if evidence is not None and evidence not in SAMPLE_FIELDS:
        raise ValueError(f"evidence is one of {', '.join(SAMPLE_FIELDS)}; got {evidence!r}")
    if evidence is not None and getattr(log, evidence) is None:
        raise ValueError(f"evidence {evidence!r}: no sample of the log has it")
    most = max(limits)
    orders = 1 if most == 1 and (log.count[:, columns] == 1).all() else orders
    rng = np.random.default_rng(seed)
    shape = (len(log), orders, len(columns), most)
    answer, right = np.full(shape, -1, np.int32), np.zeros(shape, bool)
    cost, seconds, number = (np.full(shape, np.nan) for _ in range(3))
    for j, m in enumerate(columns):
        slots = log.correct.shape[2]
        chance = np.where(log.sampled[:, None, m], rng.random((len(log), orders, slots)), 2.0)
        take = np.argsort(chance, axis=2)[:, :, : limits[j]]
        rows = np.arange(len(log))[:, None, None]
        answer[:, :, j, : limits[j]] = log.answer[rows, m, take]
        right[:, :, j, : limits[j]] = log.correct[rows, m, take]
        cost[:, :, j, : limits[j]] = sample_costs(log, resource, m, prices)[rows, take]
        if evidence is not None:
            number[:, :, j, : limits[j]] = getattr(log, evidence)[rows, m, take]
        if log.latency_s is not None:
            seconds[:, :, j, : limits[j]] = log.latency_s[rows, m, take]
    if verified:
        answer = np.where(right, 0, -1).astype(np.int32)
    seconds, number = None if log.latency_s is None else seconds, None if evidence is None else number
    return Walks(log.ids, answer, right, cost, seconds, number)


def shared_questions(log: SampleLog, sources: Sequence[str], limits: Sequence[int] | None = None) -> SampleLog:
    """The questions on which every one of some sources has samples, as many as the limits where they are given.

    Raises:
      ValueError: there are none.
    """
    columns = [log.source_index(name) for name in sources]
    whole = np.all(log.count[:, columns] >= (1 if limits is None else np.asarray(limits)), axis=1)
    if not whole.any():
        raise ValueError(f"the sources {', '.join(map(repr, sources))} share no question: no answers can be compared")
    return log if whole.all() else log.select(whole)


def answered_questions(log: SampleLog, sources: Sequence[str]) -> SampleLog:
    """The questions on which no right sample of some sources lacks its answer: it would be right for a fixed action, and no vote for a rule.

    How many are left out is logged. Where a source has no answers at all, nothing is.

    Raises:
      ValueError: none is left.
    """
    columns = [log.source_index(name) for name in sources]
    answer, right = log.answer[:, columns], log.correct[:, columns]
    mute = np.any(right & (answer < 0), axis=2)
    lacks = mute.any(axis=1)
    if not lacks.any() or not (answer >= 0).any(axis=(0, 2)).all():
        return log
    i, j = np.argwhere(mute)[0]
    why = f"a right sample lacks its answer, as one of source {sources[j]!r} on question {log.ids[i]!r} does"
    if lacks.all():
        raise ValueError(f"votes need answers, and on every question {why}")
    logging.getLogger("alloc_jax").warning("%d of %d questions are left out: %s", lacks.sum(), len(log), why)
    return log.select(np.flatnonzero(~lacks))
