"""A chat completion as a response of the Responses API, whole or as the events of a stream, in their order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alloc_jax.collect.replies import Fault, Usage
from alloc_jax.serve.web.protocol import chunks_of, sendable

_LONGEST = 32 << 20  # characters of a response, which its last event repeats
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED = (
    "instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning", "temperature", "text", "tool_choice",
    "tools", "top_p", "top_logprobs", "user", "safety_identifier", "prompt_cache_key",
)  # fmt: skip
_DEFAULTS = {
    "metadata": {},
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
}


@dataclass(frozen=True)
class Responses:
    """The Responses API, for one request.

    Args:
      asked: its body.
      identity: of the request.
    """

    asked: Mapping[str, Any]
    identity: str

    def whole(self, body: Mapping[str, Any], usage: Usage) -> Mapping[str, Any]:
        """The response that a completion is."""
        writer = self.writer(self.identity, str(body.get("model")), True)
        for chunk in chunks_of(body):
            writer.chunk(chunk)
        writer.end(usage)
        return writer.response(writer.status, usage)

    def writer(self, identity: str, model: str, with_usage: bool) -> Events:
        """What writes the events; the last one always holds the usage."""
        said = {name: _DEFAULTS.get(name) if (own := self.asked.get(name)) is None else own for name in _ECHOED}
        head = {"id": f"resp_{identity}", "object": "response", "created_at": int(time.time()), "model": model}
        fixed = {"store": False, "background": False, "previous_response_id": None, "truncation": "disabled"}
        return Events({**head, **said, **fixed})


@dataclass
class Item:
    """One item of the output, as it grows: a message's text or refusal, reasoning, or a call of a function."""

    id: str
    at: int  # among the output's
    kind: str  # of its part, or "function_call"
    text: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    name: str = ""
    call: str = ""  # the call's id
    status: str = "in_progress"

    def part(self, text: str) -> dict[str, Any]:
        """Its part of a message, or of reasoning."""
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        if self.kind == "reasoning_text":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self.logprobs if text else []}

    def body(self, text: str | None = None) -> dict[str, Any]:
        """The item with a text; with none at its beginning."""
        if self.kind == "function_call":
            return {
                "id": self.id,
                "type": "function_call",
                "status": self.status,
                "call_id": self.call,
                "name": self.name,
                "arguments": text or "",
            }
        parts = [] if text is None else [self.part(text)]
        if self.kind == "reasoning_text":
            return {"id": self.id, "type": "reasoning", "status": self.status, "summary": [], "content": parts}
        return {"id": self.id, "type": "message", "status": self.status, "role": "assistant", "content": parts}


