"""Broken files in every format: an error that names file and place, never another exception; or skipped and counted."""

import json
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from alloc_jax.files import text
from alloc_jax.logs import LogError, LogWarning, read_log, read_logs
from alloc_jax.logs.formats import FORMATS
from tests.logs import foreign_logs as logs
from tests.logs.test_formats import written

TEXT = [name for name in FORMATS if name not in ("parquet", "npz", "inspect", "lighteval")]
JSON = [name for name in TEXT if name not in ("routerbench", "routellm", "table")]
DOCUMENTS = ("inspect_json", "llmrouterbench", "monkeys", "routerarena", "evalplus", "helm")
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))


def read_or_refuse(path, options, format=None):
    """Reads a file twice; nothing but a LogError that names the file may come out, and skipping loses no more."""
    try:
        strict = read_logs(path, format, **options)
    except LogError as error:
        strict = None
        assert str(path) in str(error)
    try:
        lenient = read_logs(path, format, skip_bad=True, **options)
    except LogError as error:
        assert strict is None and str(path) in str(error)
        return
    assert (lenient.skipped == 0) == (strict is not None)
    assert len(lenient.reasons) == min(lenient.skipped, 5)


def damage(name, tmp_path_factory, data):
    """One byte or a few of a good file are cut off, replaced or flipped."""
    folder = tmp_path_factory.mktemp("log")
    path, options = written(name, folder)
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    kind = data.draw(st.sampled_from(["cut", "splice", "flip"]))
    if kind == "cut":
        content = content[:at]
    elif kind == "splice":
        content = content[:at] + data.draw(st.binary(max_size=4)) + content[at + data.draw(st.integers(0, 4)) :]
    elif at < len(content):
        content = content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]
    path.write_bytes(content)
    read_or_refuse(path, options, data.draw(st.sampled_from([None, name])))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "\ud800", -1, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "role", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, prefix=()):
    yield prefix
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*prefix, key))


def misplace(name, tmp_path_factory, data):
    """One value of a good file is taken away, or becomes any other."""
    folder = tmp_path_factory.mktemp("log")
    path, options = written(name, folder)
    if name == "inspect":
        documents = list(logs.inspect_samples())
    elif name in DOCUMENTS:
        documents = [json.loads(path.read_text())]
    else:
        documents = [json.loads(line) for line in path.read_text().splitlines()]
    holder = {"": documents}
    *way, last = data.draw(st.sampled_from([("", *place) for place in places(documents) if place]))
    for key in way:
        holder = holder[key]
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = data.draw(VALUES)
    if name == "inspect":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("header.json", json.dumps(logs.INSPECT_HEADER))
            for number, sample in enumerate(documents):
                archive.writestr(f"samples/{number}.json", json.dumps(sample))
    else:
        path.write_text("\n".join(map(json.dumps, documents)))
    read_or_refuse(path, options, name)


@pytest.mark.parametrize("name", FORMATS)
@settings(QUIET, max_examples=40)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused(name, tmp_path_factory, data):
    damage(name, tmp_path_factory, data)


@pytest.mark.parametrize("name", [*JSON, "inspect"])
@settings(QUIET, max_examples=40)
@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused(name, tmp_path_factory, data):
    misplace(name, tmp_path_factory, data)


@pytest.mark.long
@settings(QUIET, max_examples=4000)
@given(name=st.sampled_from([*FORMATS]), data=st.data())
def test_damage_of_many_kinds_is_read_or_refused(name, tmp_path_factory, data):
    damage(name, tmp_path_factory, data)


