"""The solver: a problem and a budget in; a multiplier, a plan and a bound out."""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
