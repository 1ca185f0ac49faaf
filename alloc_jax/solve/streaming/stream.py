"""One budget for a table larger than memory, in one process or in many that each read a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from jax.sharding import Mesh

from alloc_jax.solve import double_double, validation
from alloc_jax.solve.layout import ProblemInRows
from alloc_jax.solve.mesh import devices
from alloc_jax.solve.solver import prepare, solve
from alloc_jax.solve.streaming.bracketing import (
    PASSES,
    HostBracket,
    HostEnd,
    chord_of,
    first_multipliers,
    is_narrow,
    narrowed,
    next_multipliers,
)
from alloc_jax.solve.streaming.passes import (
    Totals,
    actions_jit,
    check_block,
    check_blocks,
    end_plans,
    explain_invalid,
    read_ahead,
    resumed_by_all,
    run_pass,
    same_table,
    sums,
    to_device,
)
from alloc_jax.solve.streaming.processes import Peers, SingleProcess
from alloc_jax.solve.streaming.several import Facts, HostDescent, RoundedPlan, solve_several
from alloc_jax.types import AllocationProblem, MixedPlan, Solution, Status


class StreamCut(NamedTuple):
    """Where the questions stop to follow `more` and start to follow `less`."""

    block: int  # of this process; 0 or beyond the last where the cut is another's
    position: int  # in that block
    question: int  # counted over all processes
    total: np.ndarray  # f64[2] spend and utility with every question before it switched
    extra: np.ndarray  # f64[2] what its switch adds; 0 where all are switched
    raised: int  # its action in `more`


class Ends(NamedTuple):
    """The two best responses that the plan is made of; the extremes stand for the best and the cheapest plan."""

    more: float
    less: float
    steepest: float


@dataclass(frozen=True, eq=False)
class CutPlan:
    """The plan between two ends as what writes it."""

    ends: Ends
    cut: StreamCut
    totals: np.ndarray  # f64[B, 2, 2] what the two ends spend and earn on each of this process's blocks
    mesh: Mesh | None

    def actions(self, blocks: Sequence[AllocationProblem], mixed: bool) -> Iterator[np.ndarray]:
        """See `StreamSolution.plan`; one question is mixed into the integral plan itself."""
        number = -1
        for number, block in enumerate(read_ahead(blocks, to_device, self.mesh)):
            plans, totals = end_plans(block, *self.ends)
            check_block(number, totals, self.totals)
            more, less = np.asarray(actions_jit(block.rows, plans, block.size, block.mesh))[:, : block.questions]
            last = block.questions if number < self.cut.block else self.cut.position * (number == self.cut.block)
            yield np.where(np.arange(block.questions) < last, more, less)
        check_blocks(number + 1, self.totals)


@dataclass(frozen=True, eq=False)
class StreamSolution:
    """A plan for a budget, as what certifies it and what writes it; the same in every process but for `written`.

    The numbers mean what they mean in a `Solution`; here they are float64, and arrays [R] with several resources.
    """

    multiplier: float | np.ndarray
    spend: float | np.ndarray
    utility: float
    dual_value: float
    gap: float
    mixed: MixedPlan  # one question, or R, counted over all processes; `plan(blocks, mixed=True)` is what they are mixed into
    mixed_spend: float | np.ndarray
    mixed_utility: float
    mixed_gap: float
    status: Status
    passes: int  # over the data
    questions: int  # N
    written: CutPlan | RoundedPlan

    def plan(self, blocks: Sequence[AllocationProblem], mixed: bool = False) -> Iterator[np.ndarray]:
        """u8[n] (i32 from 257 actions) of each of this process's blocks: the integral plan, with one more pass.

        Args:
          blocks: those that were solved.
          mixed: the mixed plan instead, in which `mixed` changes some questions with a probability.

        Raises:
          ValueError: the blocks are not those that were solved.
        """
        return self.written.actions(blocks, mixed)


def solve_stream(
    blocks: Sequence[AllocationProblem],
    budget,
    *,
    peers: Peers | None = None,
    resume: HostBracket | HostDescent | None = None,
    save: Callable[[Any], None] | None = None,
    mesh: Mesh | None = None,
) -> StreamSolution:
    """`solve` for a table that is read block by block, in two to four passes.

    The first block's own multiplier is the first guess. Each pass evaluates sixteen multipliers and narrows the bracket of the
    multiplier until no plan inside it loses more than 1e-7 of the utility; questions that differ between its ends then follow the
    one that spends more, in index order until the budget is spent. A block that does not represent the table costs passes, and
    nothing else. With several budgets a pass is a step of Newton (`streaming.several`): some four to fifteen.

    Args:
      blocks: problems of NumPy arrays, utility f32[n, K], cost f32[n, K] or f32[n, K, R] and weight f32[n] or None, of bounded n; read in order once
        per pass, and one of them once more at the end. With several processes, this one's part: the parts follow each other in the order of the ranks.
      budget: allowed mean cost per question, over all processes; a number, or f32[R].
      peers: the processes that solve together; None: this one alone.
      resume: what `save` was last given; the process of rank 0 decides for all.
      save: called after every pass in the process of rank 0.
      mesh: devices of this process that share out each block.

    Returns:
      A `StreamSolution`, whose `plan(blocks)` gives the actions.

    Raises:
      ValueError: like `solve`, with questions counted over all processes; or what is resumed is of another table.
      ConnectionError: another process is gone.

    >>> from alloc_jax.types import AllocationProblem
    >>> block = AllocationProblem(np.float32([[0, 1], [0, 0.5]]), np.float32([[1, 3], [1, 3]]))
    >>> found = solve_stream([block, block], 2.5)
    >>> found.spend, found.utility, [plan.tolist() for plan in found.plan([block, block])]
    (2.5, 0.625, [[1, 1], [1, 0]])
    """
    if not len(blocks):
        raise ValueError("the table has no blocks")
    peers = peers or SingleProcess()
    if np.size(budget) > 1:
        return _of_several(*solve_several(blocks, budget, peers, cast(HostDescent | None, resume), save, mesh))
    validation.as_pair(budget, np.dtype(np.float32), "budget")
    budget = float(np.reshape(budget, ()))
    bracket = resumed_by_all(cast(HostBracket | None, resume), HostBracket.form(), peers)
    known: dict[float, np.ndarray] = {}  # multiplier: f64[B, 2] by block
    sizes, questions = np.zeros(0, np.int64), 0  # questions by block, and of all processes

    def pass_over(multipliers: np.ndarray, with_extremes: bool) -> HostBracket:
        nonlocal known, sizes, questions
        mine = run_pass(blocks, multipliers, with_extremes, mesh)
        said = peers.gather(_summary(mine))
        explain_invalid(blocks, mine.questions, said[:, 0], said[:, 2] > 0, peers)
        total, sizes = sums(said), mine.questions
        questions, steepest, weight = int(total[0]), float(said[:, 1].max()), float(total[3])
        ends = np.reshape(total[4:], (-1, 2))
        if with_extremes:
            known |= {0.0: mine.extremes[:, 0], steepest: mine.extremes[:, 1]}
        before = bracket
        if before is None:
            before = HostBracket(
                HostEnd(0.0, *ends[0]), HostEnd(steepest, *ends[1]), steepest, float(ends[1, 1]), weight, 0
            )
        if not weight:
            raise ValueError("the weights sum to 0")
        same_table(before.weight, weight)
        evaluated = [HostEnd(float(m), *map(float, end)) for m, end in zip(multipliers, ends[2:], strict=False)]
        # At the steepest multiplier the cheapest plan stands, and not a best response, which may be another of its equals.
        inner = {end.multiplier: mine.responses[:, i] for i, end in enumerate(evaluated)}
        known |= {at: totals for at, totals in inner.items() if 0 < at < before.steepest}
        after = narrowed(before, evaluated, _target(budget, weight))
        known = {end.multiplier: known[end.multiplier] for end in after[:2] if end.multiplier in known}
        if save is not None and peers.rank == 0:
            save(after)
        return after

    if bracket is None:
        bracket = pass_over(first_multipliers(*_guess(blocks, budget, peers)), True)
    target = _target(budget, bracket.weight)
    above, below = bracket.more.spend <= target, bracket.less.spend > target
    while not (above or below or is_narrow(bracket, target) or bracket.passes >= PASSES):
        bracket = pass_over(next_multipliers(bracket, target), False)
    missing = [end.multiplier for end in bracket[:2] if end.multiplier not in known]
    if missing:  # resumed: the totals of the ends are known, but not by block
        inner = [m for m in missing if 0 < m < bracket.steepest]
        bracket = pass_over(np.array(inner, np.float32), len(inner) < len(missing))
    if above:
        bracket = bracket._replace(less=bracket.more)
    elif below:
        bracket = bracket._replace(more=bracket.less)
    status = Status.INFEASIBLE if below else Status.NOT_CONVERGED if bracket.passes >= PASSES else Status.OPTIMAL
    totals = np.stack([known[end.multiplier] for end in bracket[:2]], axis=1)
    cut = _find_cut(blocks, bracket, totals, sizes, target, peers, mesh)
    return _certified(bracket, cut, totals, budget, status, questions, mesh)


def _of_several(found: Solution, plan: RoundedPlan, facts: Facts, passes: int) -> StreamSolution:
    vectors = {name: np.asarray(getattr(found, name), np.float64) for name in ("multiplier", "spend", "mixed_spend")}
    names = ("utility", "dual_value", "gap", "mixed_utility", "mixed_gap")
    numbers: dict[str, Any] = {**vectors, **{name: float(getattr(found, name)) for name in names}}
    return StreamSolution(
        **numbers,
        mixed=found.mixed,
        status=Status(int(found.status)),
        passes=passes,
        questions=facts.questions,
        written=plan,
    )


def _target(budget: float, weight: float) -> float:
    return float(budget) * weight * (1 + double_double.slack(np.float32))


def _guess(blocks: Sequence[AllocationProblem], budget: float, peers: Peers) -> tuple[float, float]:
    """The median over the processes of their first blocks' own multipliers, and the steepest multiplier."""
    try:
        prepared = cast(ProblemInRows, prepare(blocks[0]))  # of one resource
        mine = [float(solve(prepared, budget).multiplier), float(prepared.steepest)]
    except ValueError:  # the pass names the question, counted over all processes
        mine = [0.0, 0.0]
    said = peers.gather(np.array(mine))
    return float(np.median(said[:, 0])), float(said[:, 1].max())


