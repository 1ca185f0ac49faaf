"""What a day of 1e10 questions needs: costs a question, measured on a table of moderate size, and what they come to.

`python benchmarks/scale.py --parts=day` prints it. The first two tables are measured; what follows is extrapolated, and every column names
the rows it comes from. Costs a question are taken to stay what they are (`--parts=stream` shows how far they do), and hosts
to be machines like this one with their part of the table on a disk like this one's. A sample's multiplier, at which the sample spends the budget, errs
on all the others as the sample's mean does: by the standard deviation of what questions get, over the root of the
sample's size. The second table holds that against what samples did.
"""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from big_table import timed_read
from harness import Counted
from instances import instance

from alloc_jax.learn import PolicyConfig, train
from alloc_jax.logs import read_log
from alloc_jax.measure import TableBlocks, measure, menu
from alloc_jax.report.tables import markdown_table
from alloc_jax.serve import allocator
from alloc_jax.solve import solve
from alloc_jax.solve.streaming.passes import respond_to, to_device
from alloc_jax.solve.streaming.processes import SingleProcess
from alloc_jax.solve.streaming.stream import solve_stream
from alloc_jax.types import AllocationProblem

QUESTIONS = 10**10
DAY = 86_400
HOSTS = (1, 10, 100)
WITHIN = (0.1, 0.5, 1.0)  # percent of the budget that the spend may be off, 19 days in 20


class Sampled(NamedTuple):
    """What the multipliers of samples of one size do to the questions they are drawn from."""

    size: int
    multiplier_errors: np.ndarray  # [draws] relative
    overspends: np.ndarray  # [draws] relative
    losses: np.ndarray  # [draws] of utility, beyond what the spend explains
    seconds: float  # to solve one


def sampled(family: str, count: int, actions: int, sizes: Sequence[int], draws: int, seed: int) -> Iterator[Sampled]:
    """Solves samples, and applies the two multipliers and the weight of each to all questions."""
    utility, cost, budget = instance(family, count, actions, seed)
    rng, whole = np.random.default_rng(seed), solve(AllocationProblem(utility, cost), budget)
    block = to_device(AllocationProblem(utility, cost), 0, count, None)
    for size in sizes:
        found, least = [], math.inf
        for _ in range(draws):
            drawn = rng.choice(count, size, replace=False)
            part = AllocationProblem(utility[drawn], cost[drawn])
            start = time.perf_counter()
            one = solve_stream([part], budget)
            least = min(least, time.perf_counter() - start)
            more, less = one.totals[:, 0].sum(0), one.totals[:, 1].sum(0)
            weight = (budget * size - less[0]) / max(more[0] - less[0], 1e-30)
            said, _ = respond_to(block, np.float32([one.written.ends.more, one.written.ends.less]))
            totals = (np.float64(said.hi) + np.float64(said.lo))[:2]
            spend, gained = (weight * totals[0] + (1 - weight) * totals[1]) / count
            # Utility lost beyond what the spend explains, at the true multiplier: what the wrong multiplier itself costs.
            bound = float(whole.mixed_utility) + float(whole.multiplier) * (spend - float(whole.mixed_spend))
            lost = (bound - gained) / float(whole.mixed_utility)
            found.append((one.multiplier / float(whole.multiplier) - 1, spend / budget - 1, lost))
        yield Sampled(size, *np.array(found).T, least)


