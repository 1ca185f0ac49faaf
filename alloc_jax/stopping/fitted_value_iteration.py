"""Fitted value iteration: stopping rules from logged paths, without a model of what comes next.

From the last layer back, what drawing on earned and cost on each path, under the rules found for the later layers, is regressed on
functions of the state and the context (Longstaff and Schwartz 2001), and so is what answering at once earned. The rule of a multiplier
draws where the fitted gain exceeds the multiplier times the fitted cost. The fits are functions of states, so they give a table of
indices again: the greatest multiplier at which each state draws.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec as P

from alloc_jax.solve.mesh import on_mesh, shared_out
from alloc_jax.stopping.contexts import Contexts
from alloc_jax.stopping.paths import Paths
from alloc_jax.stopping.states import Lattice

MULTIPLIERS = 48
RIDGE = 3.0  # questions' worth of shrinkage of each coefficient


def fitted_indices(paths: Paths, lattice: Lattice, near: Contexts, may_stop: np.ndarray, mesh: Mesh | None = None):
    """The indices f32[G, T, J] of every state, and a function that gives what the rules of multipliers f[M] are worth at the root, f[M, G].

    Args:
      paths: of N questions; every order of a question counts 1 / P.
      lattice: the states.
      near: the contexts of the questions.
      may_stop: bool[T].
      mesh: its devices share out the paths, and add up what they find of every state.
    """
    cap = lattice.cap
    per_sample = paths.cost[paths.cost > 0].min(initial=np.inf)
    top = 1 / per_sample if np.isfinite(per_sample) else 1.0
    multipliers = (top * np.geomspace(1, 1e-4, MULTIPLIERS)).astype(np.float32)

    number = lattice.number(paths.lead, paths.chase)
    cell = near.of[:, None, None] * lattice.states + number
    table = np.stack([_basis(lattice, n, near.center) for n in range(cap)])
    walked = [np.moveaxis(x, 2, 0).reshape(x.shape[2], -1) for x in (cell, paths.utility, paths.cost)]
    spare = (table.shape[1], 0, 0)  # what fills up the last share is in no state
    walked = [shared_out(x, mesh, axis=1, value=value) for x, value in zip(walked, spare, strict=True)]
    draws, *root = _iterate(*walked, np.float32(table), may_stop, multipliers, 1 / number.shape[1], mesh)
    draws = np.asarray(draws).reshape(cap, len(near.center), lattice.states, MULTIPLIERS)
    greatest = np.where(draws.any(axis=3), multipliers[np.argmax(draws, axis=3)], 0)
    index = np.moveaxis(np.where(may_stop[:, None, None], greatest, np.inf), 0, 1)
    utility, cost = (np.asarray(x)[:: lattice.states].T for x in root)  # [M, G]

    def at_root(wanted: np.ndarray) -> np.ndarray:
        at = np.clip(np.searchsorted(-multipliers, -wanted), 0, MULTIPLIERS - 1)
        return utility[at] - wanted[:, None] * cost[at]

    return index.astype(np.float32), at_root


@partial(jax.jit, static_argnames="mesh")
def _iterate(cell, utility, cost, table, may_stop, multipliers, share, mesh: Mesh | None):
    """Whether each state draws at each multiplier, bool[T, G J, M], and what that earns and costs from layer 0 on, f[G J, M] twice.

    Args:
      cell: i[T + 1, R] context and state of every path in every layer; G J for none.
      utility: f[T + 1, R] of answering there.
      cost: f[T, R] of the next sample.
      table: f[T, G J, B] basis of every state.
      may_stop: bool[T].
      multipliers: f[M].
      share: what a path counts.
      mesh: its devices share out the paths.
    """
    axes = None if mesh is None else mesh.axis_names
    split = None if mesh is None else P(None, axes)
    kernel = on_mesh(partial(_back_to_the_root, axes=axes), mesh, split, split, split, out=P())
    return kernel(cell, utility, cost, table, may_stop, multipliers, share)


def _back_to_the_root(cell, utility, cost, table, may_stop, multipliers, share, *, axes: tuple[str, ...] | None):
    """`_iterate` on the paths of one device."""
    cells = table.shape[1]

    def over_all(x):
        return x if axes is None else jax.lax.psum(x, axes)

    def back(after, row):
        cell, utility, basis = row["cell"], row["utility"][:, None], row["table"]
        earned, spent = after[0], after[1] + row["cost"][:, None]
        seen = over_all(share * jnp.bincount(cell, length=cells))
        matrix = (basis.T * seen[None, :]) @ basis + RIDGE * jnp.eye(basis.shape[1])

        def fitted(y):
            each = over_all(share * jax.ops.segment_sum(y, cell, cells))
            middle = each.sum(axis=0) / seen.sum()
            return (
                basis @ jnp.linalg.solve(matrix, basis.T @ (each - seen[:, None] * middle[None, :])) + middle[None, :]
            )

        earning, spending, now = fitted(earned), fitted(spent), fitted(utility)
        draws = (earning - now > multipliers[None, :] * spending) | ~row["may_stop"]
        on = draws[cell]
        after = jnp.where(on, earned, utility), jnp.where(on, spent, 0)
        return after, (draws, earning, spending)

    rows = {"cell": cell[:-1], "utility": utility[:-1], "cost": cost, "table": table, "may_stop": may_stop}
    end = jnp.broadcast_to(utility[-1][:, None], (cell.shape[1], len(multipliers)))
    _, (draws, earning, spending) = jax.lax.scan(back, (end, jnp.zeros_like(end)), rows, reverse=True)
    return draws, earning[0], spending[0]


def _basis(lattice: Lattice, n: int, center: np.ndarray) -> np.ndarray:
    """f[G J, B] functions of every context and state after n samples; their fit has an intercept beside them."""
    lead, chase = np.divmod(np.arange(lattice.states), lattice.width)
    if lattice.answer == "vote":
        a, b = (np.minimum(x / max(n, 1), 1) for x in (lead, chase))
        own = np.stack([a, b, a * a, a * b, b * b, lead == chase, lead <= 1], axis=1)
    else:
        level = lead / (lattice.states - 1)
        own = np.stack([level, level**2, lead == 0], axis=1)
    own, text = (np.asarray(x, float) for x in (own, np.column_stack([center, center**2])))
    contexts, states = len(center), len(own)
    both = own[None, :, None, :2] * text[:, None, :, None]
    parts = [
        np.broadcast_to(own, (contexts, *own.shape)),
        np.broadcast_to(text[:, None, :], (contexts, states, text.shape[1])),
        both.reshape(contexts, states, -1),
    ]
    return np.concatenate(parts, axis=2).reshape(contexts * states, -1)
