"""Escalation rules as they are served: after each answer stop, or draw the next sample from any source. NumPy alone.

A rule is a multiplier on cost. A question is planned once, when its text is known: what its belief says of all states, and backward
induction over them at the rule's two multipliers. After that every decision is a look-up, and so is the answer: the block of equal answers with the
greatest posterior, which need not be the one with the most votes.

    rule = frontier.at(budget)
    question = rule.start(accuracy, cost, features, ticket=text)   # what the text promises of every source
    while move := rule.decide(question):              # positions of sources; empty: stop
        question = question.after(move, [draw(source) for source in move])
    question.answer, question.posterior
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from alloc_jax.stopping.rules import adjacent, lottery, nearest, utility_at
from alloc_jax.stopping.sources.beliefs import Belief, BeliefTable, Classes, log_odds
from alloc_jax.stopping.sources.evidence import bins_of, count_bins
from alloc_jax.stopping.sources.patterns import Patterns, all_moves, best_moves, likeliest, make_patterns
from alloc_jax.stopping.storage import load_rules, save_rules

FILE = "escalation.npz"
SCHEMA_VERSION = 2
PLANNED = 4000  # states up to which every question is planned on its own; above, cells of like questions share a plan


@dataclass(frozen=True, eq=False, kw_only=True)
class EscalationFrontier:
    """Escalation rules for all budgets (multipliers falling), with each rule's spend and utility on the training questions."""

    answer: str  # vote or verified
    sources: tuple[str, ...]  # M of them
    resource: str
    unit: str
    limits: tuple[int, ...]  # the most samples of each source
    cap: int  # and of all
    blocks: int  # of equal answers that are told apart
    wave: int  # the most samples at a time
    rounds: int | None  # the most moves of a question; None: any number
    myopic: bool  # whether plans look one move ahead alone
    family: str  # of beliefs (a key of `solver_input.BELIEFS`): the simplest whose rules do about as well as the best on training questions
    read: bool  # whether the rules use what a question's text promises; if not, all questions start alike
    multiplier: np.ndarray = field(repr=False)  # f64[L] falling
    spend: np.ndarray = field(repr=False)  # f64[L] rising
    utility: np.ndarray = field(repr=False)  # f64[L]
    net_utility: np.ndarray = field(
        repr=False
    )  # f64[L] what the belief expects of each rule: utility - multiplier * cost
    bound: np.ndarray = field(
        repr=False
    )  # f64[L] upper bound on `net_utility` of any rule, even without the cap on samples
    whittle: float  # share of the states that draw, by their chance, whose best draw is the same at all multipliers
    typical: np.ndarray = field(repr=False)  # f32[M] log-odds of a question of which no text is known
    features: np.ndarray = field(repr=False)  # f32[D] of the mean text
    cost: np.ndarray = field(repr=False)  # f32[M] of a sample
    weight: np.ndarray = field(repr=False)  # of the belief's classes, as in `Classes`
    slope: np.ndarray = field(repr=False)
    level: np.ndarray = field(repr=False)
    effect: np.ndarray = field(repr=False)
    spread: np.ndarray = field(repr=False)
    variant: np.ndarray = field(repr=False)
    bin: np.ndarray = field(repr=False)
    gate: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)  # of what was counted against it, as in `Belief`
    evidence: str | None  # the field of a sample that is looked at beside its answer; None: none
    cuts: np.ndarray = field(repr=False)  # f64[M, C] that make bins of it; NaN where there is no cut
    cell: np.ndarray = field(repr=False)  # f32[G, M] log-odds of cells that share a plan; G = 0: each has its own
    cell_cost: np.ndarray = field(repr=False)  # f32[G, M]
    cell_features: np.ndarray = field(repr=False)  # f32[G, D]
    cell_move: np.ndarray = field(repr=False)  # i8[L, R, G, S]

    @cached_property
    def patterns(self) -> Patterns:
        """The states."""
        return make_patterns(self.limits, self.cap, self.blocks, self.answer == "verified", count_bins(self.cuts))

    @cached_property
    def belief(self) -> Belief:
        """What states say."""
        return Belief(Classes(*(getattr(self, name) for name in Classes._fields)), self.scale)

    @property
    def ahead(self) -> int | None:
        """The moves that a plan looks ahead; None: all that may come."""
        return 1 if self.myopic else self.rounds

    @property
    def moves(self) -> tuple[tuple[int, ...], ...]:
        """What a rule may do: stop, or draw from these sources."""
        return all_moves(len(self.sources), self.wave if self.rounds is not None else 1)

    @cached_property
    def cell_table(self) -> BeliefTable:
        """What the belief says of the cells."""
        return self.belief.table(self.patterns, self.cell, self.cell_features)

    def value(self, budget):
        """The utility at these budgets, on the questions the rules were fitted on; NaN below the cheapest rule."""
        return utility_at(budget, self.spend, self.utility)

    def at(self, budget: float) -> EscalationRule:
        """The mix of two adjacent rules that spends a budget, or the rule that spends most where that spends less.

        Raises:
          ValueError: the budget is below what the cheapest rule spends.
        """
        return EscalationRule(self, float(budget), *adjacent(self.spend, budget))

    def save(self, folder: str | Path) -> None:
        """Write escalation.npz into a folder, that of the policy whose predictions are the prior; whole or not at all."""
        save_rules(self, Path(folder) / FILE, SCHEMA_VERSION)


