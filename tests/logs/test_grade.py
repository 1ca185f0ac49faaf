"""Grading: what is right, which answers are the same, and failures that are counted and cost no more than their limit."""

import importlib.util
import subprocess
import sys
import time

import pytest

from alloc_jax.logs import Grade, Grader, grade, read_logs
from alloc_jax.logs.read import notes_of
from tests.logs import foreign_logs as logs

math_verify = pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed")
ENDLESS = r"$\boxed{9^{9^{9^{9}}}}$"  # the comparison takes longer than anybody waits


@pytest.mark.parametrize(
    "method, response, gold, expected",
    [
        ("number", "so 3 + 4 = 7", "7", ("7", True)),
        ("number", "It costs $1,250.00.", "#### 1250", ("1250", True)),
        ("number", "x = -0.5", "-1/2", ("-1/2", True)),
        ("number", "\u22123", "-3", ("-3", True)),
        ("number", "0.1", "1/10", ("1/10", True)),
        ("number", "about 7 or 8", "7", ("8", False)),
        ("number", "no idea", "7", (None, False)),
        ("choice", "The answer is (B).", "B", ("B", True)),
        ("choice", "A is tempting, but C", "A", ("C", False)),
        ("choice", "I think it's Dublin", "D", (None, False)),
        ("choice", "B. I am sure", "B", ("B", True)),
        ("choice", "The answer is A because B is a trap, so A", "A", ("A", True)),
        ("choice", "the answer is A because of a rule", "A", ("A", True)),
        ("choice", "Answer: I", "I", ("I", True)),
        ("text", "  New\tYork. ", "new york", ("new york", True)),
        ("text", " ", "x", (None, False)),
    ],
)
def test_comparisons_read_the_answer_as_people_write_it(method, response, gold, expected):
    assert grade([response], [gold], method)[0][:2] == expected


def test_a_reference_answer_that_says_nothing_is_a_failure_and_no_wrong_answer():
    assert grade(["7", "8"], ["none", "8"], "number") == [Grade(None, False, "gold"), Grade("8", True)]


def test_unknown_methods_limits_and_lengths_are_refused():
    with pytest.raises(ValueError, match="unknown grader 'exact'; known: math, number, choice, text"):
        grade(["1"], ["1"], "exact")
    with pytest.raises(ValueError, match="timeout_s is 0; a limit is positive"):
        grade(["1"], ["1"], "number", timeout_s=0)
    with pytest.raises(ValueError):
        grade(["1", "2"], ["1"], "number")


@pytest.fixture(scope="module")
def grader():
    """Two processes with a limit that only what is endless reaches; they outlive the responses that kill them."""
    with Grader("math", timeout_s=4.0, workers=2) as grader:
        yield grader


@math_verify
@pytest.mark.parametrize(
    "response, gold, answer",
    [
        (r"The answer is $\frac{1}{2}$.", "0.5", "1/2"),
        (r"so \boxed{0.5}", r"\frac12", "1/2"),
        ("9", "9", "9"),
        ("x = 9", "9", "9"),
        (r"\boxed{(x+1)^2}", "x^2+2x+1", "x**2 + 2*x + 1"),
        (r"\boxed{\{2, 1\}}", r"\{1, 2\}", "{1,2}"),
        ("He has 4 - 1 = $3$ left.", "4 - 1 = 3\n#### 3", "3"),
    ],
)
def test_equal_mathematics_is_right_and_one_answer(grader, response, gold, answer):
    assert grader.grade([response], [gold]) == [Grade(answer, True)]


@math_verify
def test_what_says_the_same_has_one_key_whatever_came_first(grader):
    same = [r"\boxed{\frac{2}{4}}", r"$0.5$", r"\boxed{1/2}", r"the result is $\frac12$"]
    forwards = grader.grade(same, ["1"] * 4)
    assert {said.answer for said in forwards} == {"1/2"} and not any(said.correct for said in forwards)
    assert grader.grade(same[::-1], ["1"] * 4) == forwards[::-1]


@math_verify
def test_verify_is_not_symmetric_and_keys_do_not_follow_it(grader):
    one, other = grader.grade(["$1<x<2$", "$(1,2)$"], ["$(1,2)$", "$1<x<2$"])
    assert one.correct != other.correct and one.answer != other.answer


@math_verify
def test_a_response_without_an_answer_is_wrong_and_no_failure(grader):
    assert grader.grade(["I cannot say", ""], ["4", "4"]) == [Grade(None, False)] * 2


@math_verify
def test_a_hung_process_is_killed_at_its_limit_and_the_others_go_on(grader):
    easy = [rf"\boxed{{{j}}}" for j in range(20)]
    start = time.monotonic()
    said = grader.grade([ENDLESS, *easy], ["3"] * 21)
    assert time.monotonic() - start < 30
    assert said[0] == Grade(None, False, "timeout")
    assert [one.answer for one in said[1:]] == [str(j) for j in range(20)]
    assert grader.grade([r"\boxed{3}"], ["3"]) == [Grade("3", True)]  # the killed process has a successor


@math_verify
def test_a_process_that_dies_is_a_crash_of_one_response(grader):
    worker = grader.pool.idle.get() or grader.pool.idle.get()
    worker.process.kill()
    worker.process.wait()
    grader.pool.idle.put(worker)
    said = grader.grade([rf"\boxed{{{j}}}" for j in range(8)], ["3"] * 8)
    assert [one.failure for one in said].count("crash") == 1
    assert sum(one.answer is not None for one in said) == 7


@math_verify
def test_no_process_is_left_behind():
    with Grader("math", workers=2) as grader:
        grader.grade(["1", "2", "3"], ["1", "1", "1"])
        workers = [grader.pool.idle.get() for _ in range(2)]
        for worker in workers:
            grader.pool.idle.put(worker)
    assert all(worker.process.poll() is not None for worker in workers if worker)


@math_verify
def test_equal_pairs_are_graded_once(grader, monkeypatch):
    asked = []
    monkeypatch.setattr(grader, "pool", type("Pool", (), {"grade": lambda self, pairs: asked.extend(pairs) or pairs})())
    assert grader.grade(["1", "2", "1"], ["1", "1", "1"]) == [("1", "1"), ("2", "1"), ("1", "1")]
    assert asked == [("1", "1"), ("2", "1")]


@math_verify
def test_a_failure_is_a_sample_without_an_answer_counted_and_shown(tmp_path):
    path = logs.batch(tmp_path)
    text = path.read_text().replace("It is 4.", ENDLESS.replace("\\", "\\\\"))
    path.write_text(text)
    reading = read_logs(path, **{**logs.WRITERS["batch"][1], "grader": "math", "timeout_s": 3.0})
    assert reading.failures == {"timeout": 1} and reading.log.count.tolist() == [[3], [3]]
    assert not reading.log.correct[0, 0, 0] and reading.log.answer[0, 0, 0] == -1
    assert "1 responses could not be graded: 1 timeout; each is a sample without an answer" in notes_of(reading)


def test_without_the_package_the_error_names_the_extra(tmp_path):
    """In a process whose children cannot import math-verify: a folder that hides it comes first on their path."""
    (tmp_path / "math_verify.py").write_text("raise ImportError('hidden')")
    script = "from alloc_jax.logs import grade; grade(['1'], ['1'], 'math')"
    said = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert said.returncode and "pip install 'alloc_jax[grade]'" in said.stderr.splitlines()[-1]
