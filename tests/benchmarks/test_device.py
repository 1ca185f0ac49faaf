"""The script for accelerators runs from end to end where there is none, and what it writes is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"


@pytest.mark.long
def test_one_command_writes_what_a_device_does(tmp_path):
    path = tmp_path / "device.json"
    flags = ["--sizes=1000,3000,1e12", "--points=9", "--replicates=2", "--questions=200", "--epochs=1", "--repeats=1"]
    run = subprocess.run(
        [sys.executable, SCRIPT, *flags, f"--json={path}"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(path.read_text())
    assert found["device"] and found["platform"] == "cpu" and found["left_out"] == ["1000000000000: memory"]
    for size in ("1000", "3000"):
        part = found["solve"][size]
        assert part["status"] == 0 and 0 <= part["gap"] < 1e-6
        assert min(part[name]["reads"] for name in ("prepare", "solve", "frontier")) > 0
        assert part["prepare and solve"]["gb_moved"] > 0
    assert found["bootstrap"]["ms"] > 0 and found["learning"]["training"]["ms"] > 0
