"""A stored table that processes share: the answer of one, whatever happens to them on the way."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alloc_jax.files.parquet import parquet
from alloc_jax.measure import TableBlocks, load_table, save_table
from alloc_jax.solve import solve
from alloc_jax.types import AllocationProblem
from tests.conftest import made_log
from tests.solve.instances import mean_of, smooth

ROOT = Path(__file__).parents[2]
QUESTIONS, ROWS = 300_000, 4096
ONE, TWO = (2.0,), (2.0, 1.5)  # budgets


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("table") / "table.parquet")


@pytest.fixture(scope="module")
def file_of_two(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("table") / "two.parquet", resources=2)


def stored(path, resources=1):
    """An ordered table, whose first blocks mislead every process."""
    from alloc_jax.measure import measure, menu

    utility, cost = smooth(np.random.default_rng(0), QUESTIONS, 4)
    order = np.argsort(utility[:, 0])
    small = measure(made_log(questions=2), menu(made_log(questions=2))[:4], "tokens")
    fields = {name: getattr(small, name) for name in small.__dataclass_fields__}
    many = np.ones((QUESTIONS, 4), np.int32)
    fields |= {"ids": tuple(map(str, range(QUESTIONS))), "question": ("",) * QUESTIONS, "group": (None,) * QUESTIONS}
    fields |= {"utility": utility[order], "cost": cost[order], "utility_se": 0 * utility, "cost_se": 0 * cost}
    fields |= {"valid": many > 0, "successes": many, "samples": many}
    if resources == 2:
        cost = np.stack([cost[order], np.random.default_rng(1).integers(0, 5, cost.shape)], axis=2).astype(np.float32)
        fields |= {"cost": cost, "cost_se": 0 * cost, "resources": ("tokens", "samples"), "units": ("", "")}
    save_table(type(small)(**fields), path)
    return path


def command(file, workdir, *flags):
    budget = ",".join(map(str, TWO if file.name == "two.parquet" else ONE))
    script = [sys.executable, "experiments/solve_distributed.py", f"--table={file}", f"--budget={budget}"]
    return [*script, f"--workdir={workdir}", f"--rows={ROWS}", *flags]


def run(*args, **more):
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    return subprocess.run(command(*args), capture_output=True, text=True, cwd=ROOT, env=env, timeout=240, **more)


def assert_solved(workdir, file, count):
    table = load_table(file)
    summary = json.loads((workdir / "summary.json").read_text())
    parts = [parquet().read_table(workdir / f"plan-{i}-of-{count}.parquet")["action"] for i in range(count)]
    action = np.concatenate([part.to_numpy() for part in parts])
    budget = ONE[0] if table.cost.ndim == 2 else TWO
    inside = solve(AllocationProblem(table.utility, table.cost), budget)
    assert summary["status"] == "OPTIMAL" and summary["questions"] == len(action) == QUESTIONS
    assert (mean_of(table.cost, action) <= budget).all()
    np.testing.assert_allclose(mean_of(table.cost, action), summary["spend"], rtol=1e-11)
    np.testing.assert_allclose(mean_of(table.utility, action), summary["utility"], rtol=1e-11)
    np.testing.assert_allclose(summary["mixed_utility"], inside.mixed_utility, rtol=1e-6)
    assert not (workdir / "checkpoint.json").exists() and not list(workdir.glob(".*"))


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_a_table_and_write_one_plan(file, tmp_path, count):
    ended = run(file, tmp_path / "run", f"--launch={count}")
    assert ended.returncode == 0, ended.stderr
    assert "OPTIMAL" in ended.stdout and "Fatal" not in ended.stderr
    assert_solved(tmp_path / "run", file, count)
    again = run(file, tmp_path / "run")
    assert again.returncode == 1 and "holds a finished run" in again.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "count", "killed"),
    [("file", 2, 0), ("file", 2, 1), ("file", 4, 2), ("file_of_two", 2, 1)],
)
def test_a_run_that_loses_a_process_says_so_and_resumes_after_its_last_pass(request, tmp_path, name, count, killed):
    file = request.getfixturevalue(name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workdir = tmp_path / "run"
    flags = f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}", "--patience=10"
    commands = [command(file, workdir, *flags, f"--process_id={i}") for i in range(count)]
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    peers = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env) for c in commands]
    others = [peer for i, peer in enumerate(peers) if i != killed]
    try:
        deadline = time.monotonic() + 120
        while not (workdir / "checkpoint.json").exists():
            assert time.monotonic() < deadline and peers[0].poll() is None
            time.sleep(0.001)
        assert listening(port) <= {"0100007F", "0000000000000000FFFF00000100007F"}  # loopback, and that within IPv6
        peers[killed].kill()  # SIGKILL: no chance to say goodbye
        start = time.monotonic()
        said = [peer.communicate(timeout=60)[1] for peer in others]
        took = time.monotonic() - start
    finally:
        for peer in peers:
            peer.kill()
            peer.communicate()
    assert took < 30
    for peer, text in zip(others, said, strict=True):
        assert peer.returncode not in (0, None)
        last = text.strip().splitlines()[-1]
        assert (
            last.startswith("alloc solve-distributed: another process ")
            and "gone" in last
            and "start all again" in last
        ), text
        assert "@ " not in text
    assert not (workdir / "summary.json").exists()
    passes = json.loads((workdir / "checkpoint.json").read_text())["passes"]
    ended = run(file, workdir, f"--launch={count}")
    assert ended.returncode == 0, ended.stderr
    assert f"resumed after pass {passes}" in ended.stderr
    assert_solved(workdir, file, count)


def listening(port):
    """The addresses at which the port is listened on, in hexadecimal; empty where the system does not say."""
    found = set()
    for name in ("tcp", "tcp6"):
        path = Path("/proc/net") / name
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and int(address.split(":")[1], 16) == port:
                found.add(address.split(":")[0])
    return found


def test_what_is_asked_of_processes_is_checked_before_any_work(file, tmp_path):
    alone = run(file, tmp_path / "run", "--num_processes=2")
    assert alone.returncode == 1 and "need --coordinator" in alone.stderr
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.json").write_text('{"table": ["other"], "passes": 2, "search": [0]}')
    other = run(file, tmp_path / "run")
    assert other.returncode == 1 and "is of another run" in other.stderr
    odd = run(file, tmp_path / "other", "--budget=2,1")
    assert odd.returncode == 1 and "2 budgets for the resources tokens: one each" in odd.stderr
    assert "Traceback" not in odd.stderr + alone.stderr + other.stderr


@pytest.mark.long
def test_a_process_that_fails_ends_the_others(file, tmp_path):
    asked = {"table": [str(file)], "questions": QUESTIONS, "budget": list(ONE)}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.json").write_text(json.dumps({**asked, "passes": 2, "search": None}))
    ended = run(file, tmp_path / "run", "--launch=2")  # process 0 alone reads that; the other waits for it
    assert ended.returncode == 1 and "Traceback" in ended.stderr


MEMORY = """
import sys
from pathlib import Path
from alloc_jax.measure import TableBlocks
from alloc_jax.solve.streaming.stream import solve_stream

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])

def solved(times):
    blocks = TableBlocks([sys.argv[1]] * times, rows=32768)
    found = solve_stream(blocks, 2.0)
    return blocks.questions, sum(len(action) for action in found.plan(blocks))

solved(1)
before = peak()
questions, planned = solved(100)
assert planned == questions
print(questions * 4 * 8, peak() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was taken")
def test_memory_is_a_tenth_of_the_table_and_less(file):
    """100 tables in a row, 960 MB: beyond what one of them takes, not a tenth more."""
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, str(file)], capture_output=True, text=True, cwd=ROOT, env=env, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    table, taken = map(int, ended.stdout.split())
    assert table == 32 * len(load_table(file)) * 100 and taken < table / 10


def test_blocks_of_shards_hold_every_question_once(file):
    sizes = [TableBlocks(file, rows=ROWS, shard=(i, 4)).questions for i in range(4)]
    assert sum(sizes) == QUESTIONS and min(sizes) > 0
