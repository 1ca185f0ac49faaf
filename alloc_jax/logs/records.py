"""Checking the records of a sample log one by one, and packing them into the arrays of a `SampleLog`.

Readers of every format bring their records into one form and get the same checks here:

    {"id", "question", "gold", "group", "source", "samples"}

where `samples` is a list of objects, one a sample, or an object of columns, one list a field.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alloc_jax.types import SAMPLE_FIELDS, SampleLog, Source

Place = Callable[[int, str], str]  # (sample, field) -> where that is, for an error message

_RECORD_FIELDS = ("id", "question", "gold", "group", "source", "samples")
_SAMPLE_FIELDS = ("answer", "correct", *SAMPLE_FIELDS)
_NON_NEGATIVE = frozenset(SAMPLE_FIELDS) - {"reward"}
_LARGEST = float(np.finfo(np.float32).max)
_TEXT = {str, type(None)}
_NUMBER = {int, float, type(None)}


class LogError(ValueError):
    """A file is not a sample log; the message names file, line, question and field."""


class LogBuilder:
    """Collects records in compact form, one at a time; errors name the question and the field."""

    def __init__(self):
        self.sources: dict[str, Source] = {}
        self.only: set[str] | None = None  # the sources that the file has described, which are then the only ones
        self.ids: dict[str, int] = {}
        self.text: list[tuple[str, str | None, str | None]] = []  # question, gold, group
        self.codes: list[dict[str, int]] = []  # of each question's answers
        self.pairs: dict[tuple[int, str], int] = {}  # (question, source) -> its number
        self.united: dict[int, Mapping[str, str]] = {}  # of a question, answers that are another name of one
        self.repeats: set[tuple[int, int]] = set()  # (pair, repeat) of pairs that come in pieces
        self.pieces = (
            array("q"),
            array("q"),
            array("q"),
        )  # of each record: its pair, its number of samples, its repeat
        self.answer = array("i")
        self.correct = array("b")
        self.fields = {name: array("f") for name in SAMPLE_FIELDS}

    def describe(self, sources: Any) -> None:
        """The sources by name, with their parameter counts and whatever else is known of them.

        Raises:
          ValueError: it is no such description, or contradicts an earlier one.
        """
        if not isinstance(sources, dict) or not sources:
            raise ValueError(f"sources: expected an object of sources by name, got {_show(sources)}")
        described = {}
        for name, details in sources.items():
            if not name or not isinstance(details, dict):
                raise ValueError(f"sources: expected an object for source {name!r}, got {_show(details)}")
            _check_encodable([name, json.dumps(details, ensure_ascii=False)], "sources")
            details = dict(details)
            parameters = details.pop("parameters", None)
            if parameters is not None:
                parameters = _number(parameters, f"sources: {name!r}: parameters")
                if parameters <= 0:
                    raise ValueError(
                        f"sources: {name!r}: parameters is {parameters}; a count is positive, null if unknown"
                    )
            described[name] = Source(name, parameters, details)
            if name in self.sources and self.sources[name] != described[name]:
                raise ValueError(f"sources: {name!r} is described otherwise in an earlier file")
        self.sources |= described
        self.only = set(described)

    def add(self, record: Mapping[str, Any], repeat: int | None = None) -> None:
        """One question and source with its samples; it changes nothing where it raises.

        Args:
          record: the form above.
          repeat: which part of the pair's samples this is, in logs that hold a pair in pieces; each comes once, in any order.

        Raises:
          ValueError: something is missing, of the wrong type or contradicts an earlier record.
        """
        identity = _key(record.get("id"), "id")
        where = f"question {identity!r}"
        if not record.keys() <= set(_RECORD_FIELDS):
            unknown = next(name for name in record if name not in _RECORD_FIELDS)
            raise ValueError(f"{where}: {unknown}: unknown field; known: {', '.join(_RECORD_FIELDS)}")
        question = record.get("question")
        if not isinstance(question, str):
            raise ValueError(f"{where}: question: expected a text, got {_show(question)}")
        gold, group = record.get("gold"), record.get("group")
        if not {type(gold), type(group)} <= _TEXT:
            gold, group = _optional_key(gold, f"{where}: gold"), _optional_key(group, f"{where}: group")
        source = record.get("source")
        if not isinstance(source, str) or not source:
            raise ValueError(f"{where}: source: expected a name, got {_show(source)}")
        if self.only is not None and source not in self.only:
            raise ValueError(f"{where}: source: {source!r} is none of {', '.join(map(repr, self.only))}")
        where = f"{where}, source {source!r}"
        columns, place = _columns(record.get("samples"), where)
        correct = _bits(columns["correct"], place)
        n = len(correct)
        answers = _answers(columns.get("answer", [None] * n), place)
        if None in answers and any(answer is not None for answer in answers):
            for j, (answer, right) in enumerate(zip(answers, correct, strict=True)):
                if right and answer is None:
                    raise ValueError(f"{place(j, 'answer')}: null, yet correct is true")
        fields = {name: _numbers(values, name, place) for name, values in columns.items() if name in self.fields}
        _check_encodable([identity, question, gold, group, source, *answers], where)

        row = self.ids.get(identity)
        if row is not None and self.text[row] != (question, gold, group):
            for name, old, new in zip(
                ("question", "gold", "group"), self.text[row], (question, gold, group), strict=True
            ):
                if old != new:
                    raise ValueError(f"{where}: {name}: {_show(new)} here, {_show(old)} in an earlier line")
        if repeat is not None and abs(repeat) >= 2**63:
            raise ValueError(f"{where}: sample {_show(repeat)}: no such number of a sample")
        pair = self.pairs.get((row, source))
        if pair is not None and (repeat is None or (pair, repeat) in self.repeats):
            raise ValueError(f"{where}{'' if repeat is None else f', sample {repeat}'}: this pair occurs twice")

        if row is None:
            row = self.ids[identity] = len(self.ids)
            self.text.append((question, gold, group))
            self.codes.append({})
        if pair is None:
            pair = self.pairs[row, source] = len(self.pairs)
        if repeat is not None:
            self.repeats.add((pair, repeat))
        self.sources.setdefault(source, Source(source))
        codes = self.codes[row]
        self.pieces[0].append(pair)
        self.pieces[1].append(n)
        self.pieces[2].append(repeat or 0)
        self.answer.extend([-1 if answer is None else codes.setdefault(answer, len(codes)) for answer in answers])
        self.correct.extend(correct)
        for name, values in fields.items():
            self._pad(self.fields[name], len(self.correct) - n)
            self.fields[name].extend(values)

    @staticmethod
    def _pad(values: array, length: int) -> None:
        """Fill up what earlier records did not say; a field that none says stays empty until the end."""
        values.extend(array("f", [math.nan]) * (length - len(values)))

    def unite(self, same: Mapping[str, Mapping[str, str]]) -> None:
        """Make answers one: by question id, the answer that another is called by from now on."""
        for identity, names in same.items():
            if (row := self.ids.get(identity)) is not None:
                self.united[row] = names

    def log(self) -> tuple[SampleLog, int]:
        """The log of all records so far.

        Returns:
          The log; and the pairs of question and source that have a right sample without an answer beside others with one.
          Their answers are left out: which of them is right is unknown, and their bits are not.
        """
        names = {name: m for m, name in enumerate(self.sources)}
        pair, size, repeat = (np.asarray(part, np.int64) for part in self.pieces)
        cell = np.array([row * len(names) + names[source] for row, source in self.pairs], np.int64)[pair]
        count = np.bincount(cell, size, minlength=len(self.ids) * len(names)).astype(np.int32)
        shape = (len(self.ids), len(names), int(count.max()))
        # Pieces lie in the order of the records. Those of a pair go by their repeat: tools write what is done first first.
        order = np.lexsort((repeat, cell))
        before, first = np.cumsum(size[order]) - size[order], np.cumsum(count) - count
        start = np.empty_like(size)
        start[order] = cell[order] * shape[2] + before - first[cell[order]]
        place = np.repeat(start - (np.cumsum(size) - size), size) + np.arange(size.sum())  # of each sample

        def packed(values: array, kind: type, padding: float) -> np.ndarray:
            out: np.ndarray = np.full(shape, padding, kind)
            out.reshape(-1)[place] = np.asarray(values)
            return out

        fields: dict[str, Any] = {}
        for name, values in self.fields.items():
            self._pad(values, len(self.correct))
            known = not np.isnan(np.asarray(values)).all()
            fields[name] = packed(values, np.float32, np.nan) if known else None
        question, gold, group = zip(*self.text, strict=True)
        answer, correct = packed(self.answer, np.int32, -1), packed(self.correct, bool, False)
        mute = (correct & (answer < 0)).any(axis=2) & (answer >= 0).any(axis=2)
        answer[mute] = -1
        answers = [tuple(codes) for codes in self.codes]
        for row, same in self.united.items():
            answers[row], code = _renumbered(answers[row], same)
            answer[row] = np.where(answer[row] < 0, -1, code[answer[row]])
        log = SampleLog(
            ids=tuple(self.ids),
            question=question,
            gold=gold,
            group=group,
            sources=tuple(self.sources.values()),
            answers=tuple(answers),
            count=count.reshape(shape[:2]),
            answer=answer,
            correct=correct,
            **fields,
        )
        return log, int(mute.sum())


def _renumbered(answers: Sequence[str], names: Mapping[str, str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The answers that are left once some are united, and the new code of each old one."""
    left: dict[str, int] = {}
    code = [left.setdefault(names.get(answer, answer), len(left)) for answer in answers]
    return tuple(left), np.array(code, np.int32)


