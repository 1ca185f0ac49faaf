"""A small linear programme over the core: the questions whose actions are still open near the optimal multipliers.

Newton ends so near the optimal multipliers that the action of nearly every question is settled. The other questions, the core,
share what the settled ones leave of each budget:

    max sum w u x   subject to   sum w c_r x <= rest_r  for each resource,   every question's x adds up to 1

Its simplex method needs no row per question (generalised upper bounds): each question has a `key` action that takes what its
other actions leave, and a basis is R columns, each an action beside its question's key, the slack of a budget, or an overspend at a
penalty. A pivot prices all actions at the multipliers of the basis, which is one best response, and solves R x R systems. At the end at
most R questions are mixed. `local_search` makes an integral plan of it, by single moves.

Source: G. Dantzig and R. Van Slyke, Generalized upper bounding techniques, 1967; the core of a knapsack problem, E. Balas and
E. Zemel, An algorithm for large zero-one knapsack problems, 1980.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.resources.layout import forbidden

SLACK, OVERSPEND, ACTION = range(3)  # kinds of columns
DEAREST = 1e12  # times the first penalty: where an overspend still pays, the budgets cannot be met
TRIES = 400  # moves of the search for an integral plan where buying back has failed


class CoreProblem(NamedTuple):
    """Some questions; costs in units of about the budgets."""

    utility: jax.Array  # f32[M, K]
    cost: jax.Array  # f32[R, M, K]
    weight: jax.Array  # f32[M]


class Basis(NamedTuple):
    """A basis: R columns."""

    kind: jax.Array  # i32[R]
    at: jax.Array  # i32[R] the question of an action; the resource of a slack or an overspend
    action: jax.Array  # i32[R] meaningless beside a resource


class Vertex(NamedTuple):
    """The state of the simplex method: every question at its key but for what the basis says."""

    key: jax.Array  # i32[M]
    basis: Basis
    rest: DoubleDouble  # f32[R] what the keys leave of each budget; negative where they overspend
    penalty: jax.Array  # f32[R] on a unit of overspend
    pivots: jax.Array  # i32[]
    idle: jax.Array  # i32[] pivots since the last that gained something
    open: jax.Array  # bool[]


class CoreOptimum(NamedTuple):
    """The optimum: the columns that are actions, and how much of their question they take from its key."""

    key: jax.Array  # i32[M]
    question: jax.Array  # i32[R] in the core
    action: jax.Array  # i32[R]
    share: jax.Array  # f32[R] 0 where the column is no action
    multiplier: jax.Array  # f32[R] in these units
    fits: jax.Array  # bool[] nothing is overspent


def optimise(core: CoreProblem, key: jax.Array, rest: DoubleDouble, penalty: jax.Array) -> CoreOptimum:
    """The optimum, from a plan near it.

    Args:
      core: the questions.
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
        lambda v: pivot(core, v, penalty),
        Vertex(key, basis, rest, penalty, zero, zero, jnp.bool_(True)),
    )
    share, multiplier = refined(core, vertex)
    kind, at, action = vertex.basis
    actions = kind == ACTION
    question = jnp.where(actions, at, 0)
    idle = ((kind == SLACK)[None] & (at[None] == jnp.arange(resources)[:, None])).any(axis=1)
    tolerance = 1e3 * jnp.finfo(share.dtype).eps
    sound = jnp.isfinite(share).all() & jnp.isfinite(multiplier).all()
    return CoreOptimum(
        vertex.key,
        question,
        jnp.where(actions, action, vertex.key[question]),
        jnp.where(actions & sound, jnp.clip(share, 0, 1), 0),
        jnp.where(idle | ~sound, 0, jnp.maximum(multiplier, 0)),
        sound & ~((kind == OVERSPEND) & (share > tolerance)).any(),
    )


