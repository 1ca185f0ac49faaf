"""The types that the stages hand to each other, and nothing else.

Host types (`SampleLog`, `OutcomeTable`) hold NumPy arrays and text. Device types (`AllocationProblem`, `Solution`,
`Frontier`) are pytrees of JAX arrays. Axis letters: N questions, K actions, S samples, M sources, R resources.
"""

from __future__ import annotations

import enum
import operator
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alloc_jax.actions import Action
from alloc_jax.display import Shown, Tabular, brief, span

Array = jax.Array | np.ndarray  # JAX's functions take either


@dataclass(frozen=True)
class Source:
    """What samples come from: a model with its prompt and mode."""

    name: str
    parameters: float | None = None  # the model's parameter count; None where unknown
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)  # whatever else the log says of it


# ---------------------------------------------------------------------------------------------------------------
# The sample log
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ComputeUnit:
    """What one unit of the resource `compute` is, so that every table of one log counts in the same unit."""

    size: float  # tokens x parameters
    name: str  # "mean large/think samples"


SAMPLE_FIELDS = (
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "latency_s",
    "usd",
    "reward",
)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SampleLog(Shown):
    """What an LLM did: for every question and source, the samples that were drawn.

    The samples of a (question, source) pair fill its first `count` slots of the S axis; what lies behind is padding.
    Answers are codes into the question's own list `answers[i]`, so that a vote is a count of codes.
    """

    ids: tuple[str, ...]  # [N] unique
    question: tuple[str, ...]  # [N] the text
    gold: tuple[str | None, ...]  # [N] the reference answer
    group: tuple[str | None, ...]  # [N] a subject, a difficulty class, a tenant
    sources: tuple[Source, ...]  # [M]
    answers: tuple[tuple[str, ...], ...]  # [N] the distinct answers seen on each question, over all sources
    count: np.ndarray  # i32[N, M] samples logged; 0 where the pair is absent
    answer: np.ndarray  # i32[N, M, S] index into answers[i]; -1 where a sample has no answer, and in the padding
    correct: np.ndarray  # bool[N, M, S] False in the padding
    prompt_tokens: np.ndarray | None = None  # f32[N, M, S] NaN where unknown; None where no sample has it
    cached_tokens: np.ndarray | None = None  # f32[N, M, S] prompt tokens that came from a cache; part of prompt_tokens
    cache_write_tokens: np.ndarray | None = None  # f32[N, M, S] prompt tokens written to a cache; another part of them
    completion_tokens: np.ndarray | None = None  # f32[N, M, S]
    reasoning_tokens: np.ndarray | None = None  # f32[N, M, S] part of completion_tokens
    latency_s: np.ndarray | None = None  # f32[N, M, S]
    usd: np.ndarray | None = None  # f32[N, M, S] what the sample cost in dollars, where the log itself states it
    reward: np.ndarray | None = None  # f32[N, M, S]
    compute_unit: ComputeUnit | None = None  # set when a log is made, carried by select and split; None if unknown

    def __post_init__(self):
        # Set once, on the whole log: parts of a log that each normalised by their own mean would not share a budget.
        if self.compute_unit is None:
            object.__setattr__(self, "compute_unit", self._dearest_sample())

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self) -> dict[str, str]:
        samples = int(self.count.sum())
        known = [name for name in SAMPLE_FIELDS if getattr(self, name) is not None]
        return {
            "questions": str(len(self)),
            "sources": brief(tuple(source.name for source in self.sources)),
            "samples": str(samples),
            "accuracy": brief(self.correct.sum() / samples) if samples else "None",
            "known": brief(known),
        }

    @property
    def tokens(self) -> np.ndarray | None:
        """f32[N, M, S] prompt + completion tokens of a sample; the prompt counts where the log has it.

        Completion tokens include the reasoning tokens, as in the usage that OpenAI-compatible servers report.
        """
        if self.completion_tokens is None or self.prompt_tokens is None:
            return self.completion_tokens
        return self.prompt_tokens + self.completion_tokens

    def _dearest_sample(self) -> ComputeUnit | None:
        """One mean sample of the source that spends the most tokens x parameters; None where nothing is known."""
        tokens = self.tokens
        if tokens is None:
            return None
        known = self.sampled & np.isfinite(tokens)
        total = np.where(known, tokens, 0).sum(axis=(0, 2), dtype=np.float64)
        means = total / np.maximum(known.sum(axis=(0, 2)), 1)
        sizes = [mean * (source.parameters or 0.0) for mean, source in zip(means, self.sources, strict=True)]
        dearest = int(np.argmax(sizes)) if sizes else 0
        if not sizes or sizes[dearest] <= 0:
            return None
        return ComputeUnit(float(sizes[dearest]), f"mean {self.sources[dearest].name} samples")

    @property
    def sampled(self) -> np.ndarray:
        """bool[N, M, S] where a slot holds a sample."""
        return np.arange(self.correct.shape[2]) < self.count[:, :, None]

    def source_index(self, name: str) -> int:
        """The position of a source on axis M.

        Raises:
          ValueError: the log has no such source; the message lists those it has.
        """
        names = [source.name for source in self.sources]
        if name not in names:
            raise ValueError(f"unknown source {name!r}; the log has {', '.join(map(repr, names))}")
        return names.index(name)

    def select(self, rows: Sequence[int] | np.ndarray) -> SampleLog:
        """The log of the questions at these positions, in this order."""
        rows = _as_rows(rows)
        text = ("ids", "question", "gold", "group", "answers")
        pick: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in rows) for name in text}
        arrays = {name: getattr(self, name) for name in ("count", "answer", "correct", *SAMPLE_FIELDS)}
        return replace(self, **pick, **{name: a if a is None else a[rows] for name, a in arrays.items()})

    def split_questions(
        self, fractions: Sequence[float], key: jax.Array | int, *, by_group: bool = False
    ) -> tuple[SampleLog, ...]:
        """Logs over disjoint sets of questions, drawn at random in the given shares (which sum to at most 1).

        Questions of the same text are never on two sides: what is learned of one would be known of the other. The shares are
        then kept as nearly as such questions allow.

        Args:
          fractions: the share of the questions each log gets.
          key: a `jax.random.key`, or an integer seed.
          by_group: whether the questions of a group stay together, too: a document, a template, a tenant. Not by default,
            because a group may be a class (a subject, a difficulty), and then every class is wanted on both sides.

        Raises:
          ValueError: shares that are none, a share that gets no question, or questions without a group to be split by.
        """
        if min(fractions) <= 0 or sum(fractions) > 1 + 1e-6:
            raise ValueError(f"fractions are positive and sum to at most 1, got {tuple(fractions)}")
        unit = inseparable(self, by_group)
        order = np.asarray(jax.random.permutation(_as_key(key), int(unit.max()) + 1))
        sizes = np.cumsum(np.bincount(unit)[order])
        start, parts = 0, []
        for fraction, end in zip(fractions, np.cumsum(fractions) * len(self), strict=True):
            stop = int(np.argmin(np.abs(np.append(0, sizes) - np.rint(end))))
            if stop <= start:
                alike = "" if len(order) == len(self) else f", of which {len(order)} can be told apart,"
                raise ValueError(f"a share of {fraction} of {len(self)} questions{alike} is empty")
            parts.append(self.select(np.flatnonzero(np.isin(unit, order[start:stop]))))
            start = stop
        return tuple(parts)

    def split_samples(self, key: jax.Array | int) -> tuple[SampleLog, SampleLog]:
        """Two logs of the same questions, each with a random half of every pair's samples (the first gets the odd one).

        Choose on one, score on the other: a plan chosen and scored on the same samples flatters itself.

        Raises:
          ValueError: a pair has a single sample, which cannot be halved.
        """
        single = np.argwhere(self.count == 1)
        if single.size:
            i, m = single[0]
            raise ValueError(
                f"question {self.ids[i]!r} has one sample of {self.sources[m].name!r}, which has no halves"
            )
        shuffle = np.asarray(jax.random.uniform(_as_key(key), self.correct.shape))
        order = np.argsort(np.where(self.sampled, shuffle, 2.0), axis=2)  # padding last
        first = (self.count + 1) // 2
        slots = np.arange(-(-self.correct.shape[2] // 2))
        parts = []
        for start, count in ((np.zeros_like(first), first), (first, self.count - first)):
            at = np.minimum(start[:, :, None] + slots, self.correct.shape[2] - 1)
            take = np.take_along_axis(order, at, axis=2)
            real = slots < count[:, :, None]
            arrays: dict[str, Any] = {"answer": np.where(real, np.take_along_axis(self.answer, take, 2), -1)}
            arrays["correct"] = real & np.take_along_axis(self.correct, take, 2)
            for name in SAMPLE_FIELDS:
                if (values := getattr(self, name)) is not None:
                    arrays[name] = np.where(real, np.take_along_axis(values, take, 2), np.nan).astype(np.float32)
            parts.append(replace(self, count=count, **arrays))
        return parts[0], parts[1]


def inseparable(questions: SampleLog | OutcomeTable, by_group: bool = False) -> np.ndarray:
    """i64[N] numbers of the sets of questions that no split may part, from 0 in the order in which they first occur.

    Questions of the same text belong together, whatever its case, spaces and way of writing a character (NFKC); with
    `by_group`, those of the same group do, and so do groups that share a text.

    Raises:
      ValueError: `by_group`, and a question has no group.
    """
    labels = [[" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in questions.question]]
    if by_group:
        if None in questions.group:
            name = questions.ids[questions.group.index(None)]
            raise ValueError(f"question {name!r} has no group to be split by")
        labels.append(list(questions.group))
    codes = [np.unique(np.array(names), return_inverse=True)[1] for names in labels]
    unit, before = np.arange(len(questions)), None
    while not np.array_equal(unit, before):  # each takes the least number of those it belongs with, until nothing moves
        before = unit
        for code in codes:
            least = np.full(len(questions), len(questions))
            np.minimum.at(least, code, unit)
            unit = least[code]
    return np.unique(unit, return_inverse=True)[1]


def _as_rows(rows: Sequence[int] | np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=None if len(rows) else np.int64)
    return np.flatnonzero(rows) if rows.dtype == bool else rows


def _as_key(key: jax.Array | int) -> jax.Array:
    try:
        return jax.random.key(operator.index(key))  # NumPy integers are integers, too
    except TypeError:
        return key  # type: ignore[return-value]  # no integer, so a key


# ---------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OutcomeTable(Tabular):
    """Utility and cost of every action on every question, with their standard errors."""

    ids: tuple[str, ...]  # [N]
    question: tuple[str, ...]  # [N]
    group: tuple[str | None, ...]  # [N]
    actions: tuple[Action, ...]  # [K]
    resources: tuple[str, ...]  # [R]
    units: tuple[str, ...]  # [R] what one unit of each resource is
    utility: np.ndarray  # f32[N, K] expected accuracy; 0 where not valid
    utility_se: np.ndarray  # f32[N, K] its standard error, by the samples, NaN with one; shrunken: posterior deviation
    cost: np.ndarray  # f32[N, K], or f32[N, K, R] with several resources; 0 where not valid
    cost_se: np.ndarray  # like cost
    valid: np.ndarray  # bool[N, K] False where the log has no samples for the action on the question
    successes: np.ndarray  # i32[N, K] right samples of the action's source on the question
    samples: np.ndarray  # i32[N, K] logged samples of the action's source on the question
    utility_cov: np.ndarray | None = None  # f32[N, K, K] covariance of the utilities; None where it was not asked for
    dropped: tuple[str, ...] = ()  # ids of the questions left out because a price, token count or latency is missing

    def __len__(self) -> int:
        return len(self.ids)

    def parts(self) -> dict[str, str]:
        names = ", ".join(f"{name} ({unit})" for name, unit in zip(self.resources, self.units, strict=True))
        about = {
            "questions": len(self),
            "actions": tuple(action.name for action in self.actions),
            "dropped": len(self.dropped),
        }
        return {name: brief(value) for name, value in about.items()} | {"cost": names, "utility": span(self.utility)}

    def records(self, limit: int | None = None) -> list[dict[str, Any]]:
        """One row per question and action.

        The columns are id, group, action, utility, utility_se, cost, cost_se, successes and samples; with several
        resources, cost[tokens] and so on. Utility and cost are None where the action has no samples on the question.
        """
        several = self.cost.ndim == 3
        costs = [f"[{name}]" for name in self.resources] if several else [""]
        cost, cost_se = (a if several else a[:, :, None] for a in (self.cost, self.cost_se))
        rows = []
        for i, k in islice(np.ndindex(self.utility.shape), limit):
            numbers = {"utility": self.utility[i, k], "utility_se": self.utility_se[i, k]}
            for r, name in enumerate(costs):
                numbers |= {f"cost{name}": cost[i, k, r], f"cost_se{name}": cost_se[i, k, r]}
            valid = self.valid[i, k]
            rows.append(
                {"id": self.ids[i], "group": self.group[i], "action": self.actions[k].name}
                | {name: float(x) if valid else None for name, x in numbers.items()}
                | {"successes": int(self.successes[i, k]), "samples": int(self.samples[i, k])}
            )
        return rows

    def select(self, rows: Sequence[int] | np.ndarray) -> OutcomeTable:
        """The table of the questions at these positions, in this order."""
        rows = _as_rows(rows)
        text: Any = {name: tuple(getattr(self, name)[i] for i in rows) for name in ("ids", "question", "group")}
        arrays = ("utility", "utility_se", "cost", "cost_se", "valid", "successes", "samples")
        cov = None if self.utility_cov is None else self.utility_cov[rows]
        return replace(self, **text, utility_cov=cov, **{name: getattr(self, name)[rows] for name in arrays})

    def problem(self) -> AllocationProblem:
        """The allocation problem of this table: its utilities and costs as device arrays."""
        valid = None if self.valid.all() else jnp.asarray(self.valid)
        return AllocationProblem(jnp.asarray(self.utility), jnp.asarray(self.cost), valid)


# ---------------------------------------------------------------------------------------------------------------
# The problem and its answers
# ---------------------------------------------------------------------------------------------------------------


class Status(enum.IntEnum):
    """What a solve found; an integer in results, so that it works under jit and vmap."""

    OPTIMAL = 0  # the plan is within the budget and the gap is what the certificate says
    INFEASIBLE = (
        1  # proven: no plan is within the budget; what is returned is the cheapest (several: the nearest found)
    )
    NOT_CONVERGED = (
        2  # the iteration limit came first; the spend says whether the plan is feasible, the gap how good it is
    )
    INVALID = 3  # NaN, an infinity, a negative cost or a question without a valid action was found inside jit
    MIXED_ONLY = (
        4  # several budgets: the mixed plan is optimal, no integral plan was found; `action` is the nearest one
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class AllocationProblem(Shown):
    """Maximise the weighted mean of utility[i, a_i], subject to the weighted mean of cost[i, a_i] <= budget."""

    utility: jax.Array  # f32[N, K]
    cost: jax.Array  # f32[N, K], or f32[N, K, R] with several resources
    valid: jax.Array | None = None  # bool[N, K]; None: every action may be taken
    weight: jax.Array | None = None  # f32[N]; None: every question counts the same


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class MixedPlan(Shown):
    """A plan with a few questions mixed: question j takes `other` with `probability`, else its own action.

    One question suffices with one resource (J = 1), R with R resources. A question that occurs twice has three actions.
    """

    question: Array  # i32[J]
    other: Array  # i32[J] the second action of each mixed question
    probability: Array  # f32[J] of taking it
    action: Array | None = field(default=None, metadata={"questions": 0})  # i32[N]; None: the integral plan's


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Solution(Shown):
    """A plan for one budget, with what certifies it."""

    action: jax.Array = field(metadata={"questions": 0})  # i32[N] the integral plan, whose spend is within the budget
    multiplier: jax.Array  # f32[] or f32[R] utility per unit of cost
    spend: jax.Array  # f32[] or f32[R] mean cost of the integral plan
    utility: jax.Array  # f32[] mean utility of the integral plan
    dual_value: jax.Array  # f32[] upper bound on the utility of any plan within the budget
    gap: jax.Array  # f32[] dual_value - utility, never clipped: below 0 is a contradiction
    mixed: MixedPlan
    mixed_spend: jax.Array  # f32[] or f32[R] min(budget, greatest useful spend)
    mixed_utility: jax.Array  # f32[]
    mixed_gap: jax.Array  # f32[] dual_value - mixed_utility
    status: jax.Array  # i32[] a `Status`

    def parts(self) -> dict[str, str]:
        shown = super().parts()
        if shown["status"].isdigit():
            shown["status"] = Status(int(shown["status"])).name
        return {"status": shown.pop("status"), **shown}
