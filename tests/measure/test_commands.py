"""The commands that read a log, as their user runs them."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from alloc_jax.measure import flags as reading
from alloc_jax.measure import load_table, provenance, read_logs, write_log
from tests.conftest import made_log
from tests.measure import foreign_logs as logs

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
    for kind in ("enum", "string", "bool", "float"):
        monkeypatch.setattr(flags, f"DEFINE_{kind}", lambda name, default, *rest: defined.update({name: default}))
    reading.define_reading_flags()
    options = {p.name: p.default for p in inspect.signature(read_logs).parameters.values() if p.name != "path"}
    assert defined == options and set(reading._NAMES) == set(options)


def test_inspect_tells_what_is_in_a_log_and_what_to_beware_of(log_file):
    said = run("-m", "alloc_jax.measure", "inspect", str(log_file))
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("format: jsonl\n") and "40 questions, 2 sources, 1280 samples" in said.stdout


def test_inspect_says_in_one_line_what_is_wrong(tmp_path):
    said = run("-m", "alloc_jax.measure", "inspect", str(tmp_path / "nothing"))
    assert said.returncode == 1 and said.stderr.splitlines()[-1] == f"inspect: no sample log at {tmp_path / 'nothing'}"
    assert "Traceback" not in said.stderr
    assert run("-m", "alloc_jax.measure", "inspect").returncode == 1


def test_a_log_of_another_tool_becomes_a_table_with_its_provenance(tmp_path):
    path, requests = logs.batch(tmp_path), logs.batch_requests(tmp_path)
    with open(path, "a") as file:
        file.write("half a li")
    logs.dump_lines(tmp_path / "gold.jsonl", [{"id": name, "gold": gold} for name, gold in logs.GOLD.items()])
    table = tmp_path / "table.npz"
    options = [f"--requests={requests}", f"--gold={tmp_path / 'gold.jsonl'}", "--grader=number", "--source=mine"]
    command = ["experiments/measure_log.py", f"--log={path}", *options, "--resource=samples,tokens"]
    said = run(*command, f"--table={table}")
    assert said.returncode == 1 and f"measure_log: {path}, line 3: broken JSON" in said.stderr and not table.exists()
    said = run(*command, f"--table={table}", "--skip_bad", "--actions=vote(mine,1),vote(mine,3)")
    assert said.returncode == 0, said.stderr
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
