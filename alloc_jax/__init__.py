"""alloc_jax decides who gets the compute: test-time compute for reasoning LLMs, allocated under a budget.

    collect -> logs -> measure -> solve -> stopping -> learn -> evaluate -> report -> jobs
                                                    \\-> serve

Names are imported when they are first used, so that serving a policy never loads JAX.
"""

from alloc_jax.exports import exports

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = exports(__name__)
