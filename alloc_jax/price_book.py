"""A dated price book: what a million tokens of each model cost, and since when.

    [{"model": "gpt-4.1-mini", "input": 0.40, "output": 1.60, "cached_input": 0.10, "reasoning": null,
      "source": "the vendor's price page", "date": "2025-04-14"}, ...]

Rates are usd per million tokens. A null `cached_input` or `reasoning` says that these tokens have no rate of their own and
are billed as the input or output they are part of; then a log need not count them. A model may have entries of several
dates; the latest is in force.
"""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


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
    reasoning: float | None = None  # of reasoning tokens; None: no rate of its own
    source: str  # where the price was read
    date: str  # when, as YYYY-MM-DD

    def __post_init__(self):
        for name in ("model", "source"):
            if not isinstance(value := getattr(self, name), str) or not value.strip():
                raise ValueError(f"a price's {name} is a text, got {value!r} (model {self.model!r})")
        for name in ("input", "output", "cached_input", "reasoning"):
            value = getattr(self, name)
            if value is None and name in ("cached_input", "reasoning"):
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
        """Read a price book.

        Raises:
          FileNotFoundError: no such file.
          ValueError: the file is no price book; the message names the file, the entry and the field.
        """
        path = Path(path)
        try:
            entries = json.loads(path.read_text(encoding="utf-8-sig"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: no JSON: {error}") from None
        try:
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
            raise ValueError("a price book is a list of at least one price")
        known = [field.name for field in fields(TokenPrice)]
        prices = []
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise ValueError(f"entry {number}: expected an object, got {entry!r}")
            for name in entry:
                if name not in known:
                    raise ValueError(f"entry {number}: unknown field {name!r}; known: {', '.join(known)}")
            missing = [name for name in known if name not in entry]
            if missing:
                raise ValueError(
                    f"entry {number} (model {entry.get('model')!r}): no {missing[0]}; cached_input and reasoning may be null"
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
