"""The end of a solve with several resources, exactly: a small linear programme over the questions that are contested.

Newton ends so near the optimal prices that nearly every question's action is settled. Those that are not, the
contested ones, share what the others leave of each budget:

    max sum w u x   subject to   sum w c_r x <= rest_r  for each resource,   every question's x adds up to 1

Its simplex method needs no row a question (generalised upper bounds): each question has a `key` action that takes what its
other actions leave, and a basis is R columns, each an action beside its question's key, the slack of a budget, or an overspend at a
penalty. A pivot prices all actions at the multipliers of the basis, which is one best response, and solves R x R systems. At the end at
most R questions are mixed. `settle` makes an integral plan of it, by single moves.

Source: G. Dantzig and R. Van Slyke, Generalized upper bounding techniques, 1967.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble

SLACK, OVERSPEND, ACTION = range(3)  # kinds of columns
DEAREST = 1e12  # times the first penalty: where an overspend still pays, the budgets cannot be met


class Contested(NamedTuple):
    """Some questions; costs in units of about the budgets."""

    utility: jax.Array  # f32[M, K]
    cost: jax.Array  # f32[R, M, K]
    weight: jax.Array  # f32[M]


class Basis(NamedTuple):
    """R columns."""

    kind: jax.Array  # i32[R]
    at: jax.Array  # i32[R] the question of an action; the resource of a slack or an overspend
    action: jax.Array  # i32[R] meaningless beside a resource


class Vertex(NamedTuple):
    """Where the simplex method stands: every question at its key but for what the basis says."""

    key: jax.Array  # i32[M]
    basis: Basis
    rest: DoubleDouble  # f32[R] what the keys leave of each budget; negative where they overspend
    penalty: jax.Array  # f32[R] on a unit of overspend
    pivots: jax.Array  # i32[]
    idle: jax.Array  # i32[] pivots since the last that gained something
    open: jax.Array  # bool[]


class Mix(NamedTuple):
    """The optimum: the columns that are actions, and how much of their question they take from its key."""

    key: jax.Array  # i32[M]
    question: jax.Array  # i32[R] among the contested
    action: jax.Array  # i32[R]
    share: jax.Array  # f32[R] 0 where the column is no action
    multiplier: jax.Array  # f32[R] in these units
    fits: jax.Array  # bool[] nothing is overspent


def optimise(contested: Contested, key: jax.Array, rest: DoubleDouble, penalty: jax.Array) -> Mix:
    """The optimum, from a plan near it.

    Args:
      contested: the questions.
      key: i32[M] their actions now.
      rest: f32[R] what those leave of each budget.
      penalty: f32[R] on a unit of overspend, to begin with; it rises where overspending pays.
    """
    resources = rest.hi.size
    over = rest.hi < 0
    basis = Basis(jnp.where(over, OVERSPEND, SLACK), jnp.arange(resources), jnp.zeros(resources, jnp.int32))
    basis = Basis(*(x.astype(jnp.int32) for x in basis))
    zero = jnp.int32(0)
    limit = 8 * key.size + 100 * resources
    vertex = jax.lax.while_loop(
        lambda v: v.open & (v.pivots < limit) & (v.idle < 200 + 20 * resources),
        lambda v: pivot(contested, v, penalty),
        Vertex(key, basis, rest, penalty, zero, zero, jnp.bool_(True)),
    )
    _, share, multiplier = solved(contested, vertex)
    actions = vertex.basis.kind == ACTION
    tolerance = 1e3 * jnp.finfo(share.dtype).eps
    return Mix(
        vertex.key,
        jnp.where(actions, vertex.basis.at, 0),
        vertex.basis.action,
        jnp.where(actions, jnp.clip(share, 0, 1), 0),
        jnp.maximum(multiplier, 0),
        ~((vertex.basis.kind == OVERSPEND) & (share > tolerance)).any(),
    )


def solved(contested: Contested, vertex: Vertex) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The inverse of the basis, the values of its columns, and the multipliers."""
    utility, cost, weight = contested
    (kind, at, action), key = vertex.basis, vertex.key
    acts = kind == ACTION
    question = jnp.where(acts, at, 0)
    gain = weight[question] * (utility[question, action] - utility[question, key[question]])
    extra = weight[question][None] * (cost[:, question, action] - cost[:, question, key[question]])
    unit = jnp.where(kind == SLACK, 1, -1)[None] * (jnp.arange(kind.size)[:, None] == at[None])
    columns = jnp.where(acts[None], extra, unit.astype(extra.dtype))
    inverse = jnp.linalg.inv(columns)
    gain = jnp.where(acts, gain, jnp.where(kind == OVERSPEND, -vertex.penalty[jnp.where(acts, 0, at)], 0))
    return inverse, inverse @ vertex.rest.hi, gain @ inverse


