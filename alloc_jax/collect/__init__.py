"""Collect: questions and an LLM server in, a journal of samples out. Here alone live sampling, journals and recipes.

`alloc_jax.read_log(journal, grader=...)` reads what was collected.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
