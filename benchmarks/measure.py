"""From samples to a table: the exact votes beside what a user could do instead, and a million samples end to end.

    python benchmarks/measure.py

The first table gives questions a second, each with its standard error where the rival has one, on questions of which no two
are alike (in a real log many are, and are computed once). `error` is the largest distance from float64. A Monte Carlo of T
draws errs by 1 / sqrt(T): its last columns say how many draws, and at its measured speed how many questions a second, it
would take to err by a tenth of the standard error that the samples leave anyway, and to err as little as the exact votes.
Enumeration is timed on as many subsets as stated, and its speed scaled to all of them. Times are the least of the repeats,
after a first call that is not counted. The second table follows the samples of the built-in reasoner.
"""

import itertools
import math
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from absl import app, flags

from alloc_jax.actions import abstain, parse_actions, vote
from alloc_jax.logs import read_log, write_log
from alloc_jax.measure import measure, menu
from alloc_jax.measure.estimators.choice import estimate_actions
from alloc_jax.measure.estimators.u_statistics import Pairs
from alloc_jax.measure.estimators.vote_kernel import log_binomial, vote_nodes
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_list("cases", ["64:16:2000:200", "1000:256:16:8"], "n:k:questions:questions of the slow rivals.")
flags.DEFINE_integer("draws", 2000, "Monte Carlo draws that are timed.", lower_bound=10)
flags.DEFINE_integer("subsets", 100_000, "Subsets whose enumeration is timed.", lower_bound=10)
flags.DEFINE_integer("repeats", 3, "Calls that are timed.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the simulated samples.")


def simulated(questions: int, n: int, seed: int) -> Pairs:
    """Questions with up to 40 answers of power-law popularity, of which one of the first three is right."""
    rng = np.random.default_rng(seed)
    weight = rng.permuted(np.arange(1, 41)[None] ** -rng.uniform(0.1, 1.5, (questions, 1)), axis=1)
    chance = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    answer = (rng.random((questions, n, 1)) > chance[:, None, :-1]).sum(axis=2) - 1  # the first is no answer
    right = np.argsort(-weight[:, 1:], axis=1)[np.arange(questions), rng.integers(3, size=questions)]
    return Pairs(answer, answer == right[:, None], np.ones(answer.shape, bool))


def numpy_vote(pairs: Pairs, i: int, k: int) -> float:
    """The same sum in float64, one question and one convolution at a time, without standard errors."""
    counts, n = pairs.answers, pairs.answer.shape[1]
    nodes, p = vote_nodes((k,)), k / (n + 1)
    chance = np.exp(log_binomial(np.arange(n + 1)[:, None], np.arange(k + 1), p))
    real = np.flatnonzero(counts.count[i])
    total = 0.0
    for target in np.flatnonzero(counts.correct[i] * counts.count[i]):
        for _, m, y, w in zip(*nodes, strict=True):
            mask = np.where(np.arange(k + 1) < m, 1.0, np.where(np.arange(k + 1) == m, np.float64(y), 0.0))
            state = chance[counts.silent[i]]
            for j in real[real != target]:
                state = np.convolve(state, (chance[counts.count[i, j]] * mask)[: m + 1])[: k + 1]
            total += w * counts.correct[i, target] * chance[counts.count[i, target], m] * state[k - m]
    return total / np.exp(log_binomial(np.array(n), np.array(k), p))


def monte_carlo(pairs: Pairs, i: int, k: int, draws: int, rng: np.random.Generator) -> float:
    """Random k-subsets, drawn as counts of answers, which is the cheapest way."""
    counts = pairs.answers
    size = np.append(counts.count[i], counts.silent[i])
    drawn = rng.multivariate_hypergeometric(size, k, draws, method="marginals")[:, :-1]
    return float(won(drawn, counts.correct[i]).mean())


def enumerated(pairs: Pairs, i: int, k: int, subsets: int) -> float:
    """The first so many k-subsets, counted one class at a time."""
    answers, width = pairs.answers.place[i], pairs.answers.count.shape[1]
    chosen = np.fromiter(itertools.islice(itertools.combinations(range(len(answers)), k), subsets), np.dtype((int, k)))
    drawn = np.stack([(answers[chosen] == j).sum(axis=1) for j in range(width)], axis=1)
    return float(won(drawn, pairs.answers.correct[i]).mean())


