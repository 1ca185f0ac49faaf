"""Policies on held-out questions: what they earn at a budget, against what else could have been done with it.

Two tables of the same questions, from disjoint halves of the samples: oracle labels come from `choose`, every score
from `score`, so nobody is paid for luck. All rules are scored on the same questions and resamples
(`outcomes.Bootstrap`).

The regret of a policy that earns U and spends C, at the price l it deployed, is split as in

    V(B) - U <= E[gap_l(x, p(x))] + l (B - C),   gap_l(x, a) = max_a' (u - l c)(x, a') - (u - l c)(x, a),

into questions priced wrongly and budget left over; all three stand in the report, from the score table alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.baselines import random_mix
from alloc_jax.evaluate.outcomes import Bootstrap, Interval, Outcome, UniformMix
from alloc_jax.learn.policy import lottery
from alloc_jax.solve import solve
from alloc_jax.types import OutcomeTable

ORACLE, IN_SAMPLE, HINDSIGHT = "oracle (disjoint samples)", "in-sample oracle (optimistic)", "oracle (hindsight)"
UNIFORM, RANDOM = "uniform mix", "random mix"


@dataclass(frozen=True)
class Regret:
    """A policy's regret at a budget and the two terms that bound it, on the score table."""

    regret: float  # V(B) - U
    mispriced: float  # E[gap_l]
    unspent: float  # l (B - C), negative where the policy overspent
    multiplier: float  # l, the price the policy deployed (the table's own where the policy has none in utility)
    imitation_error: float  # share of questions where it is not the best response on this table at l
    worst_gap: float  # max gap_l: imitation_error * worst_gap bounds mispriced


@dataclass(frozen=True)
class Row:
    """One rule at one budget."""

    rule: str
    budget: float
    accuracy: Interval
    spend: Interval
    over_uniform: Interval  # accuracy minus the uniform mix's at the same spend, paired
    closed: Interval  # share of the gap between uniform mix and oracle that is closed, paired
    agreement: float | None  # share of questions where a policy does what the oracle does
    majority: float | None  # share of the oracle's most common action, which agreement must be read beside
    regret: Regret | None
    action: np.ndarray | None  # i32[N] what it did


@dataclass(frozen=True)
class Report:
    """What `evaluate` found."""

    rows: tuple[Row, ...]
    actions: tuple[str, ...]  # [K]
    fixed_accuracy: tuple[Interval, ...]  # [K] each action on every question
    fixed_cost: tuple[Interval, ...]  # [K]
    questions: int
    resource: str
    unit: str
    policies: tuple[str, ...]  # everything that predicts and is priced, baselines among them
    oracle: str  # what the oracle's row is called

    def row(self, rule: str, budget: float) -> Row:
        """The row of a rule at a budget."""
        return next(row for row in self.rows if row.rule == rule and row.budget == budget)

    @property
    def budgets(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(row.budget for row in self.rows))


