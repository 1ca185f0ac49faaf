"""Measure: a sample log in, an `OutcomeTable` out. Here alone live votes, estimators, file formats and units.

Grading is what serving needs, too, and loads no JAX; the rest is loaded when it is first used.
"""

from importlib import import_module

from alloc_jax.measure.grade import Grade, Grader, grade

_LATER = {
    "LogError": "gather",
    "LogWarning": "read",
    "PlanUtility": "paired",
    "Provenance": "store",
    "RESOURCES": "costs",
    "Reading": "read",
    "TableBlocks": "blocks",
    "describe": "inspect",
    "fitting_menu": "inspect",
    "format_description": "inspect",
    "format_table": "inspect",
    "load_table": "store",
    "measure": "table",
    "menu": "table",
    "plan_utility": "paired",
    "priced": "costs",
    "provenance": "store",
    "read_log": "read",
    "read_logs": "read",
    "reprice": "table",
    "save_table": "store",
    "write_log": "write",
}

__all__ = ["Grade", "Grader", "grade", *_LATER]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"alloc_jax.measure.{_LATER[name]}"), name)
    raise AttributeError(f"module 'alloc_jax.measure' has no attribute {name!r}")
