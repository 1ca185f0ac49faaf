"""Cheap features of a question's text: counts of what is in it, and hashed n-grams. NumPy only, nothing to download.

Seven blocks, side by side:

- surface counts: length, digits, numbers and how long they are, operators, brackets and how deep they nest, sentences,
  the kind of lexical and structural features of arXiv 2604.14853;
- hashed n-grams of the text's shape (every digit read as 0, every letter as a), which see structure whatever the
  content;
- hashed n-grams of its characters;
- hashed words and word pairs;
- quantities: digits by their place, operations and numbers by how deep they nest, how large the numbers are;
- hashed sequences of tokens, numbers read as their digit counts;
- hashed operators with what stands beside them (these three in `tokens.py`).

Hashing needs no vocabulary, so a policy ships the sizes and nothing else (Weinberger et al., arXiv 0902.2206).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate, chain
from math import log2
from zlib import crc32

import numpy as np

from alloc_jax.learn.features.many_texts import BLOCK, RaggedRows, Tokens, hashed_runs
from alloc_jax.learn.features.tokens import QUANTITIES, neighbours, quantities, sequences, tokens

MANY = 16  # texts that are encoded together
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
_MARKS = "+-*/^=<>%$\\.,;:?!()[]{}\"'"

SURFACE = (
    "characters",
    "words",
    "distinct words",
    "mean word length",
    "sentences",
    "lines",
    "capitals",
    "digits",
    "numbers",
    "numbers of two digits",
    "numbers of three or more digits",
    "longest number",
    "decimal points in numbers",
    "operators",
    "distinct operators",
    "deepest bracket",
    "mean bracket depth",
    "character entropy",
    *(f"count of {mark}" for mark in _MARKS),
)


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """The default featuriser; its fields are its identity, stored with every policy that was trained on it."""

    shape_buckets: int = 256  # hashed n-grams of 1 to 5 of the text's shape
    character_buckets: int = 0  # hashed n-grams of 1 to 3 characters; 128 taught nothing beside the tokens
    word_buckets: int = 128  # hashed words and pairs of words
    sequence_buckets: int = 256  # hashed runs of 1 to 4 tokens, by kind
    neighbour_buckets: int = 128  # hashed operators with what stands beside them

    @property
    def blocks(self) -> tuple[int, ...]:
        """The widths of the blocks; training gives every block the same weight, however wide it is."""
        hashed = (self.shape_buckets, self.character_buckets, self.word_buckets)
        return len(SURFACE), *hashed, len(QUANTITIES), self.sequence_buckets, self.neighbour_buckets

    @property
    def width(self) -> int:
        return sum(self.blocks)

    @property
    def takes(self) -> tuple[str, ...]:
        return ()

    def config(self) -> dict:
        """What identifies the featuriser; a policy refuses another."""
        return {"name": "text", "version": 2, **asdict(self)}

    def encode(self, questions: Sequence[str], given: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Features f32[N, D] of questions.

        >>> TextFeatures().encode(["(8-2)*6", "What is 8-2?"]).shape == (2, TextFeatures().width)
        True
        """
        return _encode(self, tuple(questions))


@lru_cache(maxsize=16)  # every rule of a comparison encodes the same questions
def _encode(sizes: TextFeatures, questions: tuple[str, ...]) -> np.ndarray:
    out = np.zeros((len(questions), sizes.width), np.float32)
    encode = _encode_each if len(questions) < MANY else _encode_block
    for start in range(0, len(questions), BLOCK):
        encode(sizes, questions[start : start + BLOCK], out[start : start + BLOCK])
    np.log1p(out, out=out)
    out.flags.writeable = False
    return out


def _encode_each(sizes: TextFeatures, questions: Sequence[str], out: np.ndarray) -> None:
    """Put what is counted in texts into out f32[N, D], text by text."""
    for row, text in enumerate(questions):
        codes = _codes(text)
        shape = _SHAPE_OF[np.minimum(codes, len(_SHAPE_OF) - 1)]
        found = tokens(text)
        words = [crc32(word.encode()) for word in _WORD.findall(text.lower())]
        counts = (
            surface_counts(text),
            _hashed_counts(shape, 5, sizes.shape_buckets),
            _hashed_counts(codes, 3, sizes.character_buckets),
            _hashed_counts(np.array(words, np.uint64), 2, sizes.word_buckets),
            quantities(found),
            sequences(found, sizes.sequence_buckets),
            neighbours(found, sizes.neighbour_buckets),
        )
        out[row] = np.concatenate(counts)


def _encode_block(sizes: TextFeatures, questions: Sequence[str], out: np.ndarray) -> None:
    """The same, of a block of texts together."""
    codes, rows = _codes("".join(questions)), RaggedRows(list(map(len, questions)))
    shape = _SHAPE_OF[np.minimum(codes, len(_SHAPE_OF) - 1)]
    words = [_WORD.findall(text.lower()) for text in questions]
    hashes, spoken = {}, RaggedRows(list(map(len, words)))
    for word in chain.from_iterable(words):
        if word not in hashes:
            hashes[word] = crc32(word.encode())
    word_codes = np.fromiter((hashes[word] for word in chain.from_iterable(words)), np.uint64)
    found = Tokens(list(map(tokens, questions)))
    counts = (
        _surface(questions, codes, rows, found),
        hashed_runs(shape, rows, 5, sizes.shape_buckets, _mixed),
        hashed_runs(codes, rows, 3, sizes.character_buckets, _mixed),
        hashed_runs(word_codes, spoken, 2, sizes.word_buckets, _mixed),
        found.quantities(),
        found.sequences(sizes.sequence_buckets),
        found.neighbours(sizes.neighbour_buckets),
    )
    np.concatenate(counts, axis=1, out=out)


