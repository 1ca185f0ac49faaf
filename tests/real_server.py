"""`transformers serve` on the exported reasoner, from an environment of its own.

torch does not belong into the environment of the tests. Make another one, once:

    python3 -m venv .venv-serving
    .venv-serving/bin/pip install torch==2.13.0
    .venv-serving/bin/pip install 'transformers[serving]'

torch first, and pinned: else pip takes several GB of what only GPUs need. ALLOC_SERVING_PYTHON names its interpreter
where it lies elsewhere.
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("ALLOC_SERVING_PYTHON", ROOT / ".venv-serving/bin/python"))


def needs_server():
    """Skips the test where there is no such environment."""
    command = PYTHON.parent / "transformers"
    if not command.is_file():
        pytest.skip(f"no transformers[serving] at {command.parent}: tests/real_server.py says how to install it")


@contextmanager
def real_server(folder: Path, cache: Path):
    """The base URL of a server that has loaded a folder; the model is named as the folder is given."""
    cache.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [PYTHON.parent / "transformers", "serve", folder, "--host", "127.0.0.1", "--port", str(port)]
    with open(cache / "server.log", "w") as log:
        server = subprocess.Popen([*command, "--device", "cpu"], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert server.poll() is None, (cache / "server.log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=20)
