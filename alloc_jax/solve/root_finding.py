"""One budget in a handful of passes: sample, find the root, round.

The spend C(l) of the best response to a multiplier l falls as l rises, and so does its utility U(l). The multiplier of a budget B
is where C crosses B; at most one question has to be mixed there. Each evaluation of C and U is one pass over the data.

    sample  The same search on one question in SAMPLE gives l to about 1 % and the slope of C, for a third of a pass.
    full    1: C at the sample's l. 2: a Newton step with the sample's slope, 15 % past the root, so that 1 and 2 bracket it.
            Then by turns
              the root of C interpolated between the ends   superlinear where the dual is smooth,
              a short step over the target from the nearer  brings the other end up,
              the crossing of the dual's tangents           exact where l is a kink, that is, at ties,
              bisection                                     bounds the number of passes where neither helps.
    stop    A question that differs between the ends l_more < l_less gains between l_more and l_less per unit of extra cost. So
            whatever part of them is switched, the loss against the dual bound is at most the extra spend times the
            distance of the multipliers (`Chord.worst_loss`). The search stops when that is 1e-7 of the gain over the cheapest
            plan. (Not of the utility: an offset that all utilities share must not matter.)
    round   Questions that differ between the ends are switched in index order until the budget is met (`rounding`).

Every step is elementwise work and sums: no sort, no scatter. A numpy hull-and-sort is exact as well and some ten times slower.

The sums that decide what is within the budget carry 48 bits (`double_double`), and belong to the very plan that is returned: plans
are kept, not evaluated again, because a compiler may round the same expression differently in two places.

Three numbers, `more` and `less` (the ends that spend more and less) and the target, make up the state. The goal is either the
"spend" to stay within or the "utility" to reach at least spend; both fall with l, so one search serves both.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.solve.layout import ProblemInRows, in_rows
from alloc_jax.solve.mesh import exact_sum_over, sum_over
from alloc_jax.solve.plans import extremes, respond, respond_once, row_totals

TOLERANCE = 5e-7  # loss at which a search stops, relative to the gain over the cheapest plan
PASSES = 100  # never reached: a bracket of two adjacent floats ends the search before
SAMPLE = 32  # one question in so many; a larger sample saves no pass, a smaller one costs a third or fourth
SAMPLED_ROWS = 16  # tables of fewer rows are their own sample
GOALS = ("spend", "utility")  # the order of totals


class End(NamedTuple):
    """A best response, one end of a bracket."""

    multiplier: jax.Array  # f32[]
    total: DoubleDouble  # f32[2] spend and utility
    rows: DoubleDouble  # f32[2, rows] the same by row
    slot: jax.Array  # i32[] where its plan is kept


class Bracket(NamedTuple):
    """Two best responses on either side of the target; `more` spends more, at the smaller multiplier."""

    more: End
    less: End
    plans: jax.Array  # c64[3, rows, WIDTH] the plans of the two ends, and a slot for the next one
    passes: jax.Array  # i32[] passes over the data so far


class Start(NamedTuple):
    """Where to look first: a multiplier and the slope of the goal's total there."""

    multiplier: jax.Array  # f32[]
    slope: jax.Array  # f32[] at least 0: by how much the total falls for a unit of the multiplier


def extreme_bracket(prepared: ProblemInRows) -> Bracket:
    """The bracket of every target: the best plan at multiplier 0, the cheapest at the steepest. Their plans stay empty."""
    shape = prepared.cost.shape[1:]
    rows = DoubleDouble(*[jnp.zeros((2, shape[0]), prepared.cost.dtype)] * 2)
    more = End(jnp.zeros_like(prepared.steepest), prepared.dearest, rows, jnp.int32(0))
    less = End(prepared.steepest, prepared.cheapest, rows, jnp.int32(1))
    return Bracket(more, less, jnp.zeros((3, *shape), jnp.result_type(rows.hi, jnp.complex64)), jnp.int32(0))


def exceeds(total: DoubleDouble, target: DoubleDouble, goal: str) -> jax.Array:
    """Whether totals are beyond the target: above the budget, or at least the wanted utility."""
    if goal == "spend":
        return ~double_double.at_most(of(total, goal), target)
    return double_double.at_most(target, of(total, goal))


def evaluate_multiplier(prepared: ProblemInRows, bracket: Bracket, multiplier: jax.Array) -> tuple[jax.Array, End]:
    """One pass: the best responses to a multiplier, in the slot that neither end uses."""
    slot = 3 - bracket.more.slot - bracket.less.slot
    plan = respond_once(prepared.utility, prepared.cost, multiplier)
    plans = jax.lax.dynamic_update_slice(bracket.plans, plan[None], (slot, jnp.int32(0), jnp.int32(0)))
    rows = row_totals(plan, prepared.weight)
    return plans, End(multiplier, exact_sum_over(double_double.total(rows), prepared.axes), rows, slot)


