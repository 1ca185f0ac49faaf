"""Public logs of many samples per question: Large Language Monkeys, BEST-Route, and Qwen2.5-Math's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import Document, is_array, json_lines
from alloc_jax.logs.formats.reader import Reader, accepted, bit, field, number, positive, texts


class Monkeys(Reader):
    """One model on one dataset: `question, gt_answer, samples` (up to 10,000 texts) and `is_corrects`.

    The bits serve pass@k and best of k; votes need answers, which a grader takes from the texts (and then grades
    them itself).
    """

    name = "monkeys"
    about = "Large Language Monkeys JSON, an array or one object a line (ScalingIntelligence/monkey_business, 2024)"
    example = '{"question": "2 + 2?", "gt_answer": "4", "samples": ["It is 4.", "5"], "is_corrects": [true, false]}'
    uses = ("source", "grader", "threshold")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.source = options.source or path.stem
        self.number = -1

    @staticmethod
    def recognises(glimpse) -> bool:
        fields = glimpse.fields.keys()
        return "question" in fields and ("is_corrects" in fields or {"gt_answer", "samples"} <= fields)

    def rows(self) -> Iterator[Row]:
        return Document(self.path).rows() if is_array(self.path) else json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        self.number += 1
        if row.get("is_corrects") == [] and row.get("samples", []) == []:
            raise ValueError("samples: the record is empty: no sample was drawn")
        bits = [
            bit(value, f"is_corrects[{j}]", self.options.threshold)
            for j, value in enumerate(field(row, "is_corrects", list))
        ]
        samples: dict[str, Any] = {"correct": bits}
        if self.options.grader or "samples" in row:
            responses = texts(row.get("samples"), "samples")
            if len(responses) != len(bits):
                raise ValueError(f"is_corrects: {len(bits)} values for {len(responses)} samples")
            if self.options.grader:
                samples = {"response": responses}
        gold = row.get("gt_answer")
        if self.options.grader and isinstance(gold, list):
            gold = accepted(gold, "gt_answer")
        yield {
            "id": row.get("orig_dset_idx", self.number),
            "question": field(row, "question", str),
            "gold": gold if self.options.grader or isinstance(gold, (str, int, float, type(None))) else str(gold),
            "group": row.get("orig_dset_split"),
            "source": self.source,
            "samples": samples,
        }


class BestRoute(Reader):
    """`id, prompt`, and of each model `responses, armoRM_scores, token_num_prompt, token_num_responses`.

    There are no reference answers: a response is right where its reward reaches the threshold, or, with gold answers,
    where a grader says so.
    """

    name = "best_route"
    about = "BEST-Route mixed_dataset_armoRM_*.jsonl (microsoft/best-route-llm, 2025)"
    example = (
        '{"id": "q1", "prompt": "2 + 2?", "gpt-4o": {"responses": ["4"], "armoRM_scores": [0.14], "token_num_prompt": 9,'
        ' "token_num_responses": [3]}}'
    )
    uses = ("threshold", "grader", "gold")

    def __init__(self, path, options):
        super().__init__(path, options)
        if (options.threshold is None) == (options.grader is None):
            raise ValueError("BEST-Route says right or wrong of nothing: name --threshold of the reward, or --grader")
        if options.grader is not None and options.gold is None:
            raise ValueError("BEST-Route holds no reference answers: --gold names a file with the answer of each id")

    @staticmethod
    def recognises(glimpse) -> bool:
        models = [value for name, value in glimpse.fields.items() if name not in ("id", "prompt")]
        named = glimpse.kind == "object" and {"id", "prompt"} <= glimpse.fields.keys()
        return named and any('"responses"' in v if isinstance(v, str) else _is_model(v) for v in models)

    def rows(self) -> Iterator[Row]:
        return json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        identity = field(row, "id", (str, int))
        models = {name: value for name, value in row.items() if _is_model(value)}
        if not models:
            raise ValueError(f"question {identity!r}: no model with responses")
        for model, said in models.items():
            responses = texts(said.get("responses"), f"{model}.responses")
            n = len(responses)
            rewards = _column(said, "armoRM_scores", n, model)
            prompt = said.get("token_num_prompt")
            samples: dict[str, Any] = {
                "reward": rewards,
                "prompt_tokens": [positive(prompt, f"{model}.token_num_prompt")] * n,
                "completion_tokens": _column(said, "token_num_responses", n, model),
            }
            gold = None
            if self.options.grader:
                if str(identity) not in self.options.gold:
                    raise ValueError(f"question {identity!r}: id: not among the gold")
                gold = self.options.gold[str(identity)]
                samples["response"] = responses
            else:
                samples["correct"] = [bit(r, f"{model}.armoRM_scores", self.options.threshold) for r in rewards]
            yield {
                "id": identity,
                "question": field(row, "prompt", str),
                "gold": gold,
                "source": model,
                "samples": samples,
            }


class QwenMath(Reader):
    """One line per question: `code` holds the responses, `pred` the answers taken from them, `score` whether these are right.

    The file lies at `<model>/<dataset>/<split>_<prompt>_....jsonl`; where it does not, name the source.
    """

    name = "qwen_math"
    about = "Qwen2.5-Math evaluation outputs, JSON lines (QwenLM/Qwen2.5-Math, 2024; many forks)"
    example = '{"idx": 0, "question": "2 + 2?", "gt": "4", "code": ["It is 4.", "5"], "pred": ["4", "5"], "score": [true, false]}'
    uses = ("source", "grader", "threshold")

    @staticmethod
    def recognises(glimpse) -> bool:
        return {"idx", "gt", "code", "pred"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        return Document(self.path).rows() if is_array(self.path) else json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        place = self.path.resolve().parent
        responses = texts(row.get("code"), "code")
        if self.options.grader:
            samples: dict[str, Any] = {"response": responses}
        else:
            said = texts(row.get("pred"), "pred")
            if "score" not in row:
                raise ValueError("score: missing: the outputs were not evaluated; evaluate them, or name a --grader")
            bits = [
                bit(value, f"score[{j}]", self.options.threshold) for j, value in enumerate(field(row, "score", list))
            ]
            if not len(said) == len(bits) == len(responses):
                raise ValueError(
                    f"score: {len(bits)} values for {len(said)} answers (pred) and {len(responses)} texts (code)"
                )
            samples = {"answer": [answer.strip() or None for answer in said], "correct": bits}
        yield {
            "id": f"{place.name}/{field(row, 'idx', (int, str))}",
            "question": field(row, "question", str),
            "gold": accepted(row.get("gt"), "gt"),
            "group": place.name,
            "source": self.options.source or place.parent.name,
            "samples": samples,
        }


def _is_model(value: Any) -> bool:
    return isinstance(value, dict) and "responses" in value


def _column(said: dict[str, Any], name: str, n: int, model: str) -> list[float | None]:
    """A number for each response; unknown where the field is absent."""
    if name not in said:
        return [None] * n
    values = field(said, name, list, model)
    if len(values) != n:
        raise ValueError(f"{model}.{name}: {len(values)} values for {n} responses")
    return [number(value, f"{model}.{name}[{j}]") for j, value in enumerate(values)]