@dataclass(frozen=True, eq=False)
class EscalationState:
    """One question under way: its state, the answers seen, and its plan. Immutable: `after` gives the next one."""

    patterns: Patterns = field(repr=False)
    move: np.ndarray = field(repr=False)  # i8[R, S]
    best: np.ndarray = field(repr=False)  # i8[S] the block that answers
    right: np.ndarray = field(repr=False)  # f32[S] its posterior
    cuts: np.ndarray = field(repr=False)  # f64[M, C] of the numbers beside the answers
    state: int = 0
    answers: tuple[Hashable, ...] = ()  # of the blocks
    path: tuple[int, ...] = ()  # positions of the sources asked, in order
    rounds: int = 0

    def after(
        self, move: Sequence[int], answers: Sequence[Hashable | None], numbers: Sequence[float] | None = None
    ) -> EscalationState:
        """After a move: the samples of these sources, in this order. None has no vote; of verified questions, it is every
        answer that was not right. The numbers are those of the samples' evidence, for rules that look at any.

        Raises:
          ValueError: a source has given all it may, there are not as many answers as sources, or a number that the rules look at is missing.
        """
        found, state, held = self.patterns, self.state, self.answers
        if isinstance(answers, str) or len(answers) != len(move):
            raise ValueError(f"a move of {len(move)} samples has as many answers in a list, got {answers!r}")
        if not all(m in range(found.sources) for m in move):
            raise ValueError(f"sources are positions from 0 to {found.sources - 1}, got {tuple(move)}")
        numbers = [np.nan] * len(move) if numbers is None else numbers
        for source, answer, number in zip(move, answers, numbers, strict=True):
            if found.bins[source] > 1 and not np.isfinite(number):
                raise ValueError(f"the rules look at a number beside each answer of source {source}; got {number}")
            at = held.index(answer) if answer is not None and answer in held else None
            outcome = found.outcome(
                len(held), at, answer is not None, int(bins_of(np.array(number), self.cuts[source]))
            )
            to = int(found.next[state, source, outcome])
            if to < 0:
                raise ValueError(
                    f"no sample of source {source} may follow {self.path}: it gives {found.limits[source]}, all together {found.cap}"
                )
            known = (*held, *[None] * (found.blocks - len(held)), answer)
            stands = found.order[state, source, outcome][: found.kept[to]]
            state, held = to, tuple(known[b] for b in stands.tolist())
        return replace(self, state=state, answers=held, path=(*self.path, *move), rounds=self.rounds + 1)

    @property
    def answer(self) -> Hashable | None:
        """The answer with the greatest posterior; None where no sample gave one."""
        return self.answers[self.best[self.state]] if self.answers else None

    @property
    def posterior(self) -> float:
        """The chance that it is right."""
        return float(self.right[self.state]) if self.answers else 0.0


