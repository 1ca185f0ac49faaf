"""The folder of a run: it appears whole or not at all, and never replaces another unasked."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

import alloc_jax
from alloc_jax.measure.store import versions
from alloc_jax.report.pictures.style import pyplot


@contextmanager
def new_workdir(path: str | Path, config: dict, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write a run into, moved to its place when the block ends well and removed when it does not.

    It holds config.json and stamp.json from the start.

    Args:
      path: where the run goes.
      config: what the run was asked for; plain values, or NumPy's.
      overwrite: whether an earlier run there may be replaced.

    Raises:
      ValueError: the place is taken (and overwrite is not set), is a file, or cannot be written.
      ImportError: there is nothing to draw with; said before the work, as every run ends with pictures.
    """
    pyplot()
    path = Path(path)
    if path.is_file():
        raise ValueError(f"workdir {path} is a file")
    if path.is_dir() and any(path.iterdir()):
        if not (path / "stamp.json").is_file():
            raise ValueError(f"workdir {path} holds other files than a run's: choose an empty or a new folder")
        if not overwrite:
            raise ValueError(f"workdir {path} holds another run: choose another folder, or replace it with --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
    try:
        (scratch / "config.json").write_text(json.dumps(config, indent=2, default=np.generic.item) + "\n")
        (scratch / "stamp.json").write_text(json.dumps(stamp(), indent=2) + "\n")
        yield scratch
        scratch.chmod(0o755)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(scratch, path)
    except BaseException:  # Ctrl-C too: nothing half-written stays behind
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def provenance(folder: Path, config: Any) -> dict[str, str]:
    """What a run was made with, for its reader: the command, its configuration, and what the stamp in its folder says."""
    made = json.loads((folder / "stamp.json").read_text())
    found = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "configuration": ", ".join(
            f"{name}={value}" for name, value in asdict(config).items() if value not in (None, "", ())
        ),
        "alloc_jax": alloc_jax.__version__,
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        "device": made["device"],
    }
    return found | ({"commit": made["commit"]} if made["commit"] else {})


def stamp() -> dict:
    """What a run was made with: versions, device, commit."""
    packages = ("alloc_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "versions": {"python": platform.python_version(), **versions(*packages)},
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind} x {jax.device_count()}",
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout this package runs from; None for an installed wheel or where git is not there."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        said = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None
