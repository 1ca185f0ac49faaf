"""The questions of the built-in reasoner: multi-step arithmetic on the last two digits, written as text.

A question is a fully parenthesised expression such as `((8-2)-2)*6`; every operation keeps the last two digits of its
result (3-80 is 23). The reasoner is asked in one of two modes: `think` writes every intermediate equation before the
marked answer, `direct` writes the answer alone.

    think   T((8-2)-2)*6=   ->  8-2=6,6-2=4,4*6=24#24.
    direct  D((8-2)-2)*6=   ->  #24.

Held-out questions are told from training questions by a hash of their text (`is_held_out`), so the two sets are
disjoint by construction, whatever was drawn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

MODULUS = 100
ALPHABET = "\0" + "0123456789+-*()=,#.TD"  # code 0 is padding
PAD = 0
END = ALPHABET.index(".")
PROMPT = {"think": "T", "direct": "D"}

Expression = int | tuple[str, "Expression", "Expression"]


@dataclass(frozen=True, kw_only=True)
class ExerciseMix:
    """What is asked: the weights of 1 to 6 operations, and the chances two further draws choose from."""

    operations: tuple[float, ...]  # weights of 1, 2, ... operations
    two_digits: tuple[float, ...]  # chance that an operand has two digits: one of these a question
    products: tuple[float, ...]  # chance that an operation is `*`: one of these a question


HARD_MIX = ExerciseMix(operations=(1, 1.5, 1.5, 1.5, 1.5, 1.5), two_digits=(0.0, 0.3, 0.7), products=(0.1, 0.3, 0.6))
DEFAULT_MIX = ExerciseMix(operations=(3, 3, 2, 1.5, 1, 1), two_digits=(0.0, 0.3, 0.6), products=(0.0, 0.2, 0.5))


@dataclass(frozen=True)
class Exercise:
    """An expression with the variables it was drawn from."""

    expression: Expression
    two_digits: float
    products: float

    @property
    def text(self) -> str:
        return _write(self.expression, outermost=True)

    @property
    def operations(self) -> int:
        return sum(1 for _ in _operations(self.expression))

    @property
    def answer(self) -> int:
        return result_of(self.expression)


def draw_question(rng: random.Random, mix: ExerciseMix, operations: int | None = None) -> Exercise:
    """A question of a mix, with the given number of operations or a drawn one."""
    if operations is None:
        operations = rng.choices(range(1, len(mix.operations) + 1), mix.operations)[0]
    two_digits, products = rng.choice(mix.two_digits), rng.choice(mix.products)

    def operand(chance: float) -> int:
        return rng.randint(10, 99) if rng.random() < chance else rng.randint(2, 9)

    def draw(n: int, chance: float) -> Expression:
        if n == 0:
            return operand(chance)
        operator = "*" if rng.random() < products else rng.choice("+-")
        left = n - 1 if rng.random() < 0.6 else rng.randint(0, n - 1)
        # Most products keep a one-digit right factor: two two-digit factors are beyond these models.
        right_chance = two_digits * 0.35 if operator == "*" else two_digits
        return operator, draw(left, two_digits), draw(n - 1 - left, right_chance)

    return Exercise(draw(operations, two_digits), two_digits, products)


def is_held_out(text: str) -> bool:
    """Whether a question belongs to the held-out quarter of all texts, which training never sees."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 4 == 0


def held_out_questions(count: int, seed: int, mix: ExerciseMix = DEFAULT_MIX) -> list[Exercise]:
    """Distinct held-out questions of a mix; the same seed gives the same list."""
    rng = random.Random(f"held-out {seed}")
    weights = range(1, len(mix.operations) + 1)
    found: dict[str, Exercise] = {}
    while len(found) < count:
        # The number of operations is drawn first and kept, so that it follows the mix although short texts run out.
        operations = rng.choices(weights, mix.operations)[0]
        question = draw_question(rng, mix, operations)
        while question.text in found or not is_held_out(question.text):
            question = draw_question(rng, mix, operations)
        found[question.text] = question
    return list(found.values())