@dataclass(frozen=True, eq=False)
class EscalationRule:
    """Two adjacent rules of a frontier and the share of questions that follows each; mixing them spends a budget exactly."""

    frontier: EscalationFrontier = field(repr=False)
    budget: float
    less: int  # position of the rule that spends less
    more: int
    weight: float  # share of the questions that follow the one that spends more

    @property
    def multiplier(self) -> float:
        """The multiplier, in utility per unit of the resource: that of the rule that spends more."""
        return float(self.frontier.multiplier[self.more])

    def start(self, accuracy=None, cost=None, features=None, *, ticket: float | str | None = None) -> EscalationState:
        """A question before its first sample, planned.

        Args:
          accuracy: f[M] in [0, 1] that its text promises of every source; None, or rules that do not read: that of the training
            questions.
          cost: f[M] of a sample of every source; None: the mean.
          features: f[D] of its text, for a belief that was fitted with features; None: an average text.
          ticket: which of the two rules the question follows: its text or id, or a number in [0, 1) that was drawn for it. It may be left out
            where the rule is no mix.

        Raises:
          ValueError: not M numbers, or not finite; a mix without a ticket.
        """
        frontier = self.frontier
        if not frontier.read:
            accuracy = cost = features = None
        promised = frontier.typical if accuracy is None else log_odds(self._checked(accuracy, "accuracy"))
        row = self.more if self._lot(ticket) < self.weight else self.less
        if len(frontier.cell):
            g = int(nearest(promised[None], frontier.cell)[0])
            right, move = frontier.cell_table.right[g], frontier.cell_move[row, :, g]
        else:
            paid = frontier.cost if cost is None else self._checked(cost, "cost")
            table = frontier.belief.table(frontier.patterns, promised[None], self._read(features)[None])
            right = table.right[0]
            move, _ = best_moves(
                right.max(axis=1), table.chance[0], paid, frontier.patterns.next, float(frontier.multiplier[row]),
                frontier.patterns.bounds, frontier.moves, frontier.ahead,
            )  # fmt: skip
        return EscalationState(frontier.patterns, move, likeliest(right), right.max(axis=1), frontier.cuts)

    def decide(self, question: EscalationState) -> tuple[int, ...]:
        """Positions of the sources to draw the next samples from, all at once; empty: stop and answer."""
        rounds = self.frontier.rounds
        if rounds is not None and question.rounds >= rounds:
            return ()
        return self.frontier.moves[question.move[min(question.rounds, len(question.move) - 1), question.state]]

    def _lot(self, ticket: float | str | None) -> float:
        if isinstance(ticket, str):
            return float(lottery([ticket])[0])
        if ticket is None and 0 < self.weight < 1:
            raise ValueError(
                "the rule mixes two to spend its budget: a ticket says which of them a question follows, such as its text"
            )
        ticket = 0.0 if ticket is None else ticket
        if not 0 <= ticket < 1:
            raise ValueError(f"a ticket is a text, or a number in [0, 1), got {ticket}")
        return ticket

    def _read(self, features) -> np.ndarray:
        width = len(self.frontier.gate) - 1
        if features is None or not width:
            return self.frontier.features
        features = np.asarray(features, np.float32)
        if features.shape != (width,) or not np.isfinite(features).all():
            raise ValueError(
                f"features are {width} finite numbers, as the belief was fitted with; got shape {features.shape}"
            )
        return features

    def _checked(self, values, name: str) -> np.ndarray:
        values, count = np.asarray(values, np.float32), len(self.frontier.sources)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise ValueError(f"{name} is {count} finite numbers, one for each of {self.frontier.sources}; got {values}")
        return values


def load_escalation(folder: str | Path) -> EscalationFrontier:
    """The rules in a folder that `EscalationFrontier.save` wrote.

    Raises:
      ValueError: there are none, they are damaged, or of another schema version.
    """
    return load_rules(EscalationFrontier, Path(folder) / FILE, SCHEMA_VERSION, "escalation")
