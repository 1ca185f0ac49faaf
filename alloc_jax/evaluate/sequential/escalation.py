"""Escalation rules on held-out questions: what they earn, spend and wait, and the paths that questions take."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.stopping.rules import lottery, nearest
from alloc_jax.stopping.sources.beliefs import log_odds
from alloc_jax.stopping.sources.patterns import likeliest
from alloc_jax.stopping.sources.rules import EscalationFrontier, EscalationRule
from alloc_jax.stopping.sources.simulation import walk
from alloc_jax.stopping.sources.solver import play
from alloc_jax.stopping.sources.solver_input import Promise, checked_promise
from alloc_jax.stopping.sources.walks import Walks
from alloc_jax.types import SampleLog

BLOCK = 8192  # questions at a time
SERVED = 500  # questions that are walked through one by one, which takes a while


@dataclass(frozen=True, eq=False)
class Played:
    """What a rule did with N questions."""

    outcome: Outcome
    seconds: np.ndarray | None  # f64[N] one round after the other; None where the log has no latencies


def replay_escalation(rule: EscalationRule, walks: Walks, promise: Promise | None = None) -> Played:
    """A rule on walks of held-out questions, its two multipliers mixed question by question.

    Args:
      rule: fitted to other questions.
      walks: with the rule's sources and limits.
      promise: what the questions' texts promise; None: what a question of which no text is known does.
    """
    return _played(rule.frontier, [rule], walks, promise)[0]


def replay_budgets(
    frontier: EscalationFrontier, budgets: Sequence[float], walks: Walks, promise: Promise | None = None
) -> dict[float, Played]:
    """The rules of several budgets on walks of held-out questions, by budget: what a question's samples would say is worked out once.

    Args:
      frontier: fitted to other questions.
      budgets: those below what the cheapest rule spends, which no rule keeps, are left out.
      walks, promise: as for `replay_escalation`.

    Raises:
      ValueError: walks or promise are not of the frontier's sources.
    """
    rules = [frontier.at(budget) for budget in budgets if budget >= frontier.spend[0]]
    return {rule.budget: one for rule, one in zip(rules, _played(frontier, rules, walks, promise), strict=True)}


def _played(
    frontier: EscalationFrontier, rules: Sequence[EscalationRule], walks: Walks, promise: Promise | None
) -> list[Played]:
    shape = (len(walks), len(frontier.sources))
    if not len(walks) or walks.answer.shape[2] != shape[1] or walks.answer.shape[3] < max(frontier.limits):
        raise ValueError(
            f"the rules draw up to {frontier.limits} samples of {frontier.sources}; got walks of {len(walks)} questions with"
            f" {walks.answer.shape[3]} samples of {walks.answer.shape[2]} sources"
        )
    walks = walks.binned(frontier.cuts)
    promise = checked_promise(promise, *shape) if frontier.read and promise is not None else None
    if promise is not None and promise.features is not None and promise.features.shape[1:] != frontier.features.shape:
        raise ValueError(
            f"the rules were fitted with {len(frontier.features)} features, got {promise.features.shape[1]}"
        )
    if not rules:
        return []
    promised = np.broadcast_to(frontier.typical, shape) if promise is None else log_odds(promise.accuracy)
    features = frontier.features if promise is None or promise.features is None else promise.features
    features = np.broadcast_to(np.asarray(features, np.float32), (len(walks), len(frontier.features)))
    cost = frontier.cost if promise is None or promise.cost is None else promise.cost
    cost = np.broadcast_to(np.asarray(cost, np.float32), shape)
    row, at = np.unique([[rule.less, rule.more] for rule in rules], return_inverse=True)
    share = np.zeros((len(rules), len(row)))
    for one, rule, (less, more) in zip(share, rules, at.reshape(-1, 2), strict=True):
        one[less] += 1 - rule.weight
        one[more] += rule.weight
    parts = [
        _replayed(frontier, row, share, walks.select(some), promised[some], features[some], cost[some])
        for some in np.array_split(np.arange(len(walks)), -(-len(walks) // BLOCK))
    ]
    utility, paid, seconds, *samples = (
        None if part[0] is None else np.concatenate(part, axis=1) for part in zip(*parts, strict=True)
    )
    return [
        Played(
            Outcome(
                utility[i], paid[i], {name: drawn[i] for name, drawn in zip(frontier.sources, samples, strict=True)}
            ),
            None if seconds is None else seconds[i],
        )
        for i in range(len(rules))
    ]


def _replayed(frontier: EscalationFrontier, row, share, walks: Walks, promised, features, cost) -> list:
    """Utility, cost, seconds and samples of each source f64[B, N] of mixes f[B, P] of the frontier's rules i[P] on N questions."""
    if len(frontier.cell):
        answer = likeliest(frontier.cell_table.right)
        at = nearest(promised, frontier.cell)
        walked = walk(frontier.patterns, frontier.cell_move[row], frontier.moves, answer, walks, at, frontier.rounds)
    else:
        walked = play(
            frontier.patterns, frontier.belief, promised, features, cost, frontier.multiplier[row], frontier.moves, frontier.ahead,
            frontier.rounds, walks,
        )  # fmt: skip
    drawn = frontier.patterns.drawn[walked.state]
    each = [walked.utility, walked.cost, walked.seconds, *np.moveaxis(drawn, -1, 0)]
    return [None if x is None else share @ x.mean(axis=2, dtype=float) for x in each]


