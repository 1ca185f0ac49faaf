"""What a determined user would write in Numba: exact, without JAX, on all cores.

Both take f32[N, K] with costs rising along K, walk each question's upper hull, and return the plan that takes hull steps from the
steepest down while they fit into the budget; the last one is split for the mixed plan.

    radix_selection   One pass adds up what the steps cost in 65,536 bins of the top bits of their slopes. The bin in which the budget
                      ends is known then, and a second pass takes the steps above it and collects and sorts those inside.
    hull_and_sort     All steps as one array of (slope, cost) in 64 bits, sorted. This is the whole frontier as well.
"""

import numba
import numpy as np

BINS = 1 << 16


@numba.njit(inline="always")
def hull(utility, cost, vertex):
    """The vertices of one question's hull, cheapest first; returns how many."""
    size = 1
    vertex[0] = 0
    for k in range(1, len(utility)):
        if utility[k] <= utility[vertex[size - 1]]:
            continue
        if cost[k] == cost[vertex[size - 1]]:
            size -= 1
        while size > 1:
            a, b = vertex[size - 2], vertex[size - 1]
            if (utility[b] - utility[a]) * (cost[k] - cost[b]) > (utility[k] - utility[b]) * (cost[b] - cost[a]):
                break
            size -= 1
        vertex[size] = k
        size += 1
    return size


@numba.njit(inline="always")
def bits_of(slope, scratch):
    """The bits of a positive float, which sort like it."""
    scratch[0] = slope
    return scratch.view(np.uint32)[0]


