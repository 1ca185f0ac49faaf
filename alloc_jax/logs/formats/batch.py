"""Batches of OpenAI-compatible servers: the file of results, joined with the file of requests by `custom_id`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats.reader import Reader, content, conversation, field, number, positive


class Batch(Reader):
    """One line a request, whose `n` choices are samples. Questions come from the requests, gold answers from the user.

    The usage of a request counts all its choices together. vLLM's `token_ids` give each its own count; otherwise each of
    n > 1 choices gets the mean, which leaves the mean cost of a sample right and hides how it varies.
    """

    name = "batch"
    about = "results of an OpenAI batch (chat, completions, responses) or of vLLM run_batch (0.32)"
    example = (
        '{"custom_id": "q1", "response": {"status_code": 200, "body": {"model": "m", "choices": [{"message": {"content":'
        ' "4"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}}, "error": null}'
    )
    uses = ("requests", "gold", "grader", "source")
    needs = ("requests", "gold", "grader")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.averaged = 0

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and {"custom_id", "response"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        return json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        identity = field(row, "custom_id", str)
        body = _body(row, identity)
        for name in ("requests", "gold"):
            if identity not in getattr(self.options, name):
                raise ValueError(f"question {identity!r}: custom_id: not among the {name}")
        where = "response.body"
        if "output" in body and "choices" not in body:  # /v1/responses: a list of reasoning, calls and messages
            choices, said = [body], [_output(field(body, "output", list, where))]
        else:
            choices = field(body, "choices", list, where)
            said = [_text(choice, f"{where}.choices[{j}]") for j, choice in enumerate(choices)]
        if not choices:
            raise ValueError(f"{where}.choices: there is none")
        yield {
            "id": identity,
            "question": self.options.requests[identity],
            "gold": self.options.gold[identity],
            "source": self.options.source or field(body, "model", str, where),
            "samples": {"response": said, **self._usage(body.get("usage"), choices)},
        }

    def _usage(self, usage: Any, choices: list[dict[str, Any]]) -> dict[str, list[float | None]]:
        n = len(choices)
        where = "response.body.usage"
        usage = usage if isinstance(usage, dict) else {}
        read, written = ("input", "output") if "input_tokens" in usage else ("prompt", "completion")

        def inner(name: str, inside: str) -> float | None:
            details = usage.get(inside)
            return number(details.get(name) if isinstance(details, dict) else None, f"{where}.{inside}.{name}")

        prompt = positive(usage.get(f"{read}_tokens"), f"{where}.{read}_tokens")
        completion = number(usage.get(f"{written}_tokens"), f"{where}.{written}_tokens")
        reasoning = inner("reasoning_tokens", f"{written}_tokens_details")
        tokens = [choice.get("token_ids") for choice in choices]
        if all(isinstance(ids, list) for ids in tokens):
            counts: list[float | None] = [len(ids) for ids in tokens]
        else:
            counts = [None if completion is None else completion / n] * n
            self.averaged += n > 1 and completion is not None
        return {
            "prompt_tokens": [prompt] * n,
            "cached_tokens": [inner("cached_tokens", f"{read}_tokens_details")] * n,
            "completion_tokens": counts,
            "reasoning_tokens": [None if reasoning is None else reasoning / n] * n,
        }

    def finish(self) -> None:
        if self.averaged:
            self.notes.append(
                f"{self.averaged} requests state the tokens of all their choices together: each sample has their mean"
            )


def _body(row: dict[str, Any], identity: str) -> dict[str, Any]:
    """What the server answered; old versions of vLLM wrote it without the envelope of status and body.

    Raises:
      ValueError: the request failed.
    """
    response, error = row.get("response"), row.get("error")
    answered = response.get("body", response) if isinstance(response, dict) else None
    if not error and isinstance(answered, dict) and answered.get("status") == "failed":  # a body of /v1/responses
        error = answered.get("error") or "its body has status failed"
    bare = isinstance(response, dict) and "status_code" not in response and "body" not in response
    if isinstance(response, dict) and not error:
        if bare and ("choices" in response or "output" in response):
            return response
        if str(response.get("status_code")) == "200":
            return field(response, "body", dict, "response")
    status = response.get("status_code") if isinstance(response, dict) else None
    if status is None and not error:
        raise ValueError(
            f"question {identity!r}: response: holds neither an answer nor an error: no status_code with a body, no choices"
        )
    reasons = [f"status {status}"] * (status is not None) + [str(error)[:80]] * bool(error)
    raise ValueError(f"question {identity!r}: the request failed: {', '.join(reasons)}")


def _text(choice: Any, where: str) -> str:
    """What a choice says: a chat message's content, or a completion's text. A choice that says nothing is empty."""
    if isinstance(choice, dict) and isinstance(choice.get("text"), str):
        return choice["text"]
    return content(field(field(choice, "message", dict, where), "content", (str, list, type(None)), f"{where}.message"))


def _output(items: list[Any]) -> str:
    """What the messages among a response's items say."""
    messages = [item for item in items if isinstance(item, dict) and item.get("type") == "message"]
    return "\n".join(said for item in messages if (said := content(item.get("content"))))


def read_requests(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Question texts by custom_id, and reference answers as far as there are any.

    The file holds a batch's requests; or programming problems, by task_id; or lines of `id`, `question` and `gold`.

    Raises:
      ValueError: the file is no such file; the message names line and field.
    """
    requests: dict[str, str] = {}
    golds: dict[str, str] = {}
    for where, row in json_lines(path):
        try:
            if isinstance(row, ValueError):
                raise row
            if "task_id" in row:
                row = {"custom_id": str(row["task_id"]), "body": {"prompt": row.get("prompt")}}
            elif "custom_id" not in row and "id" in row:
                identity = str(field(row, "id", (str, int)))
                if row.get("gold") is not None:
                    golds[identity] = str(field(row, "gold", (str, int, float)))
                row = {"custom_id": identity, "body": {"prompt": field(row, "question", str)}}
            identity, body = field(row, "custom_id", str), field(row, "body", dict)
            if identity in requests:
                raise ValueError(f"custom_id: {identity!r} occurs twice")
            name = next((name for name in ("messages", "input") if name in body), "prompt")
            requests[identity] = conversation(body.get(name), f"body.{name}")
        except ValueError as error:
            raise ValueError(f"{path}, {where}: {error}") from None
    return requests, golds
