"""Replay: what a stopping rule would have done on logged samples, in many orders, seeing only what it had drawn.

A rule is any function from paths to an index f[N, P, T], of which position n is read from the first n samples; it draws sample n + 1
at multiplier l while the index has been at least l. Every question is walked through in the same orders by every rule, so that differences
are paired, and the mean over orders drawn without replacement tends to the exact expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.stopping.paths import Paths
from alloc_jax.stopping.rules import StoppingFrontier, StoppingRule, adjacent
from alloc_jax.stopping.states import Lattice
from alloc_jax.stopping.thresholds import IndexRules, bars, index_rules, path_index

Rule = Callable[[Paths], np.ndarray]
PROBED = 64  # questions on which a rule is watched for looking ahead


@dataclass(frozen=True, eq=False)
class Replay:
    """A rule on paths: when each sample would be drawn."""

    paths: Paths
    bar: np.ndarray  # f[N, P, T] the highest multiplier at which a path draws sample n + 1

    def rules(self) -> IndexRules:
        """What every multiplier spends and earns."""
        return index_rules(self.bar, self.paths)

    def outcome(self, multiplier: float) -> Outcome:
        """Every question's mean utility and cost where samples of at least this bar are drawn."""
        drawn = self.bar >= multiplier
        cap = self.bar.shape[2]
        return Outcome(
            *(
                (drawn * x[..., :cap]).sum(axis=2, dtype=float).mean(axis=1)
                for x in (np.diff(self.paths.utility), self.paths.cost)
            )
        )

    def mixed(self, less: float, more: float, weight: float) -> Outcome:
        """The outcome where a share of the questions, drawn at random, follows the rule of multiplier `more`."""
        return mixed(self.outcome(less), self.outcome(more), weight)

    def at(self, budget: float, found: IndexRules | None = None) -> Outcome:
        """The outcome of the mix that spends a budget on these paths, or of the one that did on others.

        Args:
          budget: mean cost per question.
          found: the steps of the same rule on training questions.
        """
        found = found or self.rules()
        less, more, weight = adjacent(found.spend, budget)
        return self.mixed(found.multiplier[less], found.multiplier[more], weight)


def mixed(less: Outcome, more: Outcome, weight: float) -> Outcome:
    """A mix of two outcomes, question by question."""
    utility, cost = ((1 - weight) * a + weight * b for a, b in ((less.utility, more.utility), (less.cost, more.cost)))
    return Outcome(utility, cost)


def replay(rule: Rule, paths: Paths) -> Replay:
    """A rule on paths.

    Raises:
      ValueError: the rule peeks: its index of some state changes with samples that are drawn later.
    """
    index = rule(paths)
    _refuse_to_peek(rule, paths)
    return Replay(paths, bars(index))


def replay_frontier(frontier: StoppingFrontier, paths: Paths, context: np.ndarray, source: int = 0) -> Replay:
    """The rules of a frontier on paths of one of its sources.

    Args:
      frontier: the rules.
      paths: with at least as many samples as the rules draw.
      context: i64[N] from `frontier.contexts`.
      source: position among the frontier's sources.

    Raises:
      ValueError: the paths are shorter than the rules' cap, or answer otherwise.
    """
    if paths.cap < frontier.cap or paths.answer != frontier.answer:
        raise ValueError(
            f"rules that draw up to {frontier.cap} samples and answer by {frontier.answer} cannot be replayed on paths of "
            f"{paths.cap} samples that answer by {paths.answer}"
        )
    lattice = Lattice.of(frontier.answer, frontier.cap, len(frontier.bins))
    return Replay(paths, bars(path_index(frontier.index[source], lattice, paths, context)))


def replay_rule(rule: StoppingRule, played: Sequence[Replay], context: np.ndarray) -> Outcome:
    """What a rule for a budget earns and spends on every question.

    Args:
      rule: of a frontier.
      played: from `replay_frontier`, for each of its sources.
      context: i64[N] of the questions, which say from which source their samples come.
    """

    def at(position: int) -> Outcome:
        each = [play.outcome(float(rule.frontier.multiplier[position])) for play in played]
        chosen, rows = rule.frontier.choice[position][context], np.arange(len(context))
        return Outcome(*(np.stack([getattr(o, name) for o in each])[chosen, rows] for name in ("utility", "cost")))

    return mixed(at(rule.less), at(rule.more), rule.weight)


def _refuse_to_peek(rule: Rule, paths: Paths) -> None:
    """Give some questions another future and ask again: what is known by then must be judged as before."""
    some = paths.select(np.arange(min(len(paths), PROBED)))
    rng = np.random.default_rng(0)
    cut = rng.integers(0, some.cap + 1, some.lead.shape[:2])[..., None]

    def spliced(x: np.ndarray, later: np.ndarray) -> np.ndarray:
        other = np.roll(np.roll(x, 1, axis=1), 1, axis=0)[..., ::-1]
        return np.where(later, other, x)

    known, next_ = np.arange(some.cap + 1), np.arange(some.cap)
    names = ("lead", "chase", "distinct", "utility")
    changed: dict[str, Any] = {name: spliced(getattr(some, name), known > cut) for name in names}
    changed |= {name: spliced(getattr(some, name), next_ >= cut) for name in ("cost", "code")}
    before, after = rule(some), rule(replace(some, **changed))
    seen = known[: before.shape[2]] <= cut
    if (np.where(seen, before, 0) != np.where(seen, after, 0)).any():
        i, _, n = np.argwhere(np.where(seen, before, 0) != np.where(seen, after, 0))[0]
        raise ValueError(f"the rule peeks: after {n} samples of question {some.ids[i]!r} it depends on later ones")