def _surface(questions: Sequence[str], codes: np.ndarray, rows: RaggedRows, found: Tokens) -> np.ndarray:
    """`surface_counts` of a block of texts, f32[N, len(SURFACE)]."""
    kept, at = np.unique(codes, return_inverse=True)
    characters, at = [chr(code) for code in kept.tolist()], at.reshape(-1)

    def counted(chosen: Callable[[str], bool]) -> np.ndarray:
        return rows.total(np.array([float(chosen(c)) for c in characters])[at] if len(at) else np.zeros(0))

    marks = rows.count(np.array([_MARKS.find(c) for c in characters], np.int64)[at], len(_MARKS))
    words = list(map(_WORD.findall, questions))
    spoken = np.array(list(map(len, words)))
    distinct = [len({word.lower() for word in part}) for part in words]
    letters = [sum(map(len, part)) for part in words]
    length, is_number = np.array(list(map(len, found.spelled))), found.number[found.id]
    numbers, size = found.rows.select(is_number), length[found.id[is_number]]
    pointed = np.array(["." in token for token in found.spelled])[found.id[is_number]]
    step = np.array([(c in "([{") - (c in ")]}") for c in characters], np.int64)[at]
    depth = rows.cumulated(step)
    among = np.maximum(rows.lengths, 1)
    distinct_codes, times = np.unique(rows.row * len(kept) + at, return_counts=True)
    row = distinct_codes // max(len(kept), 1)
    share = times / among[row]
    operators = marks[:, [_MARKS.index(c) for c in "+-*/^"]]
    columns = [
        rows.lengths,
        spoken,
        distinct,
        letters / np.maximum(spoken, 1),
        marks[:, [_MARKS.index(c) for c in ".?!"]].sum(axis=1),
        counted("\n".__eq__) + 1,
        counted(str.isupper),
        counted(str.isdigit),
        numbers.lengths,
        numbers.total(size == 2),
        numbers.total(size >= 3),
        numbers.extreme(size, np.maximum),
        numbers.total(pointed),
        operators.sum(axis=1),
        (operators > 0).sum(axis=1),
        np.maximum(rows.extreme(depth, np.maximum), 0),
        np.maximum(rows.total(depth) / among, 0),
        -np.bincount(row, share * np.log2(share), len(questions)),
    ]
    return np.concatenate([np.stack(columns, axis=1).astype(np.float32), marks], axis=1)


def surface_counts(text: str) -> np.ndarray:
    """The counts named in `SURFACE`, f32[len(SURFACE)], of one text."""
    words = _WORD.findall(text)
    numbers = _NUMBER.findall(text)
    lengths = [len(number) for number in numbers]
    counts = Counter(text)
    depths = [0]
    if not counts.keys().isdisjoint("([{)]}"):
        depths = list(accumulate((c in "([{") - (c in ")]}") for c in text))
    marks = [counts.get(mark, 0) for mark in _MARKS]
    operators = [count for mark in "+-*/^" if (count := counts.get(mark, 0))]
    frequency = [count / len(text) for count in counts.values()]
    return np.array(
        [
            len(text),
            len(words),
            len({word.lower() for word in words}),
            sum(map(len, words)) / max(len(words), 1),
            sum(counts.get(mark, 0) for mark in ".?!"),
            counts.get("\n", 0) + 1,
            sum(count for character, count in counts.items() if character.isupper()),
            sum(count for character, count in counts.items() if character.isdigit()),
            len(numbers),
            sum(length == 2 for length in lengths),
            sum(length >= 3 for length in lengths),
            max(lengths, default=0),
            sum("." in number for number in numbers),
            sum(operators),
            len(operators),
            max(max(depths), 0),
            max(sum(depths) / len(depths), 0),
            -sum(share * log2(share) for share in frequency),
            *marks,
        ],
        np.float32,
    )


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _shape(code: int) -> int:
    character = chr(code)
    if character.isdigit():
        return ord("0")
    if character.isalpha():
        return ord("A") if character.isupper() else ord("a")
    return ord(" ") if character.isspace() else code


# Characters beyond Latin-1 share one shape.
_SHAPE_OF = np.array([*(_shape(code) for code in range(256)), ord("a")], np.uint64)
_LENGTHS = np.arange(1, 6, dtype=np.uint64)[:, None]
_ODD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def _mixed(keys: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Keys u64 that hold one more code: a multiplicative hash, which wraps modulo 2^64."""
    keys = (keys ^ codes) * _ODD
    return keys ^ (keys >> _SHIFT)


def _hashed_counts(codes: np.ndarray, longest: int, buckets: int) -> np.ndarray:
    """How many n-grams of 1 to `longest` codes of a sequence u64[T] fall into each bucket, f32[buckets]."""
    many, longest = len(codes), min(longest, len(codes))
    if not buckets or not many:
        return np.zeros(buckets, np.float32)
    padded = np.zeros(many + longest - 1, np.uint64)
    padded[:many] = codes
    keys = np.empty((longest, many), np.uint64)  # row n - 1: the n-grams that start at each code
    keys[:] = _LENGTHS[:longest]
    for at in range(longest):  # a multiplicative hash: wraps modulo 2^64
        key = keys[at:]
        key ^= padded[at : at + many]
        key *= _ODD
        key ^= key >> _SHIFT
    keys %= np.uint64(buckets)
    whole = [row[: many - more] for more, row in enumerate(keys.view(np.int64))]  # what ran over the end is none
    return np.bincount(np.concatenate(whole), minlength=buckets).astype(np.float32)
