"""Stopping: a log and a budget in, rules out: after each sample stop, draw again, or escalate to another source.

Rules as they are served (`rules.py`) are NumPy alone; solving loads JAX when it is first used.
"""

from importlib import import_module

_LATER = {
    "EscalationFrontier": "escalation",
    "EscalationRule": "escalation",
    "Prior": "rules",
    "Promise": "escalate",
    "State": "rules",
    "StoppingFrontier": "rules",
    "StoppingRule": "rules",
    "load_escalation": "escalation",
    "load_stopping": "rules",
    "policy_prior": "rules",
    "prior_features": "rules",
    "solve_escalation": "escalate",
    "solve_sequential": "sequential",
    "vote_state": "rules",
}

__all__ = [*_LATER]


def __getattr__(name: str):
    if name in _LATER:
        return getattr(import_module(f"alloc_jax.stopping.{_LATER[name]}"), name)
    raise AttributeError(f"module 'alloc_jax.stopping' has no attribute {name!r}")
