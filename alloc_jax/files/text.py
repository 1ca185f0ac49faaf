"""Going through text files: lines, JSON lines, JSON documents and CSV, never more than one record in memory."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from alloc_jax.files import Row

LARGEST = 1 << 27  # bytes of one line or record; a longer one is refused before it is read
_CHUNK = 1 << 16
_POINTER = "version https://git-lfs.github.com/spec/"  # how Git LFS marks a file that it holds elsewhere
POINTER = "a Git LFS pointer, which stands for a file that was not downloaded: git lfs pull"


def lines(path: Path) -> Iterator[tuple[int, str | ValueError]]:
    """The lines of a file with their numbers; an error where one is too long or not UTF-8. Blank lines are skipped."""
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(LARGEST + 1):
            number += 1
            if len(line) > LARGEST:
                yield number, ValueError(f"a line of more than {LARGEST >> 20} MiB")
                while len(line) > LARGEST and not line.endswith(b"\n"):
                    line = file.readline(LARGEST + 1)
                continue
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                yield number, ValueError(f"not UTF-8 at byte {error.start}")
                continue
            if text.strip():
                yield number, text


def json_lines(path: Path, strict: bool = False) -> Iterator[Row]:
    """The JSON objects of a file, one a line.

    Args:
      path: the file.
      strict: whether a field that occurs twice and numbers that JSON does not know (NaN) are refused.
    """
    for number, text in lines(path):
        yield f"line {number}", text if isinstance(text, ValueError) else parse(text, strict)


def is_pointer(text: str) -> bool:
    """Whether a text is what Git LFS leaves in the place of a file that was not downloaded."""
    return text.startswith(_POINTER)


def parse(text: str, strict: bool = False) -> dict[str, Any] | ValueError:
    """One JSON object, or what is wrong with it."""
    if is_pointer(text):
        return ValueError(POINTER)
    try:
        record = _STRICT.decode(text) if strict else json.loads(text)
    except json.JSONDecodeError as error:
        return ValueError(f"broken JSON at column {error.colno}: {error.msg}")
    except RecursionError:
        return ValueError("broken JSON: nested too deeply")
    except ValueError as error:  # from the two below, or a number of thousands of digits
        return error
    if not isinstance(record, dict):
        return ValueError(f"expected a JSON object, got {type(record).__name__}")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON or a sample log knows; an unknown value is null")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)}: the field occurs twice")
    return record


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)


# ---------------------------------------------------------------------------------------------------------------
# JSON documents
# ---------------------------------------------------------------------------------------------------------------


def is_array(path: Path) -> bool:
    """Whether the file is one JSON array."""
    with open(path, "rb") as file:
        return file.read(1024).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


class Document:
    """One JSON document, read value by value: an array, or an object of which one field is a long array.

    `header` fills with the other fields of the object as they go by.
    """

    def __init__(self, path: Path, array: str | None = None):
        self.path, self.array = path, array
        self.header: dict[str, Any] = {}

    def rows(self) -> Iterator[Row]:
        """The elements of the array. What is broken ends it: there is no telling where the next element begins."""
        with open(self.path, "rb") as file:
            window = _Window(file)
            try:
                if self.array is None:
                    yield from _elements(window, "record")
                else:
                    yield from self._fields(window)
                window.end()
            except ValueError as error:
                yield f"byte {window.bytes}", error

    def _fields(self, window: _Window) -> Iterator[Row]:
        window.take("{")
        found = False
        while window.peek() != "}":
            name = window.value()
            if not isinstance(name, str):
                raise ValueError(f"broken JSON: expected the name of a field, got {name!r:.60}")
            window.take(":")
            if name == self.array:
                found = True
                yield from _elements(window, name)
            else:
                self.header[name] = window.value()
            if window.peek() != "}":
                window.take(",")
        window.take("}")
        if not found:
            raise ValueError(f"{self.array}: expected a list, got nothing")


def _elements(window: _Window, name: str) -> Iterator[Row]:
    window.take("[")
    j = 0
    while window.peek() != "]":
        element = window.value()
        if isinstance(element, dict):
            yield f"{name}[{j}]", element
        else:
            yield f"{name}[{j}]", ValueError(f"expected a JSON object, got {type(element).__name__}")
        j += 1
        if window.peek() != "]":
            window.take(",")
    window.take("]")


def top_fields(path: Path, most: int = 1 << 26) -> dict[str, Any]:
    """The fields of the first JSON object of a file (of an array: of its first element), in order.

    Large values are passed over without being kept: a value of more than 64 KiB is its beginning, as a `Beginning`. The look
    ends where the object does, at what is broken, or in a value of more than `most` characters.
    """
    found: dict[str, Any] = {}
    with open(path, "rb") as file:
        window = _Window(file, errors="replace")
        try:
            if window.peek() == "[":
                window.take("[")
            window.take("{")
            while window.peek() == '"':
                name = window.value()
                window.take(":")
                window.peek()
                found[name] = Beginning(window.text[window.at : window.at + 200])
                found[name] = window.skip(most)
                if window.peek() != ",":
                    break
                window.take(",")
        except (ValueError, RecursionError):
            pass
    return found


class Beginning(str):
    """The beginning of a value that is not kept whole."""


class _Window:
    """The part of a document that is in memory: from the value at hand to the end of what was read."""

    def __init__(self, file: BinaryIO, errors: str = "strict"):
        self.file = file
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")(errors)
        self.text, self.at, self.ended = "", 0, False
        self.bytes = 0  # read so far

    def more(self, size: int = _CHUNK) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        chunk = self.file.read(size)
        self.ended = not chunk
        self.bytes += len(chunk)
        try:
            self.text = self.text[self.at :] + self.decoder.decode(chunk, self.ended)
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {error.reason}") from None
        self.at = 0
        return True

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def take(self, character: str) -> None:
        got = self.peek()
        if got != character:
            raise ValueError(f"broken JSON: expected {character!r}, got {repr(got) if got else 'the end of the file'}")
        self.at += 1

    def end(self) -> None:
        if got := self.peek():
            raise ValueError(f"broken JSON: expected the end of the file, got {got!r}")

    def value(self) -> Any:
        """The next value whole. What it needs is read in steps that double, so that it is parsed about twice."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended:  # else a number may go on
                    self.at = end
                    return value
                broken = ""
            except json.JSONDecodeError as error:
                broken = f"broken JSON: {error.msg}"
            except RecursionError:
                raise ValueError("broken JSON: nested too deeply") from None
            if len(self.text) - self.at > LARGEST:
                raise ValueError(f"a value of more than {LARGEST >> 20} MiB, or {broken or 'a broken one'}")
            if not self.more(max(_CHUNK, len(self.text) - self.at)) and broken:
                raise ValueError(broken)

    def skip(self, most: int) -> Any:
        """The next value where it is small; else its beginning, once it is passed."""
        self.peek()
        while len(self.text) - self.at < _CHUNK and self.more():
            pass
        try:
            value, end = _DECODER.raw_decode(self.text, self.at)
            if end < len(self.text) or self.ended:
                self.at = end
                return value
        except json.JSONDecodeError:
            pass
        beginning = Beginning(self.text[self.at : self.at + 200])
        depth, passed = 0, 0
        while True:
            match = _TOKEN.match(self.text, self.at)
            if match is None or (match.end() == len(self.text) and not self.ended):
                rest = len(self.text) - self.at
                if rest > most or not self.more(max(_CHUNK, rest)):
                    raise ValueError("broken JSON")
                continue
            passed += match.end() - self.at
            self.at = match.end()
            if passed > most:
                raise ValueError("a long value")
            if self.at > 16 * _CHUNK:  # let go of what is passed
                self.text, self.at = self.text[self.at :], 0
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
            if depth <= 0:
                return beginning


