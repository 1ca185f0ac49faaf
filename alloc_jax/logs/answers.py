r"""The answer in a response, read by comparison of texts: numbers, choices and plain words, each with the key it is counted by.

Two texts say the same where their keys are equal, so that it does not matter which came first. A key is None where the
text gives no answer. Nothing here raises on any text, and no number is too long.

Of a whole solution the answer is what stands in the last `\boxed{}`, else what follows the last "####", else the last one
of the text after its thinking. This module needs nothing beyond Python: the grading processes load it by its path.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from fractions import Fraction

_LONGEST = 256  # characters of a key
_DIGITS = 4000  # of a number that is reduced; Python refuses to write more than 4300, and a longer one is compared as it stands

_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_PLAIN = str.maketrans(
    {**_FULL_WIDTH, "\u2212": "-", "\u2044": "/", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)
_UNSEEN = str.maketrans("", "", "`\u200b\ufeff")  # what shows a text as code, or nothing
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3})(?=[^\s*_])(.{0,400}?)(?<=[^\s*_])\1(?!\w)")


def shorten(text: str) -> str:
    """The text, or its beginning and a hash of the whole."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... {hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def plain(text: str) -> str:
    """The text after its thinking, without Markdown emphasis, with ASCII digits, signs and quotes."""
    text = text.rpartition("</think>")[2].translate(_PLAIN)
    text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/"), text)
    return unemphasised(text)