@pytest.mark.long
@settings(QUIET, max_examples=4000)
@given(name=st.sampled_from([*JSON, "inspect"]), data=st.data())
def test_many_values_in_any_place_are_read_or_refused(name, tmp_path_factory, data):
    misplace(name, tmp_path_factory, data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_another_format_is_refused_under_a_wrong_name(name, tmp_path):
    path, options = written(name, tmp_path)
    (tmp_path / "other").mkdir()
    other = logs.routellm(tmp_path / "other") if name != "routellm" else logs.jsonl(tmp_path / "other")
    with pytest.raises(LogError, match=str(other)):
        read_log(other, name, **options)
    assert read_logs(path, name, **options).formats == (name,)


@pytest.mark.parametrize("name", TEXT)
def test_formats_mixed_in_one_file_are_refused_by_line(name, tmp_path):
    path, options = written(name, tmp_path)
    strange = '{"what": "is this"}' if name in JSON else "one cell"
    path.write_text(path.read_text().rstrip() + f"\n{strange}\n")
    with pytest.raises(LogError, match=f"{path.name}, "):
        read_log(path, **options)


def test_bad_records_are_skipped_counted_and_listed(tmp_path):
    path = logs.jsonl(tmp_path)
    good = path.read_text().splitlines()
    sources, *records = good
    bad = ['{"id": "q9"', "[]", '{"id": "q9"}', records[0], '{"id": "q7", "samples": 3}', "\ud800", '{"id": true}']
    path.write_text("\n".join([sources, *records[:1], *bad, *records[1:]]), errors="surrogatepass")
    with pytest.raises(LogError, match="line 3: broken JSON"):
        read_log(path)
    reading = read_logs(path, skip_bad=True)
    assert reading.skipped == len(bad) and len(reading.reasons) == 5 and int(reading.log.count.sum()) == 12
    assert reading.reasons[0].startswith(f"{path}, line 3: broken JSON at column")
    assert "line 6: question 'q0', source 'small': this pair occurs twice" in reading.reasons[3]
    with pytest.warns(LogWarning, match=r"7 bad records were skipped: .*line 3: .*; and 2 more"):
        read_log(path, skip_bad=True)


def test_a_bad_pair_is_skipped_whole_and_the_rest_of_its_row_stays(tmp_path):
    path = tmp_path / "log.csv"
    rows = [["a", "p", "e", 1, -0.5, 0, 0.1], ["b", "q", "e", "x", 1, 1, 1], ["c", "r", "e", 1, 1, 0, 1]]
    logs.dump_csv(path, ["sample_id", "prompt", "eval_name", "m", "m|total_cost", "n", "n|total_cost"], rows)
    with pytest.raises(LogError, match=r"line 2: question 'a', source 'm': samples\[0\]: usd: -0.5 is negative"):
        read_log(path)
    reading = read_logs(path, skip_bad=True)
    assert reading.skipped == 2 and reading.log.ids == ("a", "c")
    assert reading.log.count[:, [s.name for s in reading.log.sources].index("m")].tolist() == [0, 1]


def test_a_log_of_bad_records_alone_has_no_questions_and_says_why(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 1, "question": "", "source": "", "samples": []}\n')
    with pytest.raises(LogError, match=r"no questions; 1 bad records were skipped, the first: .*line 1: .*source"):
        read_log(path, skip_bad=True)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("monkeys", lambda rows: rows[1]["is_corrects"].pop(), r"record\[1\]: is_corrects: 2 values for 3 samples"),
        (
            "best_route",
            lambda rows: rows[1]["gpt-4o"]["armoRM_scores"].pop(),
            r"line 2: gpt-4o.armoRM_scores: 2 values",
        ),
        (
            "best_route",
            lambda rows: rows[1]["gpt-4o"].update(token_num_responses=[3, -4, 5]),
            r"line 2: .*'math/q1', source 'gpt-4o': samples\[1\]: completion_tokens: -4.0 is negative",
        ),
    ],
)
def test_lengths_that_differ_and_negative_tokens_name_line_and_field(name, change, message, tmp_path):
    path, options = written(name, tmp_path)
    content = path.read_text()
    rows = json.loads(content) if name == "monkeys" else [json.loads(line) for line in content.splitlines()]
    change(rows)
    path.write_text(json.dumps(rows) if name == "monkeys" else "\n".join(map(json.dumps, rows)))
    with pytest.raises(LogError, match=message):
        read_log(path, **options)


