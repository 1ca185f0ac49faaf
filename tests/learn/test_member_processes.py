"""Members of an ensemble that processes share out: the policy of one process, and an end where one of them is gone."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import jax, numpy as np
from alloc_jax.learn import PolicyConfig, train
from alloc_jax.measure import measure, menu
from alloc_jax.solve.streaming.processes import Processes
from tests.conftest import made_log

rank, port, ends = int(sys.argv[1]), sys.argv[2], sys.argv[3]
peers = Processes(f"127.0.0.1:{port}", 2, rank, patience=10 if ends == "killed" else 120)
mesh = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(jax.sharding.AxisType.Auto,))
assert jax.device_count() == 2 * jax.local_device_count() == 2
log = made_log(questions=40, samples=8)
table = measure(log, menu(log)[:3], "tokens")
config = PolicyConfig(epochs=2, hidden=(8,), batch=16)
print("met", flush=True)
if ends == "killed":
    while True:
        shared = train(table, config, mesh=mesh)
shared, alone = train(table, config, mesh=mesh), train(table, config)
for name, array in alone.weights.items():
    np.testing.assert_allclose(shared.weights[name], array, atol=1e-5, err_msg=name)
print("alike", flush=True)
"""


def started(ends):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = dict(os.environ, JAX_PLATFORMS="cpu")
    env.pop("XLA_FLAGS", None)  # one device a process
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(port), ends],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=Path(__file__).parents[2],
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.long
def test_processes_train_the_policy_of_one():
    peers = started("well")
    said = [peer.communicate(timeout=600) for peer in peers]
    assert all("alike" in out for out, _ in said), said


@pytest.mark.long
def test_a_training_that_loses_a_process_ends():
    peers = started("killed")
    try:
        assert all(peer.stdout.readline() == "met\n" for peer in peers)
        peers[1].send_signal(signal.SIGKILL)
        peers[0].communicate(timeout=300)
    finally:
        for peer in peers:
            peer.kill()
            peer.communicate()
    assert peers[0].returncode not in (0, None)
