"""Timing, memory and the machine's own speed, for every benchmark here."""

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

GROUPS = 4  # each with a ratio of its own
MARGIN = 1.15  # ranges this far apart, in ratios, may be two runs of one program: memory lies elsewhere
LEAST = 2 * GROUPS  # turns, however long they take


class Cell(NamedTuple):
    """One measured call."""

    first: float  # seconds of the first call, compilation included
    best: float  # seconds of the fastest later call, or of the first where there is no other
    peak: float | None  # bytes that the process took above what it held before; None where the system does not say
    found: object  # what the last call returned


def measured(call, repeats: int) -> Cell:
    """Times a call: the first apart, then `repeats` more, the last of which is watched for its memory."""
    seconds, found, peak = [], None, None
    for turn in range(repeats + 1):
        found = None
        gc.collect()
        before = resident() if turn == repeats else None
        start = time.perf_counter()
        found = jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
        if before is not None:
            peak = max(status("VmHWM") - before, 0)
    return Cell(seconds[0], min(seconds[1:] or seconds), peak, found)


def by_turns(calls: list[Callable[[], object]], seconds: float, least: int = LEAST) -> np.ndarray:
    """Seconds [turns, calls] of warm calls that take turns, so that what slows the machine slows them all."""
    for call in calls:
        jax.block_until_ready(call())
    rows: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(rows) < least or time.perf_counter() < end:
        row = []
        for call in calls:
            start = time.perf_counter()
            jax.block_until_ready(call())
            row.append(time.perf_counter() - start)
        rows.append(row)
    return np.array(rows)


def ratio(seconds: np.ndarray) -> dict[str, float]:
    """Of the turns [turns, 2] of ours and a rival: the ratio of the least times, its range over groups, and our milliseconds."""
    groups = [seconds[i::GROUPS].min(axis=0) for i in range(GROUPS)]
    ratios = [float(ours / theirs) for ours, theirs in groups]
    ours, theirs = seconds.min(axis=0)
    found = {
        "ratio": ours / theirs,
        "low": min(ratios),
        "high": max(ratios),
        "ms": 1e3 * ours,
        "rival_ms": 1e3 * theirs,
    }
    return {name: float(f"{x:.4g}") for name, x in found.items()}


def wider(now: dict[str, float], before: dict[str, float] | None) -> dict[str, float]:
    """A case with the range that it had before as well: one run does not see all the noise of a machine that others use."""
    if before is None:
        return now
    return now | {"low": min(now["low"], before["low"]), "high": max(now["high"], before["high"])}


def verdict(now: dict[str, float], before: dict[str, float] | None) -> str:
    """What a case has become, beyond the noise of both and what one program differs by from run to run."""
    if before is None:
        return "new"
    if now["low"] > MARGIN * before["high"]:
        return "SLOWER"
    return "faster" if MARGIN * now["high"] < before["low"] else "same"


def resident() -> int | None:
    """Bytes the process holds, from where its peak is counted anew; Linux only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would hide what the call takes
        Path("/proc/self/clear_refs").write_text("5")
        return status("VmRSS")
    except (OSError, AttributeError):
        return None


def status(name: str) -> int:
    """Bytes of a line of the process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def read_seconds(size: int, repeats: int) -> float:
    """How long one read of so many bytes takes, from a copy that reads and writes half of them."""
    copied = jnp.zeros(max(size // 8, 1), jnp.float32)
    return measured(partial(jax.jit(lambda x: x + 1), copied), max(repeats, 5)).best


class Counted:
    """Peers of `solve_stream` that count what this process says, and when."""

    def __init__(self, peers):
        self.peers, self.rank, self.count = peers, peers.rank, peers.count
        self.most = self.said = 0  # bytes, at once and together
        self.clock = []  # seconds, when all had said it

    def gather(self, mine):
        size = np.asarray(mine, np.float64).nbytes
        self.most, self.said = max(self.most, size), self.said + size
        everything = self.peers.gather(mine)
        self.clock.append(time.perf_counter())
        return everything


def machine() -> str:
    """The machine in one line."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0].device_kind
    return f"{name}, {cores} cores, device {device!r}, jax {jax.__version__}, Python {platform.python_version()}"


if __name__ == "__main__":
    print(__doc__)
