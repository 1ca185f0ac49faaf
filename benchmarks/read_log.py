"""Logged samples to a log and to a table, beside what only parses the same file: seconds, memory, and whether it is right.

    python benchmarks/read_log.py --samples=1000000

The samples, 64 a question and source of four sources, have answers, bits, token counts and latencies; `npz` keeps answers and
bits alone, and `monkeys` whole responses of one source, which are graded as numbers. The rival of each format is the library that
parses it (`json.loads` a line, `json.load`, `np.load`, pyarrow), which checks nothing and packs nothing. Seconds are the least of
the repeats; `peak MB` is what one reading in a process of its own takes above its imports (Linux); `right` says whether what was read
equals what was written.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from absl import app, flags

from alloc_jax.logs import read_log, write_log
from alloc_jax.measure import load_table, measure, menu, save_table
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.types import OutcomeTable, SampleLog, Source

FLAGS = flags.FLAGS
flags.DEFINE_integer("samples", 1_000_000, "Samples in all.", lower_bound=256)
flags.DEFINE_integer("repeats", 2, "Calls that are timed.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the samples.")

SOURCES, EACH, ANSWERS = 4, 64, 8
FIELDS = ("prompt_tokens", "completion_tokens", "latency_s")
PEAK = """
import json, sys
from alloc_jax.logs import read_log

def peak():  # kB; getrusage would begin with the peak of the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
read_log(sys.argv[1], **json.loads(sys.argv[2]))
print((peak() - before) / 1000)
"""


def made_log(samples: int, seed: int) -> SampleLog:
    """Questions of all difficulties, with one right answer and seven wrong ones each."""
    rng = np.random.default_rng(seed)
    n = samples // (SOURCES * EACH)
    shape = (n, SOURCES, EACH)
    chance = rng.beta(0.6, 0.6, (n, 1, 1)) ** np.linspace(2, 0.5, SOURCES)[:, None]
    answer = np.where(rng.random(shape) < chance, 0, rng.integers(1, ANSWERS, shape)).astype(np.int32)
    return SampleLog(
        ids=tuple(f"question/{i}" for i in range(n)),
        question=tuple(f"What is {i} times {ANSWERS}, plus a thousand? Say the number alone." for i in range(n)),
        gold=tuple(str(1000 + ANSWERS * i) for i in range(n)),
        group=("products",) * n,
        sources=tuple(Source(f"model-{m}", 1e9 * 2**m) for m in range(SOURCES)),
        answers=tuple(tuple(str(1000 + ANSWERS * i + a) for a in range(ANSWERS)) for i in range(n)),
        count=np.full(shape[:2], EACH, np.int32),
        answer=answer,
        correct=answer == 0,
        prompt_tokens=np.broadcast_to(rng.integers(20, 90, (n, 1, 1)), shape).astype(np.float32),
        completion_tokens=rng.integers(5, 4000, shape).astype(np.float32),
        latency_s=rng.gamma(3.0, 2.0, shape).astype(np.float32),
    )


def said(log: SampleLog) -> np.ndarray:
    """str[N, all samples] the answers as texts."""
    return np.array(
        [np.array(texts)[codes] for texts, codes in zip(log.answers, log.answer.reshape(len(log), -1), strict=True)]
    )


def write_npz(log: SampleLog, path: Path) -> None:
    names = {"question": log.question, "qid": log.ids, "gold": log.gold, "group": log.group}
    arrays = {name: np.array(texts) for name, texts in names.items()}
    arrays |= {"correct": log.correct.astype(np.uint8), "answer": said(log).reshape(log.answer.shape)}
    np.savez_compressed(path, action=np.array([source.name for source in log.sources]), **arrays)


def write_monkeys(log: SampleLog, path: Path) -> None:
    rows = [
        {
            "question": log.question[i],
            "gt_answer": log.gold[i],
            "samples": [f"{'Let us see. ' * 20}So the answer is {text}." for text in texts],
            "is_corrects": log.correct[i].reshape(-1).tolist(),
            "orig_dset_idx": i,
        }
        for i, texts in enumerate(said(log).tolist())
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")


def parse_lines(path: Path) -> list[Any]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def parse_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


# format -> writer, what else only parses it, options of `read_log`, sample fields that it keeps
FORMATS: dict[str, tuple[Callable, Callable, dict[str, str], tuple[str, ...]]] = {
    "jsonl": (write_log, parse_lines, {}, FIELDS),
    "parquet": (write_log, pyarrow.parquet.read_table, {}, FIELDS),
    "npz": (write_npz, parse_npz, {}, ()),
    "monkeys": (write_monkeys, lambda path: json.loads(path.read_bytes()), {"grader": "number"}, ()),
}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """(least seconds, what the last call returned)."""
    seconds, found = [], None
    for _ in range(FLAGS.repeats):
        found = None  # two logs at a time are not what is timed
        start = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), found


def equal(found: SampleLog, log: SampleLog, fields: tuple[str, ...]) -> bool:
    shape = (len(log), -1)
    same = [np.array_equal(found.correct.reshape(shape), log.correct.reshape(shape))]
    same += [np.array_equal(said(found), said(log)), found.question == log.question]
    return all(same + [np.array_equal(getattr(found, name), getattr(log, name)) for name in fields])


def equal_tables(a: OutcomeTable, b: OutcomeTable) -> bool:
    return a.ids == b.ids and a.actions == b.actions and np.array_equal(a.utility, b.utility)


def reading(log: SampleLog, folder: Path) -> list[list[str]]:
    """A row for each format."""
    rows = []
    for name, (write, parse, options, fields) in FORMATS.items():
        path = folder / f"log.{name}"
        write(log, path)
        seconds, found = timed(lambda path=path, options=options: read_log(path, **options))
        right = equal(found, log, fields)
        found = None
        rival, _ = timed(lambda path=path, parse=parse: parse(path))
        peak = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), json.dumps(options)], capture_output=True, text=True, check=True
        )
        size = path.stat().st_size / 1e6
        cells = [f"{size:.0f}", f"{seconds:.2f}", f"{rival:.2f}", f"{seconds / rival:.1f}", f"{float(peak.stdout):.0f}"]
        rows.append([f"read {name}", *cells, "yes" if right else "NO"])
    return rows


def storing(log: SampleLog, folder: Path) -> list[list[str]]:
    """Rows for the table: measured, saved, loaded."""
    actions = menu(log)
    measure(log, actions)  # compiles
    seconds, table = timed(lambda: measure(log, actions, ("samples", "tokens")))
    rows = [["measure", "", f"{seconds:.2f}", "", "", "", ""]]
    for ending in ("npz", "parquet"):
        path = folder / f"table.{ending}"
        save, _ = timed(lambda path=path: save_table(table, path))
        load, found = timed(lambda path=path: load_table(path))
        size = f"{path.stat().st_size / 1e6:.1f}"
        rows.append([f"save table, {ending}", size, f"{save:.2f}", "", "", "", ""])
        rows.append(
            [f"load table, {ending}", size, f"{load:.2f}", "", "", "", "yes" if equal_tables(found, table) else "NO"]
        )
    return rows


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    log = made_log(FLAGS.samples, FLAGS.seed)
    with tempfile.TemporaryDirectory() as folder:
        rows = reading(log, Path(folder)) + storing(log, Path(folder))
    print(f"{log.count.sum():,} samples of {len(log):,} questions; seed {FLAGS.seed}\n")
    print(markdown_table(["what", "MB", "seconds", "parse only", "ratio", "peak MB", "right"], rows))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
