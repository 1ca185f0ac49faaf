"""Escalation rules on held-out questions: what they earn, spend and wait, and the paths that questions take."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.stopping.rules import lottery, nearest
from alloc_jax.stopping.sources.beliefs import log_odds
from alloc_jax.stopping.sources.rules import EscalationRule
from alloc_jax.stopping.sources.simulation import walk
from alloc_jax.stopping.sources.solver import play
from alloc_jax.stopping.sources.solver_input import Promise, checked_promise
from alloc_jax.stopping.sources.walks import Walks
from alloc_jax.types import SampleLog


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
    frontier = rule.frontier
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
    promised = np.broadcast_to(frontier.typical, shape) if promise is None else log_odds(promise.accuracy)
    read = promise is not None and promise.features is not None
    features = (
        np.asarray(promise.features, np.float32)
        if read
        else np.broadcast_to(frontier.features, (len(walks), len(frontier.features)))
    )
    cost = frontier.cost if promise is None or promise.cost is None else promise.cost
    cost = np.broadcast_to(np.asarray(cost, np.float32), shape)
    two = [rule.less, rule.more]
    if len(frontier.cell):
        answer = frontier.cell_table.right.argmax(axis=-1).astype(np.int8)
        at = nearest(promised, frontier.cell)
        walked = walk(frontier.patterns, frontier.cell_move[two], frontier.moves, answer, walks, at, frontier.rounds)
    else:
        multiplier = frontier.multiplier[two]
        walked = play(
            frontier.patterns,
            frontier.belief,
            promised,
            features,
            cost,
            multiplier,
            frontier.moves,
            frontier.ahead,
            frontier.rounds,
            walks,
        )
    share = (1 - rule.weight, rule.weight)

    def of(values: np.ndarray) -> np.ndarray:
        return np.tensordot(share, values.mean(axis=2, dtype=float), axes=1)

    seconds = None if walked.seconds is None else of(walked.seconds)
    drawn = frontier.patterns.drawn[walked.state]
    samples = {source: of(drawn[..., m]) for m, source in enumerate(frontier.sources)}
    return Played(Outcome(of(walked.utility), of(walked.cost), samples), seconds)


@dataclass(frozen=True)
class Path:
    """How one question went, as it would have been served."""

    row: int  # of the log
    sources: tuple[int, ...]  # asked, in order
    answers: tuple[str | None, ...]  # what they said
    answer: str | None
    posterior: float
    right: bool


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


def calibration(paths: Sequence[Path], bins: int = 8) -> list[tuple[int, float, float]]:
    """Questions, mean posterior and share right, in bins of equally many questions by the posterior of the answer."""
    posterior = np.array([path.posterior for path in paths])
    right = np.array([path.right for path in paths])
    parts = np.array_split(np.argsort(posterior, kind="stable"), min(bins, len(paths)))
    return [(len(part), float(posterior[part].mean()), float(right[part].mean())) for part in parts]
