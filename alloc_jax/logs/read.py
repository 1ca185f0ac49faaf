"""Sample logs as files: read in any known format, checked at the door, and written whole or not at all.

Our own form is JSON lines:

    {"sources": {"large/think": {"parameters": 1.2e6}}}
    {"id": "q1", "question": "2 + 2", "gold": "4", "group": "sum", "source": "large/think", "samples": [{"answer": "4",
     "correct": true, "prompt_tokens": 5, "cached_tokens": 4, "completion_tokens": 12, "reasoning_tokens": null,
     "latency_s": 0.2, "usd": 1.3e-5}, ...]}

The first line may describe the sources, which are then the only ones. Every other line holds one (id, source), and
needs `id`, `question`, `source` and `samples`, and of a sample `correct`. An unknown value is null or absent, never 0;
an answer that is null means that the sample gave none. The other formats stand in `alloc_jax.logs.formats`.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats import Options, Reader, find_reader
from alloc_jax.logs.formats.batch import read_requests
from alloc_jax.logs.formats.reader import field
from alloc_jax.logs.grade import METHODS, Grader
from alloc_jax.logs.records import Gatherer, LogError
from alloc_jax.types import SampleLog

PathLike = str | os.PathLike

_LISTED = 5  # skipped records that are listed, with their reasons
_GRADED = 2048  # responses that are graded at a time, in whole records
_NEEDS = {
    "requests": "the file of its requests, which hold the questions",
    "gold": "a file of reference answers",
    "grader": f"a grader ({', '.join(METHODS)}): it does not say which samples are right",
}


class LogWarning(UserWarning):
    """A log was read, and something about it should be known before it is trusted."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A log with what happened on the way."""

    log: SampleLog
    formats: tuple[str, ...]  # of each file
    skipped: int  # bad records
    reasons: tuple[str, ...]  # of the first few of them
    failures: Mapping[str, int]  # responses that could not be graded, by what went wrong
    notes: tuple[str, ...]  # what else should be known, one sentence each


def read_log(path: PathLike | Sequence[PathLike], format: str | None = None, **options) -> SampleLog:
    """Read a sample log.

    Args:
      path: a file, or several that make one log; "builtin" for the samples of the built-in reasoner.
      format: one of `formats.FORMATS`; by default the content tells.
      **options: see `read_logs`.

    Returns:
      A `SampleLog`: sources in the order of the file's description of them, else of their first appearance.

    Raises:
      FileNotFoundError: no such file.
      LogError: a file is empty or broken; the message names file, line, question and field.
      ValueError: an unknown format, or options that do not fit it.

    Warns:
      LogWarning: records were skipped, responses could not be graded, or the log has a peculiarity.
    """
    reading = read_logs(path, format, **options)
    for note in notes_of(reading):
        warnings.warn(note, LogWarning, stacklevel=2)
    return reading.log


