"""The built-in reasoner: a small language model that errs, and the samples it gave. No download, no key.

Importing the shipped log needs no model: `builtin_log` reads a file.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
