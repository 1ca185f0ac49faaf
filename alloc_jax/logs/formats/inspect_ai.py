"""Inspect (inspect_ai): `.eval` files, which are zips with one member a sample, and their JSON form."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import LARGEST, Document, parse
from alloc_jax.logs.formats.reader import Reader, accepted, bit, content, conversation, field, number, positive, shown

_STARTS = (
    "header.json",
    "_journal/start.json",
)  # members that say what was evaluated; an evaluation that ended has the first
_LETTERS = {"C": 1, "I": 0, "P": 0.5, "N": 0}  # correct, incorrect, partial, no answer


class InspectJson(Reader):
    """One sample an epoch, with its score, the scorer's answer, tokens and working time.

    A question is named by its task and id. The tokens are those of the evaluated model alone, not of models that grade. Of
    the time, `working_time` is read: what the sample took, waiting for its turn left out. A grader reads the scorer's
    answer, or where there is none the completion, and decides instead of the scorer.
    """

    name = "inspect_json"
    about = "Inspect log as JSON (inspect_ai 0.3.285)"
    example = (
        '{"id": 1, "epoch": 1, "input": "2 + 2?", "target": "4", "output": {"completion": "It is 4."}, "scores": {"match":'
        ' {"value": "C", "answer": "4"}}}'
    )
    uses = ("scorer", "threshold", "source", "grader")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.document = Document(path, "samples")
        self.header = self.document.header
        self.read = self.unscored = 0

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and {"version", "eval"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        for where, row in self.document.rows():
            broken = isinstance(row, ValueError) and self._without_samples()
            yield where, broken or row

    def _without_samples(self) -> ValueError | None:
        """Why there is no sample, where the log says that the evaluation did not succeed."""
        status, error = self.header.get("status"), self.header.get("error")
        if self.read or status in (None, "success"):
            return None
        message = error.get("message") if isinstance(error, dict) else error
        reason = f": {str(message)[:200]}" if message else ""
        return ValueError(f"the evaluation ended as {status!r} without a sample{reason}; run it again")

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        self.read += 1
        if row.get("error"):
            raise ValueError(f"error: the sample failed: {str(row['error'])[:80]}")
        evaluation = field(self.header, "eval", dict)
        model = field(evaluation, "model", str, "eval")
        task = evaluation.get("task")
        task = task if isinstance(task, str) else None
        target = accepted(row.get("target"), "target")
        samples: dict[str, Any]
        if self.options.grader:
            samples = {"response": [self._response(row)]}
        else:
            score = self._score(row)
            if score is None:
                self.unscored += 1
                return
            target = shown(target)
            samples = {"answer": [score[1]], "correct": [score[0]]}
        identity = field(row, "id", (str, int))
        yield {
            "id": identity if task is None else f"{task}/{identity}",
            "question": conversation(_attached(row, row.get("input")), "input"),
            "gold": target,
            "group": task,
            "source": self.options.source or model,
            "repeat": field(row, "epoch", int),
            "samples": {**samples, **_usage(row, model), "latency_s": [_seconds(row)]},
        }

    def _score(self, row: dict[str, Any]) -> tuple[bool, str | None] | None:
        """(right, answer); None where the sample was not scored."""
        scores = row.get("scores")
        if scores is None or scores == {}:
            return None
        scores = field(row, "scores", dict)
        name = self.options.scorer
        if name is None:
            if len(scores) != 1:
                raise ValueError(f"scores: name one of the scorers: {', '.join(scores)}")
            name = next(iter(scores))
        score, part = scores.get(name), None
        if score is None and "." in name:  # one of several values that a scorer gives
            scorer, _, part = name.rpartition(".")
            score = scores.get(scorer)
        if not isinstance(score, dict):
            raise ValueError(f"scores: there is no scorer {name!r}; it was scored by {', '.join(scores)}")
        value = score.get("value")
        if isinstance(value, dict):
            if part is None or part not in value:
                known = ", ".join(f"{name.removesuffix(f'.{part}')}.{key}" for key in value)
                raise ValueError(f"scores.{name}.value: several values: name one as the scorer: {known}")
            value = value[part]
        elif part is not None:
            raise ValueError(
                f"scores.{name}: the scorer {name.rpartition('.')[0]!r} gives a single value: leave out the part"
            )
        value = _LETTERS.get(value, value) if isinstance(value, str) else value
        if value is None or value != value:
            return None
        right = bit(value, f"scores.{name}.value", self.options.threshold)
        answer = score.get("answer")
        if answer is not None and not isinstance(answer, str):
            raise ValueError(f"scores.{name}.answer: expected a text, got {type(answer).__name__}")
        return right, answer or None

    def _response(self, row: dict[str, Any]) -> str:
        """The text that a grader reads."""
        scores = row.get("scores")
        scores = scores if isinstance(scores, dict) else {}
        name = self.options.scorer.partition(".")[0] if self.options.scorer else next(iter(scores), None)
        score = scores.get(name)
        answer = score.get("answer") if isinstance(score, dict) else None
        if isinstance(answer, str) and answer:
            return answer
        output = row.get("output")
        return content(_attached(row, output.get("completion"))) if isinstance(output, dict) else ""

    def finish(self) -> None:
        if failed := self._without_samples():
            raise failed
        if self.unscored and self.unscored == self.read:
            raise ValueError(
                f"the log was not scored: {self.unscored} of {self.read} samples are unscored; score it (inspect score), or name"
                " a grader"
            )
        if self.unscored:
            self.notes.append(f"{self.unscored} of {self.read} samples are unscored, and were left out")
        status = self.header.get("status")
        if status not in (None, "success"):
            evaluation = self.header.get("eval")
            evaluation = evaluation if isinstance(evaluation, dict) else {}
            inside = [
                evaluation.get(name) if isinstance(evaluation.get(name), dict) else {} for name in ("dataset", "config")
            ]
            planned, epochs = inside[0].get("samples"), inside[1].get("epochs") or 1
            whole = f" of {planned * epochs}" if isinstance(planned, int) and isinstance(epochs, int) else ""
            self.notes.append(f"the evaluation ended as {status!r}: {self.read}{whole} samples are there")


def _attached(row: dict[str, Any], value: Any) -> Any:
    """A text, or the attachment that it refers to."""
    attachments = row.get("attachments")
    if isinstance(value, str) and value.startswith("attachment://") and isinstance(attachments, dict):
        return attachments.get(value.removeprefix("attachment://"), value)
    if isinstance(value, list):
        return [
            {**part, "content": _attached(row, part["content"])}
            if isinstance(part, dict) and "content" in part
            else part
            for part in value
        ]
    return value


class InspectEval(InspectJson):
    name = "inspect"
    about = "Inspect .eval file (inspect_ai 0.3.285)"

    def __init__(self, path, options):
        super().__init__(path, options)
        self.header = {}

    @staticmethod
    def recognises(glimpse) -> bool:
        return any(_is_sample(name) or name in _STARTS for name in glimpse.members)

    def rows(self) -> Iterator[Row]:
        module = _zip()
        try:
            with module.ZipFile(self.path) as archive:
                names = archive.namelist()
                start = next((name for name in _STARTS if name in names), None)
                if start is None:
                    yield "header.json", ValueError("missing: the evaluation did not end; read its JSON form")
                    return
                header = _member(archive, archive.getinfo(start))
                if start != _STARTS[0] and isinstance(header, dict):
                    header["status"] = "started"  # and never ended
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
        "cache_write_tokens": [count("input_tokens_cache_write")],
        "completion_tokens": [completion],
        "reasoning_tokens": [count("reasoning_tokens")],
    }


def _seconds(row: dict[str, Any]) -> float | None:
    working = number(row.get("working_time"), "working_time")
    return number(row.get("total_time"), "total_time") if working is None else working
