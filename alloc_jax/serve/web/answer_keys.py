"""Answer keys: what a sample says, its text or its calls of tools, as the key that votes are counted on.

What clients and servers write is read with a bound: the end of a text, a pattern whose time is linear in it, mathematics in
processes with a time limit, and whatever may take long in threads beside the event loop, which no tenant can fill alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from alloc_jax.logs.grade import METHODS, Grader
from alloc_jax.serve.web.fair_shares import Pool

_LONGEST = 1 << 16  # characters of a text that are read; an answer stands at the end
_READ = 4096  # characters that a method reads, whose time may grow with their square
_AT_ONCE = 2048  # characters that are read in the event loop
_WORKERS = 4  # processes of a slow method
_OBJECT = re.compile(r'\{\s*"')  # how a JSON object begins that has fields
_OBJECTS = 64  # of these that are tried
_KEPT = 4096  # answers that a slow method remembers, to compare others with
_ONE_S, _ALL_S = 2.0, 5.0  # that a slow method may take for a text, and for all of a request's
Said = str | Sequence[Any]  # a sample's text, or its calls
_log = logging.getLogger("alloc_jax.serve")


class AnswerKeys:
    """Reads answers: called with texts, or lists of calls, it gives the keys that votes are counted on; None where there is no answer.

    The key of a text that is JSON, or holds a JSON object, is that in a canonical form: a number in it is not the answer.

    Args:
      method: one of `METHODS`; the grader that the policy's log was graded with.
      pattern: a regular expression of RE2 whose last match holds the answer, in its first group if it has one; a text that
        it does not match has no answer. None: the whole text is read.
      tenants: who share the threads.

    Raises:
      ImportError: "math" without math-verify, a pattern without google-re2.
      ValueError: an unknown method, or no regular expression of RE2.

    >>> AnswerKeys("number", r"#(\\d+)")(["8-2=6,6*4=24#24.", "8-2=6"])
    ['24', None]
    >>> AnswerKeys("number")(['{"sure": 0.9, "answer": "yes"}'])
    ['{"answer":"yes","sure":0.9}']
    """

    def __init__(self, method: str, pattern: str | None = None, tenants: Collection[str] = ("default",)):
        self.pattern = None if pattern is None else _compiled(pattern)
        if method not in METHODS:
            raise ValueError(f"unknown way to read answers {method!r}; known: {', '.join(METHODS)}")
        self.read_one = METHODS[method]
        self.whole = method == "text"
        self.grader = (
            None if self.read_one else Grader(method, _ONE_S, _WORKERS, _KEPT)
        )  # processes, which `close` ends
        self.pool = Pool(_WORKERS, tenants)
        self.seen: set[type] = set()  # errors that were logged

    def __call__(self, texts: Sequence[Said]) -> list[str | None]:
        return [self.key(text) for text in texts]

    async def read(self, texts: Sequence[Said], tenant: str = "default") -> list[str | None]:
        """The keys of texts, without holding up the event loop; None for what cannot be read in time."""
        keys: list[str | None] = [None] * len(texts)
        turns = asyncio.Semaphore(_WORKERS - 1)  # no request takes all of the threads

        async def one(at: int) -> None:
            async with turns:
                keys[at] = await self.pool.run(tenant, self.key, texts[at])

        slow = []
        for at, text in enumerate(texts):
            if isinstance(text, str) and self.grader is None and len(text) <= _AT_ONCE:
                keys[at] = self.key(text)
            else:
                slow.append(at)
        if slow:
            try:
                async with asyncio.timeout(_ALL_S):
                    await asyncio.gather(*map(one, slow))
            except TimeoutError:
                _log.warning("answers of tenant %r could not be read within %g s", tenant, _ALL_S)
        return keys

    async def unite(self, keys: Sequence[str | None], tenant: str = "default") -> list[str | None]:
        """The keys of one question's answers, of which those that say the same become one; as they are, if that takes too long."""
        counts = Counter(key for key in keys if key is not None)
        if self.grader is None or len(counts) < 2:
            return list(keys)
        distinct = [key for key, _ in counts.most_common()]
        try:
            async with asyncio.timeout(_ALL_S + _ONE_S):
                same = await self.pool.run(tenant, partial(self.grader.same, distinct, seconds=_ALL_S))
        except TimeoutError:
            _log.warning("answers of tenant %r could not be compared within %g s", tenant, _ALL_S)
            return list(keys)
        return [key if key is None else same.get(key, key) for key in keys]

    def key(self, text: Said) -> str | None:
        """The key of one text; None where it has no answer, or one that cannot be read."""
        try:
            if not isinstance(text, str):
                return calls_key(text)
            part = self._answer(text.rstrip()[-_LONGEST:])
            if part is None or (canonical := canonical_json(part)) is not None:
                return None if part is None else canonical
            if len(part) > _READ:
                if self.whole:  # what is that long is no answer
                    return None
                part = part.rstrip()[-_READ:]
            if self.grader is None:
                return self.read_one(part)
            return self.grader.grade([part], ["0"])[0].answer  # the key depends on the response alone
        except Exception as error:  # whatever a hostile text does to a reader, the sample is paid and the others count
            if type(error) not in self.seen:  # once is enough: clients choose how often
                self.seen.add(type(error))
                _log.warning("answers that cannot be read count as none: %s", type(error).__name__, exc_info=error)
            return None

    def _answer(self, text: str) -> str | None:
        """The part of a text that holds its answer."""
        if self.pattern is None:
            return text
        last = None
        for last in self.pattern.finditer(text.encode("utf-8", "replace").decode()):  # noqa: B007
            pass
        return None if last is None else last.group(1 if self.pattern.groups else 0)

    def close(self) -> None:
        """End the processes and threads."""
        self.pool.close()
        if self.grader is not None:
            self.grader.__exit__()


