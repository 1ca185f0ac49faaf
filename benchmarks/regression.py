"""What has become slower than it was, in units of a rival that runs beside it.

    python benchmarks/regression.py
    python benchmarks/regression.py --sizes=1000000 --seconds=20
    python benchmarks/regression.py --write

A case is a call of ours and a rival's on the same arrays, compiled and warm, called by turns in one process until the seconds are
over. What both are given is there before the clock starts, and their answers are compared first. `ratio` is the least time of
ours in units of the rival's least: below 1 we are faster. The turns are dealt into groups, each with a ratio of its own, and the lowest and
highest of those are the case's range. A case is slower (or faster) where its range lies wholly above (or below) the one in
`baseline.json`, by more than 15 %, which a ratio carries from one machine to another better than a time would. Where one is slower, the exit status is 1.
`--write` puts what was measured into the baseline and widens its ranges, so that several runs tell how much a machine with other work
varies (delete the file to start anew); `--json` writes it elsewhere. Cases of a rival that is not installed are left out.
"""

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from harness import by_turns, machine, ratio, verdict, wider
from instances import FAMILIES, instance

from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.solve import frontier, prepare, solve
from alloc_jax.types import AllocationProblem

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["1000", "10000", "100000"], "Numbers of questions.")
flags.DEFINE_list("families", list(FAMILIES), "Instances: smooth, tied.")
flags.DEFINE_float("seconds", 4, "For each case.", lower_bound=0.1)
flags.DEFINE_integer("actions", 8, "Actions per question.", lower_bound=2)
flags.DEFINE_string("json", None, "Where to write what was measured.")
flags.DEFINE_bool("write", False, "Put what was measured into the baseline.")

BASELINE = Path(__file__).with_name("baseline.json")


def same(mine: float, theirs: float, what: str) -> None:
    """Raises where two answers differ by more than float32 explains."""
    if abs(mine - theirs) > 1e-5 * abs(theirs):
        raise AssertionError(f"{what}: {mine} and {theirs} are no one answer")


def cases(family: str, questions: int):
    """(what, rival, our call, its call) of every case at a size, their answers compared."""
    utility, cost, budget = instance(family, questions, FLAGS.actions, 0)
    problem = jax.device_put(AllocationProblem(utility, cost))
    prepared = prepare(problem)
    jitted = jax.jit(solve)
    own = partial(solve, prepared, budget)
    best = float(own().mixed_utility)
    same(float(jitted(problem, budget).mixed_utility), best, "jit(solve)")
    yield "jit(solve)", "prepare + solve", lambda: jitted(problem, budget), lambda: solve(prepare(problem), budget)
    yield "64 points", "exact frontier", lambda: frontier(prepared, points=64).spend, lambda: frontier(prepared).spend
    if importlib.util.find_spec("numba") is None:
        return
    import numba_rivals

    rival = partial(numba_rivals.radix_selection, utility, cost, budget)
    same(best, rival()[4], "radix selection")
    yield "solve", "numba radix selection", own, rival
    yield "prepare + solve", "numba radix selection", lambda: solve(prepare(problem), budget), rival
    rival = partial(numba_rivals.sorted_frontier, utility, cost)
    spend, value, _ = rival()
    for at in np.linspace(spend[0], spend[-1], 7)[1:-1]:
        same(float(frontier(prepared).value(at)), float(np.interp(at, spend, value)), "frontier")
    yield "exact frontier", "numba frontier", lambda: frontier(prepared).spend, lambda: rival()[0]
    yield "prepare + exact frontier", "numba frontier", lambda: frontier(prepare(problem)).spend, lambda: rival()[0]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    baseline = json.loads(BASELINE.read_text())["cases"] if BASELINE.exists() else {}
    found, rows = {}, []
    for family in FLAGS.families:
        for size in map(int, FLAGS.sizes):
            for what, rival, own, its in cases(family, size):
                name = f"{what} / {rival}, {family} {size}"
                now = found[name] = ratio(by_turns([own, its], FLAGS.seconds))
                before = baseline.get(name)
                spans = [f"{x['ratio']:.2f} ({x['low']:.2f} to {x['high']:.2f})" if x else "" for x in (now, before)]
                rows.append([what, rival, family, f"{size:g}", f"{now['ms']:.2f}", f"{now['rival_ms']:.2f}", *spans])
                rows[-1].append(verdict(now, before))
                print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
    print(f"{machine()}\n")
    header = ["what", "rival", "data", "N", "ms", "rival's ms", "ratio (range)", "baseline", "beyond noise"]
    print(markdown_table(header, rows))
    record = json.dumps({"machine": machine(), "cases": found}, indent=1) + "\n"
    if FLAGS.json:
        Path(FLAGS.json).write_text(record)
    if FLAGS.write:
        merged = baseline | {name: wider(now, baseline.get(name)) for name, now in found.items()}
        BASELINE.write_text(json.dumps({"machine": machine(), "cases": merged}, indent=1) + "\n")
    elif any(row[-1] == "SLOWER" for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
