"""Measure: a sample log in, an `OutcomeTable` out. Here alone live votes, estimators, file formats and units."""

from alloc_jax.measure.costs import RESOURCES, priced
from alloc_jax.measure.gather import LogError
from alloc_jax.measure.grade import Grade, Grader, grade
from alloc_jax.measure.inspect import describe, fitting_menu, format_description, format_table
from alloc_jax.measure.paired import PlanUtility, plan_utility
from alloc_jax.measure.prices import Price, PriceBook
from alloc_jax.measure.read import LogWarning, Reading, read_log, read_logs
from alloc_jax.measure.store import Provenance, load_table, provenance, save_table
from alloc_jax.measure.table import measure, menu, reprice
from alloc_jax.measure.write import write_log

__all__ = [
    "RESOURCES",
    "Grade",
    "Grader",
    "LogError",
    "LogWarning",
    "PlanUtility",
    "Price",
    "PriceBook",
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
    "plan_utility",
    "priced",
    "provenance",
    "read_log",
    "read_logs",
    "reprice",
    "save_table",
    "write_log",
]