def search(prepared: ProblemInRows, target: DoubleDouble, goal: str) -> Bracket:
    """The bracket of the multiplier at which the spend crosses the budget (or the utility its goal).

    Args:
      prepared: the problem.
      target: the total spend (goal "spend") or total utility (goal "utility") to cross; beyond an extreme, there is
        nothing to search.
      goal: which of the two.
    """
    rows, width = prepared.cost.shape[1:]
    sampled = rows >= SAMPLED_ROWS and width >= SAMPLE
    return narrowed(prepared, target, goal, sampled_start(prepared, target, goal) if sampled else None, TOLERANCE)


def narrowed(
    prepared: ProblemInRows, target: DoubleDouble, goal: str, start: Start | None, tolerance: float
) -> Bracket:
    """The extremes' bracket, narrowed until any plan between its ends loses less than this share of what it gains."""

    def open_(bracket):
        chord = chord_of(bracket, target, goal)
        inside = (chord.crossing > chord.low) & (chord.crossing < chord.high)
        gained = double_double.subtract(bracket.less.total, prepared.cheapest).hi[1]
        return chord.is_wide(gained, tolerance) & inside & (bracket.passes < PASSES)

    def shrink(bracket):
        plans, end = evaluate_multiplier(prepared, bracket, propose(bracket, target, goal, start, prepared.steepest))
        above = exceeds(end.total, target, goal)
        more, less = (
            jax.tree.map(lambda new, old, take=take: jnp.where(take, new, old), end, old)
            for take, old in ((above, bracket.more), (~above, bracket.less))
        )
        return Bracket(more, less, plans, bracket.passes + 1)

    return jax.lax.while_loop(open_, shrink, extreme_bracket(prepared))


