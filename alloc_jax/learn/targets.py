"""What each kind of policy is trained on: arrays of targets, the width of the network's outputs, and the loss.

`value` and `decision` share one layout of outputs: K gains over the cheapest action, the cheapest action's own utility, K
log-ratios of cost to the action's mean, and M logits of one sample of each source being right. The last teach the hidden layers
what the votes have in common and are dropped from the policy. `imitation` has K logits for each budget, then K log-ratios.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alloc_jax.solve import frontier, solve
from alloc_jax.solve.smooth import smooth_plan
from alloc_jax.types import AllocationProblem, OutcomeTable

LABELS = ("hard", "soft", "regret")


@dataclass(frozen=True, eq=False)
class Targets:
    """What a network learns from a table."""

    rows: dict[str, np.ndarray]  # each [N, ...]
    described: dict[str, np.ndarray]  # what reading the outputs needs, stored with the policy
    outputs: int  # width of the network's last layer
    served: int  # how many of the outputs the policy keeps
    start: np.ndarray  # f32[outputs] what the outputs begin at: what is known of a question before its text is read
    budgets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[M] decision: sampled from
    multipliers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[M] the table's own there


def value_targets(table: OutcomeTable) -> Targets:
    """Gains, base utility, cost ratios, and the success counts of every source that was sampled."""
    ratio, action_cost = _cost_targets(table)
    cheapest = int(np.argmin(action_cost))
    base = table.utility[:, cheapest]
    rows = {"gain": table.utility - base[:, None], "base": base, "ratio": ratio}
    counts = np.stack([table.successes, table.samples], axis=2)
    sources = np.unique(counts, axis=1) if counts.size else counts  # actions of one source count the same samples
    sources = sources[:, (sources[:, :, 1] > 0).any(axis=0)].astype(np.float32)
    rows["right"] = sources[:, :, 0] / np.maximum(sources[:, :, 1], 1)
    rows["sampled"] = sources[:, :, 1] / max(sources[:, :, 1].max(initial=0.0), 1.0)
    described = {"action_cost": action_cost, "is_gain": (np.arange(len(action_cost)) != cheapest).astype(np.float32)}
    served = 2 * len(action_cost) + 1
    known = sources[:, :, 0].sum(axis=0) / np.maximum(sources[:, :, 1].sum(axis=0), 1)
    start = [rows["gain"].mean(axis=0), [base.mean()], np.zeros(len(action_cost)), _logit(known)]
    return Targets(rows, described, served + sources.shape[1], served, np.concatenate(start).astype(np.float32))


def decision_targets(table: OutcomeTable, budgets: int = 12) -> Targets:
    """Those of `value_targets`, and budgets over the whole range of useful ones with the table's own multiplier of each.

    Raises:
      ValueError: no budget buys anything: the cheapest plan is as good as any.
    """
    value = value_targets(table)
    best = frontier(table.problem())
    spend, multiplier = np.asarray(best.spend), np.asarray(best.multiplier)
    if len(spend) < 2 or spend[-1] <= 1.001 * spend[0]:
        raise ValueError("no question of the table gains from spending more: there is no decision to learn")
    asked = spend[0] + (spend[-1] - spend[0]) * np.geomspace(0.02, 0.98, budgets)
    at = np.minimum(np.searchsorted(spend, asked), len(spend) - 1)
    rows = value.rows | {"utility": table.utility, "cost": table.cost}
    return Targets(
        rows,
        value.described,
        value.outputs,
        value.served,
        value.start,
        asked.astype(np.float32),
        multiplier[at].astype(np.float32),
    )


def imitation_targets(table: OutcomeTable, budgets: tuple[float, ...], labels: str, temperature: float) -> Targets:
    """What the oracle does at each budget: `label` f32[N, M, K] a distribution over actions, `weight` f32[N, M].

    Labels are the oracle's action (`hard`), the smoothed plan at a temperature (`soft`), or the oracle's action
    weighted by what a random one would cost (`regret`): the mean over actions of gap_l at the budget's multiplier l.
    """
    ratio, action_cost = _cost_targets(table)
    problem = table.problem()
    label, weight = [], []
    for budget in budgets:
        if labels == "soft":
            label.append(np.asarray(smooth_plan(problem, budget, temperature)))
            weight.append(np.ones(len(table), np.float32))
            continue
        plan = solve(problem, budget)
        action = np.asarray(plan.action)
        label.append(np.eye(len(action_cost), dtype=np.float32)[action])
        net = table.utility - float(plan.multiplier) * table.cost
        gap = net.max(axis=1) - net.mean(axis=1)
        uses = labels == "regret" and gap.mean() > 0
        weight.append(gap / gap.mean() if uses else np.ones(len(table), np.float32))
    rows = {"label": np.stack(label, axis=1), "weight": np.stack(weight, axis=1).astype(np.float32), "ratio": ratio}
    shares = np.maximum(rows["label"].mean(axis=0), 1 / len(table))  # [M, K]
    start = np.append(np.log(shares).ravel(), np.zeros(len(action_cost))).astype(np.float32)
    return Targets(rows, {"action_cost": action_cost}, len(start), len(start), start)


def _logit(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 1e-3, 1 - 1e-3)
    return np.log(share / (1 - share))


def _cost_targets(table: OutcomeTable) -> tuple[np.ndarray, np.ndarray]:
    action_cost = table.cost.mean(axis=0, dtype=float).astype(np.float32)
    free = action_cost <= 0
    return np.where(free, 1, table.cost / np.where(free, 1, action_cost)).astype(np.float32), action_cost


def value_loss(outputs: jax.Array, rows: dict, shared_weight: float) -> jax.Array:
    """f32[N] squared errors of gains, base and costs, and the binomial loss of the sources' success counts."""
    actions, sources = rows["ratio"].shape[-1], rows["right"].shape[-1]
    gain, base, log_ratio, logit = jnp.split(outputs, [actions, actions + 1, 2 * actions + 1], axis=1)
    loss = jnp.mean((gain - rows["gain"]) ** 2, axis=1)
    loss += 0.1 * (base[:, 0] - rows["base"]) ** 2 + 0.1 * _cost_loss(log_ratio, rows)
    if sources and shared_weight:
        binomial = optax.sigmoid_binary_cross_entropy(logit, rows["right"]) * rows["sampled"]
        loss += shared_weight * jnp.mean(binomial, axis=1)
    return loss