def unemphasised(text: str) -> str:
    """The text without Markdown emphasis, also of a part of what is emphasised; twenty levels of it are more than is written."""
    for _ in range(20 if "*" in text or "_" in text else 0):
        text, found = _EMPHASIS.subn(r"\2", text)
        if not found:
            break
    return text


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{}`; None where there is none that closes."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    found, begun = None, -1
    unclosed: list[int] = []  # where each brace that is open begins, if it is a box's; else -1
    for match in _BRACE.finditer(text):
        if match[0] != "}":
            unclosed.append(match.end() if len(match[0]) > 1 else -1)
        elif unclosed and (start := unclosed.pop()) > begun:
            found, begun = text[start : match.start()], start
    return found


def _marked(text: str) -> str | None:
    """The answer as the text itself marks it: boxed, or in the line behind the last "####"."""
    found = boxed(text)
    if found is None and "####" in text:
        found = next((line for line in text.rpartition("####")[2].splitlines() if line.strip()), None)
    return found


# ---------------------------------------------------------------------------------------------------------------
# Numbers, times and dates
# ---------------------------------------------------------------------------------------------------------------

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_ALONE = (
    r"(?-i:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]{{0,6}}\.?"
# Letters of alphabets make a word of the digits behind them (x2); letters of scripts without spaces do not.
_START = r"(?<![A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u052f0-9_.])"
_SPACE = r"(?:,|'|\{,\}|\\,|\\!|[\u00a0\u2009\u202f])"
_DATE = re.compile(
    rf"{_START}(?:(?P<date>\d{{1,4}}(?P<between>[-/.])\d{{1,2}}(?P=between)\d{{1,4}})"
    r"|(?P<clock>\d{1,3}:\d{1,3}(?::\d{2})?)(?:\s?(?P<half>[ap])\.?m\b)?"
    rf"|(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{_MONTH}),?\s+(?P<year>\d{{4}})"
    rf"|(?P<Month>{_MONTH})\s+(?P<Day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<Year>\d{{4}})"
    rf"|(?P<in_month>{_MONTH_ALONE})\.?,?\s+(?P<in_year>\d{{4}}))(?![\d:])",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    rf"{_START}(?P<sign>[-+]?)\s?(?:\\?[$\u20ac\u00a3\u00a5])?\s?(?P<minus>-?)(?:"
    r"(?:(?P<units>\d+)\s*)?\\[dt]?frac\s*(?:\{\s*(?P<top>-?\d+)\s*\}|(?P<top1>\d))\s*(?:\{\s*(?P<bottom>\d+)\s*\}|(?P<bottom1>\d))"
    rf"|(?:(?P<mixed>\d+)\s+(?=\d+\s*/\s*\d))?(?:(?P<whole>\d{{1,3}}(?:{_SPACE}\d{{3}})+(?!\d)|\d+)(?P<part>\.\d+)?|(?P<bare>\.\d+))"
    r"(?:\s*/\s*(?P<below>\d+))?"
    r"(?:[eE](?P<power>[-+]?\d{1,9})(?![\w.])"
    r"|\s*(?:\\times|\\cdot|[x\u00d7*\u00b7])\s*10\s*\^\s*[({]?\s*(?P<ten>[-+]?\d{1,9})\s*[)}]?"
    r"|(?(below)(?!))\s*\^\s*[({]?\s*(?P<raised>[-+]?\d{1,9})(?![\d.])\s*[)}]?)?)"
)
_ANSWER_IS = re.compile(
    r"(?P<before>(?<![^\s$(])[-+$]{0,3}\d[\d,./]{0,40}\$?)\s+is\s+(?:the|my)\s+(?:(?:final|correct)\s+)?answer\b"
    r"|\banswer(?:\s+is|\s?:)[\s:*]{0,6}(?=\W{0,4}\d)",
    re.IGNORECASE,
)
_RECONSIDERED = re.compile(
    r"\b(?:wait|actually|instead|correction|corrected|mistake|recheck|hmm|but|answer)\b", re.IGNORECASE
)
# The answer's sentence ends, or goes on with what is no part of it. A number before it has been read, as `1. 5` shows.
_REMARK = re.compile(
    r"(?<=\d)[.!]?[*$)\]]{0,3}(?=\n)|\n|[.!](?=\s)|\s\(|\b(?:because|since|in which|note)\b|$", re.IGNORECASE
)
_SPACED = re.compile(r"\D?\d{1,3}(?: \d{3})+(?:\.\d+)?\D*")


def number(text: str) -> str | None:
    r"""The last number of a text, exact; a time or a date is one answer, and not the numbers it is made of.

    Signs, currencies, thousands separators (`1,250`, `18{,}000`, no-break spaces), fractions (`7/2`, `3 1/2`, `\frac12`),
    exponents (`7e-05`, `7 \times 10^{-5}`) and digits behind letters of Chinese, Japanese or Korean are read. Units and
    per cent are not. What follows "the answer is" goes before numbers of later sentences.

    >>> number("They save \\boxed{6} by taking all 18."), number("at 09:30"), number("the rate is 7e-05")
    ('6', '9:30', '7/100000')
    """
    text = plain(text)
    marked = _marked(text)
    found = None if marked is None else _last_number(marked)
    if found is None and (said := _declared(text)):
        found = _last_number(said)
    return _last_number(text) if found is None else found


def _declared(text: str) -> str | None:
    """The sentence part that says what the answer is, where a remark follows that does not take it back."""
    found = next(reversed(list(_ANSWER_IS.finditer(text))), None)
    if found is None or _RECONSIDERED.search(text, found.end()):
        return None
    if found["before"]:
        return found["before"]
    return text[found.end() : _REMARK.search(text, found.end()).start()]


def calendar(text: str) -> str | None:
    """The key of a text that is a time or a date and nothing else."""
    match = _DATE.fullmatch(plain(text).strip(" .$\\()[]"))
    return None if match is None else _moment(match)


def last_calendar(text: str) -> str | None:
    """The last time or date of a text."""
    found = [key for match in _DATE.finditer(text) if (key := _moment(match))]
    return found[-1] if found else None


def _moment(match: re.Match) -> str | None:
    """The key of a time or a date; None where it cannot be one."""
    if match["clock"]:
        hour, *rest = (part.lstrip("0") or "0" for part in match["clock"].split(":"))
        if match["half"] and int(hour) <= 12:
            hour = str(int(hour) % 12 + 12 * (match["half"].lower() == "p"))
        return ":".join(
            [hour, *(part.zfill(2) for part in rest)] if len(match["clock"].rpartition(":")[2]) == 2 else [hour, *rest]
        )
    if match["date"]:
        parts = [part.lstrip("0") or "0" for part in match["date"].split(match["between"])]
        if match["between"] != "/" and not any(len(part) == 4 for part in (parts[0], parts[2])):
            return None  # a version, a phone number, a difference
        return "/".join(parts) if len(parts[0]) < 4 else "-".join(parts)
    if match["in_month"]:
        return f"{match['in_month'][:3]} {match['in_year']}"
    day, month, year = (match[name] or match[name.capitalize()] for name in ("day", "month", "year"))
    return f"{year}-{_MONTHS.index(month[:3].lower()) + 1}-{day.lstrip('0')}"


def _last_number(text: str) -> str | None:
    if _SPACED.fullmatch(text.strip()):
        text = text.replace(" ", "")
    spans = iter([(match.start(), match.end(), key) for match in _DATE.finditer(text) if (key := _moment(match))])
    last, span = None, next(spans, None)
    for match in _NUMBER.finditer(text):
        while span and span[1] <= match.start():
            last, span = span[2], next(spans, None)
        if not span or match.end() <= span[0]:
            last = _value(match) or last
    return span[2] if span else last


def _value(match: re.Match) -> str | None:
    """The key of a number: a whole number or a reduced fraction."""
    top, bottom = match["top"] or match["top1"], match["bottom"] or match["bottom1"]
    whole, part, below = match["whole"], match["part"] or match["bare"] or "", match["below"]
    negative = (match["sign"] == "-") != (match["minus"] == "-")
    power = int(match["power"] or match["ten"] or 0)
    raised = int(match["raised"] or 1)
    digits = sum(len(group or "") for group in match.groups()) * max(1, abs(raised))
    if digits + abs(power) > _DIGITS:
        mantissa = re.sub(r"[^\d.]", "", whole or top or "0").lstrip("0") + part
        return shorten(
            "-" * negative
            + mantissa
            + f"/{below or bottom}" * bool(below or bottom)
            + f"e{power}" * bool(power)
            + f"^{raised}" * (raised != 1)
        )
    if int(below or bottom or 1) == 0:
        return None
    value: Fraction | int
    if top is not None:
        value = Fraction(int(top), int(bottom)) + int(match["units"] or 0)
    else:
        written = re.sub(r"\D", "", whole or "0") + part
        value = Fraction(written) if part else int(written)
        if below is not None:
            value = Fraction(value) / int(below) + int(match["mixed"] or 0)
    if value == 0 and raised < 0:
        return None
    if raised != 1 or power:
        value = Fraction(value) ** raised * Fraction(10) ** power
    return str(-value if negative else value)


# ---------------------------------------------------------------------------------------------------------------
# Choices
# ---------------------------------------------------------------------------------------------------------------

# Repetitions are bounded, so that the time is linear in the length of any text.
_OPEN, _CLOSE = r"""[(\[{"'`]{0,4}""", r"""[)\]}"'`]{0,4}"""
_LIST = rf"{_OPEN}[A-Z]{_CLOSE}(?:\s*(?:,\s*(?:and|or)\b|,|;|&|/|\+|and|\bor\b|\u3001|\u548c)\s*{_OPEN}(?![AI]\s+[a-z])[A-Z]{_CLOSE}(?![A-Za-z']))+"
_RUN = r"(?<![A-Za-z'])[A-Z]{2,}(?![A-Za-z'])"
_WHOLE = re.compile(rf"(?:{_LIST}|{_RUN}|{_OPEN}[A-Z]{_CLOSE})[.:)\u3002]*", re.IGNORECASE)
_DECLARED = re.compile(
    r"(?:(?i:answers?|choices?|options?)\b\**|\u7b54\u6848|\u9009\u62e9?|\u9078)\W{0,3}"
    r"(?:(?i:is|are|would be|must be|should be|choice|option|letter|clearly|therefore|thus)\W{1,3}|\u662f|\u4e3a|\u70ba){0,4}"
    rf"(?P<said>{_LIST}|{_RUN}|(?P<quoted>[(\[{{\"'`]{{1,4}})[A-Za-z]{_CLOSE}(?![A-Za-z])|[A-Z](?![A-Za-z'])|[a-z](?=\s*(?:[.,;!)]|$)))"
)
_OPTION = re.compile(r"\(?([A-Za-z])[).:]\s+\S(?:(?!\([A-Z]\)).){0,300}")
# "A" and "I" are words, too: before another word they are choices only in brackets, or after "is" or a colon. Late letters
# are variables more often than choices: outside brackets they count at the end of the text alone.
_LONE = re.compile(
    rf"(?<![A-Za-z'.\\])(?:{_LIST}|\([A-Z]\)|[\"'`][A-Z][\"'`]|[B-HJ]|(?<=is )[AI]|(?<=: )[AI]|[AI](?!\s+[a-z])|[K-Z](?=\W*$))(?![A-Za-z'])"
)
_DENIED = re.compile(  # letters that the text says it is not
    r"(?:\b(?i:not|cannot|never|neither|nor)|(?<=[a-z])n't)\s+(?:(?i:be|the|answer|option|choice|letter|an?)\s+){0,3}"
    rf"(?:{_LIST}|[(\[\"'`]?[A-Z][)\]\"'`]?(?!\s+[a-z]|[A-Za-z'])|[B-HJ-Z](?![A-Za-z']))(?:\s+nor\s+[A-Z](?![A-Za-z']))*"
)
_BEFORE_WORD = re.compile(r"\s+[a-z]")
_TEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit|mathit|rm|bf)\s*\{([^{}]*)\}")


