"""Off-policy evaluation: what a candidate would have earned and spent on decisions that another policy took.

A decision i took action a_i with probability p_i, known because the gateway draws it. A candidate that answers with b_i at some
multiplier has the weight w_i = [b_i = a_i] / p_i there, and

    V = mean_i  q_i(b_i) + w_i (r_i - q_i(a_i)),

is an unbiased estimate of its accuracy whatever the model q predicts, since p_i is exact (doubly robust: Dudik, Langford and Li,
arXiv 1103.4601); with q = 0 it is the inverse-propensity estimate (Horvitz and Thompson 1952), and with the weights divided by their mean
the self-normalised one (Swaminathan and Joachims 2015). Cost is estimated alike, and the candidate's multiplier is solved again so that its
estimated spend meets the budget. Propensities that depend on what came before (the pace does) leave the terms a martingale, and the
estimate unbiased.

Verdicts may be missing. Among decisions with one action they are taken to be missing at random: those that came are divided by the share
that came, action by action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alloc_jax.evaluate.intervals import Interval
from alloc_jax.learn.calibration import Prediction
from alloc_jax.logs.traffic import Traffic

METHODS = {  # whether a model is corrected, whether the weights are divided by their mean
    "inverse propensity": (False, False),
    "self-normalised": (False, True),
    "doubly robust": (True, False),
}
LEAST_CHANCE = 1e-6  # below which an action had none
LEAST_SEEN = 10  # verdicts on an action that a candidate would take, below which nothing is said of it
_RARE = 0.05  # share of the decisions from which a candidate takes an action often enough to ask for them
_STEPS = 30  # of the bisection; the two multipliers are mixed so that the budget is met
_BESIDE = 1.3  # multipliers between which the frontier's slope is taken


class NoOverlap(ValueError):
    """A candidate would do what the log does not show.

    Args:
      lacking: what is lacking, by the action's name.
    """

    def __init__(self, lacking: dict[str, str]):
        said = "; ".join(f"{name}: {why}" for name, why in lacking.items())
        super().__init__(f"the log cannot tell what this candidate would earn: {said}")
        self.lacking = lacking


@dataclass(frozen=True, eq=False, kw_only=True)
class OffPolicy:
    """A candidate at a budget, by decisions that it did not take."""

    method: str
    budget: float
    accuracy: Interval  # at the budget, with the multiplier solved again
    spend: Interval  # of the candidate at that multiplier; the pace of a gateway takes up the difference
    multiplier: tuple[float, float]  # two adjacent ones
    weight: float  # share of the questions at the first of them
    decisions: int
    labelled: int  # with a verdict
    sessions: int
    effective: float  # verdicts: as many that the candidate had taken itself would be as sure, Kish's size
    share: dict[str, float] = field(repr=False)  # of the decisions, by the action that the candidate takes
    terms: np.ndarray = field(repr=False)  # f64[N] whose mean is the accuracy, and whose spread is its error
    session: np.ndarray = field(repr=False)  # i64[N]

    def minus(self, other: OffPolicy) -> Interval:
        """The difference in accuracy from another candidate on the same decisions, paired."""
        return clustered(self.terms - other.terms, self.session)


class _Logged(NamedTuple):
    """What the kernel reads: a log and a candidate, as arrays on the device."""

    score: jax.Array  # f32[N, K] of the candidate
    cost: jax.Array  # f32[N, K] likewise
    allowed: jax.Array  # bool[N, K]
    action: jax.Array  # i32[N]
    inverse: jax.Array  # f32[N] of the chance that the action had
    seen: jax.Array  # f32[N] 0 without a verdict, else the inverse of the share of verdicts on the action
    reward: jax.Array  # f32[N], 0 without a verdict
    spent: jax.Array  # f32[N]
    utility: jax.Array  # f32[N, K] of the model; 0 without one
    model_cost: jax.Array  # f32[N, K] likewise


def evaluate_traffic(
    traffic: Traffic, candidate: Prediction, budget: float, method: str = "doubly robust"
) -> OffPolicy:
    """A candidate's accuracy and spend at a budget, from logged decisions.

    Args:
      traffic: N decisions, with the chance that every action had.
      candidate: scores and costs f32[N, K] that it predicts of the same questions, for the same actions.
      budget: mean cost per question that its multiplier is solved for.
      method: one of `METHODS`; the doubly robust one corrects the predictions that the live policy logged.

    Raises:
      NoOverlap: the candidate takes actions that had no chance, or on which there are too few verdicts; named.
      ValueError: the method is unknown, shapes differ, nothing has a verdict, or the budget is below the candidate's cheapest plan.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: {', '.join(METHODS)}")
    if candidate.score.shape != traffic.behaviour.shape:
        raise ValueError(f"the candidate predicts shape {candidate.score.shape}, the log has {traffic.behaviour.shape}")
    if not traffic.labelled.any():
        raise ValueError(f"none of {len(traffic)} decisions has a verdict: post outcomes")
    modelled, normalised = METHODS[method]
    logged, count = _logged(traffic, candidate, modelled), len(traffic)
    low, high = (float(x) for x in _resolve(logged, jnp.float32(budget), normalised=normalised))
    found = [_terms_at(logged, multiplier, normalised) for multiplier in (low, high)]
    dear, cheap = (float(terms.spend.mean()) for terms in found)
    if cheap > budget * (1 + 1e-4) and low == high:
        raise ValueError(f"a budget of {budget:g} is below the candidate's cheapest plan, which spends {cheap:g}")
    weight = 1.0 if dear <= cheap else float(np.clip((budget - cheap) / (dear - cheap), 0, 1))
    share = weight * _shares(found[0].best, traffic) + (1 - weight) * _shares(found[1].best, traffic)
    _check_overlap(traffic, [terms.best for terms in found], share)

    def mixed(name: str) -> np.ndarray:
        first, second = (getattr(terms, name) for terms in found)
        return weight * first + (1 - weight) * second

    accuracy, spend, weights = mixed("accuracy"), mixed("spend"), mixed("weights")
    bound = low > 0  # else the budget binds nothing, and a spend that is off moves no multiplier
    slope = _slope(logged, weight * low + (1 - weight) * high) if bound else 0.0
    terms = accuracy - slope * (spend - spend.mean())
    return OffPolicy(
        method=method,
        budget=budget,
        accuracy=clustered(terms, traffic.session),
        spend=clustered(spend, traffic.session),
        multiplier=(low, high),
        weight=weight,
        decisions=count,
        labelled=int(traffic.labelled.sum()),
        sessions=len(np.unique(traffic.session)),
        effective=float(weights.sum() ** 2 / max((weights**2).sum(), 1e-30)),
        share=dict(zip(traffic.actions, map(float, share), strict=True)),
        terms=terms,
        session=traffic.session,
    )


