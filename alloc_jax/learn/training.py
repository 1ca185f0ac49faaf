"""Training a policy: a small ensemble of Flax networks, all members at once, as one compiled program.

The questions are cut into folds. A member leaves half of the folds out and stops where its loss on those is least; every such half
has a member, and the policy averages all. What the members that have not seen a question predict of it is kept: those
are honest predictions on every training question, and the multiplier is calibrated on them (`policy.Unseen`), so no question is
spent on calibration alone.

Three kinds:

- `value` predicts the utility and cost of every action, utility as a gain over the cheapest action: what is decided
  are differences between actions, and most of the variance of utility is shared by all of them. One policy serves every
  budget.
- `imitation` predicts which action the oracle takes at a budget (arXiv 2604.14853), one head per budget.
- `decision` is a value policy whose predictions are then fitted to what the plans made of them earn, at budgets drawn
  from the whole range; it is read and calibrated like `value`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.fitting import fit
from alloc_jax.learn.inference import forward, standardise
from alloc_jax.learn.policy import Policy, Unseen, read_head
from alloc_jax.learn.protocols import Featurizer
from alloc_jax.learn.stacking import stacked_gains
from alloc_jax.learn.targets import LABELS, Targets, decision_targets, imitation_targets, value_targets
from alloc_jax.types import OutcomeTable, inseparable


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How a policy is trained."""

    kind: str = "value"  # value, imitation or decision
    budgets: tuple[float, ...] = ()  # imitation: the budgets whose oracle is imitated
    labels: str = "hard"  # imitation: hard, soft (the smoothed plan) or regret (weighted by what is at stake)
    temperature: float = 0.02  # of the smoothed plan, in units of utility: soft labels and decisions
    shared_weight: float = 0.1  # value and decision: of every source's success counts, learned beside the utilities
    stacked: bool = True  # value and decision: gains are stacked with linear models', by how far each can be believed
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    folds: int = 6  # parts of the questions
    left_out: int = 3  # parts a member leaves out; every combination has a member
    by_group: bool = False  # a group lies in one part: honest about questions of groups that are not trained on
    epochs: int | None = None  # None: `usual_epochs` of the questions
    batch: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown policy kind {self.kind!r}: {', '.join(KINDS)}")
        if self.kind == "imitation" and not self.budgets:
            raise ValueError("an imitation policy imitates the oracle at given budgets: set budgets")
        if self.labels not in LABELS:
            raise ValueError(f"unknown labels {self.labels!r}: {', '.join(LABELS)}")
        if not self.temperature > 0 or not self.shared_weight >= 0:
            raise ValueError(f"a temperature is above 0 and a weight at least 0, got {self}")
        if not 1 <= self.left_out < self.folds or (self.epochs is not None and self.epochs < 1):
            raise ValueError(f"a policy needs 1 epoch or more, and to leave out 1 fold or more but not all, got {self}")


KINDS = ("value", "imitation", "decision")
MOST_EPOCHS, LEAST_EPOCHS, MANY = 30, 4, 1 << 13


