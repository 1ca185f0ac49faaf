"""Stacking: how far networks and linear models are believed is decided on questions that neither has seen. NumPy only.

Where a text says little, a network that was stopped early still says too much, and where a table is small a linear model can be
the better one. Their predicted gains are summed with weights >= 0 that fit the measured gains best (Wolpert 1992; Breiman,
Stacked regressions, 1996). Weights of 0 leave the mean gains: all questions are then treated alike, which is the uniform mix.

The sum of networks and linear maps is a network with one more layer from its inputs to its outputs, so nothing else changes.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

PENALTIES = (1e2, 1e3, 1e4)  # of the linear models; features have unit variance on average


def stacked_gains(weights: dict[str, np.ndarray], x: np.ndarray, gain: np.ndarray, outputs: np.ndarray, unseen) -> dict:
    """The weights of networks whose first K outputs, the gains, are stacked with those of linear models.

    Args:
      weights: of the members, whose last layer is `Dense_*`; changed and returned.
      x: f32[N, D] features as the first layer reads them.
      gain: f32[N, K] measured.
      outputs: f32[E, N, O] of the members on the N questions.
      unseen: bool[E, N] the questions a member has not learned from.
    """
    actions = gain.shape[1]
    models = [outputs[:, :, :actions]]
    linear = _linear_models(x, gain, unseen)  # [penalties, E, D, K]
    models += [np.matmul(x[None], kernel) for kernel in linear]
    share = (unseen / unseen.sum(axis=0)).astype(np.float32)
    honest = np.stack([np.einsum("enk,en->nk", model, share) for model in models])  # [models, N, K]
    centre = honest.mean(axis=1)
    belief = nonnegative_fit((honest - centre[:, None]).reshape(len(models), -1), (gain - gain.mean(axis=0)).ravel())

    last = max(name for name in weights if name.startswith("Dense_") and name.endswith("/kernel"))
    kernel, bias = weights[last].copy(), weights[last.replace("kernel", "bias")].copy()
    kernel[..., :actions] *= belief[0]
    bias[:, :actions] = belief[0] * bias[:, :actions] + gain.mean(axis=0) - np.tensordot(belief, centre, 1)
    direct = np.zeros((*linear.shape[1:3], bias.shape[1]), np.float32)
    direct[..., :actions] = np.tensordot(belief[1:], linear, 1)
    return weights | {last: kernel, last.replace("kernel", "bias"): bias, "Direct/kernel": direct}


def _linear_models(x: np.ndarray, target: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Ridge regressions f32[penalties, E, D, K] of every member on what it has learned from; without constants."""
    found = np.zeros((len(PENALTIES), len(unseen), x.shape[1], target.shape[1]), np.float32)
    for member, out in enumerate(unseen):
        seen = x[~out] - x[~out].mean(axis=0)
        square, product = seen.T @ seen, seen.T @ (target[~out] - target[~out].mean(axis=0))
        for number, penalty in enumerate(PENALTIES):
            found[number, member] = np.linalg.solve(
                square + np.float32(penalty) * np.eye(len(square), dtype=np.float32), product
            )
    return found


def nonnegative_fit(models: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The weights f64[P] >= 0 of P models f[P, N] whose sum is nearest to a target f[N], by trying all sets of models.

    >>> nonnegative_fit(np.array([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]]), np.array([2.0, -1.0, 3.0]))
    array([2.5, 0. ])
    """
    square, product = (models @ other.T for other in (models.astype(float), target.astype(float)))
    best, least = np.zeros(len(models)), 0.0
    for size in range(1, len(models) + 1):
        for chosen in map(list, combinations(range(len(models)), size)):
            fit = np.linalg.lstsq(square[np.ix_(chosen, chosen)], product[chosen], rcond=None)[0]
            error = fit @ square[np.ix_(chosen, chosen)] @ fit - 2 * fit @ product[chosen]
            if (fit >= 0).all() and error < least:
                best, least = np.zeros(len(models)), error
                best[chosen] = fit
    return best
