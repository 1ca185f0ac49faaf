"""Stopping rules for many questions: every question its own prior, then a log of votes from paths to rules.

    python benchmarks/sequential.py

Verifier: as many Beta priors as questions, none like another, one backward induction each, beside the same recursion in NumPy; `error` is
the largest difference of a question's value. Votes: a simulated log, walked through once a question, with a prior that makes 16 contexts; one
multiplier is one backward induction and what its rule then spends and earns on all paths, a frontier the indices at 32 multipliers and all
their rules. `utility` stands beside what Adaptive-Consistency (Beta) earns on the same paths at the same spend. First calls compile.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from alloc_jax.evaluate.sequential.replay import Replay, replay
from alloc_jax.evaluate.sequential.stopping_rules import beta_confidence
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.stopping.contexts import make_contexts
from alloc_jax.stopping.induction import best_at, indices, multiplier_grid, root_values
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.stopping.priors import beta_model
from alloc_jax.stopping.states import FOLDS, Lattice, by_context, tallies, waves
from alloc_jax.stopping.thresholds import bars, index_rules, path_index
from alloc_jax.types import SampleLog, Source
from benchmarks.harness import machine

FLAGS = flags.FLAGS
flags.DEFINE_integer("questions", 100_000, "Questions.", lower_bound=200)
flags.DEFINE_integer("cap", 64, "The most samples of a question.", lower_bound=4)
flags.DEFINE_integer("multipliers", 32, "Multipliers of a frontier.", lower_bound=2)
flags.DEFINE_integer("repeats", 2, "Calls that are timed after the first.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the simulated questions.")


def timed(call):
    """(seconds of the first call, least of the others, what the last returned)."""
    seconds, found = [], None
    for _ in range(FLAGS.repeats + 1):
        start = time.perf_counter()
        found = jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:]), found


def numpy_values(alpha: np.ndarray, beta: np.ndarray, cap: int, multiplier: float) -> np.ndarray:
    """f64[N] the same recursion: after n failures the next sample is right with chance alpha / (alpha + beta + n)."""
    value = np.zeros(len(alpha))
    for n in range(cap - 1, -1, -1):
        chance = alpha / (alpha + beta + n)
        on = chance + (1 - chance) * value - multiplier
        value = np.maximum(on, 0) if n else on
    return value


def simulated(questions: int, samples: int, seed: int) -> tuple[SampleLog, np.ndarray]:
    """Votes: right, a favourite wrong answer, a tail of others; and one feature that tells something of the first share."""
    rng = np.random.default_rng(seed)
    easy = rng.random(questions) < 0.5
    share = np.where(easy[:, None], rng.dirichlet([6, 2, 1], questions), rng.dirichlet([0.6, 0.8, 2.5], questions))
    draw = rng.random((questions, 1, samples))
    answer = np.where(draw < share[:, :1, None], 0, np.where(draw < share[:, :2].sum(1)[:, None, None], 1, 2))
    tail = 2 + rng.integers(0, samples, answer.shape)
    answer = np.where(answer == 2, tail, answer).astype(np.int32)
    names = tuple(map(str, range(samples + 2)))
    log = SampleLog(
        ids=tuple(map(str, range(questions))),
        question=("",) * questions,
        gold=("0",) * questions,
        group=(None,) * questions,
        sources=(Source("simulated"),),
        answers=(names,) * questions,
        count=np.full((questions, 1), samples, np.int32),
        answer=answer,
        correct=answer == 0,
    )
    return log, (share[:, :1] + 0.2 * rng.normal(size=(questions, 1))).astype(np.float32)


def verifier_rows() -> list[list[str]]:
    rng = np.random.default_rng(FLAGS.seed)
    alpha, beta = rng.uniform(0.1, 3, (2, FLAGS.questions))
    model = jax.device_put(beta_model(alpha, beta, FLAGS.cap))
    multipliers = np.geomspace(0.5, 0.005, FLAGS.multipliers).astype(np.float32)
    rows = []
    for many in (multipliers[len(multipliers) // 2 :][:1], multipliers):
        first, seconds, (utility, cost) = timed(lambda many=many: root_values(model, jnp.asarray(many)))
        start = time.perf_counter()
        wanted = np.stack([numpy_values(alpha, beta, FLAGS.cap, float(multiplier)) for multiplier in many])
        rival = time.perf_counter() - start
        error = np.abs(np.asarray(utility) - many[:, None] * np.asarray(cost) - wanted).max()
        label = f"verifier, {FLAGS.questions:,} priors, {len(many)} multiplier{'s' if len(many) > 1 else ''}"
        rows.append(
            [label, f"{first:.2f}", f"{seconds:.2f}", f"{rival:.2f} (NumPy, values only)", f"error {error:.0e}"]
        )
    return rows


def vote_rows() -> list[list[str]]:
    log, feature = simulated(FLAGS.questions, FLAGS.cap, FLAGS.seed)
    rows = []

    def add(label, first, seconds, *beside):
        rows.append([label, f"{first:.2f}", f"{seconds:.2f}", *beside, *[""] * (2 - len(beside))])

    first, seconds, paths = timed(lambda: sample_paths(log, "simulated", orders=1, seed=FLAGS.seed))
    add(f"votes: paths of {FLAGS.questions:,} questions x {FLAGS.cap} samples", first, seconds)
    lattice, near = Lattice.of("vote", FLAGS.cap), make_contexts(feature, len(log), 16)
    may_stop = waves(FLAGS.cap, 1, None)[1]

    def expected():
        parts = tallies(paths, lattice, near.of, len(near.center), FOLDS)
        return by_context(parts, near.nearness, None).model(lattice.successor, may_stop)

    first, seconds, model = timed(expected)
    add(
        f"votes: expectations of {len(near.center)} contexts x {lattice.states} states x {FLAGS.cap} layers",
        first,
        seconds,
    )
    model = jax.device_put(model)
    multiplier = jnp.float32(0.004)
    at_multiplier = jax.jit(lambda multiplier: best_at(model, multiplier))

    def one():
        _, _, gain, extra = at_multiplier(multiplier)
        draws = np.where(may_stop[None, :, None], np.asarray(gain - multiplier * extra), np.inf)
        return Replay(paths, bars(path_index(draws, lattice, paths, near.of))).outcome(0.0)

    confident = replay(beta_confidence, paths)
    rival = confident.rules()
    first, seconds, outcome = timed(one)
    spend, utility = outcome.cost.mean(), outcome.utility.mean()
    against = f"utility {utility:.4f} at {spend:.2f}; {np.interp(spend, rival.spend, rival.utility):.4f}"
    add("votes, one multiplier: backward induction, spend and utility on all paths", first, seconds, "", against)

    def frontier():
        index = np.asarray(indices(model, multiplier_grid(model, FLAGS.multipliers)))
        return index_rules(bars(path_index(index, lattice, paths, near.of)), paths)

    first, seconds, found = timed(frontier)
    ahead = [np.interp(4, x.spend, x.utility) for x in (found, rival)]
    add(
        f"votes, frontier of {FLAGS.multipliers} multipliers: indices, and all {len(found.spend):,} rules on all paths",
        first,
        seconds,
        "",
        f"utility {ahead[0]:.4f} at 4.00; {ahead[1]:.4f}",
    )
    return rows


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    print(machine(), "\n")
    header = ["what", "first call s", "s", "rival s", "quality (votes: index; Adaptive-Consistency)"]
    print(markdown_table(header, [*verifier_rows(), *vote_rows()]))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
