"""Rows of a report: what rules earn and spend, beside the uniform mix and the oracle, each number with its interval."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from alloc_jax.display import Tabular, brief
from alloc_jax.evaluate.intervals import NOTHING, Bootstrap, Interval, Largest
from alloc_jax.evaluate.outcomes import Means, Outcome
from alloc_jax.evaluate.regret import Agreement, Regret
from alloc_jax.evaluate.uniform_mix import UniformMix
from alloc_jax.types import OutcomeTable

Name = TypeVar("Name", bound=Hashable)
ORACLE, IN_SAMPLE, HINDSIGHT = "oracle (disjoint samples)", "in-sample oracle (optimistic)", "oracle (hindsight)"
UNIFORM, RANDOM, SINGLE = "uniform mix", "random mix", "best single action"


@dataclass(frozen=True, eq=False)
class Row:
    """One rule at one budget. What cannot be told is NaN."""

    rule: str
    budget: float
    accuracy: Interval
    spend: Interval
    over_uniform: Interval  # accuracy minus the uniform mix's at the rule's own spend, paired
    over_uniform_at_budget: Interval  # minus the uniform mix's at the budget, whatever the rule spends of it
    closed: Interval  # share of the gap between uniform mix and oracle that is closed, paired, each at its own spend
    saving: Interval  # 1 - spend / the uniform mix's spend at equal accuracy, paired
    agreement: Agreement | None  # how often a policy does what the oracle does
    regret: Regret | None
    plan: np.ndarray | None  # f64[N, K] what it did; None where that is no plan
    excess: Largest  # over_uniform in every resample
    outcome: Outcome | None = None  # what came of it, question by question


@dataclass(frozen=True, repr=False, eq=False)
class Report(Tabular):
    """Accuracy, spend, saving and regret of every rule at every budget, with 95 % intervals."""

    rows: tuple[Row, ...]
    actions: tuple[str, ...]  # [K]
    fixed_accuracy: tuple[Interval, ...]  # [K] each action on every question
    fixed_cost: tuple[Interval, ...]  # [K]
    questions: int
    resource: str
    unit: str
    policies: tuple[str, ...]  # everything that predicts and has a multiplier, baselines among them
    oracle: str  # what the oracle's row is called
    dropped: int = 0  # questions left out because an action has no outcome there

    def parts(self) -> dict[str, str]:
        rules = tuple(dict.fromkeys(row.rule for row in self.rows))
        about = {"rules": rules, "budgets": self.budgets, "questions": self.questions, "unit": self.unit}
        return {name: brief(value) for name, value in about.items()}

    def records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """One row per rule and budget; an interval is three columns, such as accuracy, accuracy_low and accuracy_high."""
        rows = []
        for row in self.rows[:limit]:
            record: dict[str, Any] = {"rule": row.rule, "budget": row.budget}
            names = ("accuracy", "spend", "over_uniform", "over_uniform_at_budget", "closed", "saving")
            intervals = {name: getattr(row, name) for name in names}
            for name in ("regret", "mispriced", "unspent"):
                known = NOTHING if row.regret is None else getattr(row.regret, name)
                intervals[name if name == "regret" else f"regret_{name}"] = known
            for name, interval in intervals.items():
                record |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
            record["agreement"] = row.agreement and row.agreement.rate
            for name in ("multiplier", "bound"):
                record[f"regret_{name}"] = row.regret and getattr(row.regret, name)
            rows.append({name: None if value != value else value for name, value in record.items()})
        return rows

    def row(self, rule: str, budget: float) -> Row:
        """The row of a rule at a budget.

        Raises:
          ValueError: there is none; the message lists the rules and the budgets.
        """
        for row in self.rows:
            if row.rule == rule and row.budget == budget:
                return row
        rules = dict.fromkeys(row.rule for row in self.rows)
        raise ValueError(
            f"no row of {rule!r} at a budget of {budget:g}: the rules are {', '.join(map(repr, rules))}, the budgets"
            f" {', '.join(f'{budget:g}' for budget in self.budgets)}"
        )

    def difference(self, rule: str, other: str, budget: float) -> Interval:
        """How much more a rule earns than another one, each above the uniform mix at its own spend, paired."""
        return self.row(rule, budget).excess.minus(self.row(other, budget).excess)

    @property
    def budgets(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(row.budget for row in self.rows))


class Scorer:
    """Scores rules on the same questions, resamples and fixed actions.

    Args:
      fixed: the actions that the uniform mix is made of, on the samples that score.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap.
    """

    def __init__(self, fixed: OutcomeTable, replicates: int, seed: int):
        self._fixed = fixed
        self.bootstrap = Bootstrap(len(fixed), replicates, seed)
        self.uniform = UniformMix(fixed, self.bootstrap)

    def means(self, outcomes: Mapping[Name, Outcome]) -> dict[Name, Means]:
        """The means of outcomes by name, whose rules do on a question what they do, whatever the others are."""
        both = {name: np.stack([outcome.utility, outcome.cost], axis=1) for name, outcome in outcomes.items()}
        return {name: Means(*means.T) for name, means in self.bootstrap.means(both).items()}

    def row(
        self,
        rule: str,
        budget: float,
        means: Means,
        oracle: Means,
        *,
        plan: np.ndarray | None = None,
        outcome: Outcome | None = None,
    ) -> Row:
        """The row of a rule at a budget, where the oracle has these means."""
        excess = self.uniform.excess(means.utility, means.spend)
        closed = excess.over(self.uniform.excess(oracle.utility, oracle.spend))
        if means is oracle and not np.isnan(closed.value):
            closed = Interval.exactly(1.0)
        return Row(
            rule=rule,
            budget=budget,
            accuracy=Bootstrap.interval(means.utility),
            spend=Bootstrap.interval(means.spend),
            over_uniform=excess.interval,
            over_uniform_at_budget=self.uniform.excess(means.utility, np.full_like(means.spend, budget)).interval,
            closed=closed,
            saving=self.uniform.saving(means.utility, means.spend),
            agreement=None,
            regret=None,
            plan=plan,
            excess=excess,
            outcome=outcome,
        )

    def uniform_row(self, budget: float) -> Row:
        """The uniform mix at the budget itself, or at what its most expensive useful action costs."""
        spend = self.uniform.spend(budget)
        none = NOTHING if np.isnan(spend.value) else Interval.exactly(0.0)
        return Row(
            rule=UNIFORM,
            budget=budget,
            accuracy=self.uniform.accuracy(budget),
            spend=spend,
            over_uniform=none,
            over_uniform_at_budget=none,
            closed=none,
            saving=none,
            agreement=None,
            regret=None,
            plan=None,
            excess=Largest(np.full((self.bootstrap.rows, 1), none.value)),
        )

    def report(self, rows: list[Row], policies, oracle: str) -> Report:
        """The report of rows."""
        fixed = self._fixed
        accuracy, cost = (self.uniform.fixed[name].T for name in ("utility", "cost"))
        return Report(
            rows=tuple(rows),
            actions=tuple(action.name for action in fixed.actions),
            fixed_accuracy=tuple(map(Bootstrap.interval, accuracy)),
            fixed_cost=tuple(map(Bootstrap.interval, cost)),
            questions=len(fixed),
            resource=fixed.resources[0],
            unit=fixed.units[0],
            policies=tuple(dict.fromkeys(policies)),
            oracle=oracle,
        )
