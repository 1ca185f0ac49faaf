"""Measure: a sample log in, an `OutcomeTable` out. The only place that knows estimators, units and stored tables."""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
