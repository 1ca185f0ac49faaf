"""How values look in a terminal and in a notebook, and how tables become records. NumPy alone.

A log holds a million numbers: its `repr` says what they are, in a few lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import fields
from html import escape
from typing import Any, cast

import numpy as np

WIDTH = 120  # columns of a line
FEW = 4  # elements of a sequence that are shown
ROWS = 10  # rows of a table that a notebook shows


class Shown:
    """A dataclass whose `repr` fits a few lines, whatever its size."""

    def parts(self) -> dict[str, str]:
        """What is shown of each field; by default, of each that is not None."""
        values = {field.name: getattr(self, field.name) for field in fields(cast(Any, self)) if field.repr}
        return {name: brief(value) for name, value in values.items() if value is not None}

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({', '.join(f'{name}={part}' for name, part in self.parts().items())})"
        return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(part)}</td></tr>" for name, part in self.parts().items()
        )
        return f"<p><b>{type(self).__name__}</b></p><table>{rows}</table>"


class Tabular(Shown):
    """Something that is a table: `records` are its rows."""

    def records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """One plain dictionary per row, or for the first `limit` rows, with Python's own numbers, and None where nothing is known."""
        raise NotImplementedError

    def to_pandas(self):
        """The records as a `pandas.DataFrame`. Needs the extra `pandas`.

        Raises:
          ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install 'alloc_jax[pandas]'") from None
        return pandas.DataFrame.from_records(self.records())

    def _repr_html_(self) -> str:
        records = self.records(ROWS)
        head = "".join(f"<th>{escape(name)}</th>" for name in (records[0] if records else ()))
        rows = [[brief(value) if isinstance(value, float) else str(value) for value in r.values()] for r in records]
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        more = f"<p>the first {ROWS} rows</p>" if len(records) == ROWS else ""
        return f"{super()._repr_html_()}<table><tr>{head}</tr>{body}</table>{more}"


def brief(value: Any) -> str:
    """A value in a few characters: numbers to four digits, an array by its type and shape, a sequence by its first elements.

    >>> brief(np.zeros((200, 8), np.float32)), brief(0.123456), brief(("a", "b", "c", "d", "e"))
    ('f32[200, 8]', '0.1235', "('a', 'b', 'c', ... 5)")
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, (tuple, list)):
        shown = [brief(part) for part in (value if len(value) <= FEW else value[: FEW - 1])]
        if len(value) > FEW:
            shown.append(f"... {len(value)}")
        return f"({', '.join(shown)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, list(value)[:FEW]))}{', ...' if len(value) > FEW else ''}}}"
    text = repr(value)
    return text if len(text) <= WIDTH or isinstance(value, Shown) else f"{text[: WIDTH - 3]}..."


def span(value: Any) -> str:
    """An array by its type, its shape and its ends.

    >>> span(np.float32([1, 2, 5, 7, 16]))
    'f32[5] from 1 to 16'
    """
    known = _known(value)
    ends = "" if known is None or not known.size else f" from {known.min():.4g} to {known.max():.4g}"
    return f"{_kind(value)}{ends}"


def _array(value: Any) -> str:
    """A few numbers as they are; many, or numbers that are not known yet inside jit, by type and shape."""
    known = _known(value) if value.size <= FEW else None
    return _kind(value) if known is None else str(_rounded(known.tolist()))


def _known(value: Any) -> np.ndarray | None:
    """The numbers of an array; None where it is traced, a shape alone, deleted, or on another host."""
    try:
        known = np.asarray(value)
    except (TypeError, RuntimeError):
        return None
    return None if known.dtype == object else known


def _kind(value: Any) -> str:
    dtype = np.dtype(value.dtype)
    name = "bool" if dtype.kind == "b" else f"{dtype.kind}{8 * dtype.itemsize}"
    return f"{name}[{', '.join(map(str, value.shape))}]"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