def clustered(terms: np.ndarray, session: np.ndarray) -> Interval:
    """The mean of terms f64[N] with a 95 % interval that lets the terms of one session err together (Liang and Zeger 1986).

    Its quantile is that of Student's t with as many degrees of freedom as the squared sums of the sessions are worth, after Satterthwaite:
    a few sessions with large weights are few.
    """
    off = np.bincount(session, terms - terms.mean())
    off = off[np.bincount(session) > 0]
    squares = off**2
    total = float(squares.sum())
    if len(off) < 2:
        return Interval(float(terms.mean()), np.nan, np.nan)
    error = np.sqrt(total * len(off) / (len(off) - 1)) / len(terms)
    freedom = max(2 * total**2 / max(float(((squares - squares.mean()) ** 2).sum()), 1e-300), 4.0)
    half = _quantile(freedom) * error
    return Interval(float(terms.mean()), float(terms.mean() - half), float(terms.mean() + half))


# -----------------------------------------------------------------------------------------------------------


class _Terms(NamedTuple):
    best: Any  # i32[N] the candidate's action
    accuracy: Any  # f64[N]
    spend: Any  # f64[N]
    weights: Any  # f64[N] of the verdicts


def _logged(traffic: Traffic, candidate: Prediction, modelled: bool) -> _Logged:
    count = np.bincount(traffic.action, minlength=len(traffic.actions))
    came = np.bincount(traffic.action[traffic.labelled], minlength=len(traffic.actions))
    seen = np.where(traffic.labelled, (count / np.maximum(came, 1))[traffic.action], 0.0)
    model = (traffic.utility, traffic.cost) if modelled else (np.zeros_like(traffic.utility),) * 2
    arrays = (
        candidate.score, candidate.cost, traffic.allowed, traffic.action, 1 / traffic.chance, seen,
        np.nan_to_num(traffic.reward), traffic.spent, *model,
    )  # fmt: skip
    kinds: tuple[Any, ...] = (np.float32, np.float32, bool, np.int32, *6 * (np.float32,))
    return _Logged(*(jnp.asarray(np.asarray(a, kind)) for a, kind in zip(arrays, kinds, strict=True)))


def _best(logged: _Logged, multiplier: jax.Array) -> jax.Array:
    value = jnp.where(logged.allowed, logged.score - multiplier * logged.cost, jnp.finfo(jnp.float32).min)
    return jnp.argmax(value, axis=1).astype(jnp.int32)


def _of(values: jax.Array, action: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, action[:, None], axis=1)[:, 0]


