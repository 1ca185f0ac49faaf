"""What a rule did and what came of it, question by question.

A rule's plan is a distribution over the actions of each question, so that a mix and a choice are scored alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alloc_jax.types import OutcomeTable


@dataclass(frozen=True, eq=False)
class Outcome:
    """A rule's result on N questions."""

    utility: np.ndarray  # f64[N] expected utility of what the rule did on each question
    cost: np.ndarray  # f64[N] its expected cost
    samples: Mapping[str, np.ndarray] | None = (
        None  # f64[N] expected samples from each source, where a rule drew one by one
    )

    @classmethod
    def of(cls, plan: np.ndarray, table: OutcomeTable) -> Outcome:
        """The outcome of a plan f64[N, K] on a table.

        Raises:
          ValueError: the plan takes an action where it has no samples, and so no outcome.
        """
        unknown = (plan > 0) & ~table.valid
        if unknown.any():
            i, k = np.argwhere(unknown)[0]
            raise ValueError(
                f"the plan takes {table.actions[k].name} on question {table.ids[i]!r}, which has no samples of it"
            )
        return cls(*(np.einsum("nk,nk->n", plan, part, dtype=float) for part in (table.utility, table.cost)))


@dataclass(frozen=True, eq=False)
class Means:
    """What a rule earns and spends on average, in the sample and in every resample."""

    utility: np.ndarray  # f64[1 + replicates]
    spend: np.ndarray  # f64[1 + replicates]


def one_hot_plan(action: np.ndarray, actions: int) -> np.ndarray:
    """Actions i32[N] as a plan bool[N, K]: all of the chance on one action, in an eighth of the memory.

    >>> one_hot_plan(np.array([1, 0]), 2)
    array([[False,  True],
           [ True, False]])
    """
    return np.eye(actions, dtype=bool)[action]


def whole_questions(*tables: OutcomeTable) -> np.ndarray:
    """bool[N] the questions that have an outcome of every action in all of the tables."""
    return np.all([table.valid.all(axis=1) for table in tables], axis=0)


def check_complete(table: OutcomeTable, what: str) -> None:
    """Refuse a table in which a question has no outcome of some action: an average would count it as free and wrong.

    Raises:
      ValueError: names the first question and action, and how many questions there are.
    """
    whole = whole_questions(table)
    if not whole.all():
        i, k = np.argwhere(~table.valid)[0]
        raise ValueError(
            f"{what}: question {table.ids[i]!r} has no samples for {table.actions[k].name} ({(~whole).sum()} of"
            f" {len(table)} questions lack an action): leave such questions out, or take other actions"
        )
