"""Every question's upper concave hull of (cost, utility): the only actions a best response ever takes.

The functions run on NumPy and on JAX arrays; `xp` is the namespace.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import numpy as np


class Hull(NamedTuple):
    """The steps along hulls: those to action 1, those to action 2, and so on, in the order of `cheapest_first`."""

    vertex: list[Any]  # K - 1 of bool[N] whether the hull has a vertex there, to which a step leads
    slope: list[Any]  # K - 1 of f32[N] utility gained per unit of cost; falls strictly along a question's vertices
    before: list[Any]  # K - 1 of f32[N] the cost of the vertex at which the step begins


def hulls(xp: Any, utility: Any, cost: Any) -> Hull:
    """All hulls at once, by K^2 / 2 slopes.

    The least slope that leads to action k, t_k = min (u_k - u_j) / (c_k - c_j) over j < k, is that of the last edge of the hull
    of the actions up to k. Action k lies on the whole hull where t_k is above 0 and above the t of all more expensive actions:
    of two vertices, the later has the smaller t; and a k below an edge from a to b has t_k <= slope(a, k) <= slope(a, b) = t_b.
    The slopes themselves decide what is a vertex, so that those of a hull fall strictly whatever the rounding.

    Args:
      xp: the array namespace. In NumPy, divisions by 0 are to be expected.
      utility: f32[K, N].
      cost: f32[K, N] rising along K; of equal costs the best comes first (see `cheapest_first`).
    """
    slope: list[Any] = []
    vertex: list[Any] = []
    before = [cost[0]]
    for k in range(1, len(cost)):  # of equal costs, the slope is -infinity or NaN: no vertex
        slope.append(reduce(xp.minimum, ((utility[k] - utility[j]) / (cost[k] - cost[j]) for j in range(k))))
    later = xp.zeros_like(cost[0])
    for steepest in reversed(slope):
        vertex.insert(0, steepest > later)
        later = xp.fmax(later, steepest)
    for k in range(1, len(slope)):
        before.append(either(xp, vertex[k - 1], cost[k], before[-1]))
    return Hull(vertex, slope, before[: len(slope)])


def either(xp: Any, condition: Any, x: Any, y: Any) -> Any:
    """`xp.where`; in NumPy by bits, because its own branches at every entry, which takes ten times as long."""
    if xp is not np:
        return xp.where(condition, x, y)
    bits = np.dtype(f"i{x.itemsize}")
    mask = np.negative(condition.view(np.int8), dtype=bits)
    x, y, kind = x.view(bits), y.view(bits), x.dtype
    return (y ^ ((x ^ y) & mask)).view(kind)


def cheapest_first(utility: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The actions of every question by rising cost, of equal costs the best first.

    Args:
      utility: f32[K, N], NumPy.
      cost: f32[K, N].

    Returns:
      utility and cost in that order, and i32[K, N] which actions they are; None where they are in order.
    """
    actions = len(cost)
    if (cost[1:] > cost[:-1]).all():
        return utility, cost, None
    rows = [np.array(utility), np.array(cost), np.repeat(np.arange(actions, dtype=np.int32)[:, None], cost.shape[1], 1)]
    moved = False
    for turn in range(actions):  # neighbours change places, those of odd and of even places by turns
        first, second = slice(turn % 2, actions - 1, 2), slice(turn % 2 + 1, actions, 2)
        u, c, _ = rows
        swap = (c[second] < c[first]) | ((c[second] == c[first]) & (u[second] > u[first]))
        if swap.any():
            moved = True
            for x in rows:
                x[first], x[second] = either(np, swap, x[second], x[first]), either(np, swap, x[first], x[second])
    return rows[0], rows[1], rows[2] if moved else None
