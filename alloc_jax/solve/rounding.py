"""Rounding: from a bracket to a plan, by switching the questions that differ between its ends in index order until the target is met.

No test looks for equal scores: float32 does not show ties. Whatever differs between the two ends is worth about the
multiplier a unit of cost, so the order does not matter, and the index order needs no sort: totals by row, a prefix over
the rows, a prefix inside one row.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.layout import ProblemInRows
from alloc_jax.solve.mesh import by_device, from_device
from alloc_jax.solve.plans import actions_of, extremes, row_totals, update_if
from alloc_jax.solve.root_finding import (
    GOALS,
    PASSES,
    Bracket,
    Chord,
    End,
    chord_of,
    evaluate_multiplier,
    exceeds,
    extreme_bracket,
    of,
)
from alloc_jax.types import MixedPlan, Solution, Status


class Cut(NamedTuple):
    """Where the switching stops: questions before `question` follow the end that spends more, the others the end that spends less."""

    question: jax.Array  # i32[] the first question whose switch would pass the target; beyond the last if none would
    total: DoubleDouble  # f32[2] spend and utility with every question before it switched
    share: jax.Array  # f32[] the part of its switch that meets the target exactly
    extra: DoubleDouble  # f32[2] what its switch adds


def between(prepared: ProblemInRows, wanted: DoubleDouble, low: jax.Array, high: jax.Array) -> Solution:
    """The plan for one budget from two multipliers on either side of it, without a search."""
    bracket = extreme_bracket(prepared)
    for name, multiplier in (("more", low), ("less", high)):
        plans, end = evaluate_multiplier(prepared, bracket, multiplier)
        inside = (multiplier > 0) & (multiplier < prepared.steepest)
        end = jax.tree.map(lambda new, old, inside=inside: jnp.where(inside, new, old), end, getattr(bracket, name))
        bracket = bracket._replace(**{name: end, "plans": plans})
    return finish(prepared, bracket, prepared.target(wanted), "spend")


def finish(prepared: ProblemInRows, bracket: Bracket, target: DoubleDouble, goal: str) -> Solution:
    """The solution in a bracket: its plans, the cut between them, and what certifies it."""
    above, below = ~exceeds(prepared.dearest, target, goal), exceeds(prepared.cheapest, target, goal)
    bracket = with_extremes(prepared, bracket, above, below)
    cut = cut_at(prepared, bracket, target, goal)
    infeasible = below if goal == "spend" else above
    status = jnp.where(bracket.passes >= PASSES, Status.NOT_CONVERGED, Status.OPTIMAL)
    status = jnp.where(infeasible, Status.INFEASIBLE, status)
    status = jnp.where(prepared.invalid | ~jnp.isfinite(target.hi), Status.INVALID, status)
    return certified(prepared, bracket, cut, chord_of(bracket, target, goal), goal, status.astype(jnp.int32))


def with_extremes(prepared: ProblemInRows, bracket: Bracket, above: jax.Array, below: jax.Array) -> Bracket:
    """The bracket with the plans of its extreme ends in place, and closed where the target lies beyond an extreme."""
    at_best, at_cheapest = bracket.more.multiplier <= 0, bracket.less.multiplier >= prepared.steepest

    def put_extremes(bracket: Bracket) -> Bracket:
        cheapest, best, _ = extremes(prepared.utility, prepared.cost)
        extremes_ = ("more", best, prepared.dearest, at_best), ("less", cheapest, prepared.cheapest, at_cheapest)
        for name, extreme, total, here in extremes_:
            end = getattr(bracket, name)
            kept = jax.lax.dynamic_index_in_dim(bracket.plans, end.slot, keepdims=False)
            plan = jnp.where(here, extreme, kept)[None]
            plans = jax.lax.dynamic_update_slice(bracket.plans, plan, (end.slot, jnp.int32(0), jnp.int32(0)))
            rows = row_totals(extreme, prepared.weight)
            total, rows = (double_double.where(here, *both) for both in ((total, end.total), (rows, end.rows)))
            bracket = bracket._replace(plans=plans, **{name: end._replace(total=total, rows=rows)})
        return bracket

    bracket = update_if(at_best | at_cheapest, put_extremes, bracket)
    more, less, plans, passes = bracket

    def closed(end: End, other: End, close: jax.Array) -> End:
        return jax.tree.map(lambda here, other: jnp.where(close, other, here), end, other)

    return Bracket(closed(more, less, below), closed(less, more, above), plans, passes)


def cut_at(prepared: ProblemInRows, bracket: Bracket, target: DoubleDouble, goal: str) -> Cut:
    """The cut of a bracket at a target: before it every switch fits, the one at it does not."""
    more, less, axes = bracket.more, bracket.less, prepared.axes
    steps = double_double.subtract(more.rows, less.rows)
    device: int | jax.Array = 0
    base = less.total
    if axes is not None:
        of_devices = DoubleDouble(*(x.T for x in by_device(double_double.total(steps), axes)))
        device, base = _prefix_within(of_devices, base, target, goal)
    row, before = _prefix_within(steps, base, target, goal)
    weight = None if prepared.weight is None else prepared.weight[row]
    cells = [bracket.plans[end.slot, row] for end in (more, less)]
    steps = double_double.subtract(*(_values(x, weight) for x in cells))  # f32[2, WIDTH]
    column, total = _prefix_within(steps, before, target, goal)
    extra = DoubleDouble(*(x[:, column] for x in steps))
    k = GOALS.index(goal)
    room, switch = double_double.subtract(target, of(total, goal)), of(extra, goal)
    switch = double_double.where(switch.hi > 0, switch, double_double.pair(jnp.ones_like(switch.hi)))
    # Rounded so that the mixed plan, too, stays within the budget, or reaches the utility.
    rounded = double_double.rounded_down if goal == "spend" else double_double.rounded_up
    share = jnp.clip(rounded(double_double.divide(room, switch)), 0, 1) * (extra.hi[k] > 0)
    question = device * prepared.size + jnp.minimum(row * cells[0].shape[0] + column, prepared.size)
    return from_device(Cut(question, total, share, extra), device, axes)


def _values(cells: jax.Array, weight: jax.Array | None) -> DoubleDouble:
    values = jnp.stack([cells.real, cells.imag])
    return (
        double_double.pair(values) if weight is None else double_double.two_product(values, jnp.stack([weight, weight]))
    )


def _prefix_within(
    steps: DoubleDouble, base: DoubleDouble, target: DoubleDouble, goal: str
) -> tuple[jax.Array, DoubleDouble]:
    """How many leading steps of [2, n] fit on top of the base, at most n - 1, and the total with them.

    Bisection on the number of steps, with one exact sum per trial. The first `fits` steps always fit, whatever the order of the totals.
    """
    size = steps.hi.shape[1]
    position = jnp.arange(size)[None]

    def with_first(count):
        return double_double.add(
            base, double_double.total(DoubleDouble(*(jnp.where(position < count, x, 0) for x in steps)))
        )

    def halve(_, ends):
        fits, beyond = ends
        middle = (fits + beyond) // 2
        past = exceeds(with_first(middle), target, goal)
        return jnp.where(past, fits, middle), jnp.where(past, middle, beyond)

    fits, _ = jax.lax.fori_loop(0, size.bit_length(), halve, (jnp.int32(0), jnp.int32(size)))
    return fits, with_first(fits)


def certified(
    prepared: ProblemInRows, bracket: Bracket, cut: Cut, chord: Chord, goal: str, status: jax.Array
) -> Solution:
    """The plans on either side of a cut, their means, and the dual bound at the better end."""
    more, less = bracket.more, bracket.less
    dear, cheap = (jax.lax.dynamic_index_in_dim(bracket.plans, end.slot, keepdims=False) for end in (more, less))
    rows, width = dear.shape
    position = width * jnp.arange(rows, dtype=jnp.int32)[:, None] + jnp.arange(width, dtype=jnp.int32)[None]
    first = 0 if prepared.axes is None else jax.lax.axis_index(prepared.axes) * prepared.size
    last = cut.question - first + (goal == "utility")  # a budget stops before the cut, a wanted utility after it
    action = actions_of(prepared.utility, prepared.cost, jnp.where(position < last, dear, cheap)).reshape(-1)[
        : prepared.size
    ]
    question = jnp.minimum(cut.question, prepared.count - 1)
    local = question % prepared.size
    at = (slice(None), local // width, local % width)
    raised, lowered = (actions_of(prepared.utility[at], prepared.cost[at], plan[at[1:]]) for plan in (dear, cheap))
    raised, lowered = from_device((raised, lowered), question // prepared.size, prepared.axes)

    mixed = double_double.add(
        cut.total, double_double.multiply(cut.extra, double_double.pair(jnp.stack([cut.share, cut.share])))
    )
    total, other, probability = cut.total, raised, cut.share
    if goal == "utility":
        total, other, probability = double_double.add(cut.total, cut.extra), lowered, 1 - cut.share

    over_less, under_more = double_double.subtract(mixed, less.total), double_double.subtract(more.total, mixed)
    tighter = chord.less_is_tighter(over_less.hi[0], under_more.hi[0])
    multiplier, at_end = jax.tree.map(
        lambda a, b: jnp.where(tighter, a, b),
        (less.multiplier, less.total),
        (more.multiplier, more.total),
    )
    weights = double_double.pair(jnp.stack([-multiplier, jnp.ones_like(multiplier)]))

    def short_of_bound(total):
        """Bound minus utility, computed from differences, so that a gap of 1e-8 is not lost in the rounding of large totals."""
        over = double_double.subtract(at_end, total)
        return double_double.total(double_double.multiply(over, weights))

    mean = prepared.mean
    gap = short_of_bound(mixed)
    dual = double_double.add(of(mixed, "utility"), gap)
    # Within a budget, what is left of it is part of the gap; a wanted utility is held against the bound at its own spend.
    at_total = double_double.subtract(dual, of(total, "utility")) if goal == "spend" else short_of_bound(total)
    return Solution(
        action=action,
        multiplier=multiplier,
        spend=double_double.rounded_down(mean(of(total, "spend"))),
        utility=mean(of(total, "utility")).hi,
        dual_value=double_double.rounded_up(mean(dual)),
        gap=mean(at_total).hi,
        mixed=MixedPlan(*(x[None] for x in (question, other, probability))),
        mixed_spend=double_double.rounded_down(mean(of(mixed, "spend"))),
        mixed_utility=mean(of(mixed, "utility")).hi,
        mixed_gap=mean(gap).hi,
        status=status,
    )
