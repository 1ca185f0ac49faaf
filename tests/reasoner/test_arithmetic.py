import random
from itertools import islice

import pytest

from alloc_jax.reasoner import arithmetic
from alloc_jax.reasoner.arithmetic import DEFAULT_MIX, HARD_MIX


def questions(mix, count=300, seed=0):
    return list(islice(arithmetic.training_questions(random.Random(seed), mix), count))


def python_value(node):
    if isinstance(node, int):
        return node
    operator, left, right = node
    a, b = python_value(left), python_value(right)
    return eval(f"({a}){operator}({b})") % 100


@pytest.mark.parametrize("mix", [DEFAULT_MIX, HARD_MIX])
def test_answers_are_the_last_two_digits(mix):
    for question in questions(mix):
        assert question.answer == python_value(question.expression)
        # Reduction commutes with +, - and *: the last two digits of Python's own value are the same.
        assert question.answer == eval(question.text) % 100


def test_a_teacher_that_does_not_slip_ends_on_the_answer():
    for question in questions(DEFAULT_MIX):
        for mode in arithmetic.PROMPT:
            assert arithmetic.parse_answer(arithmetic.completion(question, mode)) == question.answer


def test_a_teacher_slips_as_often_as_told():
    asked = [q for q in questions(DEFAULT_MIX, 4000) if q.operations == 1 and "*" not in q.text]
    rng = random.Random(1)
    wrong = sum(
        arithmetic.parse_answer(arithmetic.completion(q, "think", rng, slip_sum=0.3)) != q.answer for q in asked
    )
    assert len(asked) > 500
    assert abs(wrong / len(asked) - 0.3) < 4 * (0.21 / len(asked)) ** 0.5


def test_training_and_held_out_questions_are_disjoint_by_text():
    held_out = {question.text for question in arithmetic.held_out_questions(500, seed=0)}
    assert len(held_out) == 500
    assert not held_out & {question.text for question in questions(DEFAULT_MIX, 5000)}


def test_the_same_seed_gives_the_same_questions():
    first, again, other = (arithmetic.held_out_questions(50, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_text_survives_the_alphabet():
    text = arithmetic.prompt("((8-2)-2)*6", "think") + "8-2=6#6."
    assert arithmetic.decode(arithmetic.encode(text)) == text


@pytest.mark.parametrize("text", ["", "#", "#.", "8-2=6#6", "#123.", "#1a.", "8-2=6."])
def test_what_marks_no_number_is_no_answer(text):
    assert arithmetic.parse_answer(text) is None


def test_difficulty_counts_what_was_drawn():
    for question in questions(DEFAULT_MIX, 50):
        facts = dict(zip(arithmetic.DIFFICULTY, arithmetic.difficulty(question), strict=True))
        assert facts["operations"] == facts["sums"] + facts["differences"] + facts["products"]
        assert facts["products"] == question.text.count("*")
        assert 1 <= facts["depth"] <= facts["operations"] == question.operations
