"""What one sample costs, in each resource. A missing count is an error: zero would be the best price there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.types import SampleLog

RESOURCES = ("samples", "tokens", "compute")


def check_resources(resource: str | Sequence[str]) -> tuple[str, ...]:
    """The resources as a tuple.

    Raises:
      ValueError: none, an unknown one, or one listed twice.
    """
    names = (resource,) if isinstance(resource, str) else tuple(resource)
    if not names:
        raise ValueError(f"no resource; known: {', '.join(RESOURCES)}")
    for name in names:
        if name not in RESOURCES:
            raise ValueError(f"unknown resource {name!r}; known: {', '.join(RESOURCES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a resource is listed twice: {', '.join(names)}")
    return names


def unit_name(log: SampleLog, resource: str) -> str:
    """What one unit of a resource is, in words."""
    if resource == "tokens":
        return "completion tokens" if log.prompt_tokens is None else "prompt + completion tokens"
    return log.compute_unit.name if resource == "compute" else "samples"


def sample_cost(log: SampleLog, resource: str, columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The mean cost of one sample of every pair, and its standard error sd / sqrt(n).

    Args:
      log: the samples.
      resource: one of `RESOURCES`.
      columns: the sources (positions on axis M) that are asked for; the others stay 0.

    Returns:
      f32[N, M] and f32[N, M]; 0 where a pair has no samples. The error is 0 where one sample leaves it unknown.

    Raises:
      ValueError: a token count or a parameter count is missing.
    """
    mean, error = np.zeros(log.count.shape, np.float32), np.zeros(log.count.shape, np.float32)
    for m in columns:
        if resource == "samples":
            mean[:, m] = log.count[:, m] > 0
            continue
        tokens = _tokens(log, resource, m)
        scale = 1.0 if resource == "tokens" else _parameters(log, m) / log.compute_unit.size
        n = np.maximum(log.count[:, m], 1)
        center = tokens.sum(axis=1) / n
        squares = np.where(log.sampled[:, m], (tokens - center[:, None]) ** 2, 0).sum(axis=1)
        mean[:, m] = scale * center
        error[:, m] = scale * np.sqrt(squares / np.maximum(n - 1, 1) / n)
    return mean, error


def _tokens(log: SampleLog, resource: str, m: int) -> np.ndarray:
    """f64[N, S] the tokens of one source's samples, 0 in the padding."""
    for name in ("completion_tokens", "prompt_tokens"):
        values = getattr(log, name)
        if values is None:
            if name == "prompt_tokens":
                continue  # no sample has them: tokens are completion tokens, and the unit says so
            raise ValueError(f"resource {resource!r} needs completion_tokens, and the log has none")
        missing = (log.sampled[:, m] & ~np.isfinite(values[:, m])).any(axis=1)
        if missing.any():
            i = int(np.argmax(missing))
            raise ValueError(
                f"resource {resource!r}: question {log.ids[i]!r} has a sample of {log.sources[m].name!r} without {name}"
                f" ({missing.sum()} of {len(log)} questions)"
            )
    return np.where(log.sampled[:, m], log.tokens[:, m], 0).astype(np.float64)


def _parameters(log: SampleLog, m: int) -> float:
    source = log.sources[m]
    if source.parameters is None:
        raise ValueError(
            f"resource 'compute' needs the parameter count of source {source.name!r}, which the log does not say"
        )
    return source.parameters