def read_logs(
    path: PathLike | Sequence[PathLike],
    format: str | None = None,
    *,
    skip_bad: bool = False,
    source: str | None = None,
    gold: PathLike | Mapping[str, str] | None = None,
    requests: PathLike | Mapping[str, str] | None = None,
    grader: str | None = None,
    timeout_s: float = 5.0,
    ungraded: str = "drop",
    tokenizer: PathLike | Callable[[str], Any] | None = None,
    threshold: float | None = None,
    scorer: str | None = None,
) -> Reading:
    """Read a sample log, and keep account of what was skipped and what could not be graded.

    Args:
      path: see `read_log`.
      format: see `read_log`.
      skip_bad: leave bad records out, and count and list them, rather than raise at the first.
      source: the name of the source, in formats whose files do not name it.
      gold: reference answers by question id, or a file of JSON lines with `id` and `gold`.
      requests: the questions of a batch by custom_id, or the file of its requests.
      grader: how responses are graded in formats that do not say what is right; see `grade`.
      timeout_s: the grader's limit for one response.
      ungraded: "drop" leaves out a response that could not be graded, as if it had not been drawn; "wrong" keeps it,
        wrong and without an answer. Either way it is counted.
      tokenizer: counts tokens in formats without counts: a function from a text to its tokens or their number, or a
        `tokenizer.json`.
      threshold: a score of at least this is right, in formats with scores between right and wrong.
      scorer: the scorer that decides, where a log has several.

    Raises: see `read_log`.
    """
    if path == "builtin":
        from alloc_jax.reasoner import builtin_log

        return Reading(log=builtin_log(), formats=("builtin",), skipped=0, reasons=(), failures={}, notes=())
    if ungraded not in ("drop", "wrong"):
        raise ValueError(f"ungraded is {ungraded!r}; known: drop, wrong")
    options = Options(
        source=source,
        gold=_read_gold(Path(gold)) if isinstance(gold, (str, os.PathLike)) else gold,
        requests=read_requests(Path(requests)) if isinstance(requests, (str, os.PathLike)) else requests,
        grader=grader,
        tokenizer=_token_counter(tokenizer),
        threshold=threshold,
        scorer=scorer,
    )
    paths = [Path(path)] if isinstance(path, (str, os.PathLike)) else [Path(p) for p in path]
    readers = [_open(p, format, options) for p in paths]
    gatherer, account = Gatherer(), _Account(skip_bad)
    with ExitStack() as stack:
        grade = stack.enter_context(Grader(grader, timeout_s)) if grader else None
        for reader in readers:
            gatherer.only = None
            records = _records(reader, account)
            for where, record in _graded(records, grade, ungraded, account) if grade else records:
                try:
                    if "sources" in record:
                        gatherer.describe(record["sources"])
                    else:
                        gatherer.add(record, record.pop("repeat", None))
                except ValueError as error:
                    account.bad(reader.path, where, error)
            reader.finish()
    if not gatherer.ids:
        raise LogError(f"{', '.join(map(str, paths))}: the log has no questions{account.why()}")
    try:
        log = gatherer.log()
    except ValueError as error:
        raise LogError(f"{', '.join(map(str, paths))}: {error}") from None
    return Reading(
        log=log,
        formats=tuple(reader.name for reader in readers),
        skipped=account.skipped,
        reasons=tuple(account.reasons),
        failures=dict(account.failures),
        notes=tuple(f"{reader.path}: {note}" for reader in readers for note in reader.notes),
    )


def notes_of(reading: Reading) -> list[str]:
    """What should be known of a log before it is trusted, one sentence each."""
    notes = list(reading.notes)
    if reading.skipped:
        more = [f"and {reading.skipped - len(reading.reasons)} more"] * (reading.skipped > len(reading.reasons))
        notes.append(f"{reading.skipped} bad records were skipped: {'; '.join([*reading.reasons, *more])}")
    if reading.failures:
        what = ", ".join(f"{count} {name}" for name, count in sorted(reading.failures.items()))
        notes.append(f"{sum(reading.failures.values())} responses could not be graded: {what}")
    return notes


def format_reading(reading: Reading) -> str:
    """The formats that a log was read in, and a line for each thing that should be known of it."""
    formats = [f"{name} ({n} files)" if n > 1 else name for name, n in Counter(reading.formats).items()]
    return "\n".join([f"format: {', '.join(formats)}", *(f"note: {note}" for note in notes_of(reading)), ""])


class _Account:
    """What was skipped, and what could not be graded."""

    def __init__(self, skip_bad: bool):
        self.skip_bad = skip_bad
        self.skipped = 0
        self.reasons: list[str] = []
        self.failures: Counter[str] = Counter()

    def bad(self, path: Path, where: str, error: ValueError) -> None:
        reason = f"{path}, {where}: {error}"
        if not self.skip_bad:
            raise LogError(reason) from None
        self.skipped += 1
        if len(self.reasons) < _LISTED:
            self.reasons.append(reason)

    def why(self) -> str:
        parts = [f"; {self.skipped} bad records were skipped, the first: {self.reasons[0]}"] if self.skipped else []
        return "".join(parts + [f"; {sum(self.failures.values())} responses could not be graded"] * bool(self.failures))


