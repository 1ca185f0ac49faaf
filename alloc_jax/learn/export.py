"""A policy's network as one serialised JAX program, for servers that run JAX and not this package."""

from __future__ import annotations

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from alloc_jax.learn.policy import Policy


def export_policy(policy: Policy, budget: float | None = None) -> bytes:
    """The function features f32[N, D] -> (score f32[N, K], cost f32[N, K]) of `Policy.predict_features`, for any N.

    `jax.export.deserialize(bytearray(data)).call(features)` runs it on CPU, GPU and TPU.

    Args:
      policy: whose predictions.
      budget: an imitation policy's scores depend on it.

    Raises:
      ImportError: without flatbuffers; the message names the extra.
    """
    if find_spec("flatbuffers") is None:
        raise ImportError("exporting a policy needs flatbuffers: pip install 'alloc_jax[export]'")
    weights = {name: jnp.asarray(array) for name, array in policy.weights.items()}
    layers = sum(name.startswith("Dense_") for name in weights) // 2
    actions, head = len(policy.actions), policy.head(budget)

    def predict(features):
        x = jnp.clip((features - weights["feature_mean"][None]) / weights["feature_scale"][None], -10, 10)
        read = x = jnp.broadcast_to(x[None], (len(weights["Dense_0/kernel"]), *x.shape))
        for layer in range(layers):
            x = jnp.matmul(x, weights[f"Dense_{layer}/kernel"]) + weights[f"Dense_{layer}/bias"][:, None]
            x = jax.nn.silu(x) if layer < layers - 1 else x
        if "Direct/kernel" in weights:
            x = x.at[..., :actions].add(jnp.matmul(read, weights["Direct/kernel"]))
        x = x.mean(axis=0)
        cost = weights["action_cost"][None] * jnp.exp(x[:, -actions:])
        if head is None:
            return x[:, :actions] * weights["is_gain"][None] + x[:, actions : actions + 1], cost
        return jax.nn.log_softmax(x[:, head * actions : (head + 1) * actions], axis=1), cost

    (rows,) = export.symbolic_shape("n")
    features = jax.ShapeDtypeStruct((rows, len(policy.weights["feature_mean"])), np.float32)
    return bytes(export.export(jax.jit(predict), platforms=("cpu", "cuda", "tpu"))(features).serialize())
