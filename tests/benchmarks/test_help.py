"""Whoever asks a benchmark for help is told what it measures, and it ends well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))
ASK = """
import os, runpy, sys
import alloc_jax.learn, alloc_jax.measure, alloc_jax.solve  # once for all: a script is read in a process that has them

for name in sys.argv[1:]:
    told, into = os.pipe()
    if not os.fork():
        os.dup2(into, 1)
        sys.argv = [name, "--help"]
        status = 0
        try:
            runpy.run_path(name, run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            status = 70
        sys.stdout.flush()
        os._exit(status)
    os.close(into)
    with os.fdopen(told) as text:
        said = len(text.read())
    print(name, os.waitstatus_to_exitcode(os.wait()[1]), said)
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_says_what_it_is_where_asked(name):
    text = (FOLDER / name).read_text()
    assert text.startswith('"""')
    assert ("help_where_asked(sys.modules[__name__])\n    app.run(main)" in text) or "app.run" not in text
    assert '\nif __name__ == "__main__":\n' in text


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="scripts are read in forks of one process")
def test_help_ends_well_with_a_text():
    path = {"PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", "-c", ASK, *(str(FOLDER / name) for name in SCRIPTS)]
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | path, check=True).stdout
    told = {Path(name).name: (int(status), int(said)) for name, status, said in map(str.split, found.splitlines())}
    assert set(told) == set(SCRIPTS)
    assert all(status == 0 and said > 60 for status, said in told.values()), told
