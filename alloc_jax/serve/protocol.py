"""The wire: chat completion requests as clients send them, and the bodies that go back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alloc_jax.collect.replies import Usage
from alloc_jax.serve.tickets import Refused

PREFIX = "alloc/"
_PASSED_ON = ("stop", "response_format", "user", "metadata")  # what a recipe leaves open, a client may say
_KNOWN = {"model", "messages", "stream", "stream_options", "n", "seed", "alloc", "max_tokens", "max_completion_tokens"}
_REFUSED = ("tools", "functions", "audio", "modalities")  # an answer without them would be another answer


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, checked."""

    model: str
    messages: list[dict[str, Any]]
    text: str  # of the question: what the last user message says
    stream: bool
    with_usage: bool  # a streamed answer ends with the usage
    limit: int | None  # tokens of a sample, by the client's wish
    budget: float | None
    max_samples: int | None
    extra: dict[str, Any] = field(default_factory=dict)  # for upstream
    ignored: tuple[str, ...] = ()  # what the recipe says instead

    @property
    def action(self) -> str | None:
        """The action that the client names; None for `alloc/auto`."""
        name = self.model.removeprefix(PREFIX)
        return None if name == "auto" else name


def read_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
      Refused: it is none, or names no model and no messages.
    """
    try:
        body = json.loads(raw)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Refused(400, f"no JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(400, f"expected a JSON object, got {type(body).__name__}")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused(400, "model: expected a name")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refused(400, "messages: expected a list of at least one message")
    _count(body, "n")
    for name in ("max_tokens", "max_completion_tokens"):
        _count(body, name)
    return body


def read_asked(body: Mapping[str, Any]) -> Asked:
    """What a request for an allocated answer says.

    Raises:
      Refused: it asks for something that such an answer cannot have.
    """
    for name in _REFUSED:
        if body.get(name):
            raise Refused(400, f"{name}: an answer that is chosen by vote has none")
    if (body.get("n") or 1) != 1:
        raise Refused(400, f"n: an allocated answer has one choice, got n={body['n']}")
    wishes = body.get("alloc") or {}
    if not isinstance(wishes, dict) or not wishes.keys() <= {"budget", "max_samples"}:
        raise Refused(400, f"alloc: expected an object with budget and max_samples, got {wishes!r}")
    budget = wishes.get("budget")
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < 1e300
    ):
        raise Refused(400, f"alloc.budget: expected a positive number, got {budget!r}")
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name)]
    options = body.get("stream_options")
    given = {name for name, value in body.items() if value is not None}
    return Asked(
        model=body["model"],
        messages=body["messages"],
        text=question_of(body["messages"]),
        stream=bool(body.get("stream")),
        with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        limit=min(limits, default=None),
        budget=None if budget is None else float(budget),
        max_samples=_count(wishes, "max_samples", "alloc."),
        extra={name: body[name] for name in _PASSED_ON if body.get(name) is not None},
        ignored=tuple(sorted(given - _KNOWN - set(_PASSED_ON) - set(_REFUSED) | given & {"seed"})),
    )


def question_of(messages: list[dict[str, Any]]) -> str:
    """What the last user message says.

    Raises:
      Refused: no message is a user's, or it has no text.
    """
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                parts = [part.get("text") for part in content if isinstance(part, dict)]
                content = "\n".join(part for part in parts if isinstance(part, str))
            if isinstance(content, str) and content.strip():
                return content
            break
    raise Refused(400, "messages: the policy reads the last message of the user, and there is no text in it")


def completion(identity: str, model: str, text: str, finish_reason: str | None, usage: Usage) -> dict[str, Any]:
    """The body of an answer."""
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason or "stop", "logprobs": None}],
        "usage": usage_body(usage),
    }


def usage_body(usage: Usage) -> dict[str, Any] | None:
    """Usage as clients read it, summed over all samples; null where upstream did not say, which is not 0."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    prompt, written = int(usage.prompt_tokens), int(usage.completion_tokens)
    body: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }
    if usage.cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": int(usage.cached_tokens)}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": int(usage.reasoning_tokens)}
    return body


def streamed(body: Mapping[str, Any], with_usage: bool, size: int = 32) -> Iterator[bytes]:
    """An answer as the events of a stream, `size` characters each."""
    choice = body["choices"][0]
    head = {name: body[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def event(choices: list, **more: Any) -> bytes:
        return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"

    text = choice["message"]["content"]
    yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for at in range(0, len(text), size):
        yield event([{"index": 0, "delta": {"content": text[at : at + size]}, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}])
    if with_usage:
        yield event([], usage=body["usage"])
    yield b"data: [DONE]\n\n"


def error_body(status: int, message: str) -> dict[str, Any]:
    """An error as clients of the protocol read it."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "upstream_error"
    )
    return {"error": {"message": message, "type": kind, "code": status, "param": None}}


def _count(body: Mapping[str, Any], name: str, where: str = "") -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise Refused(400, f"{where}{name}: expected a whole number from 1, got {value!r}")
    return value