def _summary(mine: Totals) -> np.ndarray:
    """f64[8 + 2 MULTIPLIERS]: what a process says after a pass; all but the second and third are added up."""
    ends = np.concatenate([mine.extremes, mine.responses], axis=1).reshape(len(mine.extremes), -1)
    return np.array([mine.questions.sum(), mine.steepest, mine.invalid, math.fsum(mine.weight), *sums(ends)])


def _find_cut(
    blocks: Sequence[AllocationProblem],
    bracket: HostBracket,
    totals: np.ndarray,
    sizes: np.ndarray,
    target: float,
    peers: Peers,
    mesh: Mesh | None,
) -> StreamCut:
    """Between the ends: whole processes are switched in the order of their ranks, whole blocks of one, questions of one block."""
    mine = np.append(sums(totals), sizes.sum())
    said = peers.gather(mine)
    ends = said[:, :4].reshape(-1, 2, 2)
    less, steps = sums(ends[:, 1]), ends[:, 0] - ends[:, 1]
    process = _fitting(steps[:, 0], target - less[0])
    switched = process == peers.count  # all questions: the first stands for the one that would be mixed
    total = sums(np.vstack([less, steps[:process]]))
    found, block, position = np.zeros(6), len(sizes) * (switched or peers.rank < process), 0
    if peers.rank == (0 if switched else process):
        by_block = totals[:, 0] - totals[:, 1]
        chosen = 0 if switched else min(_fitting(by_block[:, 0], target - total[0]), len(sizes) - 1)
        there = to_device(blocks[chosen], chosen, int(sizes[0]), mesh)
        plans, _ = end_plans(there, bracket.more.multiplier, bracket.less.multiplier, bracket.steepest)
        values = np.asarray(plans).reshape(2, devices(mesh), -1)[:, :, : there.size].reshape(2, -1)
        values = values[:, : there.questions].astype(np.complex128)
        by_question = (values[0] - values[1]).view(np.float64).reshape(-1, 2)
        if blocks[chosen].weight is not None:
            by_question *= np.asarray(blocks[chosen].weight, np.float32)[:, None]
        if not switched:
            total = sums(np.vstack([total, by_block[:chosen]]))
            position = min(_fitting(by_question[:, 0], target - total[0]), there.questions - 1)
            total = sums(np.vstack([total, by_question[:position]]))
            block = chosen
        raised = int(np.asarray(actions_jit(there.rows, plans, there.size, mesh))[0, position])
        found = np.array([sizes[:chosen].sum() + position, *total, *by_question[position] * (not switched), raised])
    found = peers.gather(found)[0 if switched else process]
    first = int(said[:process, 4].sum()) * (not switched)
    return StreamCut(int(block), position, first + int(found[0]), found[1:3], found[3:5], int(found[5]))


