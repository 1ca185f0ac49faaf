"""The oracle in every resample: its multiplier is solved again there, because other questions would have had another one.

A plan that is kept would spend another amount in every resample, although the rule never does: it meets the budget on whatever
questions it is given. What is random is how the plan does on the samples that score it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alloc_jax.evaluate.intervals import Bootstrap
from alloc_jax.solve import frontier
from alloc_jax.types import OutcomeTable


def resolved(
    choose: OutcomeTable, score: OutcomeTable, budgets: Sequence[float], bootstrap: Bootstrap
) -> tuple[np.ndarray, np.ndarray]:
    """What the mixed plans of `choose` at M budgets earn and spend on `score`: two f64[M, 1 + replicates].

    Resampling changes how often a question counts, and no question's best responses: the steps of all questions stay in the same
    order, steepest first, and each resample takes as many of them as its budget pays for. Below the cheapest plan it takes none.
    """
    steps = frontier(choose.problem()).steps
    question, after = steps.moved(slice(None))
    before, at = np.empty_like(after), np.array(steps.start)
    order = np.argsort(question, kind="stable")  # a question's own steps keep their order
    first = np.diff(question[order], prepend=-1) > 0
    before[order] = np.where(first, at[question[order]], np.roll(after[order], 1))

    rows = np.arange(len(choose))
    tables = (choose.cost, score.utility, score.cost)
    start = bootstrap.mean(np.stack([t[rows, at] for t in tables], axis=1).astype(float))  # [1 + replicates, 3]
    moved = np.stack([t[question, after].astype(float) - t[question, before] for t in tables])  # [3, S]
    found = np.empty((2, len(budgets), len(start)))
    total = np.zeros((3, len(question) + 1))
    for r, weight in enumerate(bootstrap.weights):
        np.cumsum(moved * weight[question], axis=1, out=total[:, 1:])
        paid, *gained = total + start[r][:, None]
        found[:, :, r] = [np.interp(budgets, paid, gain) for gain in gained]
    return found[0], found[1]
