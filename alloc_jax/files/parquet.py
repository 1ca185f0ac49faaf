"""Parquet files: their columns, and their rows in small batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alloc_jax.files import Row

_BATCH = 256  # rows in memory at a time


def parquet():
    """The module `pyarrow.parquet`.

    Raises:
      ImportError: it is not installed; the message names the extra.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("parquet files need pyarrow: pip install 'alloc_jax[parquet]'") from error
    return pyarrow.parquet


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The names of the columns; none where the file is broken."""
    module = parquet()
    try:
        return tuple(module.read_schema(path).names)
    except Exception:  # whatever the library says of a broken file
        return ()


def parquet_lists(path: Path) -> tuple[str, ...]:
    """The names of the columns whose cells are lists; none where the file is broken."""
    module = parquet()
    try:
        schema = module.read_schema(path)
    except Exception:  # whatever the library says of a broken file
        return ()
    return tuple(one.name for one in schema if str(one.type).startswith(("list", "large_list", "fixed_size_list")))


def parquet_rows(path: Path, columns: list[str] | None = None) -> Iterator[Row]:
    """The rows of a parquet file as objects of Python values, of the given columns or all."""
    module = parquet()
    number = 0
    try:
        with module.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=columns):
                for row in batch.to_pylist():
                    yield f"row {number}", row
                    number += 1
    except Exception as error:  # whatever the library says of a broken file; the rows so far are good
        yield f"row {number}", ValueError(f"broken parquet: {error}")
