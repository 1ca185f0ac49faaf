"""Programs on eight simulated devices. Their number is fixed when JAX starts, so each runs in a process of its own."""

import os
import re
import subprocess
import sys

FLAG = "--xla_force_host_platform_device_count=8"


def run_on_eight(program: str) -> str:
    """What a program printed."""
    env = dict(os.environ, XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {FLAG}", JAX_PLATFORMS="cpu")
    run = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    return run.stdout


def collectives(program: str) -> set[str]:
    """The kinds of communication between devices in a compiled program."""
    return set(re.findall(r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\S*\(", program))