@dataclass(frozen=True)
class Path:
    """How one question went, as it would have been served."""

    row: int  # of the log
    sources: tuple[int, ...]  # asked, in order
    answers: tuple[str | None, ...]  # what they said
    answer: str | None
    posterior: float
    right: bool


@dataclass(frozen=True, eq=False)
class Ways:
    """How questions went at one budget."""

    budget: float
    paths: tuple[Path, ...]
    log: SampleLog  # the questions; rows of the paths
    sources: tuple[str, ...]


def served_paths(
    rule: EscalationRule, log: SampleLog, walks: Walks, promise: Promise | None = None, seed: int = 0
) -> list[Path]:
    """The paths of questions in their first order of samples, through the rule as it is served."""
    found = []
    tickets = lottery(walks.ids, seed)
    verified = rule.frontier.answer == "verified"
    for i in range(len(walks)):
        accuracy, cost, features = [None if part is None else part[i] for part in promise or (None,) * 3]
        question = rule.start(accuracy, cost, features, ticket=float(tickets[i]))
        taken = np.zeros(len(rule.frontier.sources), int)
        said: list[int | None] = []
        good: dict[Hashable, bool] = {}
        while move := rule.decide(question):
            codes, numbers = [], []
            for m in move:
                code, right = (x[i, 0, m, taken[m]] for x in (walks.answer, walks.right))
                numbers.append(np.nan if walks.number is None else walks.number[i, 0, m, taken[m]])
                taken[m] += 1
                codes.append(None if code < 0 else int(code))
                good.setdefault(codes[-1], bool(right))
            said += codes
            question = question.after(move, codes, numbers)

        def name(code, i=i):
            if code is None:
                return "wrong" if verified else None
            return "right" if verified else log.answers[i][code]

        right = question.answer is not None and good[question.answer]
        found.append(Path(i, question.path, tuple(map(name, said)), name(question.answer), question.posterior, right))
    return found


def middle_paths(
    frontier: EscalationFrontier, budgets: Sequence[float], log: SampleLog, walks: Walks, promise: Promise, seed: int
) -> Ways | None:
    """The paths of some questions at the middle one of budgets, those of `SERVED` at most; None where no budget is kept."""
    if not budgets:
        return None
    some = np.sort(np.random.default_rng(seed).permutation(len(log))[:SERVED])
    given = Promise(*(None if part is None else part[some] for part in promise))
    part, middle = log.select(some), budgets[(len(budgets) - 1) // 2]
    paths = served_paths(frontier.at(middle), part, walks.select(some), given, seed)
    return Ways(middle, tuple(paths), part, frontier.sources)


def calibration(paths: Sequence[Path], bins: int = 8) -> list[tuple[int, float, float]]:
    """Questions, mean posterior and share right, in bins of equally many questions by the posterior of the answer."""
    posterior = np.array([path.posterior for path in paths])
    right = np.array([path.right for path in paths])
    parts = np.array_split(np.argsort(posterior, kind="stable"), min(bins, len(paths)))
    return [(len(part), float(posterior[part].mean()), float(right[part].mean())) for part in parts]
