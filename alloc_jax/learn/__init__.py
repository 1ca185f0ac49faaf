"""Learn: a table in, a policy out. Here alone live features, networks and the calibration of the price.

What serving needs (features, policies) is NumPy alone; training loads JAX when it is first used.
"""

from importlib import import_module

from alloc_jax.learn.calibration import Prediction, Price
from alloc_jax.learn.features import TextFeatures
from alloc_jax.learn.inputs import Combined, Embedding, Given, sentence_embedding
from alloc_jax.learn.policy import Policy, load_policy

_LATER = {
    "PolicyConfig": "training",
    "train": "training",
    "export_policy": "export",
    "describe_probe": "probe",
    "split_probe": "probe",
}

__all__ = [
    "Combined",
    "Embedding",
    "Given",
    "Policy",
    "Prediction",
    "Price",
    "TextFeatures",
    "load_policy",
    "sentence_embedding",
    *_LATER,
]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"alloc_jax.learn.{_LATER[name]}"), name)
    raise AttributeError(f"module 'alloc_jax.learn' has no attribute {name!r}")