def pivot(contested: Contested, vertex: Vertex, first_penalty: jax.Array) -> Vertex:
    """One step: the column that gains most enters, the one that first reaches a bound leaves."""
    utility, cost, weight = contested
    (kind, at, action), key = vertex.basis, vertex.key
    (questions, actions), resources = utility.shape, kind.size
    eps = jnp.finfo(utility.dtype).eps
    acts = kind == ACTION
    inverse, value, multiplier = solved(contested, vertex)

    # What enters: an action by what it gains over its key at these prices, or a slack whose price is negative.
    net = utility
    for r in range(resources):
        net = net - multiplier[r] * cost[r]
    gain = net - jnp.take_along_axis(net, key[:, None], axis=1)
    rounding = 8 * eps * (jnp.abs(net) + jnp.abs(utility))
    gain = jnp.where(gain > rounding, gain * weight[:, None], -1)
    gain = gain.at[jnp.where(acts, at, questions), action].set(-1, mode="drop")
    place = jnp.argmax(gain)
    new, to = (place // actions).astype(jnp.int32), (place % actions).astype(jnp.int32)
    slack = jnp.argmin(multiplier).astype(jnp.int32)
    negative = -multiplier[slack]
    slackens = (negative > 64 * eps * jnp.abs(multiplier).max()) & (negative > gain[new, to])
    improves = slackens | (gain[new, to] > 0)
    enters = jnp.where(
        slackens,
        (jnp.arange(resources) == slack).astype(value.dtype),
        weight[new] * (cost[:, new, to] - cost[:, new, key[new]]),
    )

    # What leaves: a column that falls to 0, or the key of a question that falls to 0.
    fall = inverse @ enters
    least = 1e3 * eps * jnp.maximum(jnp.abs(fall).max(), eps)
    together = acts[:, None] & acts[None] & (at[:, None] == at[None])
    held = 1 - jnp.where(acts, together @ value, 0)
    fall_of_key = (acts & (at == new) & ~slackens) - together @ fall
    alone = ~slackens & ~(acts & (at == new)).any()
    steps = jnp.concatenate(
        [
            jnp.where(fall > least, jnp.maximum(value, 0) / jnp.where(fall > least, fall, 1), jnp.inf),
            jnp.where(
                acts & (fall_of_key > least),
                jnp.maximum(held, 0) / jnp.where(fall_of_key > least, fall_of_key, 1),
                jnp.inf,
            ),
            jnp.where(alone, 1.0, jnp.inf)[None],
        ]
    )
    first = jnp.argmin(steps)
    by_key = (first >= resources) & (first < 2 * resources)
    alone = first == 2 * resources
    place = first % resources

    # A question whose key has fallen to 0 takes the column that shares it as its key; or moves altogether.
    moved = jnp.where(alone, new, at[place])
    moves = improves & (alone | by_key)
    before, after = key[moved], jnp.where(alone, to, action[place])
    after = jnp.where(moves, after, before)
    extra = (
        double_double.two_product(jnp.broadcast_to(weight[moved], (resources,)), cost[:, moved, after]),
        double_double.two_product(jnp.broadcast_to(weight[moved], (resources,)), cost[:, moved, before]),
    )
    replaced = improves & ~alone & (jnp.arange(resources) == place)
    basis = Basis(
        jnp.where(replaced, jnp.where(slackens, SLACK, ACTION), kind),
        jnp.where(replaced, jnp.where(slackens, slack, new), at),
        jnp.where(replaced, jnp.where(slackens, 0, to), action),
    )
    # At the end, whatever is still overspent gets dearer, until nothing pays for it.
    over = (kind == OVERSPEND) & (value > 1e3 * eps)
    over = (over[None] & (at[None] == jnp.arange(resources)[:, None])).any(axis=1)
    dearer = ~improves & over & (vertex.penalty < DEAREST * first_penalty)
    gained = jnp.where(slackens, negative, gain[new, to]) * steps[first]
    return Vertex(
        key.at[moved].set(after),
        Basis(*(x.astype(jnp.int32) for x in basis)),
        double_double.add(vertex.rest, double_double.subtract(extra[1], extra[0])),
        jnp.where(dearer, 16 * vertex.penalty, vertex.penalty),
        vertex.pivots + 1,
        jnp.where(gained > 0, 0, vertex.idle + 1),
        improves | dearer.any(),
    )


def settle(
    contested: Contested, action: jax.Array, rest: DoubleDouble, slack: jax.Array, price: jax.Array
) -> jax.Array:
    """An integral plan within the budgets, by single moves: what is overspent is bought back, what is left is spent.

    Each move is the one that gains most utility less a penalty on overspending; it ends when none gains.

    Args:
      contested: the questions.
      action: i32[M] their actions now.
      rest: f32[R] what those leave of each budget.
      slack: f32[R] by how much a budget may be exceeded: the rounding of the totals.
      price: f32[R] above 0; penalties begin at four times as much.
    """
    utility, cost, weight = contested
    resources = rest.hi.size
    scaled = double_double.two_product(jnp.broadcast_to(weight[None, :, None], cost.shape), cost)
    eps = jnp.finfo(utility.dtype).eps

    def overspend(left: DoubleDouble, penalty):
        over = jnp.maximum(-(left.hi + slack.reshape(-1, *[1] * (left.hi.ndim - 1))), 0)
        return (penalty.reshape(-1, *[1] * (left.hi.ndim - 1)) * over).sum(axis=0)

    def at(place):
        return DoubleDouble(*(jnp.take_along_axis(x, place[None, :, None], axis=2) for x in scaled))

    def move(state):
        action, rest, penalty, turn, _ = state
        here = at(action)
        shape = cost.shape
        left = double_double.subtract(
            double_double.add(
                DoubleDouble(*(jnp.broadcast_to(x[:, None, None], shape) for x in rest)),
                DoubleDouble(*(jnp.broadcast_to(x, shape) for x in here)),
            ),
            scaled,
        )
        gain = weight[:, None] * (utility - jnp.take_along_axis(utility, action[:, None], axis=1))
        now = overspend(rest, penalty)
        gain = gain - (overspend(left, penalty) - now)
        place = jnp.argmax(gain)
        question, to = place // utility.shape[1], (place % utility.shape[1]).astype(jnp.int32)
        gains = gain[question, to] > 8 * eps * (now + jnp.abs(utility[question, to]) * weight[question])
        dearer = ~gains & (now > 0) & (penalty < DEAREST * price).all()
        return (
            jnp.where(gains, action.at[question].set(to), action),
            double_double.where(gains, DoubleDouble(*(x[:, question, to] for x in left)), rest),
            jnp.where(dearer, 16 * penalty, penalty),
            turn + 1,
            gains | dearer,
        )

    start = action, rest, 4 * price, jnp.int32(0), jnp.bool_(True)
    return jax.lax.while_loop(lambda s: s[4] & (s[3] < 64 + 32 * resources), move, start)[0]