@numba.njit(parallel=True)
def histogram(utility, cost, threads):
    """f64[threads, BINS] what the steps of each bin cost, and f64[threads] what the cheapest actions do."""
    questions, actions = utility.shape
    bins, start = np.zeros((threads, BINS)), np.zeros(threads)
    for t in numba.prange(threads):
        vertex, scratch = np.empty(actions, np.int64), np.empty(1, np.float32)
        for i in range(t * questions // threads, (t + 1) * questions // threads):
            size = hull(utility[i], cost[i], vertex)
            start[t] += cost[i, vertex[0]]
            for s in range(1, size):
                a, b = vertex[s - 1], vertex[s]
                extra = cost[i, b] - cost[i, a]
                bins[t, bits_of((utility[i, b] - utility[i, a]) / extra, scratch) >> 16] += extra
    return bins, start


@numba.njit(inline="always")
def respond(utility, cost, multiplier):
    """The best response of one question to a multiplier."""
    best, top = 0, utility[0] - multiplier * cost[0]
    for k in range(1, len(utility)):
        score = utility[k] - multiplier * cost[k]
        best, top = (k, score) if score > top else (best, top)
    return best


@numba.njit(parallel=True)
def take_above(utility, cost, edge, low, high, counts, threads):
    """Every question's action with the steps of higher bins taken; the steps of the edge bin; spend and utility.

    Hulls are walked only where the best responses to `low` and `high`, just outside the bin, differ.
    """
    questions, actions = utility.shape
    action = np.empty(questions, np.int8)
    total = np.zeros((threads, 2))
    found = np.zeros(threads, np.int64)
    inside = np.empty((threads, counts), np.int64)
    slopes = np.empty((threads, counts), np.float32)
    for t in numba.prange(threads):
        vertex, scratch = np.empty(actions, np.int64), np.empty(1, np.float32)
        for i in range(t * questions // threads, (t + 1) * questions // threads):
            taken = respond(utility[i], cost[i], high)
            size = 0
            if taken != respond(utility[i], cost[i], low):
                size = hull(utility[i], cost[i], vertex)
                taken = vertex[0]
            for s in range(1, size):
                a, b = vertex[s - 1], vertex[s]
                slope = (utility[i, b] - utility[i, a]) / (cost[i, b] - cost[i, a])
                number = bits_of(slope, scratch) >> 16
                if number > edge:
                    taken = b
                elif number == edge:
                    if found[t] < counts:
                        inside[t, found[t]] = (i * actions + a) * actions + b
                        slopes[t, found[t]] = slope
                    found[t] += 1
            action[i] = taken
            total[t, 0] += cost[i, taken]
            total[t, 1] += utility[i, taken]
    return action, total, found, inside, slopes


@numba.njit
def fill_up(utility, cost, action, steps, spend, value, budget):
    """Takes sorted steps while they fit; returns the spends and utilities of the integral and of the mixed plan."""
    actions = utility.shape[1]
    mixed_spend, mixed_value = spend, value
    for step in steps:
        i, a, b = step // actions // actions, step // actions % actions, step % actions
        extra, gain = np.float64(cost[i, b]) - cost[i, a], np.float64(utility[i, b]) - utility[i, a]
        if spend + extra > budget:
            share = (budget - spend) / extra
            return spend, value, budget, value + share * gain
        action[i] = b
        spend, value = spend + extra, value + gain
        mixed_spend, mixed_value = spend, value
    return spend, value, mixed_spend, mixed_value


def take_steps(utility, cost, edge: int, budget: float):
    """The plan that takes the steps of higher bins, and those of the edge bin while they fit."""
    questions, threads = len(utility), numba.get_num_threads()
    low, high = np.array([edge << 16, edge + 1 << 16], np.uint32).view(np.float32)
    room = max(1024, questions // 8)
    while True:
        bounds = np.float32(low * (1 - 1e-6)), np.float32(high * (1 + 1e-6))
        action, total, found, inside, slopes = take_above(utility, cost, edge, *bounds, room, threads)
        if found.max() <= room:
            break
        room = int(found.max())
    steps, slope = (np.concatenate([row[:n] for row, n in zip(x, found, strict=True)]) for x in (inside, slopes))
    if len(slope) and slope.min() < slope.max():
        steps = steps[np.argsort(-slope, kind="stable")]
    spend, value = total.sum(axis=0)
    return action, *(x / questions for x in fill_up(utility, cost, action, steps, spend, value, budget * questions))


def radix_selection(utility: np.ndarray, cost: np.ndarray, budget: float):
    """(action i8[N], mean spend, mean utility, mixed spend, mixed utility)."""
    threads, questions = numba.get_num_threads(), len(utility)
    bins, start = histogram(utility, cost, threads)
    passed = start.sum() + np.cumsum(bins.sum(axis=0)[::-1])
    edge = BINS - 1 - int(np.searchsorted(passed, budget * questions, side="right"))
    return take_steps(utility, cost, edge, budget)


@numba.njit(parallel=True)
def all_steps(utility, cost, threads):
    """u64[threads, ...] (complemented slope, cost) of every step, how many, and the cheapest plan's spend and utility."""
    questions, actions = utility.shape
    rows = questions // threads + 1
    keys = np.empty((threads, rows * (actions - 1)), np.uint64)
    found, start = np.zeros(threads, np.int64), np.zeros((threads, 2))
    for t in numba.prange(threads):
        vertex, scratch = np.empty(actions, np.int64), np.empty(1, np.float32)
        for i in range(t * questions // threads, (t + 1) * questions // threads):
            size = hull(utility[i], cost[i], vertex)
            start[t, 0] += cost[i, vertex[0]]
            start[t, 1] += utility[i, vertex[0]]
            for s in range(1, size):
                a, b = vertex[s - 1], vertex[s]
                extra = cost[i, b] - cost[i, a]
                slope = np.uint64(~bits_of((utility[i, b] - utility[i, a]) / extra, scratch))
                keys[t, found[t]] = (slope << np.uint64(32)) | np.uint64(bits_of(extra, scratch))
                found[t] += 1
    return keys, found, start


@numba.njit
def running_totals(keys, start):
    """f64[S + 1] spend and utility before each step, and after the last."""
    spend, value = np.empty(len(keys) + 1), np.empty(len(keys) + 1)
    scratch = np.empty(2, np.uint32)
    spend[0], value[0] = start[0], start[1]
    for s in range(len(keys)):
        scratch[0], scratch[1] = ~np.uint32(keys[s] >> np.uint64(32)), np.uint32(keys[s] & np.uint64(0xFFFFFFFF))
        slope, extra = scratch.view(np.float32)
        spend[s + 1] = spend[s] + extra
        value[s + 1] = value[s] + np.float64(slope) * extra
    return spend, value


def sorted_frontier(utility: np.ndarray, cost: np.ndarray):
    """(mean spend f64[S + 1], mean utility f64[S + 1], slope f32[S]): every breakpoint of the frontier."""
    keys, found, start = all_steps(utility, cost, numba.get_num_threads())
    keys = np.concatenate([row[:n] for row, n in zip(keys, found, strict=True)])
    keys.sort()
    spend, value = running_totals(keys, start.sum(axis=0))
    slope = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    return spend / len(utility), value / len(utility), slope


def hull_and_sort(utility: np.ndarray, cost: np.ndarray, budget: float):
    """Like `radix_selection`, from the sorted steps."""
    spend, _, slope = sorted_frontier(utility, cost)
    cut = max(min(int(np.searchsorted(spend, budget, side="right")) - 1, len(slope) - 1), 0)
    return take_steps(utility, cost, int(slope[cut : cut + 1].view(np.uint32)[0]) >> 16, budget)


if __name__ == "__main__":
    print(__doc__)
