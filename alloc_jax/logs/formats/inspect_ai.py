"""Inspect (inspect_ai): `.eval` files, which are zips with one member a sample, and their JSON form."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import LARGEST, Document, parse
from alloc_jax.logs.formats.reader import Reader, bit, conversation, field, number, positive

_LETTERS = {"C": 1, "I": 0, "P": 0.5, "N": 0}  # correct, incorrect, partial, no answer


class InspectJson(Reader):
    """One sample an epoch, with its score, the scorer's answer, tokens and working time.

    The tokens are those of the evaluated model alone, not of models that grade. Of the time, `working_time` is read:
    what the sample took, waiting for its turn left out.
    """

    name = "inspect_json"
    about = "Inspect log as JSON (inspect_ai 0.3.285)"
    uses = ("scorer", "threshold", "source")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.document = Document(path, "samples")
        self.header = self.document.header

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and {"version", "eval"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        return self.document.rows()

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if row.get("error"):
            raise ValueError(f"error: the sample failed: {str(row['error'])[:80]}")
        evaluation = field(self.header, "eval", dict)
        model = field(evaluation, "model", str, "eval")
        task = evaluation.get("task")
        target = row.get("target")
        if isinstance(target, list):
            target = target[0] if len(target) == 1 else json.dumps(target)
        right, answer = self._score(row)
        yield {
            "id": field(row, "id", (str, int)),
            "question": conversation(row.get("input"), "input"),
            "gold": target,
            "group": task if isinstance(task, str) else None,
            "source": self.options.source or model,
            "repeat": field(row, "epoch", int),
            "samples": {"answer": [answer], "correct": [right], **_usage(row, model), "latency_s": [_seconds(row)]},
        }

    def _score(self, row: dict[str, Any]) -> tuple[bool, str | None]:
        scores = field(row, "scores", dict)
        name = self.options.scorer
        if name is None:
            if len(scores) != 1:
                raise ValueError(f"scores: name one of the scorers: {', '.join(scores) or 'there is none'}")
            name = next(iter(scores))
        score = field(scores, name, dict, "scores")
        value = score.get("value")
        value = _LETTERS.get(value, value) if isinstance(value, str) else value
        right = bit(value, f"scores.{name}.value", self.options.threshold)
        answer = score.get("answer")
        if answer is not None and not isinstance(answer, str):
            raise ValueError(f"scores.{name}.answer: expected a text, got {type(answer).__name__}")
        return right, answer or None


class InspectEval(InspectJson):
    name = "inspect"
    about = "Inspect .eval file (inspect_ai 0.3.285)"

    def __init__(self, path, options):
        super().__init__(path, options)
        self.header = {}

    @staticmethod
    def recognises(glimpse) -> bool:
        return any(_is_sample(name) for name in glimpse.members)

    def rows(self) -> Iterator[Row]:
        module = _zip()
        try:
            with module.ZipFile(self.path) as archive:
                if "header.json" not in archive.namelist():
                    yield "header.json", ValueError("missing: the evaluation did not end; read its JSON form")
                    return
                header = _member(archive, archive.getinfo("header.json"))
                if isinstance(header, ValueError):
                    yield "header.json", header
                    return
                self.header = header
                for info in archive.infolist():
                    if _is_sample(info.filename):
                        yield info.filename, _member(archive, info)
        except Exception as error:  # whatever the zip library says of a broken file; the members so far are good
            yield "zip", ValueError(f"broken zip: {error}")


def _is_sample(name: str) -> bool:
    return name.startswith("samples/") and name.endswith(".json")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any] | ValueError:
    if info.file_size > LARGEST:
        return ValueError(f"a member of more than {LARGEST >> 20} MiB")
    try:
        with archive.open(info) as file:
            data = file.read(LARGEST + 1)  # the size above is what the file claims
        if len(data) > LARGEST:
            return ValueError(f"a member of more than {LARGEST >> 20} MiB")
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return ValueError(f"not UTF-8 at byte {error.start}")
    except Exception as error:  # a wrong checksum, a broken stream, an unknown compression
        return ValueError(f"broken member: {error}")


def _zip() -> ModuleType:
    """A `zipfile` that knows zstd, which these files are compressed with: Python's own from 3.14 on.

    Raises:
      ImportError: it is not installed; the message names the extra.
    """
    if sys.version_info >= (3, 14):
        return zipfile
    try:
        import zipfile_zstd
    except ImportError as error:
        raise ImportError(".eval files need zipfile-zstd: pip install 'alloc_jax[inspect]'") from error
    return zipfile_zstd


def _usage(row: dict[str, Any], model: str) -> dict[str, list[float | None]]:
    usage = row.get("model_usage")
    usage = usage.get(model) if isinstance(usage, dict) else None
    if not isinstance(usage, dict):
        return {}
    where = f"model_usage.{model}"

    def count(name: str) -> float | None:
        return number(usage.get(name), f"{where}.{name}")

    prompt, completion = positive(usage.get("input_tokens"), f"{where}.input_tokens"), count("output_tokens")
    cached, written = count("input_tokens_cache_read"), count("input_tokens_cache_write") or 0
    # Some providers count what came from the cache within the input, others beside it; the total tells which.
    if cached and None not in (prompt, completion) and count("total_tokens") == prompt + completion + cached + written:
        prompt += cached + written
    return {
        "prompt_tokens": [prompt],
        "cached_tokens": [cached],
        "completion_tokens": [completion],
        "reasoning_tokens": [count("reasoning_tokens")],
    }


def _seconds(row: dict[str, Any]) -> float | None:
    working = number(row.get("working_time"), "working_time")
    return number(row.get("total_time"), "total_time") if working is None else working
