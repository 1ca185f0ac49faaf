"""The policy networks' forward pass in NumPy, so that serving needs no JAX (a test holds it to the Flax module's answers).

An ensemble of multilayer perceptrons shares its inputs; every weight array has the members as its first axis. The
first K outputs of a value network may also depend on the inputs directly (`stacking`). The outputs are read by a head:

- value: K gains over the cheapest action, the cheapest action's own utility, K log-ratios of cost to the action's mean;
- imitation: K logits for each of M budgets, K log-ratios of cost.
"""

from __future__ import annotations

import numpy as np


def forward(weights: dict[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Outputs f32[E, N, O] of the members on features f32[N, D]."""
    read = x = standardise(features, weights["feature_mean"], weights["feature_scale"])[None]
    layers = sum(name.startswith("Dense_") for name in weights) // 2
    for layer in range(layers):
        x = np.matmul(x, weights[f"Dense_{layer}/kernel"]) + weights[f"Dense_{layer}/bias"][:, None]
        if layer < layers - 1:
            x = x / (1 + np.exp(-np.clip(x, -80, None)))  # silu
    if "Direct/kernel" in weights:
        x[..., : weights["Direct/kernel"].shape[2]] += np.matmul(read, weights["Direct/kernel"])
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
