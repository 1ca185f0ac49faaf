"""The Responses API, as far as it holds no state: a request for a response as one for a chat completion.

Every parameter has a place in the chat request, is refused by name, or is named as one that is not honoured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alloc_jax.serve.tickets import Refused
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
        messages.append({"role": "system", "content": _text(given["instructions"], "instructions")})
    for message in _messages(given.get("input"), ignored):
        before = messages[-1] if messages else {}
        if "tool_calls" in message and before.get("role") == "assistant":  # one turn of the model's
            before.setdefault("tool_calls", []).extend(message["tool_calls"])
        else:
            messages.append(message)
    body["messages"] = messages
    if "tools" in given:
        body["tools"] = [_tool(tool, j) for j, tool in enumerate(_list(given["tools"], "tools"))]
    if "tool_choice" in given:
        body["tool_choice"] = _choice(given["tool_choice"])
    if "max_output_tokens" in given:
        body["max_completion_tokens"] = count_of(given, "max_output_tokens")
    reasoning, text = _object(given.get("reasoning", {}), "reasoning"), _object(given.get("text", {}), "text")
    include = _list(given.get("include", []), "include")
    ignored |= {f"reasoning.{name}" for name in reasoning.keys() - {"effort"} if reasoning[name] is not None}
    ignored |= {f"text.{name}" for name in text.keys() - {"format", "verbosity"} if text[name] is not None}
    ignored |= {f"include.{_text(name, 'include')}" for name in include if name != _LOGPROBS}
    wanted = {"reasoning_effort": reasoning.get("effort"), "verbosity": text.get("verbosity")}
    wanted |= {"response_format": _format(text.get("format")), "top_logprobs": given.get("top_logprobs")}
    wanted["logprobs"] = True if _LOGPROBS in include or "top_logprobs" in given else None
    return body | {name: value for name, value in wanted.items() if value is not None}, tuple(sorted(ignored))


def _messages(asked: Any, ignored: set[str]) -> Iterator[dict[str, Any]]:
    """The messages that the input says."""
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    for j, item in enumerate(_list(asked, "input")):
        where, item = f"input[{j}]", _object(item, f"input[{j}]")
        kind = item.get("type", "message")
        if kind == "message":
            yield {"role": _text(item.get("role"), f"{where}.role"), "content": _content(item.get("content"), where)}
        elif kind == "function_call":
            about = {name: _text(item.get(name), f"{where}.{name}") for name in ("name", "arguments")}
            call = {"id": _text(item.get("call_id"), f"{where}.call_id"), "type": "function", "function": about}
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
        elif kind == "function_call_output":
            identity = _text(item.get("call_id"), f"{where}.call_id")
            yield {"role": "tool", "tool_call_id": identity, "content": _content(item.get("output"), where)}
        elif kind == "reasoning":  # clients send back what they were given; a chat has no place for it
            ignored.add("input.reasoning")
        else:
            raise Refused("invalid", f"{where}: an item of type {kind!r} needs what is stored, or a hosted tool")


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    """A message's content, of texts and images; text alone is one text."""
    if isinstance(content, str):
        return content
    parts = []
    for j, part in enumerate(_list(content, f"{where}.content")):
        at, part = f"{where}.content[{j}]", _object(part, f"{where}.content[{j}]")
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text"):
            parts.append({"type": "text", "text": _text(part.get("text"), f"{at}.text")})
        elif kind == "refusal":
            parts.append({"type": "refusal", "refusal": _text(part.get("refusal"), f"{at}.refusal")})
        elif kind == "input_image" and isinstance(part.get("image_url"), str):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"], **detail}})
        else:
            raise Refused("invalid", f"{at}: texts and images by URL are read, got a part of type {kind!r}")
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _tool(tool: Any, j: int) -> dict[str, Any]:
    tool = _object(tool, f"tools[{j}]")
    if tool.get("type") != "function":
        raise Refused("invalid", f"tools[{j}]: there are no hosted tools, got {str(tool.get('type'))[:80]!r}")
    _text(tool.get("name"), f"tools[{j}].name")
    about = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": about}


def _choice(choice: Any) -> str | dict[str, Any]:
    if isinstance(choice, str):
        return choice
    choice = _object(choice, "tool_choice")
    if choice.get("type") != "function":
        raise Refused("invalid", f"tool_choice: a mode or a function, got {str(choice.get('type'))[:80]!r}")
    return {"type": "function", "function": {"name": _text(choice.get("name"), "tool_choice.name")}}


def _format(wanted: Any) -> dict[str, Any] | None:
    if wanted is None:
        return None
    wanted = dict(_object(wanted, "text.format"))
    if wanted.get("type") != "json_schema":
        return wanted
    del wanted["type"]
    return {"type": "json_schema", "json_schema": wanted}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Refused("invalid", f"{where}: expected a text")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("invalid", f"{where}: expected a list")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("invalid", f"{where}: expected an object")
    return value