def choice(text: str) -> str | None:
    r"""The letter that is chosen, A to Z; letters in order, with commas, where it is several.

    It is what the text is, where that is a choice and nothing else, in either case; else what is boxed; else what follows
    the last "answer is", "answer:" or the like; else the last letter that stands as a choice. A letter behind "not" is none.

    >>> choice("not (B); the answer is (Q)"), choice("A, C"), choice("(b)"), choice("Answer: CDF")
    ('Q', 'A,C', 'B', 'C,D,F')
    """
    text = _TEX.sub(r"\1", plain(text)).strip()
    for part in (_marked(text), text):
        if part is not None and (found := _selection(part.strip(" $\\"), whole=True)):
            return found
    text = _DENIED.sub("not that", text)
    for match in reversed(list(_DECLARED.finditer(text))):
        said = match["said"]
        word = said in ("A", "I") and _BEFORE_WORD.match(text, match.end()) and not _ends_in_verb(match[0], said)
        if not word and (found := _selection(said)):
            return found
    if match := _OPTION.fullmatch(text):
        return match[1].upper()
    lone = _LONE.findall(text)
    return _selection(lone[-1]) if lone else None


def _ends_in_verb(match: str, said: str) -> bool:
    """Whether a letter follows "is" or a colon, which make a choice of it before any word."""
    return bool(re.search(r"(?:\bis|:)\s*$", match.removesuffix(said)))


def _selection(text: str, whole: bool = False) -> str | None:
    """The letters of a choice or of a list of them."""
    if whole and not _WHOLE.fullmatch(text):
        return None
    letters = re.sub(r"\b(?:and|or)\b|[^A-Za-z]", "", text).upper()
    run = re.search(r"[A-Za-z]{2}", re.sub(r"\b(?:and|or)\b", "", text))
    if run and (list(letters) != sorted(set(letters)) or not text.strip("\"'`()[]{}.: ").isupper()):
        return None  # a word
    return ",".join(sorted(set(letters))) or None


# ---------------------------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------------------------


def words(text: str) -> str | None:
    """The whole text, but for case, white space, Markdown emphasis and backticks, forms of Unicode and a final full stop.

    >>> words("**New  York**."), words("Caf\u0065\u0301\u3002") == words("CAF\u00c9")
    ('new york', True)
    """
    text = " ".join(unicodedata.normalize("NFKC", text).translate(_UNSEEN).split())
    text = unemphasised(unicodedata.normalize("NFKC", text.casefold()))
    return shorten(text.rstrip(".\u3002\uff61 ").strip()) or None