def imitation_loss(outputs: jax.Array, rows: dict) -> jax.Array:
    """f32[N] weighted cross-entropy to the labels, and squared errors of costs."""
    actions = rows["ratio"].shape[-1]
    logits = outputs[:, :-actions].reshape(len(outputs), -1, actions)
    entropy = rows["weight"] * optax.softmax_cross_entropy(logits, rows["label"])
    return entropy.mean(axis=1) + _cost_loss(outputs[:, -actions:], rows)


def decision_loss(
    outputs: jax.Array, rows: dict, described: dict, budget: jax.Array, multiplier: jax.Array, temperature: float
) -> jax.Array:
    """f32[N] what the plan made of the predictions loses on each question, at the true multiplier of the budget.

    The predictions' smoothed plan spends the budget by the predicted costs, at a multiplier that is differentiated by the implicit
    function theorem. It is judged by measured utility and cost: gap_l = max_a (u - l c) - sum_a plan (u - l c), whose mean
    bounds the regret at equal spend; spending more than predicted is paid for at the multiplier l.
    """
    actions = rows["ratio"].shape[-1]
    gain, base, log_ratio = jnp.split(outputs[:, : 2 * actions + 1], [actions, actions + 1], axis=1)
    predicted = AllocationProblem(
        gain * described["is_gain"][None] + base, described["action_cost"][None] * jnp.exp(log_ratio)
    )
    plan = smooth_plan(predicted, budget, temperature)
    net = rows["utility"] - multiplier * rows["cost"]
    return net.max(axis=1) - jnp.sum(plan * net, axis=1)


def _cost_loss(log_ratio: jax.Array, rows: dict) -> jax.Array:
    return jnp.mean((jnp.exp(log_ratio) - rows["ratio"]) ** 2, axis=1)