def solved(core: CoreProblem, vertex: Vertex) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The inverse of the basis, the values of its columns, and the multipliers."""
    utility, cost, weight = core
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


def refined(core: CoreProblem, vertex: Vertex) -> tuple[jax.Array, jax.Array]:
    """The values of the basis' columns and the multipliers, by one step of iterative refinement to the last digits."""
    utility, cost, weight = core
    (kind, at, action), key = vertex.basis, vertex.key
    inverse, value, multiplier = solved(core, vertex)
    acts = kind == ACTION
    question = jnp.where(acts, at, 0)
    values = jnp.concatenate([cost, utility[None]])[:, question]  # [R + 1, R, K]
    columns = jnp.arange(kind.size)
    more, less = values[:, columns, action], values[:, columns, key[question]]
    change = double_double.multiply(
        double_double.two_sum(more, -less),
        double_double.pair(jnp.broadcast_to(weight[question][None], more.shape)),
    )
    unit = jnp.where(kind == SLACK, 1, -1)[None] * (jnp.arange(kind.size + 1)[:, None] == at[None])
    unit = unit.at[-1].set(0).astype(value.dtype)
    unit = unit.at[-1].set(jnp.where(kind == OVERSPEND, -vertex.penalty[jnp.where(acts, 0, at)], 0))
    change = double_double.where(acts[None], change, double_double.pair(unit))
    extra, gain = (DoubleDouble(*(x[part] for x in change)) for part in (slice(0, -1), -1))
    left = double_double.multiply(extra, double_double.pair(jnp.broadcast_to(value[None], extra.hi.shape)))
    left = double_double.subtract(vertex.rest, double_double.total(left))
    paid = double_double.multiply(extra, double_double.pair(jnp.broadcast_to(multiplier[:, None], extra.hi.shape)))
    unpaid = double_double.subtract(gain, double_double.total(paid, axis=0))
    return value + inverse @ left.hi, multiplier + unpaid.hi @ inverse


def pivot(core: CoreProblem, vertex: Vertex, first_penalty: jax.Array) -> Vertex:
    """One step: the column that gains most enters, the one that first reaches a bound leaves."""
    utility, cost, weight = core
    (kind, at, action), key = vertex.basis, vertex.key
    (questions, actions), resources = utility.shape, kind.size
    eps = jnp.finfo(utility.dtype).eps
    acts = kind == ACTION
    inverse, value, multiplier = solved(core, vertex)

    # What enters: an action by what it gains over its key at these multipliers, or a slack whose multiplier is negative.
    net = utility
    for r in range(resources):
        net = net - multiplier[r] * cost[r]
    gain = net - jnp.take_along_axis(net, key[:, None], axis=1)
    rounding = 8 * eps * (jnp.abs(net) + jnp.abs(utility))
    gain = jnp.where((gain > rounding) & may_take(utility), gain * weight[:, None], -1)
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
    over = (kind == OVERSPEND) & (value > 8 * eps)
    over = (over[None] & (at[None] == jnp.arange(resources)[:, None])).any(axis=1)
    dearer = ~improves & over & (vertex.penalty < DEAREST * first_penalty)
    # A budget that is met needs no penalty: an overspend of 0 would stay in the multipliers.
    met = ~improves & (kind == OVERSPEND) & (value <= 8 * eps)
    basis = basis._replace(kind=jnp.where(met, SLACK, basis.kind))
    gained = jnp.where(slackens, negative, gain[new, to]) * steps[first]
    return Vertex(
        key.at[moved].set(after),
        Basis(*(x.astype(jnp.int32) for x in basis)),
        double_double.add(vertex.rest, double_double.subtract(extra[1], extra[0])),
        jnp.where(dearer, 16 * vertex.penalty, vertex.penalty),
        vertex.pivots + 1,
        jnp.where(gained > 0, 0, vertex.idle + 1),
        improves | dearer.any() | met.any(),
    )


def may_take(utility: jax.Array) -> jax.Array:
    """bool[M, K] whether an action is allowed; however large the penalties, no comparison alone decides that."""
    return utility > forbidden(utility.dtype)


class LocalSearch(NamedTuple):
    """The state of the local search."""

    action: jax.Array  # i32[M]
    rest: DoubleDouble  # f32[R]
    penalty: jax.Array  # f32[R] on a unit of overspend
    held: jax.Array  # i32[M] the turn before which a question may not move again
    nearest: jax.Array  # i32[M] the plan that overspent least so far
    excess: jax.Array  # f32[] by how much
    turn: jax.Array  # i32[]
    open: jax.Array  # bool[]


