"""When another epoch of a question is worth its tokens: `EarlyStopping` for Inspect.

    task.early_stopping = VoteEpochs(load_stopping("runs/sequential/policy").at(800.0))    # the answer by vote, within a budget
    task.early_stopping = MeanEpochs(budget=4.0, expected=expected_variance(earlier))     # the benchmark's mean, as exact as it gets

An evaluation asks every question `epochs` times. For a vote, some questions are clear after two; for the benchmark's mean, questions that
are always right, or never, say nothing more. NumPy alone, and Inspect is imported where it is used.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from alloc_jax.stopping.rules import DRAW, StoppingRule, vote_state

_log = logging.getLogger("alloc_jax.serve")
_PRIOR = 4.0  # questions' worth of the overall variance that each group's is mixed with


class EpochStopping:
    """What both goals share: the account of what was asked, and what Inspect calls.

    Args:
      scorer: the scorer whose scores count; None: the only one.
    """

    name = "alloc_jax"

    def __init__(self, scorer: str | None = None):
        self.scorer = scorer
        self.answers: dict[str, list[str | None]] = defaultdict(list)
        self.values: dict[str, list[float]] = defaultdict(list)
        self.admitted: dict[str, int] = defaultdict(int)  # epochs that were let through, finished or not
        self.skipped = 0

    async def start_task(self, task: Any, samples: Sequence[Any], epochs: int) -> str:
        """Inspect: the questions of a run."""
        self.begin([str(sample.id) for sample in samples], epochs)
        return self.name

    async def schedule_sample(self, id: str | int, epoch: int) -> Any:
        """Inspect: an `EarlyStop` where this epoch is not worth its cost, else None."""
        question = str(id)
        if self.worth(question):
            self.admitted[question] += 1
            return None
        from inspect_ai.util import EarlyStop

        self.skipped += 1
        return EarlyStop(id=id, epoch=epoch, reason=f"{self.name}: not worth its cost")

    async def complete_sample(self, id: str | int, epoch: int, scores: Mapping[str, Any]) -> None:
        """Inspect: the scores of an epoch."""
        if not scores:
            return
        if self.scorer is None and len(scores) > 1:
            raise ValueError(f"there are several scorers, {', '.join(scores)}: say which counts")
        score = scores[self.scorer or next(iter(scores))].score
        self.see(str(id), score.answer, _number(score.value))

    async def complete_task(self) -> dict[str, Any]:
        """Inspect: the account."""
        asked = sum(self.admitted.values())
        _log.info("%d epochs asked, %d skipped", asked, self.skipped)
        return {"asked": asked, "skipped": self.skipped}

    def begin(self, questions: Sequence[str], epochs: int) -> None:
        """The questions of a run, and the most epochs of each."""
        self.questions, self.epochs = list(questions), epochs

    def see(self, question: str, answer: str | None, value: float) -> None:
        """What one epoch gave."""
        self.answers[question].append(answer)
        self.values[question].append(value)

    def worth(self, question: str) -> bool:
        """Whether another epoch of a question is worth its cost, given what was seen so far."""
        raise NotImplementedError


class VoteEpochs(EpochStopping):
    """Stops a question once its vote is clear: the budget buys accuracy of the vote, as a server would spend it.

    An epoch is decided on those that are finished; those still being answered count as drawn without a vote, so ask epoch after epoch where
    that matters.

    Args:
      rule: of a `StoppingFrontier` that answers by vote and has no prior, at the budget per question.
      scorer: the scorer whose answers are the votes.

    Raises:
      ValueError: the rule answers otherwise, or needs features of the text.
    """

    name = "alloc_jax: votes"

    def __init__(self, rule: StoppingRule, scorer: str | None = None):
        super().__init__(scorer)
        if rule.frontier.answer != "vote":
            raise ValueError(f"the rules answer by {rule.frontier.answer!r}, and an evaluation by vote")
        if rule.frontier.center.shape[1]:
            raise ValueError("the rules read features of the text, and here there are none: fit them without a prior")
        self.rule = rule

    def worth(self, question: str) -> bool:
        """See `EpochStopping.worth`."""
        given = self.answers[question]
        pending = self.admitted[question] - len(given)
        if self.admitted[question] >= self.rule.frontier.cap:
            return False
        ticket = crc32(question.encode()) / 2**32
        state = vote_state([*given, *[None] * pending], ticket=ticket)
        return self.rule.decide(state) == DRAW


class MeanEpochs(EpochStopping):
    """Spends epochs where they make the benchmark's mean more exact: Neyman's allocation, by what an earlier run or other questions show.

    Another epoch of a question with n of them lowers the variance of the mean by v / (n (n + 1)), v being the variance of one epoch; it is
    worth its cost while that is above the multiplier at which the budget is spent. The variance comes from an earlier run, or else from the
    first epochs of OTHER questions of its group: a question that is left alone because its own first answers agreed would bias the
    mean, by points.

    Args:
      budget: mean epochs per question, at least `least`.
      expected: the variance of one epoch of each question by id, as `expected_variance` of an earlier run says it.
      groups: else, the group of each question by id, such as a subject; what is not in it stands in a group of its own.
      least: epochs of every question; 2 or more without `expected`.
      scorer: the scorer whose values make the mean.

    Raises:
      ValueError: the budget is below `least`, or `least` too small to tell variances.
    """

    name = "alloc_jax: mean"

    def __init__(
        self,
        budget: float,
        expected: Mapping[str, float] | None = None,
        groups: Mapping[str, str] | None = None,
        least: int = 2,
        scorer: str | None = None,
    ):
        super().__init__(scorer)
        fewest = 2 if expected is None else 1
        if least < fewest or budget < least:
            raise ValueError(f"least is {fewest} or more and the budget at least that, got {least} and {budget}")
        self.budget, self.least, self.expected = budget, least, expected
        self.groups = dict(groups or {})
        self.wanted: dict[str, int] = {}  # epochs of each question, once all of them have had the least

    def worth(self, question: str) -> bool:
        """See `EpochStopping.worth`."""
        if self.admitted[question] < self.least:
            return True
        if not self.wanted:
            self.wanted = self.plan()
        return self.admitted[question] < self.wanted[question]

    def plan(self) -> dict[str, int]:
        """How many epochs each question gets.

        Raises:
          ValueError: nothing is expected of a question.
        """
        names = self.questions
        if self.expected is not None:
            if missing := [name for name in names if name not in self.expected]:
                raise ValueError(
                    f"no variance is expected of {len(missing)} questions, the first of them {missing[0]!r}"
                )
            spread = np.array([self.expected[name] for name in names])
        else:
            spread = self._spread(names)
        wanted = neyman_epochs(spread, self.budget, self.least, self.epochs)
        return dict(zip(names, wanted.tolist(), strict=True))

    def _spread(self, names: Sequence[str]) -> np.ndarray:
        """f[N] the variance of one epoch, by the first ones of other questions of the group, and a little by all others."""
        seen = [np.asarray(self.values[name], float) for name in names]
        own = np.array([part.var(ddof=1) if len(part) > 1 else np.nan for part in seen])
        place = {group: j for j, group in enumerate(dict.fromkeys(self.groups.get(name, "") for name in names))}
        group = np.array([place[self.groups.get(name, "")] for name in names])
        known = np.isfinite(own)
        filled = np.where(known, own, 0.0)
        total, count = filled.sum(), known.sum()
        sums, counts = np.bincount(group, filled, len(place)), np.bincount(group, known, len(place))
        others, fewer = total - filled, np.maximum(count - known, 1)  # without the question itself
        return (sums[group] - filled + _PRIOR * others / fewer) / (counts[group] - known + _PRIOR)


def expected_variance(right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """The variance of one more epoch of each question, by the outcomes of an earlier run.

    Its chance of being right has a beta distribution over questions, fitted by moments, so that a question that was right 4 times of 4
    is expected to be wrong at times.

    Args:
      right: outcomes by question, the same number of each, at least 2.

    Raises:
      ValueError: no outcomes, or of different numbers.

    >>> found = expected_variance({"a": [True] * 4, "b": [True, False] * 2, "c": [False] * 4})
    >>> 0 < found["a"] < found["b"] < 0.25
    True
    """
    numbers = {len(given) for given in right.values()}
    if len(numbers) != 1 or numbers <= {0, 1}:
        raise ValueError(f"every question needs the same number of outcomes, 2 or more, got {sorted(numbers)}")
    (n,) = numbers
    hits = np.array([sum(map(bool, given)) for given in right.values()], float)
    mean, spread = hits.mean() / n, hits.var() / n**2
    noise = mean * (1 - mean)
    between = max(spread - noise / n, 1e-6) * n / (n - 1)  # the variance of the chances; that of one outcome is noise
    weight = max(noise / between - 1, 0.05)
    a, b = hits + mean * weight, n - hits + (1 - mean) * weight
    found = a * b / ((a + b) * (a + b + 1))
    return dict(zip(right, found.tolist(), strict=True))


def neyman_epochs(variance: np.ndarray, budget: float, least: int, most: int) -> np.ndarray:
    """How many epochs each question gets so that their mean is as exact as the budget allows.

    Minimises sum_i v_i / n_i with least <= n_i <= most and a mean n of at most the budget: the next epoch goes to whichever question it
    helps most, which is exact because the gains v / (n (n + 1)) fall with n.

    Args:
      variance: f[N] of one epoch.
      budget: mean epochs per question.
      least: epochs of every question.
      most: epochs of any question.

    Returns:
      i64[N].

    >>> neyman_epochs(np.array([0.25, 0.25, 0.0, 0.01]), budget=4, least=2, most=8)
    array([6, 6, 2, 2])
    """
    variance = np.asarray(variance, float)
    n = np.arange(least, most)
    gains = variance[:, None] / (n * (n + 1.0))
    left = int(len(variance) * budget + 1e-9) - least * len(variance)
    order = np.argsort(-gains, axis=None, kind="stable")[: max(left, 0)]
    taken = order[gains.ravel()[order] > 0]
    return least + np.bincount(taken // max(len(n), 1), minlength=len(variance))


def doubling_epochs(variance: np.ndarray, budget: float, most: int) -> np.ndarray:
    """`neyman_epochs` among 1, 2, 4, ..., so that few numbers occur: the next doubling goes where an epoch of it helps most.

    Args:
      variance: f[N] of one epoch.
      budget: mean epochs per question.
      most: epochs of any question.

    Returns:
      i64[N].

    >>> doubling_epochs(np.array([0.25, 0.25, 0.0, 0.01]), budget=3, most=8)
    array([4, 4, 1, 2])
    """
    variance = np.asarray(variance, float)
    n = 2 ** np.arange(max(int(np.log2(most)), 0))  # doubled, they gain v / (2 n) for n more epochs
    gains = variance[:, None] / (2.0 * n**2)
    epochs, left = np.ones(len(variance), int), len(variance) * (budget - 1) + 1e-9
    for question, step in zip(
        *np.unravel_index(np.argsort(-gains, axis=None, kind="stable"), gains.shape), strict=True
    ):
        if n[step] <= left and epochs[question] == n[step] and gains[question, step] > 0:
            epochs[question] *= 2
            left -= n[step]
    return epochs


def _number(value: Any) -> float:
    """A score as a number: Inspect writes right and wrong as C and I, partly right as P, no answer as N."""
    if isinstance(value, str):
        known = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
        if value not in known:
            raise ValueError(f"a score of {value!r} is no number")
        return known[value]
    return float(value)
