"""Rules on held-out questions: what they earn at a budget, against what else could have been done with it.

Two tables of the same questions, from disjoint halves of the samples: oracle labels come from `choose`, every score
from `score`, so nobody is paid for luck. All rules are scored on the same questions and resamples
(`outcomes.Bootstrap`).

`deploy` asks a policy what it does; `score_plans` scores what was done, beside the oracles and the rules that look at
no question; `evaluate` is the one after the other. Cross-fitting (`crossfit`) deploys many policies on parts of the
questions, and scores them together.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alloc_jax.display import Tabular, brief
from alloc_jax.evaluate.baselines import best_single, random_mix
from alloc_jax.evaluate.outcomes import Bootstrap, Interval, Outcome, UniformMix, as_plan
from alloc_jax.evaluate.regret import Agreement, Regret, agreement, decompose_regret
from alloc_jax.learn.policy import lottery
from alloc_jax.solve import solve
from alloc_jax.types import OutcomeTable

ORACLE, IN_SAMPLE, HINDSIGHT = "oracle (disjoint samples)", "in-sample oracle (optimistic)", "oracle (hindsight)"
UNIFORM, RANDOM, SINGLE = "uniform mix", "random mix", "best single action"


@dataclass(frozen=True, eq=False)
class Deployed:
    """What a policy did with a budget."""

    rule: str
    budget: float
    plan: np.ndarray  # f64[N, K] the chance of each action; the mean over repetitions where there were several
    multiplier: float | None  # the price it deployed, in utility per unit of cost; None if its scores are no utilities
    told: bool = False  # whether it knows the oracle's own samples, so that agreeing with it means nothing


@dataclass(frozen=True, eq=False)
class Row:
    """One rule at one budget."""

    rule: str
    budget: float
    accuracy: Interval
    spend: Interval
    over_uniform: Interval  # accuracy minus the uniform mix's at the same spend, paired
    closed: Interval  # share of the gap between uniform mix and oracle that is closed, paired
    agreement: Agreement | None  # how often a policy does what the oracle does
    regret: Regret | None
    plan: np.ndarray | None  # f64[N, K] what it did; None for the uniform mix
    over: np.ndarray  # f64[1 + replicates] over_uniform in every resample


@dataclass(frozen=True, repr=False)
class Report(Tabular):
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

    def parts(self) -> dict[str, str]:
        rules = tuple(dict.fromkeys(row.rule for row in self.rows))
        about = {"rules": rules, "budgets": self.budgets, "questions": self.questions, "unit": self.unit}
        return {name: brief(value) for name, value in about.items()}

    def records(self) -> list[dict[str, Any]]:
        """One row per rule and budget; an interval is three columns, such as accuracy, accuracy_low and accuracy_high."""
        rows = []
        for row in self.rows:
            record: dict[str, Any] = {"rule": row.rule, "budget": row.budget}
            for name in ("accuracy", "spend", "over_uniform", "closed"):
                interval = getattr(row, name)
                record |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
            record["agreement"] = row.agreement and row.agreement.rate
            for name in ("regret", "mispriced", "unspent", "multiplier", "bound"):
                record[name if name == "regret" else f"regret_{name}"] = row.regret and getattr(row.regret, name)
            rows.append({name: None if value != value else value for name, value in record.items()})
        return rows

    def row(self, rule: str, budget: float) -> Row:
        """The row of a rule at a budget."""
        return next(row for row in self.rows if row.rule == rule and row.budget == budget)

    def difference(self, rule: str, other: str, budget: float) -> Interval:
        """How much more a rule earns than another one, each above the uniform mix at its own spend, paired."""
        return Bootstrap.interval(self.row(rule, budget).over - self.row(other, budget).over)

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
    names = [policy.name for policy in policies]
    if len(set(names)) < len(names):
        raise ValueError(f"policies need different names, got {names}")
    check_tables(choose, score, budgets)
    deployed = [row for policy in policies for row in deploy(policy, score, budgets, seed)]
    return score_plans(deployed, choose, score, budgets, replicates=replicates, seed=seed)


def deploy(policy, table: OutcomeTable, budgets: Sequence[float], seed: int) -> list[Deployed]:
    """What a policy does with the questions of a table at each budget.

    Where no price makes it spend as little as a budget, it does the action it takes for the cheapest, and a warning says so.

    Raises:
      ValueError: the policy was trained for other actions.
    """
    actions = tuple(action.name for action in table.actions)
    if policy.actions != actions:
        raise ValueError(
            f"policy {policy.name!r} was trained for the actions {policy.actions}, the table has {actions}"
        )
    features, chances = policy.featurizer.encode(table.question), lottery(table.ids, seed)
    in_utility = getattr(policy, "kind", "value") == "value"
    predictions, rows = {}, []  # predictions by head: most policies predict once for all budgets
    for budget in map(float, budgets):
        head = policy.head(budget)
        if head not in predictions:
            predictions[head] = policy.predict_features(features, budget)
        prediction = predictions[head]
        try:
            price = policy.price(budget)
        except ValueError as error:
            cheapest = int(prediction.cost.mean(axis=0).argmin())
            logging.getLogger("alloc_jax").warning("%s: %s; it does %s", policy.name, error, actions[cheapest])
            action, multiplier = np.full(len(table), cheapest), None
        else:
            action, multiplier = price.choose(prediction, chances), max(price.mean, 0.0) if in_utility else None
        rows.append(Deployed(policy.name, budget, as_plan(action, len(actions)), multiplier))
    return rows


def score_plans(
    deployed: Sequence[Deployed],
    choose: OutcomeTable,
    score: OutcomeTable,
    budgets: Sequence[float],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> Report:
    """Scores what policies did with all questions of a table, beside the oracles and the rules that look at no question.

    Args:
      deployed: one for every policy and budget.
      choose: as in `evaluate`.
      score: as in `evaluate`.
      budgets: as in `evaluate`.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap.
    """
    check_tables(choose, score, budgets)
    halved = choose is not score
    oracle_name = ORACLE if halved else HINDSIGHT
    bootstrap = Bootstrap(len(score), replicates, seed)
    uniform = UniformMix(score, bootstrap)
    problem = {"choose": choose.problem(), "score": score.problem()}
    rows = []
    for budget in map(float, budgets):
        best = solve(problem["score"], budget)
        hindsight = np.asarray(best.action)
        label = np.asarray(solve(problem["choose"], budget).action) if halved else hindsight
        oracle = as_plan(label, len(score.actions))
        scored = _Scorer(budget, score, bootstrap, uniform, oracle)
        rows.append(scored.row(oracle_name, oracle))
        if halved:
            rows.append(scored.row(IN_SAMPLE, as_plan(hindsight, len(score.actions))))
        for made in deployed:
            if made.budget != budget:
                continue
            multiplier = float(best.multiplier) if made.multiplier is None else made.multiplier
            regret = decompose_regret(
                score, made.plan, budget, multiplier, float(best.mixed_utility), choose if halved else None
            )
            agrees = None if made.told else agreement(made.plan, label, hindsight if halved else None)
            rows.append(scored.row(made.rule, made.plan, agrees, regret))
        shape = score.utility.shape
        rows.append(scored.row(RANDOM, np.broadcast_to(random_mix(score, budget), shape)))
        if (single := best_single(choose, budget)) is not None:
            rows.append(scored.row(SINGLE, as_plan(np.full(len(score), single), shape[1])))
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
        policies=tuple(dict.fromkeys(made.rule for made in deployed)),
        oracle=oracle_name,
    )


class _Scorer:
    """What rows at one budget share."""

    def __init__(
        self, budget: float, table: OutcomeTable, bootstrap: Bootstrap, uniform: UniformMix, oracle: np.ndarray
    ):
        self._budget, self._table, self._bootstrap, self._uniform = budget, table, bootstrap, uniform
        self._oracle_over = self._means(oracle)[2]

    def row(self, rule: str, plan: np.ndarray, agrees: Agreement | None = None, regret: Regret | None = None) -> Row:
        accuracy, spend, over = self._means(plan)
        with np.errstate(divide="ignore", invalid="ignore"):
            closed = np.where(self._oracle_over > 0, over / self._oracle_over, np.nan)
        intervals = map(self._bootstrap.interval, (accuracy, spend, over, closed))
        return Row(rule, self._budget, *intervals, agrees, regret, plan, over)

    def uniform_row(self) -> Row:
        """The uniform mix at the budget itself."""
        spend = np.full(len(self._bootstrap.weights), self._budget)
        nothing = Interval(0.0, 0.0, 0.0)
        accuracy = self._bootstrap.interval(self._uniform.utility(spend))
        exactly = Interval(self._budget, self._budget, self._budget)
        return Row(UNIFORM, self._budget, accuracy, exactly, nothing, nothing, None, None, None, np.zeros(len(spend)))

    def _means(self, plan: np.ndarray):
        outcome = Outcome.of(plan, self._table)
        accuracy, spend = self._bootstrap.mean(outcome.utility), self._bootstrap.mean(outcome.cost)
        return accuracy, spend, accuracy - self._uniform.utility(spend)


def check_tables(choose: OutcomeTable, score: OutcomeTable, budgets: Sequence[float]) -> None:
    """Refuses tables that cannot be compared.

    Raises:
      ValueError: they differ in questions or actions, have several resources, or a budget is no number or below a
        cheapest plan.
    """
    if choose.ids != score.ids or choose.actions != score.actions:
        raise ValueError("choose and score must hold the same questions and actions")
    if score.cost.ndim != 2:
        raise ValueError(f"policies price one resource, the tables have {len(score.resources)}")
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
