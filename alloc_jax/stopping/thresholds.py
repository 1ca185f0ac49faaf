"""All rules of an index at once: what the rule of every multiplier spends and earns on paths, by one sort.

A path draws sample n + 1 at multiplier l if every state up to n had an index of at least l, that is, if the least index so far (its `bar`)
is at least l. So each sample of each path has one multiplier below which it is drawn, and the spend of all rules is a running sum over the
sorted bars.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alloc_jax.stopping.paths import Paths
from alloc_jax.stopping.states import Lattice


class IndexRules(NamedTuple):
    """The rules of an index, falling multipliers first: rule m draws while the index is at least multiplier[m]."""

    multiplier: np.ndarray  # f64[L] falling
    spend: np.ndarray  # f64[L] mean over paths, rising
    utility: np.ndarray  # f64[L]

    def thinned(self, most: int) -> IndexRules:
        """At most so many of the rules, about evenly apart in spend, with the first and the last."""
        if len(self.spend) <= most:
            return self
        wanted = np.linspace(self.spend[0], self.spend[-1], most)
        keep = np.unique(np.append(np.searchsorted(self.spend, wanted[:-1]), len(self.spend) - 1))
        return IndexRules(*(x[keep] for x in self))


def path_index(index: np.ndarray, lattice: Lattice, paths: Paths, context: np.ndarray) -> np.ndarray:
    """f[N, P, T] the index f[G, T, J] of every state the paths come through, questions in contexts i64[N]."""
    cap = index.shape[1]
    number = lattice.number(paths.lead[..., :cap], paths.chase[..., :cap])
    return index[context[:, None, None], np.arange(cap), number]


def bars(index: np.ndarray) -> np.ndarray:
    """f[N, P, T] the least index so far: the highest multiplier at which a path draws sample n + 1."""
    return np.minimum.accumulate(index, axis=2)


def index_rules(bar: np.ndarray, paths: Paths) -> IndexRules:
    """Every rule of an index on paths, from the bars f[N, P, T]."""
    cap = bar.shape[2]
    order = np.argsort(-bar, axis=None, kind="stable")
    multiplier = bar.reshape(-1)[order].astype(float)
    last = np.append(multiplier[1:] != multiplier[:-1], True)

    def running(x: np.ndarray) -> np.ndarray:
        return np.cumsum(x.reshape(-1)[order], dtype=float)[last] / (bar.shape[0] * bar.shape[1])

    return IndexRules(multiplier[last], running(paths.cost[..., :cap]), running(np.diff(paths.utility)[..., :cap]))
