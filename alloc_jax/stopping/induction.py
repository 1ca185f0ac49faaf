"""Backward induction over states: the multiplier up to which another one is worth it.

With l the multiplier (utility per unit of cost), the value of a state is

    V(s) = max(stop(s), -l cost(s) + E V(s')),

a stopping problem for every l, with one l for all questions. The index of a state is the multiplier at which both arguments of the
maximum are equal. In terms of stopping times (Gittins 1979),

    index(s) = sup over rules that draw at least once of (utility gained) / (cost spent),

so it is at least the ratio that any such rule has, and the rule that is best at a multiplier near the index has it up to second order.
`indices` takes the greatest ratio over the rules that are best at many multipliers. Drawing while the index is at least
l is the optimal rule of multiplier l; one table holds the rules of all multipliers.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from alloc_jax.stopping.states import StateModel

FOLLOW = ("best", "myopic", "patient")


def backward(model: StateModel, draw) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What a rule earns and spends from every state on.

    Args:
      model: G contexts, T layers, J states.
      draw: (layer, gain f[G, J], cost f[G, J]) -> bool[G, J], whether the rule draws in states where drawing on gains so much
        over stopping for so much cost; the layer is a dictionary of the model's rows. In the middle of a wave it is not asked.

    Returns:
      utility f[G, T + 1, J] and cost alike, and gain and extra cost f[G, T, J] of drawing on.
    """
    rows = {"stop": model.stop[:, :-1], "chance": model.chance, "cost": model.cost}
    rows = {name: jnp.moveaxis(x, 1, 0) for name, x in rows.items()}
    rows |= {"may_stop": jnp.asarray(model.may_stop), "layer": jnp.arange(len(model.may_stop))}
    last = model.stop[:, -1]

    def back(after, row):
        utility, cost = after
        gain = (row["chance"] * utility[:, model.successor]).sum(axis=-1) - row["stop"]
        extra = row["cost"] + (row["chance"] * cost[:, model.successor]).sum(axis=-1)
        on = draw(row, gain, extra) | ~row["may_stop"]
        state = row["stop"] + jnp.where(on, gain, 0), jnp.where(on, extra, 0)
        return state, (*state, gain, extra)

    end = last, jnp.zeros_like(last)
    _, (utility, cost, gain, extra) = jax.lax.scan(back, end, rows, reverse=True)
    utility, cost = (
        jnp.concatenate([jnp.moveaxis(x, 0, 1), e[:, None]], axis=1) for x, e in zip((utility, cost), end, strict=True)
    )
    return utility, cost, jnp.moveaxis(gain, 0, 1), jnp.moveaxis(extra, 0, 1)


def best_at(model: StateModel, multiplier: jax.Array, follow: str = "best"):
    """`backward` of the rule that is best at a multiplier; or of the myopic one, which looks one draw ahead, or the patient one, which
    never stops once it draws."""
    rules = {
        "best": lambda row, gain, extra: gain > multiplier * extra,
        "myopic": lambda row, gain, extra: jnp.zeros(gain.shape, bool),
        "patient": lambda row, gain, extra: jnp.ones(gain.shape, bool),
    }
    return backward(model, rules[follow])


@partial(jax.jit, static_argnames="follow")
def indices(model: StateModel, multipliers: jax.Array, follow: str = "best") -> jax.Array:
    """The index of every state.

    Args:
      model: of the states.
      multipliers: f[M] at which the best rules are looked at; the finer, the more exact is the index.
      follow: "best"; "myopic" and "patient" give the ratio of gain to cost of the next draw alone, and of drawing to the end.

    Returns:
      f[G, T, J]; infinite in the middle of a wave and before the first sample.
    """

    def raised(index, multiplier):
        _, _, gain, extra = best_at(model, multiplier, follow)
        return jnp.maximum(index, gain / jnp.where(extra > 0, extra, 1)), None

    start = jnp.full(model.cost.shape, -jnp.inf, model.cost.dtype)
    index, _ = jax.lax.scan(raised, start, multipliers)
    return jnp.where(model.may_stop[None, :, None], index, jnp.inf)


@jax.jit
def totals(model: StateModel, index: jax.Array, multiplier: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Expected utility and cost f[M, G] of a question of each context under the rules that draw while index >= multiplier f[M]."""

    def of(multiplier):
        rows = jnp.moveaxis(index, 1, 0) >= multiplier
        utility, cost, _, _ = backward(model, lambda row, gain, extra: rows[row["layer"]])
        return utility[:, 0, 0], cost[:, 0, 0]

    return jax.lax.map(of, multiplier)


@jax.jit
def root_values(model: StateModel, multipliers: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Expected utility and cost f[M, G] of a question of each context under the best rules of multipliers f[M]."""

    def of(multiplier):
        utility, cost, _, _ = best_at(model, multiplier)
        return utility[:, 0, 0], cost[:, 0, 0]

    return jax.lax.map(of, multipliers)


def multiplier_grid(model: StateModel, points: int, span: float = 1e-5) -> jax.Array:
    """f[points] falling multipliers, evenly apart in their logarithm, from above every index to `span` of it; the last one is 0."""
    gain = model.stop.max() - jnp.minimum(model.stop.min(), 0)
    least = jnp.where(model.cost > 0, model.cost, jnp.inf).min()
    top = jnp.where(jnp.isfinite(least), gain / least, 1.0)
    grid = top * span ** jnp.linspace(0, 1, points - 1)
    return jnp.append(grid, 0)
