"""A plain long table, the form that most people have: one row per sample, in CSV, parquet, JSON, or a frame in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet_columns, parquet_rows
from alloc_jax.files.text import Document, csv_rows, is_array, json_lines
from alloc_jax.logs.formats.reader import Reader, accepted, bit, number
from alloc_jax.types import SAMPLE_FIELDS

# our name of a field -> what columns that hold it are called; `is_correct`, `isCorrect` and `Is Correct` are one name
_CALLED: dict[str, tuple[str, ...]] = {
    "id": ("id", "question_id", "qid", "sample_id"),
    "question": ("question", "prompt", "query", "problem", "input"),
    "source": ("source", "model", "model_name", "llm"),
    "answer": ("answer", "prediction", "predicted", "pred", "answers", "predictions", "preds"),
    "response": ("response", "output", "completion", "generation", "responses", "outputs", "completions"),
    "correct": ("correct", "is_correct", "score", "accuracy", "passed", "is_corrects", "scores"),
    "gold": ("gold", "target", "ground_truth", "reference", "gold_answer", "correct_answer", "expected", "label"),
    "group": ("group", "category", "task", "dataset", "subject"),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "cached_tokens": ("cached_tokens",),
    "cache_write_tokens": ("cache_write_tokens",),
    "completion_tokens": ("completion_tokens", "output_tokens", "tokens"),
    "reasoning_tokens": ("reasoning_tokens",),
    "latency_s": ("latency_s", "latency", "seconds"),
    "usd": ("usd", "cost_usd", "cost"),
    "reward": ("reward",),
}
COLUMNS = tuple(_CALLED)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


_NAMES = {_bare(called): (rank, ours) for ours, all_ in _CALLED.items() for rank, called in enumerate(all_)}


def names_of(columns: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our name of a field -> the column that holds it: as given, else the one whose name says it first.

    Raises:
      ValueError: a given name is none of `COLUMNS`, or its column is not there.
    """
    columns = list(columns)
    found = dict(given or {})
    for ours, column in found.items():
        if ours not in COLUMNS:
            raise ValueError(f"columns: {ours!r} is no field; known: {', '.join(COLUMNS)}")
        if column not in columns:
            raise ValueError(f"columns: there is no column {column!r}; there are {', '.join(map(str, columns))}")
    ranked = sorted((_NAMES[_bare(c)][0], place, c) for place, c in enumerate(columns) if _bare(c) in _NAMES)
    for _, _, column in ranked:
        if column not in found.values():
            found.setdefault(_NAMES[_bare(column)][1], column)
    return found