def training_questions(rng: random.Random, mix: ExerciseMix) -> Iterator[Exercise]:
    """An endless stream of questions that are not held out."""
    while True:
        question = draw_question(rng, mix)
        if not is_held_out(question.text):
            yield question


def result_of(expression: Expression) -> int:
    """The exact answer: every operation keeps the last two digits.

    >>> result_of(("-", 3, 80))
    23
    """
    if isinstance(expression, int):
        return expression
    operator, left, right = expression
    return _apply(operator, result_of(left), result_of(right))


def completion(
    question: Exercise, mode: str, rng: random.Random | None = None, slip_sum: float = 0.0, slip_product: float = 0.0
) -> str:
    """What a teacher writes after the prompt.

    A teacher that slips gets one digit of a step's result wrong now and then, and goes on from the wrong value. A model
    trained on it errs at random instead of always in the same place, which is what makes voting pay.

    Args:
      question: what is asked.
      mode: `think` or `direct`; a direct answer is always exact.
      rng: needed where the teacher may slip.
      slip_sum: chance of a slip in a sum or difference.
      slip_product: chance of a slip in a product.
    """
    if mode == "direct":
        return f"#{question.answer}."
    steps: list[str] = []

    def solve(expression: Expression) -> int:
        if isinstance(expression, int):
            return expression
        operator, left, right = expression
        a, b = solve(left), solve(right)
        value = _apply(operator, a, b)
        chance = slip_product if operator == "*" else slip_sum
        if chance and rng.random() < chance:
            place = rng.choice((1, 10))
            digit = value // place % 10
            value += place * (rng.choice([d for d in range(10) if d != digit]) - digit)
        steps.append(f"{a}{operator}{b}={value}")
        return value

    value = solve(question.expression)
    return ",".join(steps) + f"#{value}."


def prompt(text: str, mode: str) -> str:
    """What the model reads before it writes.

    >>> prompt("(8-2)*6", "think")
    'T(8-2)*6='
    """
    return f"{PROMPT[mode]}{text}="


def encode(text: str) -> list[int]:
    """The codes of a text, one a character."""
    return [ALPHABET.index(character) for character in text]


def decode(codes) -> str:
    """The text of codes, up to and without the padding."""
    return "".join(ALPHABET[code] for code in codes if code != PAD)


def parse_answer(text: str) -> int | None:
    """The number after the last `#`, or None where a completion did not end or marks no number.

    >>> parse_answer("8-2=6#6."), parse_answer("8-2=6,6-")
    (6, None)
    """
    _head, mark, answer = text.rpartition("#")
    if not (mark and answer.endswith(".") and answer[:-1].isdigit() and len(answer) <= 3):
        return None
    return int(answer[:-1])


DIFFICULTY = (
    "operations",
    "sums",
    "differences",
    "products",
    "two_digits",
    "depth",
    "chance_two_digits",
    "chance_product",
)


def difficulty(question: Exercise) -> tuple[float, ...]:
    """The variables the generator made a question from, in the order of `DIFFICULTY`: the ceiling for what text can tell."""
    operators = [node[0] for node in _operations(question.expression)]
    leaves = list(_leaves(question.expression))
    return (
        len(operators),
        operators.count("+"),
        operators.count("-"),
        operators.count("*"),
        sum(leaf >= 10 for leaf in leaves),
        _depth(question.expression),
        question.two_digits,
        question.products,
    )


def _apply(operator: str, a: int, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[operator] % MODULUS


def _operations(expression: Expression) -> Iterator[tuple]:
    if not isinstance(expression, int):
        yield expression
        yield from _operations(expression[1])
        yield from _operations(expression[2])


def _leaves(expression: Expression) -> Iterator[int]:
    if isinstance(expression, int):
        yield expression
    else:
        yield from _leaves(expression[1])
        yield from _leaves(expression[2])


def _depth(expression: Expression) -> int:
    return 0 if isinstance(expression, int) else 1 + max(_depth(expression[1]), _depth(expression[2]))


def _write(expression: Expression, outermost: bool = False) -> str:
    if isinstance(expression, int):
        return str(expression)
    operator, left, right = expression
    text = f"{_write(left)}{operator}{_write(right)}"
    return text if outermost else f"({text})"
