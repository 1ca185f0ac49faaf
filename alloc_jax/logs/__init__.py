"""Logs: anybody's files in, a `SampleLog` out. The only place that knows file formats, grading and answer keys.

Grading is what serving needs, too, and loads no JAX; the rest is loaded when it is first used.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
