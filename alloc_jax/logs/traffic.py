"""Traffic: decisions that a gateway took, the chance that every action had, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np


@dataclass(frozen=True, eq=False, kw_only=True)
class Traffic:
    """N logged decisions among K actions, in the order in which they were taken.

    Only what a policy decided stands here: a request whose client named the action says nothing about other policies.

    Raises:
      ValueError: an action was taken that had no chance, chances do not add up to 1, or shapes differ.
    """

    actions: tuple[str, ...]  # [K] names
    action: np.ndarray  # i32[N] that was taken
    behaviour: np.ndarray  # f32[N, K] the chance that each action had; 0 where it was not allowed
    utility: np.ndarray = field(repr=False)  # f32[N, K] that the live policy predicted
    cost: np.ndarray = field(repr=False)  # f32[N, K] likewise
    allowed: np.ndarray = field(repr=False)  # bool[N, K] what the request left to the policy
    spent: np.ndarray = field(repr=False)  # f64[N] realised cost
    reward: np.ndarray = field(repr=False)  # f64[N] the verdict on the answer, in [0, 1]; NaN where there is none
    session: np.ndarray = field(repr=False)  # i64[N] decisions of one session err together; numbered from 0
    multiplier: np.ndarray = field(repr=False)  # f64[N] that the decision was taken at
    ids: tuple[str, ...] = field(repr=False, default=())  # of the requests
    time: np.ndarray | None = field(repr=False, default=None)  # f64[N] seconds

    def __post_init__(self):
        shape = len(self.action), len(self.actions)
        for name in ("behaviour", "utility", "cost", "allowed"):
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} of {shape[0]} decisions among {shape[1]} actions has shape {shape}, got "
                    f"{getattr(self, name).shape}"
                )
        if shape[0] and not (self.chance > 0).all():
            i = int(np.argmin(self.chance))
            raise ValueError(f"decision {i} took {self.actions[self.action[i]]!r}, which had no chance")
        if shape[0] and np.abs(self.behaviour.sum(axis=1) - 1).max() > 1e-3:
            raise ValueError(
                f"the chances of decision {int(np.abs(self.behaviour.sum(axis=1) - 1).argmax())} do not add up to 1"
            )

    def __len__(self) -> int:
        return len(self.action)

    @property
    def chance(self) -> np.ndarray:
        """f32[N] the chance that the action taken had."""
        return self.behaviour[np.arange(len(self.action)), self.action]

    @property
    def labelled(self) -> np.ndarray:
        """bool[N] where there is a verdict."""
        return np.isfinite(self.reward)

    def select(self, rows: Sequence[int] | np.ndarray | slice) -> Traffic:
        """These decisions alone."""
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("actions", "ids")}
        found = {name: None if part is None else part[rows] for name, part in parts.items()}
        ids = tuple(np.array(self.ids, object)[rows]) if self.ids else ()
        return replace(self, **found, ids=ids)

    def bounded(self, actions: int) -> Traffic:
        """The same, where only the first so many actions may be taken."""
        return replace(self, allowed=self.allowed & (np.arange(len(self.actions)) < actions))
