"""What the decision core takes and gives: who pays, what was admitted, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from alloc_jax.actions import Action
from alloc_jax.learn.policy import Prediction
from alloc_jax.serve.allocator import Decision
from alloc_jax.serve.pacing import Pace

Enough = Callable[[Sequence[str | None]], bool]  # whether the answers so far suffice; None is a sample without one


class Refused(Exception):
    """A request that is not served, with the HTTP status that says why."""

    def __init__(self, status: int, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """Who pays, and how much at most."""

    name: str = "default"
    budget: float | None  # mean cost a question, in the policy's unit; None: no limit, so compute is free
    cap: float | None = None  # of each window, in the cap's unit; None: no limit
    window_s: float = 86400.0
    hard: bool = False  # reserves the worst case, else a quantile of the measured costs
    exhausted: str = "cheapest"  # at the cap: the cheapest action while that fits, or "refuse"; then HTTP 429

    def __post_init__(self):
        for name in ("budget", "cap", "window_s"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise ValueError(f"tenant {self.name!r}: {name} is a positive number or null, got {value!r}")
        if self.exhausted not in ("cheapest", "refuse"):
            raise ValueError(f"tenant {self.name!r}: exhausted is 'cheapest' or 'refuse', got {self.exhausted!r}")
        if self.hard and self.cap is None:
            raise ValueError(f"tenant {self.name!r}: hard without a cap says nothing")


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """An admitted request."""

    id: str
    tenant: Tenant
    action: Action | None  # None: passed through
    decision: Decision | None  # None where the client named the action
    window: int
    paced: bool
    budget: float | None  # that the question is held against
    expected: float  # cost, in the policy's unit
    reserved: float  # in the cap's unit
    enough: Enough | None = field(default=None, repr=False)  # stops drawing early; None: all samples are drawn at once


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a question is drawn for, sample by sample."""

    action: Action  # with the most samples there will be
    expected: float  # cost, in the policy's unit
    enough: Enough


class Stopping(Protocol):
    """Stopping rules of all prices: instead of how many samples to draw, they say after each whether the next is worth it."""

    sources: tuple[str, ...]

    def pace(self, budget: float, step: float) -> Pace:
        """The pace of a budget; ValueError where it is below what the rules spend at least."""

    def plan(self, prediction: Prediction, price: float, max_samples: int | None) -> Plan:
        """The rule of a price for a question of which the policy predicts this."""
