"""Our own sample log as JSON lines; the form is described in `alloc_jax.logs.read`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats.reader import Reader


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
