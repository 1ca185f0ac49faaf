"""A case: one table of questions and actions to compare rules on, with the budgets to compare them at."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from alloc_jax.actions import Action, parse_actions, vote
from alloc_jax.evaluate.evaluation import check_tables
from alloc_jax.evaluate.outcomes import check_complete, whole_questions
from alloc_jax.evaluate.uniform import upper_hull
from alloc_jax.logs import read_log
from alloc_jax.measure import fitting_menu, measure, priced
from alloc_jax.price_book import PriceBook
from alloc_jax.reasoner import builtin_difficulty
from alloc_jax.types import SAMPLE_FIELDS, OutcomeTable, SampleLog

VOTES = (1, 4, 8, 16)  # 2 is left out: with uniform ties a vote of 2 is as good as 1
PAID = ("compute", "usd", "stated", "tokens", "samples")  # what a log is paid in unasked: the first that it knows
MOST = 0.9  # of the questions: what lacks something on more of them is left out rather than they
LONGEST_MENU = 16


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


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How a sample log becomes cases."""

    actions: str = ""  # names; empty: what `default_actions` finds
    resource: str = ""  # empty: the first of `PAID` in which most of the samples can be priced
    prices: str = ""  # path of a price book, behind the resource `usd`
    missing: str = "error"  # or "drop": leave out what lacks a price, token count or latency
    budgets: tuple[float, ...] = ()  # empty: three between the cheapest and the dearest action of the uniform mix
    questions: int = 0  # at most so many, drawn at random; 0: all
    seed: int = 0  # of the drawn questions and of the halves of the samples


def read_case(path: str, config: LogConfig) -> Case:
    """The case of a sample log (its path, or `builtin`).

    Raises:
      ValueError: anything is wrong with the log, the actions or the budgets.
    """
    log = _Log.read(path, config)
    return log.case(_name(path), log.actions)


def source_cases(path: str, config: LogConfig) -> list[Case]:
    """A case for each source of a sample log that has two actions or more, all of the same questions; no budgets are taken over.

    Raises:
      ValueError: as `read_case`, or there are no two such sources.
    """
    log = _Log.read(path, replace(config, budgets=()))
    menus: dict[str, list[Action]] = {}
    for action in log.actions:
        if action.source is not None:
            menus.setdefault(action.source, []).append(action)
    menus = {source: menu for source, menu in menus.items() if len(menu) > 1}
    if len(menus) < 2:
        raise ValueError(f"{_name(path)}: transfer needs two sources with two actions or more, got {list(menus)}")
    return [log.case(source, menu) for source, menu in menus.items()]


def _name(path: str) -> str:
    return path if path == "builtin" else Path(path).stem


@dataclass(frozen=True, eq=False)
class _Log:
    """A log that was read for its cases: what is paid with, which actions, which of its questions can be priced."""

    log: SampleLog
    config: LogConfig
    resource: str
    prices: PriceBook | None
    actions: tuple[Action, ...]
    generator: np.ndarray | None  # what the questions were generated from, where it is the built-in log
    dropped: int  # questions left out already

    @classmethod
    def read(cls, path: str, config: LogConfig) -> _Log:
        log, generator = read_log(path), builtin_difficulty() if path == "builtin" else None
        if 0 < config.questions < len(log):
            rows = np.sort(np.random.default_rng(config.seed).permutation(len(log))[: config.questions])
            log, generator = log.select(rows), None if generator is None else generator[rows]
        prices = PriceBook.load(config.prices) if config.prices else None
        resource = config.resource or _paid_with(log, prices)
        if config.actions:
            actions = parse_actions(config.actions)
        else:
            actions = default_actions(log, resource, prices, config.missing)
        whole, left_out = priced(log, actions, resource, prices=prices, missing=config.missing)
        kept = np.isin(log.ids, whole.ids)
        return cls(
            whole, config, resource, prices, actions, None if generator is None else generator[kept], len(left_out)
        )

    def case(self, name: str, actions: Sequence[Action]) -> Case:
        log, generator, dropped = of_sources(self.log, actions), self.generator, self.dropped
        several = (log.count > 1).all(axis=1)
        if several.mean() > MOST:  # halves to choose on and to score on are worth the few questions without
            dropped += int((~several).sum())
            log, generator = log.select(several), None if generator is None else generator[several]
        learn = measure(log, actions, self.resource, prices=self.prices)
        halves = measure_halves(log, actions, self.resource, jax.random.key(self.config.seed), prices=self.prices)
        case = make_case(name, learn, *halves, budgets=self.config.budgets, generator=generator)
        return replace(case, dropped=case.dropped + dropped)


