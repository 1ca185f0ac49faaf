"""Replaying a sample log through the decision core, as if its questions came one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.collect.recipes import Recipe
from alloc_jax.collect.replies import Usage
from alloc_jax.learn.policy import Policy
from alloc_jax.logs.decisions import AGREEMENT, OutcomeRecord
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.planning.voting import count_votes, pool_answers
from alloc_jax.serve.tickets import AnswerRequest, Seen, Stopping, Tenant, Ticket
from alloc_jax.serve.traffic.recording import Recorder
from alloc_jax.types import SampleLog

GRADER = "grader"  # the source of the verdicts that a log holds


class _Stated(Meter):
    """Dollars that the log itself states: no source needs a price."""

    def check(self, model: str) -> None:
        pass


@dataclass(frozen=True, eq=False)
class ReplayedStream:
    """What a stream of T questions got, and what it cost."""

    action: tuple[str, ...]  # [T]
    multiplier: np.ndarray  # f64[T] that each was decided at
    cost: np.ndarray  # f64[T] of the samples drawn, in the policy's unit
    correct: np.ndarray  # bool[T] whether the vote was right
    budget: float

    @property
    def spend(self) -> float:
        """Mean cost per question."""
        return float(self.cost.mean())


def replay_stream(
    policy: Policy,
    log: SampleLog,
    budget: float,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    step: float = 0.06,
    stopping: Stopping | None = None,
    meter: Meter | None = None,
    ledger: Ledger | None = None,
    recorder: Recorder | None = None,
) -> ReplayedStream:
    """Run questions through the core: each action draws its source's first samples of the question, and votes.

    Args:
      policy: trained on other questions.
      log: with at least as many samples of each pair as the largest action draws.
      budget: mean cost per question, in the policy's unit.
      rows: the questions in the order in which they come; may name one twice. Default: the log's own order.
      step: of the pace; 0 keeps the calibrated multiplier.
      stopping: rules that draw sample by sample, as the gateway has them.
      meter: with the prices of the sources, for dollars; by default the policy's unit alone, and dollars are those that the log states.
      ledger: in memory by default.
      recorder: explores, and writes down every decision and whether its vote was right.

    Raises:
      ValueError: a question has too few samples for the action decided on, or lacks what its cost needs.
    """
    if policy.resource == "usd" and log.usd is not None and not (meter and meter.prices):
        meter = _Stated(policy.resource, policy.unit)
    recipes = {source.name: Recipe(name=source.name, model=source.name) for source in log.sources}
    core = Core(
        policy,
        recipes,
        {"default": Tenant(budget=budget)},
        ledger or Ledger(),
        meter=meter,
        step=step,
        stopping=stopping,
        recorder=recorder,
    )
    rows = range(len(log)) if rows is None else rows
    actions, multipliers, costs, correct = [], [], [], []
    for turn, i in enumerate(rows):
        ticket = core.admit(
            AnswerRequest(id=f"{turn}", text=log.question[i], extra={"prompt_cache_key": log.ids[i]})  # a session each
        )
        cost, drawn, right, share = _draw(core, ticket, log, int(i))
        core.settle(ticket, cost, cost, drawn, 0, 0)
        if recorder is not None:
            weak = [OutcomeRecord(ticket.id, share, AGREEMENT)] if drawn > 1 else []
            recorder.log.judged([OutcomeRecord(ticket.id, float(right), GRADER), *weak])
        actions.append(ticket.action.name)
        multipliers.append(ticket.decision.multiplier)
        costs.append(cost)
        correct.append(right)
    return ReplayedStream(tuple(actions), np.array(multipliers), np.array(costs), np.array(correct), budget)


def drifting(log: SampleLog, questions: int, late: tuple[float, float] = (0.5, 1.0), seed: int = 0) -> np.ndarray:
    """Rows i64[questions] of a stream whose difficulty shifts halfway.

    Args:
      log: where the questions come from; one is as hard as its samples are wrong, over all sources.
      questions: how many.
      late: the second half is drawn from this range of the difficulties, where 0 is the easiest question and 1 the
        hardest; the first half is drawn from all.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(-(log.correct.sum(axis=(1, 2)) / log.count.sum(axis=1)), kind="stable")
    low, high = (round(share * len(order)) for share in late)
    if not 0 <= low < high <= len(order):
        raise ValueError(f"late is a range within 0 and 1 that holds questions, got {late}")
    first = questions // 2
    return np.concatenate([rng.choice(order, first), rng.choice(order[low:high], questions - first)])


