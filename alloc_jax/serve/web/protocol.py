"""The wire: chat completion requests as clients send them, and the bodies that go back."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from alloc_jax.collect.replies import Fault, Usage
from alloc_jax.serve.tickets import Passed, Question, Refused, Ticket

if TYPE_CHECKING:
    from alloc_jax.serve.web.answering import Answer

PREFIX = "alloc/"
_LONGEST_HEADER = 1000  # characters of a list in a header
_PASSED_ON = ("stop", "response_format", "user", "metadata")  # what a recipe leaves open, a client may say
_KNOWN = {"model", "messages", "stream", "stream_options", "n", "seed", "alloc", "max_tokens", "max_completion_tokens"}
_REFUSED = ("tools", "functions", "audio", "modalities")  # an answer without them would be another answer


STATUS = {
    "invalid": 400,
    "forbidden": 403,
    "unknown": 404,
    "late": 408,
    "large": 413,
    "exhausted": 429,
    "busy": 503,
}  # of HTTP, by the reason of a refusal


def read_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
      Refused: it is none, or names no model and no messages.
    """
    try:
        body = json.loads(raw, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise Refused("invalid", f"no JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused("invalid", f"expected a JSON object, got {type(body).__name__}")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused("invalid", "model: expected a name")
    if any("\ud800" <= c <= "\udfff" for c in body["model"]):  # no ledger can hold it
        raise Refused("invalid", "model: half a surrogate pair is no character")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refused("invalid", "messages: expected a list of at least one message")
    for name in ("n", "max_tokens", "max_completion_tokens"):
        _count(body, name)
    return body


def read_question(body: Mapping[str, Any], identity: str, tenant: str) -> Question:
    """What a request for an allocated answer says.

    Raises:
      Refused: it asks for something that such an answer cannot have.
    """
    for name in _REFUSED:
        if body.get(name):
            raise Refused("invalid", f"{name}: an answer that is chosen by vote has none")
    if (body.get("n") or 1) != 1:
        raise Refused("invalid", f"n: an allocated answer has one choice, got n={body['n']}")
    wishes = body.get("alloc") or {}
    if not isinstance(wishes, dict) or not wishes.keys() <= {"budget", "max_samples", "gradable"}:
        raise Refused(
            "invalid", f"alloc: expected an object with budget, max_samples and gradable, got {_shown(wishes)}"
        )
    budget, gradable = wishes.get("budget"), wishes.get("gradable")
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < 1e300
    ):
        raise Refused("invalid", f"alloc.budget: expected a positive number, got {_shown(budget)}")
    if not isinstance(gradable, (bool, type(None))):
        raise Refused("invalid", f"alloc.gradable: expected true or false, got {_shown(gradable)}")
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name)]
    options = body.get("stream_options")
    given = {name for name, value in body.items() if value is not None}
    action = body["model"].removeprefix(PREFIX)
    return Question(
        id=identity,
        text=question_of(body["messages"]),
        tenant=tenant,
        messages=body["messages"],
        action=None if action == "auto" else action,
        budget=None if budget is None else float(budget),
        max_samples=_count(wishes, "max_samples", "alloc."),
        gradable=gradable,
        limit=min(limits, default=None),
        extra={name: body[name] for name in _PASSED_ON if body.get(name) is not None},
        stream=bool(body.get("stream")),
        with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        ignored=tuple(sorted(given - _KNOWN - set(_PASSED_ON) - set(_REFUSED) | given & {"seed"})),
    )


def read_passed(body: Mapping[str, Any], identity: str, tenant: str, max_n: int) -> Passed:
    """A request for a model of the upstream.

    Raises:
      Refused: it asks for too many choices.
    """
    if (body.get("n") or 1) > max_n:
        raise Refused("invalid", f"n is at most {max_n}, got {body['n']}")
    return Passed(id=identity, body={name: value for name, value in body.items() if name != "alloc"}, tenant=tenant)


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
    raise Refused("invalid", "messages: the policy reads the last message of the user, and there is no text in it")


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


