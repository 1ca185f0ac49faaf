"""Measure: a sample log in, an `OutcomeTable` out. Here alone live votes, estimators, file formats and units."""

from alloc_jax.measure.costs import RESOURCES, priced
from alloc_jax.measure.gather import LogError
from alloc_jax.measure.inspect import describe, format_description
from alloc_jax.measure.paired import PlanUtility, plan_utility
from alloc_jax.measure.prices import Price, PriceBook
from alloc_jax.measure.read import read_log, write_log
from alloc_jax.measure.table import measure, menu, reprice

__all__ = [
    "RESOURCES",
    "LogError",
    "PlanUtility",
    "Price",
    "PriceBook",
    "describe",
    "format_description",
    "measure",
    "menu",
    "plan_utility",
    "priced",
    "read_log",
    "reprice",
    "write_log",
]
