"""A dated price book: what a million tokens of each model cost, and since when.

    [{"model": "gpt-4.1-mini", "input": 0.40, "output": 1.60, "cached_input": 0.10, "cache_write": null, "reasoning": null,
      "source": "the vendor's price page", "date": "2025-04-14"}, ...]

Rates are usd per million tokens. A null `cached_input`, `cache_write` or `reasoning` says that these tokens have no rate of
their own and are billed as the input or output they are part of; then a log need not count them. A model may have entries
of several dates; the latest is in force.

The tables that OpenRouter and LiteLLM publish are read, too. Their rates are per token, and -1 says that a rate is unknown:
such a model is not in the book, and neither is one that is paid for otherwise than by its tokens.
"""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from alloc_jax.files.text import POINTER, is_pointer

_OPTIONAL = ("cached_input", "cache_write", "reasoning")  # rates that a model may not have


@dataclass(frozen=True, kw_only=True)
class TokenPrice:
    """The rates of one model from one date on, in usd per million tokens.

    Raises:
      ValueError: a rate is no finite number >= 0, or the date is no date; the message names the model.
    """

    model: str
    input: float
    output: float
    cached_input: float | None = None  # of prompt tokens that came from a cache; None: no rate of its own
    cache_write: float | None = None  # of prompt tokens that are written to a cache; None: no rate of its own
    reasoning: float | None = None  # of reasoning tokens; None: no rate of its own
    source: str  # where the price was read
    date: str  # when, as YYYY-MM-DD

    def __post_init__(self):
        for name in ("model", "source"):
            if not isinstance(value := getattr(self, name), str) or not value.strip():
                raise ValueError(f"a price's {name} is a text, got {value!r} (model {self.model!r})")
        for name in ("input", "output", *_OPTIONAL):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ValueError(
                    f"model {self.model!r}: {name} is {value!r}; a rate is a number >= 0, and a missing one is not 0"
                )
        try:
            proper = datetime.date.fromisoformat(self.date).isoformat() == self.date
        except (TypeError, ValueError):
            proper = False
        if not proper:
            raise ValueError(f"model {self.model!r}: date is {self.date!r}, expected YYYY-MM-DD")


@dataclass(frozen=True)
class PriceBook:
    """Prices by model and date.

    >>> book = PriceBook((TokenPrice(model="m", input=1, output=2, source="a page", date="2025-01-01"),
    ...                   TokenPrice(model="m", input=1, output=4, source="a page", date="2025-06-01")))
    >>> book.price("m").output, book.as_of("2025-03-31").price("m").output
    (4, 2)
    """

    prices: tuple[TokenPrice, ...]

    def __post_init__(self):
        seen = set()
        for price in self.prices:
            if (price.model, price.date) in seen:
                raise ValueError(f"model {price.model!r} has two prices of {price.date}")
            seen.add((price.model, price.date))

    @classmethod
    def load(cls, path: str | os.PathLike) -> PriceBook:
        """Read a price book, or a table that OpenRouter or LiteLLM published.

        Such a table has no dates: its prices are of the day on which the file was last changed.

        Raises:
          FileNotFoundError: no such file.
          ValueError: the file is no price book; the message names the file, the entry and the field.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
            if is_pointer(text):
                raise ValueError(f"{path}: {POINTER}")
            entries = json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: no JSON: {error}") from None
        try:
            if isinstance(entries, dict):
                changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
                return cls(tuple(_published(entries, changed.date().isoformat())))
            return cls.of(entries)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> PriceBook:
        """The book of a list of plain entries, as JSON holds them.

        Raises:
          ValueError: names the entry and the field.
        """
        if not isinstance(entries, list) or not entries:
            raise ValueError(
                'a price book is a list of at least one price, as in [{"model": "m", "input": 0.4, "output": 1.6, "cached_input":'
                ' null, "cache_write": null, "reasoning": null, "source": "a page", "date": "2025-04-14"}]'
            )
        known = [field.name for field in fields(TokenPrice)]
        prices = []
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise ValueError(f"entry {number}: expected an object, got {entry!r}")
            for name in entry:
                if name not in known:
                    raise ValueError(f"entry {number}: unknown field {name!r}; known: {', '.join(known)}")
            missing = [name for name in known if name not in entry and name != "cache_write"]
            if missing:
                raise ValueError(
                    f"entry {number} (model {entry.get('model')!r}): no {missing[0]}; {', '.join(_OPTIONAL)} may be null"
                )
            try:
                prices.append(TokenPrice(**entry))
            except ValueError as error:
                raise ValueError(f"entry {number}: {error}") from None
        return cls(tuple(prices))

    def as_of(self, date: str) -> PriceBook:
        """The book as it stood on a day: without the prices of later dates.

        Raises:
          ValueError: not a date.
        """
        if datetime.date.fromisoformat(date).isoformat() != date:
            raise ValueError(f"expected a date as YYYY-MM-DD, got {date!r}")
        return PriceBook(tuple(price for price in self.prices if price.date <= date))

    def price(self, model: str) -> TokenPrice:
        """The latest price of a model.

        Raises:
          KeyError: the book has none.
        """
        of_model = [price for price in self.prices if price.model == model]
        if not of_model:
            raise KeyError(model)
        return max(of_model, key=lambda price: price.date)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model once."""
        return tuple(dict.fromkeys(price.model for price in self.prices))


