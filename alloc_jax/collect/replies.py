"""What a chat completions server answered, or what it answered instead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

_PLAUSIBLE = 1e7  # tokens of one sample; more are a mistake
_READ = 4096  # characters of what is no answer, that a fault's text is taken from
_KEY = re.compile(  # what looks like a key
    r"\b(?:(?:sk|pk|rk)(?:-|_live_|_test_)|gsk_|xai-)[\w*.-]{6,}|\bhf_[a-z0-9*.]{10,}|\bAIza[\w*.-]{6,}|(?<=Bearer )\S+",
    re.IGNORECASE,
)


class Fault(Exception):
    """An answer that is none.

    A fault is no wrong answer, and not free of charge either where the server may have worked for it. Its text reaches
    clients and journals: what looks like a key is taken out.
    """

    def __init__(self, what: str, *, status: int | None = None, billed: bool = False, retry_after: float | None = None):
        super().__init__(redact(what))
        self.status = status  # of HTTP, where it is not 200
        self.billed = billed  # the server may have generated, and charge for, what did not arrive
        self.retry_after = retry_after  # seconds that the server asks to wait

    @property
    def final(self) -> bool:
        """Whether asking again would get the same: any 4xx is about the request itself, but for these; a redirect is not followed."""
        return self.status is not None and 300 <= self.status < 500 and self.status not in (408, 409, 425, 429)

    @property
    def everything(self) -> bool:
        """Whether asking anything else would get the same, too."""
        return self.status in (401, 403, 404)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one request, over all its choices; None where the server does not say, which is never 0."""

    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    cache_write_tokens: float | None = None
    completion_tokens: float | None = None
    reasoning_tokens: float | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One sample."""

    text: str
    finish_reason: str | None
    completion_tokens: float | None  # its own where the server tells, else its share of the request's


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A good answer: at least one choice."""

    choices: tuple[Choice, ...]
    raw: tuple[Mapping[str, Any], ...]  # the same as the server put them: with calls of tools, logprobs, reasoning
    usage: Usage
    odd: bool  # the usage said what cannot be
    model: str | None  # as the server names it
    averaged: bool  # the choices' tokens are the mean over the request's
    broken: int  # choices that hold no message, whose tokens count all the same

    def joined(self, rest: Reply, text: str) -> Reply:
        """This reply of one choice and the one that goes on from it, as one; a count that either lacks is unknown."""
        counts = {
            part.name: None
            if None in (pair := (getattr(self.usage, part.name), getattr(rest.usage, part.name)))
            else sum(pair)
            for part in fields(Usage)
        }
        (choice,) = rest.choices
        return replace(
            rest,
            choices=(replace(choice, text=text, completion_tokens=counts["completion_tokens"]),),
            usage=Usage(**counts),
            odd=self.odd or rest.odd,
        )


@dataclass(frozen=True, kw_only=True)
class Most:
    """The most that a request can use, by what was asked for; None where nothing bounds it."""

    prompt: float | None = None  # tokens
    completion: float | None = None  # of all choices together


def read_reply(text: str | bytes, n: int | None = None, most: Most | None = None, *secrets: str | None) -> Reply:
    """The reply in a response's body whose status said 200.

    Args:
      text: the body.
      n: choices that were asked for; more are left out.
      most: that the request can have used; a usage beyond it is replaced by it, and marked.
      secrets: keys that may have been sent, which no fault repeats.

    Raises:
      Fault: it is HTML, broken JSON, or has no choices.
    """
    body, choices = read_list(text, "choices", *secrets)
    choices = choices[:n]
    usage, odd = read_usage(body.get("usage"), most, len(choices))
    tokens = [choice.get("token_ids") if isinstance(choice, dict) else None for choice in choices]
    own = all(isinstance(ids, list) for ids in tokens)
    total = usage.completion_tokens
    shares = [len(ids) if own else None if total is None else total / len(choices) for ids in tokens]
    read = [(_choice(*pair), pair[0]) for pair in zip(choices, shares, strict=True)]
    good = [pair for pair in read if pair[0] is not None]
    if not good:
        raise Fault(f"a choice without a message: {redact(str(choices[0]), *secrets)[:60]!r}", billed=True)
    return Reply(
        choices=tuple(choice for choice, _ in good),
        raw=tuple(raw for _, raw in good),
        broken=len(read) - len(good),
        usage=usage,
        odd=odd,
        model=body["model"] if isinstance(body.get("model"), str) else None,
        averaged=len(choices) > 1 and not own and total is not None,
    )


