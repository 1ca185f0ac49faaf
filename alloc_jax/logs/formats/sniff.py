"""A first look at a file: as much of its content as it takes to tell one format from another."""

from __future__ import annotations

import csv
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

from alloc_jax.files.parquet import parquet_columns
from alloc_jax.files.text import csv_delimiter, is_pointer, top_fields

_HEAD = 1 << 20
_UNPACKERS = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}  # by first bytes


class Glimpse:
    """What the beginning of a file shows.

    `kind` is "zip", "parquet", "pickle", "compressed", "pointer" (Git LFS), "object" (JSON), "array" (JSON), "text" or "empty".
    """

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        self.unpacker = next((tool for magic, tool in _UNPACKERS.items() if head.startswith(magic)), None)
        self.text = head.decode("utf-8-sig", errors="replace")
        if head.startswith(b"PK"):
            self.kind = "zip"
        elif head.startswith(b"PAR1"):
            self.kind = "parquet"
        elif head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
            self.kind = "pickle"
        elif self.unpacker:
            self.kind = "compressed"
        elif is_pointer(self.text):
            self.kind = "pointer"
        else:
            self.kind = {"{": "object", "[": "array", "": "empty"}.get(self.text.lstrip()[:1], "text")

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The names in a zip file; none where it is no zip, or broken."""
        if self.kind != "zip":
            return ()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return tuple(archive.namelist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, UnicodeDecodeError):
            return ()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of a parquet file, or the cells of the first line of a text."""
        if self.kind == "parquet":
            return parquet_columns(self.path)
        if self.kind != "text":
            return ()
        try:
            lines = self.text.splitlines(keepends=True)
            return tuple(next(csv.reader(lines, strict=True, delimiter=csv_delimiter(lines[0])), ()))
        except csv.Error:
            return ()

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of the first JSON object (of an array: of its first element), however large their values are.

        A large value is the text of its beginning.
        """
        return top_fields(self.path) if self.kind in ("object", "array") else {}
