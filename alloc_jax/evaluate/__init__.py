"""Evaluate: policies, rules and held-out tables in, a report out. Here alone live baselines, intervals, replay and regret."""

from alloc_jax.exports import exports

__getattr__, __dir__, __all__ = exports(__name__)
