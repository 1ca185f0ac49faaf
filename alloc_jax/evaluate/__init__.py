"""Evaluate: policies and held-out tables in, a report out. Here alone live baselines, intervals, regret and pictures."""

from alloc_jax.evaluate.baselines import NearestNeighbours, prompt_length
from alloc_jax.evaluate.evaluation import evaluate
from alloc_jax.evaluate.scoring import Report

__all__ = ["NearestNeighbours", "Report", "evaluate", "prompt_length"]
