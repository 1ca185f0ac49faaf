"""What a reader of one file format is: rows of a file in, records for the `LogBuilder` out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alloc_jax.files import Row

if TYPE_CHECKING:
    from alloc_jax.logs.formats.sniff import Glimpse


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a log does not say of itself. Each format uses some; one it does not use is refused."""

    source: str | None = None  # the name of the source, where the file holds one and does not name it
    gold: Mapping[str, str] | None = None  # reference answers by question id
    requests: Mapping[str, str] | None = None  # question texts by custom_id, of a batch
    grader: str | None = None  # how responses are graded: one of `grade.METHODS`
    tokenizer: Callable[[str], int] | None = None  # text -> its number of tokens
    threshold: float | None = None  # a score of at least this is right
    scorer: str | None = None  # which of a log's several scorers decides
    columns: Mapping[str, str] | None = None  # our name of a field -> the column of a table that holds it


class Reader:
    """One format. A subclass says how to recognise a file, how to go through its rows and what each row means.

    A record may hold, beside the form that the `LogBuilder` takes, `repeat` (see `LogBuilder.add`) and, in its columns,
    `response`: texts that are still to be graded, which gives `answer` and `correct`; then its `gold` may be a tuple of
    answers that are each right.
    """

    name: ClassVar[str]
    about: ClassVar[str]  # what writes such files, and which version was looked at
    example: ClassVar[str]  # what one record of such a file should look like; every refusal shows it
    uses: ClassVar[tuple[str, ...]] = ()  # the fields of `Options` that it uses
    needs: ClassVar[tuple[str, ...]] = ()  # those of them that it cannot do without

    def __init__(self, path: Path, options: Options):
        self.path = path
        self.options = options
        self.notes: list[str] = []  # what the user should know of the file; complete once the rows are through

    @staticmethod
    def recognises(glimpse: Glimpse) -> bool:
        raise NotImplementedError

    def ungraded(self) -> bool:
        """Whether nothing in the file says which samples are right, so that a grader has to."""
        return "grader" in self.needs

    def rows(self) -> Iterator[Row]:
        """The rows of the file, one in memory at a time."""
        raise NotImplementedError

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        """The records of one row.

        Raises:
          ValueError: the row is not what the format says; the message names the field.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Called when all rows are through; adds to `notes`."""


# ---------------------------------------------------------------------------------------------------------------
# Fields of foreign rows
# ---------------------------------------------------------------------------------------------------------------


def field(row: Any, name: str, kind: type | tuple[type, ...], where: str = "") -> Any:
    """A field that must be there.

    Raises:
      ValueError: it is not there, or not of that kind.
    """
    where = f"{where}.{name}" if where else name
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object around it, got {_brief(row)}")
    value = row.get(name)
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise ValueError(f"{where}: expected {' or '.join(_KINDS[k] for k in kinds)}, got {_brief(value)}")
    return value


_KINDS = {
    str: "a text",
    list: "a list",
    dict: "an object",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def texts(values: Any, where: str) -> list[str]:
    """A list of at least one text. Null is a response that says nothing, as where thinking used up the limit.

    Raises:
      ValueError: it is not.
    """
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where}: expected a list of texts, got {_brief(values)}")
    for j, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{where}[{j}]: expected a text, got {_brief(value)}")
    return ["" if value is None else value for value in values]


def accepted(value: Any, where: str) -> str | tuple[str, ...]:
    """A reference answer; or several of which each is right, where it is a list.

    Raises:
      ValueError: it is no answer, or a list of none.
    """
    if isinstance(value, list) and value:
        several = dict.fromkeys(accepted(one, f"{where}[{j}]") for j, one in enumerate(value))
        texts = tuple(one for one in several if isinstance(one, str))
        if len(texts) == len(several):
            return texts if len(texts) > 1 else texts[0]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{where}: expected an answer or a list of accepted ones, got {_brief(value)}")
    return str(value)


_BITS = {"true": 1, "false": 0, "yes": 1, "no": 0, "correct": 1, "incorrect": 0, "right": 1, "wrong": 0}
_BITS |= {"pass": 1, "passed": 1, "fail": 0, "failed": 0}


def bit(value: Any, where: str, threshold: float | None = None) -> bool:
    """Right or wrong: a bit as the format writes it, a word for it, or a score against a threshold.

    Raises:
      ValueError: it is none of these, or a score between 0 and 1 and no threshold was named.
    """
    if isinstance(value, str):
        value = _BITS.get(value.strip().lower(), value)
        if isinstance(value, str):
            value = number(value, where)
    if isinstance(value, bool):
        return value
    if value is None or value != value:
        raise ValueError(f"{where}: {'null' if value is None else 'NaN'}: whether this is right is unknown")
    if not isinstance(value, (int, float)):
        raise ValueError(f"{where}: expected a bit or a score, got {_brief(value)}")
    if threshold is not None:
        return value >= threshold
    if value not in (0, 1):
        raise ValueError(
            f"{where}: {_brief(value)} is neither 0 nor 1: --threshold=0.5, or another, is the score from which it is right"
        )
    return value == 1


def number(value: Any, where: str) -> float | int | None:
    """A number, or one written as a text; None where it is null, empty or NaN.

    Raises:
      ValueError: it is something else.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{where}: expected a number, got {_brief(value)}") from None
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"{where}: expected a number, got {_brief(value)}")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(f"{where}: {_brief(value)} is beyond all numbers")
    return None if value != value else value


def positive(value: Any, where: str) -> float | int | None:
    """A number that cannot be 0: there, 0 is how a log writes that it does not know. Costs and prompts are such."""
    return number(value, where) or None


def conversation(value: Any, where: str) -> str:
    """The question in a prompt: a text, or what the user says in a list of chat messages, also where that is JSON.

    Raises:
      ValueError: it is neither.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, str):
        if not value.lstrip().startswith('[{"role"'):
            return value
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
        if isinstance(value, str):
            return value
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a text or a list of messages, got {_brief(value)}")
    asked = []
    for j, message in enumerate(value):
        if field(message, "role", str, f"{where}[{j}]") == "user":
            asked.append(content(field(message, "content", (str, list), f"{where}[{j}]")))
    if not asked:
        raise ValueError(f"{where}: no message of a user")
    return "\n\n".join(asked)


def content(value: Any) -> str:
    """What a message says: a text, or the parts that are text, without thinking; empty where it says nothing."""
    if isinstance(value, list):
        parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in value]
        said = [part.get("text") for part in parts if part.get("type") in (None, "text", "output_text", "input_text")]
        return "\n".join(text for text in said if isinstance(text, str))
    return value if isinstance(value, str) else ""


def shown(gold: str | tuple[str, ...] | None) -> str | None:
    """A reference answer as the log keeps it: several accepted ones as a JSON list."""
    return json.dumps(gold, ensure_ascii=False) if isinstance(gold, tuple) else gold


def _brief(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
