"""The policy networks' forward pass in NumPy, so that serving needs no JAX (a test holds it to the Flax module's answers).

An ensemble of multilayer perceptrons shares its inputs; every weight array has the members as its first axis. The
outputs are read by a head:

- value: K gains over the cheapest action, the cheapest action's own utility, K log-ratios of cost to the action's mean;
- imitation: K logits for each of M budgets, K log-ratios of cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ROWS = 4096  # questions that go through the layers together


def forward(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Outputs f32[E, N, O] of the members on features f32[N, D], of so many questions at a time that hidden layers stay small."""
    if len(features) > ROWS:
        parts = [forward(weights, features[first : first + ROWS]) for first in range(0, len(features), ROWS)]
        return np.concatenate(parts, axis=1)
    x = standardise(features, weights["feature_mean"], weights["feature_scale"])
    hidden = np.matmul(x[None], weights["Dense_0/kernel"]) + weights["Dense_0/bias"][:, None]
    direct = np.matmul(x, weights["Direct/kernel"][0]) if "Direct/kernel" in weights else None
    return _onwards(weights, hidden, direct)


class Rest(NamedTuple):
    """What reads the features makes of a text that has none of them; most texts have few."""

    features: np.ndarray  # f32[3, D] mean and scale of the features, and standardised zeros
    read: (
        np.ndarray
    )  # f32[E H + K] of the members' hidden layers side by side, then of the linear model if there is one
    kernel: np.ndarray  # f32[D, E H + K] a feature's weights in them


def at_rest(weights: dict[str, np.ndarray]) -> Rest:
    """The `Rest` of some weights."""
    mean, scale = weights["feature_mean"], weights["feature_scale"]
    features = standardise(np.zeros_like(mean), mean, scale)
    kernel, bias = weights["Dense_0/kernel"], weights["Dense_0/bias"].ravel()
    kernel = np.moveaxis(kernel, 0, 1).reshape(len(features), -1)
    if "Direct/kernel" in weights:
        kernel = np.concatenate([kernel, weights["Direct/kernel"][0]], axis=1)
    kernel = np.ascontiguousarray(kernel)
    return Rest(
        np.stack([mean, scale, features]), np.pad(bias, (0, kernel.shape[1] - len(bias))) + features @ kernel, kernel
    )


def forward_one(weights: dict[str, np.ndarray], rest: Rest, features: np.ndarray) -> np.ndarray:
    """`forward` of one question's features f32[1, D], which reads the weights of the features that it has alone."""
    has = features[0].nonzero()[0]
    mean, scale, zero = rest.features[:, has]
    change = standardise(features[0, has], mean, scale) - zero
    read = rest.read + change @ rest.kernel[has]
    members, width = weights["Dense_0/bias"].shape
    hidden = read[: members * width].reshape(members, 1, width)
    return _onwards(weights, hidden, read[members * width :] if "Direct/kernel" in weights else None)


def _onwards(weights: dict[str, np.ndarray], hidden: np.ndarray, direct: np.ndarray | None) -> np.ndarray:
    """Outputs f32[E, N, O] of what the first layer gave, f32[E, N, H], and of what the linear model adds to the first of them."""
    x, layer = hidden, 1
    while (kernel := weights.get(f"Dense_{layer}/kernel")) is not None:
        x = x / (1 + np.exp(-np.maximum(x, -80)))  # silu
        x = np.matmul(x, kernel) + weights[f"Dense_{layer}/bias"][:, None]
        layer += 1
    if direct is not None:
        x[..., : direct.shape[-1]] += direct
    return x


def standardise(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features in units of their spread over the training questions, weighted by block, and bounded on questions unlike those."""
    return np.minimum(np.maximum((features - mean) / scale, np.float32(-10)), np.float32(10))


def read_score(outputs: np.ndarray, weights: dict[str, np.ndarray], head: int | None) -> np.ndarray:
    """Score [..., K] in outputs [..., O]: utilities of a value network (head None), else the log-probabilities of being the oracle's
    choice for one of the budgets that an imitation network was trained for."""
    actions = len(weights["action_cost"])
    if head is None:
        return outputs[..., :actions] * weights["is_gain"] + outputs[..., actions : actions + 1]
    logits = outputs[..., head * actions : (head + 1) * actions]
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def read_cost(outputs: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Costs [..., K] in any network's outputs [..., O], whose last K they are."""
    cost = weights["action_cost"]
    return cost * np.exp(outputs[..., -len(cost) :])
