"""Serve: a policy and a budget in, decisions out. NumPy alone: no JAX is loaded in front of a server.

`alloc serve` is the gateway.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
