"""lighteval, `--save-details`: `<out>/details/<model>/<date>/details_<task>_<date>.parquet`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet_rows
from alloc_jax.logs.formats.reader import Reader, conversation, field, texts

_FILE = re.compile(r"details_(?P<task>.+?)(_\d{4}-\d\d-\d\dT.*)?\.parquet")


class Lighteval(Reader):
    """One row a question with all its responses. Its metrics are means over them: responses are graded again.

    Output tokens are counted by the backends that run the model themselves; elsewhere a tokenizer must count them.
    """

    name = "lighteval"
    about = "lighteval details_*.parquet (0.13.0)"
    uses = ("source", "grader", "tokenizer")
    needs = ("grader",)

    def __init__(self, path, options):
        super().__init__(path, options)
        match = _FILE.fullmatch(path.name)
        self.task = match["task"] if match else None
        self.uncounted = 0

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "parquet" and {"doc", "metric", "model_response"} <= set(glimpse.columns)

    def rows(self) -> Iterator[Row]:
        return parquet_rows(self.path, ["doc", "model_response"])

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        doc, response = field(row, "doc", dict), field(row, "model_response", dict)
        identity = field(doc, "id", (str, int), "doc")
        answers = texts(response.get("text"), "model_response.text")
        gold = doc.get("gold_index")
        gold = gold[0] if isinstance(gold, list) and len(gold) == 1 else gold
        choices = texts(doc.get("choices"), "doc.choices")
        if not isinstance(gold, int) or not 0 <= gold < len(choices):
            raise ValueError(f"doc.gold_index: expected one of {len(choices)} choices, got {gold!r}")
        yield {
            "id": identity if self.task is None else f"{self.task}/{identity}",
            "question": conversation(doc.get("query"), "doc.query"),
            "gold": choices[gold],
            "group": self.task,
            "source": self._source(),
            "samples": {"response": answers, **self._tokens(response, answers)},
        }

    def _tokens(self, response: dict[str, Any], answers: list[str]) -> dict[str, list[int]]:
        output = response.get("output_tokens")
        if output:
            if not isinstance(output, list) or not all(isinstance(tokens, list) for tokens in output):
                raise ValueError("model_response.output_tokens: expected a list of lists of tokens")
            counts = {"completion_tokens": [len(tokens) for tokens in output]}
            prompt = response.get("input_tokens")
            if isinstance(prompt, list) and prompt:
                counts["prompt_tokens"] = [len(prompt)] * len(answers)
            return counts
        if self.options.tokenizer:
            return {"completion_tokens": [self.options.tokenizer(text) for text in answers]}
        self.uncounted += 1
        return {}

    def _source(self) -> str:
        if self.options.source:
            return self.options.source
        parts = self.path.resolve().parent.parts
        if "details" in parts[:-1]:
            return "/".join(parts[len(parts) - parts[::-1].index("details") : -1])
        raise ValueError("source: the model is named by the folder details/<model>/<date>; name a source")

    def finish(self) -> None:
        if self.uncounted:
            self.notes.append(f"{self.uncounted} questions have no token counts; name a tokenizer to have them counted")
