"""Small questions in natural language, each with one number as its answer, from templates.

A kind of question has several templates, so that a rule can be tried on wordings that it has not seen: the group of a
question is its kind and the number of its template.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

NAMES = [
    "Ann",
    "Ben",
    "Carl",
    "Dora",
    "Emma",
    "Fred",
    "Gina",
    "Hugo",
    "Ivy",
    "Jack",
    "Kim",
    "Leo",
    "Mary",
    "Nick",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Will",
]
THINGS = ["apples", "books", "coins", "eggs", "flowers", "marbles", "pencils", "shells", "stamps", "stickers"]
_TRIES = 1000  # at numbers that a template has not had
Numbers = tuple[dict[str, int | str], int]  # what stands in the text, and the answer
Draw = Callable[[random.Random], Numbers]


@dataclass(frozen=True)
class WordProblem:
    """A question, its answer, and where it comes from."""

    id: str  # kind/template/number
    text: str
    answer: int
    group: str  # kind/template


def word_problems(seed: int = 0) -> list[WordProblem]:
    """All questions, in the order in which they are asked: any first part of them is a fair sample.

    Args:
      seed: of the numbers, the names and the order.

    >>> [(q.group, q.text, q.answer) for q in word_problems()[:1]]
    [('two-digit sum/4', 'Add 17 to 32. What is the result?', 49)]
    """
    rng = random.Random(seed)
    drawn = []
    for kind, (draw, kept, templates) in _KINDS.items():
        for t, template in enumerate(templates):
            seen: set[tuple[int | str, ...]] = set()
            for _ in range(_TRIES):
                if len(seen) == _EACH:
                    break
                numbers, answer = draw(rng)
                n, o, p = rng.sample(NAMES, 3)
                text = template.format(n=n, o=o, p=p, t=rng.choice(THINGS), **numbers)
                if tuple(numbers.values()) in seen:
                    continue
                seen.add(tuple(numbers.values()))
                drawn.append((WordProblem(f"{kind}/{t}/{len(seen)}", text, answer, f"{kind}/{t}"), len(seen) <= kept))
    random.Random(seed).shuffle(drawn)
    return [question for question, is_kept in drawn if is_kept]


def _two(low: int, high: int, low_b: int, high_b: int, answer: Callable[[int, int], int]) -> Draw:
    def draw(rng: random.Random) -> Numbers:
        a, b = rng.randint(low, high), rng.randint(low_b, high_b)
        return {"a": a, "b": b}, answer(a, b)

    return draw


def _one(low: int, high: int, times: int) -> Draw:
    def draw(rng: random.Random) -> Numbers:
        a = rng.randint(low, high)
        return {"a": a}, times * a

    return draw


def _less(high: int, least: int, most: int) -> Draw:
    """What is taken away first, then what is left."""

    def draw(rng: random.Random) -> Numbers:
        b = rng.randint(2, high)
        left = rng.randint(least, most)
        return {"a": b + left, "b": b}, left

    return draw


def _among(low: int, high: int, names: str, choose: Callable[[list[int]], int]) -> Draw:
    def draw(rng: random.Random) -> Numbers:
        numbers = rng.sample(range(low, high), len(names))
        return dict(zip(names, numbers, strict=True)), choose(numbers)

    return draw


def _three(rng: random.Random) -> Numbers:
    numbers = [rng.randint(1, 9) for _ in range(3)]
    return dict(zip("abc", numbers, strict=True)), sum(numbers)


def _two_steps(rng: random.Random) -> Numbers:
    a, b = rng.randint(3, 12), rng.randint(2, 9)
    c = rng.randint(1, a + b - 1)
    return {"a": a, "b": b, "c": c}, a + b - c


def _shared(rng: random.Random) -> Numbers:
    b, each = rng.randint(2, 5), rng.randint(2, 9)
    return {"a": b * each, "b": b}, each


def _half(rng: random.Random) -> Numbers:
    half = rng.randint(2, 15)
    return {"a": 2 * half}, half


def _change(rng: random.Random) -> Numbers:
    b = rng.randint(1, 19)
    a = 20 if b >= 10 or rng.random() < 0.5 else 10
    return {"a": a, "b": b}, a - b


def _clock(rng: random.Random) -> Numbers:
    a = rng.randint(1, 8)
    b = rng.randint(1, 11 - a)
    return {"a": a, "b": b}, a + b


def _next(rng: random.Random) -> Numbers:
    a, step = rng.randint(1, 20), rng.choice([1, 2, 3, 5, 10])
    return {name: a + j * step for j, name in enumerate("abcd")}, a + 4 * step


def _spelled(rng: random.Random) -> Numbers:
    ten, one = rng.choice(list(_TENS)), rng.randint(1, 9)
    return {"w": f"{ten}-{_ONES[one - 1]}"}, _TENS[ten] + one


_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_EACH = 10  # questions of a template that are drawn
# How numbers are drawn, how many questions of each template are kept (what the model never gets right is rare), the templates.
_KINDS: dict[str, tuple[Draw, int, list[str]]] = {
    "one-digit sum": (
        _two(2, 9, 2, 9, lambda a, b: a + b),
        _EACH,
        [
            "What is {a} + {b}?",
            "Add {a} and {b}. What do you get?",
            "{n} has {a} {t} and finds {b} more. How many {t} does {n} have now?",
            "There are {a} red {t} and {b} blue {t} in a box. How many {t} are in the box?",
            "What is the sum of {a} and {b}?",
            "{n} reads {a} pages in the morning and {b} pages at night. How many pages does {n} read?",
        ],
    ),
    "two-digit sum": (
        _two(10, 40, 2, 20, lambda a, b: a + b),
        _EACH,
        [
            "What is {a} + {b}?",
            "What is {a} plus {b}?",
            "{n} has {a} {t}. {o} has {b} {t}. How many {t} do they have together?",
            "A train has {a} passengers and {b} more get on. How many passengers are on the train?",
            "Add {b} to {a}. What is the result?",
            "{n} had {a} {t} and bought {b} more. How many {t} does {n} have?",
        ],
    ),
    "difference": (
        _less(9, 1, 15),
        _EACH,
        [
            "What is {a} - {b}?",
            "Take {b} away from {a}. What is left?",
            "{n} has {a} {t} and gives away {b}. How many {t} are left?",
            "A shelf holds {a} {t}. {n} takes {b} of them. How many {t} remain?",
            "What is {a} minus {b}?",
            "{n} had {a} {t} and lost {b}. How many {t} does {n} have now?",
        ],
    ),
    "product": (
        _two(2, 9, 2, 9, lambda a, b: a * b),
        _EACH,
        [
            "What is {a} times {b}?",
            "What is {a} x {b}?",
            "There are {a} bags with {b} {t} in each. How many {t} are there?",
            "{n} buys {a} boxes of {b} {t}. How many {t} does {n} buy?",
        ],
    ),
    "three numbers": (
        _three,
        4,
        [
            "What is {a} + {b} + {c}?",
            "{n} has {a} {t}, {o} has {b} and {p} has {c}. How many {t} do they have in all?",
            "{n} walks {a} miles on Monday, {b} miles on Tuesday and {c} miles on Wednesday. How many miles is that?",
        ],
    ),
    "two steps": (
        _two_steps,
        4,
        [
            "{n} has {a} {t}, gets {b} more and then gives away {c}. How many {t} does {n} have?",
            "A bus has {a} passengers. {b} get on and {c} get off. How many passengers are on the bus?",
            "What is {a} + {b} - {c}?",
        ],
    ),
    "sharing": (
        _shared,
        _EACH,
        [
            "{n} shares {a} {t} equally among {b} friends. How many {t} does each friend get?",
            "What is {a} divided by {b}?",
            "{a} {t} are put into {b} equal groups. How many {t} are in each group?",
        ],
    ),
    "half and double": (
        _half,
        _EACH,
        ["What is half of {a}?", "{n} has {a} {t} and gives half of them to {o}. How many {t} does {n} keep?"],
    ),
    "double": (
        _one(2, 20, 2),
        _EACH,
        [
            "What is twice {a}?",
            "{n} has {a} {t}. {o} has twice as many. How many {t} does {o} have?",
            "What is double {a}?",
        ],
    ),
    "weeks": (
        _one(2, 9, 7),
        _EACH,
        [
            "How many days are in {a} weeks?",
            "{n} is on holiday for {a} weeks. How many days is that?",
            "A trip takes {a} weeks. How many days does the trip take?",
        ],
    ),
    "dozens": (
        _one(2, 6, 12),
        3,
        ["How many eggs are in {a} dozen eggs?", "{n} buys {a} dozen {t}. How many {t} is that?"],
    ),
    "legs": (
        _two(1, 6, 1, 6, lambda a, b: 4 * a + 2 * b),
        3,
        [
            "How many legs do {a} dogs and {b} birds have in all?",
            "A farm has {a} cows and {b} hens. How many legs do the animals have?",
        ],
    ),
    "dog legs": (
        _one(2, 9, 4),
        _EACH,
        [
            "How many legs do {a} dogs have?",
            "How many wheels do {a} cars have?",
            "There are {a} horses in a field. How many legs do they have?",
        ],
    ),
    "metres": (
        _one(2, 9, 100),
        3,
        ["How many centimeters are in {a} meters?", "A rope is {a} meters long. How many centimeters is that?"],
    ),
    "larger": (
        _among(10, 100, "ab", max),
        _EACH,
        [
            "Which number is larger, {a} or {b}?",
            "{n} has {a} {t} and {o} has {b}. What is the larger number of {t}?",
            "What is the bigger number: {a} or {b}?",
        ],
    ),
    "smallest": (
        _among(2, 60, "abc", min),
        2,
        [
            "What is the smallest of the numbers {a}, {b} and {c}?",
            "{n} is {a} years old, {o} is {b} and {p} is {c}. How old is the youngest?",
            "Which is the least: {a}, {b} or {c}?",
        ],
    ),
    "age": (
        _two(4, 40, 2, 10, lambda a, b: a + b),
        _EACH,
        [
            "{n} is {a} years old. How old will {n} be in {b} years?",
            "{n} is {a}. {o} is {b} years older. How old is {o}?",
        ],
    ),
    "younger": (
        _less(9, 3, 20),
        _EACH,
        [
            "{n} is {a} years old. How old was {n} {b} years ago?",
            "{n} is {a}. {o} is {b} years younger. How old is {o}?",
        ],
    ),
    "change": (
        _change,
        _EACH,
        [
            "{n} pays {a} dollars for a toy that costs {b} dollars. How many dollars does {n} get back?",
            "A book costs {b} dollars. {n} has {a} dollars. How many dollars are left after buying the book?",
        ],
    ),
    "clock": (
        _clock,
        _EACH,
        [
            "It is {a} o'clock now. What hour will it be in {b} hours?",
            "A party starts at {a} o'clock and lasts {b} hours. At what hour does it end?",
        ],
    ),
    "next number": (
        _next,
        _EACH,
        [
            "What number comes next: {a}, {b}, {c}, {d}?",
            "Continue the pattern: {a}, {b}, {c}, {d}. What is the next number?",
        ],
    ),
    "nickels": (
        _two(1, 6, 1, 8, lambda a, b: 5 * a + b),
        4,
        ["{n} has {a} nickels and {b} pennies. How many cents is that?"],
    ),
    "three times": (
        _one(2, 15, 3),
        _EACH,
        [
            "What is three times {a}?",
            "{n} has {a} {t}. {o} has three times as many. How many {t} does {o} have?",
            "Multiply {a} by 3.",
        ],
    ),
    "rows": (
        _two(2, 9, 2, 9, lambda a, b: a * b),
        _EACH,
        [
            "A rectangle is {a} meters long and {b} meters wide. What is its area in square meters?",
            "A room has {a} rows of {b} chairs. How many chairs are in the room?",
            "What is the product of {a} and {b}?",
        ],
    ),
    "tens": (
        _one(2, 30, 10),
        _EACH,
        [
            "What is 10 times {a}?",
            "A box holds 10 {t}. How many {t} do {a} boxes hold?",
            "{n} has {a} coins of 10 cents. How many cents is that?",
        ],
    ),
    "nothing": (
        _one(3, 60, 1),
        6,
        [
            "What is {a} + 0?",
            "What is {a} times 1?",
            "{n} has {a} {t} and {o} has none. How many {t} do they have together?",
        ],
    ),
    "spelled": (
        _spelled,
        6,
        [
            "Which number is spelled {w}?",
            "Write {w} as a number.",
            "{n} counted {w} {t}. Write that number in digits.",
        ],
    ),
}
