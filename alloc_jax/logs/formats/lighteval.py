"""lighteval, `--save-details`: `<out>/details/<model>/<date>/details_<task>_<date>.parquet`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet_columns, parquet_rows
from alloc_jax.logs.formats.reader import Reader, accepted, conversation, field, texts

_FILE = re.compile(r"details_(?P<task>.+?)(_\d{4}-\d\d-\d\dT.*)?\.parquet")


_NEW = {"doc", "metric", "model_response"}
_OLD = {"example", "full_prompt", "predictions", "gold_index"}
_READ = ("example", "predictions", "gold", "choices", "gold_index", "input_tokens", "cont_tokens")


class Lighteval(Reader):
    """One row a question with all its responses. Its metrics are means over them: responses are graded again.

    Output tokens are counted by the backends that run the model themselves; elsewhere a tokenizer must count them.
    """

    name = "lighteval"
    about = "lighteval details_*.parquet (0.13.0, and the columns of 0.1 to 0.9)"
    example = (
        '{"doc": {"id": "0", "query": "2 + 2?", "choices": ["4"], "gold_index": [0]}, "metric": {}, "model_response": {"text":'
        ' ["It is 4."], "output_tokens": [[1, 2]]}}'
    )
    uses = ("source", "grader", "tokenizer")
    needs = ("grader",)

    def __init__(self, path, options):
        super().__init__(path, options)
        match = _FILE.fullmatch(path.name)
        self.task = match["task"] if match else None
        self.uncounted = 0

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "parquet" and any(names <= set(glimpse.columns) for names in (_NEW, _OLD))

    def rows(self) -> Iterator[Row]:
        there = parquet_columns(self.path)
        wanted = ["doc", "model_response"] if set(there) >= _NEW else [name for name in there if name in _READ]
        for place, (where, row) in enumerate(parquet_rows(self.path, wanted)):
            yield where, {"place": place, **row} if isinstance(row, dict) else row

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if "predictions" in row:
            row = _renamed(row)
        doc, response = field(row, "doc", dict), field(row, "model_response", dict)
        identity = field(doc, "id", (str, int), "doc")
        answers = texts(response.get("text"), "model_response.text")
        choices = [accepted(choice, "doc.choices") for choice in field(doc, "choices", list, "doc")]
        index = doc.get("gold_index")
        index = index if isinstance(index, list) else [index]
        if not index or not all(isinstance(j, int) and 0 <= j < len(choices) for j in index):
            raise ValueError(f"doc.gold_index: expected some of {len(choices)} choices, got {doc.get('gold_index')!r}")
        gold = accepted([choices[j] for j in index], "doc.choices")
        yield {
            "id": identity if self.task is None else f"{self.task}/{identity}",
            "question": conversation(doc.get("query"), "doc.query"),
            "gold": gold,
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
                prompt = prompt[0] if isinstance(prompt[0], list) else prompt
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
        raise ValueError("source: the model is named by the folder details/<model>/<date>; --source names it")

    def finish(self) -> None:
        if self.uncounted:
            self.notes.append(
                f"{self.uncounted} questions have no token counts; --tokenizer=tokenizer.json counts them"
            )


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of older columns under the names of today. Lists may be written as Python writes them."""
    values = {name: _listed(row.get(name)) for name in _READ if name != "example"}
    said = values["predictions"]
    if isinstance(said, list) and said and isinstance(said[0], list):
        said = said[0]
    if isinstance(said, list) and any(isinstance(one, (int, float)) for one in said):
        raise ValueError(
            "predictions: log-likelihoods of given choices, not texts; only generated answers can be sampled: run the"
            " task's generative variant"
        )
    gold, choices, index = values["gold"], values["choices"], values["gold_index"]
    if isinstance(gold, (str, int, float)) or gold:
        choices = gold if isinstance(gold, list) else [gold]
        index = list(range(len(choices)))
    doc = {"id": row["place"], "query": row.get("example"), "choices": choices, "gold_index": index}
    tokens = values["cont_tokens"] if isinstance(values["cont_tokens"], list) else None
    tokens = tokens if tokens and isinstance(said, list) and len(tokens) == len(said) else None
    return {
        "doc": doc,
        "model_response": {"text": said, "output_tokens": tokens, "input_tokens": values["input_tokens"]},
    }


def _listed(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(value)
    return value