def local_search(
    core: CoreProblem, action: jax.Array, rest: DoubleDouble, slack: jax.Array, first_penalty: jax.Array
) -> jax.Array:
    """An integral plan within the budgets, by single moves: what is overspent is bought back, what is left is spent.

    Each move is the one that gains most utility less a penalty on overspending. Where none gains and a budget is still overspent
    at the highest penalty, a tabu search goes on: the best move is made although it loses, and its question then rests for a few turns,
    so that the next moves complete a change of two or three questions and do not undo it.

    Args:
      core: the questions.
      action: i32[M] their actions now.
      rest: f32[R] what those leave of each budget.
      slack: f32[R] by how much a budget may be exceeded: the rounding of the totals.
      first_penalty: f32[R] above 0; penalties begin at four times as much.

    Returns:
      i32[M] a plan within the budgets in which no single move that fits gains; where none was found, the one that overspent least.

    Source: F. Glover, Tabu search, 1989.
    """
    utility, cost, weight = core
    resources, (questions, actions) = rest.hi.size, utility.shape
    scaled = double_double.two_product(jnp.broadcast_to(weight[None, :, None], cost.shape), cost)
    eps = jnp.finfo(utility.dtype).eps
    limit = 64 + 32 * resources + TRIES

    def overspend(left: DoubleDouble, penalty):
        over = jnp.maximum(-(left.hi + slack.reshape(-1, *[1] * (left.hi.ndim - 1))), 0)
        return (penalty.reshape(-1, *[1] * (left.hi.ndim - 1)) * over).sum(axis=0)

    def at(place):
        return DoubleDouble(*(jnp.take_along_axis(x, place[None, :, None], axis=2) for x in scaled))

    def move(state: LocalSearch) -> LocalSearch:
        action, rest, penalty, held, nearest, excess, turn, _ = state
        kept = DoubleDouble(*(jnp.broadcast_to(x[:, None, None], (resources, questions, 1)) for x in rest))
        kept = DoubleDouble(*(jnp.broadcast_to(x, cost.shape) for x in double_double.add(kept, at(action))))
        left = double_double.subtract(kept, scaled)
        now, then = overspend(rest, penalty), overspend(left, penalty)
        gain = weight[:, None] * (utility - jnp.take_along_axis(utility, action[:, None], axis=1)) - (then - now)
        rests = (turn < held)[:, None] & (now > 0) & (then > 0)
        own = jnp.arange(actions)[None] == action[:, None]
        gain = jnp.where(may_take(utility) & ~own & ~rests, gain, -jnp.inf)
        place = jnp.argmax(gain)
        question, to = place // actions, (place % actions).astype(jnp.int32)
        gains = gain[question, to] > 8 * eps * (now + jnp.abs(utility[question, to]) * weight[question])
        dearest = (penalty >= DEAREST * first_penalty).any()
        dearer = ~gains & (now > 0) & ~dearest
        moves = gains | ((now > 0) & dearest & (gain[question, to] > -jnp.inf))
        pause = jnp.minimum(2 + turn % 7, questions // 2)
        action = jnp.where(moves, action.at[question].set(to), action)
        rest = double_double.where(moves, DoubleDouble(*(x[:, question, to] for x in left)), rest)
        over = overspend(rest, jnp.ones_like(penalty))
        return LocalSearch(
            action,
            rest,
            jnp.where(dearer, 16 * penalty, penalty),
            jnp.where(moves & dearest, held.at[question].set(turn + 1 + pause), held),
            jnp.where(over <= excess, action, nearest),
            jnp.minimum(over, excess),
            turn + 1,
            moves | dearer,
        )

    start = LocalSearch(
        action,
        rest,
        4 * first_penalty,
        jnp.zeros_like(action),
        action,
        overspend(rest, jnp.ones_like(first_penalty)),
        jnp.int32(0),
        jnp.bool_(True),
    )
    return jax.lax.while_loop(lambda s: s.open & (s.turn < limit), move, start).nearest
