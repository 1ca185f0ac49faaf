"""Sample logs as files: read in any known format, validated when read, and written whole or not at all.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats import FORMATS, Frame, Options, Reader, Table, find_reader, is_frame
from alloc_jax.logs.formats.batch import read_requests
from alloc_jax.logs.formats.reader import field
from alloc_jax.logs.grade import METHODS, Grader
from alloc_jax.logs.grading import Grading, Located, check_responses, fitting_grader
from alloc_jax.logs.records import LogBuilder, LogError
from alloc_jax.types import SampleLog

PathLike = str | os.PathLike
Log = Any  # a path, or a frame of pandas or polars, or a table of pyarrow

SHIPPED_LOGS = ("builtin", "smollm2")  # that the package brings, by name
_LISTED = 5  # skipped records that are listed, with their reasons
_LOOKED_AT = 200  # records whose reference answers choose the grader
_NEEDS = {
    "requests": "--requests, the file of its requests, or of its questions as lines of id, question and gold",
    "gold": "--gold, a file of lines with id and gold, its reference answers",
}


class LogWarning(UserWarning):
    """A log was read, and something about it should be known before it is trusted."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A sample log with the account of how it was read: formats, skipped records, responses that could not be graded."""

    log: SampleLog
    formats: tuple[str, ...]  # of each file
    skipped: int  # bad records
    reasons: tuple[str, ...]  # of the first few of them
    failures: Mapping[
        str, int
    ]  # responses that could not be graded, by what went wrong; each is a sample without an answer
    notes: tuple[str, ...]  # what else should be known, one sentence each


def read_log(path: Log | Sequence[Log], format: str | None = None, **options) -> SampleLog:
    """Read a sample log.

    Args:
      path: a file, or several that make one log, or a folder of them; or a frame of pandas or polars or a table of pyarrow with one row per sample;
        "builtin" for the samples of the built-in reasoner, "smollm2" for those of SmolLM2-135M-Instruct.
      format: one of `formats.FORMATS`; by default the content tells.
      **options: see `read_logs`.

    Returns:
      A `SampleLog`: sources in the order of the file's description of them, else of their first appearance.

    Raises:
      FileNotFoundError: no such file.
      LogError: a file is empty or broken; the message names file, line, question and field, and shows a good record.
      ValueError: an unknown format, or options that do not fit it.

    Warns:
      LogWarning: records were skipped, responses could not be graded, or the log has a peculiarity.
    """
    reading = read_logs(path, format, **options)
    for note in notes_of(reading):
        warnings.warn(note, LogWarning, stacklevel=2)
    return reading.log