def evaluate(
    policies: Sequence,
    choose: OutcomeTable,
    score: OutcomeTable,
    budgets: Sequence[float],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> Report:
    """Scores policies and baselines on held-out questions.

    Args:
      policies: things with `name`, `actions`, `featurizer`, `head(budget)`, `predict_features(features, budget)` and
        `price(budget)`, such as a `Policy` or a `NearestNeighbours`.
      choose: the table the oracle chooses on.
      score: the table everything is scored on: the same questions and actions, from other samples. The same object as
        `choose` where samples cannot be split; the oracle is then labelled as hindsight.
      budgets: mean cost a question, in the tables' unit.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap and of the lottery between adjacent prices.

    Raises:
      ValueError: the tables differ in questions or actions, a policy has other actions, names repeat, a budget is below the
        cheapest plan.
    """
    _check(policies, choose, score, budgets)
    bootstrap = Bootstrap(len(score), replicates, seed)
    uniform = UniformMix(score, bootstrap)
    problem = {"choose": choose.problem(), "score": score.problem()}
    chances = lottery(score.ids, seed)
    features = [policy.featurizer.encode(score.question) for policy in policies]
    predictions = {}  # by policy and head: most policies predict once for all budgets
    oracle_name = HINDSIGHT if choose is score else ORACLE
    rows = []
    for budget in map(float, budgets):
        label = np.asarray(solve(problem["choose"], budget).action)
        best = solve(problem["score"], budget)
        majority = float(np.bincount(label).max() / len(label))
        scored = _Scorer(budget, score, bootstrap, uniform, Outcome.of(label, score))
        rows.append(scored.row(oracle_name, scored.oracle, action=label))
        if choose is not score:
            hindsight = np.asarray(best.action)
            rows.append(scored.row(IN_SAMPLE, Outcome.of(hindsight, score), action=hindsight))
        for policy, encoded in zip(policies, features, strict=True):
            price, head = policy.price(budget), (policy.name, policy.head(budget))
            if head not in predictions:
                predictions[head] = policy.predict_features(encoded, budget)
            action = price.choose(predictions[head], chances)
            in_utility = getattr(policy, "kind", "value") != "imitation"
            multiplier = max(price.mean, 0.0) if in_utility else float(best.multiplier)
            outcome = Outcome.of(action, score)
            rows.append(
                scored.row(
                    policy.name,
                    outcome,
                    action=action,
                    agreement=float(np.mean(action == label)),
                    majority=majority,
                    regret=decompose_regret(score, action, budget, multiplier, float(best.mixed_utility)),
                )
            )
        mix = np.broadcast_to(random_mix(score, budget), score.utility.shape)
        rows.append(scored.row(RANDOM, Outcome.of(mix, score)))
        rows.append(scored.uniform_row())
    fixed = [bootstrap.mean(part.astype(float)).T for part in (score.utility, score.cost)]
    return Report(
        rows=tuple(rows),
        actions=tuple(action.name for action in score.actions),
        fixed_accuracy=tuple(map(bootstrap.interval, fixed[0])),
        fixed_cost=tuple(map(bootstrap.interval, fixed[1])),
        questions=len(score),
        resource=score.resources[0],
        unit=score.units[0],
        policies=tuple(policy.name for policy in policies),
        oracle=oracle_name,
    )


def decompose_regret(
    table: OutcomeTable, action: np.ndarray, budget: float, multiplier: float, best_utility: float
) -> Regret:
    """The regret of actions i32[N] at a budget, and the terms that bound it at a price l >= 0.

    Args:
      table: that scores everything.
      action: what the policy did.
      budget: mean cost a question.
      multiplier: the price at which the terms are taken.
      best_utility: V(B), the mixed optimum of the table.
    """
    rows = np.arange(len(action))
    value = table.utility.astype(float) - multiplier * table.cost.astype(float)
    value = np.where(table.valid, value, -np.inf)
    gap = value.max(axis=1) - value[rows, action]
    outcome = Outcome.of(action, table)
    return Regret(
        regret=best_utility - outcome.utility.mean(),
        mispriced=gap.mean(),
        unspent=multiplier * (budget - outcome.cost.mean()),
        multiplier=multiplier,
        imitation_error=float(np.mean(gap > 0)),
        worst_gap=gap.max(),
    )


@dataclass(frozen=True)
class _Scorer:
    """What rows at one budget share."""

    budget: float
    table: OutcomeTable
    bootstrap: Bootstrap
    uniform: UniformMix
    oracle: Outcome

    def row(self, rule: str, outcome: Outcome, action=None, agreement=None, majority=None, regret=None) -> Row:
        accuracy, spend, over = self._means(outcome)
        oracle_over = self._means(self.oracle)[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            closed = np.where(oracle_over > 0, over / oracle_over, np.nan)
        intervals = map(self.bootstrap.interval, (accuracy, spend, over, closed))
        return Row(rule, self.budget, *intervals, agreement, majority, regret, action)

    def uniform_row(self) -> Row:
        """The uniform mix at the budget itself."""
        spend = np.full(len(self.bootstrap.weights), self.budget)
        nothing = Interval(0.0, 0.0, 0.0)
        accuracy = self.bootstrap.interval(self.uniform.utility(spend))
        exactly = Interval(self.budget, self.budget, self.budget)
        return Row(UNIFORM, self.budget, accuracy, exactly, nothing, nothing, None, None, None, None)

    def _means(self, outcome: Outcome):
        accuracy, spend = self.bootstrap.mean(outcome.utility), self.bootstrap.mean(outcome.cost)
        return accuracy, spend, accuracy - self.uniform.utility(spend)


def _check(policies: Sequence, choose: OutcomeTable, score: OutcomeTable, budgets: Sequence[float]) -> None:
    if choose.ids != score.ids or choose.actions != score.actions:
        raise ValueError("choose and score must hold the same questions and actions")
    if score.cost.ndim != 2:
        raise ValueError(f"policies price one resource, the tables have {len(score.resources)}")
    names = [policy.name for policy in policies]
    if len(set(names)) < len(names):
        raise ValueError(f"policies need different names, got {names}")
    actions = tuple(action.name for action in score.actions)
    for policy in policies:
        if policy.actions != actions:
            raise ValueError(
                f"policy {policy.name!r} was trained for the actions {policy.actions}, the table has {actions}"
            )
    check_budgets({"choose": choose, "score": score}, budgets)


def check_budgets(tables: dict[str, OutcomeTable], budgets: Sequence[float]) -> None:
    """Refuses budgets that are no numbers or that some table's cheapest plan exceeds.

    Raises:
      ValueError: names the budget and the table.
    """
    if not len(budgets) or not np.isfinite(budgets).all():
        raise ValueError(f"budgets are finite numbers, got {tuple(budgets)}")
    for name, table in tables.items():
        cheapest = np.where(table.valid, table.cost, np.inf).min(axis=1).mean()
        if min(budgets) < cheapest:
            raise ValueError(
                f"budget {min(budgets):g} is below the cheapest plan on {name}, which spends {cheapest:.4g}"
            )
