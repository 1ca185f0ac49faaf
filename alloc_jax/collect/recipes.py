"""Recipes: how a source's samples are asked for, as plain JSON that collecting and serving share.

    {"think":  {"model": "Qwen/Qwen3-8B", "temperature": 1.0, "max_tokens": 4096, "parameters": 8.2e9},
     "direct": {"model": "Qwen/Qwen3-8B", "temperature": 1.0, "max_tokens": 256, "parameters": 8.2e9,
                "prompt": "{question}\nAnswer at once.",
                "extra_body": {"chat_template_kwargs": {"enable_thinking": false}}}}

A model that reasons more or less is one recipe and several sources, `gpt/low` and `gpt/high` here; `qwen/low` and
`qwen/high` are asked for in the server's own words:

    {"gpt":  {"model": "gpt-5", "efforts": ["low", "high"]},
     "qwen": {"model": "Qwen/Qwen3-8B", "efforts": {"low": {"extra_body": {"thinking_token_budget": 512}}, "high": {}}}}

A server may ignore silently how much it is asked to reason, so what a source costs is what is measured, never what was
asked for. Thinking is cut short for certain by `max_tokens`, and `finish` then asks for the answer (budget forcing): a
second request holds the conversation, and what was thought, with `finish` after it, for the model to go on from.

    {"short": {"model": "m", "max_tokens": 32, "finish": " So the answer is ", "finish_tokens": 8,
               "finish_body": {"continue_final_message": true, "add_generation_prompt": false}}}
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

# A chat template adds tokens of its own to a prompt: roles, separators, a system text.
_TEMPLATE_TOKENS = 256
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # of reasoning, in their order
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")  # servers differ in which they obey


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One source: a model with its prompt and mode.

    Raises:
      ValueError: a field is not what it should be; the message names source and field.
    """

    name: str
    model: str
    prompt: str = "{question}"  # what the model reads; {question} stands for the question
    system: str | None = None  # a system message before it
    temperature: float | None = None  # None: the server's own
    max_tokens: int | None = None  # limit of one sample; None: the server's own
    n: int = 1  # the most choices that one request asks for; a server may give fewer
    parameters: float | None = None  # the model's parameter count
    effort: str | None = None  # how much it reasons: no client that asks for less is given it; None: not known
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)  # further fields of the request
    finish: str | None = (
        None  # follows what `max_tokens` cut off, and the model goes on from there; None: it stays cut off
    )
    finish_tokens: int = 16  # limit of what it then writes
    finish_body: Mapping[str, Any] = field(default_factory=dict, hash=False)  # further fields of that request alone

    def __post_init__(self):
        for name in ("name", "model", "prompt"):
            if not isinstance(value := getattr(self, name), str) or not value:
                raise ValueError(f"source {self.name!r}: {name} is a text, got {value!r}")
        if "{question}" not in self.prompt:
            raise ValueError(f"source {self.name!r}: prompt has no {{question}} in it: {self.prompt!r}")
        if not isinstance(self.system, (str, type(None))):
            raise ValueError(f"source {self.name!r}: system is a text, got {self.system!r}")
        for name, kind, least in (
            ("temperature", (int, float), 0),
            ("max_tokens", int, 1),
            ("n", int, 1),
            ("finish_tokens", int, 1),
        ):
            value = getattr(self, name)
            if value is None and name in ("temperature", "max_tokens"):
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
                raise ValueError(f"source {self.name!r}: {name} is at least {least}, got {value!r}")
        if self.parameters is not None and not (isinstance(self.parameters, (int, float)) and self.parameters > 0):
            raise ValueError(f"source {self.name!r}: parameters is a positive count, got {self.parameters!r}")
        for name in ("extra_body", "finish_body"):
            if not isinstance(value := getattr(self, name), Mapping):
                raise ValueError(f"source {self.name!r}: {name} is an object, got {value!r}")
        if self.finish is not None and (not isinstance(self.finish, str) or not self.finish):
            raise ValueError(f"source {self.name!r}: finish is a text, got {self.finish!r}")
        if self.finish is None and (self.finish_tokens != 16 or self.finish_body):
            raise ValueError(f"source {self.name!r}: finish_tokens and finish_body change nothing without finish")
        if self.finish is not None and (self.max_tokens is None or self.n > 1):
            raise ValueError(f"source {self.name!r}: finish needs max_tokens, and one sample a request (n = 1)")
        if self.effort is None and self.extra_body.get("reasoning_effort") in EFFORTS:
            object.__setattr__(self, "effort", self.extra_body["reasoning_effort"])
        if self.effort is not None and self.effort not in EFFORTS:
            raise ValueError(f"source {self.name!r}: an effort is one of {', '.join(EFFORTS)}, got {self.effort!r}")
        for taken in ("model", "messages", "n", "seed", "stream", "temperature", "max_tokens"):
            for part in ("extra_body", "finish_body"):
                if taken in getattr(self, part):
                    raise ValueError(f"source {self.name!r}: {part}.{taken}: this field is set by the recipe itself")

    @property
    def limit(self) -> int | None:
        """The most tokens of one sample, by the largest of the limits that are sent; None where nothing limits it."""
        limits = [self.max_tokens, *(self.extra_body.get(name) for name in LIMITS)]
        most = max((limit for limit in limits if limit is not None), default=None)
        return most if most is None or self.finish is None else most + self.finish_tokens

    def messages(self, question: str) -> list[dict[str, Any]]:
        """The conversation that asks a question."""
        return self.wrap([{"role": "user", "content": question}], question)

    def wrap(self, messages: Sequence[Mapping[str, Any]], question: str) -> list[dict[str, Any]]:
        """A client's conversation with its last question put as this source puts it; a system message of its own stays."""
        out = [dict(message) for message in messages]
        if self.prompt != "{question}":
            at = max(j for j, message in enumerate(out) if message.get("role") == "user")
            out[at]["content"] = self.prompt.replace("{question}", question)
        if self.system is not None and not any(message.get("role") in ("system", "developer") for message in out):
            out.insert(0, {"role": "system", "content": self.system})
        return out

    def limited(self, limit: int | None) -> dict[str, int]:
        """The fields of a request that lower its token limits; none where the recipe's own are as low."""
        sent = {name: self.extra_body[name] for name in LIMITS if name in self.extra_body}
        if self.max_tokens is not None:
            sent["max_tokens"] = self.max_tokens
        if limit is None:
            return {}
        return {name: limit for name, own in (sent or {"max_tokens": math.inf}).items() if own is None or own > limit}

    def body(self, messages: Sequence[Mapping[str, Any]], n: int = 1, seed: int | None = None) -> dict[str, Any]:
        """The request for `n` samples."""
        wanted: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed}
        body: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        body |= {name: value for name, value in wanted.items() if value is not None}
        if n > 1:  # servers that do not know the field need not see it
            body["n"] = n
        return body | dict(self.extra_body)

    def finishing(self, body: Mapping[str, Any], thought: str) -> dict[str, Any]:
        """The request after one whose sample was cut off: the same, with what was written and `finish` behind it."""
        said = [*body["messages"], {"role": "assistant", "content": f"{thought}{self.finish}"}]
        return {
            **body,
            **self.finish_body,
            "messages": said,
            **{name: self.finish_tokens for name in LIMITS if name in body},
        }

    def worst_tokens(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """The most tokens that one sample can use, prompt included: no token is shorter than a byte.

        Raises:
          ValueError: nothing limits the sample.
        """
        if self.limit is None:
            raise ValueError(f"source {self.name!r} has no max_tokens: a limit on the spend needs a worst case")
        body = self.body(messages)
        worst = worst_prompt(body) + self.limit
        if self.finish is not None:  # what was written is read again
            worst += worst_prompt(self.finishing(body, "")) + self.limit - self.finish_tokens
        return worst

    def describe(self) -> dict[str, Any]:
        """What a log says of the source: all that differs from the defaults."""
        values = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "name"}
        plain = {part.name: part.default for part in fields(self)} | {"extra_body": {}, "finish_body": {}}
        plain["effort"] = self.extra_body.get("reasoning_effort")  # which says it already
        return {name: value for name, value in values.items() if value != plain[name]}


