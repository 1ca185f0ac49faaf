"""Several budgets for a table that is read block by block: Newton by passes, and the questions that matter in memory.

    describe  One pass: weights, the least that every resource costs, and a sample of the questions, on which Newton runs first.
    descend   A pass is a step of Newton (`resources.newton`), until the dual is within 2e-7 of its minimum, or for ten passes, which ties
              may use up.
    core      The softmax plan of the last step is rounded (`resources.kernel`). Some 20,000 questions, those that gain most by another
              action, are brought together, and `solve` gives them what the others leave of the budgets.
    certify   A pass at the core's multipliers bounds every plan of the table. Where the bound has not closed, the same pass gives the
              next core.

Bound, status and what is reported are those of `resources.polish`; the totals of the plans are summed in float64 on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alloc_jax.solve import double_double, validation
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.resources.kernel import PASSES, SAMPLE, temperatures_of, tolerance_of
from alloc_jax.solve.resources.layout import ProblemInChunks
from alloc_jax.solve.resources.newton import (
    Budgeted,
    Descent,
    Parts,
    Sums,
    accepted,
    begun,
    descend,
    finished,
    proposed,
    scale_of,
    sums_of,
)
from alloc_jax.solve.resources.polish import (
    ROUNDS,
    BestResponses,
    Bound,
    IntegralPlan,
    Mixed,
    Rounds,
    better,
    bound_of,
    certified,
    choose,
    is_closed,
    is_impossible,
    nearly_within,
    plan_of,
    tighter,
)
from alloc_jax.solve.solver import prepare, solve
from alloc_jax.solve.streaming.chunks import (
    Changes,
    TableCore,
    chunk_blocks,
    core_of_all,
    core_rows,
    parts_jit,
    responses_jit,
    rounded_jit,
    sampled_jit,
    to_chunks,
    two_floats,
)
from alloc_jax.solve.streaming.passes import (
    as_float64,
    check_block,
    check_blocks,
    explain_invalid,
    read_ahead,
    resumed_by_all,
    same_table,
    sums,
)
from alloc_jax.solve.streaming.processes import Peers, flat, in_form
from alloc_jax.types import AllocationProblem, MixedPlan, Solution

WARM = 5  # the stage to begin with, at most: a sample's multipliers are not as near as its last temperature wants
ALONE = 100  # more than there are rounds: added to the number of one whose integral plan stands for its mixed plan
STEPS = 10  # passes of the descent, at most: on ties more of them gain nothing that a core does not


class Facts(NamedTuple):
    """What the first pass finds, over all processes."""

    questions: int
    weight: float  # of all questions; their number where none has a weight
    least: float  # total utility where every question takes its worst action
    cheapest: np.ndarray  # f64[R] total cost of each resource where every question takes its cheapest action for it
    varies: np.ndarray  # bool[R] whether the actions of any question differ in it
    scale: np.ndarray  # f32[] how much utilities differ, of the sample


class HostDescent(NamedTuple):
    """Where the descent is after a pass: what a search resumes from."""

    facts: Facts
    state: Descent  # NumPy arrays
    passes: int  # over the data so far

    @property
    def progress(self) -> str:
        """What a line of progress says."""
        return f"no plan earns more than {float(self.state.bound):.9g} per question"

    @classmethod
    def form(cls, resources: int) -> HostDescent:
        """Zeros in its place."""
        one, each = np.zeros((), np.float32), np.zeros(resources, np.float32)
        sums = Sums(one, one, each, np.zeros((resources,) * 2, np.float32), one)  # type: ignore[arg-type]  # NumPy arrays
        facts = Facts(0, 0.0, 0.0, each.astype(np.float64), each > 0, one)
        return cls(facts, Descent(each, sums, one, np.int32(0), np.int32(0), each, one), 0)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class RoundedPlan:
    """The plan as what writes it: the softmax plan of a multiplier, rounded, but for the questions of the cores."""

    about: ProblemInChunks  # without questions
    budget: jax.Array  # f32[R]
    multiplier: jax.Array  # f32[R] in the units of `Budgeted`
    temperature: jax.Array  # f32[]
    totals: np.ndarray  # f64[B, 1 + R] of the rounded plan on each of this process's blocks
    integral: Changes
    mixed: Changes
    mesh: Mesh | None

    def actions(self, blocks: Sequence[AllocationProblem], mixed: bool) -> Iterator[np.ndarray]:
        """See `StreamSolution.plan`."""
        changes, number, first = self.mixed if mixed else self.integral, -1, 0
        for number, block in enumerate(chunk_blocks(blocks, self.about, self.mesh)):
            plan, found = rounded_jit(block.prepared, self.budget, self.multiplier, self.temperature)
            check_block(number, as_float64(found), self.totals)
            place = block.places()
            kind = np.uint8 if block.prepared.actions <= 256 else np.int32
            yield changes.apply(np.array(plan).reshape(-1), first, place)[place].astype(kind)
            first += block.questions
        check_blocks(number + 1, self.totals)


def solve_several(
    blocks: Sequence[AllocationProblem],
    budget: np.ndarray,
    peers: Peers,
    resume: HostDescent | None,
    save: Callable[[HostDescent], None] | None,
    mesh: Mesh | None,
) -> tuple[Solution, RoundedPlan, Facts, int]:
    """A solution on the host (its `mixed.question` counted over all processes), what writes its plans, and the passes over the data.

    Args and raises: see `solve_stream`.
    """
    resources = np.size(budget)
    wanted = validation.as_pair(budget, np.dtype(np.float32), "budget", resources)
    shared = int(peers.gather(np.array([len(blocks)])).sum())  # blocks of all processes
    size = max(1, SAMPLE // shared)  # questions of a block that are sampled, and that are part of a core
    descent = resumed_by_all(resume, HostDescent.form(resources), peers)
    facts, start = (descent.facts, None) if descent else _described(blocks, wanted.hi, size, peers, mesh)
    about = _about(facts)
    data, temperatures = Budgeted.of(about, wanted.hi), temperatures_of(jnp.asarray(facts.scale))

    def parts_of(multiplier: jax.Array, temperature: jax.Array) -> Parts:
        """What a pass over all questions adds up."""
        weight, by_block = 0.0, []
        for block in chunk_blocks(blocks, about, mesh):
            found = jax.device_get(parts_jit(block.prepared, wanted.hi, multiplier, temperature))
            by_block.append(np.concatenate([np.ravel(x).astype(np.float64) for x in found]))
            weight += block.weight
        total = sums(peers.gather(np.append(sums(np.stack(by_block)), weight)))
        same_table(facts.weight, float(total[-1]))
        best, spread, loss, spend, curvature = np.split(total[:-1].astype(np.float32), [1, 2, 3, 3 + resources])
        return Parts(*map(jnp.asarray, (best[0], spread[0], loss[0], spend, curvature.reshape(resources, resources))))

    def after(state: Descent, passes: int) -> HostDescent:
        found = HostDescent(facts, jax.device_get(state), passes)
        if save is not None and peers.rank == 0:
            save(found)
        return found

    if start is not None:
        multiplier, stage = start
        parts = parts_of(multiplier, temperatures[stage])
        descent = after(_begun_jit(data, parts, multiplier, stage, temperatures), 2)
    hopeless = (facts.cheapest > as_float64(about.target(wanted))).any()
    while True:
        done, trial, cooler = _ahead_jit(descent.state, temperatures)
        if done or hopeless or descent.passes > STEPS:
            break
        parts = parts_of(trial, temperatures[cooler])
        descent = after(_after_jit(data, parts, descent.state, trial, cooler, temperatures), descent.passes + 1)
    return _polished(blocks, facts, descent, wanted, temperatures, size, peers, mesh)


def _polished(
    blocks: Sequence[AllocationProblem],
    facts: Facts,
    descent: HostDescent,
    wanted: DoubleDouble,
    temperatures: jax.Array,
    size: int,
    peers: Peers,
    mesh: Mesh | None,
) -> tuple[Solution, RoundedPlan, Facts, int]:
    """The plans from where the descent ended, in rounds of a pass and a core."""
    about, state = _about(facts), descent.state
    data, target = Budgeted.of(about, wanted.hi), as_float64(about.target(wanted))
    softmax = state.multiplier, temperatures[state.stage]
    nothing = Changes(np.zeros(0, np.int64), np.zeros(0, np.int32))
    plans = [(nothing, nothing, MixedPlan(*np.zeros((3, 1), np.int32)))]  # integral, mixed and what is mixed, by round
    sums_of_plans: list[tuple[np.ndarray, np.ndarray]] = []  # their totals f64[1 + R]
    rounds, multiplier, base = _no_round(wanted.hi), state.best, None
    for number in range(ROUNDS + 1):
        key = plans[-1][0]
        seen, responses, core = _responses(blocks, about, wanted.hi, softmax, key, multiplier, size, peers, mesh)
        if base is None:
            base, total = seen, sums(peers.gather(sums(seen)))
            sums_of_plans.append((total, total))
        candidate = *map(two_floats, sums_of_plans[number]), np.array([number], np.int32)
        rounds, done, solution = _judged_jit(about, data, wanted, facts.scale, rounds, multiplier, responses, candidate)
        if done or number == ROUNDS:
            break
        rest = sums_of_plans[number][0] - core.total(core.own)
        found = _solved(core, np.maximum(target - rest[1:], 0), peers)
        integral, mixed = np.asarray(found.action), np.asarray(found.mixed.action)
        beside = replace(found.mixed, action=None, question=core.question[found.mixed.question])
        changed = [key.and_then(*core.changes(x, peers.rank)) for x in (integral, mixed)]
        plans.append((changed[0], changed[1], beside))
        sums_of_plans.append((rest + core.total(integral), rest + core.total(mixed) + core.mixture(found.mixed, mixed)))
        multiplier = (found.multiplier * data.unit).astype(np.float32)
    kept, (alone, kept_mixed) = int(solution.action[0]), divmod(int(solution.mixed.action[0]), ALONE)
    written = plans[kept][0], plans[kept_mixed][0] if alone else plans[kept_mixed][1]
    plan = RoundedPlan(about, wanted.hi, *softmax, base, *written, mesh)
    integral, mixed = sums_of_plans[kept][0] / facts.weight, sums_of_plans[kept_mixed][1 - alone] / facts.weight
    # Sums are exact but for the slack, which is all that a spend can be above its budget.
    budget, within = as_float64(wanted), target * (1 + double_double.slack(np.float32)) / facts.weight
    spend = np.where(integral[1:] <= within, np.minimum(integral[1:], budget), integral[1:])
    numbers = {"spend": spend, "mixed_spend": mixed[1:], "utility": integral[0], "mixed_utility": mixed[0]}
    solution = replace(solution, mixed=plans[0 if alone else kept_mixed][2], **numbers)
    return solution, plan, facts, descent.passes + number + 1


# ---------------------------------------------------------------------------------------------------------------
# The core
# ---------------------------------------------------------------------------------------------------------------


def _solved(core: TableCore, left: np.ndarray, peers: Peers) -> Solution:
    """What `solve` says of the core with the total budgets left to it, on the host; the process of rank 0 decides for all."""
    found = jax.device_get(solve(prepare(core.problem), left / math.fsum(core.weight)))
    return in_form(peers.gather(flat(found))[0], found)


@jax.jit
def _judged_jit(about, data, wanted, scale, rounds: Rounds, multiplier, found: BestResponses, candidate):
    """The rounds after a pass, whether they are over, and what they found: bound and status, for which nothing but totals is needed.

    The number of a round stands for its plans.
    """
    target = about.target(wanted)
    integral, mixed, number = candidate
    new = plan_of(number, integral, target)
    fits = nearly_within(mixed, target, about.cheapest)
    new_mixed = choose(new.fits & ~fits, new._replace(action=number + ALONE), IntegralPlan(number, mixed, fits))
    new_mixed = Mixed(new_mixed, rounds.mixed.beside)
    bound = bound_of(data, found, multiplier, target)
    rounds = rounds._replace(
        mixed=choose(better(new_mixed.plan, rounds.mixed.plan, target), new_mixed, rounds.mixed),
        integral=choose(better(new, rounds.integral, target), new, rounds.integral),
        best=choose(tighter(bound, rounds.best), bound, rounds.best),
    )
    closed = is_closed(about, data, target, rounds, scale) & rounds.integral.fits
    return rounds, closed | is_impossible(about, target, rounds), certified(about, data, target, rounds, scale)


def _no_round(budget: jax.Array) -> Rounds:
    """The state before the first round, to which anything is better; the number of a round stands for its plan."""
    much = jnp.full(1 + np.size(budget), jnp.finfo(jnp.float32).max / 8)
    plan = IntegralPlan(jnp.zeros(1, jnp.int32), double_double.pair(much), jnp.bool_(False))
    beside = MixedPlan(*jnp.zeros((3, 1), jnp.int32))
    bound = Bound(jnp.zeros(np.size(budget), jnp.float32), double_double.pair(much[0]), jnp.float32(0))
    return Rounds(Mixed(plan, beside), plan, bound, plan, much, much[0], jnp.int32(0))


# ---------------------------------------------------------------------------------------------------------------
# Passes
# ---------------------------------------------------------------------------------------------------------------


def _about(facts: Facts) -> ProblemInChunks:
    """The whole table as the kernels know it, without its questions."""
    questions, least, cheapest = map(two_floats, (facts.weight, facts.least, facts.cheapest))
    none = jnp.zeros(0)
    return ProblemInChunks(
        utility=none, cost=none, weight=none, questions=questions, least=least, cheapest=cheapest,
        varies=jnp.asarray(facts.varies), invalid=jnp.bool_(False), count=facts.questions, mesh=None,
    )  # fmt: skip


def _described(
    blocks: Sequence[AllocationProblem], budget: jax.Array, size: int, peers: Peers, mesh: Mesh | None
) -> tuple[Facts, tuple[jax.Array, jax.Array]]:
    """The first pass, and where Newton ends on a sample: multiplier and stage."""
    resources, sizes, found, rows, invalid = np.size(budget), [], [], [], False
    for block in read_ahead(blocks, partial(to_chunks, resources=resources), mesh):
        sizes.append(block.questions)
        prepared = block.prepared
        if invalid := bool(prepared.invalid):
            break
        least, cheapest = map(as_float64, (prepared.least, prepared.cheapest))
        found.append([block.weight, least, *cheapest, *np.asarray(prepared.varies)])
        rows.append(core_rows(sampled_jit(prepared, budget, size), sum(sizes[:-1])))
    mine = sums(np.array(found)) if found else np.zeros(2 + 2 * resources)
    said = peers.gather(np.array([sum(sizes), invalid, *mine]))
    explain_invalid(blocks, np.array(sizes), said[:, 0], said[:, 1] > 0, peers)
    questions, _, weight, least, *rest = sums(said).tolist()
    if not weight:
        raise ValueError("the weights sum to 0")
    core = core_of_all(np.vstack(rows), sum(sizes), resources, peers)
    multiplier, stage, scale = jax.device_get(_sample_jit(prepare(core.problem), budget))
    cheapest, varies = np.array(rest[:resources]), np.array(rest[resources:]) > 0
    return Facts(int(questions), weight, least, cheapest, varies, scale), (multiplier, stage)


def _responses(
    blocks: Sequence[AllocationProblem],
    about: ProblemInChunks,
    budget: jax.Array,
    softmax: tuple[jax.Array, jax.Array],
    key: Changes,
    multiplier: jax.Array,
    size: int,
    peers: Peers,
    mesh: Mesh | None,
) -> tuple[np.ndarray, BestResponses, TableCore]:
    """A pass: f64[B, 1 + R] totals of the rounded plan by block, all best responses at a multiplier, and the core around a plan."""
    base, found, rows, first = [], [], [], 0
    for block in chunk_blocks(blocks, about, mesh):
        plan, total = rounded_jit(block.prepared, budget, *softmax)
        changed = key.apply(np.array(plan).reshape(-1), first, block.places()).reshape(plan.shape)
        responses, cells = responses_jit(block.prepared, budget, changed, multiplier, size)
        base.append(as_float64(total))
        found.append([*as_float64(responses.total), float(responses.lost), float(responses.terms)])
        rows.append(core_rows(cells, first))
        first += block.questions
    *total, lost, terms = sums(peers.gather(sums(np.array(found))))
    said = BestResponses(two_floats(np.array(total)), *map(jnp.float32, (lost, terms)))
    return np.stack(base), said, core_of_all(np.vstack(rows), first, np.size(budget), peers)


@jax.jit
def _sample_jit(prepared: ProblemInChunks, budget: jax.Array):
    data = Budgeted.of(prepared, budget)
    scale = scale_of(data)
    start = jnp.where(data.varies, scale / budget.size, 0)
    found = descend(data, start, temperatures_of(scale), PASSES, tolerance_of(scale))
    return found.multiplier, jnp.minimum(found.stage, WARM), scale


@jax.jit
def _begun_jit(data: Budgeted, parts: Parts, multiplier, stage, temperatures) -> Descent:
    return begun(multiplier, stage, sums_of(data, parts, multiplier, temperatures[stage]))


@jax.jit
def _after_jit(data: Budgeted, parts: Parts, state: Descent, trial, cooler, temperatures) -> Descent:
    return accepted(state, trial, cooler, sums_of(data, parts, trial, temperatures[cooler]))


@jax.jit
def _ahead_jit(state: Descent, temperatures: jax.Array):
    return finished(state, temperatures, tolerance_of(temperatures)), *proposed(state, temperatures)
