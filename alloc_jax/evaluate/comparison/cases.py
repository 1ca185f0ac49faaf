"""A case: one table of questions and actions to compare rules on, with the budgets to compare them at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from alloc_jax.actions import Action
from alloc_jax.evaluate.evaluation import check_tables
from alloc_jax.evaluate.outcomes import check_complete, whole_questions
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.measure import measure
from alloc_jax.price_book import PriceBook
from alloc_jax.types import OutcomeTable, SampleLog


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """Tables of the same questions and actions, and budgets."""

    name: str
    learn: OutcomeTable  # from all samples: what rules learn from, on other questions than they are scored on
    choose: OutcomeTable  # from half of the samples: what oracles choose on
    score: OutcomeTable  # from the other half, to score on; choose itself where samples cannot be halved
    budgets: tuple[float, ...]
    generator: np.ndarray | None = None  # f32[N, D] variables the questions were generated from, where they are known
    dropped: int = 0  # questions left out because an action has no outcome there

    def __post_init__(self):
        if len(self.score.actions) < 2:
            raise ValueError(f"{self.name}: one action, {self.score.actions[0].name}: there is nothing to decide")
        if not len(self.score):
            raise ValueError(f"{self.name}: no question has an outcome of every action")
        if np.ptp(self.learn.utility) == 0:
            raise ValueError(f"{self.name}: every action earns {self.learn.utility.flat[0]:g} on every question")
        if self.learn.ids != self.score.ids or self.learn.actions != self.score.actions:
            raise ValueError(f"{self.name}: learn and score must hold the same questions and actions")
        check_complete(self.learn, self.name)
        try:
            check_tables(self.choose, self.score, self.budgets)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    @property
    def halved(self) -> bool:
        return self.choose is not self.score


def make_case(
    name: str,
    learn: OutcomeTable,
    choose: OutcomeTable,
    score: OutcomeTable,
    budgets: Sequence[float] = (),
    generator: np.ndarray | None = None,
) -> Case:
    """A case of those questions that have an outcome of every action.

    Args:
      name: of the case.
      learn: the table of all samples.
      choose: the table of one half, or of all.
      score: the table of the other half, or `choose` itself.
      budgets: three between the cheapest and the most expensive useful action by default.
      generator: f32[N, D] what the questions were generated from.
    """
    whole = whole_questions(learn, choose, score)
    if not whole.all():
        same = choose is score
        learn, choose = learn.select(whole), choose.select(whole)
        score = choose if same else score.select(whole)
        generator = None if generator is None else generator[whole]
    return Case(
        name=name,
        learn=learn,
        choose=choose,
        score=score,
        budgets=tuple(map(float, budgets)) or default_budgets(learn),
        generator=generator,
        dropped=int((~whole).sum()),
    )


def default_budgets(table: OutcomeTable) -> tuple[float, ...]:
    """Three budgets, to two digits, in equal ratios between the cheapest and the most expensive action of the uniform mix.

    Raises:
      ValueError: the cheapest action is the best one, so no budget buys anything.
    """
    if not len(table):
        return ()
    cost, utility = (part.mean(axis=0, dtype=float) for part in (table.cost, table.utility))
    hull = upper_hull(cost, utility)
    if len(hull) < 2:
        raise ValueError(
            f"no action earns more than the cheapest, {table.actions[hull[0]].name}, so that no budget buys anything: log more"
            " samples of each question, which fill larger votes, or what a sample of each source costs (tokens, dollars, seconds;"
            " --prices for a price book)"
        )
    low, high = cost[hull[0]], cost[hull[-1]]
    return tuple(float(f"{low ** (1 - t) * high**t:.2g}") for t in (0.25, 0.5, 0.75))


def sample_halves(log: SampleLog, key: jax.Array) -> tuple[SampleLog, SampleLog]:
    """Disjoint halves of the samples, to choose on and to score on; the log twice where a question has a single sample."""
    return (log, log) if (log.count == 1).any() else log.split_samples(key)


def measure_halves(
    halves: tuple[SampleLog, SampleLog],
    actions: Sequence[Action],
    resource: str,
    *,
    prices: PriceBook | None = None,
    shrink: str | None = None,
) -> list[OutcomeTable]:
    """A table to choose on (shrunken where that is asked for) and one to score on, of `sample_halves`; one table twice where the samples could
    not be halved."""
    choose, score = halves
    if choose is score:
        return [measure(score, actions, resource, prices=prices)] * 2
    return [
        measure(choose, actions, resource, prices=prices, shrink=shrink),
        measure(score, actions, resource, prices=prices),
    ]


def transferred(case: Case, source: Case) -> OutcomeTable:
    """What a rule learns that saw only another case's outcomes: its utilities at this case's costs, action by action.

    Raises:
      ValueError: the cases differ in their questions or in their numbers of actions.
    """
    if case.learn.ids != source.learn.ids or len(case.learn.actions) != len(source.learn.actions):
        raise ValueError(f"{source.name} and {case.name} differ in questions or in how many actions they have")
    return replace(case.learn, utility=source.learn.utility, utility_se=source.learn.utility_se)
