"""Features of a text read as tokens: numbers as numbers, operators with what stands beside them, how deep things nest.

NumPy only. Characters show that a text holds a 7; tokens show that a number ends in 7 and is multiplied.
"""

from __future__ import annotations

import re
from math import log1p
from zlib import crc32

import numpy as np

_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]")
OPERATORS = "+-*/^=<>%"
PLACES, DEPTHS, KINDS = 4, 6, 5

QUANTITIES = (
    *(f"digit {digit} at place {place}" for place in range(PLACES) for digit in range(10)),
    *(f"{kind} at depth {depth}" for depth in range(DEPTHS) for kind in ("+", "-", "*", "one digit", "more digits")),
    "sum of logarithms of numbers",
    "logarithm of the largest number",
    "logarithm of the smallest number",
    "sum of digits",
)


def tokens(text: str) -> list[str]:
    """Numbers, words and single marks.

    >>> tokens("Is (12-3)*4.5 big?")
    ['Is', '(', '12', '-', '3', ')', '*', '4.5', 'big', '?']
    """
    return _TOKEN.findall(text)


def quantities(found: list[str]) -> np.ndarray:
    """What is named in `QUANTITIES`, f32, of a text's tokens: digits by place from the right, operations by depth, sizes."""
    digits, nested = [0] * (10 * PLACES), [0] * (KINDS * DEPTHS)
    sizes, depth, total = [], 0, 0
    for token in found:
        level = KINDS * min(depth, DEPTHS - 1)
        if token[0].isdecimal():
            whole = token.split(".")[0]
            for place, digit in enumerate(map(int, reversed(whole[-PLACES:]))):
                digits[10 * place + digit] += 1
                total += digit
            nested[level + 3 + (len(whole) > 1)] += 1
            sizes.append(log1p(float(token[:15])))
        elif token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(depth - 1, 0)
        elif token in "+-*":
            nested[level + "+-*".index(token)] += 1
    about = [sum(sizes), max(sizes, default=0), min(sizes, default=0), total]
    return np.array(digits + nested + about, np.float32)


def sequences(found: list[str], buckets: int) -> np.ndarray:
    """Hashed runs of 1 to 4 kinds of token, f32[buckets]: a number is its digit count, a word is a word, a mark itself."""
    kinds = [kind(token).encode("utf-8", "surrogatepass") for token in ("^", *found, "$")]
    spaced = [b" " + spelled for spelled in kinds]
    sums = []
    for at, spelled in enumerate(kinds):  # a run's sum goes on from that of the run before its last token
        sums.append(total := crc32(spelled))
        for more in spaced[at + 1 : at + 4]:
            sums.append(total := crc32(more, total))
    return _counted(sums, buckets)


def neighbours(found: list[str], buckets: int) -> np.ndarray:
    """Hashed operators with what stands on either side: digit counts, last digits, or the mark, f32[buckets]."""
    keys = []
    for at, operator in enumerate(found):
        if operator not in OPERATORS:
            continue
        left, right = found[at - 1] if at else "", found[at + 1] if at + 1 < len(found) else ""
        before, after = f"{last(left)}{operator}", last(right)
        keys += [f"{kind(left)}{operator}{kind(right)}", before, f"{operator}{after}", f"{before}{after}"]
    return _counted([crc32(key.encode("utf-8", "surrogatepass")) for key in keys], buckets)


def kind(token: str) -> str:
    if not token:
        return ""
    if token[0].isdecimal():
        return "0" * min(len(token), 9)
    return "a" if token[0].isalpha() else token


def last(token: str) -> str:
    return token[-1:] if token[:1].isdecimal() else kind(token)


def _counted(sums: list[int], buckets: int) -> np.ndarray:
    """How many of some hashes fall into each bucket, f32[buckets]."""
    if not buckets:
        return np.zeros(0, np.float32)
    return np.bincount(np.array(sums, np.int64) % buckets, minlength=buckets).astype(np.float32)
