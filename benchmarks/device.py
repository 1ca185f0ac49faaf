"""What one accelerator does: one command, under ten minutes, JSON out.

    python benchmarks/device.py --json=runs/device.json
    python benchmarks/device.py --sizes=1000,10000 --repeats=2

Tables are drawn on the device. `read` is a plain sum of the same arrays, in the same run: `solve` is aimed at five times that. Milliseconds are
the least of the repeats, compiled and warm; `first` includes compiling. Operations, bytes and temporary memory are the compiler's own
count for one call, and what a loop does is counted once. A size that would not fit into the device's memory, or whose turn would come after `--minutes`, is
named as left out. `gap` is the solution's own certificate: how far below the optimum its mixed plan may be at most.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from harness import machine, measured

from alloc_jax.learn import PolicyConfig, train
from alloc_jax.logs import read_log
from alloc_jax.measure import measure, menu
from alloc_jax.options import help_where_asked
from alloc_jax.solve import frontier, prepare, solve
from alloc_jax.types import AllocationProblem

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["100000", "1000000", "10000000", "100000000"], "Numbers of questions.")
flags.DEFINE_integer("actions", 8, "Actions per question.", lower_bound=2)
flags.DEFINE_integer("points", 64, "Of the gridded frontier.", lower_bound=2)
flags.DEFINE_integer(
    "replicates", 16, "Of the bootstrap of frontiers, on the second size or the only one.", lower_bound=1
)
flags.DEFINE_integer("questions", 2400, "Of the built-in log, for training and the estimators.", lower_bound=100)
flags.DEFINE_integer("epochs", 5, "Of the training.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Warm calls of each.", lower_bound=1)
flags.DEFINE_float("minutes", 8, "No part begins later.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the tables.")
flags.DEFINE_string("json", None, "Where to write the record; it is printed, too.")

COPIES = 4  # of both arrays that a device holds at most: as given, laid out, and as much again for what is computed


@partial(jax.jit, static_argnames=("questions", "actions"))
def drawn(key: jax.Array, questions: int, actions: int) -> tuple[AllocationProblem, jax.Array]:
    """A table of votes of 1, 2, 4, ... samples whose costs differ by question, and a budget."""
    hard, long = jax.random.split(key)
    samples = 2.0 ** jnp.arange(actions, dtype=jnp.float32)[None]
    wrong = jax.random.uniform(hard, (questions, 1)) ** 0.7
    cost = samples * jnp.exp(jax.random.normal(long, (questions, 1)) / 2)
    return AllocationProblem(1 - wrong ** jnp.sqrt(samples), cost), 3 * cost[:, 0].mean()


def memory() -> int:
    """Bytes of the device, or of this machine where the device is its processor."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def counted(program: jax.stages.Wrapped, *args: Any, **options: Any) -> dict[str, float]:
    """What the compiler says of one call."""
    compiled = program.lower(*args, **options).compile()
    cost, held = compiled.cost_analysis() or {}, compiled.memory_analysis()
    found = {"gflop": cost.get("flops", 0) / 1e9, "gb_moved": cost.get("bytes accessed", 0) / 1e9}
    return found | {"gb_temporary": getattr(held, "temp_size_in_bytes", 0) / 1e9}


def timed(call) -> dict[str, float]:
    cell = measured(call, FLAGS.repeats)
    return {"first_s": cell.first, "ms": 1e3 * cell.best}


def solving(questions: int) -> dict[str, Any]:
    """A table of a size: read, laid out, solved, and its frontier."""
    problem, budget = drawn(jax.random.key(FLAGS.seed), questions, FLAGS.actions)
    budget = float(budget)
    total = jax.jit(lambda problem: problem.utility.sum() + problem.cost.sum())
    read = timed(lambda: total(problem))
    prepared = prepare(problem)
    parts = {
        "read": read,
        "prepare": timed(lambda: prepare(problem).utility),
        "solve": timed(lambda: solve(prepared, budget)),
        "frontier": timed(lambda: frontier(prepared, points=FLAGS.points).spend),
    }
    for name, part in parts.items():
        part["reads"] = part["ms"] / read["ms"]
        part["gb_per_s"] = 2 * problem.utility.nbytes / 1e6 / part["ms"]
        parts[name] = part
    whole = jax.jit(lambda problem, budget: solve(problem, budget).multiplier)
    parts["prepare and solve"] = counted(whole, problem, jnp.float32(budget))
    found = solve(prepared, budget)
    assert float(found.spend) <= budget * (1 + 1e-6)
    return {**parts, "gap": float(found.mixed_gap), "status": int(found.status)}


def bootstrapped(questions: int) -> dict[str, Any]:
    """Frontiers of resampled questions, all replicates at once."""
    problem, _ = drawn(jax.random.key(FLAGS.seed), questions, FLAGS.actions)
    key = jax.random.key(FLAGS.seed + 1)

    @jax.jit
    def replicates(problem, key):
        weights = jax.random.poisson(key, 1.0, (FLAGS.replicates, questions)).astype(jnp.float32)

        def one(weight):
            return frontier(prepare(AllocationProblem(problem.utility, problem.cost, weight=weight)), points=9).utility

        return jax.lax.map(one, weights)

    return {
        "replicates": FLAGS.replicates,
        **timed(lambda: replicates(problem, key)),
        **counted(replicates, problem, key),
    }


def learning() -> dict[str, Any]:
    """A policy's training, and the vote estimators."""
    log = read_log("builtin").select(range(FLAGS.questions))
    actions = menu(log, (1, 4, 8, 16))
    votes = timed(lambda: measure(log, actions, "compute").utility)
    table = measure(log, actions, "compute")
    fitted = timed(lambda: train(table, PolicyConfig(epochs=FLAGS.epochs, seed=FLAGS.seed)).weights)
    return {"questions": len(log), "actions": len(actions), "estimators": votes, "training": fitted}


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    sizes, end = [int(float(size)) for size in FLAGS.sizes], time.monotonic() + 60 * FLAGS.minutes
    device = jax.devices()[0]
    about = {
        "device": device.device_kind,
        "platform": device.platform,
        "memory_gb": memory() / 1e9,
        "machine": machine(),
    }
    record: dict[str, Any] = {**about, "seed": FLAGS.seed, "points": FLAGS.points, "solve": {}, "left_out": []}
    parts = [("learning", learning, 0), ("bootstrap", partial(bootstrapped, sizes[min(1, len(sizes) - 1)]), 0)]
    parts[1:1] = [(str(size), partial(solving, size), COPIES * 8 * size * FLAGS.actions) for size in sizes]
    for name, part, held in parts:
        if held > memory() or time.monotonic() > end:
            record["left_out"].append(f"{name}: {'memory' if held > memory() else 'time'}")
            continue
        found = part()
        if held:
            record["solve"][name] = found
        else:
            record[name] = found
        print(f"{name} done, {(end - time.monotonic()) / 60:.1f} minutes left", flush=True)
    text = json.dumps(record, indent=1, default=np.generic.item)
    print(text)
    if FLAGS.json:
        Path(FLAGS.json).parent.mkdir(parents=True, exist_ok=True)
        Path(FLAGS.json).write_text(text + "\n")


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
