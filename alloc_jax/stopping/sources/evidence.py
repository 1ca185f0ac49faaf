"""Evidence beside the answers: a number that comes with every sample, in bins that tell right samples from wrong ones. NumPy alone.

A verifier's reward, a confidence or a mean log-probability that was logged as one, the length of an answer. A belief learns how often right and wrong
samples fall into each bin, in each class of questions. Where the number says no more than the text does, there is one bin, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # serving does without JAX
    from alloc_jax.types import SampleLog

BINS = 3  # at most
QUANTILES = np.arange(0.1, 0.95, 0.1)  # of the numbers, where bins may be cut
SURE = 15.0  # chi-squared by which a cut tells right from wrong beyond what the text promises; by chance once in 1,000 of the nine tried


def find_cuts(log: SampleLog, sources: Sequence[str], field: str, accuracy: np.ndarray, bins: int = BINS) -> np.ndarray:
    """f64[M, BINS - 1] where the numbers of each source are cut, rising; NaN where there is no cut.

    Takes the best of some quantiles, one after the other, as long as a cut tells right from wrong. A source of which a number is missing has no bins.

    Args:
      log: training questions.
      sources: M of them.
      field: of the samples.
      accuracy: f[N, M] that the questions' texts promise.
      bins: at most.
    """
    cuts = np.full((len(sources), BINS - 1), np.nan)
    for j, name in enumerate(sources):
        m = log.source_index(name)
        sampled = log.sampled[:, m]
        value = getattr(log, field)[:, m][sampled]
        if not value.size or np.isnan(value).any():
            continue
        mean = np.broadcast_to(np.clip(accuracy[:, j, None], 0.01, 0.99), sampled.shape)[sampled]
        surplus, spread = log.correct[:, m][sampled] - mean, mean * (1 - mean)
        tried = np.unique(np.quantile(value, QUANTILES))
        tried = tried[tried < value.max()]
        found: list[float] = []
        while len(found) < bins - 1 and len(tried):
            found_by = [_chi_squared(value, surplus, spread, [*found, cut]) for cut in tried]
            best = int(np.argmax(found_by))
            if found_by[best] - _chi_squared(value, surplus, spread, found) < SURE:
                break
            found.append(float(tried[best]))
            tried = np.delete(tried, best)
        cuts[j, : len(found)] = sorted(found)
    return cuts


def _chi_squared(value: np.ndarray, surplus: np.ndarray, spread: np.ndarray, cuts: list[float]) -> float:
    """Chi-squared of the bins: how far each is from being right as often as its texts promise, beside the whole."""
    of = np.searchsorted(np.sort(cuts), value)
    left = surplus - spread * surplus.sum() / spread.sum()
    sums, spreads = (np.bincount(of, weights=x, minlength=len(cuts) + 1) for x in (left, spread))
    return float((sums**2 / np.maximum(spreads, 1e-9)).sum())


def bins_of(value: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """i8[...] the bin of each number f[...], of the cuts f[..., BINS - 1] beside it.

    >>> bins_of(np.array([0.1, 0.9]), np.array([0.5, np.nan])).tolist()
    [0, 1]
    """
    return (np.asarray(value)[..., None] > cuts).sum(axis=-1).astype(np.int8)


def count_bins(cuts: np.ndarray) -> tuple[int, ...]:
    """The number of bins of every source with cuts f[M, BINS - 1]."""
    return tuple((1 + np.isfinite(cuts).sum(axis=1)).tolist())


def no_cuts(sources: int) -> np.ndarray:
    """The cuts of M sources that tell nothing but their answers."""
    return np.full((sources, BINS - 1), np.nan)