def _open(path: Path, format: str | None, options: Options) -> Reader:
    """The reader of a file, once its options fit."""
    if not path.is_file():
        raise FileNotFoundError(f"no sample log at {path}")
    try:
        kind = find_reader(path, format)
    except ValueError as error:
        raise error if format is not None else LogError(str(error)) from None
    for option in fields(Options):
        given = getattr(options, option.name) is not None
        if given and option.name not in kind.uses:
            raise ValueError(f"{path}: {option.name} says nothing in a log of format {kind.name}")
        if not given and option.name in kind.needs:
            raise ValueError(f"{path}: a log of format {kind.name} needs {option.name}: {_NEEDS[option.name]}")
    return kind(path, options)


def _records(reader: Reader, account: _Account) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, row in reader.rows():
        try:
            if isinstance(row, ValueError):
                raise row
            records = list(reader.records(row))
            for record in records:
                _check_responses(record)
        except ValueError as error:
            account.bad(reader.path, where, error)
            continue
        for record in records:
            yield where, record


def _check_responses(record: Mapping[str, Any]) -> None:
    """Refuses columns that do not fit the responses, before these are graded."""
    samples = record.get("samples")
    if isinstance(samples, dict) and "response" in samples:
        n = len(samples["response"])
        for name, values in samples.items():
            if len(values) != n:
                raise ValueError(f"question {record.get('id')!r}: {name}: {len(values)} values for {n} responses")


def _graded(
    records: Iterable[tuple[str, dict[str, Any]]], grader: Grader, ungraded: str, account: _Account
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records with `response` replaced by `answer` and `correct`, a limited number at a time."""
    for part in _parts(records):
        asked = [(text, record["gold"]) for _, record in part for text in record.get("samples", {}).get("response", ())]
        grades = iter(grader.grade(*zip(*asked, strict=True)) if asked else ())
        for where, record in part:
            samples = record.get("samples", {})
            if "response" in samples:
                given = list(islice(grades, len(samples.pop("response"))))
                account.failures.update(g.failure for g in given if g.failure)
                keep = [ungraded == "wrong" or not g.failure for g in given]
                samples = {name: _kept(values, keep) for name, values in samples.items()}
                samples["answer"] = _kept([g.answer for g in given], keep)
                samples["correct"] = _kept([g.correct for g in given], keep)
                if not any(keep):
                    continue
                record = {**record, "samples": samples}
            yield where, record


def _parts(records: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The records in lists of about as many responses as are graded at a time."""
    part, size = [], 0
    for where, record in records:
        part.append((where, record))
        size += max(len(record.get("samples", {}).get("response", ())), 1)
        if size >= _GRADED:
            yield part
            part, size = [], 0
    yield part


def _kept(values: Sequence[Any], keep: Sequence[bool]) -> list[Any]:
    return [value for value, kept in zip(values, keep, strict=True) if kept]


def _read_gold(path: Path) -> dict[str, str]:
    """Reference answers by question id."""
    found: dict[str, str] = {}
    for where, row in json_lines(path):
        try:
            if isinstance(row, ValueError):
                raise row
            identity, gold = str(field(row, "id", (str, int))), str(field(row, "gold", (str, int, float)))
            if found.setdefault(identity, gold) != gold:
                raise ValueError(f"gold: {gold!r} here, {found[identity]!r} for id {identity!r} in an earlier line")
        except ValueError as error:
            raise LogError(f"{path}, {where}: {error}") from None
    return found


def _token_counter(tokenizer: PathLike | Callable[[str], Any] | None) -> Callable[[str], int] | None:
    """A function from a text to its number of tokens.

    Raises:
      ImportError: a file, and the package that reads it is not installed; the message names the extra.
    """
    if tokenizer is None:
        return None
    if isinstance(tokenizer, (str, os.PathLike)):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError("a tokenizer.json needs tokenizers: pip install 'alloc_jax[tokenizer]'") from error
        if not Path(tokenizer).is_file():
            raise FileNotFoundError(f"no tokenizer at {tokenizer}")
        try:
            loaded = Tokenizer.from_file(os.fspath(tokenizer))
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"{tokenizer}: no tokenizer.json: {error}") from None
        return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)

    def count(text: str) -> int:
        tokens = tokenizer(text)
        return tokens if isinstance(tokens, int) else len(tokens)

    return count
