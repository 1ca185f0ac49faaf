"""Rules on held-out questions: what they earn at a budget, against what else could have been done with it.

Two tables of the same questions, from disjoint halves of the samples: oracle labels come from `choose`, every score
from `score`, so that no score holds the optimism bias of a choice (the winner's curse). All rules are scored on the same
questions and resamples (`intervals.Bootstrap`).

`deploy` asks a policy what it does; `score_plans` scores what was done, beside the oracles and the rules that look at
no question; `evaluate` is the one after the other. Cross-fitting (`crossfit`) deploys many policies on parts of the
questions, and scores them together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import jax
import numpy as np

from alloc_jax.evaluate.baselines import best_single, random_mix
from alloc_jax.evaluate.oracle_intervals import resolved
from alloc_jax.evaluate.outcomes import Means, Outcome, check_complete, one_hot_plan, whole_questions
from alloc_jax.evaluate.regret import decompose_regret, label_agreement, mispriced
from alloc_jax.evaluate.scoring import HINDSIGHT, IN_SAMPLE, ORACLE, RANDOM, SINGLE, Report, Row, Scorer
from alloc_jax.learn.policy import Prediction
from alloc_jax.learn.protocols import PolicyLike
from alloc_jax.solve import prepare, solve
from alloc_jax.solve.envelope import mixed_plan
from alloc_jax.stopping.rules import lottery
from alloc_jax.types import OutcomeTable


@dataclass(frozen=True, eq=False)
class Deployed:
    """What a policy did with a budget."""

    rule: str
    budget: float
    plan: (
        np.ndarray
    )  # bool[N, K], or f64[N, K] the chance of each action: the mean over repetitions where there were several
    multiplier: float | None  # that it deployed, in utility per unit of cost; None if its scores are no utilities
    sees_labels: bool = False  # its features are the oracle's own samples: agreeing with it means nothing
    prediction: Prediction | None = None  # what it predicted of the questions; None where plans were averaged


def evaluate(
    policies: Sequence[PolicyLike],
    choose: OutcomeTable,
    score: OutcomeTable,
    budgets: Sequence[float],
    *,
    missing: str = "error",
    replicates: int = 2000,
    seed: int = 0,
) -> Report:
    """Score policies and baselines on held-out questions.

    Args:
      policies: a `Policy`, a `NearestNeighbours`, or anything that is like a policy (`PolicyLike`).
      choose: the table the oracle chooses on.
      score: the table everything is scored on: the same questions and actions, from other samples. The same object as
        `choose` where samples cannot be split; the oracle is then labelled as hindsight.
      budgets: mean cost per question, in the tables' unit.
      missing: "error" refuses tables in which a question has no samples of some action: no rule that may take any action
        can be scored there. "drop" leaves such questions out, for all rules alike, and the report's `dropped` counts them.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap and of the lottery between adjacent multipliers.

    Raises:
      ValueError: the tables differ in questions or actions, a question lacks an action, a policy has other actions, names
        repeat, a budget is below the cheapest plan.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is 'error' or 'drop', got {missing!r}")
    dropped = 0
    if missing == "drop" and choose.ids == score.ids and choose.valid.shape == score.valid.shape:
        whole = whole_questions(choose, score)
        dropped, same = int((~whole).sum()), choose is score
        choose = choose.select(whole)
        score = choose if same else score.select(whole)
    check_tables(choose, score, budgets)
    deployed = [row for policy in policies for row in deploy(policy, score, budgets, seed)]
    report = score_plans(deployed, choose, score, budgets, replicates=replicates, seed=seed)
    return replace(report, dropped=dropped)


def deploy(policy: PolicyLike, table: OutcomeTable, budgets: Sequence[float], seed: int) -> list[Deployed]:
    """What a policy does with the questions of a table at each budget.

    Where no multiplier makes it spend as little as a budget, it does the action it takes for the cheapest, and a warning says so.

    Raises:
      ValueError: the policy was trained for other actions.
    """
    actions = tuple(action.name for action in table.actions)
    if policy.actions != actions:
        raise ValueError(
            f"policy {policy.name!r} was trained for the actions {policy.actions}, the table has {actions}"
        )
    features, chances = policy.featurizer.encode(table.question), lottery(table.ids, seed)
    predictions, rows = {}, []  # predictions by head: most policies predict once for all budgets
    for budget in map(float, budgets):
        head = policy.head(budget)
        if head not in predictions:
            predictions[head] = policy.predict_features(features, budget)
        prediction = predictions[head]
        try:
            mixed = policy.multiplier(budget)
        except ValueError as error:
            cheapest = int(prediction.cost.mean(axis=0).argmin())
            logging.getLogger("alloc_jax").warning("%s: %s; it does %s", policy.name, error, actions[cheapest])
            action, multiplier = np.full(len(table), cheapest), None
        else:
            action, multiplier = mixed.choose(prediction, chances), mixed.mean if policy.predicts_utility else None
        rows.append(
            Deployed(policy.name, budget, one_hot_plan(action, len(actions)), multiplier, prediction=prediction)
        )
    return rows


