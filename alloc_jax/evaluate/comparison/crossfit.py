"""Cross-fitting: every question is answered for by rules that learned from other questions, so all of them can be scored.

The questions are cut into folds; a rule learns from all folds but one, its multiplier included, and is deployed on that one. Whole
repetitions with other folds and seeds are averaged question by question: what is scored is the mean plan.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from alloc_jax.evaluate.comparison.cases import Case
from alloc_jax.evaluate.evaluation import Deployed, check_budgets, deploy
from alloc_jax.learn.protocols import PolicyLike
from alloc_jax.types import OutcomeTable, inseparable


@dataclass(frozen=True)
class Contender:
    """A rule that learns: what it is called, and how it is made from training questions."""

    name: str
    fit: Callable[[OutcomeTable, int], PolicyLike]  # (training questions, seed) -> policy
    table: OutcomeTable | None = None  # what it learns from; None: the case's own
    sees_labels: bool = False  # whether its features are the very samples that the oracle chooses on


@dataclass(frozen=True, eq=False)
class Part:
    """One fold of one repetition."""

    seed: int
    number: int
    train: np.ndarray  # i64[] positions of the questions that are learned from
    held: np.ndarray  # i64[] positions of the questions that are answered for


def question_folds(table: OutcomeTable, folds: int, seeds: Sequence[int], by_group: bool = False) -> list[Part]:
    """The parts of all repetitions; what belongs together (`inseparable`) is never on both sides.

    Raises:
      ValueError: fewer texts or groups than folds, or questions without a group.
    """
    if folds < 2:
        raise ValueError(f"cross-fitting needs 2 folds or more, got {folds}")
    unit = inseparable(table, by_group)
    count = unit.max() + 1
    if count < folds:
        kind = "groups" if by_group else "questions"
        raise ValueError(f"{folds} folds need as many {kind}, the table has {count}")
    parts = []
    for seed in seeds:
        fold = (np.random.default_rng(seed).permutation(count) % folds)[unit]
        parts += [Part(seed, k, np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    return parts


def cross_fit(
    contenders: Sequence[Contender],
    case: Case,
    budgets: Sequence[float],
    parts: Sequence[Part],
    workers: int = 1,
) -> list[Deployed]:
    """Deploy contenders on every question of a case at each budget, and average over the repetitions.

    Args:
      contenders: with different names.
      case: the questions and what is known of them.
      budgets: mean cost per question.
      parts: from `question_folds`.
      workers: threads; each takes one part at a time.

    Raises:
      ValueError: names repeat, or a contender cannot learn from a part or keep a budget there; the message says which.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ValueError(f"contenders need different names, got {names}")
    for part in parts:
        check_budgets({f"{case.name}, fold {part.number + 1}": case.learn.select(part.train)}, budgets)

    def run(part: Part) -> list[list[Deployed]]:
        held = case.score.select(part.held)
        found = []
        for contender in contenders:
            table = (contender.table or case.learn).select(part.train)
            try:
                found.append(deploy(contender.fit(table, part.seed), held, budgets, part.seed))
            except ValueError as error:
                where = f"{contender.name}, fold {part.number + 1}, seed {part.seed}"
                raise ValueError(f"{case.name}: {where}, {len(part.train)} training questions: {error}") from error
        logging.getLogger("alloc_jax").info("%s: seed %d, fold %d done", case.name, part.seed, part.number + 1)
        return found

    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(run, parts))
    repetitions = len({part.seed for part in parts})
    deployed = []
    for c, contender in enumerate(contenders):
        for b, budget in enumerate(map(float, budgets)):
            plan, multipliers = np.zeros(case.score.utility.shape), []
            for part, found in zip(parts, answers, strict=True):
                plan[part.held] += found[c][b].plan / repetitions
                multipliers.append(found[c][b].multiplier)
            multiplier = None if None in multipliers else float(np.mean(multipliers))
            deployed.append(Deployed(contender.name, budget, plan, multiplier, contender.sees_labels))
    return deployed
