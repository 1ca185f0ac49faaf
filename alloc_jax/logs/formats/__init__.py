"""The file formats that a sample log can come in, by name, and the choice among them by a look at the file."""

from pathlib import Path

from alloc_jax.files.text import POINTER
from alloc_jax.logs.formats.batch import Batch
from alloc_jax.logs.formats.code import EvalPlus, HumanEval
from alloc_jax.logs.formats.helm import Helm
from alloc_jax.logs.formats.inspect_ai import InspectEval, InspectJson
from alloc_jax.logs.formats.journal import JournalLog
from alloc_jax.logs.formats.lighteval import Lighteval
from alloc_jax.logs.formats.lm_eval import LmEval
from alloc_jax.logs.formats.npz import Archive
from alloc_jax.logs.formats.reader import Options, Reader
from alloc_jax.logs.formats.repeated import BestRoute, Monkeys, QwenMath
from alloc_jax.logs.formats.routers import LLMRouterBench, RouteLLM, RouterArena, RouterBench
from alloc_jax.logs.formats.sample_log import JsonLines, ParquetLog
from alloc_jax.logs.formats.sniff import Glimpse
from alloc_jax.logs.formats.table import Frame, Table, is_frame

_READERS = (
    JsonLines,
    ParquetLog,
    Archive,
    JournalLog,
    LmEval,
    InspectEval,
    InspectJson,
    Lighteval,
    Batch,
    RouterBench,
    LLMRouterBench,
    RouteLLM,
    BestRoute,
    Monkeys,
    QwenMath,
    RouterArena,
    HumanEval,
    EvalPlus,
    Helm,
    Table,
)
FORMATS: dict[str, type[Reader]] = {reader.name: reader for reader in _READERS}


def find_reader(path: Path, format: str | None = None) -> type[Reader]:
    """The reader of a file: by the name of its format, else by what the file looks like.

    Raises:
      ValueError: an unknown name, or a file that looks like no format or like several.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    glimpse = Glimpse(path)
    if glimpse.kind == "compressed":
        raise ValueError(f"{path}: a compressed file, which is not read: {glimpse.unpacker} it, and read what it holds")
    if format is not None:
        return FORMATS[format]
    if glimpse.kind == "pointer":
        raise ValueError(f"{path}: {POINTER}")
    if glimpse.kind == "empty":
        raise ValueError(f"{path}: the log has no questions: the file is empty")
    if glimpse.kind == "pickle":
        raise ValueError(
            f"{path}: a pickle, and loading one runs whatever code is in it; where you trust it, save it as parquet:"
            " pandas.read_pickle(path).to_parquet(...)"
        )
    found = [reader for reader in FORMATS.values() if reader.recognises(glimpse)]
    if len(found) > 1 and Table in found:
        found.remove(Table)  # others know more of their columns
    if len(found) == 1:
        return found[0]
    likeness = f"looks like {' and '.join(r.name for r in found)}" if found else _strangeness(glimpse)
    raise ValueError(
        f"{path}: {likeness}. A table of one row per sample is enough: {Table.example}; where its columns have other names,"
        f" --columns=question=...,source=...,answer=...,correct=... tells. Else name its format, --format={'|'.join(FORMATS)};"
        f" or write a line of our own form for each question and source: {JsonLines.example}"
    )


def _strangeness(glimpse: Glimpse) -> str:
    """What is seen of a file that is like no format."""
    if glimpse.kind in ("object", "array"):
        fields = ", ".join(map(repr, list(glimpse.fields)[:8]))
        return f"JSON of no known format: its first object has {fields or 'no whole field'}"
    if glimpse.kind == "zip":
        return f"a zip of no known format{'' if glimpse.members else ', broken'}"
    if glimpse.kind == "parquet":
        return f"parquet of no known format, with columns {', '.join(glimpse.columns[:8]) or 'that cannot be read'}"
    return (
        f"a table of no known format, with columns {', '.join(glimpse.columns[:8])}"
        if len(glimpse.columns) > 1
        else "no known format"
    )


__all__ = ["FORMATS", "Frame", "Options", "Reader", "Table", "find_reader", "is_frame"]
