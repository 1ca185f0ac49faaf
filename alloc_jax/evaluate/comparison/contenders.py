"""Contenders of a comparison: every kind of policy, baselines, baselines with oracle features, and variants of an ablation."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from alloc_jax.evaluate.baselines import NearestNeighbours, RidgeRegression, prompt_length
from alloc_jax.evaluate.comparison.cases import Case
from alloc_jax.evaluate.comparison.crossfit import Contender
from alloc_jax.evaluate.comparison.trees import boosted_classes, boosted_gains
from alloc_jax.learn.calibration import MixedMultiplier, Prediction
from alloc_jax.learn.features.inputs import Given
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.protocols import Featurizer, PolicyLike
from alloc_jax.learn.training import KINDS, PolicyConfig, train
from alloc_jax.types import OutcomeTable

KNN, LENGTH, CLASSES, GAINS = "kNN", "prompt length", "trees (classes)", "trees (gains)"
BASELINES = (KNN, LENGTH, CLASSES, GAINS)
GENERATOR, OUTCOMES = "oracle features (generator)", "oracle features (outcomes)"
ORACLE_FEATURES = (GENERATOR, OUTCOMES)
SOFT, REGRET = "imitation(labels='soft')", "imitation(labels='regret')"
POLICIES = ("value", "value(stacked=False)", "decision", "imitation", SOFT, REGRET)
OPTIONS = {  # ablations whose variants differ in options of the training
    "loss": (*POLICIES, "value(shared_weight=0.0)"),
    "temperature": tuple(
        f"{kind}temperature={t})" for kind in (f"{SOFT[:-1]}, ", "decision(") for t in (0.005, 0.02, 0.08)
    ),
    "ensemble": ("value(folds=2, left_out=1)", "value(folds=4, left_out=2)", "value"),
}
ABLATIONS = ("features", "size", "heads", *OPTIONS)
BLOCKS = {
    "shape_buckets": "shapes",
    "word_buckets": "words",
    "sequence_buckets": "token sequences",
    "neighbour_buckets": "operators' neighbours",
}
SIZES = (0.125, 0.25, 0.5, 1.0)  # of the training questions


def policy(
    text: str, budgets: Sequence[float], featurizer: Featurizer | None = None, by_group: bool = False
) -> Contender:
    """The contender that a text describes: a kind of policy, with options of `PolicyConfig` where they differ; `by_group` is one that
    all contenders share, where what is held out is of other groups.

    Raises:
      ValueError: the text names no kind or no option.

    >>> policy("value(epochs=10, hidden=(32,))", budgets=(2.0,)).name
    'value(epochs=10, hidden=(32,))'
    """
    config = parse_policy(text, budgets)
    config = replace(config, by_group=config.by_group or by_group)

    def fit(table: OutcomeTable, seed: int) -> PolicyLike:
        return train(table, replace(config, seed=seed), featurizer)

    return Contender(text, fit)


def parse_policy(text: str, budgets: Sequence[float]) -> PolicyConfig:
    """The configuration that a text such as `value(epochs=10)` stands for."""
    kind, _, options = text.strip().partition("(")
    try:
        call = ast.parse(f"f({options or ')'}", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError
        given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if call.args:
            raise ValueError
    except (SyntaxError, ValueError, AttributeError):
        raise ValueError(f"policy {text!r} is not of the form kind or kind(option=value)") from None
    if kind not in KINDS:
        raise ValueError(f"unknown policy {kind!r}: {' or '.join(KINDS)}")
    known = [field.name for field in fields(PolicyConfig) if field.name not in ("kind", "budgets", "seed")]
    if unknown := given.keys() - set(known):
        raise ValueError(f"policy {text!r}: no option {min(unknown)!r}; there are {', '.join(known)}")
    return PolicyConfig(kind=kind, budgets=tuple(budgets), **given)


def baseline(
    name: str, budgets: Sequence[float], featurizer: Featurizer | None = None, by_group: bool = False
) -> Contender:
    """A rule to beat, by name; see `policy`."""
    featurizer = featurizer or TextFeatures()
    fits: dict[str, Callable[[OutcomeTable, int], PolicyLike]] = {
        KNN: lambda table, seed: NearestNeighbours(KNN, table, featurizer, by_group=by_group),
        LENGTH: lambda table, seed: prompt_length(table, by_group),
        CLASSES: lambda table, seed: boosted_classes(table, budgets, featurizer, seed, by_group),
        GAINS: lambda table, seed: boosted_gains(table, featurizer, seed, by_group),
    }
    if name not in fits:
        raise ValueError(f"unknown baseline {name!r}: {' or '.join(fits)}")
    return Contender(name, fits[name])


def with_oracle_features(case: Case, by_group: bool = False) -> list[Contender]:
    """Baselines with oracle features, which nobody has for a new question: they show where the gap to the oracle comes from.

    The features of a value policy are the variables a question was generated from, and not its text: no ceiling, since the
    text holds more than they. Those of a linear rule are the measured outcomes of every action on the question itself, on
    half of its samples; it has learned from other questions what they say of the other half. The oracle that chooses on one
    half takes it at face value; this one shrinks it, and is the ceiling of what could be known.
    """
    made = []
    if case.generator is not None:
        variables = Given.of("generator", case.learn.question, case.generator)

        def informed(table: OutcomeTable, seed: int) -> PolicyLike:
            return train(table, PolicyConfig(seed=seed, by_group=by_group), variables)

        made.append(Contender(GENERATOR, informed))
    if case.halved:
        rates = case.choose.successes / np.maximum(case.choose.samples, 1)
        known = np.concatenate([case.choose.utility, rates, case.choose.cost], axis=1, dtype=np.float32)
        columns, rows = tuple(map(str, range(known.shape[1]))), dict(zip(case.choose.question, known, strict=True))
        outcomes = Given("outcomes", columns, rows)  # not `Given.of`: the outcomes of a text that occurs twice differ
        rule = Contender(
            OUTCOMES, lambda table, seed: RidgeRegression(OUTCOMES, table, outcomes), case.score, sees_labels=True
        )
        made.append(rule)
    return made


@dataclass(frozen=True)
class PerBudget:
    """One policy for each budget behind one face."""

    name: str
    policies: tuple[PolicyLike, ...]  # one for each budget
    budgets: tuple[float, ...]

    @property
    def predicts_utility(self) -> bool:
        return self.policies[0].predicts_utility

    @property
    def actions(self) -> tuple[str, ...]:
        return self.policies[0].actions

    @property
    def featurizer(self) -> Featurizer:
        return self.policies[0].featurizer

    def head(self, budget: float) -> int:
        return int(np.argmin(np.abs(np.array(self.budgets) - budget)))

    def predict_features(self, features: np.ndarray, budget: float) -> Prediction:
        return self.policies[self.head(budget)].predict_features(features, budget)

    def multiplier(self, budget: float) -> MixedMultiplier:
        return self.policies[self.head(budget)].multiplier(budget)


def ablation(name: str, kind: str, budgets: Sequence[float]) -> list[Contender]:
    """The variants of one ablation.

    - `features`: one block of the text features alone, and all but one;
    - `size`: fewer training questions, beside boosted trees on as many;
    - `heads`: labels for each budget, learned together or by a policy each, against one policy for all budgets;
    - `loss`: what is learned, from utilities over decisions to the oracle's actions;
    - `temperature`: of soft labels and of decisions;
    - `ensemble`: of 2, 6 and 20 networks.

    Other options of the training are compared by naming them: policies `value`, `value(weight_decay=0.01)` and so on.

    Raises:
      ValueError: there is no such ablation.
    """
    if name == "features":
        return [replace(policy(kind, budgets, blocks), name=f"{kind}, {label}") for label, blocks in _blocks()]
    if name == "size":
        rivals = [policy(kind, budgets), baseline(GAINS, budgets)]
        return [_on_fewer(rival, share) for rival in rivals for share in SIZES]
    if name == "heads":
        together = replace(policy("imitation", budgets), name="imitation, budgets together")
        return [policy("value", budgets), together, _one_policy_per_budget(tuple(budgets))]
    if name in OPTIONS:
        return [policy(text, budgets) for text in OPTIONS[name]]
    raise ValueError(f"unknown ablation {name!r}: {' or '.join(ABLATIONS)}")


def _blocks() -> list[tuple[str, TextFeatures]]:
    """Featurisers of single blocks, of all but one, and of all; the surface counts are part of each."""
    widths = {block: getattr(TextFeatures(), block) for block in BLOCKS}
    off = dict.fromkeys(BLOCKS, 0)  # character_buckets are off by default
    found = [("counts alone", TextFeatures(**off))]
    found += [(f"counts and {label}", TextFeatures(**{**off, block: widths[block]})) for block, label in BLOCKS.items()]
    found += [(f"all but {label}", TextFeatures(**{**widths, block: 0})) for block, label in BLOCKS.items()]
    return [*found, ("all features", TextFeatures())]


def _on_fewer(contender: Contender, share: float) -> Contender:
    def fit(table: OutcomeTable, seed: int) -> PolicyLike:
        count = round(share * len(table))
        rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:count])
        return contender.fit(table.select(rows), seed)

    return Contender(f"{contender.name}, {share:.1%} of the questions", fit)


def _one_policy_per_budget(budgets: tuple[float, ...]) -> Contender:
    name = "imitation, one policy per budget"

    def fit(table: OutcomeTable, seed: int) -> PerBudget:
        configs = [PolicyConfig(kind="imitation", budgets=(budget,), seed=seed) for budget in budgets]
        return PerBudget(name, tuple(train(table, config) for config in configs), budgets)

    return Contender(name, fit)
