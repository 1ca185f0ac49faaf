"""A probe: draw a sample or two first, look at them, then decide. Its cost is charged to the budget.

    probe, rest = split_probe(log, "small/think", samples=2)
    table = probe.charge(measure(rest, actions, "tokens"))
    policy = train(table, config, Combined((TextFeatures(), probe.features)))

The samples that a probe has looked at are taken out of the log, so that nothing is measured on what the policy has
seen; every action costs what it costs and the probe. A server hands over what it saw:
`allocator.choose(text, given={"probe": describe_probe(answers, tokens)})`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from alloc_jax.actions import vote
from alloc_jax.learn.features.inputs import Given
from alloc_jax.measure import measure
from alloc_jax.types import SAMPLE_FIELDS, OutcomeTable, SampleLog

COLUMNS = ("agreement", "silence", "log tokens", "spread of log tokens")


@dataclass(frozen=True)
class Probe:
    """What the first samples of a source showed, and what they cost."""

    source: str
    samples: int
    features: Given = field(repr=False)
    drawn: SampleLog = field(repr=False)  # the probe's samples alone

    def charge(self, table: OutcomeTable) -> OutcomeTable:
        """The table with the probe's cost on every action; its questions are among the probe's.

        Raises:
          ValueError: a question that the probe has not seen.
        """
        position = {name: i for i, name in enumerate(self.drawn.ids)}
        for name in table.ids:
            if name not in position:
                raise ValueError(f"question {name!r} was not probed")
        seen = self.drawn.select([position[name] for name in table.ids])
        paid = measure(seen, [vote(self.source, self.samples)], table.resources)
        shape = (len(table), 1, *table.cost.shape[2:])
        cost, error = paid.cost.reshape(shape), paid.cost_se.reshape(shape)
        return replace(table, cost=table.cost + cost, cost_se=np.sqrt(table.cost_se**2 + error**2))


def split_probe(log: SampleLog, source: str, samples: int = 2) -> tuple[Probe, SampleLog]:
    """The first samples of a source as a probe, and the log without them.

    Raises:
      ValueError: an unknown source, or a question with too few of its samples to leave one.
    """
    m = log.source_index(source)
    if samples < 1:
        raise ValueError(f"a probe draws at least 1 sample, got {samples}")
    short = log.count[:, m] <= samples
    if short.any():
        i = int(np.argmax(short))
        raise ValueError(
            f"question {log.ids[i]!r} has {log.count[i, m]} samples of {source!r}: a probe of {samples} leaves none"
        )
    first = np.zeros_like(log.count)
    first[:, m] = samples
    drawn = _samples(log, first, 0, samples)
    tokens = np.ones((len(log), samples)) if log.tokens is None else log.tokens[:, m, :samples]
    described = describe_probe(np.where(drawn.answer[:, m] < 0, None, drawn.answer[:, m]), tokens)
    left = log.count.copy()
    left[:, m] -= samples
    rest = _without(log, m, samples, left)
    return Probe(source, samples, Given.of("probe", log.question, described, COLUMNS), drawn), rest


def describe_probe(
    answers: Sequence[Sequence] | np.ndarray, tokens: Sequence[Sequence[float]] | np.ndarray
) -> np.ndarray:
    """What is seen in the first samples, f32[N, 4] as in `COLUMNS`.

    Args:
      answers: [N, samples] of any comparable kind; None where a sample has no answer.
      tokens: [N, samples] how long they are.

    >>> describe_probe([["42", "42"], ["7", None]], [[10, 10], [10, 40]]).astype(float).round(2).tolist()
    [[1.0, 0.0, 2.4, 0.0], [0.5, 0.5, 3.06, 0.66]]
    """
    rows = []
    for said, length in zip(answers, tokens, strict=True):
        spoken = [answer for answer in said if answer is not None]
        most = max((spoken.count(answer) for answer in spoken), default=0)
        log_length = np.log1p(np.asarray(length, np.float64))
        rows.append([most / len(said), 1 - len(spoken) / len(said), log_length.mean(), log_length.std()])
    return np.array(rows, np.float32).reshape(-1, len(COLUMNS))


def _samples(log: SampleLog, count: np.ndarray, start: int, stop: int) -> SampleLog:
    """The samples in the slots from start to stop, as far as `count` says."""
    real = np.arange(stop - start) < count[:, :, None]
    arrays = {
        "answer": np.where(real, log.answer[:, :, start:stop], -1),
        "correct": real & log.correct[:, :, start:stop],
    }
    for name in SAMPLE_FIELDS:
        if (values := getattr(log, name)) is not None:
            arrays[name] = np.where(real, values[:, :, start:stop], np.nan).astype(np.float32)
    return replace(log, count=count, **arrays)


def _without(log: SampleLog, m: int, samples: int, count: np.ndarray) -> SampleLog:
    """The log without the first samples of source m."""

    def moved(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[:, m] = np.roll(values[:, m], -samples, axis=1)
        return values

    names = [name for name in ("answer", "correct", *SAMPLE_FIELDS) if getattr(log, name) is not None]
    shifted: dict[str, Any] = {name: moved(getattr(log, name)) for name in names}
    return _samples(replace(log, **shifted), count, 0, log.answer.shape[2])
