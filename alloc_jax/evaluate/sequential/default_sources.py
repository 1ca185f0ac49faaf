"""The default ladder: sources worth asking, because nobody wants to type 43 model names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.evaluate.uniform_mix import upper_hull

MOST = 6
NEAR = 0.01  # accuracy below the hull that a source may have


def default_ladder(accuracy: Sequence[float], cost: Sequence[float], most: int = MOST) -> list[int]:
    """Positions of sources on or near the upper hull of accuracy over cost, cheap ones first.

    The ends of the hull are always there. The others come by how far each lies from the line between its neighbours that were taken; one that is
    near the hull is a second opinion at its cost.

    Args:
      accuracy: f[M] of one sample of each source.
      cost: f[M] alike.
      most: positions.

    >>> default_ladder([0.5, 0.8, 0.4, 0.9], [1.0, 2.0, 3.0, 9.0])
    [0, 1, 3]
    """
    right, paid = np.asarray(accuracy, float), np.asarray(cost, float)
    hull = upper_hull(paid, right)
    line = np.interp(paid, paid[hull], right[hull])
    near = [int(m) for m in np.flatnonzero((right >= line - NEAR) & (paid <= paid[hull[-1]])) if m not in hull]
    taken = [int(hull[0]), int(hull[-1])] if len(hull) > 1 else [int(hull[0])]
    rest = [int(m) for m in hull if m not in taken]

    def apart(m: int) -> float:
        """How far the cost is from those of the sources taken, in its logarithm."""
        logs = np.log(np.maximum(paid[taken], 1e-30))
        return float(np.abs(np.log(max(paid[m], 1e-30)) - logs).min())

    for group in (rest, near):
        while group and len(taken) < most:
            taken.append(group.pop(int(np.argmax([apart(m) for m in group]))))
    return sorted(taken, key=lambda m: (paid[m], m))
