"""The solver beside what a user could pick instead, in one run: time, memory, quality of the answer.

    python benchmarks/solver.py --sizes=1000,10000,100000,1000000
    python benchmarks/solver.py --sizes=10000000 --rivals=jitted,numba
    python benchmarks/solver.py --sizes=10000,100000 --resources=2,4,8

Every rival gets the same arrays, which are there before its clock starts. `solve` runs on what `prepare` made, as the jitted bisection
does, and stands beside both together, too. Columns: `ms`, the fastest of the repeats; `first s`, what the first call takes
above that (compiling); `passes`, the time in reads of utility and cost at the speed of a copy; `memory`, the peak above what was
held before the call, in units of utility and cost; `overspent` and `short`, relative: spend above the budget, and utility of the mixed plan
(or of the plan, where a rival has no mixed one) below the float64 optimum; `gap`, the certified one of the mixed plan / of the integral plan;
`x solve`, the time in units of `solve`. A rival whose package is missing, or that would take minutes at a size, is left out and named below the table.

maq (github.com/grf-labs/maq) is not among them: its Python package does not install by name.
"""

import importlib.util
import sys
from functools import partial

import general_solvers
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from harness import Cell, machine, measured, read_seconds
from instances import FAMILIES, instance, several

from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.solve import double_double, frontier, prepare, solve
from alloc_jax.solve.root_finding import Bracket, evaluate_multiplier, exceeds, extreme_bracket
from alloc_jax.solve.rounding import finish
from alloc_jax.types import AllocationProblem

# The most questions each rival is given, one resource and several, and the package it needs.
LIMITS = {
    "jitted": (10**8, 0, None),
    "numpy": (10**6, 0, None),
    "numba": (10**7, 0, "numba"),
    "highs": (10**5, 10**5, "highspy"),
    "pdlp": (10**5, 10**5, "ortools"),
    "mpax": (10**4, 0, "mpax"),
}

FLAGS = flags.FLAGS
flags.DEFINE_list("sizes", ["1000", "10000", "100000", "1000000"], "Numbers of questions.")
flags.DEFINE_list("families", list(FAMILIES), "Instances: smooth, tied.")
flags.DEFINE_list("resources", [], "Numbers of resources; none: one budget, and the frontier.")
flags.DEFINE_list("rivals", list(LIMITS), "Which rivals take part.")
flags.DEFINE_integer("actions", 8, "Actions per question.", lower_bound=2)
flags.DEFINE_integer("repeats", 5, "Calls that are timed.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the instances.")

HEADER = ["what", "data", "N", "budgets", "ms", "first s", "passes", "memory", "overspent", "short", "gap", "x solve"]


@jax.jit
def jitted_bisection(prepared, wanted):
    """Bisection on the multiplier with the package's own evaluation and rounding: only the search differs."""
    target = prepared.target(wanted)

    def halve(_, bracket):
        low, high = bracket.more.multiplier, bracket.less.multiplier
        plans, end = evaluate_multiplier(prepared, bracket, low + (high - low) / 2)
        above = exceeds(end.total, target, "spend")
        more, less = (
            jax.tree.map(lambda new, old, take=take: jnp.where(take, new, old), end, old)
            for take, old in ((above, bracket.more), (~above, bracket.less))
        )
        return Bracket(more, less, plans, bracket.passes + 1)

    return finish(
        prepared, jax.lax.fori_loop(0, general_solvers.STEPS, halve, extreme_bracket(prepared)), target, "spend"
    )


@jax.jit
def bootstrap(utility, cost, weights):
    """The frontiers of a table under many weights of its questions, 32 points each."""

    def curve(weight):
        found = frontier(AllocationProblem(utility, cost, weight=weight), points=32)
        return found.spend, found.utility

    return jax.vmap(curve)(weights)


def of_solution(solution, budget):
    """(spend in budgets, mixed utility, gaps) of a `Solution`."""
    spend = float(np.max(np.asarray(solution.mixed_spend, np.float64) / budget))
    scale = float(solution.dual_value)
    return spend, float(solution.mixed_utility), (float(solution.mixed_gap) / scale, float(solution.gap) / scale)


class Table:
    """The rows of one instance."""

    def __init__(self, family: str, questions: int, resources: int, bytes_read: int):
        self.label = [family, f"{questions:g}", str(resources)]
        self.questions, self.resources, self.bytes_read = questions, resources, bytes_read
        self.read = read_seconds(bytes_read, FLAGS.repeats)
        self.rows, self.left_out, self.own = [], [], None

    def takes(self, rival: str) -> bool:
        """Whether a rival takes part at this size."""
        limit, package = LIMITS[rival][self.resources > 1], LIMITS[rival][2]
        if rival not in FLAGS.rivals or not limit:
            return False
        missing = package and importlib.util.find_spec(package) is None
        if missing or self.questions > limit:
            reason = f"{package} is not installed" if missing else f"more than {limit:g} questions"
            self.left_out.append(f"{rival}: {reason}")
            return False
        return True

    def add(self, what: str, cell: Cell, quality=None, best: float | None = None):
        """A row; `quality` reads (spend in budgets, utility, gaps or None) off what the call returned."""
        self.own = self.own or cell.best
        row = [what, *self.label, f"{1e3 * cell.best:.2f}", f"{max(cell.first - cell.best, 0):.1f}"]
        row += [f"{cell.best / self.read:.1f}", "" if cell.peak is None else f"{cell.peak / self.bytes_read:.1f}"]
        if quality is None:
            row += ["", "", ""]
        else:
            spend, utility, *gaps = quality(cell.found)
            short = "" if best is None else f"{max(1 - utility / best, 0):.0e}"
            gap = " / ".join(f"{max(gap, 0):.0e}" for gap in gaps[0]) if gaps else ""
            row += [f"{max(spend - 1, 0):.0e}", short, gap]
        self.rows.append([*row, f"{cell.best / self.own:.2f}"])
        print(*self.rows[-1], sep="\t", file=sys.stderr, flush=True)  # an interrupted run has shown what it measured


