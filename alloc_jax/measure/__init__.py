"""Measure: a sample log in, an `OutcomeTable` out. Here alone live votes, estimators, file formats and units."""

from alloc_jax.measure.gather import LogError
from alloc_jax.measure.inspect import describe, format_description
from alloc_jax.measure.read import read_log, write_log
from alloc_jax.measure.table import measure, menu, parse_actions

__all__ = ["LogError", "describe", "format_description", "measure", "menu", "parse_actions", "read_log", "write_log"]
