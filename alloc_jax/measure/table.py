"""From a sample log and a list of actions to an `OutcomeTable`: what every action earns and costs on every question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.measure.costs import check_resources, sample_cost, unit_name
from alloc_jax.measure.votes import AnswerCounts, answer_counts, expected_votes
from alloc_jax.types import Action, OutcomeTable, SampleLog, Source

AGGREGATORS = ("vote",)


def menu(sources: SampleLog | Sequence[Source | str], votes: Sequence[int] = (1, 4, 8, 16)) -> tuple[Action, ...]:
    """Every source with every vote: the default menu of a log.

    Args:
      sources: a log, or sources, or their names.
      votes: the sample counts.

    >>> [action.name for action in menu(["small", "large"], votes=(1, 4))]
    ['vote(small,1)', 'vote(small,4)', 'vote(large,1)', 'vote(large,4)']
    """
    sources = sources.sources if isinstance(sources, SampleLog) else sources
    names = [source.name if isinstance(source, Source) else source for source in sources]
    return tuple(Action(name, k) for name in names for k in votes)


def parse_actions(text: str) -> tuple[Action, ...]:
    """The actions in one string, as a flag holds them; commas, semicolons or spaces stand between them.

    Raises:
      ValueError: a piece is not of the form vote(source,k).

    >>> [action.name for action in parse_actions("vote(large/think,1), vote(large/think,16)")]
    ['vote(large/think,1)', 'vote(large/think,16)']
    """
    pieces = [piece.strip(" ,;\n\t") for piece in text.split(")")]
    return tuple(Action.parse(piece + ")" if "(" in piece else piece) for piece in pieces if piece)


def measure(
    log: SampleLog, actions: Sequence[Action | str], resource: str | tuple[str, ...] = "samples"
) -> OutcomeTable:
    """The utility and cost of every action on every question, with standard errors.

    The utility of vote(source, k) is the exact expectation over all k-subsets of the logged samples, ties uniform among
    the tied (`alloc_jax.measure.votes`); its cost is k times the mean cost of one sample of the source on the question.

    Args:
      log: the samples.
      actions: K actions, or their names.
      resource: what is paid with, or a tuple of R of them:
        `samples`; `tokens` (prompt, where the log has it, + completion tokens, which include the reasoning tokens);
        `compute` (tokens x parameters, in the log's `compute_unit`: one mean sample of its dearest source).

    Returns:
      An `OutcomeTable`; cost is [N, K] for a string and [N, K, R] for a tuple. A pair without samples is not `valid`.

    Raises:
      ValueError: no or duplicate actions; an unknown aggregator, source or resource; more samples asked for than a
        question has; a vote where answers were not logged; missing token or parameter counts. The message names the
        first place.
    """
    actions = _check_actions(log, actions)
    resources = check_resources(resource)
    columns = [log.source_index(action.source) for action in actions]
    _check_samples(log, actions, columns)

    utility, utility_se = np.zeros((2, len(log), len(actions)), np.float32)
    for votes, sources in _jobs(actions).items():
        # Sources with the same votes go together: equal counts are computed once, and share their batches.
        pairs = np.array([log.source_index(name) for name in sources])
        counts = _count(log, pairs)
        present = counts.samples > 0
        which = [[actions.index(Action(name, k)) for k in votes] for name in sources]
        values = expected_votes(counts.select(present), votes)
        for out, value in zip((utility, utility_se), values, strict=True):
            full = np.zeros((present.size, len(votes)), np.float32)
            full[present] = value
            out[:, np.ravel(which)] = full.reshape(len(log), -1)

    draws = np.array([action.samples for action in actions], np.float32)
    means, errors = zip(*(sample_cost(log, name, sorted(set(columns))) for name in resources), strict=True)
    cost = np.stack([mean[:, columns] * draws for mean in means], axis=-1).astype(np.float32)
    cost_se = np.stack([error[:, columns] * draws for error in errors], axis=-1).astype(np.float32)
    if isinstance(resource, str):
        cost, cost_se = cost[..., 0], cost_se[..., 0]
    return OutcomeTable(
        ids=log.ids,
        question=log.question,
        group=log.group,
        actions=actions,
        resources=resources,
        units=tuple(unit_name(log, name) for name in resources),
        utility=utility,
        utility_se=utility_se,
        cost=cost,
        cost_se=cost_se,
        valid=log.count[:, columns] > 0,
        successes=log.correct.sum(axis=2, dtype=np.int32)[:, columns],
        samples=log.count[:, columns].astype(np.int32),
    )


def _jobs(actions: Sequence[Action]) -> dict[tuple[int, ...], list[str]]:
    """The sources that share a set of votes."""
    votes: dict[str, list[int]] = {}
    for action in actions:
        votes.setdefault(action.source, []).append(action.samples)
    jobs: dict[tuple[int, ...], list[str]] = {}
    for source, sizes in votes.items():
        jobs.setdefault(tuple(sorted(sizes)), []).append(source)
    return jobs


def _count(log: SampleLog, columns: np.ndarray) -> AnswerCounts:
    """The answer counts of N x columns pairs, flattened."""
    flat = [x[:, columns].reshape(-1, x.shape[2]) for x in (log.answer, log.correct, log.sampled)]
    return answer_counts(*flat)


def _check_actions(log: SampleLog, actions: Sequence[Action | str]) -> tuple[Action, ...]:
    if isinstance(actions, (str, Action)):
        raise ValueError(f"actions are a sequence, got the single {actions!r}; parse_actions reads a string of several")
    if not len(log):
        raise ValueError("the log has no questions")
    actions = tuple(Action.parse(action) if isinstance(action, str) else action for action in actions)
    if not actions:
        raise ValueError("no actions to measure")
    seen = set()
    for action in actions:
        if action.aggregator not in AGGREGATORS:
            raise ValueError(f"action {action.name}: unknown aggregator; known: {', '.join(AGGREGATORS)}")
        if action in seen:
            raise ValueError(f"action {action.name} is listed twice")
        seen.add(action)
    return actions


def _check_samples(log: SampleLog, actions: Sequence[Action], columns: Sequence[int]) -> None:
    """Every action can be taken wherever its source was sampled, and votes have answers to count."""
    answered = (log.answer >= 0).any(axis=2)
    right = log.correct.any(axis=2)
    for action, m in zip(actions, columns, strict=True):
        count = log.count[:, m]
        if not count.any():
            raise ValueError(f"action {action.name}: the log has no samples of {action.source!r}")
        short = (count > 0) & (count < action.samples)
        if short.any():
            i = int(np.argmax(short))
            raise ValueError(
                f"action {action.name} needs {action.samples} samples, but question {log.ids[i]!r} has {count[i]} of"
                f" {action.source!r} ({short.sum()} of {len(log)} questions have too few)"
            )
        blind = right[:, m] & ~answered[:, m]
        if action.samples > 1 and blind.any():
            i = int(np.argmax(blind))
            raise ValueError(
                f"action {action.name} counts answers, but question {log.ids[i]!r} has right samples of"
                f" {action.source!r} and no answers: they were not logged"
            )
