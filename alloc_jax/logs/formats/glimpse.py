"""A first look at a file: as much of its content as it takes to tell one format from another."""

from __future__ import annotations

import csv
import json
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

from alloc_jax.files.parquet import parquet_columns

_HEAD = 1 << 20
_DECODER = json.JSONDecoder()


class Glimpse:
    """What the beginning of a file shows.

    `kind` is "zip", "parquet", "pickle", "object" (JSON), "array" (JSON), "text" or "empty".
    """

    def __init__(self, path: Path):
        self.path = path
        with open(path, "rb") as file:
            head = file.read(_HEAD)
        self.text = head.decode("utf-8-sig", errors="replace")
        if head.startswith(b"PK"):
            self.kind = "zip"
        elif head.startswith(b"PAR1"):
            self.kind = "parquet"
        elif head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
            self.kind = "pickle"
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
            return tuple(next(csv.reader(self.text.splitlines(keepends=True), strict=True), ()))
        except csv.Error:
            return ()

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of the first JSON object (of an array: of its first element), as far as the look reaches.

        The value of a field that is not wholly in view is the text of its beginning, as a `Cut`.
        """
        if self.kind not in ("object", "array"):
            return {}
        found: dict[str, Any] = {}
        at = self._skip(self.text.index("{") if "{" in self.text else len(self.text), "{")
        while self.text[at : at + 1] == '"':
            try:
                name, at = _DECODER.raw_decode(self.text, at)
                at = self._skip(at, ":")
                found[name] = Cut(self.text[at : at + 200])
                found[name], at = _DECODER.raw_decode(self.text, at)
            except (ValueError, RecursionError):
                break
            at = self._skip(at, ",")
        return found

    def _skip(self, at: int, character: str) -> int:
        """Past white space, the character if it is there, and white space."""
        for pattern in (" \t\r\n", character, " \t\r\n"):
            while self.text[at : at + 1] and self.text[at] in pattern:
                at += 1
                if pattern == character:
                    break
        return at


class Cut(str):
    """The beginning of a value that is not wholly in view."""
