"""One decision: how long a question waits for its action, in NumPy as served and in JAX, and whether both agree.

    python benchmarks/decision.py

A policy of the default size is trained for a moment on the built-in log (its quality changes no time) and decides on questions it has not
seen, one by one and in batches. Times are medians and 99th percentiles of a decision, in microseconds, text to action; `network` leaves the
features out. JAX runs the exported program, its batch sizes compiled before. `same` is the share of the decisions that are NumPy's.
"""

import sys
import time

import jax
import numpy as np
from absl import app, flags

from alloc_jax.learn import PolicyConfig, export_policy, train
from alloc_jax.logs import read_log
from alloc_jax.measure import measure, menu
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.serve import allocator

FLAGS = flags.FLAGS
flags.DEFINE_integer("decisions", 1000, "Questions that are decided.", lower_bound=10)
flags.DEFINE_integer("batch", 100, "Questions in a batch.", lower_bound=2)
flags.DEFINE_integer("epochs", 3, "Of the training.", lower_bound=1)
flags.DEFINE_float("budget", 1.0, "Mean cost a question, in compute.", lower_bound=0)


def timed(decide, parts) -> tuple[np.ndarray, np.ndarray]:
    """The actions of all parts, and the seconds each took; the first call is made twice and counted once."""
    decide(parts[0])
    actions, seconds = [], []
    for part in parts:
        start = time.perf_counter()
        actions.append(np.asarray(decide(part)))
        seconds.append(time.perf_counter() - start)
    return np.concatenate([np.atleast_1d(action) for action in actions]), np.array(seconds)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    log = read_log("builtin")
    seen = log.select(range(1000))
    table = measure(seen, menu(log, (1, 4, 8, 16)), "compute")
    policy = train(table, PolicyConfig(epochs=FLAGS.epochs))
    serve = allocator(policy, FLAGS.budget)
    multiplier = np.float32(serve.multiplier.mean)
    program = jax.jit(jax.export.deserialize(bytearray(export_policy(policy))).call)
    texts = list(log.question[1000 : 1000 + FLAGS.decisions])
    encode, members = policy.featurizer.encode, len(policy.weights["Dense_0/kernel"])

    def numpy_network(features):
        return policy.predict_features(features).best_response(multiplier)

    def jax_network(features):
        score, cost = program(features)
        return np.argmax(np.asarray(score) - multiplier * np.asarray(cost), axis=1)

    one = [[text] for text in texts]
    many = [texts[at : at + FLAGS.batch] for at in range(0, len(texts) - FLAGS.batch + 1, FLAGS.batch)]
    named = {name: i for i, name in enumerate(policy.actions)}
    rows, reference = [], numpy_network(encode(texts))
    rules = [
        ("features alone", 1, lambda part: encode(part)[:, 0], one),
        ("allocator.choose", 1, lambda part: named[serve.choose(part[0]).action], one),
        ("numpy network", 1, numpy_network, [encode(part) for part in one]),
        ("jax network", 1, jax_network, [encode(part) for part in one]),
        ("numpy, features and network", FLAGS.batch, lambda part: numpy_network(encode(part)), many),
        ("numpy network", FLAGS.batch, numpy_network, [encode(part) for part in many]),
        ("jax network", FLAGS.batch, jax_network, [encode(part) for part in many]),
    ]
    for name, size, decide, parts in rules:
        encode.__globals__["_encode"].cache_clear()  # no question is encoded before its turn
        actions, seconds = timed(decide, parts)
        microseconds = 1e6 * seconds / size
        same = "" if name.startswith("features") else f"{np.mean(actions == reference[: len(actions)]):.4f}"
        middle, late = np.percentile(microseconds, [50, 99])
        rows.append([name, str(size), f"{middle:.0f}", f"{late:.0f}", same])
    print(f"{policy.featurizer.width} features, {members} members, {len(policy.actions)} actions\n")
    print(markdown_table(["what", "batch", "median, us", "99 %, us", "same"], rows))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
