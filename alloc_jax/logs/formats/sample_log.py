"""Our own sample log: one row per question and source, as JSON lines (the form is described in `alloc_jax.logs.read`) or as parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet, parquet_lists, parquet_rows
from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats.reader import Reader
from alloc_jax.types import SAMPLE_FIELDS

VERSION = 1
_KEY = b"alloc_jax sample log"
_HEAD = ("id", "question", "gold", "group", "source")
_ROWS = 10_000  # of a row group


class JsonLines(Reader):
    name = "jsonl"
    about = "our own sample log, one JSON object a question and source"
    example = (
        '{"id": "q1", "question": "2 + 2?", "gold": "4", "source": "gpt-4", "samples": [{"answer": "4", "correct": true,'
        ' "completion_tokens": 12}]}'
    )

    @staticmethod
    def recognises(glimpse) -> bool:
        known = {"id", "question", "source", "samples"}
        return glimpse.kind == "object" and ("sources" in glimpse.fields or known <= glimpse.fields.keys())

    def rows(self) -> Iterator[Row]:
        for number, (where, row) in enumerate(json_lines(self.path, strict=True)):
            if number and isinstance(row, dict) and "sources" in row:
                row = ValueError("sources: the line that describes the sources comes first, and once")
            yield where, row

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if "sources" in row and len(row) > 1:
            raise ValueError(f"sources: stands alone in its line, got {', '.join(row)}")
        if "repeat" in row:
            raise ValueError("repeat: unknown field")
        if isinstance(row.get("samples"), dict):
            raise ValueError("samples: expected a list of at least one sample, got an object")
        return [row]


class ParquetLog(Reader):
    name = "parquet"
    about = "our own sample log as parquet (version 1)"
    example = '{"id": "q1", "question": "2 + 2?", "gold": "4", "source": "gpt-4", "answer": ["4"], "correct": [true]}'

    @staticmethod
    def recognises(glimpse) -> bool:
        named = glimpse.kind == "parquet" and {"id", "question", "source", "correct"} <= set(glimpse.columns)
        return named and "correct" in parquet_lists(glimpse.path)  # else it is a table of one row per sample

    def rows(self) -> Iterator[Row]:
        try:
            metadata = parquet().read_schema(self.path).metadata or {}
            header = json.loads(metadata.get(_KEY, b'{"version": 1}'))
            if header.get("version") != VERSION:
                raise ValueError(f"version {header.get('version')}, and this is a reader of version {VERSION}")
        except ImportError:
            raise
        except Exception as error:  # whatever the library says of a broken file
            yield "schema", ValueError(f"broken parquet: {error}")
            return
        if "sources" in header:
            yield "schema", {"sources": header["sources"]}
        yield from parquet_rows(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if "sources" in row:
            return [row]
        samples = {name: row[name] for name in row if name not in _HEAD and row[name] is not None}
        return [{**{name: row.get(name) for name in _HEAD}, "samples": samples}]


def write_parquet(records: Iterable[dict[str, Any]], sources: dict[str, Any], path: str | os.PathLike) -> None:
    """Write records, in the columns form of the `LogBuilder`, row group by row group."""
    module = parquet()
    import pyarrow as pa

    text, numbers = pa.string(), pa.list_(pa.float32())
    kinds = {name: text for name in _HEAD} | {"answer": pa.list_(text), "correct": pa.list_(pa.bool_())}
    kinds |= dict.fromkeys(SAMPLE_FIELDS, numbers)
    header = json.dumps({"version": VERSION, "sources": sources}, ensure_ascii=False, allow_nan=False)
    schema = pa.schema(list(kinds.items()), metadata={_KEY: header.encode()})
    with module.ParquetWriter(Path(path), schema, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for record in records:
            rows.append({**{name: record.get(name) for name in _HEAD}, **record["samples"]})
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))