def read_logs(
    path: Log | Sequence[Log],
    format: str | None = None,
    *,
    skip_bad: bool = False,
    source: str | None = None,
    gold: PathLike | Mapping[str, str] | None = None,
    requests: PathLike | Mapping[str, str] | None = None,
    grader: str | None = None,
    timeout_s: float = 5.0,
    tokenizer: PathLike | Callable[[str], Any] | None = None,
    threshold: float | None = None,
    scorer: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Reading:
    """Read a sample log, and keep account of what was skipped and what could not be graded.

    Args:
      path: see `read_log`.
      format: see `read_log`.
      skip_bad: leave bad records out, and count and list them, rather than raise at the first.
      source: the name of the source, in formats whose files do not name it.
      gold: reference answers by question id, or a file of JSON lines with `id` and `gold`.
      requests: the questions of a batch by custom_id, or the file of its requests, or one of JSON lines with `id` and `question`,
        and `gold` where there is no other.
      grader: how responses are graded in formats that do not say what is right; see `grade`. By default the reference answers
        tell, and a note says so.
      timeout_s: the grader's limit for one response. A response that cannot be graded is a sample without an answer,
        wrong, and counted.
      tokenizer: counts tokens in formats without counts: a function from a text to its tokens or their number, or a
        `tokenizer.json`.
      threshold: a score of at least this is right, in formats with scores between right and wrong.
      scorer: the scorer that decides, where a log has several; "judge.right" is the value `right` of the scorer `judge`.
      columns: our names of fields (`question`, `source`, `answer`, `correct`, ...) and the columns of a table that hold them,
        where their names do not tell.

    Raises: see `read_log`.
    """
    if isinstance(path, str) and path in SHIPPED_LOGS:
        return Reading(log=_shipped_log(path), formats=(path,), skipped=0, reasons=(), failures={}, notes=())
    if isinstance(requests, (str, os.PathLike)):
        requests, answers = read_requests(Path(requests))
        gold = answers or None if gold is None else gold
    options = Options(
        source=source,
        gold=_read_gold(Path(gold)) if isinstance(gold, (str, os.PathLike)) else gold,
        requests=requests,
        grader=grader,
        tokenizer=_token_counter(tokenizer),
        threshold=threshold,
        scorer=scorer,
        columns=columns,
    )
    paths = [path] if isinstance(path, (str, os.PathLike)) or is_frame(path) else list(path)
    readers = [_open(p, format, options) for part in paths for p in _files(part)]
    if grader is None and (ungraded := [reader for reader in readers if reader.ungraded()]):
        grader = _choose_grader(ungraded)
    builder, account = LogBuilder(), _Failures(skip_bad)
    with ExitStack() as stack:
        grading = Grading(stack.enter_context(Grader(grader, timeout_s))) if grader else None
        for reader in readers:
            builder.only = None
            records = _records(reader, account)
            if grading:
                records = grading.graded(records, partial(account.bad, reader))
            for where, record in records:
                try:
                    if "sources" in record:
                        builder.describe(record["sources"])
                    else:
                        builder.add(record, record.pop("repeat", None))
                        account.good += 1
                except ValueError as error:
                    account.bad(reader, where, error)
            try:
                reader.finish()
            except ValueError as error:
                raise LogError(f"{reader.path}: {error}{_shape(reader)}") from None
        if grading:
            account.failures = grading.failures
            builder.unite(grading.united())
    names = ", ".join(str(reader.path) for reader in readers)
    if not builder.ids:
        raise LogError(f"{names}: the log has no questions{account.why()}{_shape(readers[0])}")
    log, mute = builder.log()
    notes = [f"{reader.path}: {note}" for reader in readers for note in reader.notes]
    if mute:
        notes.append(
            f"{names}: {mute} pairs of question and source have a right sample without an answer: all their answers are left"
            " out, so that they serve pass@k and best of k, and no votes"
        )
    return Reading(
        log=log,
        formats=tuple(reader.name for reader in readers),
        skipped=account.skipped,
        reasons=tuple(account.reasons),
        failures=dict(account.failures),
        notes=tuple(notes),
    )


def notes_of(reading: Reading) -> list[str]:
    """What should be known of a log before it is trusted, one sentence each."""
    notes = list(reading.notes)
    if reading.skipped:
        more = [f"and {reading.skipped - len(reading.reasons)} more"] * (reading.skipped > len(reading.reasons))
        notes.append(f"{reading.skipped} bad records were skipped: {'; '.join([*reading.reasons, *more])}")
    if reading.failures:
        what = ", ".join(f"{count} {name}" for name, count in sorted(reading.failures.items()))
        notes.append(
            f"{sum(reading.failures.values())} responses could not be graded: {what}; each is a sample without an answer"
        )
    return notes


def format_reading(reading: Reading) -> str:
    """The formats that a log was read in, and a line for each thing that should be known of it."""
    formats = [f"{name} ({n} files)" if n > 1 else name for name, n in Counter(reading.formats).items()]
    return "\n".join([f"format: {', '.join(formats)}", *(f"note: {note}" for note in notes_of(reading)), ""])


class _Failures:
    """What was skipped, and what could not be graded."""

    def __init__(self, skip_bad: bool):
        self.skip_bad = skip_bad
        self.skipped = self.good = 0
        self.reasons: list[str] = []
        self.failures: Counter[str] = Counter()

    def bad(self, reader: Reader, where: str, error: ValueError) -> None:
        reason = f"{reader.path}, {where}: {error}"
        if not self.skip_bad:
            way = "; --skip_bad leaves such records out, and lists them" if self.good else ""
            raise LogError(reason + way + _shape(reader)) from None
        self.skipped += 1
        if len(self.reasons) < _LISTED:
            self.reasons.append(reason)

    def why(self) -> str:
        parts = [f"; {self.skipped} bad records were skipped, the first: {self.reasons[0]}"] if self.skipped else []
        return "".join(parts + [f"; {sum(self.failures.values())} responses could not be graded"] * bool(self.failures))


def _shape(reader: Reader) -> str:
    """The end of a refusal: what a record should look like."""
    return f"\n  a record of format {reader.name} looks like this: {reader.example}"


def _files(log: Log) -> list[Log]:
    """The files of a log: a folder's are those below it that look like a log, all of one format.

    Raises:
      FileNotFoundError: there is none.
      LogError: a folder holds logs of several formats.
    """
    if is_frame(log) or Path(log).is_file():
        return [log]
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(log).rglob("*")):
        if path.is_file():
            with suppress(ValueError, OSError):
                found.setdefault(find_reader(path).name, []).append(path)
    if not found:
        raise FileNotFoundError(f"no sample log at {log}")
    if len(found) > 1:
        kinds = ", ".join(f"{len(paths)} of format {name} ({paths[0]})" for name, paths in found.items())
        raise LogError(f"{log}: a folder with logs of several formats: {kinds}; name the files of one log")
    return next(iter(found.values()))