def _columns(samples: Any, where: str) -> tuple[Mapping[str, Sequence[Any]], Place]:
    """The samples as one list a field, all of one length, and what names a place in them."""

    def place(j: int, name: str) -> str:
        return f"{where}: samples[{j}]: {name}"

    if isinstance(samples, dict):
        columns = samples
        for name, values in columns.items():
            if not isinstance(values, (list, tuple)):
                raise ValueError(f"{where}: {name}: expected a list, got {_show(values)}")
    else:
        if not isinstance(samples, list) or not samples:
            raise ValueError(f"{where}: samples: expected a list of at least one sample, got {_show(samples)}")
        for j, sample in enumerate(samples):
            if not isinstance(sample, dict):
                raise ValueError(f"{where}: samples[{j}]: expected an object, got {_show(sample)}")
        columns = {name: [sample.get(name) for sample in samples] for name in ("correct", *set().union(*samples))}
    length = len(columns.get("correct", ()))
    for name, values in columns.items():
        if name not in _SAMPLE_FIELDS:
            j = 0 if columns is samples else next(j for j, sample in enumerate(samples) if name in sample)
            raise ValueError(f"{place(j, name)}: unknown field; known: {', '.join(_SAMPLE_FIELDS)}")
        if len(values) != length:
            raise ValueError(f"{where}: {name}: {len(values)} values for {length} samples")
    if not length:
        raise ValueError(f"{where}: samples: expected at least one")
    return columns, place


