"""Stacking: how far networks and linear models are believed is decided on questions that neither has seen. NumPy only.

Where a text says little, a network that was stopped early still says too much, and where a table is small a linear model can be
the better one. Their predicted gains are summed with weights >= 0 that fit the measured gains best (Wolpert 1992; Breiman,
Stacked regressions, 1996). Weights of 0 leave the mean gains: all questions are then treated alike, which is the uniform mix.

The sum of networks and a linear map is a network with one more layer from its inputs to its outputs, so nothing else changes.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

PENALTIES = (1e2, 1e3, 1e4)  # of the linear models; features have unit variance on average


def stacked_gains(
    weights: dict[str, np.ndarray], x: np.ndarray, gain: np.ndarray, honest: np.ndarray, fold: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Networks whose first K outputs, the gains, are stacked with those of linear models.

    Args:
      weights: of the members, whose last layer is the last `Dense_*`.
      x: f32[N, D] features as the first layer reads them, each with a mean of 0.
      gain: f32[N, K] measured.
      honest: f32[N, K] what members predict of the questions that they have not seen.
      fold: i[N] which part of the questions each is in; linear models leave out one part each.

    Returns:
      The weights, with `Direct/kernel` f32[1, D, K] shared by all members; how far the networks are believed, f[]; and what is
      to be added to that share of a member's gains of unseen questions, f32[N, K].
    """
    kernels, predicted = _linear_models(x, gain - gain.mean(axis=0), fold)
    models = np.concatenate([honest[None], predicted])
    centre = models.mean(axis=1)
    belief = nonnegative_fit((models - centre[:, None]).reshape(len(models), -1), (gain - gain.mean(axis=0)).ravel())
    shift = (gain.mean(axis=0) - np.tensordot(belief, centre, 1)).astype(np.float32)

    last = f"Dense_{sum(name.startswith('Dense_') for name in weights) // 2 - 1}"
    kernel, bias = weights[f"{last}/kernel"].copy(), weights[f"{last}/bias"].copy()
    actions = gain.shape[1]
    kernel[..., :actions] *= belief[0]
    bias[:, :actions] = belief[0] * bias[:, :actions] + shift
    direct = np.tensordot(belief[1:], kernels, 1).astype(np.float32)
    weights = weights | {f"{last}/kernel": kernel, f"{last}/bias": bias, "Direct/kernel": direct[None]}
    return weights, belief[0], (np.tensordot(belief[1:], predicted, 1) + shift).astype(np.float32)


def _linear_models(x: np.ndarray, target: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regressions: the mean over folds of those without one, f32[P, D, K], and what each predicts of its own, f32[P, N, K]."""
    square, product = x.T @ x, x.T @ target
    kernels = np.zeros((len(PENALTIES), *product.shape), np.float32)
    predicted = np.zeros((len(PENALTIES), *target.shape), np.float32)
    folds = np.unique(fold)
    for out in (fold == number for number in folds):
        without, known = square - x[out].T @ x[out], product - x[out].T @ target[out]
        for number, penalty in enumerate(PENALTIES):
            kernel = np.linalg.solve(without + np.diag(np.full(len(square), penalty, np.float32)), known)
            kernels[number] += kernel / len(folds)
            predicted[number, out] = x[out] @ kernel
    return kernels, predicted


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
