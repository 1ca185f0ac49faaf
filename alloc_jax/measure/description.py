"""What is in a sample log: the facts that decide whether compute is worth allocating, and where.

Allocation has something to gain when questions differ: some right nearly always, some nearly never, some only with more
samples or a larger source, and some where a vote does harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.actions import Action, passes, vote
from alloc_jax.measure.costs import unit_name
from alloc_jax.measure.table import measure, menu
from alloc_jax.types import SAMPLE_FIELDS, OutcomeTable, SampleLog

VOTE = 16  # the vote that `vote_gain` and its neighbours speak of
HURT = 0.05  # a vote hurts a question where it loses more accuracy than this against one sample
EASY, HARD = 0.9, 0.1  # right at least 9 times in 10, at most once in 10


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """One source over the questions it was sampled on; None where the log does not say."""

    name: str
    parameters: float | None
    questions: int
    samples: tuple[int, float, int]  # a question: fewest, mean, most
    accuracy: float  # mean over questions of the share of right samples
    easy: float  # share of the questions right at least 9 times in 10
    hard: float  # share of the questions right at most once in 10
    silent: float | None  # share of the samples without an answer; None where answers were not logged
    missing: tuple[str, ...]  # fields that some or all samples lack
    tokens: float | None  # mean over questions of the mean tokens of a sample
    total_prompt_tokens: float | None  # of all samples, like the three below; None where one sample's is unknown
    total_completion_tokens: float | None
    total_seconds: float | None
    total_usd: float | None
    tokens_difficulty: float | None  # Spearman correlation over questions of mean tokens and share of wrong samples
    vote_gain: float | None  # accuracy of vote-16 minus that of one sample
    vote_hurts: float | None  # share of the questions on which vote-16 loses more than 0.05
    vote_loses: float | None  # share of the questions on which vote-16 loses anything
    best: int  # questions on which one sample of it is most accurate; ties go to the cheapest
    best_response: int  # questions on which one sample of it is the only best response at some multiplier


@dataclass(frozen=True, kw_only=True)
class GroupFacts:
    """One group of questions."""

    name: str | None
    questions: int
    accuracy: tuple[float | None, ...]  # of each source; None where it has no samples
    tokens: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class LogFacts:
    """What `describe` finds in a log."""

    questions: int
    samples: int
    missing_pairs: int  # (question, source) pairs without samples
    sources: tuple[SourceFacts, ...]
    groups: tuple[GroupFacts, ...]  # empty where the log names none
    cost_unit: str  # the unit behind "cheapest" and the multiplier


def describe(log: SampleLog) -> LogFacts:
    """The facts of a log.

    Args:
      log: a log with at least one question.

    Raises:
      ValueError: the log has no questions.
    """
    if not len(log):
        raise ValueError("the log has no questions")
    accuracy = _mean(log.correct, log.sampled)
    tokens = None if log.tokens is None else _mean(log.tokens, log.sampled)
    cost, unit = _single_costs(log, accuracy)
    responses = _responses(accuracy, cost)
    names = sorted(set(log.group), key=lambda name: (name is None, name))
    groups = [] if names == [None] else [_describe_group(log, name, accuracy, tokens) for name in names]
    return LogFacts(
        questions=len(log),
        samples=int(log.count.sum()),
        missing_pairs=int((log.count == 0).sum()),
        sources=tuple(_describe_source(log, m, accuracy, tokens, responses) for m in range(len(log.sources))),
        groups=tuple(groups),
        cost_unit=unit,
    )


def _describe_source(log: SampleLog, m: int, accuracy: np.ndarray, tokens: np.ndarray | None, responses) -> SourceFacts:
    present = log.count[:, m] > 0
    count, right = log.count[present, m], accuracy[present, m]
    spent = None if tokens is None else tokens[present, m]
    known = spent is not None and bool(np.isfinite(spent).all()) and spent.size > 0
    gains = _vote_gains(log, m)
    return SourceFacts(
        name=log.sources[m].name,
        parameters=log.sources[m].parameters,
        questions=int(present.sum()),
        samples=(int(count.min(initial=log.count.max())), _average(count), int(count.max(initial=0))),
        accuracy=_average(right),
        easy=_average(right >= EASY - 1e-9),
        hard=_average(right <= HARD + 1e-9),
        silent=_average((log.answer[:, m] < 0)[log.sampled[:, m]]) if _logged(log, m) else None,
        missing=tuple(name for name in SAMPLE_FIELDS if _lacks(log, name, m)),
        tokens=_average(spent) if known else None,
        total_prompt_tokens=_total(log, "prompt_tokens", m),
        total_completion_tokens=_total(log, "completion_tokens", m),
        total_seconds=_total(log, "latency_s", m),
        total_usd=_total(log, "usd", m),
        tokens_difficulty=spearman(spent, 1 - right) if known else None,
        vote_gain=None if gains is None else _average(gains),
        vote_hurts=None if gains is None else _average(gains < -HURT),
        vote_loses=None if gains is None else _average(gains < -1e-6),
        best=int(responses[0][:, m].sum()),
        best_response=int(responses[1][:, m].sum()),
    )


def _describe_group(log: SampleLog, name: str | None, accuracy: np.ndarray, tokens: np.ndarray | None) -> GroupFacts:
    rows = np.array([group == name for group in log.group])

    def means(values: np.ndarray | None) -> tuple[float | None, ...]:
        if values is None:
            return (None,) * len(log.sources)
        known = [column[np.isfinite(column)] for column in values[rows].T]
        return tuple(_average(column) if column.size else None for column in known)

    return GroupFacts(name=name, questions=int(rows.sum()), accuracy=means(accuracy), tokens=means(tokens))


def _vote_gains(log: SampleLog, m: int) -> np.ndarray | None:
    """f32[N'] vote-16 minus one sample, on the questions of a source; None with too few samples or unlogged answers."""
    if _fewest(log, m) < VOTE or not _logged(log, m):
        return None
    table = measure(log, menu([log.sources[m]], votes=(1, VOTE)))
    return (table.utility[:, 1] - table.utility[:, 0])[table.valid[:, 0]]


def _fewest(log: SampleLog, m: int) -> int:
    """The fewest samples that a question of a source has."""
    count = log.count[:, m]
    return int(count[count > 0].min(initial=count.max()))


def _logged(log: SampleLog, m: int) -> bool:
    """Whether the answers of a source were logged: they were not if some question has right samples and not one answer."""
    return not (log.correct[:, m].any(axis=1) & (log.answer[:, m] < 0).all(axis=1)).any()


def fitting_menu(log: SampleLog, votes: Sequence[int] = (1, 4, 8, 16), halved: bool = False) -> tuple[Action, ...]:
    """Every source with the votes for which all its questions have enough samples: the part of a menu that the log can measure.

    A source whose answers were not logged gets `passes` in place of votes: right where any of its k samples is.

    Args:
      log: the samples.
      votes: the sample counts.
      halved: whether half of the samples has to suffice, so that plans are chosen on one half and scored on the other.
    """
    actions = []
    for m, source in enumerate(log.sources):
        fewest = _fewest(log, m)
        most = max(fewest // 2, 1) if halved and fewest else fewest
        make = vote if _logged(log, m) or most == 1 else passes
        actions += [make(source.name, k) for k in votes if k <= most]
    return tuple(actions)


def _single_costs(log: SampleLog, accuracy: np.ndarray) -> tuple[np.ndarray, str]:
    """The cost of one sample of every pair, in the most telling resource that the log knows everywhere."""
    for resource in ("compute", "tokens", "samples"):
        try:
            sampled = [source for m, source in enumerate(log.sources) if log.count[:, m].any()]
            table = measure(log, menu(sampled, votes=(1,)), resource)
        except ValueError:
            continue
        cost = np.zeros(accuracy.shape)
        cost[:, [log.source_index(action.source) for action in table.actions]] = table.cost
        return cost, unit_name(log, resource)
    raise ValueError("the log has no samples")


def _responses(utility: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool[N, M] where one sample is the most accurate, and where it is the only best response at some multiplier > 0.

    Source a beats every b at multiplier l if l is below (u_a - u_b) / (c_a - c_b) for cheaper b, and above it for more expensive b.
    """
    valid = np.isfinite(utility)
    u = np.where(valid, utility, 0.0)
    gain = u[:, :, None] - u[:, None, :]  # a against b
    extra = cost[:, :, None] - cost[:, None, :]
    rival = valid[:, None, :] & valid[:, :, None]
    earlier = np.tri(utility.shape[1], k=-1, dtype=bool)
    beaten = (extra == 0) & ((gain < 0) | ((gain == 0) & earlier[None]))
    slope = gain / np.where(extra == 0, 1, extra)
    highest = np.where(rival & (extra > 0), slope, np.inf).min(axis=2)
    lowest = np.where(rival & (extra < 0), slope, 0.0).max(axis=2, initial=0.0)
    response = valid & (lowest < highest) & ~(rival & beaten).any(axis=2)
    worse = (gain < 0) | ((gain == 0) & ((extra > 0) | ((extra == 0) & earlier[None])))
    return valid & ~(rival & worse).any(axis=2), response


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None where one side is constant.

    >>> round(spearman(np.array([1, 2, 3, 4]), np.array([10, 20, 40, 30])), 3)
    0.8
    """
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _mean(values: np.ndarray, sampled: np.ndarray) -> np.ndarray:
    """f64[N, M] mean over the samples of a pair; NaN where there are none, or one is unknown."""
    total = np.where(sampled, values, 0).sum(axis=2, dtype=np.float64)
    count = sampled.sum(axis=2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _average(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _lacks(log: SampleLog, name: str, m: int) -> bool:
    values = getattr(log, name)
    return values is None or bool((log.sampled[:, m] & np.isnan(values[:, m])).any())


def _total(log: SampleLog, name: str, m: int) -> float | None:
    """The sum over all samples of a source; None where it has none, or one sample's value is unknown."""
    if _lacks(log, name, m) or not log.count[:, m].any():
        return None
    return float(np.sum(getattr(log, name)[:, m], where=log.sampled[:, m], dtype=np.float64))


# ---------------------------------------------------------------------------------------------------------------
# As text
# ---------------------------------------------------------------------------------------------------------------

_WIDE = 8  # more sources than this stand one under another
_ROWS = (
    ("parameters", "parameters", "{:.3g}"),
    ("questions", "questions", "{}"),
    ("samples per question", "samples", "{0[0]} / {0[1]:.1f} / {0[2]}"),
    ("accuracy of one sample", "accuracy", "{:.3f}"),
    ("right >= 9 in 10", "easy", "{:.1%}"),
    ("right <= 1 in 10", "hard", "{:.1%}"),
    ("samples without answer", "silent", "{:.1%}"),
    ("mean tokens", "tokens", "{:.1f}"),
    ("total prompt tokens", "total_prompt_tokens", "{:,.0f}"),
    ("total completion tokens", "total_completion_tokens", "{:,.0f}"),
    ("total seconds", "total_seconds", "{:,.1f}"),
    ("total usd", "total_usd", "{:,.4f}"),
    ("tokens ~ difficulty", "tokens_difficulty", "{:+.2f}"),
    (f"vote-{VOTE} gain", "vote_gain", "{:+.3f}"),
    (f"vote-{VOTE} loses > {HURT}", "vote_hurts", "{:.1%}"),
    (f"vote-{VOTE} loses at all", "vote_loses", "{:.1%}"),
    ("most accurate on", "best", "{}"),
    ("best response on", "best_response", "{}"),
)


def format_description(facts: LogFacts) -> str:
    """The facts as text: one column per source (one line, where there are many), then one line per group."""
    lines = [f"{facts.questions} questions, {len(facts.sources)} sources, {facts.samples} samples"]
    if facts.missing_pairs:
        lines.append(f"{facts.missing_pairs} (question, source) pairs have no samples")
    rows = [["", *(source.name for source in facts.sources)]]
    rows += [[title, *(_cell(getattr(s, name), form) for s in facts.sources)] for title, name, form in _ROWS]
    if len(facts.sources) > _WIDE:
        rows = [list(row) for row in zip(*rows, strict=True)]
    lines += ["", *_aligned(rows)]
    lines += [
        "",
        f"'best response': one sample is the only best response at some multiplier; costs in {facts.cost_unit}",
    ]
    for missing in dict.fromkeys(source.missing for source in facts.sources if source.missing):
        names = [source.name for source in facts.sources if source.missing == missing]
        whose = "all sources" if len(names) == len(facts.sources) > 1 else ", ".join(names)
        lines.append(f"{whose}: no or incomplete {', '.join(missing)}")
    if facts.groups:
        names = [source.name for source in facts.sources]
        rows = [["group", "questions", *names, *(f"{name} tokens" for name in names)]]
        for group in facts.groups:
            cells = [_cell(x, "{:.3f}") for x in group.accuracy] + [_cell(x, "{:.1f}") for x in group.tokens]
            rows.append([str(group.name), str(group.questions), *cells])
        lines += ["", "accuracy of one sample and mean tokens by group", *_aligned(rows)]
    return "\n".join(lines)


def format_table(table: OutcomeTable) -> str:
    """A table's means over its questions as text: one line an action, with the standard errors that the samples leave.

    The means are over the questions on which the action is valid. An error is "-" where one of them has a single sample.
    """
    cost, cost_se = (x.reshape(len(table), len(table.actions), -1) for x in (table.cost, table.cost_se))
    rows = [["action", "questions", "utility", "+-", *(part for unit in table.units for part in (unit, "+-"))]]
    for k, action in enumerate(table.actions):
        on = table.valid[:, k]
        pairs = [(table.utility[on, k], table.utility_se[on, k])]
        pairs += [(cost[on, k, r], cost_se[on, k, r]) for r in range(len(table.units))]
        cells = [_number(x) for values, errors in pairs for x in (_average(values), _error_of_mean(errors))]
        rows.append([action.name, str(int(on.sum())), *cells])
    return "\n".join(_aligned(rows))


def _error_of_mean(errors: np.ndarray) -> float:
    return float(np.sqrt(np.sum(errors.astype(np.float64) ** 2)) / max(len(errors), 1))


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"


def _cell(value, form: str) -> str:
    return "-" if value is None else form.format(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
