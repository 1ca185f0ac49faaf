"""From a log and a list of actions to an `OutcomeTable`: what every action earns and costs on every question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from alloc_jax.actions import Action, vote
from alloc_jax.measure.costs import action_costs, check_resources, unit_name, with_known_costs
from alloc_jax.measure.estimators.choice import COUNTING, REWARDED, estimate_actions, needs_reward
from alloc_jax.measure.estimators.u_statistics import Pairs, covariance
from alloc_jax.measure.shrink import METHODS, shrunk
from alloc_jax.price_book import PriceBook
from alloc_jax.types import OutcomeTable, SampleLog, Source

_SAMPLES_PER_BLOCK = 2**21  # slots of samples that are worked on at once


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
    return tuple(vote(name, k) for name in names for k in votes)


def measure(
    log: SampleLog,
    actions: Sequence[Action | str],
    resource: str | tuple[str, ...] = "samples",
    *,
    prices: PriceBook | None = None,
    missing: str = "error",
    shrink: str | None = None,
    covariance: bool = False,
) -> OutcomeTable:
    """The utility and cost of every action on every question, with standard errors.

    The utility of an action that draws k samples is its exact expectation over all k-subsets of the logged samples
    (`alloc_jax.measure.estimators.choice`). Its cost is k times the mean cost of one sample of the source on the question, in
    seconds the expected maximum over all k-subsets.

    Args:
      log: the samples.
      actions: K actions, or their names.
      resource: what is paid with, or a tuple of R of them: `samples`; `prompt_tokens`, `cached_tokens` (part of them),
        `completion_tokens`, `reasoning_tokens` (part of them); `tokens` (prompt, where the log has it, + completion tokens);
        `compute` (tokens x parameters, in the log's `compute_unit`: one mean sample of its most expensive source); `usd` (by
        `prices`, or as the log states it); `seconds` (of k samples drawn in parallel); `stated` (what the log says that one
        sample of each source costs, in the log's own unit).
      prices: the rates behind `usd`.
      missing: "error" refuses a log in which a price, token count or latency is missing; "drop" leaves out the questions
        that lack one, for all actions alike, and lists them in the table's `dropped`.
      shrink: "empirical_bayes" draws utilities towards what the other questions say of the same action, with posterior
        deviations in place of standard errors (`alloc_jax.measure.shrink`): for choosing on few samples, not for scoring.
      covariance: whether to keep the covariance of the utilities of each question, N K K floats: actions share samples.

    Returns:
      An `OutcomeTable`; cost is [N, K] for a string and [N, K, R] for a tuple. A pair without samples is not `valid`; one
      with a single sample has standard errors of NaN: how others would differ is unknown.

    Raises:
      ValueError: no or duplicate actions; an unknown source, resource or option; more samples asked for than a question
        has; a vote where answers were not logged, or rewards that are missing; missing prices, token counts or latencies.
        The message names the first place.
    """
    actions = _check_actions(log, actions)
    if shrink is not None and shrink not in METHODS:
        raise ValueError(f"shrink is None or {' or '.join(map(repr, METHODS))}, got {shrink!r}")
    log, dropped = with_known_costs(log, actions, resource, prices=prices, missing=missing)
    columns = [None if action.source is None else log.source_index(action.source) for action in actions]
    _check_samples(log, actions, columns)

    utility, utility_se = np.zeros((2, len(log), len(actions)))
    shared = np.zeros((len(log), len(actions), len(actions)), np.float32) if covariance else None
    for rows, pairs, present, which in _jobs(log, actions, columns):
        _fill(rows, pairs, present, which, actions, (utility, utility_se, shared))
    count = _by_action(log.count, columns)
    valid = (count > 0) | np.array([m is None for m in columns])
    if shrink:
        raw = utility_se.copy()
        for k in np.flatnonzero([m is not None for m in columns]):
            utility[:, k], utility_se[:, k] = shrunk(utility[:, k], raw[:, k], count[:, k], valid[:, k])
        if covariance:  # correlated as before, with the new deviations; as far as is known, where there was one sample
            scale = utility_se / np.where(raw > 0, raw, 1)
            shared *= (scale[:, :, None] * scale[:, None, :]).astype(np.float32)
            shared[:, range(len(actions)), range(len(actions))] = utility_se**2
    table = OutcomeTable(
        ids=log.ids,
        question=log.question,
        group=log.group,
        actions=actions,
        resources=(),
        units=(),
        utility=np.clip(utility, 0, 1).astype(np.float32),
        utility_se=utility_se.astype(np.float32),
        cost=np.zeros(utility.shape, np.float32),
        cost_se=np.zeros(utility.shape, np.float32),
        valid=valid,
        successes=_by_action(log.correct.sum(axis=2, dtype=np.int32), columns),
        samples=count,
        utility_cov=shared,
        dropped=dropped,
    )
    return _with_costs(table, log, resource, columns, prices)


def reprice(
    table: OutcomeTable,
    log: SampleLog,
    resource: str | tuple[str, ...],
    *,
    prices: PriceBook | None = None,
    missing: str = "error",
) -> OutcomeTable:
    """The same utilities at other costs: nothing is estimated again but what the samples cost.

    Args:
      table: measured on the log, or on questions of it.
      log: the samples.
      resource: as in `measure`, like `prices` and `missing`.

    Raises:
      ValueError: the log lacks a question of the table, or what its samples cost.
    """
    place = {identity: i for i, identity in enumerate(log.ids)}
    unknown = [identity for identity in table.ids if identity not in place]
    if unknown:
        raise ValueError(f"the log has no question {unknown[0]!r} ({len(unknown)} of the table's {len(table)})")
    log = log.select([place[identity] for identity in table.ids])
    columns = [None if action.source is None else log.source_index(action.source) for action in table.actions]
    if not np.array_equal(table.samples, _by_action(log.count, columns)):
        raise ValueError("the table was measured on other samples than the log holds")
    kept, dropped = with_known_costs(log, table.actions, resource, prices=prices, missing=missing)
    table = table.select(np.isin(log.ids, kept.ids))
    return _with_costs(replace(table, dropped=(*table.dropped, *dropped)), kept, resource, columns, prices)


def _with_costs(table: OutcomeTable, log: SampleLog, resource, columns, prices) -> OutcomeTable:
    resources = check_resources(resource, prices)
    cost, cost_se = action_costs(log, table.actions, resources, prices)
    if isinstance(resource, str):
        cost, cost_se = cost[..., 0], cost_se[..., 0]
    sampled = [m for m in columns if m is not None]
    units = tuple(unit_name(log, name, sampled, prices) for name in resources)
    return replace(table, resources=resources, units=units, cost=cost, cost_se=cost_se)


# ---------------------------------------------------------------------------------------------------------------
# Utilities
# ---------------------------------------------------------------------------------------------------------------


def _jobs(log: SampleLog, actions: Sequence[Action], columns: Sequence[int | None]) -> Iterator[tuple]:
    """(rows, pairs, which of rows x sources they are, actions' positions [sources, V]) to be estimated together.

    Sources with the same rules go together, so that equal counts are computed once and share their batches.
    """
    menus: dict[str, list[int]] = {}
    for k, action in enumerate(actions):
        if action.source is not None:
            menus.setdefault(action.source, []).append(k)

    def rule(k: int):
        return actions[k].aggregator, actions[k].samples, actions[k].ties

    together: dict[tuple, list[list[int]]] = {}
    for menu in menus.values():
        alike = sorted(menu, key=rule)
        together.setdefault(tuple(map(rule, alike)), []).append(alike)
    for menus_alike in together.values():
        which = np.array(menus_alike)
        sources = np.array([columns[k] for k in which[:, 0]])
        size = max(_SAMPLES_PER_BLOCK // (len(sources) * log.answer.shape[2]), 1)
        for start in range(0, len(log), size):
            rows = np.arange(start, min(start + size, len(log)))
            cells = np.ix_(rows, sources)
            present = log.count[cells].reshape(-1) > 0
            fields = (log.answer, log.correct, log.sampled, log.reward)
            parts = [x if x is None else x[cells].reshape(present.size, -1)[present] for x in fields]
            if present.any():
                yield rows, Pairs(*parts), present, which


def _fill(rows, pairs: Pairs, present: np.ndarray, which: np.ndarray, actions, out) -> None:
    """Estimate the actions of a job and put the results into their cells of the table."""
    utility, utility_se, shared = out
    found = estimate_actions(pairs, [actions[k] for k in which[0]])

    def spread(values):
        """[P, ...] over the pairs that are present, as [rows, sources, ...]."""
        full = np.zeros((present.size, *values.shape[1:]))
        full[present] = values
        return full.reshape(len(rows), len(which), *values.shape[1:])

    mean, error = (np.stack([getattr(part, name) for part in found], axis=1) for name in ("mean", "error"))
    cells = np.ix_(rows, which.reshape(-1))
    utility[cells] = spread(mean).reshape(len(rows), -1)
    utility_se[cells] = spread(error).reshape(len(rows), -1)
    if shared is not None:
        matrix = spread(covariance(np.stack([part.influence for part in found], axis=1), error))
        for s, of_source in enumerate(which):
            shared[np.ix_(rows, of_source, of_source)] = matrix[:, s]


def _by_action(values: np.ndarray, columns: Sequence[int | None]) -> np.ndarray:
    """i32[N, K] of i[N, M]; 0 for actions without a source."""
    out = np.zeros((len(values), len(columns)), np.int32)
    for k, m in enumerate(columns):
        if m is not None:
            out[:, k] = values[:, m]
    return out


# ---------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------


def _check_actions(log: SampleLog, actions: Sequence[Action | str]) -> tuple[Action, ...]:
    if isinstance(actions, (str, Action)):
        raise ValueError(f"actions are a sequence, got the single {actions!r}; parse_actions reads a string of several")
    if not len(log):
        raise ValueError("the log has no questions")
    parsed = tuple(Action.parse(action) if isinstance(action, str) else action for action in actions)
    if not parsed:
        raise ValueError("no actions to measure")
    seen = set()
    for action in parsed:
        if action in seen:
            raise ValueError(f"action {action.name} is listed twice")
        seen.add(action)
    return parsed


def _check_samples(log: SampleLog, actions: Sequence[Action], columns: Sequence[int | None]) -> None:
    """Every action can be taken wherever its source was sampled; votes have answers to count, choices rewards."""
    answered, right = np.asarray((log.answer >= 0).any(axis=2)), np.asarray(log.correct.any(axis=2))
    for action, m in zip(actions, columns, strict=True):
        if m is None:
            continue
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
        if action.samples == 1:
            continue
        blind = right[:, m] & ~answered[:, m]
        if action.aggregator in COUNTING and blind.any():
            i = int(np.argmax(blind))
            raise ValueError(
                f"action {action.name} counts answers, but question {log.ids[i]!r} has right samples of"
                f" {action.source!r} and no answers: they were not logged"
            )
        if action.aggregator not in REWARDED:
            continue
        if log.reward is None:
            raise ValueError(f"action {action.name} compares rewards, and the log has none")
        bare = needs_reward(log.answer[:, m], log.sampled[:, m]) & ~np.isfinite(log.reward[:, m])
        if bare.any():
            i = int(np.argmax(bare.any(axis=1)))
            raise ValueError(
                f"action {action.name} compares rewards, but question {log.ids[i]!r} has a sample of {action.source!r}"
                f" without one ({bare.any(axis=1).sum()} of {len(log)} questions)"
            )
