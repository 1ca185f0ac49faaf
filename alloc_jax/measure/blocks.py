"""A table that does not fit into memory, a few hundred thousand questions at a time, from its parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from alloc_jax.files.parquet import parquet
from alloc_jax.measure.store import parquet_header
from alloc_jax.types import AllocationProblem

_BUFFER = 2**22  # bytes of a column that are read from the disk at a time, so that a row group of any length is


class TableBlocks(Sequence):
    """The questions of a stored table as problems of bounded size: a sequence that reads the file on each access.

    Only utility, cost and valid are read. A block never reaches over the end of a row group, so that any block is
    found without reading the blocks before it.

    Args:
      paths: parquet files that `save_table` wrote (or of its form), in order: one table in parts.
      rows: the most questions of a block; memory is a few blocks, whatever the length of the files.
      shard: (i, n): the i-th of n parts of the row groups, so that n processes read each question once, in order.

    Raises:
      FileNotFoundError: no such file.
      ImportError: pyarrow is missing; the message names the extra.
      ValueError: no table, or one of another form; fewer row groups than parts.
    """

    def __init__(
        self,
        paths: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        rows: int = 2**18,
        shard: tuple[int, int] = (0, 1),
    ):
        self.paths = tuple(map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths))
        self.rows = rows
        if rows < 1 or not 0 <= shard[0] < shard[1]:
            raise ValueError(f"rows is at least 1 and a shard is (i, n) with i < n, got rows {rows} and shard {shard}")
        groups, self._full, shapes = [], True, {}
        for path in self.paths:
            header, about, shape = _form(path)
            shapes[shape] = path
            if len(shapes) > 1:
                (one, first), (other, second) = list(shapes.items())[:2]
                raise ValueError(
                    f"{second} has {other[0]} actions and {other[1]} resources, {first} has {one[0]} and {one[1]}: not parts of one table"
                )
            self.actions, self.resources = (tuple(header["fields"][name]) for name in ("actions", "resources"))
            for g in range(about.num_row_groups):
                groups.append((path, g, about.row_group(g).num_rows))
                self._full &= _all_valid(about.row_group(g))
        groups = [group for group in groups if group[2]]
        if len(groups) < shard[1]:
            raise ValueError(
                f"{self.paths[0]}: {len(groups)} row groups do not make {shard[1]} parts: save it in shorter row groups"
            )
        part = slice(*(len(groups) * i // shard[1] for i in (shard[0], shard[0] + 1)))
        self.questions = sum(size for *_, size in groups[part])
        self.table_questions = sum(size for *_, size in groups)
        self._groups = groups[part]
        self._first_block = np.cumsum([0, *(-(-size // rows) for *_, size in self._groups)])

    def __len__(self) -> int:
        return int(self._first_block[-1])

    def __getitem__(self, i: int) -> AllocationProblem:  # type: ignore[override]  # a block at a time, no slices
        if not 0 <= i < len(self):
            raise IndexError(f"block {i} of {len(self)}")
        group = int(np.searchsorted(self._first_block, i, side="right")) - 1
        return next(islice(self._read(group), i - int(self._first_block[group]), None))

    def __iter__(self) -> Iterator[AllocationProblem]:
        for group in range(len(self._groups)):
            yield from self._read(group)

    def _read(self, group: int) -> Iterator[AllocationProblem]:
        path, number, _ = self._groups[group]
        names = ["utility", "cost"] if self._full else ["utility", "cost", "valid"]
        try:
            with parquet().ParquetFile(path, buffer_size=_BUFFER) as file:
                for batch in file.iter_batches(self.rows, row_groups=[number], columns=names):
                    utility, cost, *valid = (_matrix(batch.column(name)) for name in names)
                    if len(self.resources) > 1:
                        cost = cost.reshape(*utility.shape, -1)
                    yield AllocationProblem(utility, cost, *valid)  # type: ignore[arg-type]  # NumPy arrays, as a caller may give
        except GeneratorExit:
            raise
        except Exception as error:  # whatever the library says of a broken file
            raise ValueError(f"{path}: row group {number} is broken: {error}") from None


def _form(path: Path):
    """A file's header, its metadata and the shape of its rows."""
    header = parquet_header(path)
    with parquet().ParquetFile(path) as file:
        types = {field.name: field.type for field in file.schema_arrow}
        about = file.metadata
    sizes = {getattr(types.get(name), "list_size", None) for name in ("utility", "cost", "valid")}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(f"{path}: utility, cost and valid are lists of one length each, got {types}")
    return header, about, (sizes.pop(), len(header["fields"]["resources"]))


def _all_valid(group) -> bool:
    """Whether the statistics of a row group say that every action may be taken, so that `valid` need not be read."""
    for k in range(group.num_columns):
        column = group.column(k)
        if column.path_in_schema.split(".")[0] == "valid":
            found = column.statistics
            return bool(found is not None and found.has_min_max and found.min is True and not found.null_count)
    return False


def _matrix(column) -> np.ndarray:
    values, width = column, 1
    while hasattr(values.type, "list_size"):  # a cost of one resource may be a list in a list
        width *= values.type.list_size
        values = values.flatten()
    if len(values) != len(column) * width or values.null_count:
        raise ValueError("a question without values")
    return values.to_numpy(zero_copy_only=False).reshape(-1, width)
