"""The Messages API, as far as it holds no state: a request for a message as one for a chat completion.

Every parameter has a place in the chat request, is refused by name, or is named as one that is not honoured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from alloc_jax.serve.tickets import Refused
from alloc_jax.serve.web.dialects.fields import list_of, object_of, text_of
from alloc_jax.serve.web.request_bodies import count_of

_SAME = {"model", "stream", "temperature", "top_p", "top_k", "alloc"}  # in both protocols
_READ = {
    "messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "output_config", "thinking",
}  # fmt: skip
_REFUSED = {
    "container": "nothing is run here",
    "mcp_servers": "there are no hosted tools",
    "context_management": "send the conversation as it is to be read",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_of_message(asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request for a chat completion, and the parameters that are not honoured.

    Raises:
      Refused: it needs hosted tools, files, or anything else that a chat completion has not.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    for name, why in _REFUSED.items():
        if given.get(name):
            raise Refused("invalid", f"{name}: {why}")
    ignored = set(given.keys() - _SAME - _READ - _REFUSED.keys())
    body = {name: given[name] for name in _SAME & given.keys()}
    if count_of(given, "max_tokens") is None:
        raise Refused("invalid", "max_tokens: expected a whole number from 1")
    body["max_tokens"] = given["max_tokens"]
    system = _system(given.get("system"))
    messages = [{"role": "system", "content": system}] if system else []
    for j, message in enumerate(list_of(given.get("messages"), "messages")):
        messages += _messages(object_of(message, f"messages[{j}]"), f"messages[{j}]", ignored)
    body["messages"] = messages
    if "tools" in given:
        body["tools"] = [_tool(tool, j) for j, tool in enumerate(list_of(given["tools"], "tools"))]
    if "tool_choice" in given:
        body |= _choice(given["tool_choice"])
    if "stop_sequences" in given:
        body["stop"] = [text_of(stop, "stop_sequences") for stop in list_of(given["stop_sequences"], "stop_sequences")]
    if user := object_of(given.get("metadata", {}), "metadata").get("user_id"):
        body["user"] = text_of(user, "metadata.user_id")
    if object_of(given.get("thinking", {}), "thinking").get("type", "disabled") != "disabled":
        ignored.add("thinking")
    return body | _output(given.get("output_config", {}), ignored), tuple(sorted(ignored))


def _system(said: Any) -> str:
    if said is None or isinstance(said, str):
        return said or ""
    return "\n".join(_block_text(part, f"system[{j}]") for j, part in enumerate(list_of(said, "system")))


def _messages(message: Mapping[str, Any], where: str, ignored: set[str]) -> Iterator[dict[str, Any]]:
    """The messages that one is: the results of tools stand in messages of their own, before what the user says."""
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant", "system"):
        raise Refused("invalid", f"{where}.role: expected user or assistant, got {str(role)[:80]!r}")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    parts, calls = [], []
    for j, block in enumerate(list_of(content, f"{where}.content")):
        at, block = f"{where}.content[{j}]", object_of(block, f"{where}.content[{j}]")
        kind = block.get("type")
        if kind == "text":
            parts.append({"type": "text", "text": _block_text(block, at)})
        elif kind == "image" and role == "user":
            parts.append(_image(block, at))
        elif kind == "tool_use" and role == "assistant":
            calls.append(_call(block, at))
        elif kind == "tool_result" and role == "user":
            yield _result(block, at)
        elif kind in (
            "thinking",
            "redacted_thinking",
        ):  # clients send back what they were given; a chat has no place for it
            ignored.add("messages.thinking")
        else:
            raise Refused("invalid", f"{at}: texts, images and tools are read, got a block of type {str(kind)[:80]!r}")
    more = {"tool_calls": calls} if calls else {}
    if parts or calls:
        yield {"role": role, "content": _joined(parts) if parts else None, **more}


def _call(block: Mapping[str, Any], at: str) -> dict[str, Any]:
    about = {"name": text_of(block.get("name"), f"{at}.name"), "arguments": json.dumps(block.get("input") or {})}
    return {"id": text_of(block.get("id"), f"{at}.id"), "type": "function", "function": about}


def _result(block: Mapping[str, Any], at: str) -> dict[str, Any]:
    content = block.get("content") or ""
    if not isinstance(content, str):
        blocks = [object_of(part, f"{at}.content[{j}]") for j, part in enumerate(list_of(content, f"{at}.content"))]
        images = any(part.get("type") == "image" for part in blocks)
        parts = [
            _image(part, at) if part.get("type") == "image" else {"type": "text", "text": _block_text(part, at)}
            for part in blocks
        ]
        content = parts if images else _joined(parts)
    if block.get("is_error") and isinstance(content, str):
        content = f"error: {content}"
    return {"role": "tool", "tool_call_id": text_of(block.get("tool_use_id"), f"{at}.tool_use_id"), "content": content}


def _image(block: Mapping[str, Any], at: str) -> dict[str, Any]:
    source = object_of(block.get("source"), f"{at}.source")
    if source.get("type") == "url":
        url = text_of(source.get("url"), f"{at}.source.url")
    elif source.get("type") == "base64":
        kind, data = (text_of(source.get(name), f"{at}.source.{name}") for name in ("media_type", "data"))
        url = f"data:{kind};base64,{data}"
    else:
        raise Refused("invalid", f"{at}.source: images are given by URL or in base64")
    return {"type": "image_url", "image_url": {"url": url}}


def _joined(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone is one text."""
    return "\n".join(part["text"] for part in parts) if all(part["type"] == "text" for part in parts) else parts


def _tool(tool: Any, j: int) -> dict[str, Any]:
    tool = object_of(tool, f"tools[{j}]")
    if tool.get("type", "custom") != "custom":
        raise Refused("invalid", f"tools[{j}]: there are no hosted tools, got {str(tool.get('type'))[:80]!r}")
    about = {"name": text_of(tool.get("name"), f"tools[{j}].name")}
    about |= {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": {**about, "parameters": tool.get("input_schema") or {"type": "object"}}}


def _choice(choice: Any) -> dict[str, Any]:
    choice = object_of(choice, "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        named = {"type": "function", "function": {"name": text_of(choice.get("name"), "tool_choice.name")}}
        found: dict[str, Any] = {"tool_choice": named}
    elif kind in _CHOICES:
        found = {"tool_choice": _CHOICES[kind]}
    else:
        raise Refused("invalid", f"tool_choice.type: expected auto, any, tool or none, got {str(kind)[:80]!r}")
    return found | ({"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {})


def _output(wanted: Any, ignored: set[str]) -> dict[str, Any]:
    """What is said of the output: how much is reasoned, and its form."""
    wanted, found = object_of(wanted, "output_config"), {}
    if wanted.get("effort") is not None:
        found["reasoning_effort"] = wanted["effort"]
    if (form := wanted.get("format")) is not None:
        if object_of(form, "output_config.format").get("type") != "json_schema":
            raise Refused("invalid", "output_config.format: expected one of type json_schema")
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    ignored |= {f"output_config.{name}" for name in wanted.keys() - {"effort", "format"}}
    return found


def _block_text(block: Any, where: str) -> str:
    block = object_of(block, where)
    if block.get("type") != "text":
        raise Refused("invalid", f"{where}: expected a block of type text, got {str(block.get('type'))[:80]!r}")
    return text_of(block.get("text"), f"{where}.text")
