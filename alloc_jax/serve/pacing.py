"""Pacing: the multiplier moves with what is spent, so that a stream meets its budget although questions drift.

Online dual mirror descent: after question t, which cost c_t under a budget B a question,

    h(l_{t+1}) = h(l_t) + step * (c_t - B) / B,        h(l) = asinh(l / s)

(Balseiro, Lu and Mirrokni, arXiv 2011.10124; the mirror map is the hypentropy of Ghai, Hazan and Singer, arXiv
1902.01903: proportional steps far from 0, even ones near it, and multipliers of both signs). As long as the multiplier does not
reach a guard rail, the steps telescope: sum_t (c_t - B) = B (h(l_T) - h(l_0)) / step, whatever the questions are. So the
overspend of any stream is bounded by how far the multiplier has moved, and not by how long the stream is. What is overspent at the upper
rail is remembered, up to a bound, and paid back; what is left over at the lower one, where nothing more is worth having, is not saved up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_DEBT = 100.0  # budgets of a question that are remembered where the multiplier is as high as it goes


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a multiplier follows the spend; its state is one number, the dual."""

    budget: float  # mean cost per question
    start: float  # the multiplier before anything is spent: the calibrated one
    low: float  # guard rails
    high: float
    scale: float  # s
    step: float  # 0: the multiplier stays where it is

    def __post_init__(self):
        if not self.budget > 0 or not math.isfinite(self.budget):
            raise ValueError(f"a budget that is paced is a positive number, got {self.budget}")
        if not 0 <= self.step < 1:
            raise ValueError(f"the step of a pace is in [0, 1), got {self.step}")
        if not (self.low <= self.start <= self.high and self.scale > 0):
            raise ValueError(
                f"a multiplier of {self.start} is not between {self.low} and {self.high}, in units of {self.scale}"
            )

    @property
    def dual(self) -> float:
        """The state to begin with."""
        return math.asinh(self.start / self.scale)

    def multiplier(self, dual: float) -> float:
        """The multiplier at a state."""
        return min(self.scale * math.sinh(dual), self.high)

    def moved(self, dual: float, excess: float) -> float:
        """The state after `excess` (cost minus budget, of one question or a correction to it)."""
        dual += self.step * excess / self.budget
        # Beyond the upper rail nothing changes but that a debt is remembered, which is paid back before the multiplier falls.
        most = math.asinh(self.high / self.scale) + self.step * _DEBT
        return min(max(dual, math.asinh(self.low / self.scale)), most)


def make_pace(policy, budget: float, step: float) -> Pace:
    """The pace of a policy at a budget, from the questions that the policy is calibrated on.

    Args:
      policy: a `Policy`.
      budget: mean cost per question, in the policy's unit.
      step: of the descent.

    Raises:
      ValueError: the budget is below the policy's cheapest plan.
    """
    start = float(policy.multiplier(budget).mean)
    unseen, cost = policy.calibration[policy.head(budget) or 0], policy.calibration_cost
    prediction = unseen.whole
    high = max(prediction.multiplier_scale, 2 * abs(start))
    least = prediction.spend(1e9 * high, cost)
    while prediction.spend(high, cost) > least * (1 + 1e-6):  # from here on, a higher multiplier changes nothing
        high *= 2
    scale = max(abs(start), 1e-3 * high) / 4
    low = 0.0 if policy.predicts_utility else -high
    return Pace(budget=budget, start=start, low=low, high=high, scale=scale, step=step)
