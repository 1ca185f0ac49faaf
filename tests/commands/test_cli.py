"""`alloc`: what it offers, how it helps, and what it says where something is wrong."""

import ast
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from absl import flags

import alloc_jax
from alloc_jax import cli, options
from alloc_jax.logs import write_log
from tests.conftest import made_log

ROOT = Path(__file__).parents[2]
OWN = (
    "draw_samples",
    "export_reasoner",
    "train_reasoner",
    "draw_smollm2",
    "smollm2_loop",
)  # scripts of experiments/ that are no command


def alloc(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "alloc_jax", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def values():
    """The flags, which a test may add to."""
    before = set(flags.FLAGS)
    yield flags.FLAGS
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom alloc_jax.cli import main\nsys.argv = ['alloc', '--help']\nmain()\n"
        "print({'jax', 'numpy', 'absl'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0 and said.stdout.endswith("set()\n"), said.stderr
    for name, command in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", said.stdout, re.MULTILINE)
    assert alloc().stdout + "set()\n" == said.stdout


def test_the_version_is_the_packages():
    assert alloc("--version").stdout == f"{alloc_jax.__version__}\n"


def test_an_unknown_command_is_told_which_there_are():
    said = alloc("allocate")
    assert said.returncode == 1 and "no command 'allocate'" in said.stderr and "solve-distributed" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_can_be_asked_for_help(name, monkeypatch, capsys, values):
    monkeypatch.setattr(sys, "argv", ["alloc"])
    sys.modules.pop("alloc_jax.serve.__main__", None)  # it defines its flags when it is imported
    with pytest.raises(SystemExit) as end:
        cli.run(name, ["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    module = import_module(f"alloc_jax.{cli.COMMANDS[name].module}")
    assert shown.startswith(module.__doc__.strip()) and f"alloc {name}" in shown
    assert not {flag.name for flag in values.get_key_flags_for_module(options)}
    for flag in values.get_key_flags_for_module(module):
        assert f"--{flag.name}" in shown.replace("--[no]", "--") and flag.help
    if cli.COMMANDS[name].files:
        assert cli.COMMANDS[name].files in values


def test_help_of_a_command_ends_well_in_a_process_of_its_own():
    said = alloc("inspect", "--help")
    assert said.returncode == 0 and "--grader" in said.stdout and said.stderr == ""


@pytest.mark.parametrize("module", sorted(path.parent.name for path in (ROOT / "alloc_jax").rglob("__main__.py")))
def test_help_of_a_module_that_runs_ends_well(module):
    name = module if module == "alloc_jax" else f"alloc_jax.{module}"
    said = subprocess.run([sys.executable, "-m", name, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0 and said.stdout and said.stderr == ""


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem)
def test_every_script_can_be_asked_for_help(path, monkeypatch, capsys, values):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0 and capsys.readouterr().out


@pytest.mark.parametrize("name", OWN)
def test_a_script_of_its_own_can_be_asked_for_help(name, monkeypatch, capsys, values):
    path = str(ROOT / "experiments" / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(path, run_name="__main__")
    shown = capsys.readouterr()
    assert end.value.code == 0 and shown.err == ""
    defined = re.findall(r"flags\.DEFINE_\w+\(\"(\w+)\"", Path(path).read_text())
    assert f"experiments/{name}.py" in shown.out and defined and all(f"--{flag}:" in shown.out for flag in defined)


def test_serving_loads_no_jax():
    code = (
        "import atexit, sys\nfrom alloc_jax.cli import run\natexit.register(lambda: print({'jax'} & set(sys.modules)))\n"
        "run('serve', ['--help'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.returncode == 0 and said.stdout.endswith("set()\n"), said.stderr


def test_a_log_is_named_without_a_flag(tmp_path):
    write_log(made_log(questions=20), tmp_path / "samples.jsonl")
    said = alloc("measure", str(tmp_path / "samples.jsonl"), "--actions=vote(small,1)", "--resource=samples")
    assert said.returncode == 0 and "20 questions, 2 sources" in said.stdout, said.stderr
    said = alloc("measure", str(tmp_path / "samples.jsonl"), "--log=builtin")
    assert said.returncode == 1 and said.stderr.startswith("alloc measure: ") and "name the log once" in said.stderr
    said = alloc("check-server", "mine", "--base_url=http://127.0.0.1:9", "--model=m")
    assert said.returncode == 1 and "alloc check-server: unknown arguments mine" in said.stderr


def test_every_script_that_is_a_command_calls_it():
    """One definition: what stands in experiments/ beside the reasoner's own scripts is a command by another name."""
    called = {}
    for path in sorted((ROOT / "experiments").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "run":
                called[path.stem] = ast.literal_eval(node.args[0])
    assert set(called.values()) <= set(cli.COMMANDS) and len(called) >= 10
    assert {path.stem for path in (ROOT / "experiments").glob("*.py")} - set(called) == set(OWN)