# ---------------------------------------------------------------------------------------------------------------
# Published tables
# ---------------------------------------------------------------------------------------------------------------

# our rate -> theirs
_OPENROUTER = {"input": "prompt", "output": "completion", "cached_input": "input_cache_read"}
_OPENROUTER |= {"cache_write": "input_cache_write", "reasoning": "internal_reasoning"}
_LITELLM = {"input": "input_cost_per_token", "output": "output_cost_per_token"}
_LITELLM |= {"cached_input": "cache_read_input_token_cost", "cache_write": "cache_creation_input_token_cost"}
_LITELLM |= {"reasoning": "output_cost_per_reasoning_token"}
_OTHERWISE = ("request", "input_cost_per_request")  # a fee that is not for tokens


def _published(table: Mapping[str, Any], date: str) -> Iterator[TokenPrice]:
    """The prices of a published table.

    Raises:
      ValueError: it is of neither form, or prices no model by its tokens.
    """
    if isinstance(table.get("data"), list):
        models: Mapping[Any, Any] = {
            one.get("id"): one.get("pricing") for one in table["data"] if isinstance(one, dict)
        }
        names, source = _OPENROUTER, "OpenRouter's list of models"
    else:
        models, names, source = table, _LITELLM, "LiteLLM's table of prices"
    found = 0
    for model, listed in models.items():
        if not isinstance(listed, dict) or not model or model == "sample_spec":
            continue
        rates = {ours: _per_million(listed.get(theirs), f"model {model!r}: {theirs}") for ours, theirs in names.items()}
        if None in (rates["input"], rates["output"]) or any(_per_million(listed.get(fee), fee) for fee in _OTHERWISE):
            continue
        rates["reasoning"] = rates["reasoning"] or None  # both write 0 where reasoning has no rate of its own
        found += 1
        yield TokenPrice(model=model, **rates, source=source, date=date)
    if not found:
        raise ValueError(
            'no model with a price per token; known are a list of prices, OpenRouter\'s {"data": [{"id": ..., "pricing": {"prompt":'
            ' "0.0000004", "completion": ...}}]} and LiteLLM\'s {model: {"input_cost_per_token": ..., "output_cost_per_token": ...}}'
        )


def _per_million(rate: Any, where: str) -> float | None:
    """A rate per token as one per million; None where it is absent or unknown (-1)."""
    if rate is None or isinstance(rate, (dict, list, bool)):
        return None
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected a rate per token, got {rate!r}") from None
    if not math.isfinite(rate):
        raise ValueError(f"{where}: expected a rate per token, got {rate!r}")
    return None if rate < 0 else round(rate * 1e6, 12)
