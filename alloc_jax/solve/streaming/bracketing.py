"""The search for a multiplier where a pass over the data is expensive: many multipliers per pass, totals in float64 on the host.

`root_finding.search` evaluates one multiplier per pass, because its data lies in memory. Here a pass reads a file, and a
block that has been read answers sixteen multipliers in about the time it took to read it. Both decide alike (`Chord`):
the interpolated root, the crossing of the dual's tangents, the loss at which to stop, the tighter of two bounds.
`root_finding` derives them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alloc_jax.solve.root_finding import TOLERANCE, Chord

MULTIPLIERS = 16  # evaluated in one pass
PASSES = 40  # never reached: the bracket shrinks at least sevenfold a pass, and a float32 has 24 bits


class HostEnd(NamedTuple):
    """A best response and what it adds up to over all questions."""

    multiplier: float
    spend: float
    utility: float


class HostBracket(NamedTuple):
    """Two best responses on either side of the budget; `more` spends more, at the smaller multiplier."""

    more: HostEnd
    less: HostEnd
    steepest: float  # a multiplier at which every question takes its cheapest action
    cheapest: float  # utility where every question takes its cheapest action, the best of several
    weight: float  # of all questions; their number where none has a weight
    passes: int  # over the data so far

    @property
    def progress(self) -> str:
        """What a line of progress says."""
        return f"the multiplier is between {self.more.multiplier:.9g} and {self.less.multiplier:.9g}"

    @classmethod
    def form(cls) -> HostBracket:
        """Zeros in its place."""
        end = HostEnd(0.0, 0.0, 0.0)
        return cls(end, end, 0.0, 0.0, 0.0, 0)


def first_multipliers(guess: float, steepest: float) -> np.ndarray:
    """f32[MULTIPLIERS] the multipliers of the first pass, when only a sample is known.

    Args:
      guess: the multiplier of a sample. Close to it the points lie close: a sample of n questions misses by about 1 / sqrt(n).
      steepest: the sample's steepest multiplier, from which to descend where the guess is one of the two extremes.
    """
    if not 0 < guess < steepest:
        return (steepest * 4.0 ** -np.arange(MULTIPLIERS)).astype(np.float32)
    apart = 5e-4 * 3.0 ** np.arange(MULTIPLIERS // 2)
    factors = np.exp(np.concatenate([[0], apart, -apart[: MULTIPLIERS - 1 - apart.size]]))
    return (guess * factors).astype(np.float32)


def next_multipliers(bracket: HostBracket, target: float) -> np.ndarray:
    """f32[at most MULTIPLIERS] strictly inside the bracket: close to where the budget should be crossed, and spread over the rest."""
    chord = chord_of(bracket, target)
    low, high, root = chord.low, chord.high, chord.root
    beside = 8.0 ** -np.arange(1, 5)
    near = [root + (high - root) * beside, root + (low - root) * beside]
    parts = np.arange(1, MULTIPLIERS - 9) / (MULTIPLIERS - 9)
    start = max(low, high * 1e-6)
    spread = start * (high / start) ** parts if high > 16 * low else low + (high - low) * parts
    found = np.unique(np.float32(np.concatenate([[chord.crossing, root], *near, spread])))
    return found[(found > low) & (found < high)]


def narrowed(bracket: HostBracket, ends: list[HostEnd], target: float) -> HostBracket:
    """The bracket after a pass that evaluated some multipliers inside it."""
    more, less = bracket.more, bracket.less
    # Rounding can make totals that are not monotone: `less` first, so that the ends keep their order.
    for end in sorted(ends):
        if end.spend <= target and more.multiplier < end.multiplier < less.multiplier:
            less = end
            break
    for end in sorted(ends):
        if end.spend > target and more.multiplier < end.multiplier < less.multiplier:
            more = end
    return bracket._replace(more=more, less=less, passes=bracket.passes + 1)


def chord_of(bracket: HostBracket, target: float) -> Chord:
    """The chord between the ends, in float64."""
    more, less = bracket.more, bracket.less
    extra, gain = np.float64(more.spend) - less.spend, np.float64(more.utility) - less.utility
    above, below = target - less.spend, more.spend - target
    return Chord.between(np, more.multiplier, less.multiplier, extra, gain, extra, above, below)


def is_narrow(bracket: HostBracket, target: float) -> bool:
    """Whether any plan between the ends loses less than a share of the utility that does not show."""
    gained = bracket.less.utility - bracket.cheapest
    return not chord_of(bracket, target).is_wide(gained, TOLERANCE) or not next_multipliers(bracket, target).size
