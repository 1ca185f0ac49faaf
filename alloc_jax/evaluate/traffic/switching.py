"""Whether a candidate may be switched on: its accuracy beside the live policy's on the same decisions, at the same budget.

The verdict may be asked for again and again while traffic comes in, so it rests on an interval that holds at all times at once: an asymptotic
confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv 2103.06476),

    mean +- sigma sqrt(2 (t r + 1) / (t^2 r) log(sqrt(t r + 1) / 0.05)),

for t sessions of standard deviation sigma; r is fixed beforehand, so that the interval is narrowest around `TYPICAL` sessions. It is half as
wide again as the interval of a single look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.traffic.off_policy import NoOverlap, OffPolicy, evaluate_traffic
from alloc_jax.learn.calibration import Prediction
from alloc_jax.logs.traffic import Traffic

YES, NO, MORE, UNKNOWN = "yes", "no", "need more", "cannot tell"
TYPICAL = 2000  # sessions at which the interval of all times is narrowest
_ALPHA = 0.05
_FAR = 1000  # times the sessions there are, beyond which no number is said


@dataclass(frozen=True, eq=False, kw_only=True)
class Switch:
    """Whether a candidate is safe to switch on, and what that rests on."""

    verdict: str  # YES: not worse by more than the margin; NO: worse by more; MORE: not known yet; UNKNOWN: the log cannot show it
    margin: float  # of accuracy that may be lost
    candidate: OffPolicy | None
    live: OffPolicy | None
    difference: Interval | None  # in accuracy, candidate minus live, paired; of a single look
    always: Interval | None  # the same, however often it is looked at
    more: (
        int | None
    )  # decisions that are lacking, if things stay as they are; None where none are, or where nobody can say
    lacking: dict[str, str]  # by action: why the log cannot show what the candidate would earn


def compare_candidate(traffic: Traffic, candidate: Prediction, budget: float, margin: float = 0.01) -> Switch:
    """Compare a candidate with the live policy, both at multipliers that are solved for a budget.

    Args:
      traffic: decisions of the live policy, with chances. Where rules took its place they are the last of the actions.
      candidate: its predictions of the same questions.
      budget: mean cost per question.
      margin: accuracy that may be lost.

    Raises:
      ValueError: see `evaluate_traffic`.
    """
    many = candidate.score.shape[1]
    live = Prediction(traffic.utility, traffic.cost)
    own, theirs, bound = traffic, candidate, budget
    if many < len(traffic.actions):  # the rules are no action that the candidate could take
        nothing = np.zeros((len(traffic), len(traffic.actions) - many), np.float32)
        theirs = Prediction(*(np.concatenate([part, nothing], axis=1) for part in (candidate.score, candidate.cost)))
        own = traffic.bounded(many)
        taken = np.zeros((len(traffic), len(traffic.actions)), np.float32)
        taken[:, many:] = 1.0
        live, bound = Prediction(taken, 1 + 0 * taken), math.inf
    try:
        found = evaluate_traffic(own, theirs, budget)
        beside = evaluate_traffic(traffic, live, min(bound, 1e30))
    except NoOverlap as error:
        return Switch(
            verdict=UNKNOWN, margin=margin, candidate=None, live=None, difference=None, always=None, more=None,
            lacking=error.lacking,
        )  # fmt: skip
    always, spread, sessions = anytime(found.terms - beside.terms, traffic.session)
    verdict = YES if always.low > -margin else NO if always.high < -margin else MORE
    more = None
    if verdict == MORE:
        needed = _sessions_for(abs(always.value + margin), spread, sessions)
        more = None if needed is None else math.ceil((needed - sessions) * len(traffic) / sessions)
    return Switch(
        verdict=verdict, margin=margin, candidate=found, live=beside, difference=found.minus(beside), always=always,
        more=more, lacking={},
    )  # fmt: skip


def anytime(terms: np.ndarray, session: np.ndarray) -> tuple[Interval, float, int]:
    """The mean of terms f64[N] with an interval that holds at all times at once, the sessions' standard deviation, and their number."""
    mean = float(terms.mean())
    count = np.bincount(session)
    off = np.bincount(session, terms - mean)[count > 0]
    spread = float(off.std() * len(off) / len(terms))  # of what a session adds to the mean
    half = _half(len(off), spread)
    return Interval(mean, mean - half, mean + half), spread, len(off)


def _half(sessions: float, spread: float) -> float:
    r = (-2 * math.log(_ALPHA) + math.log(-2 * math.log(_ALPHA)) + 1) / TYPICAL
    t = sessions
    return spread * math.sqrt(2 * (t * r + 1) / (t * t * r) * math.log(math.sqrt(t * r + 1) / _ALPHA))


def _sessions_for(distance: float, spread: float, sessions: int) -> float | None:
    """How many sessions make the interval narrower than a distance; None beyond all that can be waited for."""
    if distance <= _half(_FAR * sessions, spread):
        return None
    low, high = float(sessions), float(_FAR * sessions)
    for _ in range(50):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _half(middle, spread) < distance else (middle, high)
    return high
