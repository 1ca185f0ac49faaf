"""Pandora's box: which of some boxes to open, and when to stop, where every box holds a prize of its own and costs something to open.

A sample whose verdict a verifier or a reward model gives is such a box: its prize v is the chance that it is right, and one answer is
taken in the end. A box is as good as a prize that is sure, its reservation value z,

    E[(v - z)+] = multiplier * cost,

and the best rule opens boxes by falling z until the best prize seen is at least every z that is left (Weitzman, Optimal Search for the
Best Alternative, Econometrica 1979). It is best where the boxes are independent. NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alloc_jax.stopping.storage import load_rules, save_rules

if TYPE_CHECKING:  # serving imports no JAX
    from alloc_jax.types import SampleLog

FILE, _VERSION = "verdicts.npz", 1
_BINS = 32  # of equally many rewards


def reservation_value(prizes: np.ndarray, chance: np.ndarray, cost: np.ndarray | float) -> np.ndarray:
    """The sure prize that a box is worth: z with E[(v - z)+] = cost.

    The expectation is the largest, over the best j prizes, of sum_j chance * (prize - z), so that z is the largest of
    (sum_j chance * prize - cost) / sum_j chance.

    Args:
      prizes: f[..., V] that a box may hold.
      chance: f[..., V] of each; they sum to 1.
      cost: f[...] of opening it, in units of the prize (the multiplier times its cost in a resource), at least 0.

    Returns:
      f64[...]; below the least prize where opening is worth less than its cost for every prize in hand.

    >>> reservation_value(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 0.1)  # a sample that is right every other time
    np.float64(0.8)
    """
    order = np.argsort(-np.asarray(prizes, float), axis=-1, kind="stable")
    falling = np.take_along_axis(np.asarray(prizes, float), order, -1)
    weight = np.take_along_axis(np.broadcast_to(np.asarray(chance, float), falling.shape), order, -1)
    mass, sums = np.cumsum(weight, axis=-1), np.cumsum(weight * falling, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (sums - np.asarray(cost, float)[..., None]) / mass
    return np.minimum(np.max(np.where(mass > 0, found, -np.inf), axis=-1), falling[..., 0])  # rounding makes no prize


@dataclass(frozen=True, eq=False)
class Search:
    """What the best rule over boxes opens, earns and spends."""

    order: np.ndarray  # i64[B] of the boxes, by falling reservation value
    reservation: np.ndarray  # f64[B] of each box
    opened: np.ndarray  # f64[B] the chance that each is opened
    utility: float  # the mean of the best prize seen
    spend: float  # the mean of what was paid


def search_boxes(
    prizes: np.ndarray, chance: np.ndarray, cost: np.ndarray, multiplier: float, in_hand: float = 0.0
) -> Search:
    """The best rule over independent boxes at a multiplier.

    Args:
      prizes: f[B, V] that the boxes may hold.
      chance: f[B, V] of each.
      cost: f[B] of opening them.
      multiplier: utility per unit of cost.
      in_hand: a prize that is there already.

    >>> found = search_boxes(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([1.0, 8.0]), 0.1)
    >>> found.order, found.spend  # the cheap one first, the other one only where that failed and where it is worth it
    (array([0, 1]), 5.0)
    """
    prizes, chance, cost = (np.asarray(x, float) for x in (prizes, chance, cost))
    value = reservation_value(prizes, chance, multiplier * cost)
    order = np.argsort(-value, kind="stable")
    best = np.unique(np.append(prizes, in_hand))  # what may be in hand
    at_most = (best >= in_hand).astype(float)  # the chance that no more than that is
    opened = np.zeros(len(cost))
    for box in order:
        below = np.searchsorted(best, value[box], side="left")  # of the prizes that leave it worth opening
        opened[box] = at_most[below - 1] if below else 0.0
        within = (chance[box, :, None] * (prizes[box, :, None] <= best)).sum(axis=0)
        # Opened only from below: from there the greater of the two is in hand.
        at_most = np.where(np.arange(len(best)) < below, at_most * within, at_most - opened[box] * (1 - within))
    held = np.diff(at_most, prepend=0.0)
    return Search(order, value, opened, float(held @ best), float(opened @ cost))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What a reward says, by source: the chance that a sample is right rises with it, and how often it is how high."""

    sources: tuple[str, ...]
    reward: np.ndarray  # f64[M, V] rising: the middle of bins of equally many samples
    right: np.ndarray  # f64[M, V] rising
    chance: np.ndarray  # f64[M, V] of the bins

    def prize(self, source: str, reward: float) -> float:
        """The chance that a sample of a source with this reward is right."""
        m = self.sources.index(source)
        return float(np.interp(reward, self.reward[m], self.right[m]))

    def save(self, folder: Path | str) -> None:
        """Write `verdicts.npz` into a policy's folder, beside which the gateway finds it."""
        save_rules(self, Path(folder) / FILE, _VERSION)


def load_verdicts(folder: Path | str) -> Verdicts:
    """What `Verdicts.save` wrote.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    return load_rules(Verdicts, Path(folder) / FILE, _VERSION, "verdict")


def fit_verdicts(log: SampleLog, sources: tuple[str, ...] | None = None) -> Verdicts:
    """What the rewards of a log say: bins of equally many samples, whose shares of right ones are made to rise by pooling neighbours.

    Args:
      log: with rewards, of questions that the policy was trained on or of others.
      sources: of which; by default all.

    Raises:
      ValueError: a source has no rewards.
    """
    names = tuple(source.name for source in log.sources) if sources is None else tuple(sources)
    found = []
    for name in names:
        m = log.source_index(name)
        known = None if log.reward is None else log.sampled[:, m] & np.isfinite(log.reward[:, m])
        if known is None or not known.any():
            raise ValueError(f"source {name!r} has no rewards in the log")
        reward, right = log.reward[:, m][known].astype(float), log.correct[:, m][known].astype(float)
        order = np.argsort(reward, kind="stable")
        bins = np.array_split(order, min(_BINS, len(order)))
        middle = np.array([reward[part].mean() for part in bins])
        share = np.array([right[part].mean() for part in bins])
        count = np.array([len(part) for part in bins])
        edges = np.append(np.diff(middle) > 0, True)  # equal rewards are one bin
        group = np.append(0, np.cumsum(edges)[:-1])
        weight = np.bincount(group, count)
        merged = np.bincount(group, share * count) / weight
        spread = np.full((3, _BINS), np.nan)
        rows = middle[edges], _rising(merged, weight), weight / weight.sum()
        for row, values in zip(spread, rows, strict=True):  # shorter rows end with their last value, and no weight
            row[: len(values)], row[len(values) :] = values, values[-1]
        spread[2, len(weight) :] = 0.0
        found.append(spread)
    return Verdicts(names, *np.stack(found, axis=1))


def _rising(share: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The rising sequence that is nearest to shares in weighted squares: neighbours that fall are pooled."""
    pools: list[tuple[float, float, int]] = []
    for value, mass in zip(share, weight, strict=True):
        size = 1
        while pools and pools[-1][0] >= value:
            before, its, many = pools.pop()
            value, mass, size = (before * its + value * mass) / (its + mass), its + mass, size + many
        pools.append((value, mass, size))
    return np.concatenate([np.full(size, value) for value, _, size in pools])
