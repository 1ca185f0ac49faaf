"""Standard errors of the mean utility of a plan, and of the difference between two plans on the same questions and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.types import OutcomeTable


@dataclass(frozen=True, eq=False)
class PlanUtility:
    """Mean utilities of M plans on the same questions, with their joint uncertainty."""

    utility: np.ndarray  # f64[M]
    covariance: np.ndarray  # f64[M, M]

    @property
    def error(self) -> np.ndarray:
        """f64[M] standard errors."""
        return np.sqrt(np.diagonal(self.covariance))

    def difference(self, plan: int = 1, other: int = 0) -> tuple[float, float]:
        """Utility of one plan minus that of another (positions on axis M), and its paired standard error."""
        variance = self.covariance[plan, plan] + self.covariance[other, other] - 2 * self.covariance[plan, other]
        return float(self.utility[plan] - self.utility[other]), float(np.sqrt(max(variance, 0.0)))


def plan_utility(
    table: OutcomeTable, plans: Sequence[np.ndarray | Action | str], questions: str = "sampled"
) -> PlanUtility:
    """The mean utilities of plans, such as those of two budgets, with standard errors of means and of differences.

    Choose the plans on other samples than the table's (`SampleLog.split_samples`): the errors do not account for the choice.

    Args:
      table: that scores, f32[N, K].
      plans: M plans, each an action i[N] of every question, or probabilities f[N, K], or one action for all.
      questions: "sampled": the questions stand for others like them, which is what a claim about the next question needs;
        the spread between questions contains that of their samples. "fixed": these very questions, and the samples alone
        are random; asks for a table measured with `covariance=True`.

    Raises:
      ValueError: something that is no plan, or one that takes an action where it is not valid; over fixed questions, no covariance in the
        table, or an action that is taken where one sample leaves its error unknown.

    >>> import alloc_jax as aj
    >>> table = aj.measure(aj.read_log("builtin").select(range(200)), ["single(large/think)", "vote(large/think,8)"])
    >>> scored = plan_utility(table, ["single(large/think)", "vote(large/think,8)"])
    >>> gain, error = scored.difference()
    >>> gain > 3 * error > 0, bool(error < scored.error.min())  # a paired difference is surer than either mean
    (True, True)
    """
    weights = np.stack([_weights(table, plan) for plan in plans])  # [M, N, K]
    if ((weights > 0) & ~table.valid).any():
        m, i, k = np.argwhere((weights > 0) & ~table.valid)[0]
        raise ValueError(
            f"plan {m} takes {table.actions[k].name} on question {table.ids[i]!r}, where it has no samples"
        )
    count = len(table)
    each = np.einsum("mnk,nk->mn", weights, table.utility.astype(np.float64))
    if questions == "sampled":
        if count < 2:
            raise ValueError("the spread between questions needs at least 2 of them")
        return PlanUtility(each.mean(axis=1), np.atleast_2d(np.cov(each)) / count)
    if questions != "fixed":
        raise ValueError(f"questions are 'sampled' or 'fixed', got {questions!r}")
    if table.utility_cov is None:
        raise ValueError("errors over fixed questions need a table measured with covariance=True")
    taken = weights.any(axis=0)  # bool[N, K]
    if (taken & np.isnan(table.utility_se)).any():
        i, k = np.argwhere(taken & np.isnan(table.utility_se))[0]
        raise ValueError(
            f"question {table.ids[i]!r} has one sample for {table.actions[k].name}, which says nothing of how others would "
            "differ: drop the question, or let questions='sampled' ask for the spread between questions"
        )
    total = np.zeros((len(weights), len(weights)))
    for start in range(0, count, 4096):
        part = slice(start, start + 4096)
        known = np.nan_to_num(table.utility_cov[part])  # of actions that nobody takes
        total += np.einsum("mnk,nkl,pnl->mp", weights[:, part], known, weights[:, part], optimize=True)
    return PlanUtility(each.mean(axis=1), total / count**2)


def _weights(table: OutcomeTable, plan: np.ndarray | Action | str) -> np.ndarray:
    """f64[N, K] how a plan spreads each question over the actions."""
    shape = table.utility.shape
    if isinstance(plan, (Action, str)):
        action = Action.parse(plan) if isinstance(plan, str) else plan
        if action not in table.actions:
            raise ValueError(f"the table has no action {action.name}")
        plan = np.full(shape[0], table.actions.index(action))
    plan = np.asarray(plan)
    if plan.shape == shape[:1] and np.issubdtype(plan.dtype, np.integer):
        if plan.size and not (plan.min() >= 0 and plan.max() < shape[1]):
            raise ValueError(f"a plan's actions are between 0 and {shape[1] - 1}, got {plan.min()} to {plan.max()}")
        return np.eye(shape[1])[plan]
    if plan.shape == shape and (plan >= 0).all() and np.allclose(plan.sum(axis=1), 1, atol=1e-4):
        return plan.astype(np.float64)
    raise ValueError(f"a plan is {shape[:1]} actions or {shape} probabilities, got {plan.dtype}{list(plan.shape)}")
