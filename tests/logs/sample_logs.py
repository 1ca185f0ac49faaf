"""Logs for the tests of this folder, and slow references that follow the definitions word by word."""

import itertools
import math
from fractions import Fraction

import numpy as np

from alloc_jax.types import SampleLog, Source

SOURCES = (Source("small", parameters=10.0), Source("large", parameters=100.0))


def make_log(questions=6, samples=4, sources=SOURCES, answers=4, seed=0, **changes) -> SampleLog:
    """A log with random answers, of which answer 0 is right."""
    rng = np.random.default_rng(seed)
    shape = (questions, len(sources), samples)
    answer = rng.integers(-1, answers, shape).astype(np.int32)
    parts = dict(
        ids=tuple(f"q{i}" for i in range(questions)),
        question=tuple(f"text of {i}" for i in range(questions)),
        gold=("0",) * questions,
        group=tuple("ab"[i % 2] for i in range(questions)),
        sources=tuple(sources),
        answers=(tuple(map(str, range(answers))),) * questions,
        count=np.full(shape[:2], samples, np.int32),
        answer=answer,
        correct=answer == 0,
        prompt_tokens=np.full(shape, 3, np.float32),
        completion_tokens=rng.integers(1, 9, shape).astype(np.float32),
    )
    return SampleLog(**{**parts, **changes})


def vote_of(answers, worth) -> Fraction:
    """What one vote earns: the mean worth of the most frequent answers; -1 is no answer."""
    given = [a for a in answers if a >= 0]
    if not given:
        return Fraction(0)
    top = max(given.count(a) for a in given)
    winners = [a for a in set(given) if given.count(a) == top]
    return sum((worth[a] for a in winners), Fraction(0)) / len(winners)


def worth_of(answers, correct) -> dict[int, Fraction]:
    """The share of right samples of every answer."""
    right = [a for a, c in zip(answers, correct, strict=True) if c]
    return {a: Fraction(right.count(a), answers.count(a)) for a in answers}


def enumerated_vote(answers, correct, k, worth=None) -> Fraction:
    """The mean over all k-subsets."""
    answers = list(answers)
    worth = worth_of(answers, correct) if worth is None else worth
    votes = [vote_of(subset, worth) for subset in itertools.combinations(answers, k)]
    return sum(votes, Fraction(0)) / len(votes)


def counted_vote(target, others, silent, k) -> Fraction:
    """The chance that an answer with `target` samples wins against `others`, in integers and without quadrature."""
    total = Fraction(0)
    for m in range(1, min(k, target) + 1):
        ways = {(0, 0): 1}  # (drawn, tied) -> number of ways
        for c in others:
            longer = {}
            for (drawn, tied), number in ways.items():
                for v in range(min(c, m, k - m - drawn) + 1):
                    key = (drawn + v, tied + (v == m))
                    longer[key] = longer.get(key, 0) + number * math.comb(c, v)
            ways = longer
        for (drawn, tied), number in ways.items():
            total += Fraction(math.comb(target, m) * number * math.comb(silent, k - m - drawn), tied + 1)
    return total / math.comb(target + sum(others) + silent, k)