def read_list(text: str | bytes, name: str, *secrets: str | None) -> tuple[dict[str, Any], list[Any]]:
    """A response's body whose status said 200, and the list in it that holds what was asked for.

    Raises:
      Fault: it is HTML or broken JSON, says that there was an error, or has no such list, or an empty one.
    """
    try:
        body = parse_json(text)
    except (ValueError, RecursionError):
        start = text[:_READ].decode(errors="replace") if isinstance(text, bytes) else text[:_READ]
        start = redact(start, *secrets)
        what = "HTML" if start.lstrip().startswith("<") else "broken JSON"
        raise Fault(f"{what} with status 200: {start[:60]!r}", billed=what != "HTML") from None
    if not isinstance(body, dict):
        raise Fault(f"no object but {redact(str(body), *secrets)[:60]!r} with status 200", billed=True)
    if body.get("error"):
        raise Fault(f"an error with status 200: {redact(str(body['error']), *secrets)[:120]}")
    found = body.get(name)
    if not isinstance(found, list) or not found:
        raise Fault(f"no {name}", billed=True)
    return body, found


def parse_json(text: str | bytes) -> Any:
    """What a server's JSON holds, whatever else is wrong with it: a byte order mark, bytes that are no UTF-8, and a whole number of
    more digits than Python reads, which is unknown, lose no answer that was paid for.

    Raises:
      RecursionError: it is nested too deeply.
      ValueError: it is none.

    >>> parse_json("\\ufeff[1, " + 5000 * "9" + "]")
    [1, None]
    """
    text = text.decode("utf-8-sig", "replace") if isinstance(text, bytes) else text.removeprefix("\ufeff")
    return _JSON.decode(text)


def _whole(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:
        return None


_JSON = json.JSONDecoder(parse_int=_whole)


def _choice(choice: Any, tokens: float | None) -> Choice | None:
    """A choice; None where it has no message."""
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):  # of parts
        said = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in said if isinstance(part, str))
    if not isinstance(message, dict) or not isinstance(content, (str, type(None))):
        return None
    finish = choice.get("finish_reason")
    return Choice(
        text=content or "",  # all the tokens went into thinking
        finish_reason=finish if isinstance(finish, str) else None,
        completion_tokens=tokens,
    )


def read_usage(usage: Any, most: Most | None = None, choices: int = 1) -> tuple[Usage, bool]:
    """The usage of a response's body, and whether it said what cannot be.

    A count that is negative, not finite, or more than the request can have used is replaced by the most that it can;
    where nothing bounds that, it is unknown. Nor can a part be more than its whole: what was cached, or written to the cache,
    is of the prompt, and what was reasoned of what was written.

    >>> usage, odd = read_usage({"prompt_tokens": 7, "completion_tokens": -5}, Most(completion=64.0))
    >>> usage.prompt_tokens, usage.completion_tokens, odd
    (7, 64.0, True)
    """
    usage, odd = usage if isinstance(usage, Mapping) else {}, False

    def count(inside: Any, name: str, bound: float | None) -> float | None:
        nonlocal odd
        value = inside.get(name) if isinstance(inside, Mapping) else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        if 0 <= value <= (choices * _PLAUSIBLE if bound is None else bound):  # no NaN is
            return value
        odd = True
        return bound

    most = most or Most()
    prompt = count(usage, "prompt_tokens", most.prompt) or None  # no prompt is empty: there, 0 says unknown
    written = count(usage, "completion_tokens", most.completion)
    of_prompt, of_written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    bound = most.prompt if prompt is None else prompt
    stored = count(of_prompt, "cache_write_tokens", bound)  # first, as the more expensive
    read = Usage(
        prompt_tokens=prompt,
        cached_tokens=count(of_prompt, "cached_tokens", None if bound is None else bound - (stored or 0)),
        cache_write_tokens=stored,
        completion_tokens=written,
        reasoning_tokens=count(of_written, "reasoning_tokens", most.completion if written is None else written),
    )
    return read, odd


def redact(text: str, *secrets: str | None) -> str:
    """A text without these secrets, and without what looks like a key.

    >>> redact("Incorrect API key provided: sk-abcdef123.", None)
    'Incorrect API key provided: [key]'
    >>> redact("gsk_0123456789, hf_0123456789, xai-0123456789, AIza0123456789 and sk_live_0123456789")
    '[key], [key], [key], [key] and [key]'
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    return _KEY.sub("[key]", text)


def status_fault(status: int, said: str, retry_after: str | None = None) -> Fault:
    """The fault behind an HTTP status that is not 200."""
    try:
        wait = None if retry_after is None else max(float(retry_after), 0.0)
    except ValueError:  # a date
        wait = None
    if wait is not None and not math.isfinite(wait):
        wait = None
    said = " ".join(said.split())[:200]
    return Fault(f"HTTP {status}" + (f": {said}" if said else ""), status=status, retry_after=wait)
