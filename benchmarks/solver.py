"""The solver beside what a user could pick instead, in one run: time, quality of the answer, ratio.

    python benchmarks/solver.py --sizes=1000,10000,100000,1000000

Every rival gets the same arrays, in the layout it likes, made before its clock starts; `prepare` stands in a row of its own. Times are the
least of the repeats, after a first call that is not counted (its excess is the column `compile`). `passes` is the time in units of one
read of utility and cost at the machine's measured copy bandwidth. `overspent` and `short` are relative: spend above the budget,
utility of the mixed plan (or of the plan, where a rival has no mixed one) below the float64 optimum.
"""

import time
from functools import partial

import highspy
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from alloc_jax.evaluate.text import markdown_table
from alloc_jax.solve import frontier, pairs, prepare, solve
from alloc_jax.solve.fill import finish, total_target
from alloc_jax.solve.search import Bracket, evaluate, exceeds, extreme_bracket
from alloc_jax.types import AllocationProblem

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["1000", "10000", "100000", "1000000"], "Numbers of questions.")
flags.DEFINE_list("families", ["smooth", "tied"], "Instances: smooth, tied.")
flags.DEFINE_integer("actions", 8, "Actions a question.", lower_bound=2)
flags.DEFINE_integer("repeats", 5, "Calls that are timed.", lower_bound=1)
flags.DEFINE_integer("highs_limit", 10_000, "The most questions HiGHS is given.")
flags.DEFINE_integer("seed", 0, "Seed of the instances.")

STEPS = 40  # of every bisection: what leaves a bracket of neighbouring floats


def instance(family: str, questions: int, actions: int, seed: int):
    """Utility and cost f32[N, K], and a budget between the cheapest and the dearest plan."""
    rng = np.random.default_rng(seed)
    samples = 2.0 ** np.arange(actions)
    if family == "tied":
        utility = np.sort(rng.integers(0, 17, (questions, actions)), axis=1) / 16
        cost = np.broadcast_to(samples, utility.shape)
    elif family == "smooth":
        utility = 1 - (1 - rng.beta(0.5, 0.7, (questions, 1))) ** np.sqrt(samples)
        cost = samples * rng.lognormal(0, 0.5, (questions, 1))
    else:
        raise ValueError(f"unknown family {family!r}: smooth or tied")
    return utility.astype(np.float32), cost.astype(np.float32), float(3 * cost[:, 0].mean())


def numpy_bisection(utility, cost, budget):
    """The deterministic plan under the price at which float64 bisection stops; (spend, utility)."""
    utility, cost = utility.astype(np.float64), cost.astype(np.float64)
    rows = np.arange(len(utility))
    low, high = 0.0, float(np.ptp(utility) / np.diff(np.sort(cost, axis=1)).min())
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        spend = cost[rows, np.argmax(utility - middle * cost, axis=1)].mean()
        low, high = (middle, high) if spend > budget else (low, middle)
    action = np.argmax(utility - high * cost, axis=1)
    return cost[rows, action].mean(), utility[rows, action].mean()


@jax.jit
def jitted_bisection(prepared, wanted):
    """Bisection on the price with the package's own evaluation and fill: only the search differs."""
    target = total_target(prepared, wanted, "spend")

    def halve(_, bracket):
        low, high = bracket.more.multiplier, bracket.less.multiplier
        plans, end = evaluate(prepared, bracket, low + (high - low) / 2)
        above = exceeds(end.total, target, "spend")
        more, less = (
            jax.tree.map(lambda new, old, take=take: jnp.where(take, new, old), end, old)
            for take, old in ((above, bracket.more), (~above, bracket.less))
        )
        return Bracket(more, less, plans, bracket.passes + 1)

    return finish(prepared, jax.lax.fori_loop(0, STEPS, halve, extreme_bracket(prepared)), target, "spend")


def highs(utility, cost, budget):
    """The linear programme by HiGHS' interior point method; (spend, utility)."""
    n, k = utility.shape
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = n * k, n + 1
    model.col_cost_ = -utility.reshape(-1).astype(np.float64) / n
    model.col_lower_, model.col_upper_ = np.zeros(n * k), np.full(n * k, highspy.kHighsInf)
    model.row_lower_ = np.append(np.ones(n), -highspy.kHighsInf)
    model.row_upper_ = np.append(np.ones(n), budget * n)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = 2 * np.arange(n * k + 1)
    index = np.stack([np.repeat(np.arange(n), k), np.full(n * k, n)], axis=1)
    values = np.stack([np.ones(n * k), cost.reshape(-1).astype(np.float64)], axis=1)
    model.a_matrix_.index_, model.a_matrix_.value_ = index.reshape(-1), values.reshape(-1)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("solver", "ipm")
    solver.passModel(model)
    solver.run()
    share = np.array(solver.getSolution().col_value).reshape(n, k)
    return (share * cost).sum() / n, (share * utility).sum() / n


def timed(call, repeats: int):
    """(first call, least of the others in seconds, what the last returned)."""
    seconds, found = [], None
    for _ in range(repeats + 1):
        start = time.perf_counter()
        found = jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:]), found


def copy_seconds(elements: int, repeats: int) -> float:
    """How long one read of this many floats takes, from a copy that reads and writes half of them."""
    copied = jnp.zeros(max(elements // 2, 1), jnp.float32)
    return timed(partial(jax.jit(lambda x: x + 1), copied), repeats)[1]


def compare(family: str, questions: int) -> list[list[str]]:
    """The rows of one instance."""
    utility, cost, budget = instance(family, questions, FLAGS.actions, FLAGS.seed)
    problem = jax.device_put(AllocationProblem(utility, cost))
    prepared = prepare(problem)
    wanted = pairs.Pair(*map(jnp.asarray, pairs.split(budget, np.float32)))
    exact = frontier(prepared)
    best = float(exact.at(budget).mixed_utility)
    read = copy_seconds(2 * utility.size, FLAGS.repeats)

    def of(solution):
        return float(solution.mixed_spend), float(solution.mixed_utility)

    calls = {
        "solve": (lambda: solve(prepared, budget), of, FLAGS.repeats),
        "prepare": (lambda: prepare(problem), None, FLAGS.repeats),
        "frontier, exact": (lambda: frontier(prepared).spend, None, FLAGS.repeats),
        "frontier, 64 points": (lambda: frontier(prepared, points=64).spend, None, FLAGS.repeats),
        "jitted bisection": (lambda: jitted_bisection(prepared, wanted), of, FLAGS.repeats),
        "numpy float64 bisection": (lambda: numpy_bisection(utility, cost, budget), tuple, 1),
    }
    if questions <= FLAGS.highs_limit:
        calls["HiGHS interior point"] = (lambda: highs(utility, cost, budget), tuple, 1)
    rows, own = [], None
    for name, (call, quality, repeats) in calls.items():
        first, seconds, found = timed(call, repeats)
        own = own or seconds
        spend, value = quality(found) if quality else (None, None)
        rows.append(
            [
                name,
                family,
                f"{questions:g}",
                f"{1e3 * seconds:.2f}",
                f"{max(first - seconds, 0):.1f}",
                f"{seconds / read:.1f}",
                "" if spend is None else f"{max(spend / budget - 1, 0):.0e}",
                "" if value is None else f"{max(1 - value / best, 0):.0e}",
                f"{seconds / own:.2f}",
            ]
        )
    return rows


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    header = ["what", "data", "N", "ms", "compile s", "passes", "overspent", "short", "x solve"]
    rows = [row for family in FLAGS.families for size in FLAGS.sizes for row in compare(family, int(size))]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    app.run(main)
