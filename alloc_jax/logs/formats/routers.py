"""What public routers are trained on: tables of one answer a question and model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet_columns, parquet_rows
from alloc_jax.files.text import Document, csv_rows
from alloc_jax.logs.formats.reader import Reader, bit, field, number, positive

_COST, _RESPONSE = "|total_cost", "|model_response"


class RouterBench(Reader):
    """A wide table: `sample_id, prompt, eval_name`, and of each model its score, `|total_cost` and `|model_response`.

    The responses are whole texts and no answers that could be voted on: they are not read. A cost of exactly 0 is
    unknown, and so is the sample where the score is empty.
    """

    name = "routerbench"
    about = "RouterBench wide table, CSV or parquet (withmartian/routerbench, 2024)"
    uses = ("threshold",)

    @staticmethod
    def recognises(glimpse) -> bool:
        named = {"sample_id", "prompt", "eval_name"} <= set(glimpse.columns)
        return named and any(name.endswith(_COST) for name in glimpse.columns)

    def rows(self) -> Iterator[Row]:
        with open(self.path, "rb") as file:
            if file.read(4) != b"PAR1":
                return csv_rows(self.path)
        columns = parquet_columns(self.path)
        return parquet_rows(self.path, [name for name in columns if not name.endswith(_RESPONSE)])

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        models = [name.removesuffix(_COST) for name in row if name.endswith(_COST)]
        for model in models:
            if model not in row:
                raise ValueError(f"{model}: no column with the score of this model")
            if row[model] in (None, "") or row[model] != row[model]:
                continue
            yield {
                "id": row.get("sample_id"),
                "question": field(row, "prompt", str),
                "group": row.get("eval_name"),
                "source": model,
                "samples": {
                    "correct": [bit(row[model], model, self.options.threshold)],
                    "usd": [positive(row[model + _COST], model + _COST)],
                },
            }


class RouteLLM(Reader):
    """`prompt` and one column of True or False a model; a question is named by its place in the file."""

    name = "routellm"
    about = "RouteLLM benchmark responses, CSV (lm-sys/RouteLLM @0b64fda)"
    uses = ("threshold",)

    @staticmethod
    def recognises(glimpse) -> bool:
        first, *models = glimpse.columns or ("",)
        return glimpse.kind == "text" and first == "prompt" and bool(models)

    def rows(self) -> Iterator[Row]:
        for place, (where, row) in enumerate(csv_rows(self.path)):
            yield where, row if isinstance(row, ValueError) else (place, row)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        place, cells = row
        for model, right in cells.items():
            if model != "prompt":
                yield {
                    "id": f"{self.path.stem}/{place}",
                    "question": field(cells, "prompt", str),
                    "group": self.path.stem,
                    "source": model,
                    "samples": {"correct": [bit(right, model, self.options.threshold)]},
                }


class ModelRouter(Reader):
    """A long table, one row a question and model; a question is named by the place of its first appearance."""

    name = "model_router"
    about = "NVIDIA model-router toolkit, CSV: question, model, isCorrect, output_tokens (2026)"
    uses = ("threshold",)

    def __init__(self, path, options):
        super().__init__(path, options)
        self.places: dict[str, int] = {}

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "text" and {"question", "model", "isCorrect"} <= set(glimpse.columns)

    def rows(self) -> Iterator[Row]:
        return csv_rows(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        question = field(row, "question", str)
        yield {
            "id": f"{self.path.stem}/{self.places.setdefault(question, len(self.places))}",
            "question": question,
            "source": field(row, "model", str),
            "samples": {
                "correct": [bit(field(row, "isCorrect", str), "isCorrect", self.options.threshold)],
                "completion_tokens": [number(row.get("output_tokens"), "output_tokens")],
            },
        }


class LLMRouterBench(Reader):
    """`results/bench/<dataset>/<split>/<model>/<...>.json`: one model on one dataset, with answers, tokens and dollars.

    A cost of exactly 0 and a prompt of 0 tokens are unknown.
    """

    name = "llmrouterbench"
    about = "LLMRouterBench result JSON (ynulihao/LLMRouterBench @46d48d4)"
    uses = ("threshold",)

    def __init__(self, path, options):
        super().__init__(path, options)
        self.document = Document(path, "records")

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and {"performance", "model_name", "dataset_name"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        return self.document.rows()

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        dataset = field(self.document.header, "dataset_name", str)
        prediction = row.get("prediction")
        right = bit(row.get("score"), "score", self.options.threshold)
        yield {
            "id": f"{dataset}/{field(row, 'index', (int, str))}",
            "question": field(row, "origin_query", str),
            "gold": row.get("ground_truth"),
            "group": dataset,
            "source": field(self.document.header, "model_name", str),
            "samples": {
                "answer": [None if prediction == "" else prediction],
                "correct": [right],
                "prompt_tokens": [positive(row.get("prompt_tokens"), "prompt_tokens")],
                "completion_tokens": [number(row.get("completion_tokens"), "completion_tokens")],
                "usd": [positive(row.get("cost"), "cost")],
            },
        }
