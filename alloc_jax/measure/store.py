"""Outcome tables as files: one npz or parquet, with the version of its form and where the table came from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.files.parquet import parquet
from alloc_jax.logs.write import new_file
from alloc_jax.types import OutcomeTable

VERSION = 1  # of the form; a reader refuses any other
ROW_GROUP = 2**16  # questions of a row group: what processes share out, and a block to stream
FEWEST = 4  # row groups of a table that has so many questions, so that a few processes can share a small one
_KEY = "alloc_jax outcome table"
_TEXT = ("ids", "question", "group")  # the fields that hold one text per question; the other tuples are short
_FIELDS = {field.name: field for field in fields(OutcomeTable)}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a stored table came from."""

    inputs: tuple[Mapping[str, Any], ...]  # name, bytes and sha256 of each file that was measured
    options: Mapping[str, Any]  # what it was measured with
    versions: Mapping[str, str | None]  # of Python and of the packages that measured


def save_table(
    table: OutcomeTable,
    path: str | os.PathLike,
    *,
    inputs: Sequence[str | os.PathLike] = (),
    options: Mapping[str, Any] | None = None,
) -> None:
    """Save a table, which `load_table` gives back: parquet where the name ends in .parquet, npz where in .npz.

    Parquet holds one row per question, an action's values in lists, for other tools to read. The file appears whole or
    not at all, and the same table with the same provenance gives the same bytes.

    Args:
      table: the table.
      path: where to; an earlier file is replaced.
      inputs: the files that were measured, of which name, size and hash are kept.
      options: what they were read and measured with; plain values, as JSON knows them.

    Raises:
      FileNotFoundError: an input is not there.
      ImportError: parquet without pyarrow; the message names the extra.
      TypeError: options that JSON does not know.
      ValueError: the name ends otherwise.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".parquet"):
        raise ValueError(f"{path}: a table is saved as .npz or .parquet")
    columns, short = {}, {}
    for name in _FIELDS:
        value = getattr(table, name)
        if isinstance(value, np.ndarray) or name in _TEXT:
            columns[name] = value
        elif value is not None:
            short[name] = [item.name if isinstance(item, Action) else item for item in value]
    provenance = {
        "inputs": [_fingerprint(Path(file)) for file in inputs],
        "options": dict(options or {}),
        "versions": {"python": platform.python_version(), **versions("alloc_jax", "jax", "numpy")},
    }
    header = json.dumps({"version": VERSION, "fields": short, "provenance": provenance}, allow_nan=False)
    with new_file(path) as part:
        (_write_npz if path.suffix == ".npz" else _write_parquet)(part, header, columns)


def load_table(path: str | os.PathLike) -> OutcomeTable:
    """Load a table that `save_table` saved.

    Raises:
      FileNotFoundError: no such file.
      ImportError: parquet without pyarrow; the message names the extra.
      ValueError: no table, a broken one, or one whose form is of another version; the message names the file.
    """
    header, columns = _read(Path(path))
    try:
        values = {name: tuple(value) for name, value in header["fields"].items()} | columns
        unknown = values.keys() - _FIELDS.keys()
        if unknown:
            raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
        for name, field in _FIELDS.items():
            if name not in values and field.default is MISSING:
                raise ValueError(f"{name}: missing")
        values["actions"] = tuple(map(Action.parse, values["actions"]))
        n, k = len(values["ids"]), len(values["actions"])
        for name, value in columns.items():
            wanted = (n,) if name in _TEXT else (n, k)
            got = (len(value),) if name in _TEXT else value.shape
            if got[: len(wanted)] != wanted:
                raise ValueError(f"{name}: shape {got}, expected {wanted} to begin with")
            if name not in _TEXT and value.dtype.kind not in "bif":
                raise ValueError(f"{name}: type {value.dtype}, expected numbers or bits")
        return OutcomeTable(**values)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: a broken outcome table: {error}") from None


def provenance(path: str | os.PathLike) -> Provenance:
    """Where a stored table came from.

    Raises: see `load_table`.
    """
    found = _read(Path(path), columns=False)[0]["provenance"]
    return Provenance(inputs=tuple(found["inputs"]), options=found["options"], versions=found["versions"])


def versions(*packages: str) -> dict[str, str | None]:
    """The versions of installed packages; None for one that is not installed as a package."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _fingerprint(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _read(path: Path, columns: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header, of the version known here, and the columns by name."""
    with open(path, "rb") as file:
        head = file.read(4)
    read = {b"PK\x03\x04": _read_npz, b"PAR1": _read_parquet}.get(head)
    if read is None:
        raise ValueError(f"{path}: no outcome table: neither npz nor parquet")
    try:
        found = read(path, columns)
    except ImportError:
        raise
    except Exception as error:  # whatever the libraries say of a broken file
        raise ValueError(f"{path}: a broken outcome table: {error}") from None
    if found is None:
        raise ValueError(f"{path}: no outcome table, but another file in its format")
    header, values = found
    version = header.get("version") if isinstance(header, dict) else None
    if version != VERSION:
        raise ValueError(f"{path}: an outcome table of version {version!r}, and only version {VERSION} is known here")
    return header, values


