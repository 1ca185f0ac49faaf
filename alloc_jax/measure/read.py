"""Sample logs as files: JSON lines, checked at the door, and written whole or not at all.

    {"sources": {"large/think": {"parameters": 1.2e6}}}
    {"id": "q1", "question": "2 + 2", "gold": "4", "group": "sum", "source": "large/think", "samples": [{"answer": "4",
     "correct": true, "prompt_tokens": 5, "cached_tokens": 4, "completion_tokens": 12, "reasoning_tokens": null,
     "latency_s": 0.2}, ...]}

The first line may describe the sources, which are then the only ones. Every other line holds one (id, source), and
needs `id`, `question`, `source` and `samples`, and of a sample `correct`. An unknown value is null or absent, never 0;
an answer that is null means that the sample gave none.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.measure.gather import Gatherer, LogError
from alloc_jax.types import SAMPLE_FIELDS, SampleLog

FORMATS = ("jsonl",)


def read_log(path: str | os.PathLike, format: str = "jsonl") -> SampleLog:
    """Read a sample log.

    Args:
      path: a file, or "builtin" for the samples of the built-in reasoner.
      format: "jsonl", the form above.

    Returns:
      A `SampleLog`: sources in the order of the file's first line, else of their first appearance.

    Raises:
      FileNotFoundError: no such file.
      LogError: the file is empty or broken; the message names file, line, question and field.
      ValueError: an unknown format.
    """
    if path == "builtin":
        from alloc_jax.reasoner import builtin_log

        return builtin_log()
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no sample log at {path}")
    gatherer = Gatherer()
    for number, record in _records(path):
        try:
            if "sources" in record:
                gatherer.describe(record)
            else:
                gatherer.add(record)
        except ValueError as error:
            raise LogError(f"{path}, line {number}: {error}") from None
    if not gatherer.ids:
        raise LogError(f"{path}: the log has no questions")
    return gatherer.log()


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with their line numbers, one line in memory at a time; blank lines are skipped."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise LogError(f"{where}: not UTF-8 at byte {error.start}") from None
            if not text.strip():
                continue
            try:
                record = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
            except json.JSONDecodeError as error:
                raise LogError(f"{where}: broken JSON at column {error.colno}: {error.msg}") from None
            except RecursionError:
                raise LogError(f"{where}: broken JSON: nested too deeply") from None
            except ValueError as error:
                raise LogError(f"{where}: {error}") from None
            if "\\u" in text and not _encodable(record):
                raise LogError(f"{where}: half a surrogate pair (\\ud800 to \\udfff) is not a character")
            if not isinstance(record, dict):
                raise LogError(f"{where}: expected a JSON object, got {type(record).__name__}")
            yield number, record


def _encodable(record: Any) -> bool:
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON or a sample log knows; an unknown value is null")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)}: the field occurs twice")
    return record


def write_log(log: SampleLog, path: str | os.PathLike) -> None:
    """Write a log as JSON lines. `read_log` gives it back; fields that no sample has are left out.

    The file appears whole: it is written beside its place and then renamed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for record in _lines(log):
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _lines(log: SampleLog) -> Iterator[Mapping[str, Any]]:
    yield {"sources": {s.name: {"parameters": s.parameters, **s.details} for s in log.sources}}
    fields = {name: values for name in SAMPLE_FIELDS if (values := getattr(log, name)) is not None}
    for i in range(len(log)):
        head = {"id": log.ids[i], "question": log.question[i], "gold": log.gold[i], "group": log.group[i]}
        for m, source in enumerate(log.sources):
            n = int(log.count[i, m])
            if not n:
                continue
            samples = [
                {"answer": None if code < 0 else log.answers[i][code], "correct": bool(right)}
                for code, right in zip(log.answer[i, m, :n], log.correct[i, m, :n], strict=True)
            ]
            for name, values in fields.items():
                for sample, value in zip(samples, values[i, m, :n], strict=True):
                    sample[name] = _plain(value)
            yield {**head, "source": source.name, "samples": samples}


def _plain(value: np.float32) -> int | float | None:
    """The shortest number that reads back as the same float32; null where unknown."""
    if math.isnan(value):
        return None
    return int(value) if float(value).is_integer() else float(str(value))