def calls_key(calls: Sequence[Any]) -> str | None:
    """Calls of tools, each by its name and then its arguments, in their order; None where one of them is no call, or an argument is
    no JSON, so that nobody could make it.

    >>> calls_key([{"function": {"name": "add", "arguments": '{"b": 2.0, "a": 1}'}}])
    '[["add",{"a":1,"b":2}]]'
    """
    read = []
    for call in calls:
        free = isinstance(call, dict) and call.get("type") == "custom"  # a tool that takes any text
        about = call.get("custom" if free else "function") if isinstance(call, dict) else None
        if not isinstance(about, dict):
            return None
        name, said = about.get("name"), about.get("input" if free else "arguments") or ""
        if not isinstance(name, str) or not isinstance(said, str) or len(said) > _LONGEST:
            return None
        try:
            read.append([name, said if free else _JSON.decode(said or "{}")])
        except (ValueError, RecursionError):
            return None
    return _canonical(read)


def canonical_json(text: str) -> str | None:
    """JSON without what does not matter: order of the fields, white space, how a number is written, words around an object.

    Returns:
      The object or list that the text is, else the first object that stands in it; None where there is none.

    >>> canonical_json('Here is the JSON: {"b": 2.0, "a": [1e2]}. I am sure.')
    '{"a":[100],"b":2}'
    """
    bare = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if bare.startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            return _canonical(_JSON.decode(bare))
    for brace in islice(_OBJECT.finditer(text), _OBJECTS):
        with suppress(ValueError, RecursionError):
            return _canonical(_JSON.raw_decode(text, brace.start())[0])
    return None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value


_JSON = json.JSONDecoder(parse_float=_number)


def _compiled(pattern: str):
    """A pattern of RE2, whose time is linear in the text.

    Raises:
      ImportError: google-re2 is not installed; the message names the extra.
      ValueError: it is none.
    """
    try:
        import re2
    except ImportError:
        raise ImportError("an answer pattern needs google-re2: pip install 'alloc_jax[serve]'") from None
    options = re2.Options()
    options.dot_nl, options.log_errors = True, False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else error
        raise ValueError(f"answer pattern {pattern!r} is none of RE2, which has no backreferences: {said}") from None
