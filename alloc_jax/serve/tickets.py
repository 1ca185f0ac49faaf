"""What the decision core takes and gives: who pays, what was asked, what was admitted, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from alloc_jax.actions import Action
from alloc_jax.learn.policy import Prediction
from alloc_jax.logs.decisions import POLICY
from alloc_jax.serve.allocator import Decision
from alloc_jax.serve.pacing import Pace

ADMIN = "admin"  # sees all tenants' figures; no tenant is called so


class Refused(Exception):
    """A request that is not served.

    Args:
      reason: invalid, forbidden, unknown, conflict, exhausted, busy, late or large; the protocol has a status for each.
      message: what is wrong, and what to do.
      retry_after: seconds after which it may be served.
    """

    def __init__(self, reason: str, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.reason, self.retry_after = reason, retry_after


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """Who pays, how much at most, and what may be asked for."""

    name: str = "default"
    budget: float | None  # mean cost per question, in the policy's unit; None: no limit, so compute is free
    cap: float | None = None  # of each window, in the cap's unit; None: no limit
    window_s: float = 86400.0
    hard: bool = False  # reserves the worst case, else a quantile of the measured costs
    exhausted: str = "cheapest"  # at the cap: the cheapest action while that fits, or "refuse"
    max_budget: float | None = (
        None  # the most that a request may bring as a budget of its own; None: the tenant's budget
    )
    forced: bool = True  # a request may name its action
    models: tuple[str, ...] | None = None  # of the upstream, that pass through; None: any; empty: none
    structured: str = "one"  # what tools and formats get: one sample, or as many as the policy says and a "vote"

    def __post_init__(self):
        for name in ("budget", "cap", "window_s", "max_budget"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise ValueError(f"tenant {self.name!r}: {name} is a positive number or null, got {value!r}")
        for name in ("hard", "forced"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"tenant {self.name!r}: {name} is true or false, got {getattr(self, name)!r}")
        if self.exhausted not in ("cheapest", "refuse"):
            raise ValueError(f"tenant {self.name!r}: exhausted is 'cheapest' or 'refuse', got {self.exhausted!r}")
        if self.structured not in ("one", "vote"):
            raise ValueError(f"tenant {self.name!r}: structured is 'one' or 'vote', got {self.structured!r}")
        if self.hard and self.cap is None:
            raise ValueError(f"tenant {self.name!r}: hard without a cap says nothing")
        if self.models is not None:
            if isinstance(self.models, str) or not all(isinstance(model, str) for model in self.models):
                raise ValueError(f"tenant {self.name!r}: models is a list of names or null, got {self.models!r}")
            object.__setattr__(self, "models", tuple(self.models))


@dataclass(frozen=True, kw_only=True)
class AnswerRequest:
    """A request for an allocated answer, as its client put it."""

    id: str
    text: str  # what the policy reads
    tenant: str = "default"
    messages: Sequence[Mapping[str, Any]] = ()  # the conversation; empty: the text alone
    action: str | None = None  # that the client names; None: the policy decides
    budget: float | None = None  # that this question is held against, instead of the tenant's
    max_samples: int | None = None  # the most that its action may draw
    gradable: bool | None = None  # whether its answers can be voted on; None: the first sample tells
    limit: int | None = None  # tokens of a sample that the client allows
    effort: str | None = None  # the most that a source may reason
    structured: str | None = None  # "tools" or "response_format", where the answer is to be more than a text
    extra: Mapping[str, Any] = field(default_factory=dict)  # further fields for the upstream
    sampling: Mapping[str, Any] = field(default_factory=dict)  # likewise, but not where samples are voted on
    stream: bool = False
    with_usage: bool = False  # a streamed answer ends with the usage
    ignored: tuple[str, ...] = ()  # fields that nothing is done about

    @property
    def conversation(self) -> Sequence[Mapping[str, Any]]:
        """What goes upstream, before a recipe puts it."""
        return self.messages or [{"role": "user", "content": self.text}]


CHAT, COMPLETIONS, EMBEDDINGS = "/chat/completions", "/completions", "/embeddings"  # below the upstream's address
_TEXTS = {COMPLETIONS: "prompt", EMBEDDINGS: "input"}  # the field that may hold several


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A request that goes to a model of the upstream as it is."""

    id: str
    body: Mapping[str, Any]  # that is sent
    tenant: str = "default"
    path: str = CHAT
    ignored: tuple[str, ...] = ()  # fields that nothing is done about

    @property
    def model(self) -> str:
        """The upstream's."""
        return self.body["model"]

    @property
    def texts(self) -> int:
        """How many texts are sent, each of which is answered."""
        found = self.body.get(_TEXTS.get(self.path, ""))
        several = isinstance(found, list) and found and not isinstance(found[0], int)  # numbers are the tokens of one
        return len(found) if several else 1

    @property
    def samples(self) -> int:
        """How many choices, or vectors, are asked for."""
        return self.texts * (self.body.get("n") or 1)


