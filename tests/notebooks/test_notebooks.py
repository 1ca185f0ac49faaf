"""The notebooks: made from their sources, with small pictures, and they run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def builder():
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build


def test_every_source_has_its_notebook():
    build = builder()
    sources = {path.stem for path in FOLDER.glob("*.py")} - {"build"}
    assert sources == {path.stem for path in NOTEBOOKS}
    for path in NOTEBOOKS:
        text = path.read_text()
        assert text == build.built(path.with_suffix(".py"), text), f"{path.name}: run python notebooks/build.py"
        assert len(text) < 400_000 and "Traceback" not in text


def test_outputs_stay_with_the_cells_that_made_them_and_no_others(tmp_path):
    source, build = tmp_path / "made.py", builder()
    source.write_text("# %%\n1 + 1\n\n# %%\n2 + 2\n")
    notebook = json.loads(build.built(source))
    for cell in notebook["cells"]:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": cell["source"]}]
    source.write_text("# %%\n1 + 1\n\n# %%\n2 + 3\n")
    again = json.loads(build.built(source, json.dumps(notebook)))
    assert [bool(cell["outputs"]) for cell in again["cells"]] == [True, False]


@pytest.mark.long  # its stages have tests of their own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_it_runs_where_there_is_no_tpu(path, tmp_path):
    notebook = json.loads(path.read_text())
    assert ("accelerator" in notebook["metadata"]) == path.stem.endswith("_tpu")
    small = {"ALLOC_JAX_SMALL": "1", "JAX_PLATFORMS": "cpu", "MPLBACKEND": "agg", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    command = [sys.executable, "-c", RUN, str(path)]
    run = subprocess.run(command, env=dict(os.environ, **small), cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


RUN = """
import sys
import nbformat
from nbclient import NotebookClient
NotebookClient(nbformat.read(sys.argv[1], as_version=4), timeout=300).execute()
"""
