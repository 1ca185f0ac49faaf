"""The policy networks' forward pass in NumPy, so that serving needs no JAX (a test holds it to the Flax module's answers).

An ensemble of multilayer perceptrons shares its inputs; every weight array has the members as its first axis. The
outputs are read by a head:

- value: K gains over the cheapest action, the cheapest action's own utility, K log-ratios of cost to the action's mean;
- imitation: K logits for each of M budgets, K log-ratios of cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def forward(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Outputs f32[E, N, O] of the members on features f32[N, D]."""
    kernel, bias = _first_layer(weights)
    x = standardise(features, weights["feature_mean"], weights["feature_scale"])[None]
    return _onwards(weights, np.matmul(x, kernel) + bias[:, None])


class Rest(NamedTuple):
    """What the first layer makes of a text that has none of the features; most texts have few."""

    features: np.ndarray  # f32[D] standardised zeros
    read: np.ndarray  # f32[E, H]
    kernel: np.ndarray  # f32[D, E * H] a feature's weights side by side


def at_rest(weights: dict[str, np.ndarray]) -> Rest:
    """The `Rest` of some weights."""
    features = standardise(np.float32(0), weights["feature_mean"], weights["feature_scale"])
    kernel, bias = _first_layer(weights)
    side_by_side = np.ascontiguousarray(np.moveaxis(kernel, 0, 1).reshape(kernel.shape[1], -1))
    return Rest(features, features @ kernel + bias, side_by_side)


def forward_one(weights: dict[str, np.ndarray], rest: Rest, features: np.ndarray) -> np.ndarray:
    """`forward` of one question's features f32[1, D], which reads the weights of the features that it has alone."""
    has = np.flatnonzero(features[0])
    mean, scale = weights["feature_mean"][has], weights["feature_scale"][has]
    change = standardise(features[0, has], mean, scale) - rest.features[has]
    read = rest.read + (change @ rest.kernel[has]).reshape(rest.read.shape)
    return _onwards(weights, read[:, None])


def _first_layer(weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel f32[E, D, H] and bias f32[E, H] of all that reads the features: the hidden layer, then the linear model if there is one."""
    kernel, bias = weights["Dense_0/kernel"], weights["Dense_0/bias"]
    if "Direct/kernel" not in weights:
        return kernel, bias
    direct = np.broadcast_to(
        weights["Direct/kernel"], (len(kernel), *weights["Direct/kernel"].shape[1:])
    )  # one for all
    return np.concatenate([kernel, direct], axis=2), np.pad(bias, ((0, 0), (0, direct.shape[2])))


def _onwards(weights: dict[str, np.ndarray], read: np.ndarray) -> np.ndarray:
    """Outputs f32[E, N, O] of what the first layer gave, f32[E, N, H]."""
    layers = sum(name.startswith("Dense_") for name in weights) // 2
    x, direct = np.split(read, [weights["Dense_0/bias"].shape[1]], axis=2)
    for layer in range(1, layers):
        x = x / (1 + np.exp(-np.clip(x, -80, None)))  # silu
        x = np.matmul(x, weights[f"Dense_{layer}/kernel"]) + weights[f"Dense_{layer}/bias"][:, None]
    x[..., : direct.shape[2]] += direct
    return x


def standardise(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features in units of their spread over the training questions, weighted by block, and bounded on questions unlike those."""
    return np.clip((features - mean) / scale, -10, 10)


def read_value(outputs: np.ndarray, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Utility and cost f32[N, K] in a value network's outputs f32[N, 2 K + 1]."""
    actions = len(weights["action_cost"])
    gain, base, log_ratio = np.split(outputs, [actions, actions + 1], axis=-1)
    return gain * weights["is_gain"] + base, weights["action_cost"] * np.exp(log_ratio)


def read_imitation(outputs: np.ndarray, weights: dict[str, np.ndarray], head: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of being the oracle's choice, and costs, f32[N, K], for one of the budgets trained for."""
    actions = len(weights["action_cost"])
    logits = outputs[..., head * actions : (head + 1) * actions]
    logits = logits - logits.max(axis=-1, keepdims=True)
    score = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return score, weights["action_cost"] * np.exp(outputs[..., -actions:])
