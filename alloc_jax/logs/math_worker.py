"""One process of the grader "math": reads questions from stdin, one JSON line each, and answers them.

    ["grade", response, gold] -> [key of the answer, right, failure, the answer as it is written]
    ["equal", answer, answer] -> whether the two say the same, by `math_verify.verify` in either direction

It has no time limits of its own: math-verify's swallow what they stop, and call it wrong. Whoever started the process
kills it instead, and counts that.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import sys
from contextlib import suppress
from pathlib import Path

# By its path: the package itself may be on the path of whoever started this process alone.
_spec = importlib.util.spec_from_file_location("answers", Path(__file__).with_name("answers.py"))
answers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(answers)

_MEMORY = 4 << 30  # bytes; towers of powers would take all there are
_DELIMITER = re.compile(r"\\boxed|\\fbox|\$|\\\(|\\\[|\\begin\{(?:equation|align|math)")
_WORD = re.compile(r"(?<![\\A-Za-z])(?<!\\begin\{)(?<!\\end\{)[A-Za-z]{2,}")
_LONG = re.compile(r"\d{4000}")  # Python refuses to read such a number, and sympy to compare it

Said = tuple[str | None, bool, str | None, str | None]


def grade(response: str, gold: str) -> Said:
    """(key of the answer, right, failure, the answer as it is written)."""

    gold = _clean(gold.rsplit("####", 1)[-1])
    response = _clean(response)
    if not gold:
        return None, False, "gold", None
    moment = answers.calendar(answers.boxed(gold) or gold)
    if moment or _LONG.search(gold) or _LONG.search(response):  # a time is no ratio, a date no fraction
        return _as_text(response, gold, moment)
    wanted = _parse(gold if _DELIMITER.search(gold) else f"${_joined(gold)}$") or _parse(gold)
    if not wanted:
        return _as_text(response, gold, None)
    # A response that is a formula and nothing else is read as one; in prose, math-verify finds the formula.
    bare = response and not _DELIMITER.search(response) and not _WORD.search(response)
    said = _parse(f"${_joined(response)}$") if bare else []
    if not said or isinstance(said[0], str):
        said = _parse(response)
    if not said:  # words: math-verify reads them in a formula only
        key = _written(response)
        return (key, True, None, None) if key and key == _written(wanted[-1]) else (None, False, None, None)
    right = _verify(wanted, said) or any(_verify(side, said) for side in _last_side(wanted))
    return _key_of(said), right, None, said[-1]


def equal(one: str, other: str) -> bool:
    """Whether two answers, as they are written, say the same."""
    a, b = _parse(f"${one}$"), _parse(f"${other}$")
    return bool(a and b) and (_verify(a, b) or _verify(b, a))


def _clean(text: str) -> str:
    r"""The text after its thinking, without emphasis, and without dollars that are money: `\$`."""
    return answers.plain(text).replace(r"\$", "").strip()


def _joined(text: str) -> str:
    """A bare formula without the spaces that group thousands, and with powers of ten for the e of a computer's number."""
    if match := re.fullmatch(r"(-?[\d.]+)[eE]([-+]?\d{1,4})", text):
        return f"{match[1]} \\times 10^{{{int(match[2])}}}"
    return re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", text)


def _last_side(said: list) -> list[list]:
    """The end of a chain of equations (4 - 1 = 3, x = 4 - 1 = 3), which is what it says; nothing of another formula."""
    written = said[-1]
    sides = written.split("=")
    chain = len(sides) > 2 or (
        len(sides) == 2 and not re.search(r"(?<!\\)[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", sides[0]))
    )
    if not chain or not sides[-1].strip() or re.search(r"[<>]|\\[lgn]eq?(?![a-z])", written):
        return []
    return [side] if (side := _parse(f"${sides[-1].strip()}$")) else []


def _parse(text: str) -> list:
    """What math-verify reads in a text; nothing where it fails."""
    import math_verify

    try:
        found = math_verify.parse(text, parsing_timeout=None)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # of any kind, from deep inside sympy
        return []
    return found if found and isinstance(found[-1], str) else []


def _verify(wanted: list, said: list) -> bool:
    """Whether an answer is right, by math-verify; where it fails, whether the two are written alike."""
    import math_verify

    try:
        return bool(math_verify.verify(wanted, said, timeout_seconds=None, raise_on_error=True))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # of any kind, from deep inside sympy
        return _written(wanted[-1]) == _written(said[-1])


def _as_text(response: str, gold: str, moment: str | None) -> Said:
    """Compare what is no mathematics: times, dates, words, and numbers of thousands of digits."""
    said = answers.boxed(response) or response
    if moment:
        key = answers.calendar(said) or answers.last_calendar(said)
        return key, key == moment, None, key
    wanted, key = (answers.number(text) or _written(text) for text in (answers.boxed(gold) or gold, said))
    return key, key == wanted, None, None


def _written(text: str) -> str | None:
    """A formula as it is written, but for what only sets its type."""
    text = re.sub(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\(?:left|right|[,;!:])|[\s$]", "", text)
    return answers.words(text)


def _key_of(said: list) -> str:
    for side in _last_side(said):
        return _key_of(side)
    value, written = said[0], said[-1]
    if moment := answers.calendar(written):
        return moment
    try:
        found = key(value)
        if found in ("True", "False", "nan", "zoo"):  # what a relation comes to says nothing of what it is
            found = _written(written)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # sympy cannot simplify it
        found = _written(written) or str(value)
    # Per cent are compared with both 50 and 0.5: they are an answer of their own, which says the same as either.
    return answers.shorten(f"{found} as %" if "%" in written and not found.startswith("%") else found)


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


def main() -> None:
    with suppress(ImportError, ValueError, OSError):  # not on this system, or not lowered here
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    out, sys.stdout = sys.stdout, sys.stderr  # nothing else may write there
    logging.disable(logging.CRITICAL)
    try:
        import math_verify  # noqa: F401

        grade("$1$", "1")  # loads everything, so that the first answer is not charged for it
    except ImportError:
        return
    print("ready", file=out, flush=True)
    asked = {"grade": grade, "equal": equal}
    for line in sys.stdin.buffer:
        what, *texts = json.loads(line)
        try:
            said = asked[what](*texts)
        except MemoryError:
            said = (None, False, "memory", None)
        except Exception as error:  # of any kind, from deep inside sympy
            said = (None, False, type(error).__name__, None)
        print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    main()
