"""Flags are the fields of a configuration, and hold what the fields hold."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from alloc_jax.jobs import console
from alloc_jax.jobs.compare import CompareConfig
from alloc_jax.jobs.escalate import EscalateConfig
from alloc_jax.jobs.paper import PaperConfig
from alloc_jax.jobs.sequential import SequentialConfig
from alloc_jax.jobs.solve_then_learn import JobConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def values(monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for name in ("DEFINE_bool", "DEFINE_integer", "DEFINE_float", "DEFINE_string"):
        define = getattr(flags, name)
        monkeypatch.setattr(flags, name, lambda *a, define=define, **k: define(*a, flag_values=values, **k))
    return values


CONFIGS = [CompareConfig(), PaperConfig(), JobConfig(), SequentialConfig(), EscalateConfig()]


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_come_back_as_they_were(values, config):
    console.define_config_flags(config, workdir=False)
    values(["script"])
    assert console.read_config(config) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_says_what_it_does(values, config):
    console.define_config_flags(config)
    assert all(len(values[name].help) > 5 and values[name].help.endswith(".") for name in vars(config))


def test_what_is_given_is_what_the_configuration_holds(values):
    console.define_config_flags(CompareConfig())
    values(
        [
            "script",
            "--workdir=x",
            "--budgets=1.5,2",
            "--policies=value(hidden=(8, 8)),imitation",
            "--by_group",
            "--folds=3",
        ]
    )
    policies = ("value(hidden=(8, 8))", "imitation")
    expected = CompareConfig(budgets=(1.5, 2.0), policies=policies, by_group=True, folds=3)
    assert console.read_config(CompareConfig()) == expected


def test_a_file_without_a_flag_is_the_log(values, monkeypatch):
    console.define_config_flags(JobConfig(), workdir=False)
    values(["script"])
    console.take_files([], "log")
    assert values.log == "builtin"
    with pytest.raises(ValueError, match=r"unknown arguments runs/mine: --help"):
        console.take_files(["runs/mine"], "")
    console.take_files(["samples.jsonl"], "log")
    assert values.log == "samples.jsonl"
    console.take_files(["run:a=1,b=2", "b"], "log")
    assert console.read_config(JobConfig()).log == ("run:a=1,b=2", "b")
    values(["script", "--log=other.jsonl"])
    with pytest.raises(ValueError, match=r"samples.jsonl stands beside --log=other.jsonl"):
        console.take_files(["samples.jsonl"], "log")


def test_progress_is_shown_once(capsys):
    log = logging.getLogger("alloc_jax")
    before = (list(log.handlers), log.level, log.propagate)
    try:
        console.show_progress()
        log.info("half of it")
        assert capsys.readouterr().err.count("half of it") == 1
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])


COMMAND = {"compare_policies": "compare", "reproduce_paper": "reproduce-paper", "resplit": "resplit"}


@pytest.mark.parametrize("script", COMMAND)
def test_scripts_say_what_is_wrong_in_a_line(script, tmp_path):
    folder = [] if script == "resplit" else [f"--workdir={tmp_path / 'run'}"]
    log = "--logs=nowhere.jsonl" if script == "compare_policies" else "--log=nowhere.jsonl"
    command = [sys.executable, str(ROOT / "experiments" / f"{script}.py"), log, *folder]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 1
    assert said.stderr.startswith(f"alloc {COMMAND[script]}: ") and "nowhere.jsonl" in said.stderr
    assert "Traceback" not in said.stderr
    assert list(tmp_path.iterdir()) == []