def _draw(core: Core, ticket: Ticket, log: SampleLog, i: int) -> tuple[float, int, bool, float]:
    """What a ticket's samples of a question cost, how many were drawn, whether their vote is right, and the share that agrees."""
    action = ticket.action
    seen: list[Seen] = []
    taken: list[tuple[int, int]] = []  # source and number of each sample
    plan, turn = ticket.plan, 0
    while wave := plan.next(seen) if plan else [action.source] * (action.samples - len(seen)):
        for source in wave:
            m = log.source_index(source)
            j = sum(one.source == source for one in seen)
            if j >= log.count[i, m]:
                wanted = j + 1 if plan else action.samples
                raise ValueError(f"question {log.ids[i]!r} has {log.count[i, m]} samples of {source!r}, not {wanted}")
            code = log.answer[i, m, j]
            seen.append(Seen(source, None if code < 0 else log.answers[i][code], turn))
            taken.append((m, j))
        turn += 1
    if not seen:
        return 0.0, 0, False, 0.0
    keys = [one.key for one in seen]
    pooled = plan is not None and plan.choose is not None
    verdict = pool_answers(keys, *plan.choose(seen)) if pooled else count_votes(keys, action, ticket.id)
    cost = 0.0
    for m in {m for m, _ in taken}:
        k = sum(other == m for other, _ in taken)
        seconds = None if log.latency_s is None else float(log.latency_s[i, m, :k].max())
        if isinstance(core.meter, _Stated):
            part = float(log.usd[i, m, :k].sum(dtype=np.float64))
        else:
            part = core.meter.cost(log.sources[m].name, Usage(**_sums(log, i, m, k)), k, seconds)
        if part is None or not np.isfinite(part):
            raise ValueError(f"question {log.ids[i]!r}: its cost in {core.policy.unit} is not in the log")
        cost += part
    right = verdict.winner is not None and bool(log.correct[(i, *taken[verdict.winner])])
    return cost, len(seen), right, verdict.share


def _sums(log: SampleLog, i: int, m: int, k: int) -> Mapping[str, float | None]:
    found = {}
    for name in ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens"):
        values = getattr(log, name)
        total = None if values is None else float(values[i, m, :k].sum(dtype=np.float64))
        found[name] = None if total is None or np.isnan(total) else total
    return found


def compare_paces(
    policy: Policy,
    log: SampleLog,
    budget: float,
    questions: int,
    late: tuple[float, float],
    steps: Iterable[float],
    seed: int = 0,
    stopping: Stopping | None = None,
    meter: Meter | None = None,
) -> list[tuple[str, ...]]:
    """A row for each step of the pace: what it spends of the budget, in all and in either half, its multipliers, its accuracy."""
    stream = drifting(log, questions, late, seed)
    rows = []
    for step in steps:
        ran = replay_stream(policy, log, budget, rows=stream, step=step, stopping=stopping, meter=meter)
        halves = (part.mean() / budget for part in np.array_split(ran.cost, 2))
        multipliers = f"{ran.multiplier[0]:.4g} to {ran.multiplier[-1]:.4g}"
        shares = (f"{share:.4f}" for share in (ran.spend / budget, *halves))
        rows.append((f"{step:g}", *shares, multipliers, f"{ran.correct.mean():.4f}"))
    return rows
