"""The job behind solve_distributed: a stored table of any length, by any number of processes, to a plan on disk."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alloc_jax.files.parquet import parquet
from alloc_jax.jobs.workdir import stamp
from alloc_jax.logs.write import new_file
from alloc_jax.measure.blocks import TableBlocks
from alloc_jax.solve.streaming.bracketing import HostBracket
from alloc_jax.solve.streaming.processes import Peers, flat, in_form
from alloc_jax.solve.streaming.several import HostDescent
from alloc_jax.solve.streaming.stream import StreamSolution, solve_stream

_LOG = logging.getLogger(__name__)
CHECKPOINT, SUMMARY = "checkpoint.json", "summary.json"


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """What is solved."""

    table: tuple[str, ...]  # parquet files of `save_table`, the parts of one table in order
    budget: tuple[float, ...]  # allowed mean cost per question of each resource
    rows: int = 2**18  # the most questions of a block; memory is a few blocks


def solve_table(config: StreamConfig, workdir: str | Path, peers: Peers, overwrite: bool = False) -> StreamSolution:
    """Solve a stored table; every process calls it with the same arguments and reads its part of the row groups.

    Process 0 writes config.json, stamp.json, after every pass checkpoint.json, and at the end summary.json. Each process
    writes the plan of its own questions, plan-I-of-N.parquet: no array of the table's length crosses the network. A run that
    ended before its summary is taken up where checkpoint.json says, with any number of processes.

    Raises:
      ValueError: the table, the budget or the folder; see `TableBlocks` and `solve_stream`.
      ConnectionError: another process is gone.
    """
    workdir = Path(workdir)
    if (workdir / SUMMARY).exists() and not overwrite:
        raise ValueError(
            f"workdir {workdir} holds a finished run: choose another folder, or replace it with --overwrite"
        )
    blocks = TableBlocks(config.table, rows=config.rows, shard=(peers.rank, peers.count))
    if len(config.budget) != len(blocks.resources):
        raise ValueError(f"{len(config.budget)} budgets for the resources {', '.join(blocks.resources)}: one each")
    asked = {"table": list(config.table), "questions": blocks.table_questions, "budget": list(config.budget)}
    peers.gather(np.zeros(1))  # nobody deletes what another has yet to look for
    workdir.mkdir(parents=True, exist_ok=True)
    resume = None
    if peers.rank == 0:
        (workdir / SUMMARY).unlink(missing_ok=True)
        resume = _checkpoint(workdir / CHECKPOINT, asked)
        for name, content in (("config.json", asdict(config)), ("stamp.json", stamp())):
            _write(workdir / name, content)
        _LOG.info("%d questions in %d processes", blocks.table_questions, peers.count)

    def save(search: HostBracket | HostDescent) -> None:
        _write(workdir / CHECKPOINT, {**asked, "passes": search.passes, "search": flat(search).tolist()})
        _LOG.info("pass %d: %s", search.passes, search.progress)

    solution = solve_stream(blocks, config.budget, peers=peers, resume=resume, save=save)
    _write_plan(workdir / f"plan-{peers.rank}-of-{peers.count}.parquet", solution, blocks)
    peers.gather(np.zeros(1))  # every part is in its place
    if peers.rank == 0:
        _write(workdir / SUMMARY, {**_numbers(solution), "actions": blocks.actions, "parts": peers.count})
        (workdir / CHECKPOINT).unlink(missing_ok=True)
    return solution


def _checkpoint(path: Path, asked: dict) -> HostBracket | HostDescent | None:
    """The search to go on from; None where no run was cut short."""
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    search, passes = found.pop("search"), found.pop("passes")
    if found != asked:
        raise ValueError(f"{path} is of another run, {found}: choose another workdir, or delete it to begin anew")
    _LOG.info("resumed after pass %d", passes)
    resources = len(asked["budget"])
    return in_form(np.asarray(search), HostBracket.form() if resources == 1 else HostDescent.form(resources))


def _write_plan(path: Path, solution: StreamSolution, blocks: TableBlocks) -> None:
    """One row per question: the place of its action among the table's actions."""
    module = parquet()
    import pyarrow as pa

    kind = pa.uint8() if len(blocks.actions) <= 256 else pa.int32()
    with (
        new_file(path) as part,
        module.ParquetWriter(part, pa.schema([("action", kind)]), compression="zstd") as writer,
    ):
        for action in solution.plan(blocks):
            writer.write_table(pa.table({"action": pa.array(action, kind)}))


def _numbers(solution: StreamSolution) -> dict:
    names = ("multiplier", "spend", "utility", "dual_value", "gap", "mixed_spend", "mixed_utility", "mixed_gap")
    mixed = {name: np.asarray(getattr(solution.mixed, name)).tolist() for name in ("question", "other", "probability")}
    return {
        **{name: np.asarray(getattr(solution, name)).tolist() for name in names},
        "mixed": mixed,
        "status": solution.status.name,
        "questions": solution.questions,
        "passes": solution.passes,
    }


def _write(path: Path, content) -> None:
    with new_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
