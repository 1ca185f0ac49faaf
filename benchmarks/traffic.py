"""A week of decisions, evaluated off-policy: how long it takes, and whether the estimate is right.

    python benchmarks/traffic.py
    python benchmarks/traffic.py --decisions=100000 --actions=12

Decisions of a live policy that explores are made up, with their verdicts, so that what a candidate would earn is known. Timed is everything after
the log is in memory: the candidate's multiplier, its accuracy and spend with clustered intervals, and whether the log shows what it would do.
The first call compiles. CPU seconds are those of all cores, and what counts on a machine that does other things, too.
"""

import sys
import time

import numpy as np
from absl import app, flags

from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.traffic.off_policy import METHODS, evaluate_traffic
from alloc_jax.learn.calibration import Prediction
from alloc_jax.logs.traffic import Traffic
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_integer("decisions", 1_000_000, "That are logged.", lower_bound=1000)
flags.DEFINE_integer("actions", 8, "Among which was chosen.", lower_bound=2)
flags.DEFINE_float("exploration", 0.1, "Share of the decisions that are drawn evenly.", 0.01, 1.0)
flags.DEFINE_integer("repeats", 3, "Evaluations after the first.", lower_bound=1)


def made(decisions: int, count: int, exploration: float) -> tuple[Traffic, Prediction, np.ndarray]:
    """A log, what a candidate predicts of it, and the chance f[N, K] that each action was right."""
    rng = np.random.default_rng(0)
    ease = rng.normal(0.2, 1.2, (decisions, 1))
    right = 1 / (1 + np.exp(-np.linspace(0.6, 1.9, count) * ease))
    cost = np.tile(2.0 ** np.arange(count) / 4, (decisions, 1)).astype(np.float32)
    live, candidate = (np.float32(right + size * rng.normal(size=right.shape)) for size in (0.15, 0.05))
    best = (live - 0.02 * cost).argmax(axis=1)
    behaviour = np.full(right.shape, exploration / count, np.float32)
    behaviour[np.arange(decisions), best] += 1 - exploration
    action = np.where(rng.random(decisions) < exploration, rng.integers(count, size=decisions), best)
    rows = np.arange(decisions)
    traffic = Traffic(
        actions=tuple(f"vote(m,{k})" for k in range(count)), action=action.astype(np.int32), behaviour=behaviour,
        utility=live, cost=cost, allowed=np.ones(right.shape, bool), spent=cost[rows, action].astype(float),
        reward=(rng.random(decisions) < right[rows, action]).astype(float), session=rows // 5,
        multiplier=np.full(decisions, 0.02),
    )  # fmt: skip
    return traffic, Prediction(candidate, cost), right


def percent(interval: Interval) -> Interval:
    """In points."""
    return Interval(100 * interval.value, 100 * interval.low, 100 * interval.high)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    traffic, candidate, right = made(FLAGS.decisions, FLAGS.actions, FLAGS.exploration)
    budget = float(np.median(traffic.cost[0]))
    rows = []
    for method in METHODS:
        seconds, busy = [], []
        for _ in range(1 + FLAGS.repeats):
            start, before = time.perf_counter(), time.process_time()
            found = evaluate_traffic(traffic, candidate, budget, method)
            seconds.append(time.perf_counter() - start)
            busy.append(time.process_time() - before)
        bests = [candidate.best_response(m) for m in found.multiplier]
        low, high = (right[np.arange(len(traffic)), best].mean() for best in bests)
        truth = found.weight * low + (1 - found.weight) * high
        rows.append(
            [method, f"{seconds[0]:.2f}", f"{min(seconds[1:]):.2f}", f"{min(busy[1:]):.2f}", f"{percent(found.accuracy):.2f}",
             f"{100 * truth:.2f}", f"{found.spend:.3f}", f"{found.effective:.0f}"]
        )  # fmt: skip
    print(
        f"{len(traffic)} decisions among {FLAGS.actions} actions, budget {budget:g}, exploration {FLAGS.exploration:g}\n"
    )
    header = ["method", "first, s", "later, s", "of CPU, s", "accuracy, %", "truth, %", "spend", "effective size"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
