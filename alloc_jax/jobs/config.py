"""Options that several jobs share. The help of a flag stands at its field: `Annotated[type, help]`.

Options that some jobs share without the rest of `LogConfig` are types of their own (`Log`, `Policies`, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

Log = Annotated[str, "Sample log, or a folder of its files, or a shipped one: `builtin`, `smollm2`."]
Resource = Annotated[
    str,
    "What is paid with: samples, tokens, compute, usd, seconds, stated, or one kind of tokens; empty: what the log knows.",
]
Prices = Annotated[str, "Price book (JSON) behind the resource usd; without it, the dollars that the log states."]
Budgets = Annotated[tuple[float, ...], "Mean costs per question, in the resource's unit."]
Seed = Annotated[int, "Seed of the splits, the training and the bootstrap."]
Policies = Annotated[
    tuple[str, ...], "Policies to train: kinds, with options where they differ, such as value(epochs=10)."
]
Questions = Annotated[int, "Questions drawn from the log at random; 0: all."]
Folds = Annotated[int, "Parts of the questions; each is answered for by rules that learned from the others."]
ByGroup = Annotated[bool, "Keep the questions of a group on one side of a split, or in one fold."]
Seeds = Annotated[int, "Repetitions with other folds or splits and seeds."]
TrainShare = Annotated[float, "Share of the questions to learn from; the rest is held out."]
Replicates = Annotated[int, "Resamples of the bootstrap over questions."]
Orders = Annotated[int, "Orders of every question's samples that are walked through."]


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How a sample log is paid for, and at which budgets."""

    actions: Annotated[
        str, "Actions such as 'vote(large/think,1),vote(large/think,8)'; default: all sources, all votes."
    ] = ""
    resource: Resource = ""
    prices: Prices = ""
    missing: Annotated[
        str, "What to do with questions that lack an action, a price, count or latency: error, or drop."
    ] = "error"
    budgets: Budgets = ()
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How rules that draw sample by sample are compared on a log."""

    log: Log = "builtin"
    resource: Resource = ""
    prices: Prices = ""
    budgets: Budgets = ()
    wave: Annotated[int, "Samples that are drawn at a time."] = 1
    rounds: Annotated[int, "The most waves; 0: as many as the cap allows."] = 0
    orders: Orders = 4
    policies: Policies = ("value",)
    folds: Folds = 5
    replicates: Replicates = 2000
    skip_bad: Annotated[bool, "Leave bad records and questions without samples out, or else stop at the first."] = False
    seed: Seed = 0

    def __post_init__(self):
        for name in ("wave", "orders", "folds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, got {getattr(self, name)}")
