"""A sample log with what every step of a job takes: actions, the resource that is paid with, prices. Read once, handed on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alloc_jax.actions import Action, parse_actions, vote
from alloc_jax.evaluate.comparison.cases import Case, make_case, measure_halves, sample_halves
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.jobs.config import LogConfig
from alloc_jax.logs.read import notes_of, read_logs
from alloc_jax.measure import fitting_menu, measure, with_known_costs
from alloc_jax.price_book import PriceBook
from alloc_jax.reasoner import builtin_difficulty
from alloc_jax.types import SAMPLE_FIELDS, OutcomeTable, SampleLog

VOTES = (1, 4, 8, 16)  # 2 is left out: with uniform ties a vote of 2 is as good as 1
PAID = ("compute", "usd", "stated", "tokens", "samples")  # what a log is paid in unasked: the first that it knows
MOST = 0.9  # of the questions: what lacks something on more of them is left out rather than they
LONGEST_MENU = 16


@dataclass(frozen=True, eq=False)
class JobLog:
    """A sample log whose every sample of the actions' sources has a price in the resource."""

    name: str
    log: SampleLog  # of the questions that lack nothing
    actions: tuple[Action, ...]
    resource: str
    prices: PriceBook | None
    generator: np.ndarray | None  # f32[N, D] variables the built-in questions were generated from
    dropped: int = 0  # questions that were left out

    @classmethod
    def read(
        cls,
        path: str | Sequence[str],
        config: LogConfig,
        questions: int = 0,
        reading: Mapping[str, Any] | None = None,
        menu: Callable[[SampleLog], Sequence[Action]] | None = None,
    ) -> JobLog:
        """Read a log and leave out, or refuse, the questions whose costs are not known.

        Args:
          path: of the log or of its files, or `builtin`.
          config: actions (empty: `default_actions`), resource (empty: the first of `PAID` in which most samples have a known cost),
            prices, what to do with what is missing, the seed of the drawn questions.
          questions: at most so many, drawn at random; 0: all.
          reading: options of `read_logs`.
          menu: from the log to its actions, instead of the configuration's.

        Raises:
          ValueError: the log, the actions or the prices; a question without known costs, unless missing is "drop".
        """
        found, generator = read_logs(path, **(reading or {})), builtin_difficulty() if path == "builtin" else None
        log = found.log
        for note in notes_of(found):
            logging.getLogger("alloc_jax").warning("note: %s", note)
        if 0 < questions < len(log):
            rows = np.sort(np.random.default_rng(config.seed).permutation(len(log))[:questions])
            log, generator = log.select(rows), None if generator is None else generator[rows]
        prices = PriceBook.load(config.prices) if config.prices else None
        resource = config.resource or paid_with(log, prices)
        if menu is not None:
            actions = menu(log)
        elif config.actions:
            actions = parse_actions(config.actions)
        else:
            actions = default_actions(log, resource, prices, config.missing)
            if all(action.samples == 1 for action in actions):
                logging.getLogger("alloc_jax").warning(
                    "note: %d samples of a question, of which half score, fill no vote; 8 of each source fill votes of 4",
                    log.count.max(),
                )
        try:
            kept, lacking = with_known_costs(log, actions, resource, prices=prices, missing=config.missing)
        except ValueError as error:
            if config.missing != "error":
                raise
            mended = "--missing=drop leaves such questions out, --resource=samples or another is paid with instead"
            raise ValueError(f"{error}; {mended}") from None
        if lacking:
            logging.getLogger("alloc_jax").warning(
                "%d of %d questions lack a price, token count or latency and are left out, the first of them %r",
                len(lacking), len(log), lacking[0],
            )  # fmt: skip
        return cls(log_name(path), log, tuple(actions), resource, prices, generator).select(np.isin(log.ids, kept.ids))

    def select(self, kept: np.ndarray) -> JobLog:
        """The log of some of its questions, bool[N]; the others count as dropped."""
        generator = None if self.generator is None else self.generator[kept]
        return replace(self, log=self.log.select(kept), generator=generator, dropped=self.dropped + int((~kept).sum()))

    def where_sampled(self, missing: str) -> JobLog:
        """The questions that have samples of the source of every action.

        Raises:
          ValueError: there are others, and missing is not "drop", or there are no such questions.
        """
        sources = [action.source for action in self.actions if action.source is not None]
        sampled = self.log.count[:, [self.log.source_index(source) for source in sources]] > 0
        whole = np.all(sampled, axis=1)
        if whole.all():
            return self
        i = int(np.argmin(whole))
        what = f"{(~whole).sum()} of {len(whole)} questions have no samples of some source, the first of them"
        what = f"{what} {self.log.ids[i]!r} none of {sources[int(np.argmin(sampled[i]))]!r}"
        if missing != "drop" or not whole.any():
            raise ValueError(f"{what}: --missing=drop leaves them out, or --actions takes others")
        logging.getLogger("alloc_jax").warning("%s: they are left out", what)
        return self.select(whole)

    def measure(self, log: SampleLog, shrink: str | None = None) -> OutcomeTable:
        """What the actions earn and cost on a log: this one, or a part of it."""
        return measure(log, self.actions, self.resource, prices=self.prices, shrink=shrink)

    def measure_halves(self, halves: tuple[SampleLog, SampleLog], shrink: str | None = None) -> list[OutcomeTable]:
        """A table to choose on and one to score on, from halves of a log's samples (`cases.measure_halves`)."""
        return measure_halves(halves, self.actions, self.resource, prices=self.prices, shrink=shrink)

    def case(self, budgets: Sequence[float], seed: int) -> Case:
        """The case of this log; what few questions have a single sample are left out, so that samples can be halved.

        Raises:
          ValueError: see `Case`.
        """
        part = replace(self, log=of_sources(self.log, self.actions))
        several = np.all(part.log.count > 1, axis=1)
        if several.mean() > MOST:
            part = part.select(several)
        choose, score = part.measure_halves(sample_halves(part.log, jax.random.key(seed)))
        learn = part.measure(part.log)
        case = make_case(part.name, learn, choose, score, budgets=budgets, generator=part.generator)
        return replace(case, dropped=case.dropped + part.dropped)

    def source_cases(self, seed: int) -> list[Case]:
        """A case for each source that has two actions or more, all of the same questions, at budgets of its own.

        Raises:
          ValueError: see `Case`; or there are no two such sources.
        """
        menus: dict[str, list[Action]] = {}
        for action in self.actions:
            if action.source is not None:
                menus.setdefault(action.source, []).append(action)
        menus = {source: menu for source, menu in menus.items() if len(menu) > 1}
        if len(menus) < 2:
            raise ValueError(f"{self.name}: transfer needs two sources with two actions or more, got {list(menus)}")
        return [replace(self, name=source, actions=tuple(menu)).case((), seed) for source, menu in menus.items()]