def score_plans(
    deployed: Sequence[Deployed],
    choose: OutcomeTable,
    score: OutcomeTable,
    budgets: Sequence[float],
    *,
    beside: Mapping[tuple[str, float], Outcome] = MappingProxyType({}),
    replicates: int = 2000,
    seed: int = 0,
) -> Report:
    """Score what policies did with all questions of a table, beside the oracles and the rules that look at no question.

    Args:
      deployed: one for every policy and budget.
      choose: as in `evaluate`.
      score: as in `evaluate`.
      budgets: as in `evaluate`.
      beside: what rules did that are no choice of one action, by rule and budget.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap.

    Raises:
      ValueError: the tables or the budgets (see `evaluate`), or two policies have one name.
    """
    check_tables(choose, score, budgets)
    made_by = [(made.rule, made.budget) for made in deployed]
    if len(set(made_by)) < len(made_by):
        raise ValueError(f"policies need different names, got {[rule for rule, at in made_by if at == made_by[0][1]]}")
    budgets, halved = tuple(map(float, budgets)), choose is not score
    oracle_name, actions = ORACLE if halved else HINDSIGHT, len(score.actions)
    scorer = Scorer(score, replicates, seed)
    hindsight = resolved(score, score, budgets, scorer.bootstrap)
    foresight = resolved(choose, score, budgets, scorer.bootstrap) if halved else hindsight
    outcomes = {(made.rule, made.budget): Outcome.of(made.plan, score) for made in deployed if made.budget in budgets}
    means = scorer.means({**outcomes, **{key: outcome for key, outcome in beside.items() if key[1] in budgets}})
    prepared = {"choose": prepare(choose), "score": prepare(score)}
    best = {budget: solve(prepared["score"], budget) for budget in budgets}
    multipliers, losses = {}, {}
    for made in deployed:
        if made.budget in best:
            own = float(best[made.budget].multiplier) if made.multiplier is None else made.multiplier
            multipliers[made.rule, made.budget] = own
            losses[made.rule, made.budget] = mispriced(score, made.plan, own)
    lost = scorer.bootstrap.means(losses)
    rows = []
    for b, budget in enumerate(budgets):
        chosen = solve(prepared["choose"], budget) if halved else best[budget]
        label, again = np.asarray(chosen.action), np.asarray(best[budget].action)
        oracle = Means(foresight[0][b], foresight[1][b])
        rows.append(
            scorer.row(oracle_name, budget, oracle, oracle, plan=mixed_plan(jax.device_get(chosen), actions, np))
        )
        if halved:
            optimum = Means(hindsight[0][b], hindsight[1][b])
            plan = mixed_plan(jax.device_get(best[budget]), actions, np)
            rows.append(scorer.row(IN_SAMPLE, budget, optimum, oracle, plan=plan))
        for made in deployed:
            if made.budget != budget:
                continue
            key = made.rule, budget
            regret = decompose_regret(
                score, made.plan, budget, multipliers[key], hindsight[0][b], means[key], lost[key],
                choose if halved else None,
            )  # fmt: skip
            agrees = None if made.sees_labels else label_agreement(made.plan, label, again if halved else None)
            row = scorer.row(made.rule, budget, means[key], oracle, plan=made.plan, outcome=outcomes[key])
            rows.append(replace(row, agreement=agrees, regret=regret))
        others = {rule: outcome for (rule, at), outcome in beside.items() if at == budget}
        rows += [scorer.row(rule, budget, means[rule, budget], oracle, outcome=o) for rule, o in others.items()]
        rows += _fixed_rows(choose, score, budget, scorer, oracle)
    return scorer.report(rows, [made.rule for made in deployed], oracle_name)


def _fixed_rows(choose: OutcomeTable, score: OutcomeTable, budget: float, scorer: Scorer, oracle: Means) -> list[Row]:
    """The rows of the rules that look at no question: of those that can keep the budget, and of the uniform mix."""
    utility, cost = scorer.uniform.fixed["utility"], scorer.uniform.fixed["cost"]
    rows, shape = [], score.utility.shape
    if budget >= cost[0].min() * (1 - 1e-9):
        mix = random_mix(cost, budget)  # in every resample the one that spends the budget there
        means = Means((mix * utility).sum(axis=1), (mix * cost).sum(axis=1))
        rows.append(scorer.row(RANDOM, budget, means, oracle, plan=np.broadcast_to(mix[0], shape)))
    if (single := best_single(choose, budget)) is not None:
        means = Means(utility[:, single], cost[:, single])
        plan = np.broadcast_to(one_hot_plan(np.array([single]), shape[1]), shape)
        rows.append(scorer.row(SINGLE, budget, means, oracle, plan=plan))
    return [*rows, scorer.uniform_row(budget)]


def check_tables(choose: OutcomeTable, score: OutcomeTable, budgets: Sequence[float]) -> None:
    """Refuse tables that cannot be compared.

    Raises:
      ValueError: they differ in questions or actions, have several resources, a question lacks an action, or a budget is no
        number or below a cheapest plan.
    """
    if choose.ids != score.ids or choose.actions != score.actions:
        raise ValueError("choose and score must hold the same questions and actions")
    if score.cost.ndim != 2:
        raise ValueError(f"policies have one multiplier, for one resource; the tables have {len(score.resources)}")
    for name, table in {"choose": choose, "score": score}.items():
        check_complete(table, name)
    check_budgets({"choose": choose, "score": score}, budgets)


def check_budgets(tables: dict[str, OutcomeTable], budgets: Sequence[float]) -> None:
    """Refuse budgets that are no numbers or that some table's cheapest plan exceeds.

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