def rms(x: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


class Streamed(NamedTuple):
    """A table in a file, solved."""

    stored: float  # bytes a question
    read: float  # seconds a question
    passed: float  # seconds a question and pass
    passes: int
    plan: float  # seconds a question
    planned: float  # bytes a question
    said: int  # bytes that a process says in the whole solve


def streamed(path: Path, family: str, rows: int, seed: int) -> Streamed:
    """Reads, solves and plans the table; the least of a few times each, without those that compile."""
    blocks = TableBlocks(path, rows=rows)
    count, width = blocks.questions, len(blocks.actions)
    budget = instance(family, min(count, rows), width, seed)[2]
    seconds = []
    for _ in range(4):
        read, peers = timed_read(path, rows), Counted(SingleProcess())
        found = solve_stream(blocks, budget, peers=peers)
        # All say what they resume, their guess, then each pass, and last the cut.
        passed = (peers.clock[1 + found.passes] - peers.clock[1]) / found.passes
        start = time.perf_counter()
        planned = sum(action.nbytes for action in found.plan(blocks))
        seconds.append((read, passed, time.perf_counter() - start))
    read, passed, plan = np.min(seconds[1:], axis=0) / count
    return Streamed(path.stat().st_size / count, read, passed, found.passes, plan, planned / count, peers.said)


class Spending(NamedTuple):
    """How a plan spends its budget."""

    spread: float  # standard deviation of what a question gets, in budgets
    moved: float  # relative overspend of an old multiplier, for the share of all that moved from the easier to the harder half
    misled: int  # passes over the table in the order of its utilities
    said: int  # bytes that a process says in those


def spending(family: str, count: int, rows: int, actions: int, seed: int) -> Spending:
    """Of a table in memory."""
    utility, cost, budget = instance(family, count, actions, seed)
    action = np.asarray(solve(AllocationProblem(utility, cost), budget).action)
    spent = cost[np.arange(count), action].astype(float)
    harder = utility[:, 0] < np.median(utility[:, 0])
    order = np.argsort(utility[:, 0])
    parts = [order[start : start + rows] for start in range(0, count, rows)]
    peers = Counted(SingleProcess())
    misled = solve_stream([AllocationProblem(utility[part], cost[part]) for part in parts], budget, peers=peers).passes
    moved = (spent[harder].mean() - spent[~harder].mean()) / budget
    return Spending(spent.std() / budget, moved, misled, peers.said)


def row_costs() -> tuple[float, float]:
    """Seconds to make a table's row of the built-in log's samples, and to decide on a question as it is served."""
    log = read_log("builtin")
    actions, seconds = menu(log, (1, 4, 8, 16)), []
    for _ in range(2):
        start = time.perf_counter()
        table = measure(log, actions, "compute")
        seconds.append(time.perf_counter() - start)
    serve, waits = allocator(train(table.select(range(1000)), PolicyConfig(epochs=3)), 1.0), []
    for text in log.question[1000:2000]:  # which it has not seen
        start = time.perf_counter()
        serve.choose(text)
        waits.append(time.perf_counter() - start)
    return min(seconds) / len(log), float(np.median(waits))


class Measured(NamedTuple):
    """What everything is extrapolated from."""

    count: int  # questions
    disk: Streamed
    spends: Spending
    samples: list[Sampled]  # of rising size
    row: float  # seconds
    decision: float  # seconds

    @property
    def from_memory(self) -> float:
        """Seconds a question to solve the largest sample."""
        return self.samples[-1].seconds / self.samples[-1].size


def day(path: Path, family: str, rows: int, actions: int, sizes: Sequence[int], draws: int, seed: int) -> str:
    """All tables, as text."""
    count = TableBlocks(path).questions
    disk, spends = streamed(path, family, rows, seed), spending(family, count, rows, actions, seed)
    samples = list(sampled(family, count, actions, sizes, draws, seed))
    found = Measured(count, disk, spends, samples, *row_costs())
    measured = f"Measured: {count} questions of {family} data x {actions} actions, {draws} samples of each size."
    return "\n\n".join([measured, *measured_tables(found), *extrapolated_tables(found)])


def measured_tables(found: Measured) -> list[str]:
    """Costs a question, and what samples did."""
    disk, spends = found.disk, found.spends
    rows = [
        ["a", "stored", f"{disk.stored:.1f} bytes a question", "parquet, without texts"],
        ["b", "reading alone", f"{1e9 * disk.read:.0f} ns per question", ""],
        ["c", "a pass", f"{1e9 * disk.passed:.0f} ns per question", "reading included"],
        ["d", "passes of a solve", f"{disk.passes} or {spends.misled}", "as it lies; sorted by its utilities"],
        ["e", "the plan", f"{1e9 * disk.plan:.0f} ns, {disk.planned:.0f} byte a question", "reading included"],
        ["f", "said by a process", f"{disk.said} or {spends.said} bytes a solve", "to each of the others"],
        ["g", "spread of what a question gets", f"{spends.spread:.3f} budgets", "standard deviation"],
        ["h", "solving from memory", f"{1e9 * found.from_memory:.0f} ns per question", "the largest sample below"],
        ["i", "an old multiplier", f"{spends.moved:+.2f} % for 1 %", "of the questions moved to the harder half"],
        ["j", "a row from logged samples", f"{1e6 * found.row:.0f} us", "builtin: 4 sources x 64 samples, 16 actions"],
        ["k", "a decision as served", f"{1e6 * found.decision:.0f} us", "one thread, text to action"],
    ]
    held = []
    for one in found.samples:
        foreseen = spends.spread * math.sqrt((1 - one.size / found.count) / one.size)  # of a population that has an end
        percents = [f"{100 * x:.3f}" for x in (rms(one.overspends), foreseen)]
        held.append([f"{one.size}", *percents, f"{1e3 * one.seconds:.0f}"])
    return [
        markdown_table(["", "what", "measured", "how"], rows),
        markdown_table(["sample", "overspend %, rms", "foreseen by g", "solving, ms"], held),
    ]


def extrapolated_tables(found: Measured) -> list[str]:
    """What `QUESTIONS` come to."""
    disk, spends = found.disk, found.spends
    whole = [
        ["table, of which each host holds its part", f"{QUESTIONS * disk.stored / 1e9:.0f} GB", "a"],
        ["plan", f"{QUESTIONS * disk.planned / 1e9:.0f} GB", "e"],
        ["hosts that make the whole table in a day", f"{math.ceil(QUESTIONS * found.row / DAY)}", "j"],
        ["threads that decide, evenly over the day", f"{math.ceil(QUESTIONS * found.decision / DAY)}", "k"],
    ]
    either = [QUESTIONS * (passes * disk.passed + disk.plan) for passes in (disk.passes, spends.misled)]
    shared = [
        [
            f"{hosts}",
            *(f"{x / hosts / 60:.1f}" for x in either),
            *(f"{hosts * x.said / 1e3:.1f}" for x in (disk, spends)),
        ]
        for hosts in HOSTS
    ]
    often = [
        [name, *(f"{math.ceil(x / window)}" for x in either)]
        for name, window in (("day", DAY), ("hour", DAY / 24), ("minute", 60))
    ]
    samples = []
    for percent in WITHIN:
        size = (1.96 * 100 * spends.spread / percent) ** 2
        solved = max(size * found.from_memory, found.samples[0].seconds)
        numbers = (
            f"{size:.1e}",
            f"{1e3 * solved:.0f}",
            f"{size * found.row:.0f}",
            f"{percent / abs(spends.moved):.1f} %",
        )
        samples.append([f"{percent} %", *numbers])
    return [
        f"Extrapolated: {QUESTIONS:.0e} questions a day.",
        markdown_table(["", "extrapolated", "from"], whole),
        "Extrapolated: all solved exactly, with a plan; as the table lies, and sorted.",
        markdown_table(["hosts", "minutes (c, d, e)", "sorted", "kB received by a host (f)", "sorted"], shared),
        markdown_table(["hosts for one every", "(c, d, e)", "sorted"], often),
        "Extrapolated: a sample sets the multiplier, and the spend stays within so much 19 times in 20.",
        markdown_table(
            ["within", "sample (g)", "solving, ms (g, h)", "its table, s of a host (g, j)", "until so many moved (i)"],
            samples,
        ),
    ]


if __name__ == "__main__":
    print(__doc__)
