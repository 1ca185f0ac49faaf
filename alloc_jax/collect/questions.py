"""Questions to ask, from JSON lines, CSV or parquet."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet_rows
from alloc_jax.files.text import csv_rows, json_lines


@dataclass(frozen=True)
class Question:
    """One question to sample, with its reference answer."""

    id: str
    text: str
    gold: str | None  # the reference answer; None where it is unknown
    group: str | None = None  # such as a subject


def read_questions(
    path: str | os.PathLike,
    *,
    id_field: str = "id",
    question_field: str = "question",
    gold_field: str = "gold",
    group_field: str = "group",
) -> list[Question]:
    """The questions in a file, whose name ends in .jsonl, .csv or .parquet.

    Args:
      path: the file.
      id_field: unique; a row without it is known by a hash of its text, wherever it stands in the file.
      question_field: the text.
      gold_field: the reference answer; may be absent, and then nothing can be graded from the file alone.
      group_field: may be absent.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the message names the file, the row and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no questions at {path}")
    found: dict[str, Question] = {}
    for where, row in _rows(path):
        try:
            if isinstance(row, ValueError):
                raise row
            if question_field not in row:
                raise ValueError(f"no {question_field!r}; the row has {', '.join(map(repr, row)) or 'nothing'}")
            identity = _text(row.get(id_field), id_field)
            text = _text(row[question_field], question_field)
            if text is None or not text.strip():
                raise ValueError(f"{question_field}: the question is empty")
            if identity is None and (identity := text_id(text)) in found:
                raise ValueError(
                    f"{question_field}: this text occurs twice; rows of one text need an {id_field!r} each"
                )
            if identity in found:
                raise ValueError(f"{id_field}: {identity!r} occurs twice")
        except ValueError as error:
            raise ValueError(f"{path}, {where}: {error}") from None
        gold, group = _text(row.get(gold_field), gold_field), _text(row.get(group_field), group_field)
        found[identity] = Question(identity, text, gold, group)
    if not found:
        raise ValueError(f"{path}: no questions")
    return list(found.values())


def text_id(text: str) -> str:
    """The id of a question that has none: the same text has the same, whatever stands before it in a file.

    >>> text_id("2 + 2")
    '7c20da2e36a7'
    """
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def parse_shard(text: str) -> tuple[int, int]:
    """(i, k) of "i/k", the i-th of k parts, i from 1.

    Raises:
      ValueError: it is no such text.

    >>> parse_shard("2/4")
    (2, 4)
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip(), re.ASCII)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise ValueError(f"a shard is i/k with i from 1 to k, got {text!r}")
    return part, parts


def in_shard(question: Question, part: int, parts: int) -> bool:
    """Whether a question belongs to a part; that depends on its id alone, whatever else the file holds."""
    return int.from_bytes(hashlib.blake2b(question.id.encode(), digest_size=8).digest()) % parts == part - 1


def _rows(path: Path) -> Iterator[Row]:
    readers = {".jsonl": json_lines, ".csv": csv_rows, ".parquet": parquet_rows}
    if path.suffix not in readers:
        raise ValueError(f"{path}: questions come in files that end in {', '.join(readers)}")
    return readers[path.suffix](path)


def _text(value: object, name: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
        raise ValueError(f"{name}: expected a text, got {value!r}")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: half a surrogate pair, which no server takes: {value!r}") from None
    return None if value is None or value == "" else str(value)
