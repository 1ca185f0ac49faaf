"""What public routers are trained on: tables of one answer a question and model."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.parquet import parquet_columns, parquet_rows
from alloc_jax.files.text import Document, csv_rows, is_array, json_lines
from alloc_jax.logs.formats.reader import Reader, bit, field, number, positive
from alloc_jax.logs.formats.table import names_of

_COST, _RESPONSE = "|total_cost", "|model_response"


class RouterBench(Reader):
    """A wide table: `sample_id, prompt, eval_name`, and of each model its score, `|total_cost` and `|model_response`.

    The responses are whole texts and no answers that could be voted on: they are not read. A cost of exactly 0 is
    unknown, and so is the sample where the score is empty.
    """

    name = "routerbench"
    about = "RouterBench wide table, CSV or parquet (withmartian/routerbench, 2024)"
    example = "sample_id,prompt,eval_name,gpt-4,gpt-4|total_cost / mmlu.1,2 + 2?,mmlu,1.0,0.0103"
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
    """`prompt` and one column of True or False a model; a question is named by its place in the file.

    Columns `<model>_response` hold whole texts, which are not read.
    """

    name = "routellm"
    about = "RouteLLM benchmark responses, CSV (lm-sys/RouteLLM @0b64fda)"
    example = "prompt,mixtral-8x7b,gpt-4 / 2 + 2?,False,True"
    uses = ("threshold",)

    @staticmethod
    def recognises(glimpse) -> bool:
        first, *models = glimpse.columns or ("",)
        is_table = names_of(glimpse.columns).keys() & {"source", "correct", "answer", "response", "gold"}
        return glimpse.kind == "text" and first == "prompt" and bool(models) and not is_table

    def rows(self) -> Iterator[Row]:
        for place, (where, row) in enumerate(csv_rows(self.path)):
            yield where, row if isinstance(row, ValueError) else (place, row)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        place, cells = row
        for model, right in cells.items():
            if model != "prompt" and not _is_response(model, cells):
                yield {
                    "id": f"{self.path.stem}/{place}",
                    "question": field(cells, "prompt", str),
                    "group": self.path.stem,
                    "source": model,
                    "samples": {"correct": [bit(right, model, self.options.threshold)]},
                }


def _is_response(name: str, columns: Container[str]) -> bool:
    """Whether a column holds the texts of a model that has a column of its own."""
    return name.endswith("_response") and name.removesuffix("_response") in columns


class LLMRouterBench(Reader):
    """`results/bench/<dataset>/<split>/<model>/<...>.json`: one model on one dataset, with answers, tokens and dollars.

    A cost of exactly 0 and a prompt of 0 tokens are unknown.
    """

    name = "llmrouterbench"
    about = "LLMRouterBench result JSON (ynulihao/LLMRouterBench @46d48d4)"
    example = (
        '{"performance": 1.0, "model_name": "m", "dataset_name": "aime", "records": [{"index": 1, "origin_query": "2 + 2?",'
        ' "prediction": "4", "ground_truth": "4", "score": 1.0, "prompt_tokens": 9, "completion_tokens": 3, "cost": 0.0001}]}'
    )
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


class RouterArena(Reader):
    """A router's predictions (a JSON array), or the cached results of one model (JSON lines), with accuracy and dollars.

    The responses are whole texts; a grader reads them where cached results say the reference answer. Tokens that only the
    total counts are reasoning, and are billed as output; the logged dollars leave them out.
    """

    name = "routerarena"
    about = "RouterArena predictions JSON and cached_results JSON lines (RouteWorks/RouterArena, 2026)"
    example = (
        '{"global index": "AIME_1", "prompt": "2 + 2?", "prediction": "gpt-4o", "generated_result": {"generated_answer": "4",'
        ' "success": true, "token_usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}}, "cost": 0.0001,'
        ' "accuracy": 1.0}'
    )
    uses = ("threshold", "grader")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.hidden = 0
        self.seen: dict[tuple[str, str], int] = {}

    @staticmethod
    def recognises(glimpse) -> bool:
        names = glimpse.fields.keys()
        predictions = bool({"global index", "global_index"} & names) and "prediction" in names
        return predictions or {"global_index", "llm_selected", "generated_answer"} <= names

    def rows(self) -> Iterator[Row]:
        return Document(self.path).rows() if is_array(self.path) else json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if "llm_selected" in row:  # cached: the result stands in the row, the verdict in a field of its own
            verdict = row.get("evaluation_result")
            verdict = verdict if isinstance(verdict, dict) else {}
            source, result, question = field(row, "llm_selected", str), row, field(row, "question", str)
            score, usd, gold = verdict.get("score"), verdict.get("inference_cost"), verdict.get("ground_truth")
        else:
            source, question = field(row, "prediction", str), field(row, "prompt", str)
            result, score, usd, gold = row.get("generated_result"), row.get("accuracy"), row.get("cost"), None
        identity = row.get("global index", row.get("global_index"))
        if not isinstance(result, dict) or result.get("success") is False:
            error = result.get("error") if isinstance(result, dict) else "there is no generated_result"
            raise ValueError(f"question {identity!r}: no response: {str(error)[:80]}")
        samples: dict[str, Any] = self._usage(result.get("token_usage"))
        if self.options.grader:
            if gold is None:
                raise ValueError(
                    f"question {identity!r}: evaluation_result.ground_truth: null, so that nothing can be graded"
                )
            samples["response"] = [field(result, "generated_answer", str)]
        elif score is None:
            raise ValueError(
                f"question {identity!r}: accuracy: null: the predictions were not evaluated; evaluate them first"
            )
        else:
            samples["correct"] = [bit(score, "accuracy", self.options.threshold)]
        pair = str(identity), source
        self.seen[pair] = self.seen.get(pair, -1) + 1
        yield {
            "id": identity,
            "question": question,
            "gold": gold if gold is None else str(gold),
            "group": str(identity).rpartition("_")[0] or None,
            "source": source,
            "repeat": self.seen[pair],
            "samples": {**samples, "usd": [positive(usd, "cost")]},
        }

    def _usage(self, usage: Any) -> dict[str, list[float | None]]:
        usage = usage if isinstance(usage, dict) else {}
        prompt, completion, total = (
            number(usage.get(f"{name}_tokens"), f"token_usage.{name}_tokens") for name in ("input", "output", "total")
        )
        hidden = None
        if (
            None not in (prompt, completion, total) and total > prompt + completion + 1
        ):  # off by one where it was rounded
            hidden = total - prompt - completion
            completion += hidden
            self.hidden += 1
        return {
            "prompt_tokens": [prompt or None],
            "completion_tokens": [completion],
            "reasoning_tokens": [hidden],
        }

    def finish(self) -> None:
        if self.hidden:
            self.notes.append(
                f"the total tokens of {self.hidden} samples exceed input and output: the rest are counted as reasoning; the"
                " logged dollars leave them out, so that a price book bills them better"
            )
