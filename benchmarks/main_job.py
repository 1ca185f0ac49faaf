"""The main job on logs of any size: seconds, CPU seconds and memory of each of its stages.

    python benchmarks/main_job.py --questions=10000,100000 --folder=runs/main_job

A log repeats the built-in log: new questions of the same recipe, each with the samples of a built-in question of as many operations, products,
sums, differences and numbers of two digits, so that text tells of them what it tells there. Four sources with 32 samples each make 16 actions.
The job runs in a process of its own, which reads the log from a parquet file. CPU seconds are those of all its threads; the peak is the process's.
"""

import json
import logging
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from absl import app, flags
from harness import machine

from alloc_jax.jobs.solve_then_learn import BUILTIN_BUDGETS, JobConfig, solve_then_learn
from alloc_jax.logs import write_log
from alloc_jax.options import help_where_asked
from alloc_jax.reasoner.arithmetic import DEFAULT_MIX, difficulty, draw_question
from alloc_jax.reasoner.log import builtin_difficulty, builtin_log
from alloc_jax.report.tables import markdown_table
from alloc_jax.types import SampleLog

FLAGS = flags.FLAGS
flags.DEFINE_list("questions", ["10000", "100000"], "Numbers of questions.")
flags.DEFINE_string("folder", None, "Where logs and reports are kept; none: a temporary folder.")
flags.DEFINE_integer("seed", 0, "Seed of the log.")
flags.DEFINE_string("json", None, "Where to write what was measured.")


def enlarged(questions: int, seed: int) -> SampleLog:
    """The built-in log's recipe with so many questions."""
    log, known, rng = builtin_log(), builtin_difficulty(), random.Random(seed)
    alike: dict[tuple[float, ...], list[int]] = {}
    for i, variables in enumerate(known[:, :5]):
        alike.setdefault(tuple(variables.tolist()), []).append(i)
    texts: dict[str, int] = {}
    while len(texts) < questions:
        question = draw_question(rng, DEFAULT_MIX, rng.randint(2, 6))
        if found := alike.get(tuple(map(float, difficulty(question)[:5]))):
            texts.setdefault(question.text, rng.choice(found))
    whole = log.select(list(texts.values()))
    return replace(whole, ids=tuple(f"made-{i:07d}" for i in range(questions)), question=tuple(texts))


class Stages(logging.Handler):
    """Seconds, CPU seconds and the peak so far at the end of every stage that the job names."""

    def __init__(self):
        super().__init__()
        self.found, self.last = [], (time.perf_counter(), 0.0)

    def emit(self, record):
        if str(record.msg).startswith("%-8s %5.1f s"):
            used = resource.getrusage(resource.RUSAGE_SELF)
            now = time.perf_counter(), used.ru_utime + used.ru_stime
            seconds, cpu = (round(b - a, 2) for a, b in zip(self.last, now, strict=True))
            self.found.append(
                {"stage": record.args[0], "s": seconds, "cpu_s": cpu, "peak_gb": round(used.ru_maxrss / 1e6, 2)}
            )
            self.last = now
            print(self.found[-1], file=sys.stderr, flush=True)


def job(path: Path, workdir: Path) -> list[dict]:
    """What every stage took, in this process."""
    stages = Stages()
    logger = logging.getLogger("alloc_jax")
    logger.addHandler(stages)
    logger.setLevel(logging.INFO)
    config = JobConfig(log=str(path), resource="compute", budgets=BUILTIN_BUDGETS)
    solve_then_learn(config, workdir, overwrite=True)
    return stages.found


def measured(questions: int, folder: Path) -> list[dict]:
    """What every stage of the job took on so many questions."""
    path = folder / f"log-{questions}.parquet"
    context = multiprocessing.get_context("spawn")  # a fork would begin with this process's memory
    with context.Pool(1) as pool:
        if not path.exists():
            pool.apply(write_log_of, (questions, FLAGS.seed, path))
    with context.Pool(1) as pool:
        return pool.apply(job, (path, folder / f"report-{questions}"))


def write_log_of(questions: int, seed: int, path: Path) -> None:
    write_log(enlarged(questions, seed), path)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    rows, cases = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(FLAGS.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for questions in map(int, FLAGS.questions):
            stages = measured(questions, folder)
            names = ("s", "cpu_s")
            whole = {name: round(sum(stage[name] for stage in stages), 1) for name in names}
            stages.append({"stage": "all", **whole, "peak_gb": max(stage["peak_gb"] for stage in stages)})
            cases[str(questions)] = stages
            rows += [[f"{questions:g}", *(f"{x}" for x in stage.values())] for stage in stages]
    print(f"{machine()}\n")
    print(markdown_table(["questions", "stage", "seconds", "CPU seconds", "peak so far, GB"], rows))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
