"""Tables as files: what was saved is what is loaded, and what cannot be trusted is refused by name."""

import dataclasses
import hashlib
import json
import os
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from alloc_jax.logs import read_log, write_log
from alloc_jax.measure import load_table, measure, menu, provenance, save_table, store
from alloc_jax.types import OutcomeTable
from tests.logs.sample_logs import make_log

ENDINGS = [".npz", ".parquet"]
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def needs(ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def make_table(resource="samples", **changes) -> OutcomeTable:
    log = make_log(**changes)
    return measure(log, menu(log, votes=(1, 4)), resource)


def assert_same_table(a: OutcomeTable, b: OutcomeTable):
    for field in dataclasses.fields(OutcomeTable):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert type(x) is type(y), field.name
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, field.name
            np.testing.assert_array_equal(x, y, err_msg=field.name)
        else:
            assert x == y, field.name


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("resource", ["tokens", ("samples", "tokens", "compute")])
def test_a_saved_table_is_loaded_bit_for_bit(tmp_path, resource, ending):
    needs(ending)
    count = np.array([[4, 4], [4, 0], [4, 4]], np.int32)
    texts = ("", "zero at the end\0", "Žluťoučký 🐎 \n\t\"'\\")
    table = make_table(resource, questions=3, count=count, question=texts, group=("a", None, ""))
    path = tmp_path / f"table{ending}"
    save_table(table, path)
    assert_same_table(load_table(path), table)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_without_questions_keeps_its_shape(tmp_path, ending):
    needs(ending)
    table = make_table(("samples", "tokens")).select([])
    save_table(table, tmp_path / f"table{ending}")
    assert_same_table(load_table(tmp_path / f"table{ending}"), table)


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_tables_are_equal_files(tmp_path, ending):
    needs(ending)
    for name in ("one", "two"):
        save_table(make_table(), tmp_path / f"{name}{ending}", options={"seed": 1})
    one, two = (hashlib.sha256((tmp_path / f"{name}{ending}").read_bytes()).digest() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_file_says_what_was_measured_how_and_with_what(tmp_path, ending):
    needs(ending)
    log = tmp_path / "samples.jsonl"
    log.write_bytes(b"what was measured")
    save_table(
        make_table(), tmp_path / f"table{ending}", inputs=[log], options={"resource": "samples", "votes": [1, 4]}
    )
    found = provenance(tmp_path / f"table{ending}")
    digest = hashlib.sha256(b"what was measured").hexdigest()
    assert found.inputs == ({"name": "samples.jsonl", "bytes": 17, "sha256": digest},)
    assert found.options == {"resource": "samples", "votes": [1, 4]}
    assert (
        found.versions.keys() == {"python", "alloc_jax", "jax", "numpy"} and found.versions["numpy"] == np.__version__
    )


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("read", [load_table, provenance])
def test_a_table_of_another_version_is_refused(tmp_path, monkeypatch, read, ending):
    needs(ending)
    path = tmp_path / f"table{ending}"
    monkeypatch.setattr(store, "VERSION", 2)
    save_table(make_table(), path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=rf"table\{ending}: an outcome table of version 2, and only version 1"):
        read(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_save_leaves_the_earlier_file_and_no_other(tmp_path, monkeypatch, ending):
    needs(ending)
    path = tmp_path / f"table{ending}"
    save_table(make_table(), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_table(make_table(), path, options={"grader": object()})
    with pytest.raises(FileNotFoundError):
        save_table(make_table(), path, inputs=[tmp_path / "nothing"])

    def interrupted(part, header, columns):
        part.write_bytes(b"half of it")
        raise KeyboardInterrupt

    for name in ("_write_npz", "_write_parquet"):
        monkeypatch.setattr(store, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_table(make_table(), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_without_the_package_the_error_names_the_extra_and_nothing_is_written(tmp_path, monkeypatch):
    (tmp_path / "log.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    log = make_log()
    for call in (
        lambda: save_table(make_table(), tmp_path / "new.parquet"),
        lambda: write_log(log, tmp_path / "new.parquet"),
        lambda: load_table(tmp_path / "log.parquet"),
        lambda: read_log(tmp_path / "log.parquet"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'alloc_jax\[parquet\]'"):
            call()
    assert os.listdir(tmp_path) == ["log.parquet"]


def test_a_name_that_says_neither_form_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"table\.csv: a table is saved as \.npz or \.parquet"):
        save_table(make_table(), tmp_path / "table.csv")
    assert not os.listdir(tmp_path)


def test_files_that_are_no_tables_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", utility=np.zeros(3))
    with pytest.raises(ValueError, match=r"text\.npz: no outcome table: neither npz nor parquet"):
        load_table(tmp_path / "text.npz")
    with pytest.raises(ValueError, match=r"other\.npz: no outcome table, but another file"):
        load_table(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        load_table(tmp_path / "nothing.npz")


def rewritten(path, change):
    """The same npz with its header or its columns changed."""
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays[store._KEY].tobytes())
    change(header["fields"], arrays)
    arrays[store._KEY] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda short, arrays: arrays.pop("utility"), "utility: missing"),
        (lambda short, arrays: short.pop("actions"), "actions: missing"),
        (lambda short, arrays: short.update(actions=["vote(small,1)"]), r"shape \(6, 4\), expected \(6, 1\)"),
        (lambda short, arrays: short["actions"].__setitem__(0, "vote"), "action 'vote' is not of the form"),
        (lambda short, arrays: arrays.update(valid=arrays["valid"][1:]), r"valid: shape \(5, 4\), expected \(6, 4\)"),
        (lambda short, arrays: arrays.update(cost=arrays["cost"].astype(str)), "cost: type <U32, expected numbers"),
        (lambda short, arrays: arrays.update(more=arrays["cost"]), "unknown fields more"),
    ],
)
def test_a_table_whose_parts_do_not_fit_is_refused_by_field(tmp_path, change, message):
    path = tmp_path / "table.npz"
    save_table(make_table(), path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=rf"table\.npz: a broken outcome table: .*{message}"):
        load_table(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for ending in ENDINGS:
        with suppress(ImportError):  # the tests of parquet skip, too
            save_table(make_table(), folder / f"table{ending}")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("ending", ENDINGS)
@QUIET
@given(data=st.data())
def test_damaged_files_are_refused_or_whole(saved, tmp_path, ending, data):
    needs(ending)
    whole = saved[ending]
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(0, 40) | st.just(len(whole)))
    path = tmp_path / f"table{ending}"
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + cut :])
    try:
        table = load_table(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    assert table.utility.shape == (6, 4)
