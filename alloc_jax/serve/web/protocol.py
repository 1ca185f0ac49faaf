"""The wire: the bodies, events and headers that go back to clients of chat completions, and what an error says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from alloc_jax.collect.replies import Fault, Usage
from alloc_jax.serve.tickets import Ticket
from alloc_jax.serve.web.request_bodies import PREFIX

if TYPE_CHECKING:
    from alloc_jax.serve.web.answering import Answer

_STRICT = json.JSONEncoder(allow_nan=False)
_LONGEST_HEADER = 1000  # characters of a list in a header
DONE = b"data: [DONE]\n\n"
STATUS = {
    "invalid": 400,
    "forbidden": 403,
    "unknown": 404,
    "late": 408,
    "conflict": 409,
    "large": 413,
    "exhausted": 429,
    "busy": 503,
}  # of HTTP, by the reason of a refusal


class Writer(Protocol):
    """Writes a chat completion's chunks as the events that a client reads."""

    def chunk(self, said: Mapping[str, Any]) -> bytes:
        """The events of a chunk that holds a choice."""

    def end(self, usage: Usage) -> bytes:
        """The last events."""

    def broken(self, status: int, message: str) -> bytes:
        """The last events where there is an error instead."""


class Dialect(Protocol):
    """A protocol that clients speak, made of chat completions."""

    def whole(self, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
        """The body of a completion."""

    def writer(self, identity: str, model: str, with_usage: bool) -> Writer:
        """What writes a completion as a stream."""


class Chat:
    """Chat completions, as they are."""

    def whole(self, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
        return body

    def writer(self, identity: str, model: str, with_usage: bool) -> Writer:
        return Chunks(_head(identity, model), with_usage)


@dataclass(frozen=True)
class Chunks:
    """Chat completions' own events, under the gateway's names."""

    head: Mapping[str, Any]
    with_usage: bool

    def chunk(self, said: Mapping[str, Any]) -> bytes:
        more = {name: value for name, value in said.items() if name not in (*self.head, "choices", "usage", "error")}
        try:
            return self._event({**self.head, "choices": said["choices"][:1], **more})
        except (ValueError, RecursionError):
            return self._event({**self.head, "choices": [sendable(said["choices"][0])]})

    def end(self, usage: Usage) -> bytes:
        last = self._event({**self.head, "choices": [], "usage": usage_body(usage)}) if self.with_usage else b""
        return last + DONE

    def broken(self, status: int, message: str) -> bytes:
        return self._event(error_body(status, message))

    def _event(self, body: Mapping[str, Any]) -> bytes:
        return b"data: " + _STRICT.encode(body).encode() + b"\n\n"


def completion(identity: str, model: str, choice: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """The body of an answer."""
    head = _head(identity, model) | {"object": "chat.completion"}
    return {**head, "choices": [choice], "usage": usage_body(usage)}


def choice_of(raw: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A choice as the upstream put it, as far as that can be sent on: with its calls of tools, logprobs and reasoning.

    Args:
      raw: the upstream's choice.
      text: of its message, for one that comes in parts.
    """
    message = sendable(raw.get("message") or {})
    if not isinstance(message.get("content"), (str, type(None))):
        message["content"] = text
    message = {"role": "assistant", "content": None} | message
    finish = raw.get("finish_reason")
    fixed = {"index": 0, "message": message, "finish_reason": finish if isinstance(finish, str) else "stop"}
    return {**fixed, "logprobs": None, **sendable(raw), **fixed}


def sendable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are JSON, which an upstream's need not be: not a number beyond all, nor nested too deeply."""
    found = {}
    for name, value in fields.items():
        if not isinstance(value, (str, type(None))):
            try:
                _STRICT.encode([[[[[[[[value]]]]]]]])  # as deep in an answer as it will be
            except (ValueError, RecursionError):
                continue
        found[name] = value
    return found


def _head(identity: str, model: str) -> dict[str, Any]:
    """What every event of an answer says."""
    created = int(time.time())
    return {"id": f"chatcmpl-{identity}", "object": "chat.completion.chunk", "created": created, "model": model}


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
    for part, names in (("prompt", ("cached_tokens", "cache_write_tokens")), ("completion", ("reasoning_tokens",))):
        said = {name: int(count) for name in names if (count := getattr(usage, name)) is not None}
        body |= {f"{part}_tokens_details": said} if said else {}
    return body


def chunks_of(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A completion as the chunks of a stream: some hundreds at most, however long its text is."""
    choice = body["choices"][0]
    message, text = dict(choice["message"]), choice["message"].get("content") or ""
    calls = message.pop("tool_calls", None)

    def chunk(delta: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}

    yield chunk(message | {"content": "" if text else message["content"]}, logprobs=choice["logprobs"])
    size = max(32, len(text) // 256)  # characters of a chunk
    for at in range(0, len(text), size):
        yield chunk({"content": text[at : at + size]})
    if isinstance(calls, list) and calls:
        yield chunk({"tool_calls": [{"index": j, **call} for j, call in enumerate(calls) if isinstance(call, dict)]})
    yield chunk({}, finish_reason=choice["finish_reason"])


def answered(identity: str, ticket: Ticket, given: Answer) -> dict[str, Any]:
    """The body of an allocated answer."""
    return completion(identity, f"{PREFIX}{ticket.action.name}", given.choice, given.usage)


def headers_of(ticket: Ticket, given: Answer, policy: str, ignored: Sequence[str], debug: bool) -> dict[str, str]:
    """What an allocated answer's headers say: what was done, and with `debug` why."""
    decision = ticket.decision
    found = {
        "action": ticket.action.name,
        "samples": str(given.samples),
        "vote-share": f"{given.verdict.share:.4f}",
        "policy": policy,
    }
    if decision is not None:
        found["multiplier"] = f"{decision.multiplier:.6g}"
    if given.verdict.score is not None:
        found["verdict"] = f"{given.verdict.score:.4f}"
    if given.seen:
        found["path"] = _path([one.source for one in given.seen], given)
    if given.verdict.posterior is not None:
        found |= {"votes": _votes(given), "posterior": f"{given.verdict.posterior:.4f}"}
    found |= {name: said for name in ("fallback", "early") if (said := getattr(given, name))}
    if debug:
        found |= {"answers": str(given.verdict.answers), "reserved": f"{ticket.reserved:.6g}"}
        found |= {"faults": "; ".join(given.faults)[:_LONGEST_HEADER]} if given.faults else {}
        if decision is not None:
            found |= {"runner-up": str(decision.runner_up), "margin": f"{decision.margin:.6g}"}
            found |= {"expected": f"{ticket.expected:.6g}", "predicted": json.dumps(decision.predicted)}
    return {f"x-alloc-{name}": _printable(value) for name, value in found.items()} | ignored_header(ignored)


def ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    """The header that names the parameters that were not honoured; none where all were."""
    return {"x-alloc-ignored": _printable(",".join(ignored)[:_LONGEST_HEADER])} if ignored else {}


def _path(said: Sequence[str], given: Answer) -> str:
    """What is to be said of every sample; ` > ` stands between rounds."""
    rounds = groupby(zip(given.seen, said, strict=True), key=lambda pair: pair[0].round)
    return " > ".join(" + ".join(text for _, text in wave) for _, wave in rounds)[:_LONGEST_HEADER]


def _votes(given: Answer) -> str:
    """Which samples agree: answers by number, in the order of their appearance; `-` for none."""
    numbers: dict[str, str] = {}
    return _path(
        ["-" if one.key is None else numbers.setdefault(one.key, str(len(numbers) + 1)) for one in given.seen], given
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


def _printable(text: str) -> str:
    """A header holds printable ASCII, and nothing else."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if " " <= c <= "~" else c.encode("ascii", "backslashreplace").decode() if c > "~" else " " for c in text
    )