def log_name(path: str | Sequence[str]) -> str:
    """What a log is called: `builtin`, or after its first file."""
    if isinstance(path, str):
        return path if path == "builtin" else Path(path).stem
    return log_name(path[0]) + (f" and {len(path) - 1} more" if len(path) > 1 else "")


def of_sources(log: SampleLog, actions: Sequence[Action]) -> SampleLog:
    """The log of those sources alone that actions draw from."""
    at = sorted({log.source_index(action.source) for action in actions if action.source is not None})
    arrays = {name: getattr(log, name) for name in ("count", "answer", "correct", *SAMPLE_FIELDS)}
    arrays = {name: None if a is None else a[:, at] for name, a in arrays.items()}
    return replace(log, sources=tuple(log.sources[m] for m in at), **arrays)


def paid_with(log: SampleLog, prices: PriceBook | None) -> str:
    """The resource of a log unasked: dollars where there is a price book, else the first of `PAID` that most samples state."""
    if prices is not None:
        return "usd"
    shares = {resource: _known_share(log, resource).mean() for resource in PAID}
    return next((resource for resource, share in shares.items() if share > 0.5), "samples")


def _known_share(log: SampleLog, resource: str, prices: PriceBook | None = None) -> np.ndarray:
    """f64[M] on which share of the questions each source was sampled and has known costs."""
    found = []
    for m, source in enumerate(log.sources):
        sampled = log.select(log.count[:, m] > 0)
        try:
            kept, _ = with_known_costs(sampled, [vote(source.name, 1)], resource, prices=prices, missing="drop")
        except ValueError:  # of no question
            found.append(0.0)
        else:
            found.append(len(kept) / len(log))
    return np.array(found)


def default_actions(
    log: SampleLog, resource: str = "samples", prices: PriceBook | None = None, missing: str = "error"
) -> tuple[Action, ...]:
    """Every source with those of the votes 1, 4, 8, 16 that half of every question's samples can fill.

    With missing = "drop", sources are left out (and a warning says so) whose costs are unknown on most questions, or that have one
    sample where others have several: they would cost nearly all questions, or the halves. Of more than 16 actions, only those
    are kept that no mix of others beats.
    """
    if missing == "drop":
        keep = _known_share(log, resource, prices) > MOST
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
    table = table.select(np.flatnonzero(table.valid.all(axis=1)))
    if not len(table):
        return actions
    best = upper_hull(*(part.mean(axis=0, dtype=float) for part in (table.cost, table.utility)))
    return tuple(actions[k] for k in np.sort(best))
