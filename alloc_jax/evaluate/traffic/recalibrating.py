"""Recalibration: a policy's predictions and its multiplier set right by what recent traffic measured, without training it anew.

For every action the measured utility is fitted by a + b * predicted, and the cost by a factor, on a window of decisions. A decision counts
as often as one over the chance that its action had, so that the questions on which an action was taken stand for all. Few decisions move
little: the fit is drawn towards what the policy already says, as if `PRIOR` decisions had agreed with it, and what is within its noise is
left out. Both corrections are linear in
the last layer, so the recalibrated policy is a policy like any other; it carries the window's questions as those that its multiplier is
calibrated on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from alloc_jax.learn.calibration import Prediction, Unseen
from alloc_jax.learn.policy import Policy
from alloc_jax.logs.traffic import Traffic

PRIOR = 30.0  # decisions that agree with the policy, for each action
MOST = 20.0  # the largest weight of a decision, in units of their mean
LEAST = 100  # verdicts and costs


@dataclass(frozen=True, eq=False, kw_only=True)
class Corrections:
    """What is changed of every action's predictions."""

    offset: np.ndarray  # f64[K] a
    slope: np.ndarray  # f64[K] b
    factor: np.ndarray  # f64[K] of the cost
    verdicts: np.ndarray  # i64[K] that the fit rests on


def recalibrated(policy: Policy, traffic: Traffic, window: int = 2000) -> tuple[Policy, Corrections]:
    """The policy with predictions and multiplier set right by the last decisions.

    Args:
      policy: that took the decisions.
      traffic: in their order.
      window: how many of the last decisions count; older ones may be of another time.

    Raises:
      ValueError: the policy predicts no utilities, decided among other actions, or the window holds too little.
    """
    if not policy.predicts_utility:
        raise ValueError("an imitation policy predicts no utilities that could be set right: train it anew")
    many = len(policy.actions)
    if traffic.actions[:many] != policy.actions:
        raise ValueError(f"the decisions are among {traffic.actions}, the policy's are {policy.actions}")
    recent = traffic.select(slice(max(len(traffic) - window, 0), None))
    recent = recent.select(np.flatnonzero(recent.action < many))
    if recent.labelled.sum() < LEAST:
        raise ValueError(f"{int(recent.labelled.sum())} verdicts in the window; {LEAST} are needed")
    corrections = _corrections(recent, many)
    return _changed(policy, recent, corrections), corrections


def _corrections(recent: Traffic, many: int) -> Corrections:
    rows = np.arange(len(recent))
    weight = 1 / recent.chance.astype(float)
    weight = np.minimum(weight / weight.mean(), MOST)
    utility, cost = recent.utility[rows, recent.action], recent.cost[rows, recent.action]
    offset, slope, factor = np.zeros(many), np.ones(many), np.ones(many)
    labelled = recent.labelled
    for k in range(many):
        mine = recent.action == k
        seen = mine & labelled
        if seen.any():
            offset[k], slope[k] = _line(utility[seen], recent.reward[seen], weight[seen])
        if mine.any():
            # A ratio of sums, drawn towards 1 by as many decisions of mean cost.
            part = weight[mine] / weight[mine].mean()
            prior = PRIOR * float(cost[mine].mean())
            factor[k] = (part @ recent.spent[mine] + prior) / (part @ cost[mine] + prior)
    return Corrections(
        offset=offset, slope=slope, factor=factor, verdicts=np.bincount(recent.action[labelled], minlength=many)
    )  # fmt: skip


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """a and b of y = a + b x, weighted, drawn towards 0 and 1; what is within its noise is left as it is."""
    weight = weight / weight.mean()
    center = float(np.average(x, weights=weight))
    apart = x - center
    off = y - x
    total, spread = float(weight.sum()), float(weight @ apart**2)
    shift = _sure(
        float(weight @ off) / (total + PRIOR), weight * (off - np.average(off, weights=weight)), total + PRIOR
    )
    rest = spread + PRIOR * 0.05
    tilt = float(weight @ (off * apart)) / rest
    tilt = _sure(tilt, weight * apart * (off - np.average(off, weights=weight) - tilt * apart), rest)
    return shift - tilt * center, 1 + tilt


def _sure(found: float, errors: np.ndarray, total: float) -> float:
    """An estimate less what noise would make of it, after James and Stein: nothing where it is no larger than its standard error."""
    error = float(np.sqrt((errors**2).sum())) / total
    return found * max(1 - (error / found) ** 2, 0.0) if found else 0.0


def _changed(policy: Policy, recent: Traffic, c: Corrections) -> Policy:
    """The policy with the corrections in its last layer, calibrated on the window's questions."""
    weights, many = dict(policy.weights), len(policy.actions)
    base = int(
        np.argmin(weights["is_gain"])
    )  # the action whose own utility is an output, to which the others' gains are added
    layers = sum(name.startswith("Dense_") for name in weights) // 2
    kernel, bias = (weights[f"Dense_{layers - 1}/{part}"].copy() for part in ("kernel", "bias"))
    for array, constant in ((kernel, 0.0), (bias, 1.0)):
        own = array[..., many].copy()
        for k in range(many):
            shift = constant * (c.offset[k] - c.offset[base])
            array[..., k] = c.slope[k] * array[..., k] + (c.slope[k] - c.slope[base]) * own + shift
        array[..., many] = c.slope[base] * own + constant * c.offset[base]
    weights[f"Dense_{layers - 1}/kernel"], weights[f"Dense_{layers - 1}/bias"] = kernel, bias
    if "Direct/kernel" in weights:
        weights["Direct/kernel"] = (weights["Direct/kernel"] * c.slope[: weights["Direct/kernel"].shape[-1]]).astype(
            np.float32
        )
    weights["action_cost"] = (weights["action_cost"] * c.factor).astype(np.float32)
    whole = recent.select(np.flatnonzero(recent.allowed[:, :many].all(axis=1)))
    score = (c.offset + c.slope * whole.utility[:, :many]).astype(np.float32)
    cost = (c.factor * whole.cost[:, :many]).astype(np.float32)
    # Costs are as uneven as they were measured, and on average as predicted.
    rows = np.arange(len(whole))
    ratio = whole.spent / np.maximum(cost[rows, whole.action], 1e-30)
    inverse = 1 / whole.chance.astype(float)
    ratio /= np.average(ratio, weights=inverse) or 1.0
    measured = (cost * ratio[:, None]).astype(np.float32)
    calibration = (Unseen(Prediction(score, cost)),)
    return replace(policy, weights=weights, calibration=calibration, calibration_cost=measured)