class Table(Reader):
    """`question, source, answer, correct, cost`, or as `columns` names them; several rows of a pair are its samples.

    A row of JSON may hold several samples, as lists of one length. A question is named by its `id`, else by the place of its
    first row. `correct` decides, unless a grader compares `response` (or else `answer`) with `gold`. An empty cell is unknown.
    `cost` alone is read as dollars. Where nothing names the source, it is called after the file.
    """

    name = "table"
    about = "a long table, one row per sample: CSV, parquet, JSON lines or array, or a frame (pandas, polars, pyarrow)"
    example = "question,source,answer,correct,cost / 2 + 2?,gpt-4,4,1,0.0103"
    uses = ("columns", "grader", "gold", "source", "threshold")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.names: dict[str, str] | None = None
        self.places: dict[str, int] = {}
        self.repeats: dict[tuple[str, str], int] = {}

    @staticmethod
    def recognises(glimpse) -> bool:
        columns = glimpse.columns if glimpse.kind in ("text", "parquet") else glimpse.fields.keys()
        names = names_of(columns).keys()
        return bool({"question", "id"} & names) and (
            "correct" in names or {"answer", "gold"} <= names or {"response", "gold"} <= names
        )

    def rows(self) -> Iterator[Row]:
        with open(self.path, "rb") as file:
            head = file.read(64)
        if head.startswith(b"PAR1"):
            try:
                return parquet_rows(self.path, list(self._name(parquet_columns(self.path)).values()))
            except ValueError as error:
                return iter([("columns", error)])
        if is_array(self.path):
            return Document(self.path).rows()
        return json_lines(self.path) if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else csv_rows(self.path)

    def ungraded(self) -> bool:
        first = next((row for _, row in self.rows() if isinstance(row, dict)), {})
        try:
            names = names_of(first, self.options.columns).keys()
        except ValueError:  # which every row says again
            return False
        known = "gold" in names or self.options.gold is not None
        return "correct" not in names and known and bool({"response", "answer"} & names)

    def _name(self, columns: Iterable[str]) -> dict[str, str]:
        names = names_of(columns, self.options.columns)
        if not {"question", "id"} & names.keys():
            raise ValueError(
                f"no column of questions among {', '.join(map(str, columns))}; --columns=question=... names it"
            )
        graded = self.options.grader and {"response", "answer"} & names.keys()
        if not graded and "correct" not in names:
            raise ValueError(
                f"no column says what is right among {', '.join(map(str, columns))}; --columns=correct=... names it; or"
                " --columns=response=...,gold=... those of a response and of the reference answer it is compared with"
            )
        self.names = names
        return names

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if not isinstance(row, dict):
            raise ValueError(f"expected a row of columns, got {type(row).__name__}")
        names = self.names or self._name(row)
        cells = {ours: _plain(row.get(column)) for ours, column in names.items()}
        question = cells.get("question", cells.get("id"))
        question = question if question is None or isinstance(question, str) else str(question)
        identity = cells.get("id")
        if identity is None and question is not None:
            identity = f"{self.path.stem}/{self.places.setdefault(question, len(self.places))}"
        source = cells.get("source", self.options.source)
        if "source" not in names and self.options.source is None:
            source = self.path.stem
        pair = str(identity), str(source)
        several = _lists(cells, names)
        self.repeats[pair] = self.repeats.get(pair, -1) + 1
        samples: dict[str, Any] = {
            name: [number(value, names[name]) for value in several(name)]
            for name in SAMPLE_FIELDS
            if cells.get(name) is not None
        }
        gold = cells.get("gold")
        if gold is None and self.options.gold is not None:
            gold = self.options.gold.get(str(identity))
        if self.options.grader:
            if gold is None:
                raise ValueError(f"question {identity!r}: gold: there is none to compare with")
            gold = accepted(gold, names.get("gold", "gold"))
            said = several("response" if "response" in names else "answer")
            samples["response"] = ["" if text is None else str(text) for text in said]
        else:
            samples["correct"] = [bit(value, names["correct"], self.options.threshold) for value in several("correct")]
            samples["answer"] = several("answer")
        yield {
            "id": identity,
            "question": question,
            "gold": gold if gold is None or isinstance(gold, tuple) else str(gold),
            "group": cells.get("group"),
            "source": source if source is None else str(source),
            "repeat": self.repeats[pair],
            "samples": samples,
        }

    def finish(self) -> None:
        named = (self.names or {}).keys()
        if not self.options.grader and {"response", "gold"} <= named and "answer" not in named:
            self.notes.append(
                "no column holds answers, so that votes cannot be counted; --grader=number, or another, reads them from the responses"
            )
        if named and "source" not in named and self.options.source is None:
            self.notes.append(
                f"no column names the model: all samples are of the source {self.path.stem!r}; --source=NAME or"
                " --columns=source=COLUMN says otherwise"
            )
        if self.names and _bare(self.names.get("usd", "")) == "cost":
            self.notes.append(
                "the column 'cost' is read as US dollars; --columns=completion_tokens=cost would read it as tokens"
            )


class Frame(Table):
    """The same in memory: a frame of pandas or polars, or a table of pyarrow."""

    def __init__(self, frame, options):
        super().__init__(Path("frame"), options)
        self.frame = frame

    def rows(self) -> Iterator[Row]:
        frame = self.frame
        if hasattr(frame, "to_pylist"):  # pyarrow
            rows = (row for batch in frame.to_batches(256) for row in batch.to_pylist())
        elif hasattr(frame, "iter_rows"):  # polars
            rows = frame.iter_rows(named=True)
        else:
            columns = list(frame.columns)
            rows = (dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False, name=None))
        for place, row in enumerate(rows):
            yield f"row {place}", row


def is_frame(thing: Any) -> bool:
    """Whether it is a frame of pandas or polars, or a table of pyarrow."""
    return any(hasattr(thing, name) for name in ("itertuples", "iter_rows", "to_batches"))


def _lists(cells: Mapping[str, Any], names: Mapping[str, str]) -> Callable[[str], list]:
    """From a field to its values, one a sample; a cell that is no list is every sample's.

    Raises:
      ValueError: lists of different lengths.
    """
    lengths = {ours: len(cell) for ours, cell in cells.items() if isinstance(cell, list) and ours != "gold"}
    if len(set(lengths.values())) > 1:
        raise ValueError(", ".join(f"{names[ours]}: {length} samples" for ours, length in lengths.items()))
    count = next(iter(lengths.values()), 1)

    def values(ours: str) -> list:
        cell = cells.get(ours)
        return list(map(_plain, cell)) if isinstance(cell, list) else [cell] * count

    return values


def _plain(cell: Any) -> Any:
    """A cell as Python's own value; None where it is empty."""
    if hasattr(cell, "item") and not isinstance(cell, (str, bytes)):  # a number of NumPy
        cell = cell.item()
    if cell is None or (isinstance(cell, str) and not cell.strip()) or type(cell).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(cell, float) and cell != cell else cell