def streamed(body: Mapping[str, Any], with_usage: bool) -> Iterator[bytes]:
    """An answer as the events of a stream: some hundreds at most, however long it is."""
    choice = body["choices"][0]
    head = {name: body[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def event(choices: list, **more: Any) -> bytes:
        return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"

    text = choice["message"]["content"]
    size = max(32, len(text) // 256)  # characters of an event
    yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for at in range(0, len(text), size):
        yield event([{"index": 0, "delta": {"content": text[at : at + size]}, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}])
    if with_usage:
        yield event([], usage=body["usage"])
    yield b"data: [DONE]\n\n"


def answered(identity: str, ticket: Ticket, given: Answer) -> dict[str, Any]:
    """The body of an allocated answer."""
    return completion(identity, f"{PREFIX}{ticket.action.name}", given.text, given.finish_reason, given.usage)


def headers_of(ticket: Ticket, given: Answer, policy: str, debug: bool) -> dict[str, str]:
    """What an allocated answer's headers say: what was done, and with `debug` why."""
    decision, question = ticket.decision, ticket.asked
    found = {
        "action": ticket.action.name,
        "samples": str(given.samples),
        "vote-share": f"{given.verdict.share:.4f}",
        "policy": policy,
    }
    if decision is not None:
        found["price"] = f"{decision.price:.6g}"
    if question.ignored:
        found["ignored"] = ",".join(question.ignored)[:_LONGEST_HEADER]
    if given.seen:
        found |= {"path": _path([one.source for one in given.seen], given), "votes": _votes(given)}
        found["posterior"] = f"{given.verdict.posterior:.4f}"
    found |= {name: said for name in ("fallback", "early") if (said := getattr(given, name))}
    if debug:
        found |= {"answers": str(given.verdict.answers), "reserved": f"{ticket.reserved:.6g}"}
        found |= {"faults": "; ".join(given.faults)[:_LONGEST_HEADER]} if given.faults else {}
        if decision is not None:
            found |= {"runner-up": str(decision.runner_up), "margin": f"{decision.margin:.6g}"}
            found |= {"expected": f"{ticket.expected:.6g}", "predicted": json.dumps(decision.predicted)}
    return {f"x-alloc-{name}": _printable(value) for name, value in found.items()}


def _path(said: Sequence[str], given: Answer) -> str:
    """What is to be said of every sample; ` > ` stands between rounds."""
    rounds = groupby(zip(given.seen, said, strict=True), key=lambda pair: pair[0].round)
    return " > ".join(" + ".join(text for _, text in wave) for _, wave in rounds)[:_LONGEST_HEADER]


def _votes(given: Answer) -> str:
    """Which samples agree: answers by number, in the order of their appearance; `-` for none."""
    numbers: dict[str, str] = {}
    return _path(
        ["-" if key is None else numbers.setdefault(key, str(len(numbers) + 1)) for _, key, _ in given.seen], given
    )


def json_bytes(body: Any) -> bytes:
    """JSON in ASCII, which holds any text, half a surrogate pair included."""
    return json.dumps(body).encode()


def error_body(status: int, message: str) -> dict[str, Any]:
    """An error as clients of the protocol read it."""
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "upstream_error"
    )
    return {"error": {"message": message, "type": kind, "code": status, "param": None}}


def fault_status(fault: Fault) -> tuple[int, float | None]:
    """The status of a request for which the upstream gave nothing, and when to come again."""
    if fault.status is None:
        return (504 if str(fault) == "time-out" else 503 if fault.retry_after else 502), fault.retry_after
    if fault.status == 429:
        return 503, fault.retry_after or 1.0
    if (
        fault.final and fault.status >= 400 and fault.status not in (401, 403)
    ):  # about the request itself; keys are ours
        return fault.status, None
    return 502, fault.retry_after


def _count(body: Mapping[str, Any], name: str, where: str = "") -> int | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31):
        raise Refused("invalid", f"{where}{name}: expected a whole number from 1, got {_shown(value)}")
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # which would go upstream as no JSON
        raise ValueError(f"{text[:40]} is beyond what a number can be")
    return value


def _shown(value: Any) -> str:
    """A client's value in a message."""
    try:
        return repr(value)[:80]
    except ValueError:  # a number of thousands of digits
        return "a number that is too long"


def _printable(text: str) -> str:
    """A header holds printable ASCII, and nothing else."""
    return "".join(
        c if " " <= c <= "~" else c.encode("ascii", "backslashreplace").decode() if c > "~" else " " for c in text
    )
