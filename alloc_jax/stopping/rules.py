"""Stopping rules as they are served: after each sample, stop or draw again. NumPy alone.

Every state of a question (samples drawn, votes of the leader and of the runner-up, the context of its text) has an index: the
multiplier below which another sample is worth drawing. A rule is a multiplier: it draws while the index of the state is above that
multiplier. So one table of indices holds the rules of all budgets, and a lower multiplier draws wherever a higher one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import numpy as np

from alloc_jax.stopping.storage import load_rules, save_rules

STOP, DRAW = "stop", "draw"
FILE = "stopping.npz"  # beside the policy whose predictions are the prior
SCHEMA_VERSION = 1


class State(NamedTuple):
    """What is known of a question after some samples."""

    drawn: int  # samples
    lead: int = 0  # votes of the most frequent answer; verified: 1 once a sample was right; best: the bin of its reward
    chase: int = 0  # votes of the runner-up
    context: int = 0  # from `StoppingFrontier.context`
    ticket: float = 0.0  # in [0, 1), the same for all samples of a question: which of the two rules of a mix it follows
    source: int = 0  # position of the source the samples come from


def vote_state(answers: Sequence[str | None], context: int = 0, ticket: float = 0.0, source: int = 0) -> State:
    """The state after these answers; None has no vote.

    >>> vote_state(["12", "7", None, "12"])
    State(drawn=4, lead=2, chase=1, context=0, ticket=0.0, source=0)
    """
    top = [count for _, count in Counter(a for a in answers if a is not None).most_common(2)]
    lead, chase, *_ = (*top, 0, 0)
    return State(len(answers), lead, chase, context, ticket, source)


def prior_features(score: np.ndarray) -> np.ndarray:
    """Features for a stopping rule from a policy's predicted utilities f[N, K]: f32[N, 2], the utility of the first action (the
    cheapest), and how much the best action gains over it."""
    score = np.asarray(score, np.float32)
    return np.stack([score[:, 0], (score - score[:, :1]).max(axis=1)], axis=1)


class Prior(NamedTuple):
    """Features of N training questions that predict their accuracy, from models that have not seen their outcomes."""

    features: np.ndarray  # f[N, D] such as predicted utilities (`prior_features`)
    # Fewer models have not seen a question than will serve, and a mean over fewer is noisier and so spends differently. The
    # difference is extrapolated from halves of them: spend is taken to be linear in 1 / models.
    halves: tuple[np.ndarray, ...] = ()  # f[N, D] each: the features by either half of these models
    reach: float = 0.0  # how far to extrapolate; 1 is as far as from a half of these models to all of them


class CalibratedPolicy(Protocol):
    """A policy that knows what it predicted of training questions it had not seen."""

    @property
    def actions(self) -> tuple[str, ...]: ...

    @property
    def featurizer(self) -> Any: ...  # of `learn.protocols.Featurizer`

    def predict(self, questions: Sequence[str]) -> Any: ...  # a `learn.calibration.Prediction`

    @property
    def predicts_utility(self) -> bool: ...

    @property
    def calibration(self) -> tuple[Any, ...]: ...  # of `learn.calibration.Unseen`


def policy_prior(policy: CalibratedPolicy) -> Prior:
    """The prior from a policy's out-of-fold predictions for the questions that it was trained on.

    Raises:
      ValueError: the policy predicts no utilities.
    """
    if not policy.predicts_utility:
        raise ValueError("an imitation policy predicts no utilities: use a value policy")
    (unseen,) = policy.calibration
    return Prior(
        prior_features(unseen.whole.score), tuple(prior_features(half.score) for half in unseen.halves), unseen.reach
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class StoppingFrontier:
    """The stopping rules of all budgets, with what each spent and earned on the questions they were fitted on.

    Rule m draws while the index is at least `multiplier[m]`; between two of them lies their mix.
    """

    answer: str  # vote, verified or best
    sources: tuple[str, ...]  # M of them
    resource: str
    unit: str
    width: int  # state (lead, chase) is number lead * width + chase
    index: np.ndarray = field(repr=False)  # f32[M, G, T, J] of every source, context, number of samples drawn and state
    multiplier: np.ndarray = field(repr=False)  # f32[L] falling
    spend: np.ndarray = field(repr=False)  # f64[L] rising
    utility: np.ndarray = field(repr=False)  # f64[L]
    choice: np.ndarray = field(repr=False)  # i8[L, G] the source that a context is drawn from
    center: np.ndarray = field(repr=False)  # f32[G, D] of the contexts, of standardised features
    mean: np.ndarray = field(repr=False)  # f32[D] of the features
    scale: np.ndarray = field(repr=False)  # f32[D]
    bins: np.ndarray = field(
        repr=False
    )  # f32[B] rising edges between bins of a reward; none unless the best reward answers

    @property
    def cap(self) -> int:
        """The most samples of a question."""
        return self.index.shape[2]

    def value(self, budget):
        """The utility at these budgets, on the questions the rules were fitted on; NaN below the cheapest rule."""
        return utility_at(budget, self.spend, self.utility)

    def at(self, budget: float) -> StoppingRule:
        """The mix of two adjacent rules that spends a budget, or the rule that draws most where that spends less.

        Raises:
          ValueError: the budget is below what the cheapest rule spends.
        """
        return StoppingRule(self, float(budget), *adjacent(self.spend, budget))

    def context(self, prior: Sequence[float] | np.ndarray | None = None) -> int:
        """The context of a question, from its features [D]: the nearest one.

        Raises:
          ValueError: features are given to rules without a prior, none to rules with one, or they are not finite.
        """
        return int(self.contexts(None if prior is None else np.asarray(prior)[None])[0])

    def contexts(self, prior: np.ndarray | None, questions: int = 1) -> np.ndarray:
        """i64[N] the contexts of questions with features f[N, D]; of so many questions where there is no prior."""
        width = self.center.shape[1]
        if (prior is None) != (width == 0):
            raise ValueError(f"the rules were fitted with {width} features of a question as prior, got {prior}")
        if prior is None:
            return np.zeros(questions, int)
        prior = np.asarray(prior, np.float32)
        if prior.ndim != 2 or prior.shape[1] != width or not np.isfinite(prior).all():
            raise ValueError(f"the prior of a question is {width} finite numbers, got {prior}")
        return nearest((prior - self.mean) / self.scale, self.center)

    def save(self, folder: str | Path) -> None:
        """Write stopping.npz into a folder, that of the policy whose predictions are the prior; whole or not at all."""
        save_rules(self, Path(folder) / FILE, SCHEMA_VERSION)


@dataclass(frozen=True)
class StoppingRule:
    """Two adjacent stopping rules and the share of questions that follows each; mixing them spends a budget exactly."""

    frontier: StoppingFrontier = field(repr=False)
    budget: float
    less: int  # position of the rule that draws less
    more: int  # of the one that draws more
    weight: float  # share of the questions that follow the one that draws more
    # Plain lists and floats: an element of an array costs more than the rest of a decision.
    _multiplier: list[float] = field(init=False, repr=False)
    _index: list[memoryview[float]] = field(init=False, repr=False)
    _shape: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self):
        multipliers = [float(self.frontier.multiplier[m]) for m in (self.less, self.more)]
        object.__setattr__(self, "_multiplier", multipliers)
        object.__setattr__(self, "_index", [_lowered(x) for x in self.frontier.index])
        object.__setattr__(self, "_shape", self.frontier.index.shape[1:])

    @property
    def multiplier(self) -> float:
        """The multiplier, in utility per unit of the resource: that of the rule that draws more."""
        return self._multiplier[1]

    def source(self, context: int = 0, ticket: float = 0.0) -> int:
        """The position of the source that a question's samples are drawn from."""
        return int(self.frontier.choice[self.more if ticket < self.weight else self.less, context])

    def decide(self, state: State) -> str:
        """STOP or DRAW.

        Raises:
          ValueError: the state is none, such as more votes than samples.
        """
        drawn, lead, chase, context, ticket, source = state
        contexts, cap, states = self._shape
        if not (0 <= chase <= lead <= drawn or self.frontier.answer == "best"):
            raise ValueError(f"no such state: {state}")
        if drawn >= cap:
            return STOP
        number = lead * self.frontier.width + chase
        if not 0 <= context < contexts or number >= states:
            raise ValueError(f"no such state: {state}")
        index = self._index[source][(context * cap + drawn) * states + number]
        return DRAW if index >= self._multiplier[ticket < self.weight] else STOP