def why_one(question: AnswerRequest, tenant: Tenant) -> str | None:
    """Why a question gets one sample whatever its budget would buy; None where it may get a vote."""
    if question.gradable is False:
        return "the request says that there is nothing to vote on"
    if question.structured is None or tenant.structured == "vote":
        return None
    if question.structured == "tools":
        return "calls of tools are voted on where the operator says so"
    return (
        None
        if question.gradable
        else "structured answers are voted on where the request says gradable, or the operator"
    )


def why_fixed(question: AnswerRequest, single: str | None) -> str:
    """The kind of a decision: whether the policy chooses freely, or what leaves it no choice that other policies would have had."""
    return "named" if question.action is not None else POLICY if single is None else "one sample"


class Seen(NamedTuple):
    """One sample of a question that has come back: its source and its answer."""

    source: str
    key: str | None  # of its answer; None where it gives none
    round: int = 0  # in which it was drawn; samples of one round were asked for at once
    score: float | None = None  # a verifier's verdict on it; None where there is none


@dataclass(frozen=True)
class Pooled:
    """What stands in an action's place where samples of several sources are pooled."""

    sources: tuple[str, ...]
    samples: int  # at most
    aggregator: str = "pooled"
    source: None = None  # no single one
    ties: str = "uniform"  # where a deadline leaves a vote

    @property
    def name(self) -> str:
        return f"escalate({','.join(self.sources)})"


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """How a question is drawn for, round by round."""

    action: Action | Pooled  # with the most samples there will be
    expected: float  # cost, in the policy's unit
    # The sources of the next samples, all drawn at once; none: what was seen suffices.
    next: Callable[[Sequence[Seen]], Sequence[str]] = field(repr=False)
    limits: Mapping[str, int]  # the most samples of every source that may be drawn from
    rule: str | None = None  # the mark of the rules that it follows; None: it is its action's own
    # The key that answers, None where no sample has one, and the chance that it is right; None: the vote.
    choose: Callable[[Sequence[Seen]], tuple[str | None, float]] | None = field(default=None, repr=False)


class Stopping(Protocol):
    """Stopping rules of all multipliers: instead of how many samples to draw, they say after each what the next is drawn from."""

    mark: str  # of their kind: with other rules, a tenant's multiplier begins anew
    sources: tuple[str, ...]

    def pace(self, budget: float, step: float) -> Pace:
        """The pace of a budget; ValueError where it is below what the rules spend at least."""

    def plan(
        self, prediction: Prediction, multiplier: float, max_samples: int | None, ticket: float, text: str
    ) -> SamplingPlan:
        """The rule of a multiplier for a question of this text, of which the policy predicts this; its ticket in [0, 1) decides between
        adjacent rules."""


Asked = TypeVar("Asked", AnswerRequest, Passed)


@dataclass(frozen=True, kw_only=True)
class Ticket(Generic[Asked]):
    """An admitted request: a question that is answered, or one that is passed through."""

    asked: Asked
    tenant: Tenant
    action: Action | Pooled | None = None  # None: passed through
    decision: Decision | None = None  # None where the client named the action
    plan: SamplingPlan | None = None  # None: all samples are drawn at once
    single: str | None = None  # why there is one sample, whatever the action would have been
    window: int  # number of the cap's window
    budget: float | None = None  # that the question is held against; None: against none
    expected: float = 0.0  # cost, in the policy's unit
    worst: float = 0.0  # the most that one sample can be charged, in the cap's unit; 0 where there is no cap to keep
    reserved: float = 0.0  # in the cap's unit

    @property
    def id(self) -> str:
        """Of the request."""
        return self.asked.id

    @property
    def one(self) -> bool:
        """Whether the answer is one sample, decided at admission: nothing is voted on and no rule may draw again."""
        return (
            isinstance(self.action, Action)
            and self.plan is None
            and self.action.aggregator in ("single", "vote")
            and self.action.samples == 1
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """All that may be drawn from."""
        if self.plan is not None:
            return tuple(self.plan.limits)
        return () if not isinstance(self.action, Action) or self.action.source is None else (self.action.source,)
