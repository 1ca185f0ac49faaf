"""Whether predictions can be believed: what was measured of the questions and actions that were predicted alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.intervals import Bootstrap, Interval


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions in bins of about equal numbers, from low to high, beside what was measured."""

    predicted: np.ndarray  # f64[B] mean prediction
    measured: tuple[Interval, ...]  # [B] mean measurement, with a 95 % interval over questions
    count: np.ndarray  # i64[B] pairs of a question and an action

    @property
    def error(self) -> float:
        """The mean distance of prediction and measurement over the bins: the expected calibration error."""
        return float(np.average(np.abs(self.predicted - [bin.value for bin in self.measured]), weights=self.count))


def reliability(
    predicted: np.ndarray,
    measured: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    bins: int = 10,
    replicates: int = 500,
    seed: int = 0,
) -> Reliability:
    """Predictions of several actions on questions, binned, against measurements that they have not seen.

    Resampled are questions, with all of their actions: the pairs of one question err together.

    Args:
      predicted: f32[N, K] predictions.
      measured: f32[N, K] unbiased measurements of the same; their noise averages out in a bin.
      valid: bool[N, K] the pairs that count; None: all.
      bins: the most bins, of about equal numbers of pairs; equal predictions stay together.
      replicates: of the bootstrap over questions.
      seed: of the bootstrap.

    >>> chance = np.tile(np.linspace(0, 1, 8), (50, 1))
    >>> round(reliability(chance, chance + 0.1, bins=4).error, 6)
    0.1
    """
    if predicted.shape != measured.shape or predicted.ndim != 2:
        raise ValueError(f"predicted and measured are of one shape [N, K], got {predicted.shape} and {measured.shape}")
    valid = np.ones(predicted.shape, bool) if valid is None else valid
    edges = np.unique(np.quantile(predicted[valid], np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    bin = np.searchsorted(edges, predicted, side="left")
    inside = (bin[:, :, None] == np.arange(len(edges) + 1)) & valid[:, :, None]  # [N, K, B]
    inside = inside[:, :, inside.any(axis=(0, 1))]
    sums = (np.einsum("nkb,nk->nb", inside, part, dtype=float) for part in (predicted, measured))
    bootstrap = Bootstrap(len(predicted), replicates, seed)
    pairs = bootstrap.mean(inside.sum(axis=1).astype(float))
    with np.errstate(invalid="ignore"):  # a resample may miss a bin
        predictions, measurements = (bootstrap.mean(part) / pairs for part in sums)
    return Reliability(predictions[0], tuple(map(bootstrap.interval, measurements.T)), inside.sum(axis=(0, 1)))