def usual_epochs(questions: int) -> int:
    """How often all questions are gone through: of many, so often that training takes as long as of `MANY`, and no less than 4 times.

    >>> usual_epochs(2400), usual_epochs(20_000), usual_epochs(10**6)
    (30, 12, 4)
    """
    return max(min(MOST_EPOCHS, MOST_EPOCHS * MANY // questions), LEAST_EPOCHS)


def train(
    table: OutcomeTable,
    config: PolicyConfig = PolicyConfig(),  # frozen
    featurizer: Featurizer | None = None,
    *,
    mesh: Mesh | None = None,
) -> Policy:
    """A policy that predicts, from a question's text, what the table measured.

    Args:
      table: utility and cost of K actions on N questions, all valid, one resource.
      config: the kind and how it is trained; by default a `value` policy.
      featurizer: what turns text into features f32[N, D]; `TextFeatures()` by default.
      mesh: its devices share out the members of the ensemble, whatever their number, and say nothing to each other; each
        holds the features of all questions. They may be those of several processes (`jax.distributed`), which then all call
        this with the same arguments and all get the policy.

    Raises:
      ValueError: fewer than two texts (or groups) a fold, a question without the group that is asked for, an action without samples on some question, several resources, actions
        that never differ in utility, features that are not finite, or weights that diverged.
    """
    featurizer = featurizer or TextFeatures()
    unit = inseparable(table, config.by_group)
    units = len(np.unique(unit))
    if units < 2 * config.folds:
        kind = "groups" if config.by_group else "questions"
        raise ValueError(
            f"training on {config.folds} folds needs {2 * config.folds} {kind} or more, got {units} of different texts to learn"
            " from; some hundred give intervals of use"
        )
    if table.cost.ndim != 2:
        raise ValueError(
            f"a policy has one multiplier, for one resource, the table has {len(table.resources)}: measure one of them"
        )
    if not table.valid.all():
        i, k = np.argwhere(~table.valid)[0]
        raise ValueError(
            f"question {table.ids[i]!r} has no samples for {table.actions[k].name}: drop it before training"
        )
    if (table.utility == table.utility[:, :1]).all():
        cheapest = table.actions[int(np.argmin(table.cost.mean(axis=0)))].name
        raise ValueError(f"every action earns the same on every question: nothing is to be decided, take {cheapest}")
    features = featurizer.encode(table.question)
    if not np.isfinite(features).all():
        raise ValueError(
            f"the features of question {table.ids[np.argwhere(~np.isfinite(features))[0][0]]!r} are not finite"
        )

    mean, scale = features.mean(axis=0), features.std(axis=0)
    constant = scale < 1e-6  # a column that never varies teaches nothing
    scale = np.where(constant, np.inf, scale / _block_weight(featurizer.blocks, ~constant)).astype(np.float32)
    weights = {"feature_mean": mean, "feature_scale": scale}
    config = replace(config, epochs=config.epochs or usual_epochs(len(table)))
    targets = _targets(table, config)
    weights |= targets.described

    fold_key, key = jax.random.split(jax.random.key(config.seed))
    fold = np.asarray(jax.random.permutation(fold_key, units))[unit] % config.folds  # a unit shares it
    without = np.array(list(combinations(range(config.folds), config.left_out)))
    unseen = (fold == without[:, :, None]).any(axis=1)  # bool[members, N]
    x = standardise(features, weights["feature_mean"], weights["feature_scale"])[:, ~constant].astype(np.float32)
    params = fit(config, x, targets, unseen, key, mesh)
    for name, leaf in flatten_dict(params, sep="/").items():
        weights[name] = np.asarray(leaf)
    for name in ("kernel", "bias"):  # outputs that only taught the hidden layers stay behind
        last = f"Dense_{len(config.hidden)}/{name}"
        weights[last] = weights[last][..., : targets.served]
    diverged = [name for name, array in weights.items() if name != "feature_scale" and not np.isfinite(array).all()]
    if diverged:
        raise ValueError(f"training diverged: {diverged[0]} is not finite; try a lower learning_rate")
    weights["Dense_0/kernel"] = _spread(weights["Dense_0/kernel"], ~constant)
    outputs = forward(weights, features)
    groups = [unseen, *_halves(unseen)]
    averages = [np.einsum("mno,mn->no", outputs, (g / g.sum(axis=0)).astype(np.float32)) for g in groups]
    if config.kind != "imitation" and config.stacked:
        gain, honest = targets.rows["gain"], averages[0][:, : len(table.actions)]
        weights, belief, added = stacked_gains(weights, x, gain, honest, fold)
        weights["Direct/kernel"] = _spread(weights["Direct/kernel"], ~constant)
        for average in averages:
            average[:, : len(table.actions)] = belief * average[:, : len(table.actions)] + added
    reach = 1 - config.left_out / config.folds
    heads = range(len(config.budgets)) if config.kind == "imitation" else (None,)
    return Policy(
        name=config.kind,
        kind=config.kind,
        actions=tuple(action.name for action in table.actions),
        resource=table.resources[0],
        unit=table.units[0],
        featurizer=featurizer,
        weights=weights,
        budgets=config.budgets,
        calibration=tuple(
            Unseen(
                read_head(averages[0], weights, head), tuple(read_head(x, weights, head) for x in averages[1:]), reach
            )
            for head in heads
        ),
        calibration_cost=table.cost,
    )


def _targets(table: OutcomeTable, config: PolicyConfig) -> Targets:
    if config.kind == "imitation":
        return imitation_targets(table, config.budgets, config.labels, config.temperature)
    return value_targets(table) if config.kind == "value" else decision_targets(table)


def _spread(kernel: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """A kernel f32[E, D', O] of the features that vary, as one f32[E, D, O] of all."""
    whole = np.zeros((len(kernel), len(varies), kernel.shape[2]), np.float32)
    whole[:, varies] = kernel
    return whole


def _halves(unseen: np.ndarray) -> list[np.ndarray]:
    """Of the members that have not seen a question, every other one and the rest, bool[members, N] twice; none for odd numbers."""
    rank = np.cumsum(unseen, axis=0)
    return [] if unseen[:, 0].sum() % 2 else [unseen & (rank % 2 == half) for half in (0, 1)]


def _block_weight(widths: Sequence[int], varies: np.ndarray) -> np.ndarray:
    """What standardised features f32[D] are multiplied by: blocks weigh the same, and the mean square stays 1.

    Otherwise hundreds of hashed n-grams, most of them noise, drown a few dozen counts.
    """
    block = np.repeat(np.arange(len(widths)), widths)
    alive = np.bincount(block[varies], minlength=len(widths))
    share = varies.sum() / max((alive > 0).sum(), 1)
    return np.sqrt(share / np.maximum(alive, 1))[block]
