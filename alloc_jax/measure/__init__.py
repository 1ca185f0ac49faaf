"""Measure: a sample log in, an `OutcomeTable` out. Here alone live votes, estimators, file formats and units."""

from alloc_jax.measure.gather import LogError
from alloc_jax.measure.grade import Grade, Grader, grade
from alloc_jax.measure.inspect import describe, fitting_menu, format_description, format_table
from alloc_jax.measure.read import LogWarning, Reading, read_log, read_logs
from alloc_jax.measure.store import Provenance, load_table, provenance, save_table
from alloc_jax.measure.table import measure, menu, parse_actions
from alloc_jax.measure.write import write_log

__all__ = [
    "Grade",
    "Grader",
    "LogError",
    "LogWarning",
    "Provenance",
    "Reading",
    "describe",
    "fitting_menu",
    "format_description",
    "format_table",
    "grade",
    "load_table",
    "measure",
    "menu",
    "parse_actions",
    "provenance",
    "read_log",
    "read_logs",
    "save_table",
    "write_log",
]