def _fitting(steps: np.ndarray, room: float) -> int:
    """How many leading steps fit, by bisection with exact sums: the invariant, that `fits` do, needs no order.

    `rounding._prefix_within` is the same bisection inside a compiled program, with sums in two floats; the host has `fsum`.
    """
    fits, beyond = 0, len(steps) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if math.fsum(steps[:middle]) <= room else (fits, middle)
    return fits


def _certified(
    bracket: HostBracket,
    cut: StreamCut,
    totals: np.ndarray,
    budget: float,
    status: Status,
    questions: int,
    mesh: Mesh | None,
) -> StreamSolution:
    """What certifies a cut.

    `rounding.certified` says the same of totals in two floats; here float64 has digits enough, also for a product of two.
    """
    more, less, count = bracket.more, bracket.less, bracket.weight
    (spend, utility), extra = cut.total.tolist(), cut.extra.tolist()
    target = _target(budget, count)
    share = min(max((target - spend) / extra[0], 0.0), 1.0) if extra[0] > 0 else 0.0
    mixed_spend, mixed_utility = spend + share * extra[0], utility + share * extra[1]
    tighter = chord_of(bracket, target).less_is_tighter(mixed_spend - less.spend, more.spend - mixed_spend)
    end = less if tighter else more
    multiplier = end.multiplier
    gap, mixed_gap = (
        (end.utility - u) - multiplier * (end.spend - c) for c, u in ((spend, utility), (mixed_spend, mixed_utility))
    )
    # Sums are exact but for the slack, which is all that a spend can be above its budget.
    within = math.inf if status == Status.INFEASIBLE else float(budget)
    return StreamSolution(
        multiplier=multiplier,
        spend=min(spend / count, within),
        utility=utility / count,
        dual_value=(mixed_utility + mixed_gap) / count,
        gap=(gap + multiplier * (mixed_spend - spend)) / count,
        mixed=MixedPlan(*(np.array([x]) for x in (cut.question, cut.raised, share))),
        mixed_spend=min(mixed_spend / count, within),
        mixed_utility=mixed_utility / count,
        mixed_gap=mixed_gap / count,
        status=status,
        passes=bracket.passes,
        questions=questions,
        written=CutPlan(Ends(more.multiplier, less.multiplier, bracket.steepest), cut, totals, mesh),
    )