def of_sources(log: SampleLog, actions: Sequence[Action]) -> SampleLog:
    """The log of those sources alone that actions draw from."""
    at = sorted({log.source_index(action.source) for action in actions if action.source is not None})
    arrays = {name: getattr(log, name) for name in ("count", "answer", "correct", *SAMPLE_FIELDS)}
    arrays = {name: None if a is None else a[:, at] for name, a in arrays.items()}
    return replace(log, sources=tuple(log.sources[m] for m in at), **arrays)


def _paid_with(log: SampleLog, prices: PriceBook | None) -> str:
    if prices is not None:
        return "usd"
    shares = {resource: _priced_share(log, resource).mean() for resource in PAID}
    return next(resource for resource, share in shares.items() if share > 0.5)


def _priced_share(log: SampleLog, resource: str, prices: PriceBook | None = None) -> np.ndarray:
    """f64[M] on which share of the questions each source was sampled and can be priced."""
    found = []
    for m, source in enumerate(log.sources):
        sampled = log.select(log.count[:, m] > 0)
        try:
            kept, _ = priced(sampled, [vote(source.name, 1)], resource, prices=prices, missing="drop")
        except ValueError:  # of no question
            found.append(0.0)
        else:
            found.append(len(kept) / len(log))
    return np.array(found)


def default_actions(
    log: SampleLog, resource: str = "samples", prices: PriceBook | None = None, missing: str = "error"
) -> tuple[Action, ...]:
    """Every source with those of the votes 1, 4, 8, 16 that half of every question's samples can fill.

    With missing = "drop", sources are left out (and a warning says so) that cannot be priced on most questions, or that have one
    sample where others have several: they would cost nearly all questions, or the halves. Of more than 16 actions, only those
    are kept that no mix of others beats.
    """
    if missing == "drop":
        keep = _priced_share(log, resource, prices) > MOST
        several = (log.count > 1).mean(axis=0) > MOST
        keep &= several | ~(several & keep).any()
        if not keep.all():
            left_out = ", ".join(source.name for source, kept in zip(log.sources, keep, strict=True) if not kept)
            logging.getLogger("alloc_jax").warning("left out for want of a price or of samples: %s", left_out)
        if keep.any():
            log = of_sources(log, [vote(log.sources[m].name, 1) for m in np.flatnonzero(keep)])
    actions = fitting_menu(log, VOTES, halved=True)
    if len(actions) <= LONGEST_MENU:
        return actions
    table = measure(log, actions, resource, prices=prices, missing=missing)
    table = table.select(table.valid.all(axis=1))
    if not len(table):
        return actions
    best = upper_hull(*(part.mean(axis=0, dtype=float) for part in (table.cost, table.utility)))
    return tuple(actions[k] for k in np.sort(best))


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
      budgets: three between the cheapest and the dearest useful action by default.
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
    """Three budgets, to two digits, in equal ratios between the cheapest and the dearest action of the uniform mix.

    Raises:
      ValueError: the cheapest action is the best one, so no budget buys anything.
    """
    if not len(table):
        return ()
    cost, utility = (part.mean(axis=0, dtype=float) for part in (table.cost, table.utility))
    hull = upper_hull(cost, utility)
    if len(hull) < 2:
        raise ValueError(f"no action earns more than the cheapest, {table.actions[hull[0]].name}: state budgets")
    low, high = cost[hull[0]], cost[hull[-1]]
    return tuple(float(f"{low ** (1 - t) * high**t:.2g}") for t in (0.25, 0.5, 0.75))


def measure_halves(
    log: SampleLog,
    actions: Sequence[Action],
    resource: str,
    key: jax.Array,
    *,
    prices: PriceBook | None = None,
    shrink: str | None = None,
) -> list[OutcomeTable]:
    """A table to choose on (shrunken where that is asked for) and one to score on, from disjoint halves of the samples; one table
    twice where a question has a single sample."""
    if (log.count == 1).any():
        return [measure(log, actions, resource, prices=prices)] * 2
    choose, score = log.split_samples(key)
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
