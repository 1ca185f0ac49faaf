"""Whether a change has made the package slower: two checkouts of it by turns, a process each, in one run.

    git worktree add ../before REV
    python benchmarks/checkouts.py --before=../before --after=. --rounds=24

Prints, for each task, the least wall and CPU seconds of both, the ratio of the least times (after / before) with its range over two halves of
the rounds, and the median of the rounds' ratios. On a busy machine CPU seconds say more. Only names that both checkouts have are used.
"""

import os
import subprocess
import sys
import time

import numpy as np
from absl import app, flags

HERE = "--worker"
FLAGS = flags.FLAGS
flags.DEFINE_string("before", None, "Folder of the older checkout.")
flags.DEFINE_string("after", ".", "Folder of the newer checkout.")
flags.DEFINE_integer("rounds", 24, "Rounds; in each, both do every task.", 2)


def tasks() -> dict:
    """What is timed, from the checkout that this process imports: calls, and how often each is called at a time."""
    import jax
    from instances import FAMILIES, instance, several

    import alloc_jax as aj
    from alloc_jax.solve import frontier, prepare, solve

    def timed(call, *args, times=2, **options):
        return lambda: jax.block_until_ready(call(*args, **options)), times

    found = {}
    for family in FAMILIES:
        for questions in (10_000, 100_000):
            utility, cost, budget = instance(family, questions, 8, 0)
            problem = aj.AllocationProblem(utility, cost)
            prepared = prepare(problem)
            often = 500_000 // questions
            found[f"prepare, {family}, {questions}"] = timed(prepare, problem, times=often)
            found[f"solve, {family}, {questions}"] = timed(solve, prepared, budget, times=often)
        found[f"exact frontier, {family}, {questions}"] = timed(frontier, prepared)
        found[f"64 points, {family}, {questions}"] = timed(frontier, prepared, points=64)
        arrays = aj.AllocationProblem(jax.numpy.asarray(utility), jax.numpy.asarray(cost))
        found[f"jit(solve), {family}, {questions}"] = timed(jax.jit(solve), arrays, budget, times=3)
        for resources in (2, 4):
            utility, cost, budgets = several(family, 10_000, 8, resources, 0)
            prepared = prepare(aj.AllocationProblem(utility, cost))
            found[f"{resources} resources, {family}, 10000"] = timed(solve, prepared, budgets)
    log = aj.read_log("builtin").select(np.arange(400))
    found["stopping rules of 400 questions"] = timed(aj.solve_sequential, log, "large/think", cap=8, times=1)
    found["12 actions measured on 400 questions"] = timed(
        aj.measure, log, aj.menu(log, votes=(1, 4, 8)), "samples", times=1
    )
    return found


def work() -> None:
    """Does the tasks that are named, one a line, and says how long they took."""
    found = tasks()
    for call, _ in found.values():
        call(), call()
    print("ready", *found, sep="|", flush=True)
    for line in sys.stdin:
        call, times = found[line.rstrip("\n")]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            call()
        print((time.perf_counter() - wall) / times, (time.process_time() - cpu) / times, flush=True)


def started(folder: str) -> subprocess.Popen:
    folder = os.path.abspath(folder)
    paths = {"PYTHONPATH": os.pathsep.join([folder, os.path.join(folder, "benchmarks")])}
    command = [sys.executable, os.path.abspath(__file__), HERE]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | paths)


def main(argv):
    if not FLAGS.before:
        raise SystemExit("name the older checkout: --before=FOLDER")
    both = [started(FLAGS.before), started(FLAGS.after)]
    names, _ = (worker.stdout.readline().strip().split("|")[1:] for worker in both)
    seconds = np.zeros((len(names), 2, FLAGS.rounds, 2))  # wall and CPU
    for turn in range(FLAGS.rounds):
        for task, name in enumerate(names):
            for i in (0, 1) if turn % 2 else (1, 0):
                print(name, file=both[i].stdin, flush=True)
                seconds[task, i, turn] = list(map(float, both[i].stdout.readline().split()))
    for name, (before, after) in zip(names, seconds, strict=True):
        for k, kind in enumerate(("wall", "CPU")):
            old, new = before[:, k], after[:, k]
            halves = sorted(new[h::2].min() / old[h::2].min() for h in (0, 1))
            print(
                f"{name}: {kind} {1e3 * old.min():.2f} -> {1e3 * new.min():.2f} ms, x{new.min() / old.min():.2f}"
                f" [{halves[0]:.2f}, {halves[1]:.2f}], median x{np.median(new / old):.2f}"
            )
    for worker in both:
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    if HERE in sys.argv:
        sys.exit(work())  # of a checkout that may have no such help

    from alloc_jax.options import help_where_asked

    help_where_asked(sys.modules[__name__])
    app.run(main)
