"""lm-evaluation-harness, `--log_samples`: `<out>/<model>/samples_<task>_<date>.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import Document, is_array, json_lines
from alloc_jax.logs.formats.reader import Reader, accepted, conversation, field, texts

_FILE = re.compile(r"samples_(?P<task>.+?)(_\d{4}-\d\d-\d\dT.*)?\.jsonl?")
_QUESTION = ("question", "problem", "query", "prompt", "input", "text")  # where the tasks' documents keep it


class LmEval(Reader):
    """The file knows no tokens, and no correctness of a sample: responses are graded again, tokens counted on request.

    A document appears once for each filter with the same responses; the first filter's rows are read.
    """

    name = "lm_eval"
    about = "lm-evaluation-harness samples_*.jsonl (0.4.13), and the JSON arrays of mid-2024"
    example = (
        '{"doc_id": 0, "doc": {"question": "2 + 2?"}, "target": "4", "arguments": {"gen_args_0": {"arg_0": "2 + 2?"}},'
        ' "resps": [["It is 4.", "5"]], "filter": "none"}'
    )
    uses = ("source", "grader", "tokenizer")
    needs = ("grader",)

    def __init__(self, path, options):
        super().__init__(path, options)
        match = _FILE.fullmatch(path.name)
        self.task = match["task"] if match else None
        self.source = options.source or path.resolve().parent.name
        self.filter: Any = None
        self.repeated = self.identical = 0

    @staticmethod
    def recognises(glimpse) -> bool:
        return {"doc_id", "doc", "target", "resps"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        return Document(self.path).rows() if is_array(self.path) else json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        identity = field(row, "doc_id", (int, str))
        responses = _responses(row)
        if self.filter is None:
            self.filter = row.get("filter", "none")
        if row.get("filter", "none") != self.filter:
            return
        if len(responses) > 1:
            self.repeated += 1
            self.identical += len(set(responses)) == 1
        samples: dict[str, Any] = {"response": responses}
        prompt = _prompt(row)
        if self.options.tokenizer:
            samples["completion_tokens"] = [self.options.tokenizer(text) for text in responses]
            if prompt is not None:
                samples["prompt_tokens"] = [self.options.tokenizer(prompt)] * len(responses)
        doc = field(row, "doc", dict)
        question = next((doc[name] for name in _QUESTION if isinstance(doc.get(name), str)), prompt)
        if question is None:
            raise ValueError(f"doc: no question in it; looked for {', '.join(_QUESTION)}, then for arguments")
        yield {
            "id": identity if self.task is None else f"{self.task}/{identity}",
            "question": question,
            "gold": accepted(row.get("target"), "target"),
            "group": self.task,
            "source": self.source,
            "samples": samples,
        }

    def finish(self) -> None:
        if self.identical * 2 > self.repeated:
            self.notes.append(
                f"all repeats of {self.identical} of {self.repeated} questions are one text: the harness sends a fixed seed"
                " unless the task's generation_kwargs say `seed: null`, and a vote over equal texts shows nothing"
            )
        if self.options.tokenizer is None:
            self.notes.append("the format holds no token counts; --tokenizer=tokenizer.json counts them")


def _responses(row: Any) -> list[str]:
    """The texts in `resps`: [[s1, ..., sn]], one list for each request of the document."""
    requests = field(row, "resps", list)
    if any(_is_likelihood(request) for request in requests):
        raise ValueError(
            "resps: log-likelihoods of given choices, not texts; only generated answers can be sampled: run the task's"
            " generative variant"
        )
    if len(requests) != 1:
        raise ValueError(f"resps: {len(requests)} requests; a generated answer comes from one")
    return texts(requests[0], "resps[0]")


def _is_likelihood(request: Any) -> bool:
    """Whether the answer to a request is [logarithm, is it the greedy one], once or in a list."""
    if isinstance(request, list) and request and isinstance(request[0], list):
        request = request[0]
    if not isinstance(request, list) or len(request) != 2 or str(request[1]) not in ("True", "False"):
        return False
    try:
        return float(request[0]) <= 0
    except (TypeError, ValueError):
        return False


def _prompt(row: dict[str, Any]) -> str | None:
    """The prompt in `arguments`: {"gen_args_0": {"arg_0": prompt, ...}}, or [[prompt, ...]] in older files."""
    arguments = row.get("arguments")
    if isinstance(arguments, dict):
        first = arguments.get("gen_args_0")
        prompt = first.get("arg_0") if isinstance(first, dict) else None
    else:
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        prompt = first[0] if isinstance(first, list) and first else None
    if prompt is None or isinstance(prompt, str):
        return prompt
    return conversation(prompt, "arguments")