def _corrected(base: jax.Array, weights: jax.Array, off: jax.Array, normalised: bool) -> jax.Array:
    """Terms f[N] whose mean is the estimate: of self-normalised weights, the linear part."""
    if not normalised:
        return base + weights * off
    mean = jnp.maximum(weights.mean(), 1e-30)
    ratio = (weights * off).mean() / mean
    return base + ratio + weights / mean * (off - ratio)


def _spend(logged: _Logged, best: jax.Array, normalised: bool) -> jax.Array:
    weights = jnp.where(best == logged.action, logged.inverse, 0.0)
    off = logged.spent - _of(logged.model_cost, logged.action)
    return _corrected(_of(logged.model_cost, best), weights, off, normalised)


@partial(jax.jit, static_argnames="normalised")
def _terms(logged: _Logged, multiplier: jax.Array, normalised: bool) -> _Terms:
    best = _best(logged, multiplier)
    weights = jnp.where(best == logged.action, logged.inverse, 0.0) * logged.seen
    off = logged.reward - _of(logged.utility, logged.action)
    accuracy = _corrected(_of(logged.utility, best), weights, off, normalised)
    return _Terms(best, accuracy, _spend(logged, best, normalised), weights)


def _terms_at(logged: _Logged, multiplier: float, normalised: bool) -> _Terms:
    """On the host, where sums are of float64."""
    best, *terms = map(np.asarray, _terms(logged, jnp.float32(multiplier), normalised=normalised))
    return _Terms(best, *(part.astype(np.float64) for part in terms))


@partial(jax.jit, static_argnames="normalised")
def _resolve(logged: _Logged, budget: jax.Array, normalised: bool) -> tuple[jax.Array, jax.Array]:
    """Two adjacent multipliers f32[] between which the estimated spend passes the budget."""

    def excess(multiplier: jax.Array) -> jax.Array:
        return (_spend(logged, _best(logged, multiplier), normalised) - budget).mean()

    scale = jnp.maximum(jnp.ptp(logged.score) / jnp.maximum(jnp.ptp(logged.cost), 1e-30), 1e-30)

    def rising(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        return (excess(state[1]) > 0) & (state[1] < 4.0**19 * scale)

    def bisected(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = 0.5 * (ends[0] + ends[1])
        over = excess(middle) > 0
        return jnp.where(over, middle, ends[0]), jnp.where(over, ends[1], middle)

    low, high = jax.lax.while_loop(rising, lambda state: (state[1], 4 * state[1]), (jnp.zeros_like(scale), scale))
    low, high = jax.lax.fori_loop(0, _STEPS, bisected, (low, high))
    idle = excess(jnp.zeros_like(scale)) <= 0
    low = jnp.where(idle, 0.0, low)
    high = jnp.where(idle, 0.0, high)
    return jnp.where(excess(high) > 0, high, low), high


@jax.jit
def _predicted(logged: _Logged, multiplier: jax.Array) -> tuple[jax.Array, jax.Array]:
    best = _best(logged, multiplier)
    return _of(logged.score, best).mean(), _of(logged.cost, best).mean()


def _slope(logged: _Logged, multiplier: float) -> float:
    """What a unit of spend is worth around a multiplier, by the candidate's own predictions: an estimated spend that is off by one moves the
    accuracy at the budget by this much."""
    (more, dear), (less, cheap) = (
        map(float, _predicted(logged, jnp.float32(m))) for m in (multiplier / _BESIDE, multiplier * _BESIDE)
    )
    return max((more - less) / (dear - cheap), 0.0) if dear > cheap else multiplier


def _shares(best: np.ndarray, traffic: Traffic) -> np.ndarray:
    return np.bincount(best, minlength=len(traffic.actions)) / len(best)


def _check_overlap(traffic: Traffic, bests: list[np.ndarray], share: np.ndarray) -> None:
    """Refuse a candidate that takes actions which had no chance where it takes them, or of which too little is known."""
    lacking = {}
    for k, name in enumerate(traffic.actions):
        takes = np.logical_or.reduce([best == k for best in bests])
        without = takes & (traffic.behaviour[:, k] < LEAST_CHANCE)
        known = int((takes & (traffic.action == k) & traffic.labelled).sum())
        if without.any():
            lacking[name] = (
                f"had no chance on {100 * without.mean():.3g} % of the decisions, where the candidate takes it"
            )
        elif share[k] >= _RARE and known < LEAST_SEEN:
            lacking[name] = f"{known} verdicts where the candidate takes it, on {100 * share[k]:.3g} % of the decisions"
    if lacking:
        raise NoOverlap(lacking)


def _quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, by the Cornish-Fisher expansion; within 0.5 % from 4 degrees of freedom."""
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return z + first + second + third