# ---------------------------------------------------------------------------------------------------------------
# npz: an array a field; texts and the header as JSON, because NumPy's text arrays take the longest text's room for
# every one and lose zeros at their ends
# ---------------------------------------------------------------------------------------------------------------


def _write_npz(path: Path, header: str, columns: Mapping[str, Any]) -> None:
    packed: dict[str, Any] = {name: _packed(json.dumps(v)) if name in _TEXT else v for name, v in columns.items()}
    with open(path, "wb") as file:
        np.savez_compressed(file, **(packed | {_KEY: _packed(header)}))


def _read_npz(path: Path, columns: bool) -> tuple[Any, dict[str, Any]] | None:
    with zipfile.ZipFile(path) as archive:
        if f"{_KEY}.npy" not in archive.namelist():
            return None
    with np.load(path, allow_pickle=False) as archive:
        header = _unpacked(archive[_KEY])
        names = [name for name in archive.files if name != _KEY] if columns else []
        return header, {n: tuple(_unpacked(archive[n])) if n in _TEXT else archive[n] for n in names}


def _packed(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _unpacked(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())


# ---------------------------------------------------------------------------------------------------------------
# parquet: one row per question
# ---------------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, header: str, columns: Mapping[str, Any]) -> None:
    module = parquet()
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        array = pa.array(values, pa.string()) if name in _TEXT else pa.array(values.reshape(-1))
        for size in () if name in _TEXT else reversed(values.shape[1:]):
            array = pa.FixedSizeListArray.from_arrays(array, size)
        arrays[name] = array
    made = pa.table(arrays).replace_schema_metadata({_KEY: header})
    rows = max(min(ROW_GROUP, -(-len(made) // FEWEST)), 1)
    module.write_table(made, path, compression="zstd", row_group_size=rows)


def parquet_header(path: Path) -> dict[str, Any]:
    """The header of a table in parquet: the fields that are short, and where it came from.

    Raises: see `load_table`.
    """
    header = _read(path, columns=False)[0]
    with open(path, "rb") as file:
        if file.read(4) != b"PAR1":
            raise ValueError(f"{path}: not parquet: save the table under a name that ends in .parquet")
    return header


def _read_parquet(path: Path, columns: bool) -> tuple[Any, dict[str, Any]] | None:
    module = parquet()
    header = (module.read_schema(path).metadata or {}).get(_KEY.encode())
    if header is None:
        return None
    table = module.read_table(path) if columns else None
    found: dict[str, Any] = {}
    for name in table.column_names if columns else ():
        column = table[name].combine_chunks()
        if name in _TEXT:
            found[name] = tuple(column.to_pylist())
            continue
        shape = [len(column)]
        while hasattr(column.type, "list_size"):
            shape.append(column.type.list_size)
            column = column.flatten()
        found[name] = column.to_numpy(zero_copy_only=False).reshape(shape)
    return json.loads(header), found