def request_seed(seed: int | None, question: str, source: str, sample: int) -> int | None:
    """The seed of a request, from what it asks for: repeats differ, and a resumed run asks as the first would have.

    >>> request_seed(0, "q1", "think", 0) != request_seed(0, "q1", "think", 1)
    True
    """
    if seed is None:
        return None
    digest = hashlib.blake2b(f"{seed}\0{question}\0{source}\0{sample}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1  # some servers keep seeds in 32 signed bits


def worst_prompt(body: Mapping[str, Any], image_tokens: int | None = None) -> int:
    """The most tokens that the prompt of a request can be: no token is shorter than a byte, and a template may show all that is sent.

    Args:
      body: of the request.
      image_tokens: the most that an image is.

    Raises:
      ValueError: a message holds what its bytes do not bound: an image without `image_tokens`, sound, a file.
    """
    sent = {name: value for name, value in body.items() if name not in ("model", "seed", "n")}
    size = len(json.dumps(sent, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return size + beside_bytes(body.get("messages", ()), image_tokens)


def beside_bytes(messages: Sequence[Mapping[str, Any]], image_tokens: int | None = None) -> int:
    """The most tokens of a prompt that are not its bytes: a template's own and images.

    Raises: see `worst_prompt`.
    """
    images = 0
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "image_url" and image_tokens is not None:
                images += 1
            elif kind not in ("text", "refusal"):
                raise ValueError(f"messages: nobody knows how many tokens a part of type {kind!r} is")
    return _TEMPLATE_TOKENS + images * (image_tokens or 0)


def parse_recipes(described: Any) -> dict[str, Recipe]:
    """Recipes by name, from plain JSON.

    Raises:
      ValueError: names the source and the field.

    >>> list(parse_recipes({"gpt": {"model": "gpt-5", "efforts": ["low", "high"]}}))
    ['gpt/low', 'gpt/high']
    >>> parse_recipes({"think": {"model": "m", "max_tokens": 64}})["think"].body([{"role": "user", "content": "2+2"}])
    {'model': 'm', 'messages': [{'role': 'user', 'content': '2+2'}], 'max_tokens': 64}
    """
    if not isinstance(described, dict) or not described:
        raise ValueError(f"sources are an object of recipes by name, got {described!r}")
    known = [part.name for part in fields(Recipe) if part.name != "name"]
    recipes = {}
    for name, values in described.items():
        if not isinstance(values, dict):
            raise ValueError(f"source {name!r}: expected an object, got {values!r}")
        for source, given in _by_effort(name, values):
            for field_ in given:
                if field_ not in known:
                    raise ValueError(f"source {source!r}: unknown field {field_!r}; known: {', '.join(known)}, efforts")
            if "model" not in given:
                raise ValueError(f"source {source!r}: no model")
            if source in recipes:
                raise ValueError(f"source {source!r}: there are two of that name")
            recipes[source] = Recipe(name=source, **given)
    return recipes


def _by_effort(name: str, values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sources that a recipe with `efforts` stands for, each with the fields in which it differs; else the one that it is.

    Raises:
      ValueError: the efforts are neither a list of names nor an object of fields by name.
    """
    if "efforts" not in values:
        yield name, values
        return
    values = dict(values)
    efforts = values.pop("efforts")
    if isinstance(efforts, list) and efforts and all(isinstance(effort, str) for effort in efforts):
        efforts = {effort: {"extra_body": {"reasoning_effort": effort}} for effort in efforts}
    if not isinstance(efforts, dict) or not efforts or not all(isinstance(own, dict) for own in efforts.values()):
        raise ValueError(
            f"source {name!r}: efforts are a list of names or an object of fields by name, got {efforts!r}"
        )
    for effort, own in efforts.items():
        bodies = [given.get("extra_body", {}) for given in (values, own)]
        wrong = [body for body in bodies if not isinstance(body, dict)]  # which the recipe will say
        both = {"extra_body": wrong[0] if wrong else {**bodies[0], **bodies[1]}}
        yield f"{name}/{effort}", {**values, **own, **both, "effort": effort}


def load_recipes(path: str | os.PathLike) -> dict[str, Recipe]:
    """`parse_recipes` of a JSON file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: names the file, the source and the field.
    """
    try:
        return parse_recipes(json.loads(Path(path).read_text(encoding="utf-8-sig")))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