def one_budget(family: str, questions: int) -> Table:
    """`solve`, `prepare` and the frontiers beside their rivals."""
    utility, cost, budget = instance(family, questions, FLAGS.actions, FLAGS.seed)
    table = Table(family, questions, 1, utility.nbytes + cost.nbytes)
    problem = jax.device_put(AllocationProblem(utility, cost))
    prepared = prepare(problem)
    wanted = double_double.DoubleDouble(*map(jnp.asarray, double_double.split(budget, np.float32)))
    best = float(frontier(prepared).at(budget).mixed_utility) if questions <= 10**7 else None

    def own(solution):
        return of_solution(solution, budget)

    def add(what, call, quality=None, repeats=FLAGS.repeats):
        table.add(what, measured(call, repeats), quality, best)

    add("solve", lambda: solve(prepared, budget), own)
    add("prepare", lambda: prepare(problem))
    add("prepare + solve", lambda: solve(prepare(problem), budget), own)
    add("frontier, 64 points", lambda: frontier(prepared, points=64).spend)
    if questions <= 10**7:
        add("frontier, exact", lambda: frontier(prepared).spend)
        add("prepare + frontier, exact", lambda: frontier(prepare(problem)).spend)
    if questions <= 10**4:
        draws = np.random.default_rng(FLAGS.seed).multinomial(questions, np.full(questions, 1 / questions), 1000)
        weights = jnp.asarray(draws, jnp.float32)
        add("1,000 bootstrap frontiers", lambda: bootstrap(problem.utility, problem.cost, weights))
    if table.takes("jitted"):
        add("jitted bisection", lambda: jitted_bisection(prepared, wanted), own)
        add("prepare + jitted bisection", lambda: jitted_bisection(prepare(problem), wanted), own)
    if table.takes("numba"):
        import numba_rivals

        def exact(found):
            return found[3] / budget, found[4]

        add("numba radix selection", lambda: numba_rivals.radix_selection(utility, cost, budget), exact)
        add("numba hull and sort", lambda: numba_rivals.hull_and_sort(utility, cost, budget), exact)
        add("numba frontier", lambda: numba_rivals.sorted_frontier(utility, cost)[0])
    if table.takes("numpy"):
        add("numpy float64 bisection", lambda: general_solvers.numpy_bisection(utility, cost, budget), tuple, 1)
    for what, call in general(table):
        add(what, partial(call, utility, cost, budget), tuple, 0)
    return table


def several_budgets(family: str, questions: int, resources: int) -> Table:
    """`solve` with R budgets beside the solvers of any linear programme."""
    utility, cost, budget = several(family, questions, FLAGS.actions, resources, FLAGS.seed)
    table = Table(family, questions, resources, utility.nbytes + cost.nbytes)
    problem = jax.device_put(AllocationProblem(utility, cost))
    prepared = prepare(problem)
    rivals = [(what, measured(partial(call, utility, cost, budget), 0)) for what, call in general(table)]
    best = dict(rivals)["HiGHS interior point"].found[1] if table.takes("highs") else None
    own = measured(lambda: solve(prepared, budget), FLAGS.repeats)
    table.add("solve", own, lambda solution: of_solution(solution, budget), best)
    table.add("prepare", measured(lambda: prepare(problem), FLAGS.repeats))
    for what, cell in rivals:
        table.add(what, cell, tuple, best)
    return table


def general(table: Table):
    """The solvers of any linear programme that take part."""
    if table.takes("highs"):
        yield "HiGHS interior point", general_solvers.highs
    if table.takes("pdlp"):
        yield "PDLP 1e-4", partial(general_solvers.pdlp, tolerance=1e-4)
        yield "PDLP 1e-6", partial(general_solvers.pdlp, tolerance=1e-6)
    if table.takes("mpax"):
        yield "mpax 1e-4", general_solvers.mpax


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    unknown = [rival for rival in FLAGS.rivals if rival not in LIMITS]
    if unknown:
        raise app.UsageError(f"unknown rival {unknown[0]!r}: {', '.join(LIMITS)}")
    tables = []
    for family in FLAGS.families:
        for size in map(int, FLAGS.sizes):
            for resources in map(int, FLAGS.resources or ["1"]):
                tables.append(one_budget(family, size) if resources == 1 else several_budgets(family, size, resources))
    print(f"{machine()}; seed {FLAGS.seed}\n")
    print(markdown_table(HEADER, [row for table in tables for row in table.rows]))
    for table in tables:
        for reason in dict.fromkeys(table.left_out):
            print(f"left out at {' '.join(table.label)}: {reason}")


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
