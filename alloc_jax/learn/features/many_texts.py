"""Features of many texts at once: what `text.py` and `tokens.py` say of one text, without a Python loop over its n-grams.

Texts are cut into words and tokens one by one, by compiled patterns. All that is counted of them is counted for a
block of texts together: n-grams are numbers made of their parts' numbers, and only distinct ones are spelled out and hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from math import log1p
from zlib import crc32

import numpy as np

from alloc_jax.learn.features import tokens as reading

BLOCK = 1024  # texts
_PLACES, _DEPTHS, _KINDS = reading.PLACES, reading.DEPTHS, reading.KINDS


class _Numbered(dict):
    """Numbers of things in the order in which they are first asked for."""

    def __missing__(self, key):
        self[key] = len(self)
        return self[key]

    def of(self, things: Iterable) -> np.ndarray:
        return np.fromiter(map(self.__getitem__, things), np.int64)


class RaggedRows:
    """Things of several texts side by side, i.e. which text each of them is in."""

    def __init__(self, lengths: list[int]):
        self.lengths, self.texts = np.array(lengths, np.int64), len(lengths)
        self.row = np.repeat(np.arange(self.texts), self.lengths)
        self.start = np.cumsum(self.lengths) - self.lengths

    def count(self, at: np.ndarray, width: int, of: np.ndarray | None = None) -> np.ndarray:
        """How often each of `width` numbers stands in each text, f32[texts, width]; negative numbers are none."""
        row = self.row if of is None else self.row[of]
        row = np.broadcast_to(row.reshape(-1, *[1] * (at.ndim - 1)), at.shape)
        real = at >= 0
        found = np.bincount(row[real] * width + at[real], minlength=self.texts * width)
        return found.reshape(self.texts, width).astype(np.float32)

    def total(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.row, values, self.texts)

    def extreme(self, values: np.ndarray, of: np.ufunc) -> np.ndarray:
        """The largest or smallest of each text's values, 0 where it has none."""
        found, some = np.zeros(self.texts), self.lengths > 0
        if some.any():
            found[some] = of.reduceat(values, self.start[some])
        return found

    def cumulated(self, values: np.ndarray) -> np.ndarray:
        """The running totals of each text's own values."""
        total = np.cumsum(values)
        before = np.append(0, total)[self.start]
        return total - np.repeat(before, self.lengths)

    def starts(self, size: int) -> np.ndarray:
        """The positions at which a run of so many things of one text begins."""
        at = np.arange(max(len(self.row) - size + 1, 0))
        return at[self.row[at] == self.row[at + size - 1]]

    def select(self, kept: np.ndarray) -> RaggedRows:
        """The rows of some of the things, bool[things]."""
        return RaggedRows(np.bincount(self.row[kept], minlength=self.texts).tolist())


def hashed_runs(codes: np.ndarray, rows: RaggedRows, longest: int, buckets: int, mix: Callable) -> np.ndarray:
    """How many runs of 1 to `longest` codes u64 fall into each bucket of each text, f32[texts, buckets]."""
    found = np.zeros((rows.texts, buckets), np.float32)
    for size in range(1, longest + 1) if buckets else ():
        at = rows.starts(size)
        keys = np.full(len(at), size, np.uint64)
        for step in range(size):
            keys = mix(keys, codes[at + step])
        found += rows.count((keys % np.uint64(buckets)).astype(np.int64), buckets, at)
    return found