def load_stopping(folder: str | Path) -> StoppingFrontier:
    """The stopping rules in a folder that `StoppingFrontier.save` wrote.

    Raises:
      ValueError: there are none, they are damaged, or of another schema version.
    """
    path = Path(folder) / FILE
    frontier = load_rules(StoppingFrontier, path, SCHEMA_VERSION, "stopping")
    if np.isnan(frontier.index).any():
        raise ValueError(f"{path} is damaged: an index is not a number")
    return frontier


def adjacent(spend: np.ndarray, budget: float) -> tuple[int, int, float]:
    """The two adjacent rules that a budget lies between, by their rising spends f[L], and the share of the one that spends more.

    Raises:
      ValueError: the budget is below what the first rule spends.
    """
    if not budget >= spend[0] * (1 - 1e-9):
        raise ValueError(f"budget {budget:g} is below {spend[0]:g}, what the rule that draws least spends")
    more = min(int(np.searchsorted(spend, budget, side="right")), len(spend) - 1)
    less = max(more - 1, 0)
    room = spend[more] - spend[less]
    return less, more, 1.0 if room <= 0 else float(np.clip((budget - spend[less]) / room, 0, 1))


def utility_at(budget, spend: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """What mixes of adjacent rules earn at budgets, by the rules' rising spends f[L]; NaN below the first."""
    budget = np.asarray(budget, float)
    return np.where(budget < spend[0], np.nan, np.interp(budget, spend, utility))


def lottery(ids: Sequence[str], seed: int = 0) -> np.ndarray:
    """A number in [0, 1) for each id, f64[N]: the same id and seed always draw the same number."""
    return np.array([crc32(f"{seed}:{name}".encode()) / 2**32 for name in ids])


def nearest(features: np.ndarray, center: np.ndarray) -> np.ndarray:
    """i64[N] the centers f[G, D] nearest to features f[N, D]."""
    return ((features[:, None, :] - center[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)


def _lowered(index: np.ndarray) -> memoryview[float]:
    """A flat view whose elements are plain floats."""
    return np.ascontiguousarray(index, np.float32).data.cast("B").cast("f")
