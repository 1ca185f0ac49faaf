"""Drift alarms: whether inputs, accuracy, cost and spend are still what they were, with a stated rate of false alarms.

Each monitor bets against "the mean of x is within a tolerance of what it was". With x in [mu - R, mu + R] and a stake f,

    L_t = 1 + f (+-(x_t - mu) - tolerance) / (R + tolerance)

has a mean of at most 1 as long as that holds, whatever came before, so the sum over all moments at which a change may have begun,

    M_t = (1 + M_{t-1}) L_t,

grows by 1 a question on average, and the first time it reaches A comes after A questions on average or more: an e-detector (Shin, Ramdas and
Rinaldo, arXiv 2203.03532), of Shiryaev and Roberts' form; the bets are those of Waudby-Smith and Ramdas (arXiv 2010.09686). A mean over
stakes, sides and monitors is one, too. So with J monitors the alarm is a monitor that reaches J A: one false alarm in A questions on average
at most.

The questions of a session are one observation, its mean. What x was is measured on the first decisions; the tolerance holds three standard
errors of that, and what drift nobody minds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.logs.traffic import Traffic

STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
ACCURACY, COST, INPUTS, SPEND = (
    0.03,
    0.1,
    0.05,
    0.05,
)  # drifts that nobody minds: points, octaves, ranks, parts of the budget
_OCTAVES, _TIMES = (
    3.0,
    8.0,
)  # of a cost beside what was predicted; of a spend beside the budget: what is beyond counts as this
_ERRORS = 3.0  # standard errors of the reference within the tolerance
_LEAST = 30  # sessions of a reference


@dataclass(frozen=True, eq=False, kw_only=True)
class Monitor:
    """One quantity that is watched."""

    name: str
    reference: float  # mean of the first decisions
    now: float  # mean of the last ones, as many
    tolerance: float
    evidence: np.ndarray = field(repr=False)  # f64[T] log M after each session, over stakes and sides
    question: np.ndarray = field(
        repr=False
    )  # i64[T] the decision at which a session ended, counted from the reference's end
    threshold: float  # log of what M must reach

    @property
    def alarm(self) -> int | None:
        """After how many questions it rang; None: it did not."""
        rang = np.flatnonzero(self.evidence >= self.threshold)
        return int(self.question[rang[0]]) + 1 if len(rang) else None


def watch_traffic(
    traffic: Traffic, *, reference: int = 1000, budget: float | None = None, every: float = 1e5
) -> tuple[Monitor, ...]:
    """Monitors of the decisions that follow the first ones.

    Args:
      traffic: decisions of one policy, in their order.
      reference: how many of the first decisions say what is normal.
      budget: mean cost per question; None: the spend is not watched.
      every: questions in which there is one false alarm at most, on average, over all monitors.

    Raises:
      ValueError: there are no decisions beyond the reference.
    """
    if not 0 < reference < len(traffic):
        raise ValueError(f"a reference of {reference} decisions leaves nothing to watch of {len(traffic)}")
    watched = [*_inputs(traffic, reference), *_predictions(traffic)]
    if budget is not None:
        over = np.minimum(traffic.spent / budget, _TIMES)
        watched.append(("spend", over, np.isfinite(over), SPEND, (0.0, _TIMES), 1.0))
    found = []
    for name, x, valid, tolerance, ends, mean in watched:
        before, after = ((valid & part) for part in (np.arange(len(x)) < reference, np.arange(len(x)) >= reference))
        first, _ = _by_session(x, traffic.session, before)
        values, last = _by_session(x, traffic.session, after)
        if len(first) < _LEAST or not len(values):
            continue
        error = 0.0 if mean is not None else _ERRORS * first.std() / np.sqrt(len(first))
        center = float(first.mean()) if mean is None else mean
        half = max(ends[1] - center, center - ends[0])
        sides = (1.0,) if mean is not None else (1.0, -1.0)  # of the spend, only too much is wrong
        evidence = _evidence(values - center, half, tolerance + error, sides)
        now = float(values[-len(first) :].mean())
        found.append((name, center, now, tolerance + error, evidence, last - reference))
    threshold = float(np.log(every * max(len(found), 1)))
    return tuple(
        Monitor(name=n, reference=m, now=now, tolerance=t, evidence=e, question=q, threshold=threshold)
        for n, m, now, t, e, q in found
    )


def _inputs(traffic: Traffic, reference: int) -> list[tuple]:
    """Ranks, among the first decisions, of what the policy predicts: how easy a question is, and how much compute would help."""
    rows = np.arange(len(traffic))
    cheapest = np.where(traffic.allowed, traffic.cost, np.inf).argmin(axis=1)
    easy = traffic.utility[rows, cheapest]
    gain = np.where(traffic.allowed, traffic.utility, -np.inf).max(axis=1) - easy
    found = []
    for name, x in (("inputs: ease", easy), ("inputs: gain", gain)):
        known = np.sort(x[:reference])
        rank = 0.5 * (np.searchsorted(known, x, "left") + np.searchsorted(known, x, "right")) / reference
        found.append((name, rank, np.isfinite(rank), INPUTS, (0.0, 1.0), None))
    return found


def _predictions(traffic: Traffic) -> list[tuple]:
    """By source: verdicts beside the predicted utility, and costs beside the predicted cost."""
    rows, found = np.arange(len(traffic)), []
    source = np.array([_source(name) for name in traffic.actions], object)[traffic.action]
    off = traffic.reward - np.clip(traffic.utility[rows, traffic.action], 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        dear = np.clip(np.log2(traffic.spent / traffic.cost[rows, traffic.action]), -_OCTAVES, _OCTAVES)
    for name in sorted({s for s in source if s is not None}):
        mine = source == name
        found.append((f"accuracy of {name}", off, mine & np.isfinite(off), ACCURACY, (-1.0, 1.0), None))
        found.append((f"cost of {name}", dear, mine & np.isfinite(dear), COST, (-_OCTAVES, _OCTAVES), None))
    return found


def _source(name: str) -> str | None:
    try:
        return Action.parse(name).source
    except ValueError:  # rules, of several sources
        return name


def _by_session(x: np.ndarray, session: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means of x over sessions, in the order in which these end, and the last decision of each."""
    at = np.flatnonzero(valid)
    if not len(at):
        return np.zeros(0), np.zeros(0, int)
    _, code = np.unique(session[at], return_inverse=True)
    mean = np.bincount(code, x[at]) / np.bincount(code)
    last = np.zeros(len(mean), int)
    np.maximum.at(last, code, at)
    order = np.argsort(last, kind="stable")
    return mean[order], last[order]


def _evidence(off: np.ndarray, half: float, tolerance: float, sides: Sequence[float]) -> np.ndarray:
    """log M f64[T], the mean over stakes and sides."""
    found = []
    for side in sides:
        for stake in STAKES:
            steps = np.log1p(stake * np.maximum((side * off - tolerance) / (half + tolerance), -1.0))
            total = np.cumsum(steps)
            # M_t = sum over j <= t of the product of L_j .. L_t
            before = np.concatenate([[0.0], -total[:-1]])
            found.append(total + np.logaddexp.accumulate(before))
    return np.logaddexp.reduce(found, axis=0) - np.log(len(found))