def test_parquet_columns_of_different_lengths_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    row = {"id": "a", "question": "q", "source": "m", "answer": ["1"], "correct": [True, False]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "log")
    with pytest.raises(LogError, match="row 0: question 'a', source 'm': answer: 1 values for 2 samples"):
        read_log(tmp_path / "log")
    table = pa.Table.from_pylist([{**row, "answer": ["1", "2"]}])
    pq.write_table(table.replace_schema_metadata({"alloc_jax sample log": '{"version": 9}'}), tmp_path / "log")
    with pytest.raises(LogError, match="version 9, and this is a reader of version 1"):
        read_log(tmp_path / "log")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"correct": np.zeros((2, 2), np.uint8)}, r"correct: shape \(2, 2\)"),
        ({"correct": np.full((2, 2, 3), 7, np.uint8)}, r"correct\[0,0\]: 7 is none of 0, 1 and 255"),
        ({"correct": np.ones((2, 2, 3))}, "correct: type float64, expected u"),
        ({"action": np.array(["a", "a"])}, "action: a name is empty or occurs twice"),
        ({"answer": np.array([["4"]])}, r"answer: shape \(1, 1\), expected \(2, 2, 3\)"),
        ({"qid": np.array(["a", "a"])}, "question 'a', source 'small': question: '3 . 3' here"),
        ({"question": np.array([{}, {}], object)}, "broken npz: .*pickle"),
        ({"cost": np.full((2, 2), -1, np.float32)}, "usd: -1.0 is negative"),
    ],
)
def test_npz_arrays_that_do_not_fit_are_refused_by_name(change, message, tmp_path):
    path = logs.npz(tmp_path)
    np.savez(path, **{**dict(np.load(path)), **change})
    with pytest.raises(LogError, match=message):
        read_log(path)


def test_text_that_is_not_utf8_is_named_and_skipped(tmp_path):
    for write in (logs.jsonl, logs.routellm):
        path = write(tmp_path)
        first, *rest = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + rest[0].replace(b"text of", b"text \xff of") + b"".join(rest[1:]))
        with pytest.raises(LogError, match="line 2: not UTF-8"):
            read_log(path)
        assert read_logs(path, skip_bad=True).skipped == 1


@pytest.mark.parametrize("name", TEXT)
def test_a_line_beyond_the_limit_is_refused(name, tmp_path, monkeypatch):
    path, options = written(name, tmp_path)
    if name in DOCUMENTS and name != "evalplus":
        path.write_text(path.read_text().replace("text of q1", "x" * 400_000))
    else:
        path.write_text(path.read_text().rstrip("\n") + "x" * 400_000 + "\n")
    monkeypatch.setattr(text, "LARGEST", 1 << 17)
    with pytest.raises(LogError, match=r"a (line|value) of more than 0 MiB"):
        read_log(path, **options)


def test_a_line_of_2_gb_is_refused_without_reading_it_into_memory(tmp_path):
    path = logs.jsonl(tmp_path)
    with open(path, "ab") as file:
        file.write(b'{"id": "')
        file.truncate(2 << 30)  # a hole of zeros
    limited = f"""
import tracemalloc
from alloc_jax.logs import LogError, read_log
tracemalloc.start()
try:
    read_log({str(path)!r})
except LogError as error:
    print(error)
print(tracemalloc.get_traced_memory()[1] // 2**20)
"""
    said = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True).stdout
    message, _, used = said.splitlines()
    assert "line 6: a line of more than 128 MiB" in message
    assert int(used) < 400  # MiB


def test_memory_does_not_grow_with_the_text_that_is_not_kept(tmp_path):
    """200 MB of responses whose answers are not read."""
    path = tmp_path / "log.json"
    row = {"question": "q", "gt_answer": "4", "samples": ["x" * 20_000] * 50, "is_corrects": [True] * 50}
    with open(path, "w") as file:
        file.write("[")
        file.write(",".join(json.dumps({**row, "orig_dset_idx": number}) for number in range(200)))
        file.write("]")
    tracemalloc.start()
    try:
        assert len(read_log(path)) == 200
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
