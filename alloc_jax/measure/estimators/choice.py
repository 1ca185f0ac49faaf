"""Which estimator an action has, and what it needs of a log.

Every estimator averages an action over all k-subsets of the logged samples and is exact (`votes`, `pass_at_k`, `weighted`); the
standard errors follow from what it earns together with each sample (`u_statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from alloc_jax.actions import TIES, Action
from alloc_jax.measure.estimators.pass_at_k import expected_best, expected_passes, expected_single
from alloc_jax.measure.estimators.u_statistics import Estimate, Pairs, Rule, estimate
from alloc_jax.measure.estimators.votes import expected_agreement, expected_votes
from alloc_jax.measure.estimators.weighted_votes import expected_weighted_votes

REWARDED = ("best_of", "weighted_vote")
COUNTING = ("vote", "weighted_vote", "unanimous")  # need the answers themselves, not only right and wrong


def rule_of(action: Action) -> Rule:
    """The estimator of an action that draws samples; actions that differ in k alone share passes."""
    if action.samples == 1:  # whatever aggregates it
        return expected_single
    if action.aggregator in ("vote", "weighted_vote"):
        return _TIED_RULES[action.aggregator, action.ties]
    return {"best_of": expected_best, "passes": expected_passes, "unanimous": expected_agreement}[action.aggregator]


_TIED_RULES = {
    (name, ties): partial(rule, ties=ties)
    for name, rule in (("vote", expected_votes), ("weighted_vote", expected_weighted_votes))
    for ties in TIES
}
# Tied counts are equal, so the tied answers are drawn first equally often (tied sums of rewards are not equal counts).
_TIED_RULES["vote", "first"] = _TIED_RULES["vote", "uniform"]


def estimate_actions(pairs: Pairs, actions: Sequence[Action]) -> list[Estimate]:
    """The estimates of actions over the same samples, those with one rule in one pass.

    Args:
      pairs: P pairs, each with at least as many samples as the actions draw.
      actions: V actions; their sources play no part.
    """
    sizes: dict[Rule, list[int]] = {}
    for action in actions:
        of_rule = sizes.setdefault(rule_of(action), [])
        if action.samples not in of_rule:
            of_rule.append(action.samples)
    found: dict[tuple[Rule, int], Any] = {}
    for rule, of_rule in sizes.items():
        ordered = tuple(sorted(of_rule))
        found |= zip(((rule, k) for k in ordered), estimate(rule, pairs, ordered), strict=True)
    return [found[rule_of(action), action.samples] for action in actions]


def needs_reward(pairs_answer: np.ndarray, sampled: np.ndarray) -> np.ndarray:
    """bool[..., S] the samples whose reward a rewarded action compares: those with an answer, else all of the pair."""
    given = sampled & (pairs_answer >= 0)
    return np.where(given.any(axis=-1, keepdims=True), given, sampled)