def sampled_start(prepared: ProblemInRows, target: DoubleDouble, goal: str) -> Start:
    """The multiplier and the slope that a sample has, the first columns of every row."""
    full = prepared.cost.shape[2]
    width = full // SAMPLE

    def sampled(x):
        return in_rows(x[..., :width].reshape(*x.shape[:-2], -1))

    utility, cost = sampled(prepared.utility), sampled(prepared.cost)
    weight = None if prepared.weight is None else sampled(prepared.weight)
    share: float | jax.Array
    if weight is None:
        share = (prepared.size // full * width + min(prepared.size % full, width)) / prepared.size
    else:
        share = sum_over(weight.sum(), prepared.axes) / prepared.questions.hi
    *plans, _ = extremes(utility, cost)
    cheapest, dearest = (exact_sum_over(double_double.total(row_totals(plan, weight)), prepared.axes) for plan in plans)
    sample = dataclasses.replace(
        prepared, utility=utility, cost=cost, weight=weight, cheapest=cheapest, dearest=dearest
    )
    target = DoubleDouble(share * target.hi, share * target.lo)
    bracket = narrowed(sample, target, goal, None, 1e-5)
    chord = chord_of(bracket, target, goal)
    middle = jnp.clip(chord.crossing, chord.low, chord.high)

    def total(multiplier):
        chosen = respond(utility, cost, multiplier)
        chosen = chosen.real if goal == "spend" else chosen.imag
        return sum_over((chosen if weight is None else chosen * weight).sum(), prepared.axes)

    fall = total(0.97 * middle) - total(1.03 * middle)
    return Start(middle, fall / (0.06 * middle * share))


def propose(bracket: Bracket, target: DoubleDouble, goal: str, start: Start | None, steepest: jax.Array) -> jax.Array:
    """The next multiplier to evaluate; see the module's docstring."""
    chord = chord_of(bracket, target, goal)
    low, high, share, rest = chord.low, chord.high, chord.share, chord.rest
    geometric = jnp.sqrt(jnp.maximum(low, high * 1e-4)) * jnp.sqrt(high)
    bisection = jnp.where(high > 16 * low, geometric, low + (high - low) / 2)
    # From the end next to the target over it, by more than it is away: the other end follows.
    beside = jnp.minimum(jnp.minimum(share, rest) * 2.5, 0.5) * (high - low) + 4 * jnp.finfo(low.dtype).eps * high
    beside = jnp.where(share < 0.5, high - beside, low + beside)
    turn = (bracket.passes - (start is not None)) % 4
    multiplier = jnp.select([turn == 0, turn == 1, turn == 2], [chord.crossing, chord.root, beside], bisection)
    if start is not None:
        # While an end is still an extreme, step from the other towards the root, further each time.
        from_more = low > 0
        total = jnp.where(from_more, of(bracket.more.total, goal).hi, of(bracket.less.total, goal).hi)
        here = jnp.where(from_more, low, high)
        step = 1.15 * (total - target.hi) / jnp.maximum(start.slope, jnp.finfo(low.dtype).tiny)
        least = jnp.where(from_more, 1e-5, -1e-5) * here
        step = jnp.where(jnp.abs(step) > jnp.abs(least), step, least)
        step = jnp.clip(step, -0.5 * here, here) * 8.0 ** (bracket.passes - 1)
        one_sided = (low <= 0) ^ (high >= steepest)
        first = jnp.where(bracket.passes == 0, start.multiplier, here + step)
        stepping = (bracket.passes == 0) | (one_sided & (bracket.passes < 5))
        multiplier = jnp.where(stepping & (first > low) & (first < high), first, multiplier)
    # Beside 0 the next float is one that the device may flush to 0.
    least = jnp.maximum(jnp.nextafter(low, high), jnp.finfo(low.dtype).tiny)
    return jnp.clip(multiplier, least, jnp.nextafter(high, low))


class Chord(NamedTuple):
    """The differences between the ends of a bracket: search and certificate decide by them.

    Totals are two floats here and float64 in `streaming`, but their differences are single numbers in both. So both share these
    decisions, written for an array namespace `xp`: `jax.numpy`, or `numpy` on the host.
    """

    xp: Any
    low: Any  # multiplier of `more`
    high: Any  # multiplier of `less`
    extra: Any  # what `more` spends beyond `less`
    gain: Any  # what `more` earns beyond `less`
    share: Any  # where the target lies, as the part of the way from `less`; in [0, 1]
    rest: Any  # the part of the way from `more`: beside an end, 1 - share would have no digits

    @classmethod
    def between(cls, xp, low, high, extra, gain, span, above, below) -> Chord:
        """The chord of a bracket.

        Args:
          xp: the array namespace.
          low: the multiplier of `more`, and `high` that of `less`.
          extra: what `more` spends beyond `less`, and `gain` what it earns.
          span: of `extra` and `gain`, the one that the target is about.
          above: how far the target lies above `less`, and `below` how far below `more`.
        """
        span = xp.where(span > 0, span, 1)
        share, rest = (xp.clip(part / span, 0, 1) for part in (above, below))
        return cls(xp, low, high, extra, gain, share, rest)

    @property
    def root(self):
        """The multiplier at which the interpolated total meets the target."""
        return self.high + self.share * (self.low - self.high)

    @property
    def crossing(self):
        """Where the tangents of the dual at the two ends cross: the multiplier itself where the target lies on a kink."""
        return self.xp.where(self.extra > 0, self.gain / self.xp.where(self.extra > 0, self.extra, 1), self.high)

    @property
    def worst_loss(self):
        """The most that following one end on some questions and the other on the rest can lose to the bound."""
        xp, middle = self.xp, self.crossing
        beside = xp.minimum(self.high - middle, middle - self.low)
        apart = xp.minimum(beside, (self.high - self.low) * xp.minimum(self.share, self.rest))
        return self.extra * xp.maximum(apart, 0)

    def is_wide(self, gained, tolerance: float):
        """Whether the worst loss is above a share of what the plan gains over the cheapest one.

        Args:
          gained: what `less` earns beyond the cheapest plan.
          tolerance: the share.
        """
        return self.worst_loss > tolerance * (gained + self.share * self.gain)

    def less_is_tighter(self, over_less, under_more):
        """Whether the bound at `less` is the tighter of two: weak duality holds at either end.

        Args:
          over_less: what the mixed plan spends beyond `less`.
          under_more: what `more` spends beyond the mixed plan.
        """
        return over_less * (self.high - self.crossing) <= under_more * (self.crossing - self.low)


def chord_of(bracket: Bracket, target: DoubleDouble, goal: str) -> Chord:
    """The chord between the ends: exact differences, each rounded once."""
    more, less = bracket.more, bracket.less
    extra, gain = double_double.subtract(more.total, less.total).hi
    above = double_double.subtract(target, of(less.total, goal)).hi
    below = double_double.subtract(of(more.total, goal), target).hi
    span = (extra, gain)[GOALS.index(goal)]
    return Chord.between(jnp, more.multiplier, less.multiplier, extra, gain, span, above, below)


def of(total: DoubleDouble, goal: str) -> DoubleDouble:
    """The spend or the utility, out of totals that hold both."""
    k = GOALS.index(goal)
    return DoubleDouble(total.hi[k], total.lo[k])
