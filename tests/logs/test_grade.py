"""Grading: what is right, which answers are the same, and failures that are counted and cost no more than their limit."""

import importlib.util
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from alloc_jax.logs import Grade, Grader, LogError, grade, read_log, read_logs
from alloc_jax.logs.grade import METHODS
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


CORPUS = [
    json.loads(line) for line in Path(__file__).with_name("answers.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("method", METHODS)
def test_the_corpus_is_graded_as_people_grade_it_and_nothing_of_it_fails(method):
    if method == "math" and importlib.util.find_spec("math_verify") is None:
        pytest.skip("math-verify is not installed")
    cases = [case for case in CORPUS if case["grader"] == method]
    said = grade([case["response"] for case in cases], [case["gold"] for case in cases], method)
    assert [case for case, got in zip(cases, said, strict=True) if got.correct != case["correct"] or got.failure] == []


@pytest.mark.parametrize("method", ["number", pytest.param("math", marks=math_verify)])
def test_no_number_is_too_long(method):
    long, other = "7" * 5000, "7" * 4999 + "8"
    said = grade([long, f"so it is {long}.", other, f"{long}/3", f"1e{'9' * 8}"], [long] * 5, method)
    assert [got.correct for got in said] == [True, True, False, False, False] and not any(got.failure for got in said)
    assert len(said[0].answer) < 300 and said[0].answer == said[1].answer


PIECES = [*"0123456789.,:/-+e%$ABKZai()[]{}'\"*_ \n", "####", "</think>", "is ", "answer", "A, ", " and ", "10^{-5}"]
PIECES += ["\\boxed{", "\\frac", "\\$", "\\times", "May 5, 2024", "9:30 pm", "7e-05"]
PIECES += ["\u00a0", "\u4e00", "\ud800", "\u0663", "\u00bd", "\uff11"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14).map("".join)


@pytest.mark.parametrize("method", ["number", "choice", "text"])
@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
@example(text="*\x1b*0**")  # emphasis within emphasis
@example(text="*0\n0*")
def test_any_text_has_a_key_or_none_and_its_key_has_that_key(method, text):
    key = METHODS[method](text)
    assert key is None or (isinstance(key, str) and key)
    if key is not None and len(key) < 200:
        assert METHODS[method](key) == key


@math_verify
@pytest.mark.long
@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(response=TEXTS, gold=TEXTS)
def test_any_text_is_graded_as_mathematics_without_an_exception(grader, response, gold):
    (said,) = grader.grade([response], [gold])
    assert said.failure in (None, "gold", "timeout", "memory") and not (said.failure and said.correct)


@pytest.mark.parametrize(
    "piece", ["`", "'", '"', "(", "A)", "A,", "choice ", "answer A dog ", "answer ((", "K.", "**A", "A ", "not "]
)
def test_a_long_text_takes_little_time(piece):
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    METHODS["choice"](text), METHODS["choice"]("A" + text + "x")
    assert time.process_time() - start < 1


def test_several_accepted_answers_are_each_right():
    said = grade(["Amsterdam", "a'dam", "Utrecht"], [("Amsterdam", "A'dam")] * 3, "text")
    assert [got.correct for got in said] == [True, True, False]


@pytest.mark.parametrize("method", ["number", "text", pytest.param("math", marks=math_verify)])
def test_what_is_no_text_is_no_answer_and_no_exception(method):
    said = grade([None, 4, "4", "4"], ["4", 4, None, ()], method)
    assert [got[:2] for got in said[:2]] == [(None, False), ("4", True)]
    assert [got.failure for got in said] == [None, None, "gold", "gold"]


def long_table(folder, gold, responses):
    rows = [["q", "m", text, gold] for text in responses]
    logs.dump_csv(folder / "log.csv", ["question", "source", "response", "gold"], rows)
    return folder / "log.csv"


@math_verify
def test_votes_count_what_is_equal(tmp_path):
    log = read_log(long_table(tmp_path, "50\\%", ["50\\%", "50", "\\boxed{50}", "60\\%", "60", "7"]), grader="math")
    assert log.correct[0, 0].tolist() == [True] * 3 + [False] * 3
    codes = log.answer[0, 0].tolist()
    assert len(set(codes[:3])) == 1 and codes[3] == codes[4] and len(set(codes)) == 3 == len(log.answers[0])


@math_verify
def test_keys_of_one_question_are_shared_by_what_is_equal_and_comparisons_are_bounded(grader, monkeypatch):
    keys = grader.keys(["50\\%", "50", "$7$", "no answer", "7.0"])
    assert keys[0] == keys[1] and keys[2] == keys[4] != keys[0] and keys[3] is None
    asked = []
    monkeypatch.setattr(grader.pool, "_are_equal", lambda *pair: asked.append(pair))
    assert grader.same([f"x**{j} + y" for j in range(2, 60)]) == {} and asked == []  # nothing that it has graded
    grader.grade([f"$x^{{{j}}} + y$" for j in range(2, 60)], ["1"] * 58)
    grader.same([f"x**{j} + y" for j in range(2, 60)])
    assert 0 < len(asked) <= 64


def test_a_reference_answer_that_cannot_be_read_makes_a_bad_record(tmp_path):
    path = long_table(tmp_path, "none", ["4"])
    with pytest.raises(
        LogError, match=r"line 2: question 'log/0': gold: the grader 'number' reads no answer in 'none'"
    ):
        read_log(path, grader="number")


def test_the_extra_that_grades_asks_no_package_for_an_extra_that_it_lacks():
    """pip warns of such a one, and leaves out what it stands for."""
    text = Path(__file__).parents[2].joinpath("setup.py").read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith('"grade":'))
    assert "[" not in line.split(":", 1)[1].strip(" ,").strip("[]")
    if importlib.util.find_spec("math_verify"):
        assert metadata.version("antlr4-python3-runtime") == "4.13.2" and '"antlr4-python3-runtime==4.13.2"' in line


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
    monkeypatch.setattr(
        grader,
        "pool",
        type(
            "Pool", (), {"grade": lambda self, pairs: asked.extend(pairs) or [Grade(said, False) for said, _ in pairs]}
        )(),
    )
    assert grader.grade(["1", "2", "1"], ["1", "1", "1"]) == [Grade("1", False), Grade("2", False), Grade("1", False)]
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
