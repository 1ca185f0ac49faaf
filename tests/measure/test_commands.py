"""The commands that read a log, as their user runs them."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from alloc_jax.logs import flags as reading, read_logs, write_log
from alloc_jax.measure import load_table, provenance
from tests.conftest import made_log
from tests.logs import foreign_logs as logs

ROOT = Path(__file__).parents[2]


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"
    write_log(made_log(questions=40), path)
    return path


def test_every_option_of_reading_is_a_flag_with_its_default(monkeypatch):
    defined = {}
    for kind in ("enum", "string", "bool", "float", "list"):
        monkeypatch.setattr(flags, f"DEFINE_{kind}", lambda name, default, *rest: defined.update({name: default}))
    reading.define_reading_flags()
    options = {p.name: p.default for p in inspect.signature(read_logs).parameters.values() if p.name != "path"}
    assert defined == options and set(reading._NAMES) == set(options)


def test_inspect_tells_what_is_in_a_log_and_what_to_beware_of(log_file):
    said = run("-m", "alloc_jax", "inspect", str(log_file))
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("format: jsonl\n") and "40 questions, 2 sources, 1280 samples" in said.stdout
    assert said.stderr == ""  # nothing about devices that are not there


def test_inspect_says_in_one_line_what_is_wrong(tmp_path):
    said = run("-m", "alloc_jax", "inspect", str(tmp_path / "nothing"))
    assert (
        said.returncode == 1
        and said.stderr.splitlines()[-1] == f"alloc inspect: no sample log at {tmp_path / 'nothing'}"
    )
    assert "Traceback" not in said.stderr


def test_a_log_of_another_tool_becomes_a_table_with_its_provenance(tmp_path):
    path, requests = logs.batch(tmp_path), logs.batch_requests(tmp_path)
    with open(path, "a") as file:
        file.write("half a li")
    logs.dump_lines(tmp_path / "gold.jsonl", [{"id": name, "gold": gold} for name, gold in logs.GOLD.items()])
    table = tmp_path / "table.npz"
    options = [f"--requests={requests}", f"--gold={tmp_path / 'gold.jsonl'}", "--grader=number", "--source=mine"]
    command = ["experiments/measure_log.py", f"--log={path}", *options, "--resource=samples,tokens"]
    said = run(*command, f"--table={table}")
    assert said.returncode == 1 and f"alloc measure: {path}, line 3: broken JSON" in said.stderr and not table.exists()
    said = run(*command, f"--table={table}", "--skip_bad", "--actions=vote(mine,1),vote(mine,3)")
    assert said.returncode == 0 and said.stderr == "", said.stderr
    assert "format: batch" in said.stdout and "note: 1 bad records were skipped" in said.stdout
    assert "vote(mine,3)" in said.stdout and said.stdout.endswith(f"table: {table}\n")
    stored = load_table(table)
    assert [action.name for action in stored.actions] == ["vote(mine,1)", "vote(mine,3)"]
    assert stored.resources == ("samples", "tokens") and stored.utility.tolist()[0][1] == 1
    found = provenance(table)
    assert [file["name"] for file in found.inputs] == ["output.jsonl", "gold.jsonl", "input.jsonl"]
    assert found.options["grader"] == "number" and found.options["skip_bad"] is True
    assert found.options["actions"] == ["vote(mine,1)", "vote(mine,3)"]


def test_the_default_actions_fit_the_log(log_file, tmp_path):
    said = run("experiments/measure_log.py", f"--log={log_file}", f"--table={tmp_path / 'table.npz'}")
    assert said.returncode == 0, said.stderr
    assert [action.samples for action in load_table(tmp_path / "table.npz").actions] == [1, 4, 8, 16] * 2
    assert provenance(tmp_path / "table.npz").options["resource"] == "samples"


def test_dollars_come_from_the_price_book_and_what_lacks_something_is_dropped(tmp_path):
    samples = [{"answer": "1", "correct": True, "prompt_tokens": 10, "completion_tokens": 5}]
    lines = [
        {"id": name, "question": "1", "gold": "1", "source": "m", "samples": samples * 2} for name in ("a", "b", "c")
    ]
    lines[1]["samples"] = [{**samples[0], "completion_tokens": None}] * 2
    logs.dump_lines(tmp_path / "samples.jsonl", lines)
    price = {
        "model": "m",
        "input": 1,
        "output": 2,
        "cached_input": None,
        "reasoning": None,
        "source": "s",
        "date": "2026-01-01",
    }
    (tmp_path / "prices.json").write_text(json.dumps([price]))
    table = tmp_path / "table.npz"
    files = [f"--log={tmp_path / 'samples.jsonl'}", f"--prices={tmp_path / 'prices.json'}", f"--table={table}"]
    command = ["experiments/measure_log.py", *files, "--resource=usd", "--actions=single(m)"]
    said = run(*command)
    assert said.returncode == 1 and "question 'b'" in said.stderr and not table.exists()
    said = run(*command, "--missing=drop", "--shrink=empirical_bayes")
    assert said.returncode == 0, said.stderr
    assert "1 questions were left out, 'b' first" in said.stdout
    stored, made = load_table(table), provenance(table)
    assert stored.ids == ("a", "c") and stored.dropped == ("b",)
    assert abs(float(stored.cost[0, 0]) - 20e-6) < 1e-9
    assert (made.options["missing"], made.options["shrink"]) == ("drop", "empirical_bayes")
    assert [file["name"] for file in made.inputs] == ["samples.jsonl", "prices.json"]
