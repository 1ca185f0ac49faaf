"""Stopping: a log and a budget in, rules out: after each sample stop, draw again, or escalate to another source.

Rules as they are served (`rules.py`) are NumPy alone; solving loads JAX when it is first used.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
