"""The built-in reasoner: a small language model that errs, and the samples it gave. No download, no key.

Importing the shipped log needs no model: `builtin_log` reads a file.
"""

from alloc_jax.reasoner.log import builtin_difficulty, builtin_log

__all__ = ["builtin_difficulty", "builtin_log"]
