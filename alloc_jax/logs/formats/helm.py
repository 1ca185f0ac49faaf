"""HELM: `scenario_state.json` of one run, with every request, its reference answers and what the model said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import Document
from alloc_jax.logs.formats.reader import Reader, conversation, field, number


class Helm(Reader):
    """One entry a request, whose completions are samples. The file says nothing of right and wrong: a grader does.

    Of multiple choice the reference is the letter of the right reference, so that "choice" grades it. The run is the folder's
    name without the model, so that the runs of several models make one log.
    """

    name = "helm"
    about = "HELM scenario_state.json (stanford-crfm/helm 0.2 to 0.5)"
    example = (
        '{"adapter_spec": {"model": "m"}, "request_states": [{"instance": {"id": "id1", "input": {"text": "2 + 2?"}, "references":'
        ' [{"output": {"text": "4"}, "tags": ["correct"]}]}, "result": {"success": true, "completions": [{"text": " 4",'
        ' "tokens": []}]}}]}'
    )
    uses = ("grader", "source")
    needs = ("grader",)

    def __init__(self, path, options):
        super().__init__(path, options)
        self.document = Document(path, "request_states")
        folder = path.resolve().parent.name
        self.run = re.sub(r"[,:]?(model|model_deployment)=[^,]*", "", folder) if "model=" in folder else None

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and {"adapter_spec", "request_states"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        return self.document.rows()

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        instance, result = field(row, "instance", dict), field(row, "result", dict)
        if row.get("reference_index") is not None:
            raise ValueError(
                "reference_index: each choice was asked about apart, by log-likelihood; only generated answers can be sampled"
            )
        if result.get("success") is False:
            raise ValueError(f"result: the request failed: {str(result.get('error'))[:80]}")
        identity = str(field(instance, "id", (str, int), "instance"))
        if isinstance(instance.get("perturbation"), dict):
            identity += f" {json.dumps(instance['perturbation'], sort_keys=True)}"
        completions = field(result, "completions", list, "result")
        n = len(completions)
        if not n:
            raise ValueError("result.completions: there is none")
        tokens = [one.get("tokens") if isinstance(one, dict) else None for one in completions]
        seconds = number(result.get("request_time"), "result.request_time")
        spec, request = self.document.header.get("adapter_spec"), row.get("request")
        named = [part.get("model") for part in (request, spec) if isinstance(part, dict)]
        source = self.options.source or next((name for name in named if isinstance(name, str) and name), None)
        if source is None:
            raise ValueError("adapter_spec.model: there is none; --source names it")
        yield {
            "id": identity if self.run is None else f"{self.run}/{identity}",
            "question": conversation(
                field(field(instance, "input", dict, "instance"), "text", str, "instance.input"), "input"
            ),
            "gold": _gold(row, instance),
            "group": None if self.run is None else self.run.partition(":")[0],
            "source": source,
            "repeat": row.get("train_trial_index", 0) if isinstance(row.get("train_trial_index", 0), int) else 0,
            "samples": {
                "response": [field(one, "text", str, f"result.completions[{j}]") for j, one in enumerate(completions)],
                "completion_tokens": [len(one) if isinstance(one, list) and one else None for one in tokens],
                "latency_s": [seconds] * n,
            },
        }


def _gold(row: dict[str, Any], instance: dict[str, Any]) -> str | tuple[str, ...]:
    """The references that are tagged as correct; their letters, where the choices were lettered."""
    right = []
    for j, reference in enumerate(field(instance, "references", list, "instance")):
        where = f"instance.references[{j}]"
        if "correct" in field(reference, "tags", list, where):
            output = reference.get("output", reference)
            right.append(field(output, "text", str, f"{where}.output") if isinstance(output, dict) else str(output))
    letters = row.get("output_mapping")
    if isinstance(letters, dict) and letters:
        right = [str(letter) for letter, text in letters.items() if text in right]
    if not right:
        raise ValueError("instance.references: none is tagged as correct")
    return tuple(dict.fromkeys(right)) if len(set(right)) > 1 else right[0]