# Each column is first checked as a whole, which is fast, and searched for the offending sample where that fails.


def _answers(column: Sequence[Any], place: Place) -> Sequence[str | None]:
    if set(map(type, column)) <= _TEXT:
        return column
    return [_optional_key(value, place(j, "answer")) for j, value in enumerate(column)]


def _bits(column: Sequence[Any], place: Place) -> Sequence[int]:
    if not set(map(type, column)) <= {bool, int} or not set(column) <= {0, 1}:
        for j, value in enumerate(column):
            if type(value) not in (bool, int) or value not in (0, 1):
                raise ValueError(f"{place(j, 'correct')}: expected true or false, got {_show(value)}")
    return column


def _numbers(column: Sequence[Any], name: str, place: Place) -> array:
    """Float32 values, NaN where unknown."""
    lowest = 0 if name in _NON_NEGATIVE else -_LARGEST
    if set(map(type, column)) <= _NUMBER:
        known = [value for value in column if value is not None] if None in column else column
        if not known or (lowest <= min(known) and max(known) <= _LARGEST and not any(map(math.isnan, known))):
            return array("f", column if known is column else [math.nan if v is None else v for v in column])
    values = array("f")
    for j, value in enumerate(column):
        value = math.nan if value is None else _number(value, place(j, name))
        if value < lowest:
            raise ValueError(f"{place(j, name)}: {value} is negative")
        values.append(value)
    return values


def _check_encodable(texts: Sequence[str | None], where: str) -> None:
    try:
        "".join(filter(None, texts)).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: half a surrogate pair (\\ud800 to \\udfff) is not a character") from None


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
