"""The steps of the exact frontier: those of all questions' hulls, steepest first.

NumPy on the host, in blocks that stay in a core's cache: XLA has no fast sort on a CPU, and nothing here is compiled anew for every
shape. Hulls and the sort use all cores, as NumPy releases the interpreter lock while it computes. Of large problems `compiled` does
the same in a third of the time, where Numba is installed.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import jax
import numpy as np

from alloc_jax.solve.hull import cheapest_first, hulls
from alloc_jax.solve.layout import ProblemInRows

Found = TypeVar("Found")

AHEAD = 4  # blocks
COMPILED = 1 << 18  # numbers from which compiled loops are worth their loading
BLOCK = 1 << 15  # questions, or steps, that are worked on at once: few enough for a core's cache


@dataclass(frozen=True, eq=False)
class Steps:
    """The exact frontier's steps in the order they are taken; NumPy arrays on the host."""

    start: np.ndarray  # i32[N] the cheapest plan
    keys: np.ndarray  # [S] slope and position, see `put_keys`; a position is action * padded + question
    extra: np.ndarray  # f64[K, padded] what a step to an action adds to the total spend
    totals: np.ndarray  # c128[1 + S / BLOCK] total spend + i utility at the start, and after every BLOCK of steps

    def moved(self, at: slice) -> tuple[np.ndarray, np.ndarray]:
        """The questions that move at these steps, and the actions they move to."""
        action, question = np.divmod(of_keys(self.keys[at])[0], np.uint32(self.extra.shape[1]))
        return question.astype(np.int32), action.astype(np.int32)

    def within(self, target: float) -> tuple[int, float]:
        """How many steps a total spend pays for, and the total with them."""
        block = max(bisect_right(self.totals[:-1], target, key=lambda total: total.real) - 1, 0)
        first = block * BLOCK
        at, _ = of_keys(self.keys[first : first + BLOCK])
        running = np.cumsum(np.append(self.totals[block].real, self.extra.take(at)))
        fit = max(int(np.searchsorted(running, target, side="right")) - 1, 0)
        return first + fit, float(running[fit])


jax.tree_util.register_dataclass(Steps, ["start", "keys", "extra", "totals"], [])


def steps_of(prepared: ProblemInRows) -> tuple[Steps, np.ndarray]:
    """All steps, by one sort, and the frontier's breakpoints: spend, rounded up, utility and multiplier f32[3, M]."""
    loops = compiled_loops() if prepared.cost.size >= COMPILED and prepared.cost.dtype == np.float32 else None
    sort, add = (sorted_steps, added_up) if loops is None else (loops.sorted_steps, loops.added_up)
    start, keys, extra = sort(prepared)
    points, totals = add(prepared, keys, extra)
    return Steps(start[: prepared.count], keys, extra, totals), points


def compiled_loops() -> ModuleType | None:
    """The same functions compiled, where Numba is installed and has a folder for what it compiles."""
    try:
        from alloc_jax.solve.breakpoints import compiled
    except (ImportError, RuntimeError):
        return None
    return compiled