def _choose_grader(readers: Sequence[Reader]) -> str:
    """The grader that the first reference answers of logs ask for, which their readers then use and say."""
    golds = []
    for reader in readers:
        look = type(reader)(getattr(reader, "frame", reader.path), replace(reader.options, grader="text"))
        records = (record for _, record in _records(look, _Failures(skip_bad=True)))
        golds += [record["gold"] for record in islice(records, _LOOKED_AT) if record.get("gold") is not None]
    method, why = fitting_grader(golds)
    for reader in readers:
        reader.options = replace(reader.options, grader=method)
    others = ", ".join(name for name in METHODS if name != method)
    readers[0].notes.append(f"graded by {method!r}, as {why}; --grader names another ({others})")
    return method


def _open(log: Log, format: str | None, options: Options) -> Reader:
    """The reader of a file or a frame, once its options fit."""
    path = Path("frame") if is_frame(log) else Path(log)
    try:
        named = format or (Table.name if options.columns is not None else None)  # naming columns makes it a table
        kind = Frame if is_frame(log) else find_reader(path, named)
    except ValueError as error:
        unknown = named is not None and named not in FORMATS  # the caller's slip, not the file's
        raise error if unknown else LogError(str(error)) from None
    given = {option.name for option in fields(Options) if getattr(options, option.name) is not None}
    for option in sorted(given.difference(kind.uses)):
        if option == "columns":
            raise ValueError(f"{path}: columns name those of a table, and this is a log of format {kind.name}")
        raise ValueError(f"{path}: {option} says nothing in a log of format {kind.name}")
    if lacking := [_NEEDS[option] for option in kind.needs if option in _NEEDS and option not in given]:
        raise ValueError(f"{path}: a log of format {kind.name} needs {'; and '.join(lacking)}")
    return kind(log if is_frame(log) else path, options)


def _records(reader: Reader, account: _Failures) -> Iterator[Located]:
    for where, row in reader.rows():
        try:
            if isinstance(row, ValueError):
                raise row
            records = list(reader.records(row))
            for record in records:
                check_responses(record)
        except ValueError as error:
            account.bad(reader, where, error)
            continue
        for record in records:
            yield where, record


def _shipped_log(name: str) -> SampleLog:
    if name == "builtin":
        from alloc_jax.reasoner import builtin_log

        return builtin_log()
    from alloc_jax.smollm2 import smollm2_log

    return smollm2_log()


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
