"""What clients ask: the bodies of their requests, checked, and every parameter with a meaning.

A parameter of a request for `alloc/...` is read by the gateway, sent to the source as far as its recipe leaves it open, refused by
name, or named in the header `x-alloc-ignored`. None is dropped in silence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from alloc_jax.collect.recipes import EFFORTS, Recipe
from alloc_jax.serve.tickets import CHAT, EMBEDDINGS, AnswerRequest, Passed, Refused, Ticket

PREFIX = "alloc/"
_MARGIN = 100  # levels that a body is nested less deeply than Python can read
READ = {
    "model", "messages", "n", "stream", "stream_options", "max_tokens", "max_completion_tokens", "reasoning_effort", "modalities",
    "alloc",
}  # fmt: skip
SENT = {  # whatever the action is
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "stop", "logprobs", "top_logprobs", "verbosity", "user",
    "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
}  # fmt: skip
SAMPLING = {  # of one sample; those that are voted on are drawn as they were when the policy was measured
    "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias",
}  # fmt: skip
REFUSED = {
    "functions": "say tools",
    "function_call": "say tool_choice",
    "audio": "answers are texts",
    "web_search_options": "nothing is searched for",
}


def read_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
      Refused: it is none.
    """
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        if text.count("[") + text.count("{") < _MARGIN:
            body = _JSON.decode(text)
        else:  # inside of lists, and so no deeper than it can be written again, inside of another body
            body = _JSON.decode(_MARGIN * "[" + text + _MARGIN * "]")
            for _ in range(_MARGIN):
                (body,) = body
    except (ValueError, RecursionError):  # also a number of thousands of digits
        raise Refused("invalid", f"no JSON: {_why_not(raw)}") from None
    if not isinstance(body, dict):
        raise Refused("invalid", f"expected a JSON object, got {type(body).__name__}")
    return body


def read_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request for an answer.

    Raises:
      Refused: it is none, or names no model.
    """
    body = read_object(raw)
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused("invalid", "model: expected a name")
    if any("\ud800" <= c <= "\udfff" for c in body["model"]):  # no ledger can hold it
        raise Refused("invalid", "model: half a surrogate pair is no character")
    return body


def read_conversation(body: Mapping[str, Any]) -> None:
    """Make sure that a request's messages and counts are what they should be.

    Raises:
      Refused: they are not.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refused("invalid", "messages: expected a list of at least one message")
    for name in ("n", "max_tokens", "max_completion_tokens"):
        count_of(body, name)


def read_question(body: Mapping[str, Any], identity: str, tenant: str, ignored: tuple[str, ...] = ()) -> AnswerRequest:
    """What a request for an allocated answer says.

    Args:
      body: that `read_conversation` has seen.
      identity: of the request.
      tenant: who asks.
      ignored: parameters that were left out before.

    Raises:
      Refused: it asks for something that such an answer cannot have.
    """
    given = {name: value for name, value in body.items() if value is not None}
    for name, instead in REFUSED.items():
        if name in given:
            raise Refused("invalid", f"{name}: {PREFIX} has none; {instead}")
    if given.get("n", 1) != 1:
        raise Refused("invalid", f"n: an allocated answer has one choice, got n={body['n']}")
    if given.get("modalities", ["text"]) != ["text"]:
        raise Refused("invalid", f"modalities: answers are texts, got {_shown(body['modalities'])}")
    if type(given.get("seed", 0)) is not int:
        raise Refused("invalid", f"seed: expected a whole number, got {_shown(body['seed'])}")
    if given.get("store"):
        raise Refused("invalid", "store: nothing is stored")
    if given.get("reasoning_effort", EFFORTS[0]) not in EFFORTS:
        raise Refused(
            "invalid", f"reasoning_effort: expected one of {', '.join(EFFORTS)}, got {_shown(body['reasoning_effort'])}"
        )
    wishes = _wishes(given.get("alloc") or {})
    limits = [given[name] for name in ("max_tokens", "max_completion_tokens") if name in given]
    options = given.get("stream_options")
    options = options if isinstance(options, dict) else {}
    more = {f"stream_options.{name}" for name in options.keys() - {"include_usage"}}
    more |= given.keys() - READ - SENT - SAMPLING
    action = body["model"].removeprefix(PREFIX)
    return AnswerRequest(
        id=identity,
        text=question_of(body["messages"]),
        tenant=tenant,
        messages=body["messages"],
        action=None if action == "auto" else action,
        limit=min(limits, default=None),
        effort=given.get("reasoning_effort"),
        structured=_structured(given),
        extra={name: value for name, value in given.items() if name in SENT and value != []},
        sampling={name: value for name, value in given.items() if name in SAMPLING},
        stream=bool(given.get("stream")),
        with_usage=bool(options.get("include_usage")),
        ignored=(*ignored, *sorted(more)),
        **wishes,
    )


