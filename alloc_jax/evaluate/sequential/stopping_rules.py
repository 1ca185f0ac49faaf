"""Stopping rules to beat: they stop by a fixed confidence or number, one question at a time, whatever the budget.

Each is an index over paths like those of `stopping`, so that the same replay sweeps its setting: fixed k draws up to k samples;
Adaptive-Consistency (Aggarwal et al. 2023, arXiv 2305.11860) until the leader's share is the greatest with a confidence; ESC (Li et al.
2024, arXiv 2401.10480) until a window of w samples gives one answer.
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from jax.scipy.special import betainc, gammainc

from alloc_jax.stopping.paths import Paths


def fixed(paths: Paths) -> np.ndarray:
    """f[N, P, T] the index of drawing k samples of every question, for all k: -n."""
    return np.broadcast_to(-np.arange(float(paths.cap)), paths.cost.shape)


def beta_confidence(paths: Paths) -> np.ndarray:
    """f[N, P, T] Adaptive-Consistency's Beta rule: the doubt that the leader beats the runner-up,
    1 - P(p > 1/2), p ~ Beta(lead + 1, chase + 1)."""
    size = np.arange(paths.cap + 1, dtype=np.float32)
    doubt = np.array(betainc(size[:, None] + 1, size[None, :] + 1, np.float32(0.5)))
    return _until_first(doubt[paths.lead[..., :-1], paths.chase[..., :-1]])


def dirichlet_confidence(paths: Paths) -> np.ndarray:
    """f[N, P, T] Adaptive-Consistency's Dirichlet rule: the doubt that the leader's share is the greatest under
    Dirichlet(counts + 1) over the answers seen so far."""
    cap = paths.cap
    code = paths.code.reshape(-1, cap)
    votes = np.zeros((len(code), int(code.max()) + 2), np.uint8)  # the last column takes samples without an answer
    index = np.empty((len(code), cap))
    index[:, 0] = np.inf
    known: dict[bytes, float] = {}
    for n in range(1, cap):
        votes[np.arange(len(code)), code[:, n - 1]] += 1
        seen = np.sort(votes[:, :-1], axis=1)[:, : -n - 1 : -1]  # n samples have at most n answers
        kinds, which = np.unique(seen, axis=0, return_inverse=True)
        new = [kind for kind in kinds if kind.tobytes().rstrip(b"\0") not in known]
        known |= zip((kind.tobytes().rstrip(b"\0") for kind in new), _dirichlet_doubt(new, cap), strict=True)
        index[:, n] = np.array([known[kind.tobytes().rstrip(b"\0")] for kind in kinds])[which.reshape(-1)]
    return index.reshape(paths.cost.shape)


def _dirichlet_doubt(kinds: list[np.ndarray], cap: int) -> np.ndarray:
    """f64[...] 1 - P(the first share is the greatest), by quadrature over the leader's Gamma variable.

    Shares are independent Gamma(count + 1) over their sum, so P = E[prod over others of P(Gamma_j < x)]. Beside a single answer
    stands another that has not been seen, as in the Beta rule.
    """
    x = np.linspace(0, 6 * cap + 30, 6000)[1:]
    shape = np.arange(cap + 1, dtype=np.float32)[:, None] + 1
    below = np.array(jax.jit(gammainc)(*np.broadcast_arrays(shape, x[None, :].astype(np.float32))), float)
    log_factorial = np.append(0, np.cumsum(np.log(np.arange(1, cap + 1))))
    found = []
    for kind in kinds:
        lead, *others = [*kind[kind > 0].astype(int), 0, 0][: max(2, int((kind > 0).sum()))]
        density = np.exp(lead * np.log(x) - x - log_factorial[lead])
        found.append(1 - np.trapezoid(density * np.prod(below[others], axis=0), x))
    return np.array(found)


def window(paths: Paths, size: int) -> np.ndarray:
    """f[N, P, T] ESC's rule for one window: it draws windows of so many samples until one of them gives a single answer."""
    cap = paths.cap
    index = np.full(paths.cost.shape, np.inf)
    for n in range(size, cap, size):
        last = paths.code[..., n - size : n]
        agree = (last == last[..., :1]).all(axis=2) & (last[..., 0] >= 0)
        index[..., n] = np.where(agree, -np.inf, np.inf)
    return index


def windows(cap: int) -> dict[int, partial]:
    """ESC's rules for every window up to the cap; a window of one sample always agrees."""
    return {size: partial(window, size=size) for size in range(1, cap + 1)}


def until_right(paths: Paths) -> np.ndarray:
    """f[N, P, T] the index of drawing until a verifier is content, at most k samples, for all k."""
    return np.where(paths.lead[..., :-1] > 0, -np.inf, fixed(paths))


def _until_first(index: np.ndarray) -> np.ndarray:
    """Every question gets a first sample."""
    index[..., 0] = np.inf
    return index
