"""Sample logs as JSON lines: what is written is read back, and what is broken is refused by file, line and field."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from alloc_jax.logs import LogError, read_log, write_log
from alloc_jax.types import SAMPLE_FIELDS, Source
from tests.logs.sample_logs import make_log

SAMPLE = {"answer": "4", "correct": True, "prompt_tokens": 5, "completion_tokens": 12}
LINE = {"id": "q1", "question": "2 + 2", "gold": "4", "group": "sum", "source": "large", "samples": [SAMPLE]}


def dump(path, *records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def with_sample(**changes):
    return {**LINE, "samples": [{**SAMPLE, **changes}]}


def without(name):
    return {key: value for key, value in LINE.items() if key != name}


def assert_same_log(a, b):
    for name in ("ids", "question", "gold", "group", "sources", "compute_unit"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("count", "correct", *SAMPLE_FIELDS):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert said(a) == said(b)


def said(log):
    """The answers as text: codes may be numbered in another order."""
    return [[[log.answers[i][c] if c >= 0 else None for c in row] for row in rows] for i, rows in enumerate(log.answer)]


def test_a_written_log_is_read_back(tmp_path):
    latency = np.random.default_rng(0).random((6, 2, 4)).astype(np.float32)
    latency[0, 0, 1] = np.nan
    sources = (Source("small"), Source("large", 1.5e6, {"model": "m"}))
    log = make_log(latency_s=latency, sources=sources, gold=(None,) * 6, question=("é\n\u2028\U0001f600",) * 6)
    write_log(log, tmp_path / "log.jsonl")
    assert_same_log(read_log(tmp_path / "log.jsonl"), log)


def test_ragged_and_absent_pairs_are_read_back(tmp_path):
    count = np.array([[4, 1], [0, 2], [3, 0], [4, 4], [1, 1], [2, 3]], np.int32)
    full = make_log()
    real = np.arange(4) < count[..., None]
    nan = np.where(real, 1, np.nan).astype(np.float32)
    log = make_log(
        count=count,
        answer=np.where(real, full.answer, -1),
        correct=real & full.correct,
        prompt_tokens=full.prompt_tokens * nan,
        completion_tokens=full.completion_tokens * nan,
    )
    write_log(log, tmp_path / "log.jsonl")
    assert_same_log(read_log(tmp_path / "log.jsonl"), log)


def test_unknown_is_not_zero(tmp_path):
    log = read_log(dump(tmp_path / "log", with_sample(prompt_tokens=None), {**LINE, "id": "q2"}))
    assert np.isnan(log.prompt_tokens[0, 0, 0]) and log.prompt_tokens[1, 0, 0] == 5
    assert log.latency_s is None and log.compute_unit is None
    assert log.sources == (Source("large"),)


def test_sources_stand_in_the_order_of_the_header_else_of_appearance(tmp_path):
    lines = [{**LINE, "source": name} for name in ("b", "a")]
    assert [s.name for s in read_log(dump(tmp_path / "log", *lines)).sources] == ["b", "a"]
    header = {"sources": {"a": {"parameters": 3, "model": "m"}, "c": {}, "b": {}}}
    log = read_log(dump(tmp_path / "log", header, *lines))
    assert log.sources == (Source("a", 3.0, {"model": "m"}), Source("c"), Source("b"))
    np.testing.assert_array_equal(log.count, [[1, 0, 1]])


def test_numbers_and_texts_are_the_same_answers(tmp_path):
    samples = [{"answer": a, "correct": True} for a in (4, "4", 4.0)] + [{"answer": None, "correct": False}]
    log = read_log(dump(tmp_path / "log", {**LINE, "id": 7, "samples": samples}))
    assert log.answers == (("4",),) and log.answer.tolist() == [[[0, 0, 0, -1]]] and log.ids == ("7",)


def test_right_samples_may_lack_answers_where_none_was_logged(tmp_path):
    samples = [{"answer": None, "correct": 1}, {"correct": 0}]
    assert read_log(dump(tmp_path / "log", {**LINE, "samples": samples})).correct.tolist() == [[[True, False]]]


def test_a_byte_order_mark_and_blank_lines_are_nothing(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LINE).encode() + b"\r\n\r\n")
    assert len(read_log(path)) == 1


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": "q1", ', "broken JSON at column"),
        ("[1]", "expected a JSON object, got list"),
        ("[" * 100_000, "broken JSON"),
        ('{"id": 1, "id": 2}', "id: the field occurs twice"),
        (json.dumps({**LINE, "question": "\ud800"}), "surrogate"),
        (without("id"), "id: expected a text or a number, got null"),
        (without("question"), "'q1': question: expected a text, got null"),
        (without("source"), "'q1': source: expected a name, got null"),
        (without("samples"), "'large': samples: expected a list of at least one sample, got null"),
        ({**LINE, "samples": []}, r"samples: expected a list of at least one sample, got \[\]"),
        ({**LINE, "samples": [3]}, r"samples\[0\]: expected an object, got 3"),
        ({**LINE, "id": True}, "id: expected a text or a number, got True"),
        ({**LINE, "gold": ["4"]}, "gold: expected a text or a number"),
        ({**LINE, "extra": 1}, "extra: unknown field; known: id, question"),
        (with_sample(completion=1), r"samples\[0\]: completion: unknown field; known: answer, correct, prompt_tokens"),
        (with_sample(correct=None), "correct: expected true or false, got null"),
        (with_sample(correct=2), "correct: expected true or false, got 2"),
        (with_sample(correct="true"), "correct: expected true or false, got 'true'"),
        (with_sample(correct=1.0), "correct: expected true or false, got 1.0"),
        (with_sample(answer=["4"]), "answer: expected a text or a number"),
        (with_sample(prompt_tokens=-1), "prompt_tokens: -1.0 is negative"),
        (with_sample(prompt_tokens="5"), "prompt_tokens: expected a number or null, got '5'"),
        (with_sample(prompt_tokens=True), "prompt_tokens: expected a number or null, got True"),
        (with_sample(prompt_tokens=10**400), "prompt_tokens: .* is not a finite float32"),
        (with_sample(latency_s=float("nan")), "NaN is not a number"),
        (with_sample(latency_s=float("inf")), "Infinity is not a number"),
        ({**LINE, "samples": [SAMPLE, {"answer": None, "correct": True}]}, r"samples\[1\]: answer: null, yet correct"),
        (LINE, "'q0', source 'large': this pair occurs twice"),
        ({**LINE, "source": "small", "question": "other"}, "'q0', source 'small': question: 'other' here, '2"),
        ({**LINE, "source": "small", "gold": "5"}, "'q0', source 'small': gold: '5' here, '4' in an earlier line"),
        ({"sources": {"large": {}}}, "comes first, and once"),
    ],
)
def test_a_broken_line_is_refused_by_file_line_question_and_field(tmp_path, line, message):
    if "'q0'" in message:
        line = {**line, "id": "q0"}
    path = dump(tmp_path / "log.jsonl", {**LINE, "id": "q0"}, line)
    with pytest.raises(LogError, match=f"log.jsonl, line 2: .*{message}"):
        read_log(path)


@pytest.mark.parametrize(
    "header, message",
    [
        ({"sources": []}, "expected an object of sources"),
        ({"sources": {"large": 3}}, "expected an object for source 'large'"),
        ({"sources": {"large": {"parameters": 0}}}, "parameters is 0.0; a count is positive"),
        ({"sources": {"large": {"parameters": "7B"}}}, "parameters: expected a number"),
        ({"sources": {"large": {}}, "id": 1}, "stands alone in its line"),
    ],
)
def test_a_broken_header_is_refused(tmp_path, header, message):
    with pytest.raises(LogError, match=f"line 1: .*{message}"):
        read_log(dump(tmp_path / "log", header, LINE))


def test_a_source_that_the_header_does_not_name_is_refused(tmp_path):
    path = dump(tmp_path / "log", {"sources": {"small": {}}}, LINE)
    with pytest.raises(LogError, match="line 2: question 'q1': source: 'large' is none of 'small'"):
        read_log(path)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(json.dumps(LINE).encode() + b"\n\xff\xfe\n")
    with pytest.raises(LogError, match="line 2: not UTF-8 at byte 0"):
        read_log(path)


def test_a_missing_or_empty_file_and_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sample log at .*nowhere"):
        read_log(tmp_path / "nowhere")
    for records in ((), ("",), ({"sources": {"large": {}}},)):
        with pytest.raises(LogError, match="no questions"):
            read_log(dump(tmp_path / "empty", *records))
    with pytest.raises(ValueError, match="unknown format 'csv'; known: jsonl"):
        read_log(tmp_path / "empty", format="csv")


def test_a_log_is_written_whole_or_not_at_all(tmp_path):
    path = dump(tmp_path / "log", LINE)
    before = path.read_bytes()
    broken = make_log(sources=(Source("small"), Source("large", details={"model": object()})))
    with pytest.raises(TypeError):
        write_log(broken, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["id", "question", "gold", "group", "source", "samples", "sources"])
INNER = st.sampled_from(["answer", "correct", *SAMPLE_FIELDS])


@settings(max_examples=150, deadline=None)
@given(outer=st.dictionaries(NAMES, JSON, max_size=2), inner=st.dictionaries(INNER, JSON, max_size=2))
def test_any_value_in_any_field_is_read_or_refused_and_what_is_read_is_written_back(tmp_path_factory, outer, inner):
    folder = tmp_path_factory.mktemp("log")
    line = {**LINE, "samples": [SAMPLE, {**SAMPLE, **inner}], **outer}
    try:
        log = read_log(dump(folder / "log", {**LINE, "id": "q0"}, line))
    except LogError as error:
        assert "line 2: " in str(error)
        return
    write_log(log, folder / "again")
    assert_same_log(read_log(folder / "again"), log)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 400), byte=st.binary(max_size=3), cut=st.integers(0, 3))
def test_damaged_bytes_are_read_or_refused(tmp_path_factory, at, byte, cut):
    text = (json.dumps({**LINE, "id": "q0"}) + "\n" + json.dumps(LINE) + "\n").encode()
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(text[:at] + byte + text[at + cut :])
    try:
        assert len(read_log(path)) in (1, 2)
    except LogError as error:
        assert str(path) in str(error)
