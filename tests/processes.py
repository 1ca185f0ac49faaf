"""Programs that two processes run together, one device each."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

MEETING = """
import sys
import jax, numpy as np
from alloc_jax.solve.streaming.processes import Processes

rank, port, killed = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "killed"
peers = Processes(f"127.0.0.1:{port}", 2, rank, patience=10 if killed else 120)
mesh = jax.make_mesh((jax.device_count(),), ("shared",), axis_types=(jax.sharding.AxisType.Auto,))
assert jax.device_count() == 2 * jax.local_device_count() == 2

def run(work, check):
    print("met", flush=True)
    while killed:
        work()
    check(work())
    print("alike", flush=True)
"""


def _started(program: str, ends: str) -> list[subprocess.Popen]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    env.pop("XLA_FLAGS", None)  # one device a process
    return [
        subprocess.Popen(
            [sys.executable, "-c", MEETING + program, str(rank), str(port), ends],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=Path(__file__).parents[1],
        )
        for rank in range(2)
    ]  # fmt: skip


def assert_alike(program: str) -> None:
    """Run a program, which calls `run(work, check)` with what the two do together on `mesh` and what is to hold of it."""
    said = [peer.communicate(timeout=600) for peer in _started(program, "well")]
    assert all("alike" in out for out, _ in said), said


def assert_ends(program: str) -> None:
    """Run the same program over and over, and kill a process: the other one ends, and not well."""
    peers = _started(program, "killed")
    try:
        assert all(peer.stdout.readline() == "met\n" for peer in peers)
        peers[1].send_signal(signal.SIGKILL)
        peers[0].communicate(timeout=300)
    finally:
        for peer in peers:
            peer.kill()
            peer.communicate()
    assert peers[0].returncode not in (0, None)
