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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from math import log2
from zlib import crc32

import numpy as np

from alloc_jax.learn.tokens import QUANTITIES, neighbours, quantities, sequences, tokens

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
    out = np.log1p(out)
    out.flags.writeable = False
    return out


def surface_counts(text: str) -> np.ndarray:
    """The counts named in `SURFACE`, f32[len(SURFACE)], of one text."""
    words = _WORD.findall(text)
    numbers = _NUMBER.findall(text)
    lengths = [len(number) for number in numbers]
    depths = list(accumulate((c in "([{") - (c in ")]}") for c in text)) or [0]
    operators = [c for c in text if c in "+-*/^"]
    frequency = [count / len(text) for count in Counter(text).values()]
    return np.array(
        [
            len(text),
            len(words),
            len({word.lower() for word in words}),
            sum(map(len, words)) / max(len(words), 1),
            sum(text.count(mark) for mark in ".?!"),
            text.count("\n") + 1,
            sum(map(str.isupper, text)),
            sum(map(str.isdigit, text)),
            len(numbers),
            sum(length == 2 for length in lengths),
            sum(length >= 3 for length in lengths),
            max(lengths, default=0),
            sum("." in number for number in numbers),
            len(operators),
            len(set(operators)),
            max(max(depths), 0),
            max(sum(depths) / len(depths), 0),
            -sum(share * log2(share) for share in frequency),
            *(text.count(mark) for mark in _MARKS),
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
_ODD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def _hashed_counts(codes: np.ndarray, longest: int, buckets: int) -> np.ndarray:
    """How many n-grams of 1 to `longest` codes of a sequence u64[T] fall into each bucket, f32[buckets]."""
    many, longest = len(codes), min(longest, len(codes))
    if not buckets or not many:
        return np.zeros(buckets, np.float32)
    padded = np.zeros(many + longest - 1, np.uint64)
    padded[:many] = codes
    keys = np.empty((longest, many), np.uint64)  # row n - 1: the n-grams that start at each code
    keys[:] = np.arange(1, longest + 1, dtype=np.uint64)[:, None]
    for at in range(longest):  # a multiplicative hash: wraps modulo 2^64
        key = keys[at:]
        key ^= padded[at : at + many]
        key *= _ODD
        key ^= key >> _SHIFT
    keys %= np.uint64(buckets)
    whole = [row[: many - more] for more, row in enumerate(keys.view(np.int64))]  # what ran over the end is none
    return np.bincount(np.concatenate(whole), minlength=buckets).astype(np.float32)
