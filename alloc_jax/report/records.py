"""Reports as records for machines: one line of JSON for every rule and budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from alloc_jax.evaluate.scoring import Report


def write_metrics(path: Path, reports: Mapping[str, Report]) -> None:
    """Writes the rows of reports as JSON lines, each with the name of its report where that has one."""
    with path.open("w") as lines:
        for name, report in reports.items():
            for row in report.rows:
                kept = {key: value for key, value in asdict(row).items() if key not in ("plan", "excess")}
                print(json.dumps(({"of": name} if name else {}) | _plain(kept), allow_nan=False), file=lines)


def _plain(value):
    """Nested dictionaries and numbers as JSON has them: what is not a number is null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str):
        return value
    return float(value) if np.isfinite(value) else None