def unheard(ticket: Ticket[AnswerRequest], recipes: Mapping[str, Recipe]) -> list[str]:
    """The parameters of a question that are not honoured: unknown ones, and what a source says itself."""
    question = ticket.asked
    found = set(question.ignored)
    for source in ticket.sources:
        own = recipes[source].body([]).keys()
        found |= (question.extra.keys() | question.sampling.keys()) & own
        if question.effort is not None and recipes[source].effort is None:
            found.add("reasoning_effort")
    return sorted(found | (set() if ticket.one else question.sampling.keys()))


def read_passed(
    body: Mapping[str, Any], identity: str, tenant: str, max_n: int, path: str = CHAT, ignored: tuple[str, ...] = ()
) -> Passed:
    """A request for a model of the upstream.

    Args:
      body: as the client put it, or as it was translated.
      identity: of the request.
      tenant: who asks.
      max_n: choices at most.
      path: where it goes.
      ignored: parameters that were left out before.

    Raises:
      Refused: it asks for too many choices, or there is nothing in it to answer.
    """
    if path != CHAT:
        name = "input" if path == EMBEDDINGS else "prompt"
        if not isinstance(body.get(name), (str, list)) or not body[name]:
            raise Refused("invalid", f"{name}: expected a text or a list")
        if body["model"].startswith(PREFIX):
            raise Refused("invalid", f"model: {PREFIX} answers chat completions and responses alone")
        for count in ("n", "max_tokens"):
            count_of(body, count)
    sent = {name: value for name, value in body.items() if name != "alloc"}
    passed = Passed(
        id=identity, body=sent, tenant=tenant, path=path, ignored=(*ignored, *(("alloc",) if body.get("alloc") else ()))
    )
    if path != EMBEDDINGS and passed.samples > max_n:
        raise Refused("invalid", f"n is at most {max_n}, over all prompts, got {passed.samples}")
    return passed


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


def _wishes(wishes: Any) -> dict[str, Any]:
    """The fields of `alloc`."""
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
    return {
        "budget": None if budget is None else float(budget),
        "max_samples": count_of(wishes, "max_samples", "alloc."),
        "gradable": gradable,
    }


def _structured(given: Mapping[str, Any]) -> str | None:
    """What makes the answer more than a text.

    Raises:
      Refused: tools or format are not what they should be.
    """
    tools, wanted = given.get("tools", []), given.get("response_format", {"type": "text"})
    if not isinstance(tools, list):
        raise Refused("invalid", f"tools: expected a list, got {_shown(tools)}")
    for j, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise Refused("invalid", f"tools[{j}]: expected an object with a type, got {_shown(tool)}")
        kind, about = tool["type"], tool.get(tool["type"])
        if kind not in ("function", "custom"):  # nobody knows what one costs
            raise Refused("invalid", f"tools[{j}]: there are no hosted tools, got {_shown(kind)}")
        if not (isinstance(about, dict) and isinstance(about.get("name"), str)):
            raise Refused("invalid", f"tools[{j}].{kind}: expected an object with a name, got {_shown(about)}")
    choice = given.get("tool_choice", "auto")
    if not (choice in ("none", "auto", "required") if isinstance(choice, str) else isinstance(choice, dict)):
        raise Refused("invalid", f"tool_choice: expected none, auto, required or an object, got {_shown(choice)}")
    if not tools and choice not in ("none", "auto"):
        raise Refused("invalid", "tool_choice: there are no tools")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str):
        raise Refused("invalid", f"response_format: expected an object with a type, got {_shown(wanted)}")
    if tools and choice != "none":
        return "tools"
    return None if wanted["type"] == "text" else "response_format"


def count_of(body: Mapping[str, Any], name: str, where: str = "") -> int | None:
    """A whole number from 1; None where it is not said.

    Raises:
      Refused: it is another.
    """
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31):
        raise Refused("invalid", f"{where}{name}: expected a whole number from 1, got {_shown(value)}")
    return value


def _why_not(raw: bytes) -> str:
    """What is wrong with a request's JSON."""
    try:
        _JSON.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        return str(error)
    return "it is nested too deeply"


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # which would go upstream as no JSON
        raise ValueError(f"{text[:40]} is beyond what a number can be")
    return value


_JSON = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def _shown(value: Any) -> str:
    """A client's value in a message."""
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # a number of thousands of digits
        return "a value that is too long"
