"""Tools themselves, from an environment of their own: lm-eval and Inspect against the built-in reasoner, LiteLLM, LangChain and
Anthropic's client against the gateway.

Their dependencies contradict those of the tests. Make another environment, once (1 GB, without torch):

    python3 -m venv .venv-tools
    .venv-tools/bin/pip install 'lm-eval[api]' inspect-ai openai litellm langchain-openai anthropic

ALLOC_TOOLS_PYTHON names its interpreter where it lies elsewhere.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("ALLOC_TOOLS_PYTHON", ROOT / ".venv-tools/bin/python"))
MODEL = "small"


def needs_tool(name: str) -> Path:
    """The command of a tool; skips the test where there is none."""
    command = PYTHON.parent / name
    if not command.is_file():
        pytest.skip(f"no {name} at {command.parent}: tests/real_tools.py says how to install it")
    return command


def needs_package(name: str) -> Path:
    """The interpreter that has a package; skips the test where there is none."""
    if (
        not PYTHON.is_file()
        or subprocess.run(
            [PYTHON, "-c", f"import importlib.util as u; u.find_spec({name!r}).name"], capture_output=True
        ).returncode
    ):
        pytest.skip(f"no {name} for {PYTHON}: tests/real_tools.py says how to install it")
    return PYTHON


@contextmanager
def reasoner(folder: Path):
    """The base URL of the built-in reasoner behind the OpenAI protocol, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "alloc_jax", "reasoner", f"--size={MODEL}", f"--port={port}"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, cwd=ROOT, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=20)


def run(command: list, folder: Path, **environment: str) -> None:
    """Runs a tool in a folder, offline, with its caches there; its last words are the error where it fails."""
    caches = {name: str(folder / "cache") for name in ("HF_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HOME")}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {"PATH": os.environ["PATH"], **caches, **offline, **environment}
    said = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, f"{said.stdout[-1500:]}\n{said.stderr[-2500:]}"