class Tokens:
    """The tokens of a block of texts, as numbers."""

    def __init__(self, found: list[list[str]]):
        self.rows = RaggedRows(list(map(len, found)))
        known = _Numbered()
        self.id = known.of(chain.from_iterable(found))
        self.spelled = [*known, ""]  # the last one: no token
        self.kinds, self.lasts = _Numbered({"": 0, "^": 1, "$": 2}), _Numbered({"": 0})
        self.kind = self.kinds.of(map(reading.kind, self.spelled))
        self.last = self.lasts.of(map(reading.last, self.spelled))
        self.number = np.array([token[:1].isdecimal() for token in self.spelled], bool)

    def quantities(self) -> np.ndarray:
        """f32[texts, len(QUANTITIES)], see `tokens.quantities`."""
        spelled, is_number = self.spelled, self.number
        whole = [token.split(".")[0] if n else "" for token, n in zip(spelled, is_number, strict=True)]
        digits = np.full((len(spelled), _PLACES), -1)
        for i in np.flatnonzero(is_number):
            for place, digit in enumerate(map(int, reversed(whole[i][-_PLACES:]))):
                digits[i, place] = 10 * place + digit
        size = np.array([log1p(float(token[:15])) if n else 0.0 for token, n in zip(spelled, is_number, strict=True)])
        mark = {**dict.fromkeys("([{", -2), **dict.fromkeys(")]}", -3), "+": 0, "-": 1, "*": 2}
        role = np.array(
            [3 + (len(w) > 1) if n else mark.get(t, -1) for t, n, w in zip(spelled, is_number, whole, strict=True)]
        )

        rows, role, numbers = self.rows, role[self.id], is_number[self.id]
        step = (role == -2).astype(np.int64) - (role == -3)
        after = rows.cumulated(step)
        depth = after - step
        for text in np.unique(rows.row[after < 0]):  # brackets that close what is not open
            part = slice(rows.start[text], rows.start[text] + rows.lengths[text])
            low = np.minimum(np.minimum.accumulate(after[part]), 0)
            depth[part] = np.append(0, (after[part] - low)[:-1])
        nested = np.where(role >= 0, _KINDS * np.minimum(depth, _DEPTHS - 1) + role, -1)
        digit = digits[self.id]
        of = rows.select(numbers)
        sizes = size[self.id[numbers]]
        about = [
            rows.total(np.where(numbers, size[self.id], 0.0)),
            of.extreme(sizes, np.maximum),
            of.extreme(sizes, np.minimum),
            rows.total(np.where(digit >= 0, digit % 10, 0).sum(axis=1)),
        ]
        counts = rows.count(digit, 10 * _PLACES), rows.count(nested, _KINDS * _DEPTHS)
        return np.concatenate([*counts, np.stack(about, axis=1).astype(np.float32)], axis=1)

    def sequences(self, buckets: int) -> np.ndarray:
        """f32[texts, buckets], see `tokens.sequences`."""
        if not buckets:
            return np.zeros((self.rows.texts, 0), np.float32)
        begin, end = self.kinds["^"], self.kinds["$"]
        rows = RaggedRows((self.rows.lengths + 2).tolist())
        kinds = np.full(len(rows.row), end)
        kinds[rows.start] = begin
        kinds[np.arange(len(self.id)) + 2 * self.rows.row + 1] = self.kind[self.id]
        names, found = list(self.kinds), np.zeros((rows.texts, buckets), np.float32)
        for size in (1, 2, 3, 4):
            at = rows.starts(size)
            runs = [kinds[at + step] for step in range(size)]
            found += rows.count(
                _buckets(runs, len(names), lambda run: " ".join(names[k] for k in run), buckets), buckets, at
            )
        return found

    def neighbours(self, buckets: int) -> np.ndarray:
        """f32[texts, buckets], see `tokens.neighbours`."""
        if not buckets:
            return np.zeros((self.rows.texts, 0), np.float32)
        nothing, row = len(self.spelled) - 1, self.rows.row
        operator = np.array([token != "" and token in reading.OPERATORS for token in self.spelled])
        at = np.flatnonzero(operator[self.id])
        ids, rows = np.append(self.id, nothing), np.append(row, -1)
        left = np.where(rows[at - 1] == row[at], ids[at - 1], nothing)
        right = np.where(rows[at + 1] == row[at], ids[at + 1], nothing)
        middle = self.id[at]
        found = np.zeros((self.rows.texts, buckets), np.float32)
        kinds, lasts, wide = (
            list(self.kinds),
            list(self.lasts),
            max(len(self.spelled), len(self.kinds), len(self.lasts)),
        )
        none = np.full(len(at), lasts.index(""))
        for of, names in (
            ((self.kind[left], self.kind[right]), kinds),
            ((self.last[left], none), lasts),
            ((none, self.last[right]), lasts),
            ((self.last[left], self.last[right]), lasts),
        ):

            def spell(key, names=names):
                return names[key[0]] + self.spelled[key[1]] + names[key[2]]

            found += self.rows.count(_buckets([of[0], middle, of[1]], wide, spell, buckets), buckets, at)
        return found


def _buckets(parts: list[np.ndarray], wide: int, spell: Callable[[list[int]], str], buckets: int) -> np.ndarray:
    """The bucket i64[n] of each tuple of numbers below `wide`, by the hash of how it is spelled."""
    code = np.zeros(len(parts[0]), np.int64)
    for part in parts:
        code = code * wide + part
    _, first, back = np.unique(code, return_index=True, return_inverse=True)
    keys = (spell([int(part[i]) for part in parts]) for i in first)
    hashed = np.fromiter((crc32(key.encode("utf-8", "surrogatepass")) % buckets for key in keys), np.int64)
    return hashed[back.reshape(-1)]