def won(drawn: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """What votes of these counts f[T, C] earn, ties shared."""
    best = drawn.max(axis=1, keepdims=True)
    winner = (drawn == best) & (best > 0)
    return (winner * worth).sum(axis=1) / np.maximum(winner.sum(axis=1), 1)


def timed(call, repeats: int):
    """(first call, least of the others in seconds, what the last returned)."""
    seconds, found = [], None
    for _ in range(repeats + 1):
        start = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:]), found


def compare(n: int, k: int, questions: int, slow: int) -> list[list[str]]:
    """The rows of one case."""
    pairs = simulated(questions, n, FLAGS.seed)
    some = range(min(slow, questions))
    first, seconds, (exact,) = timed(lambda: estimate_actions(pairs, [vote("s", k)]), FLAGS.repeats)
    _, numpy_seconds, reference = timed(lambda: [numpy_vote(pairs, i, k) for i in some], 1)
    own_error = np.abs(exact.mean[: len(some)] - reference).max()
    rng = np.random.default_rng(FLAGS.seed)
    drawing = partial(monte_carlo, pairs, k=k, draws=FLAGS.draws, rng=rng)
    _, drawn_seconds, drawn = timed(lambda: [drawing(i) for i in some], FLAGS.repeats)
    rms = math.sqrt(np.mean((np.array(drawn) - reference) ** 2))
    sampling = math.sqrt(np.mean(exact.error**2)) / 10
    subsets = min(FLAGS.subsets, math.comb(n, k))
    _, counted_seconds, _ = timed(lambda: enumerated(pairs, 0, k, subsets), 1)

    def row(what, rate, error, *equal):
        return [what, str(n), str(k), rate, error, *equal, *[""] * (2 - len(equal))]

    def drawn_at(error):
        draws = FLAGS.draws * (rms / error) ** 2
        return f"{len(some) / drawn_seconds * FLAGS.draws / draws:.2g} ({draws:.1e} draws)"

    return [
        row(f"exact, with standard errors (compiles in {first - seconds:.1f} s)", f"{questions / seconds:,.0f}", f"{own_error:.1e}"),
        row("the same sum in NumPy float64", f"{len(some) / numpy_seconds:,.2f}", "0"),
        row(
            f"Monte Carlo, {FLAGS.draws} draws",
            f"{len(some) / drawn_seconds:,.0f}",
            f"{np.abs(np.array(drawn) - reference).max():.1e}",
            drawn_at(sampling),
            drawn_at(own_error),
        ),
        row(f"enumeration of {math.comb(n, k):.1e} subsets", f"{subsets / math.comb(n, k) / counted_seconds:.1e}", "0"),
    ]  # fmt: skip


RULES = "{r}(small/think,4) {r}(small/think,8) {r}(large/think,4) {r}(large/think,8)"


def follow() -> list[list[str]]:
    """What each step from a file to a table takes on the built-in log."""
    log = read_log("builtin")
    samples = int(log.count.sum())
    menus = {
        "measure: 16 votes of 4 sources": (menu(log), {}),
        "measure: 16 votes, with covariances": (menu(log), {"covariance": True}),
        "measure: 16 votes, with shrinkage": (menu(log), {"shrink": "empirical_bayes"}),
    }
    for rule in ("passes", "unanimous"):
        menus[f"measure: 4 x {rule}, and abstain()"] = (*parse_actions(RULES.format(r=rule)), abstain()), {}
    rows = []
    for what, (actions, options) in menus.items():
        first, seconds, _ = timed(partial(measure, log, actions, **options), FLAGS.repeats)
        rows.append([what, f"{samples:,}", f"{first:.2f}", f"{seconds:.2f}"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        write_log(log, path)
        first, seconds, _ = timed(partial(read_log, path), 1)
        rows.append([f"read_log: {path.stat().st_size / 1e6:.0f} MB of JSON lines", f"{samples:,}", f"{first:.2f}", f"{seconds:.2f}"])  # fmt: skip
    return rows


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    header = [
        "k-vote",
        "n",
        "k",
        "questions / s",
        "error",
        "at a tenth of the standard error",
        "at the exact votes' error",
    ]
    rows = [row for case in FLAGS.cases for row in compare(*map(int, case.split(":")))]
    print(markdown_table(header, rows), "\n")
    print(markdown_table(["step", "samples", "first call s", "s"], follow()))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
