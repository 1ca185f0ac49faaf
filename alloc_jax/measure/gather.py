"""Checking the records of a sample log one by one, and packing them into the arrays of a `SampleLog`.

Readers of other formats bring their records into this form and get the same checks.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from alloc_jax.types import SAMPLE_FIELDS, SampleLog, Source

_RECORD_FIELDS = ("id", "question", "gold", "group", "source", "samples")
_NON_NEGATIVE = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "latency_s", "usd")
_LARGEST = float(np.finfo(np.float32).max)


class LogError(ValueError):
    """A file is not a sample log; the message names file, line, question and field."""


class Gatherer:
    """Collects records in compact form, one at a time; errors name the question and the field."""

    def __init__(self):
        self.sources: dict[str, Source] = {}
        self.described = False
        self.started = False
        self.ids: dict[str, int] = {}
        self.text: list[tuple[str, str | None, str | None]] = []  # question, gold, group
        self.codes: list[dict[str, int]] = []  # of each question's answers
        self.pairs: dict[tuple[int, str], int] = {}  # (question, source) -> samples
        self.answer = array("i")
        self.correct = array("b")
        self.fields = {name: array("f") for name in SAMPLE_FIELDS}

    def describe(self, record: Mapping[str, Any]) -> None:
        """The line {"sources": ...}, whose sources are then the only ones.

        Raises:
          ValueError: it is not the first line, or not a description of sources.
        """
        if self.started:
            raise ValueError("sources: the line that describes the sources comes first, and once")
        if len(record) > 1:
            raise ValueError(f"sources: stands alone in its line, got {', '.join(record)}")
        self.started = self.described = True
        sources = record["sources"]
        if not isinstance(sources, dict) or not sources:
            raise ValueError(f"sources: expected an object of sources by name, got {_show(sources)}")
        for name, details in sources.items():
            if not name or not isinstance(details, dict):
                raise ValueError(f"sources: expected an object for source {name!r}, got {_show(details)}")
            details = dict(details)
            parameters = details.pop("parameters", None)
            if parameters is not None:
                parameters = _number(parameters, f"sources: {name!r}: parameters")
                if parameters <= 0:
                    raise ValueError(
                        f"sources: {name!r}: parameters is {parameters}; a count is positive, null if unknown"
                    )
            self.sources[name] = Source(name, parameters, details)

    def add(self, record: Mapping[str, Any]) -> None:
        """One question and source with its samples.

        Raises:
          ValueError: something is missing, of the wrong type or contradicts an earlier line.
        """
        self.started = True
        identity = _key(record.get("id"), "id")
        where = f"question {identity!r}"
        unknown = [name for name in record if name not in _RECORD_FIELDS]
        if unknown:
            raise ValueError(f"{where}: {unknown[0]}: unknown field; known: {', '.join(_RECORD_FIELDS)}")
        question = record.get("question")
        if not isinstance(question, str):
            raise ValueError(f"{where}: question: expected a text, got {_show(question)}")
        gold, group = (_optional_key(record.get(name), f"{where}: {name}") for name in ("gold", "group"))
        source = record.get("source")
        if not isinstance(source, str) or not source:
            raise ValueError(f"{where}: source: expected a name, got {_show(source)}")
        if source not in self.sources:
            if self.described:
                raise ValueError(f"{where}: source: {source!r} is none of {', '.join(map(repr, self.sources))}")
            self.sources[source] = Source(source)
        where = f"{where}, source {source!r}"
        samples = record.get("samples")
        if not isinstance(samples, list) or not samples:
            raise ValueError(f"{where}: samples: expected a list of at least one sample, got {_show(samples)}")

        row = self.ids.get(identity)
        if row is not None:
            for name, old, new in zip(
                ("question", "gold", "group"), self.text[row], (question, gold, group), strict=True
            ):
                if old != new:
                    raise ValueError(f"{where}: {name}: {_show(new)} here, {_show(old)} in an earlier line")
            if (row, source) in self.pairs:
                raise ValueError(f"{where}: this pair occurs twice")
        parsed = [_sample(sample, f"{where}: samples[{j}]") for j, sample in enumerate(samples)]
        if any(answer is not None for answer, *_ in parsed):
            for j, (answer, correct, _) in enumerate(parsed):
                if answer is None and correct:
                    raise ValueError(f"{where}: samples[{j}]: answer: null, yet correct is true")

        if row is None:
            row = self.ids[identity] = len(self.ids)
            self.text.append((question, gold, group))
            self.codes.append({})
        codes = self.codes[row]
        self.pairs[row, source] = len(parsed)
        for answer, correct, values in parsed:
            self.answer.append(-1 if answer is None else codes.setdefault(answer, len(codes)))
            self.correct.append(correct)
            for name, value in zip(SAMPLE_FIELDS, values, strict=True):
                self.fields[name].append(value)

    def log(self) -> SampleLog:
        """The log of all records so far."""
        names = list(self.sources)
        count = np.zeros((len(self.ids), len(names)), np.int32)
        for (row, source), n in self.pairs.items():
            count[row, names.index(source)] = n
        # The samples lie in the order of the lines; each pair goes to its own row of slots.
        pair = np.array([row * len(names) + names.index(source) for row, source in self.pairs])
        sizes = np.fromiter(self.pairs.values(), np.int64, len(self.pairs))
        slot = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        shape = (*count.shape, int(sizes.max()))
        place = np.repeat(pair, sizes) * shape[2] + slot

        def packed(values: array, kind: type, padding: float) -> np.ndarray:
            out = np.full(shape, padding, kind)
            out.reshape(-1)[place] = np.asarray(values)
            return out

        fields = {}
        for name, values in self.fields.items():
            known = not np.isnan(np.asarray(values)).all()
            fields[name] = packed(values, np.float32, np.nan) if known else None
        question, gold, group = zip(*self.text, strict=True)
        return SampleLog(
            ids=tuple(self.ids),
            question=question,
            gold=gold,
            group=group,
            sources=tuple(self.sources.values()),
            answers=tuple(tuple(codes) for codes in self.codes),
            count=count,
            answer=packed(self.answer, np.int32, -1),
            correct=packed(self.correct, bool, False),
            **fields,
        )


def _sample(sample: Any, where: str) -> tuple[str | None, bool, list[float]]:
    """(answer, correct, the values of SAMPLE_FIELDS with NaN for unknown) of one sample."""
    if not isinstance(sample, dict):
        raise ValueError(f"{where}: expected an object, got {_show(sample)}")
    for name in sample:
        if name not in ("answer", "correct", *SAMPLE_FIELDS):
            raise ValueError(f"{where}: {name}: unknown field; known: answer, correct, {', '.join(SAMPLE_FIELDS)}")
    answer = _optional_key(sample.get("answer"), f"{where}: answer")
    correct = sample.get("correct")
    if correct not in (0, 1) or isinstance(correct, float):
        raise ValueError(f"{where}: correct: expected true or false, got {_show(correct)}")
    values = []
    for name in SAMPLE_FIELDS:
        value = sample.get(name)
        value = math.nan if value is None else _number(value, f"{where}: {name}")
        if value < 0 and name in _NON_NEGATIVE:
            raise ValueError(f"{where}: {name}: {value} is negative")
        values.append(value)
    return answer, bool(correct), values


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: expected a number or null, got {_show(value)}")
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{where}: {_show(value)} is not a finite float32")
    return float(value)


def _key(value: Any, where: str) -> str:
    """A string, or a number as its string, so that 4, 4.0 and "4" are one answer."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{where}: expected a text or a number, got {_show(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not finite")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value)


def _optional_key(value: Any, where: str) -> str | None:
    return None if value is None else _key(value, where)


def _show(value: Any) -> str:
    """A value for an error message, cut short."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
