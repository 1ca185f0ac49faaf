"""The oracle in every resample: its multiplier is solved again there, because other questions would have had another one.

A plan that is kept would spend another amount in every resample, although the rule never does: it meets the budget on whatever
questions it is given. What is random is how the plan does on the samples that score it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.intervals import Bootstrap
from alloc_jax.solve import frontier
from alloc_jax.types import OutcomeTable

SOME = 16  # replicates that are added up at once
REACH = 6.0  # standard errors of a spend within which resamples meet the budget, nearly always


@dataclass(frozen=True, eq=False)
class Window:
    """Some of the steps, and where every question is before the first of them."""

    steps: slice
    before: np.ndarray  # f64[N, 3] cost to choose on, utility and cost that score


def resolved(
    choose: OutcomeTable, score: OutcomeTable, budgets: Sequence[float], bootstrap: Bootstrap
) -> tuple[np.ndarray, np.ndarray]:
    """What the mixed plans of `choose` at M budgets earn and spend on `score`: two f64[M, 1 + replicates].

    Resampling changes how often a question counts, and no question's best responses: the steps of all questions stay in the same
    order, steepest first, and each resample takes as many of them as its budget pays for. Below the cheapest plan it takes none.
    Where that is lies near the step that the sample itself comes to: only steps around it are added up one by one.
    """
    steps = frontier(choose.problem()).steps
    question, after = steps.moved(slice(None))
    before, at = np.empty_like(after), np.array(steps.start)
    order = np.argsort(question, kind="stable")  # a question's own steps keep their order
    first = np.diff(question[order], prepend=-1) > 0
    before[order] = np.where(first, at[question[order]], np.roll(after[order], 1))

    rows, tables = np.arange(len(choose)), (choose.cost, score.utility, score.cost)
    start = np.stack([t[rows, at] for t in tables], axis=1).astype(float)  # [N, 3]
    moved = np.stack([t[question, after].astype(float) - t[question, before] for t in tables])  # [3, S]
    paid = start[:, 0].mean() + np.append(0, np.cumsum(moved[0])) / len(start)  # of the sample

    def window(low: int, high: int) -> Window:
        taken = [np.bincount(question[:low], part[:low], len(start)) for part in moved]
        return Window(slice(low, high), start + np.stack(taken, axis=1))

    def around(budget: float) -> Window:
        at = int(np.searchsorted(paid, budget))
        error = REACH * window(at, at).before[:, 0].std() / np.sqrt(len(start))
        low, high = np.searchsorted(paid, (budget - error, budget + error)).tolist()
        return window(max(low - 1, 0), high + 1)

    def taken(weights: np.ndarray, budget: float, some: Window) -> tuple[np.ndarray, np.ndarray]:
        """Utility and cost f64[2, replicates] at a budget, and whether it is met within the window, bool[replicates]."""
        part = question[some.steps]
        total = np.empty((3, len(weights), len(part) + 1))
        total[:, :, 0] = (weights @ some.before).T
        np.multiply(weights[:, part], moved[:, None, some.steps], out=total[:, :, 1:])
        np.cumsum(total, axis=2, out=total)
        inside = (total[0, :, 0] <= budget) | (some.steps.start == 0)
        inside &= (total[0, :, -1] >= budget) | (some.steps.stop >= len(question))
        met = [
            [np.interp(budget, spent, gain) for spent, gain in zip(total[0], gained, strict=True)]
            for gained in total[1:]
        ]
        return np.array(met), inside

    windows, whole = [around(budget) for budget in budgets], window(0, len(question))
    found = np.empty((2, len(budgets), bootstrap.rows))
    done = 0
    for weights in bootstrap.weights():
        for few in (weights[at : at + SOME] for at in range(0, len(weights), SOME)):
            these = slice(done, done + len(few))
            for b, (budget, some) in enumerate(zip(budgets, windows, strict=True)):
                found[:, b, these], inside = taken(few, budget, some)
                if not inside.all():
                    found[:, b, these][:, ~inside], _ = taken(few[~inside], budget, whole)
            done += len(few)
    return found[0], found[1]
