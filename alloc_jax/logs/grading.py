"""Grading the responses of records on their way from a reader to the `LogBuilder`, and uniting answers that say the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from alloc_jax.logs.formats.reader import shown
from alloc_jax.logs.grade import Grader

Located = tuple[str, dict[str, Any]]  # where a record stands, and the record

_NUMBER = re.compile(r"[-+$€£]*\d[\d,_]*(\.\d+)?([eE][-+]?\d+)?(/\d+)?%?\.?")  # all of a reference answer
_LETTER = re.compile(r"\(?[A-Z]\)?\.?")
_GRADED = 2048  # responses that are graded at a time, in whole records


class Grading:
    """What a grader makes of the records of one log.

    Args:
      grader: open until the records are through.
    """

    def __init__(self, grader: Grader):
        self.grader = grader
        self.failures: Counter[str] = Counter()  # responses that could not be graded, by what went wrong
        self.answers: dict[str, tuple[Counter[str], Counter[str]]] = {}  # of each question: right keys, wrong keys

    def graded(self, records: Iterable[Located], bad: Callable[[str, ValueError], None]) -> Iterator[Located]:
        """The records with `response` replaced by `answer` and `correct`, a limited number at a time.

        A response that cannot be graded is a sample without a usable answer: wrong, and counted. A reference answer that
        cannot be read makes a bad record, which `bad` is called with: where it stands, and why.
        """
        for part in _parts(records):
            asked = [(text, r["gold"]) for _, r in part for text in _responses(r)]
            grades = iter(self.grader.grade(*zip(*asked, strict=True)) if asked else ())
            for where, record in part:
                responses = _responses(record)
                if not responses:
                    yield where, record
                    continue
                given = list(islice(grades, len(responses)))
                failures = [g.failure for g in given if g.failure]
                if "gold" in failures:
                    subject = (
                        f"question {record.get('id')!r}: gold: the grader {self.grader.method!r} reads no answer in"
                    )
                    bad(where, ValueError(f"{subject} {str(record['gold'])[:60]!r}"))
                    continue
                self.failures.update(failures)
                samples = {name: values for name, values in record["samples"].items() if name != "response"}
                samples |= {"answer": [g.answer for g in given], "correct": [g.correct for g in given]}
                if self.grader.pool:  # what the others call equal has one key
                    right, wrong = self.answers.setdefault(str(record.get("id")), (Counter(), Counter()))
                    right.update([said.answer for said in given if said.correct])
                    wrong.update([said.answer for said in given if said.answer is not None and not said.correct])
                yield where, {**record, "gold": shown(record["gold"]), "samples": samples}

    def united(self) -> dict[str, dict[str, str]]:
        """By question, the keys that are another name of an answer, and which answer that is.

        Of the right answers of a question and of its wrong ones, those that the grader calls equal become one.
        """
        found = {}
        for identity, (right, wrong) in self.answers.items():
            both = right.keys() & wrong.keys()  # keys that were right in one wording alone are left as they are
            groups = ([key for key, _ in group.most_common() if key not in both] for group in (right, wrong))
            if same := self.grader.same(*groups):
                found[identity] = same
        return found


def fitting_grader(golds: Iterable[str | tuple[str, ...]]) -> tuple[str, str]:
    """The grader that reference answers ask for, and why.

    >>> fitting_grader(["7 * 6 = 42\\n#### 42", "1,250"])
    ('number', 'every reference answer is a number')
    """
    texts = [text for gold in golds for text in ((gold,) if isinstance(gold, str) else gold)]
    ends = [text.rpartition("####")[2].strip() for text in texts]
    if all(map(_NUMBER.fullmatch, ends)):
        return "number", "every reference answer is a number"
    if all(map(_LETTER.fullmatch, ends)):
        return "choice", "every reference answer is a letter"
    if any("\\" in end or "$" in end for end in ends):
        return "math", "reference answers hold formulas"
    return "text", "reference answers are words"


def check_responses(record: Mapping[str, Any]) -> None:
    """Refuse columns that do not fit the responses, before these are graded.

    Raises:
      ValueError: their lengths differ.
    """
    responses = _responses(record)
    if responses:
        for name, values in record["samples"].items():
            if len(values) != len(responses):
                raise ValueError(
                    f"question {record.get('id')!r}: {name}: {len(values)} values for {len(responses)} responses"
                )


def _responses(record: Mapping[str, Any]) -> list[str]:
    samples = record.get("samples")
    return samples.get("response", []) if isinstance(samples, dict) else []


def _parts(records: Iterable[Located]) -> Iterator[list[Located]]:
    """The records in lists of about as many responses as are graded at a time."""
    part, size = [], 0
    for located in records:
        part.append(located)
        size += max(len(_responses(located[1])), 1)
        if size >= _GRADED:
            yield part
            part, size = [], 0
    yield part
