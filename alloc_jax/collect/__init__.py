"""Collect: questions and an LLM server in, a journal of samples out. Here alone live HTTP and retries.

`alloc_jax.read_log(journal, grader=...)` reads what was collected.
"""

from importlib import import_module

from alloc_jax.collect.recipes import Recipe, load_recipes, parse_recipes

# Serving shares the recipes, and loads no more than it needs.
_LATER = {
    "Account": "collector",
    "CollectConfig": "collector",
    "Question": "questions",
    "collect": "collector",
    "read_questions": "questions",
    "suspicions": "doubts",
}

__all__ = ["Recipe", "load_recipes", "parse_recipes", *_LATER]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"alloc_jax.collect.{_LATER[name]}"), name)
    raise AttributeError(f"module 'alloc_jax.collect' has no attribute {name!r}")
