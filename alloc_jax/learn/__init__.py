"""Learn: a table in, a policy out. Here alone live features, networks and the calibration of the price.

What serving needs (features, policies) is NumPy alone; training loads JAX when it is first used.
"""

from alloc_jax.learn.features import TextFeatures
from alloc_jax.learn.policy import Policy, Prediction, Price, load_policy

__all__ = ["Policy", "PolicyConfig", "Prediction", "Price", "TextFeatures", "load_policy", "train"]


def __getattr__(name: str):
    if name in ("PolicyConfig", "train"):
        from alloc_jax.learn import training

        return getattr(training, name)
    raise AttributeError(f"module 'alloc_jax.learn' has no attribute {name!r}")