class Events:
    """Writes chunks of a completion as a response's events.

    An item is done when another one begins. What a server says of it later is not lost: it is done once more at the end.

    Args:
      head: what is said of the response from its beginning.
    """

    def __init__(self, head: Mapping[str, Any]):
        self.head = head
        self.items: dict[tuple[str, int], Item] = {}  # by kind, and the number of a call
        self.number = self.size = 0
        self.finish: str | None = None

    @property
    def status(self) -> str:
        """How the response ends."""
        return "incomplete" if self.finish in _INCOMPLETE else "completed"

    def chunk(self, said: Mapping[str, Any]) -> bytes:
        """The events of a chunk.

        Raises:
          Fault: the response is longer than can be held.
        """
        first, events = said["choices"][0], []
        if not self.number:
            events += [
                self._event(f"response.{name}", response=self.response("in_progress", None))
                for name in ("created", "in_progress")
            ]
        delta, logprobs = first["delta"], first.get("logprobs")
        reasoning = delta.get("reasoning_content", delta.get("reasoning"))
        for kind, text in (
            ("reasoning_text", reasoning),
            ("output_text", delta.get("content")),
            ("refusal", delta.get("refusal")),
        ):
            if isinstance(text, str) and text:
                said = sendable(logprobs if kind == "output_text" and isinstance(logprobs, dict) else {}).get("content")
                events += self._grown((kind, 0), text, said if isinstance(said, list) else [])
        calls = delta.get("tool_calls")
        for j, call in enumerate(calls if isinstance(calls, list) else ()):
            about = call.get("function") if isinstance(call, dict) else None
            if isinstance(about, dict):
                number = call.get("index", j)
                events += self._called(number if isinstance(number, int) else j, call.get("id"), about)
        self.finish = reason if isinstance(reason := first.get("finish_reason"), str) else self.finish
        return b"".join(events)

    def end(self, usage: Usage) -> bytes:
        """What is left of the items, and the whole response."""
        events = [event for item in self.items.values() for event in self._done(item, self.status)]
        return b"".join([*events, self._event(f"response.{self.status}", response=self.response(self.status, usage))])

    def broken(self, status: int, message: str) -> bytes:
        """The end of a response that failed."""
        said = self.response("failed", None) | {"error": {"code": "server_error", "message": message}}
        return self._event("response.failed", response=said)

    def response(self, status: str, usage: Usage | None) -> dict[str, Any]:
        """The response as far as it is there."""
        why = {"reason": _INCOMPLETE[self.finish]} if status == "incomplete" else None
        output = [item.body("".join(item.text)) for item in self.items.values()]
        known = {"status": status, "error": None, "incomplete_details": why, "output": output}
        return {**self.head, **known, "usage": None if usage is None else _usage(usage)}

    # -----------------------------------------------------------------------------------------------------------

    def _called(self, number: int, identity: Any, about: Mapping[str, Any]) -> Iterator[bytes]:
        """The events of what is said of a call."""
        key, text = ("function_call", number), about.get("arguments")
        if key not in self.items:
            name = about.get("name")
            call = identity if isinstance(identity, str) and identity else f"call_{self.head['id']}_{number}"
            yield from self._begun(key, name=name if isinstance(name, str) else "", call=call)
        if isinstance(text, str) and text:
            yield from self._grown(key, text, [])

    def _begun(self, key: tuple[str, int], name: str = "", call: str = "") -> Iterator[bytes]:
        """A new item, before which the others are done."""
        for item in self.items.values():
            yield from self._done(item)
        kind, at = key[0], len(self.items)
        short = {"function_call": "fc", "reasoning_text": "rs"}.get(kind, "msg")
        item = self.items[key] = Item(f"{short}_{self.head['id'][5:]}_{at}", at, kind, name=name, call=call)
        yield self._event("response.output_item.added", output_index=at, item=item.body())
        if kind != "function_call":
            yield self._event("response.content_part.added", **self._where(item), part=item.part(""))

    def _grown(self, key: tuple[str, int], text: str, logprobs: list[Any]) -> Iterator[bytes]:
        """More of an item."""
        self.size += len(text)
        if self.size > _LONGEST:
            raise Fault(f"a response of more than {_LONGEST} characters", billed=True)
        if key not in self.items:
            yield from self._begun(key)
        item = self.items[key]
        item.text.append(text)
        item.logprobs += logprobs
        item.status = "in_progress"
        if item.kind == "function_call":
            yield self._event(
                "response.function_call_arguments.delta", item_id=item.id, output_index=item.at, delta=text
            )
        else:
            more = {"logprobs": logprobs} if item.kind == "output_text" else {}
            yield self._event(f"response.{item.kind}.delta", **self._where(item), delta=text, **more)

    def _done(self, item: Item, status: str = "completed") -> Iterator[bytes]:
        """The end of an item, if it has not been there yet."""
        if item.status != "in_progress":
            return
        item.status, text = status, "".join(item.text)
        if item.kind == "function_call":
            more = {"item_id": item.id, "output_index": item.at, "name": item.name, "arguments": text}
            yield self._event("response.function_call_arguments.done", **more)
        else:
            more = {"logprobs": item.logprobs} if item.kind == "output_text" else {}
            said = {"refusal": text} if item.kind == "refusal" else {"text": text}
            yield self._event(f"response.{item.kind}.done", **self._where(item), **said, **more)
            yield self._event("response.content_part.done", **self._where(item), part=item.part(text))
        yield self._event("response.output_item.done", output_index=item.at, item=item.body(text))

    def _where(self, item: Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.at, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self.number, **fields}
        self.number += 1
        return f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode()


def _usage(usage: Usage) -> dict[str, Any] | None:
    """Usage in the words of responses; null where upstream did not say, and without the details that it did not."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    sides = {"input": usage.prompt_tokens, "output": usage.completion_tokens}
    body: dict[str, Any] = {f"{name}_tokens": int(count) for name, count in sides.items()}
    details = {"input": ("cached_tokens", "cache_write_tokens"), "output": ("reasoning_tokens",)}
    for side, names in details.items():
        said = {name: int(count) for name in names if (count := getattr(usage, name)) is not None}
        body |= {f"{side}_tokens_details": said} if said else {}
    return body | {"total_tokens": sum(body[f"{side}_tokens"] for side in sides)}
