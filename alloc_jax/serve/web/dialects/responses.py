"""The Responses API, as far as it holds no state: a request for a response as one for a chat completion.

Every parameter has a place in the chat request, is refused by name, or is named as one that is not honoured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alloc_jax.serve.tickets import Refused
from alloc_jax.serve.web.dialects.fields import list_of, object_of, text_of
from alloc_jax.serve.web.request_bodies import count_of

_SAME = {  # in both protocols
    "model", "stream", "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "alloc",
}  # fmt: skip
_READ = {
    "input", "instructions", "tools", "tool_choice", "reasoning", "text", "max_output_tokens", "include", "top_logprobs", "metadata",
}  # fmt: skip
_REFUSED = {
    "previous_response_id": "nothing is stored: send the whole conversation",
    "conversation": "nothing is stored: send the whole conversation",
    "store": "nothing is stored",
    "background": "answers are waited for",
    "prompt": "no prompts are stored",
}
_DEFAULTS = {"truncation": "disabled", "service_tier": "auto", "stream_options": {}}
_LOGPROBS = "message.output_text.logprobs"


def chat_request(asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request for a chat completion, and the parameters that are not honoured.

    Raises:
      Refused: it needs what is stored, hosted tools, or anything else that a chat completion has not.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    for name, why in _REFUSED.items():
        if given.get(name):
            raise Refused("invalid", f"{name}: {why}")
    ignored = {name for name in given.keys() - _SAME - _READ - _REFUSED.keys() if given[name] != _DEFAULTS.get(name)}
    body = {name: given[name] for name in _SAME & given.keys()}
    messages: list[dict[str, Any]] = []
    if "instructions" in given:
        messages.append({"role": "system", "content": text_of(given["instructions"], "instructions")})
    for message in _messages(given.get("input"), ignored):
        before = messages[-1] if messages else {}
        if "tool_calls" in message and before.get("role") == "assistant":  # one turn of the model's
            before.setdefault("tool_calls", []).extend(message["tool_calls"])
        else:
            messages.append(message)
    body["messages"] = messages
    if "tools" in given:
        body["tools"] = [_tool(tool, j) for j, tool in enumerate(list_of(given["tools"], "tools"))]
    if "tool_choice" in given:
        body["tool_choice"] = _choice(given["tool_choice"])
    if "max_output_tokens" in given:
        body["max_completion_tokens"] = count_of(given, "max_output_tokens")
    reasoning, text = object_of(given.get("reasoning", {}), "reasoning"), object_of(given.get("text", {}), "text")
    include = list_of(given.get("include", []), "include")
    ignored |= {f"reasoning.{name}" for name in reasoning.keys() - {"effort"} if reasoning[name] is not None}
    ignored |= {f"text.{name}" for name in text.keys() - {"format", "verbosity"} if text[name] is not None}
    ignored |= {f"include.{text_of(name, 'include')}" for name in include if name != _LOGPROBS}
    wanted = {"reasoning_effort": reasoning.get("effort"), "verbosity": text.get("verbosity")}
    wanted |= {"response_format": _format(text.get("format")), "top_logprobs": given.get("top_logprobs")}
    wanted["logprobs"] = True if _LOGPROBS in include or "top_logprobs" in given else None
    return body | {name: value for name, value in wanted.items() if value is not None}, tuple(sorted(ignored))


def _messages(asked: Any, ignored: set[str]) -> Iterator[dict[str, Any]]:
    """The messages that the input says."""
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    for j, item in enumerate(list_of(asked, "input")):
        where, item = f"input[{j}]", object_of(item, f"input[{j}]")
        kind = item.get("type", "message")
        if kind == "message":
            yield {"role": text_of(item.get("role"), f"{where}.role"), "content": _content(item.get("content"), where)}
        elif kind == "function_call":
            about = {name: text_of(item.get(name), f"{where}.{name}") for name in ("name", "arguments")}
            call = {"id": text_of(item.get("call_id"), f"{where}.call_id"), "type": "function", "function": about}
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
        elif kind == "function_call_output":
            identity = text_of(item.get("call_id"), f"{where}.call_id")
            yield {"role": "tool", "tool_call_id": identity, "content": _content(item.get("output"), where)}
        elif kind == "reasoning":  # clients send back what they were given; a chat has no place for it
            ignored.add("input.reasoning")
        else:
            raise Refused("invalid", f"{where}: an item of type {kind!r} needs what is stored, or a hosted tool")


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    """A message's content, of texts and images; text alone is one text."""
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for j, part in enumerate(list_of(content, f"{where}.content")):
        at, part = f"{where}.content[{j}]", object_of(part, f"{where}.content[{j}]")
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text"):
            parts.append({"type": "text", "text": text_of(part.get("text"), f"{at}.text")})
        elif kind == "refusal":
            parts.append({"type": "refusal", "refusal": text_of(part.get("refusal"), f"{at}.refusal")})
        elif kind == "input_image" and isinstance(part.get("image_url"), str):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"], **detail}})
        else:
            raise Refused("invalid", f"{at}: texts and images by URL are read, got a part of type {kind!r}")
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _tool(tool: Any, j: int) -> dict[str, Any]:
    tool = object_of(tool, f"tools[{j}]")
    if tool.get("type") != "function":
        raise Refused("invalid", f"tools[{j}]: there are no hosted tools, got {str(tool.get('type'))[:80]!r}")
    text_of(tool.get("name"), f"tools[{j}].name")
    about = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": about}


def _choice(choice: Any) -> str | dict[str, Any]:
    if isinstance(choice, str):
        return choice
    choice = object_of(choice, "tool_choice")
    if choice.get("type") != "function":
        raise Refused("invalid", f"tool_choice: a mode or a function, got {str(choice.get('type'))[:80]!r}")
    return {"type": "function", "function": {"name": text_of(choice.get("name"), "tool_choice.name")}}


def _format(wanted: Any) -> dict[str, Any] | None:
    if wanted is None:
        return None
    wanted = dict(object_of(wanted, "text.format"))
    if wanted.get("type") != "json_schema":
        return wanted
    del wanted["type"]
    return {"type": "json_schema", "json_schema": wanted}
