"""Logs: anybody's files in, a `SampleLog` out. The only place that knows file formats, grading and answer keys.

Grading is what serving needs, too, and loads no JAX; the rest is loaded when it is first used.
"""

from importlib import import_module

from alloc_jax.logs.grade import Grade, Grader, grade

_LATER = {
    "LogError": "records",
    "LogWarning": "read",
    "Reading": "read",
    "read_log": "read",
    "read_logs": "read",
    "write_log": "write",
}

__all__ = ["Grade", "Grader", "grade", *_LATER]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"alloc_jax.logs.{_LATER[name]}"), name)
    raise AttributeError(f"module 'alloc_jax.logs' has no attribute {name!r}")
