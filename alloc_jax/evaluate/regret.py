"""The regret of a rule at a budget, and what it is made of.

A rule that earns U and spends C loses, at any multiplier l >= 0,

    V(B) - U <= E[gap_l(x, p(x))] + l (B - C),   gap_l(x, a) = max_a' (u - l c)(x, a') - (u - l c)(x, a),

with equality at the budget's own multiplier l*: questions with the wrong action and budget left over. And E[gap_l] is at most the share of
questions where the rule is no best response times the worst gap: the bound of arXiv 2604.14853, which lacks the term
l (B - C) and is false without it. All of it is taken from one table, at one multiplier.

The best responses are estimated from noisy samples, so even a rule that knows the truth misses some of them. What it
would reach is bracketed by a second measurement of the same size: if q_a is the chance that a measurement of a question
calls for action a, two of them agree with probability s = sum q_a^2, and s <= max_a q_a <= sqrt(s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.intervals import Bootstrap, Interval
from alloc_jax.evaluate.outcomes import Means
from alloc_jax.types import OutcomeTable

TIE = 1e-6  # gaps below this are ties: utilities are float32, and at l* a finite share of the questions ties


@dataclass(frozen=True)
class Agreement:
    """Share of questions on which a rule takes the best action, beside what one action for all and perfect knowledge reach."""

    rate: float  # of the rule
    majority: float  # of the action that is best most often, taken everywhere
    noise_ceiling: tuple[float, float] | None  # bounds on what knowing the truth reaches; None without other samples


@dataclass(frozen=True)
class Regret:
    """A rule's regret at a budget and the terms that bound it, on one table and at one multiplier."""

    regret: Interval  # V(B) - U
    mispriced: Interval  # E[gap_l]
    unspent: Interval  # l (B - C), negative where the rule overspent
    multiplier: float  # l, the multiplier that the rule deployed (the table's own where the rule has none in utility)
    best_response: Agreement  # with the best responses at l; 1 - rate is the imitation error
    worst_gap: float  # max gap_l of what the rule did

    @property
    def bound(self) -> float:
        """The paper's bound with the term it lacks: imitation error x worst gap + l (B - C)."""
        return (1 - self.best_response.rate) * self.worst_gap + self.unspent.value


def decompose_regret(
    table: OutcomeTable,
    plan: np.ndarray,
    budget: float,
    multiplier: float,
    best_utility: np.ndarray,
    means: Means,
    lost: np.ndarray,
    other: OutcomeTable | None = None,
) -> Regret:
    """The regret of a plan at a budget, and the terms that bound it at a multiplier l >= 0.

    The intervals take the plan and the multiplier as they are: of a policy, other questions change neither.

    Args:
      table: that scores everything.
      plan: f64[N, K] the chance of each action on each question.
      budget: mean cost per question.
      multiplier: at which the terms are taken.
      best_utility: V(B), the mixed optimum of the table, f64[1 + replicates] in the sample and in every resample.
      means: what the plan earns and spends on the table.
      lost: f64[1 + replicates] the means of what the plan is `mispriced` by.
      other: the same questions and actions measured on other samples.
    """
    gap = _gaps(table, multiplier)
    best = gap <= 0
    known = None
    if other is not None:
        again = np.argmin(_gaps(other, multiplier), axis=1)
        known = bracket(float(np.mean(best[np.arange(len(best)), again])))
    return Regret(
        regret=Bootstrap.interval(best_utility - means.utility),
        mispriced=Bootstrap.interval(lost),
        unspent=Bootstrap.interval(multiplier * (budget - means.spend)),
        multiplier=multiplier,
        best_response=Agreement(_mean(plan, best), float(best.mean(axis=0).max()), known),
        worst_gap=float(gap.max(where=plan > 0, initial=0.0)),
    )


def mispriced(table: OutcomeTable, plan: np.ndarray, multiplier: float) -> np.ndarray:
    """The mean gap_l f64[N] of what a plan does on each question."""
    return np.einsum("nk,nk->n", plan, np.where(plan > 0, _gaps(table, multiplier), 0.0), dtype=float)


def label_agreement(plan: np.ndarray, label: np.ndarray, again: np.ndarray | None = None) -> Agreement:
    """How often a plan f64[N, K] does what the labels i32[N] say; `again` are labels of the same questions from other samples."""
    known = None if again is None else bracket(float(np.mean(label == again)))
    majority = float(np.bincount(label).max() / len(label))
    return Agreement(float(plan[np.arange(len(label)), label].mean()), majority, known)


def bracket(repeated: float) -> tuple[float, float]:
    """Between which rates perfect knowledge agrees with one measurement, if two of them agree at this rate."""
    return repeated, float(np.sqrt(repeated))


def _gaps(table: OutcomeTable, multiplier: float) -> np.ndarray:
    value = table.utility.astype(float) - multiplier * table.cost.astype(float)
    value = np.where(table.valid, value, -np.inf)
    gap = value.max(axis=1, keepdims=True) - value
    return np.where(gap > TIE, gap, 0.0)


def _mean(plan: np.ndarray, values: np.ndarray) -> float:
    return float(np.einsum("nk,nk->n", plan, values, dtype=float).mean())
