"""Learn: a table in, a policy out. Here alone live features, networks and the calibration of the multiplier.

What serving needs (features, policies) is NumPy alone; training loads JAX when it is first used.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
