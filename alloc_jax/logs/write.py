"""Writing a sample log, whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.logs.formats.sample_log import write_parquet
from alloc_jax.types import SAMPLE_FIELDS, SampleLog


def write_log(log: SampleLog, path: str | os.PathLike) -> None:
    """Write a log, which `read_log` gives back: parquet where the name ends in .parquet, else JSON lines.

    Fields that no sample has are left out of JSON lines, and empty in parquet. The file appears whole: it is written
    beside its place and then renamed.

    Raises:
      ImportError: parquet without pyarrow; the message names the extra.
    """
    sources = {s.name: {"parameters": s.parameters, **s.details} for s in log.sources}
    with new_file(path) as part:
        if Path(path).suffix == ".parquet":
            write_parquet(_records(log), sources, part)
            return
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            for record in ({"sources": sources}, *map(_by_sample, _records(log))):
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """A place to write a file at; it moves to its name when the block ends well and goes when it does not."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _records(log: SampleLog) -> Iterator[dict[str, Any]]:
    """The pairs that have samples, these as one list a field."""
    fields = {name: values for name in SAMPLE_FIELDS if (values := getattr(log, name)) is not None}
    for i in range(len(log)):
        head = {"id": log.ids[i], "question": log.question[i], "gold": log.gold[i], "group": log.group[i]}
        for m, source in enumerate(log.sources):
            if n := int(log.count[i, m]):
                samples = {
                    "answer": [None if code < 0 else log.answers[i][code] for code in log.answer[i, m, :n]],
                    "correct": log.correct[i, m, :n].tolist(),
                }
                samples |= {name: [_plain(value) for value in values[i, m, :n]] for name, values in fields.items()}
                yield {**head, "source": source.name, "samples": samples}


def _by_sample(record: dict[str, Any]) -> dict[str, Any]:
    columns = record["samples"]
    return {**record, "samples": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _plain(value: np.float32) -> int | float | None:
    """The shortest number that reads back as the same float32; null where unknown."""
    if math.isnan(value):
        return None
    return int(value) if float(value).is_integer() else float(str(value))
