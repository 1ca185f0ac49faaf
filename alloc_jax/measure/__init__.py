"""Measure: a sample log in, an `OutcomeTable` out. The only place that knows estimators, units and stored tables."""

from importlib import import_module

_LATER = {
    "PlanUtility": "paired",
    "Provenance": "store",
    "RESOURCES": "costs",
    "TableBlocks": "blocks",
    "describe": "description",
    "fitting_menu": "description",
    "format_description": "description",
    "format_table": "description",
    "load_table": "store",
    "measure": "table",
    "menu": "table",
    "plan_utility": "paired",
    "priced": "costs",
    "provenance": "store",
    "reprice": "table",
    "save_table": "store",
}

__all__ = [*_LATER]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"alloc_jax.measure.{_LATER[name]}"), name)
    raise AttributeError(f"module 'alloc_jax.measure' has no attribute {name!r}")
