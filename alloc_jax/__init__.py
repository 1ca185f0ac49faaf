"""alloc_jax decides who gets the compute: test-time compute for reasoning LLMs, allocated under a budget.

    collect -> logs -> measure -> solve -> stopping -> learn -> evaluate -> report -> jobs
                                                    \\-> serve

Names are imported when they are first used, so that serving a policy never loads JAX.
"""

import sys
from importlib import import_module
from types import ModuleType

_HOME = {
    "actions": [
        "Action",
        "abstain",
        "best_of",
        "parse_actions",
        "passes",
        "single",
        "unanimous",
        "vote",
        "weighted_vote",
    ],
    "stopping": [
        "EscalationFrontier",
        "EscalationRule",
        "Prior",
        "Promise",
        "State",
        "StoppingFrontier",
        "StoppingRule",
        "load_escalation",
        "load_stopping",
        "policy_prior",
        "prior_features",
        "solve_escalation",
        "solve_sequential",
        "vote_state",
    ],
    "types": [
        "AllocationProblem",
        "MixedPlan",
        "OutcomeTable",
        "SampleLog",
        "Solution",
        "Source",
        "Status",
    ],
    "price_book": ["PriceBook", "TokenPrice"],
    "measure": [
        "TableBlocks",
        "load_table",
        "measure",
        "menu",
        "plan_utility",
        "reprice",
        "save_table",
    ],
    "logs": ["read_log", "write_log"],
    "solve": ["Frontier", "best_response", "dual_value", "frontier", "solve", "solve_stream"],
    "learn": [
        "Combined",
        "Embedding",
        "Given",
        "Policy",
        "PolicyConfig",
        "TextFeatures",
        "export_policy",
        "load_policy",
        "split_probe",
        "train",
    ],
    "evaluate": ["Report", "evaluate"],
    "serve": ["Allocator", "Decision", "allocator"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str):
    if name not in _MODULE:
        raise AttributeError(f"module 'alloc_jax' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"alloc_jax.{_MODULE[name]}"), name)
    return value


def __dir__():
    return [*globals(), *__all__]


class _Package(ModuleType):
    """The stages `measure`, `solve` and `evaluate` share their names with the functions users call most.

    Importing a stage would bind the module to its name here; the function stays instead.
    """

    def __setattr__(self, name: str, value):
        if not (name in _MODULE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