def sorted_steps(prepared: ProblemInRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where questions start, and their steps in order, as `Steps` has them: start, keys and extra."""
    utility, cost = (np.asarray(x).reshape(len(x), -1) for x in (prepared.utility, prepared.cost))
    weight = None if prepared.weight is None else np.asarray(prepared.weight).reshape(-1)
    actions, padded = cost.shape
    start, extra = np.zeros(padded, np.int32), np.empty((actions, padded))
    kind = KEYS[cost.dtype]
    raw = f"V{kind.itemsize}"  # copied as it is, and not part by part

    def find(block: slice) -> np.ndarray:
        """The steps of a block of questions."""
        u, c, order = cheapest_first(utility[:, block], cost[:, block])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            hull = hulls(np, u, c)
        if order is not None:
            start[block] = order[0]
        keys, size = np.empty((actions - 1) * len(c[0]), kind), 0
        for k, (vertex, slope, before) in enumerate(zip(*hull, strict=True), 1):
            added = extra[k, block] if order is None else np.empty(len(before))
            np.subtract(c[k], before, dtype=np.float64, out=added)
            if weight is not None:
                added *= weight[block]
            at = np.flatnonzero(vertex)
            position = at + (block.start + padded * (k if order is None else order[k].take(at).astype(np.int64)))
            if order is not None:
                extra.reshape(-1)[position] = added.take(at)
            put_keys(keys[size : size + len(at)], position, slope.take(at))
            size += len(at)
        return keys[:size].view(raw)

    keys, size = np.empty((actions - 1) * padded, kind), 0
    with ThreadPoolExecutor(cores()) as pool:
        for found in in_order(pool, find, blocks(padded) if actions > 1 else []):
            keys.view(raw)[size : size + len(found)] = found
            size += len(found)
        sort(keys[:size], pool)
    return start, keys[:size], extra


def added_up(prepared: ProblemInRows, keys: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The breakpoints between steps, f32[3, M], and the totals at the ends of blocks, c128[1 + S / BLOCK].

    On one core: each block is short and needs the total before it, and threads would wait for each other longer than they work.
    """
    parts, size = blocks(len(keys)), 1
    points, totals, questions = at_the_start(prepared, len(keys))
    running = np.empty(1 + BLOCK, np.complex128)
    for i, part in enumerate(parts):
        at, slope = of_keys(keys[part])
        total = running[1 : 1 + len(at)]
        running[0], total.real = totals[i], extra.take(at)
        np.multiply(total.real, slope, out=total.imag)
        np.cumsum(running[: 1 + len(at)], out=running[: 1 + len(at)])
        totals[i + 1] = total[-1]
        # Steps of one slope are one piece of the frontier.
        bits = keys["slope"][part.start : part.stop + 1]
        last = np.append(bits[1:] != bits[:-1], np.ones(len(at) + 1 - len(bits), bool))
        if not last.all():
            ends = np.flatnonzero(last)
            total, slope = total.take(ends), slope.take(ends)
        put_points(points[:, size : size + len(slope)], total, slope, questions)
        size += len(slope)
    return points[:, :size], totals


def at_the_start(prepared: ProblemInRows, steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Room for the breakpoints f32[3, 1 + S] and the totals c128[1 + S / BLOCK], of which the first stand there; and the total weight."""
    questions = float(prepared.questions.hi) + float(prepared.questions.lo)
    totals = np.empty(1 + len(blocks(steps)), np.complex128)
    totals[0] = complex(*(np.asarray(prepared.cheapest.hi, np.float64) + np.asarray(prepared.cheapest.lo)))
    points = aligned(3, steps + 1, prepared.cost.dtype)
    put_points(points[:, :1], totals[:1].copy(), np.asarray(prepared.steepest), questions)
    return points, totals, questions


def put_points(out: np.ndarray, total: np.ndarray, slope: np.ndarray, questions: float) -> None:
    """The means f32[M] that totals c128[M], which are overwritten, are of a number of questions, and the multipliers.

    Spends are rounded up: the next float has the next bits.
    """
    mean = total.view(np.float64).reshape(-1, 2)
    mean *= 1 / questions
    out[0], out[1], out[2] = mean[:, 0], mean[:, 1], slope
    out[0].view(f"i{out.itemsize}")[:] += out[0] < mean[:, 0]


def aligned(rows: int, size: int, dtype: np.dtype) -> np.ndarray:
    """An empty array [rows, size] whose rows JAX can use where they lie: they start at multiples of 64 bytes."""
    width = size * dtype.itemsize + -size * dtype.itemsize % 64
    raw = np.empty(rows * width + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + rows * width].view(dtype).reshape(rows, -1)[:, :size]


# A step in the bits of one number, from the lowest: the number sorts steps steepest first, and equal slopes by position.
KEYS = {
    np.dtype(np.float32): np.dtype([("position", "<u4"), ("slope", "<u4")]),
    np.dtype(np.float64): np.dtype([("position", "<u4"), ("slope", "<u8")]),
}


def put_keys(keys: np.ndarray, position: np.ndarray, slope: np.ndarray) -> None:
    """Steps as sortable numbers: bits of positive floats sort like the floats, and their complements the other way round.

    That sorts several times faster than an argsort, and holds both parts afterwards. A question's own slopes fall strictly, so
    its steps keep their order.
    """
    keys["position"] = position
    np.invert(slope.view(keys["slope"].dtype), out=keys["slope"])


def of_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions u32[S] and slopes of steps."""
    slope = ~keys["slope"]
    return keys["position"], slope.view(f"f{slope.itemsize}")


def sort(keys: np.ndarray, pool: ThreadPoolExecutor) -> None:
    """Sort in place; many keys on two cores, parted at their middle before."""
    if keys.itemsize > 8:
        keys[:] = keys[np.lexsort((keys["position"], keys["slope"]))]
        return
    numbers, middle = keys.view("<u8"), len(keys) // 2
    if len(keys) <= BLOCK:
        numbers.sort()
    else:
        numbers.partition(middle)
        list(pool.map(np.ndarray.sort, (numbers[:middle], numbers[middle:])))


def blocks(size: int) -> list[slice]:
    """The slices that cover so many questions or steps."""
    return [slice(first, min(first + BLOCK, size)) for first in range(0, size, BLOCK)]


def in_order(pool: ThreadPoolExecutor, work: Callable[[slice], Found], parts: list[slice]) -> Iterator[Found]:
    """Like `pool.map`, but few parts ahead of what was asked for: memory that is free again is faster than new memory."""
    waiting: deque[Future[Found]] = deque()
    for part in parts:
        waiting.append(pool.submit(work, part))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def cores() -> int | None:
    """How many cores this process has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
