"""Commands of `alloc` that serve, each in a process of its own, for as long as a block lasts."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

PATIENCE_S = 120.0  # until a server is up
KEYS = ("OPENAI_API_KEY", "ALLOC_CLIENT_KEY", "ALLOC_ADMIN_KEY")  # that servers read; here nobody needs one

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # to this machine, by way of no proxy


@contextmanager
def started(command: str, *options: str) -> Iterator[str]:
    """The address of a command of `alloc` that serves until the block ends; it is printed before it starts.

    Raises:
      ValueError: it does not come up; the message is its last line.
    """
    port = free_port()
    arguments = [command, *options, f"--port={port}"]
    print(f"alloc {shlex.join(arguments)}", flush=True)
    quiet = os.environ | dict.fromkeys(KEYS, "")
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, "-m", "alloc_jax", *arguments], stdout=said, stderr=said, env=quiet)
        try:
            yield _once_up(process, f"http://127.0.0.1:{port}", command, said)
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _once_up(process: subprocess.Popen, url: str, command: str, said: IO[str]) -> str:
    """The address, once a server answers there."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), direct.open(f"{url}/health", timeout=5):
            return url
        time.sleep(0.1)
    said.seek(0)
    lines = said.read().strip().splitlines() or ["it said nothing"]
    raise ValueError(f"alloc {command} is not up: {lines[-1]}")
