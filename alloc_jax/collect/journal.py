"""The journal: an append-only file of JSON lines in which every sample stands exactly once, whatever happens.

    {"journal": 1, "recipes": {"think": {"model": "Qwen/Qwen3-8B", "max_tokens": 4096}}}
    {"id": "q1", "question": "2 + 2", "gold": "4", "group": null, "source": "think", "usage": {"prompt_tokens": 9, ...},
     "usd": null, "charged": {...}, "latency_s": 0.8, "retries": 0, "seed": 81, "model": "Qwen/Qwen3-8B",
     "samples": [{"sample": 0, "text": "2 + 2 = 4", "finish_reason": "stop", "completion_tokens": 8}]}
    {"id": "q1", "source": "think", "failed": [1], "failure": "HTTP 400: context too long", "final": true, ...}

A line is one reply, and either stands whole or not at all: a process that is killed leaves at most one torn line, at the
end, which the next one cuts off. `alloc_jax.read_log(path, grader=...)` reads the file as a sample log, and several
journals as one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alloc_jax.collect.questions import Question, text_id

VERSION = 1
_SHOWN = 5  # differences that are named
_KEPT = ("id", "source", "samples", "usage", "charged", "averaged", "failed", "failure", "final")


class Journal:
    """An open journal, which no other process can open meanwhile; use in a `with` block.

    Args:
      path: of the file; it is created where it is not there.
      sources: what each source is asked for; a source that the file knows must be the same as there.

    Raises:
      ValueError: another process writes it, it is no journal, a line in its middle is broken, or a source has changed.
    """

    def __init__(self, path: str | os.PathLike, sources: Mapping[str, Mapping[str, Any]]):
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []  # what the file held when it was opened: samples by number, no texts
        self.asked: dict[str, tuple[str, str | None]] = {}  # digest of each question's text, and its reference answer
        self.models: dict[str, list[str]] = {}  # behind each source, as the server named them
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")  # noqa: SIM115
        try:
            self._lock()
            self._load(dict(sources))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def close(self) -> None:
        """Make sure that the lines are on the disk, and let go of the file."""
        os.fsync(self._file.fileno())
        self._file.close()

    def check(self, questions: Iterable[Question]) -> None:
        """Make sure that questions are what they were when they were asked.

        Raises:
          ValueError: an id has another text or another reference answer by now; the first of them are named.
        """
        changed = []
        for question in questions:
            text, gold = self.asked.get(question.id, (None, None))
            if text is not None and text != text_id(question.text):
                changed.append(f"{question.id!r} has another text: {question.text[:60]!r}")
            elif text is not None and gold != question.gold:
                changed.append(f"{question.id!r} has the gold {question.gold!r}, and had {gold!r}")
        if changed:
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise ValueError(
                f"{self.path}: questions are not what was asked: {'; '.join(changed[:_SHOWN])}{more}: give what is new an"
                " id of its own, or collect into another file"
            )

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line, which survives the end of this process from here on."""
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.path}: another process is writing this journal") from None

    def _load(self, sources: dict[str, Any]) -> None:
        known: dict[str, Any] = {}
        whole = 0  # bytes
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break  # a torn last line
            whole += len(line)
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no object")
            except ValueError as error:
                raise ValueError(f"{self.path}, line {number}: no line of a journal: {error}") from None
            if number == 1 and row.get("journal") != VERSION:
                raise ValueError(f"{self.path}: no journal of version {VERSION}: its first line has {list(row)[:5]}")
            if "journal" in row:
                known |= row["recipes"]
            else:  # without its texts, which may be more than fits into memory
                if "question" in row:
                    self.asked[str(row["id"])] = text_id(row["question"]), row.get("gold")
                if row.get("model") and row["model"] not in (names := self.models.setdefault(row["source"], [])):
                    names.append(row["model"])
                row["samples"] = [sample["sample"] for sample in row.get("samples", ())]
                self.rows.append({name: value for name, value in row.items() if name in _KEPT})
        self._file.truncate(whole)
        for name in known.keys() & sources.keys():
            if known[name] != sources[name]:
                raise ValueError(
                    f"{self.path}: source {name!r} was asked with {known[name]}, and is now {sources[name]}: give the"
                    " source another name, or collect into another file"
                )
        if not sources.keys() <= known.keys():
            self.write({"journal": VERSION, "recipes": known | sources})

    def done(self, refused: bool = True) -> set[tuple[str, str, int]]:
        """(question id, source, sample) of all that need not be asked for again.

        Args:
          refused: whether that includes what the server refused for good.
        """
        found: set[tuple[str, str, int]] = set()
        for row in self.rows:
            final = row["failed"] if refused and row.get("final") else ()
            found.update((row["id"], row["source"], sample) for sample in (*row["samples"], *final))
        return found
