"""The loops of the exact frontier as Numba compiles them, where it is installed (the extra `numba`).

NumPy makes a pass over memory for each operation, a compiled loop one for all of them, and it can sort by digits. Steps and totals are the
same to the bit. Each loop lets go of the interpreter lock.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from alloc_jax.solve.breakpoints import steps
from alloc_jax.solve.breakpoints.steps import KEYS, at_the_start, blocks, cores
from alloc_jax.solve.layout import ProblemInRows

TILE = 64  # questions, or steps, that are worked on side by side; divides `steps.BLOCK`
DIGIT = 11  # bits of a slope that are sorted by at a time
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def find_steps(utility, cost, weight, first, last, start, keys, extra):
    """The steps of the questions from `first` to before `last`.

    Args:
      utility: f32[K, padded].
      cost: f32[K, padded].
      weight: f32[padded]; f32[0] where all questions count 1.
      first: of the questions, and `last`.
      start: i32[padded] filled with the cheapest action, the best of several.
      keys: u64[K, padded] filled from `first` on with the steps to each action: the complement of the slope's bits above the position.
      extra: f64[K, padded] filled with what each step adds to the total spend.

    Returns:
      i64[K] how many steps lead to each action.
    """
    actions, padded = cost.shape
    size = np.zeros(actions, np.int64)
    u, c, slope = np.empty((3, actions, TILE), np.float32)
    order, bits = np.empty((actions, TILE), np.int32), slope.view(np.uint32)
    for begin in range(first, last, TILE):
        width = min(TILE, last - begin)
        for k in range(actions):
            for i in range(width):
                u[k, i], c[k, i], order[k, i] = utility[k, begin + i], cost[k, begin + i], k
        for k in range(1, actions):  # by rising cost, of equal costs the best first
            for i in range(width):
                j = k
                while j > 0 and (c[j, i] < c[j - 1, i] or (c[j, i] == c[j - 1, i] and u[j, i] > u[j - 1, i])):
                    u[j, i], u[j - 1, i] = u[j - 1, i], u[j, i]
                    c[j, i], c[j - 1, i] = c[j - 1, i], c[j, i]
                    order[j, i], order[j - 1, i] = order[j - 1, i], order[j, i]
                    j -= 1
        for k in range(1, actions):  # as in `hull.hulls`: the least slope that leads to each action
            for j in range(k):
                for i in range(width):
                    steepness = (u[k, i] - u[j, i]) / (c[k, i] - c[j, i])
                    if j == 0 or not steepness >= slope[k, i]:
                        slope[k, i] = steepness
        for i in range(width):
            later = np.float32(0)
            for k in range(actions - 1, 0, -1):  # a vertex is steeper than all later ones
                if slope[k, i] > later:
                    later = slope[k, i]
                else:
                    slope[k, i] = 0
            at, before = begin + i, c[0, i]
            start[at] = order[0, i]
            for k in range(1, actions):
                if slope[k, i] > 0:
                    action, added = order[k, i], np.float64(c[k, i]) - np.float64(before)
                    extra[action, at] = added if weight.size == 0 else added * weight[at]
                    position = np.uint64(action * padded + at)
                    keys[action, first + size[action]] = (np.uint64(~bits[k, i]) << np.uint64(32)) | position
                    size[action] += 1
                    before = c[k, i]
    return size


@_compiled
def sort_steps(keys, other):
    """Sort u64[S] by their upper halves, digit by digit from the lowest; equals keep their order. `other` is room for as many.

    Returns:
      Whether they end in `other`.
    """
    digits = -(-32 // DIGIT)
    values = 1 << DIGIT
    count, swapped = np.zeros((digits, values), np.int64), False
    for s in range(len(keys)):
        for d in range(digits):
            count[d, (keys[s] >> np.uint64(32 + DIGIT * d)) & np.uint64(values - 1)] += 1
    for d in range(digits):
        if count[d].max() == len(keys):
            continue
        place = np.cumsum(count[d]) - count[d]
        for s in range(len(keys)):
            digit = (keys[s] >> np.uint64(32 + DIGIT * d)) & np.uint64(values - 1)
            other[place[digit]] = keys[s]
            place[digit] += 1
        keys, other, swapped = other, keys, not swapped
    return swapped


@_compiled
def add_steps(keys, extra, start, questions, block, points, totals):
    """The totals after steps, and the points between steps of different slopes.

    Args:
      keys: u64[S] sorted.
      extra: f64[K * padded] by position.
      start: c128 total spend + i utility before the first step.
      questions: what totals are divided by.
      block: steps between two totals, a multiple of TILE.
      points: f32[3, S + 1] filled from 1 on: spend, rounded up, utility and multiplier.
      totals: c128[1 + S / block] filled: at the start and after every block.

    Returns:
      How many points there are, with the first.
    """
    spend, value, size, inverse = start.real, start.imag, 1, 1 / questions
    totals[0] = start
    # Reading, adding and writing by themselves: a processor then waits for many places of `extra` at once.
    added, gained, spent = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    inverted, mean = np.empty(TILE + 1, np.uint32), np.empty(TILE, np.float32)
    slope, next_float = inverted.view(np.float32), mean.view(np.int32)
    for first in range(0, len(keys), TILE):
        width = min(TILE, len(keys) - first)
        last = first + width == len(keys)
        for i in range(width):
            added[i] = extra[keys[first + i] & np.uint64(0xFFFFFFFF)]
            inverted[i] = ~np.uint32(keys[first + i] >> np.uint64(32))
        inverted[width] = ~inverted[width - 1] if last else ~np.uint32(keys[first + width] >> np.uint64(32))
        for i in range(width):
            spend += added[i]
            value += added[i] * np.float64(slope[i])
            spent[i], gained[i] = spend * inverse, value * inverse
        if last or (first + width) % block == 0:
            totals[1 + (first + width - 1) // block] = complex(spend, value)
        for i in range(width):
            mean[i] = spent[i]
            next_float[i] += mean[i] < spent[i]
        for i in range(width):
            points[0, size], points[1, size], points[2, size] = mean[i], gained[i], slope[i]
            size += inverted[i] != inverted[i + 1]
    return size


def sorted_steps(prepared: ProblemInRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Like `steps.sorted_steps`."""
    utility, cost = (np.asarray(x).reshape(len(x), -1) for x in (prepared.utility, prepared.cost))
    weight = np.empty(0, np.float32) if prepared.weight is None else np.asarray(prepared.weight).reshape(-1)
    actions, padded = cost.shape
    start, keys, extra = np.zeros(padded, np.int32), np.empty((actions, padded), np.uint64), np.empty((actions, padded))

    def find(block: slice) -> list[np.ndarray]:
        """The steps of a block of questions to each action."""
        counts = find_steps(utility, cost, weight, block.start, block.stop, start, keys, extra)
        return [row[block.start : block.start + count] for row, count in zip(keys, counts, strict=True)]

    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(find, blocks(padded)))
    by_position = np.concatenate([piece for pieces in zip(*found, strict=True) for piece in pieces])
    room = keys.reshape(-1)[: len(by_position)]
    in_order = room if sort_steps(by_position, room) else by_position
    return start, in_order.view(KEYS[cost.dtype]), extra


def added_up(prepared: ProblemInRows, keys: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Like `steps.added_up`."""
    points, totals, questions = at_the_start(prepared, len(keys))
    size = add_steps(keys.view(np.uint64), extra.reshape(-1), totals[0], questions, steps.BLOCK, points, totals)
    return points[:, :size], totals
