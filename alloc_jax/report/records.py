"""Reports as records for machines: one line of JSON, or of a table, for every rule and budget."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.evaluate.scoring import Report

CITATION = """@article{zhai2026adaptive,
  title = {Adaptive Test-Time Compute Allocation for Reasoning {LLM}s via Constrained Policy Optimization},
  author = {Zhai and Li and Xiao and Li and Wang},
  journal = {arXiv preprint arXiv:2604.14853},
  year = {2026}
}
@software{alloc_jax,
  title = {alloc_jax: budgeted test-time compute for reasoning language models},
  author = {{The alloc_jax authors}},
  note = {implements arXiv:2604.14853 and goes past it}
}
"""


def write_metrics(path: Path, reports: Mapping[str, Report]) -> None:
    """Write the rows of reports as JSON lines, each with the name of its report where that has one."""
    with path.open("w") as lines:
        for name, report in reports.items():
            for row in report.rows:
                kept = asdict(replace(row, plan=None, outcome=None))
                for name_of_many in ("plan", "outcome", "excess"):
                    del kept[name_of_many]
                print(json.dumps(({"of": name} if name else {}) | _plain(kept), allow_nan=False), file=lines)


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as a table with a header; what is unknown is empty."""
    if not records:
        return ""
    text = io.StringIO()
    table = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    return text.getvalue()


def _plain(value):
    """Nested dictionaries and numbers as JSON has them: what is not a number is null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str):
        return value
    return float(value) if np.isfinite(value) else None