_DECODER = json.JSONDecoder()
_TOKEN = re.compile(r'\s*(?:"(?:[^"\\]|\\.)*"|[\[\]{}]|[^"\[\]{}]+)', re.DOTALL)


# ---------------------------------------------------------------------------------------------------------------
# CSV
# ---------------------------------------------------------------------------------------------------------------


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV file with a header line, as objects of texts; commas, tabs or semicolons lie between the cells."""
    limit = csv.field_size_limit(LARGEST)
    try:
        with open(path, "rb") as file:
            delimiter = csv_delimiter(file.readline(LARGEST).decode(errors="replace"))
            file.seek(0)
            reader = csv.reader(_csv_lines(file), strict=True, delimiter=delimiter)
            header: list[str] | None = None
            while True:
                try:
                    row = next(reader, None)
                except (csv.Error, ValueError) as error:
                    yield f"line {reader.line_num}", ValueError(f"broken CSV: {error}")
                    if header is None or not isinstance(error, csv.Error):
                        return
                    continue
                if row is None:
                    return
                where = f"line {reader.line_num}"
                broken = None
                if not _is_utf8(row):
                    broken = ValueError("not UTF-8")
                elif header is None and len(set(row)) < len(row):
                    broken = ValueError(
                        f"the column {next(name for name in row if row.count(name) > 1)!r} occurs twice"
                    )
                elif header is not None and row and len(row) != len(header):
                    broken = ValueError(f"{len(row)} cells under {len(header)} columns")
                if broken:
                    yield where, broken
                    if header is None:
                        return
                elif header is None:
                    header = row
                elif row:
                    yield where, dict(zip(header, row, strict=True))
    finally:
        csv.field_size_limit(limit)


def csv_delimiter(header: str) -> str:
    """What lies between the cells of a table, told from its first line."""
    return max(",\t;", key=header.count)


def _csv_lines(file: BinaryIO) -> Iterator[str]:
    first = True
    while line := file.readline(LARGEST + 1):
        if len(line) > LARGEST:
            raise ValueError(f"a line of more than {LARGEST >> 20} MiB")
        yield (line.removeprefix(codecs.BOM_UTF8) if first else line).decode(errors="surrogateescape")
        first = False


def _is_utf8(cells: list[str]) -> bool:
    """Whether no byte had to be smuggled through the decoding."""
    return not any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell)
