"""A chat completion as a message of the Messages API, whole or as the events of a stream, in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alloc_jax.collect.replies import Usage
from alloc_jax.serve.web.protocol import chunks_of

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def message_error(status: int, message: str) -> dict[str, Any]:
    """An error as clients of the protocol read it."""
    return {"type": "error", "error": {"type": _ERRORS.get(status, "api_error"), "message": message}}


@dataclass(frozen=True)
class Messages:
    """The Messages API, for one request.

    Args:
      identity: of the request.
    """

    identity: str

    def whole(self, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
        """The message that a completion is."""
        writer = self.writer(self.identity, str(body.get("model")), True)
        for chunk in chunks_of(body):
            writer.chunk(chunk)
        return {**writer.head, "content": writer.content(), **writer.stop(), "usage": _usage(usage)}

    def writer(self, identity: str, model: str, with_usage: bool) -> MessageEvents:
        """What writes the events; the last but one always holds the usage."""
        return MessageEvents({"id": f"msg_{identity}", "type": "message", "role": "assistant", "model": model})


class MessageEvents:
    """Writes chunks of a completion as a message's events: one block after the other, of text, thinking or a call.

    Args:
      head: what is said of the message from its beginning.
    """

    def __init__(self, head: Mapping[str, Any]):
        self.head = head
        self.blocks: list[
            tuple[tuple[str, int], dict[str, Any], list[str]]
        ] = []  # key, beginning, texts; the last one grows
        self.begun = False
        self.finish: str | None = None

    def chunk(self, said: Mapping[str, Any]) -> bytes:
        """The events of a chunk."""
        first = said["choices"][0]
        delta, events = first["delta"], []
        if not self.begun:
            self.begun = True
            start = {**self.head, "content": [], "stop_reason": None, "stop_sequence": None}
            start["usage"] = {"input_tokens": 0, "output_tokens": 0}  # the last event but one says how many
            events.append(_event("message_start", message=start))
        reasoning = delta.get("reasoning_content", delta.get("reasoning"))
        for kind, text in (("thinking", reasoning), ("text", delta.get("content") or delta.get("refusal"))):
            if isinstance(text, str) and text:
                about = {"thinking": "", "signature": ""} if kind == "thinking" else {"text": ""}
                events += self._grown((kind, 0), {"type": kind, **about}, text)
        calls = delta.get("tool_calls")
        for j, call in enumerate(calls if isinstance(calls, list) else ()):
            about = call.get("function") if isinstance(call, dict) else None
            if isinstance(about, dict):
                number = call.get("index", j)
                key = ("tool_use", number if isinstance(number, int) else j)
                identity, name = call.get("id"), about.get("name")
                block: dict[str, Any] = {
                    "type": "tool_use",
                    "id": identity if isinstance(identity, str) else f"toolu_{self.head['id']}_{key[1]}",
                }
                block |= {"name": name if isinstance(name, str) else "", "input": {}}
                arguments = about.get("arguments")
                events += self._grown(key, block, arguments if isinstance(arguments, str) else "")
        self.finish = reason if isinstance(reason := first.get("finish_reason"), str) else self.finish
        return b"".join(events)

    def end(self, usage: Usage) -> bytes:
        """The last block's end, why the message ends, and what it took."""
        events = [self._stopped()] if self.blocks else []
        said = _event("message_delta", delta=self.stop(), usage=_usage(usage))
        return b"".join([*events, said, _event("message_stop")])

    def broken(self, status: int, message: str) -> bytes:
        """The end of a message that failed."""
        return _event("error", error=message_error(status, message)["error"])

    def content(self) -> list[dict[str, Any]]:
        """The blocks so far."""
        return [_block(start, "".join(texts)) for _, start, texts in self.blocks]

    def stop(self) -> dict[str, Any]:
        """Why it ends; a server says `stop` of a sequence, too, and not which."""
        calls = any(key[0] == "tool_use" for key, _, _ in self.blocks)
        reason = "tool_use" if calls else _STOPS.get(self.finish or "stop", "end_turn")
        return {"stop_reason": reason, "stop_sequence": None}

    # -----------------------------------------------------------------------------------------------------------

    def _grown(self, key: tuple[str, int], block: dict[str, Any], text: str) -> Iterator[bytes]:
        """More of a block; another one ends the one before."""
        if not self.blocks or self.blocks[-1][0] != key:
            if self.blocks:
                yield self._stopped()
            self.blocks.append((key, block, []))
            yield _event("content_block_start", index=len(self.blocks) - 1, content_block=block)
        if text:
            self.blocks[-1][2].append(text)
            name, field = {"tool_use": ("input_json_delta", "partial_json")}.get(key[0], (f"{key[0]}_delta", key[0]))
            yield _event("content_block_delta", index=len(self.blocks) - 1, delta={"type": name, field: text})

    def _stopped(self) -> bytes:
        return _event("content_block_stop", index=len(self.blocks) - 1)


def _block(start: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A whole block; arguments that are no JSON object are its only field."""
    if start["type"] != "tool_use":
        return {**start, start["type"]: text}
    try:
        read = json.loads(text or "{}")
    except (ValueError, RecursionError):
        read = None
    return {**start, "input": read if isinstance(read, dict) else {"arguments": text}}


def _usage(usage: Usage) -> dict[str, Any]:
    """Usage in the words of messages, where what came from a cache is beside the input; null where upstream did not say."""
    prompt, cached, written = usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens
    fresh = None if prompt is None else int(prompt - (cached or 0) - (written or 0))
    output = None if usage.completion_tokens is None else int(usage.completion_tokens)
    parts = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
    return {"input_tokens": fresh, "output_tokens": output} | {
        name: int(count) for name, count in parts.items() if count is not None
    }


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
