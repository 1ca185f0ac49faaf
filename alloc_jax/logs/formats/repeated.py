"""Public logs of many samples a question: Large Language Monkeys and BEST-Route."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import Document, json_lines
from alloc_jax.logs.formats.reader import Reader, bit, field, number, positive, texts


class Monkeys(Reader):
    """One model on one dataset: `question, gt_answer, samples` (up to 10,000 texts) and `is_corrects`.

    The bits serve pass@k and best of k; votes need answers, which a grader takes from the texts (and then grades
    them itself).
    """

    name = "monkeys"
    about = "Large Language Monkeys JSON, an array or one object a line (ScalingIntelligence/monkey_business, 2024)"
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
        with open(self.path, "rb") as file:
            array = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
        return Document(self.path).rows() if array else json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        self.number += 1
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
    uses = ("threshold", "grader", "gold")

    def __init__(self, path, options):
        super().__init__(path, options)
        if (options.threshold is None) == (options.grader is None):
            raise ValueError("BEST-Route says right or wrong of nothing: name a threshold on the reward, or a grader")
        if options.grader is not None and options.gold is None:
            raise ValueError("BEST-Route holds no reference answers: name a file with the gold of each id")

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
