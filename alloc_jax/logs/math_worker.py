"""One process of the grader "math": reads [response, gold] from stdin, one JSON line each, and writes the grade.

It has no time limits of its own: math-verify's swallow what they stop, and call it wrong. Whoever started the process
kills it instead, and counts that.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from contextlib import suppress

_MEMORY = 4 << 30  # bytes; towers of powers would take all there are
_DELIMITER = re.compile(r"\\boxed|\\fbox|\$|\\\(|\\\[|\\begin\{(?:equation|align|math)")
_WORD = re.compile(r"(?<![\\A-Za-z])(?<!\\begin\{)(?<!\\end\{)[A-Za-z]{2,}")
_LONGEST = 256  # characters of a key


def grade(response: str, gold: str) -> tuple[str | None, bool, str | None]:
    """(key of the answer, right, failure)."""
    import math_verify

    def parse(text: str) -> list:
        return math_verify.parse(text, parsing_timeout=None)

    gold = gold.rsplit("####", 1)[-1].strip()
    wanted = parse(gold if _DELIMITER.search(gold) else f"${gold}$") or parse(gold)
    if not wanted:
        return None, False, "gold"
    # A response that is a formula and nothing else is read as one; in prose, math-verify finds the formula.
    bare = response.strip() and not _DELIMITER.search(response) and not _WORD.search(response)
    answer = parse(f"${response.strip()}$" if bare else response)
    if not answer:
        return None, False, None
    right = math_verify.verify(wanted, answer, timeout_seconds=None, raise_on_error=True)
    return shorten(key(answer[0])), bool(right), None


def key(value) -> str:
    """The canonical form of what math-verify parsed: equal for expressions that are equal as mathematics.

    Numbers are exact fractions where they are rational and 12 digits where not, rational functions are expanded, sets
    are sorted; anything else is its own text.
    """
    import sympy

    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, sympy.Eq) and value.lhs.is_Symbol:
        return key(value.rhs)
    if isinstance(value, sympy.MatrixBase):
        return f"[{';'.join(','.join(key(x) for x in value.row(i)) for i in range(value.rows))}]"
    if isinstance(value, sympy.FiniteSet):
        return f"{{{','.join(sorted({key(x) for x in value.args}))}}}"
    if isinstance(value, sympy.Tuple):
        return f"({','.join(key(x) for x in value)})"
    value = value.doit()
    if isinstance(value, sympy.Float):
        value = sympy.Rational(str(value))
    if isinstance(value, sympy.Expr):
        if value.is_number and not value.is_Rational:
            exact = sympy.nsimplify(value, rational=True) if value.has(sympy.Float) else value
            return str(exact if exact.is_Rational else sympy.N(value, 12))
        with suppress(sympy.PolynomialError, NotImplementedError):  # no rational function
            value = value if value.is_number else sympy.cancel(value)
    return str(value)


def shorten(text: str) -> str:
    """The text, or its beginning and a hash of the whole."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def main() -> None:
    with suppress(ImportError, ValueError, OSError):  # not on this system, or not lowered here
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    out, sys.stdout = sys.stdout, sys.stderr  # nothing else may write there
    logging.disable(logging.CRITICAL)
    try:
        grade("$1$", "1")  # loads everything, so that the first answer is not charged for it
    except ImportError:
        return
    print("ready", file=out, flush=True)
    for line in sys.stdin.buffer:
        try:
            said = grade(*json.loads(line))
        except MemoryError:
            said = None, False, "memory"
        except Exception as error:  # of any kind, from deep inside sympy
            said = None, False, type(error).__name__
        print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    main()
