"""Training a policy: a small ensemble of Flax networks, all members at once, as one compiled program.

The questions are cut into folds. A member leaves half of the folds out and stops where its loss on those is least; every such half
has a member, and the policy averages all. What the members that have not seen a question predict of it is kept: those
are honest predictions on every training question, and the price is calibrated on them (`policy.Unseen`), so no question is
spent on calibration alone.

Two kinds:

- `value` predicts the utility and cost of every action, utility as a gain over the cheapest action: what is decided
  are differences between actions, and most of the variance of utility is shared by all of them. One policy serves every
  budget.
- `imitation` predicts which action the oracle takes at a budget (arXiv 2604.14853), one head a budget.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import combinations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from alloc_jax.learn.features import TextFeatures
from alloc_jax.learn.inference import forward, standardise
from alloc_jax.learn.policy import Policy, Unseen, read_head
from alloc_jax.solve import solve
from alloc_jax.types import OutcomeTable


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How a policy is trained."""

    kind: str = "value"  # value or imitation
    budgets: tuple[float, ...] = ()  # imitation: the budgets whose oracle is imitated
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    folds: int = 6  # parts of the questions
    left_out: int = 3  # parts a member leaves out; every combination has a member
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown policy kind {self.kind!r}: {' or '.join(KINDS)}")
        if self.kind == "imitation" and not self.budgets:
            raise ValueError("an imitation policy imitates the oracle at given budgets: set budgets")
        if not 1 <= self.left_out < self.folds or self.epochs < 1:
            raise ValueError(f"a policy needs 1 epoch or more, and to leave out 1 fold or more but not all, got {self}")


KINDS = ("value", "imitation")


class Network(nn.Module):
    """A multilayer perceptron."""

    hidden: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.silu(nn.Dense(width)(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.variance_scaling(0.01, "fan_in", "normal"))(x)


def train(table: OutcomeTable, config: PolicyConfig, featurizer: TextFeatures | None = None) -> Policy:
    """A policy that predicts, from a question's text, what the table measured.

    Args:
      table: utility and cost of K actions on N questions, all valid, one resource.
      config: the kind and how it is trained.
      featurizer: what turns text into features f32[N, D]; `TextFeatures()` by default.

    Raises:
      ValueError: fewer questions than folds, an action without samples on some question, several resources, features that
        are not finite.
    """
    featurizer = featurizer or TextFeatures()
    if len(table) < 2 * config.folds:
        raise ValueError(
            f"training on {config.folds} folds needs {2 * config.folds} questions or more, got {len(table)}"
        )
    if table.cost.ndim != 2:
        raise ValueError(f"a policy prices one resource, the table has {len(table.resources)}: measure one of them")
    if not table.valid.all():
        i, k = np.argwhere(~table.valid)[0]
        raise ValueError(
            f"question {table.ids[i]!r} has no samples for {table.actions[k].name}: drop it before training"
        )
    features = featurizer.encode(table.question)
    if not np.isfinite(features).all():
        raise ValueError(
            f"the features of question {table.ids[np.argwhere(~np.isfinite(features))[0][0]]!r} are not finite"
        )

    mean, scale = features.mean(axis=0), features.std(axis=0)
    constant = scale < 1e-6  # a column that never varies teaches nothing
    scale = np.where(constant, np.inf, scale / _block_weight(featurizer, ~constant)).astype(np.float32)
    weights = {"feature_mean": mean, "feature_scale": scale}
    targets, described = _value_targets(table) if config.kind == "value" else _imitation_targets(table, config)
    weights |= described

    key = jax.random.key(config.seed)
    fold = np.asarray(jax.random.permutation(key, len(table))) % config.folds
    without = np.array(list(combinations(range(config.folds), config.left_out)))
    unseen = (fold == without[:, :, None]).any(axis=1)  # bool[members, N]
    x = standardise(features, weights["feature_mean"], weights["feature_scale"])[:, ~constant]
    params = _fit(config, x.astype(np.float32), targets, unseen, key)
    for name, leaf in flatten_dict(params, sep="/").items():
        weights[name] = np.asarray(leaf)
    first = np.zeros((len(weights["Dense_0/kernel"]), features.shape[1], config.hidden[0]), np.float32)
    first[:, ~constant] = weights["Dense_0/kernel"]
    weights["Dense_0/kernel"] = first

    outputs = forward(weights, features)
    groups = [unseen, *_halves(unseen)]
    averages = [np.einsum("mno,mn->no", outputs, (g / g.sum(axis=0)).astype(np.float32)) for g in groups]
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


def _halves(unseen: np.ndarray) -> list[np.ndarray]:
    """Of the members that have not seen a question, every other one and the rest, bool[members, N] twice; none for odd numbers."""
    rank = np.cumsum(unseen, axis=0)
    return [] if unseen[:, 0].sum() % 2 else [unseen & (rank % 2 == half) for half in (0, 1)]


def _block_weight(featurizer: TextFeatures, varies: np.ndarray) -> np.ndarray:
    """What standardised features f32[D] are multiplied by: blocks weigh the same, and the mean square stays 1.

    Otherwise hundreds of hashed n-grams, most of them noise, drown a few dozen counts.
    """
    widths = getattr(featurizer, "blocks", (len(varies),))
    block = np.repeat(np.arange(len(widths)), widths)
    alive = np.bincount(block[varies], minlength=len(widths))
    share = varies.sum() / max((alive > 0).sum(), 1)
    return np.sqrt(share / np.maximum(alive, 1))[block]


def _cost_targets(table: OutcomeTable) -> tuple[np.ndarray, np.ndarray]:
    action_cost = np.maximum(table.cost.mean(axis=0), 1e-6).astype(np.float32)
    return table.cost / action_cost, action_cost


def _value_targets(table: OutcomeTable):
    ratio, action_cost = _cost_targets(table)
    cheapest = int(np.argmin(action_cost))
    base = table.utility[:, cheapest]
    gain = table.utility - base[:, None]
    described = {"action_cost": action_cost, "is_gain": (np.arange(len(action_cost)) != cheapest).astype(np.float32)}
    return {"gain": gain, "base": base, "ratio": ratio}, described


def _imitation_targets(table: OutcomeTable, config: PolicyConfig):
    ratio, action_cost = _cost_targets(table)
    problem = table.problem()
    labels = [np.asarray(solve(problem, budget).action) for budget in config.budgets]
    return {"label": np.stack(labels, axis=1), "ratio": ratio}, {"action_cost": action_cost}


def _loss(kind: str, outputs: jax.Array, target: dict) -> jax.Array:
    """Loss f32[N] of each question."""
    actions = target["ratio"].shape[-1]
    cost = jnp.mean((jnp.exp(outputs[:, -actions:]) - target["ratio"]) ** 2, axis=1)
    if kind == "value":
        gain = jnp.mean((outputs[:, :actions] - target["gain"]) ** 2, axis=1)
        return gain + 0.1 * (outputs[:, actions] - target["base"]) ** 2 + 0.1 * cost
    logits = outputs[:, :-actions].reshape(len(outputs), -1, actions)
    return optax.softmax_cross_entropy_with_integer_labels(logits, target["label"]).mean(axis=1) + cost


def _fit(config: PolicyConfig, x: np.ndarray, targets: dict, unseen: np.ndarray, key: jax.Array) -> dict:
    """Parameters of the members, as leaves with the members in front; `unseen` bool[members, N] is what each leaves out."""
    outputs = sum(target.size // len(x) for name, target in targets.items() if name != "label")
    if "label" in targets:
        outputs += targets["label"].shape[1] * targets["ratio"].shape[1]
    count = int((~unseen).sum(axis=1).min())  # folds may differ by a question; members take the same steps
    batches = np.stack([_batches(config, np.flatnonzero(~out), count, member) for member, out in enumerate(unseen)])
    targets = {name: jnp.asarray(target) for name, target in targets.items()}
    run = _fitter(replace(config, seed=0), outputs)
    return run(jnp.asarray(x), targets, batches, unseen.astype(x.dtype), jax.random.split(key, len(unseen)))


@lru_cache(maxsize=16)
def _fitter(config: PolicyConfig, outputs: int):
    """The compiled training of all members, kept: compiling takes four fifths of a training on a thousand questions."""
    return jax.jit(jax.vmap(partial(_fit_member, config, outputs), in_axes=(None, None, 0, 0, 0)))


def _batches(config: PolicyConfig, rows: np.ndarray, count: int, member: int) -> np.ndarray:
    """i32[epochs, steps, batch] `count` of the questions every epoch; drawn here because a permutation inside jit is a sort."""
    rng = np.random.default_rng((config.seed, member))
    batch = min(config.batch, count)
    steps = count // batch
    return np.stack([rng.permutation(rows)[: steps * batch].reshape(steps, batch) for _ in range(config.epochs)])


def _fit_member(config: PolicyConfig, outputs: int, x, targets, batches, unseen, key):
    """The parameters at the epoch whose loss on the unseen questions is least."""
    network = Network(config.hidden, outputs)
    schedule = optax.cosine_decay_schedule(config.learning_rate, batches.shape[0] * batches.shape[1])
    optimiser = optax.adamw(schedule, weight_decay=config.weight_decay)
    params = network.init(key, x[:1])["params"]

    def step(carry, rows):
        params, state = carry

        def batch_loss(params):
            out = network.apply({"params": params}, x[rows])
            return jnp.mean(_loss(config.kind, out, jax.tree.map(lambda target: target[rows], targets)))

        updates, state = optimiser.update(jax.grad(batch_loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry, rows):
        params, state, best, best_loss = carry
        (params, state), _ = jax.lax.scan(step, (params, state), rows)
        losses = _loss(config.kind, network.apply({"params": params}, x), targets)
        loss = jnp.sum(losses * unseen) / jnp.sum(unseen)
        best = jax.tree.map(lambda new, old: jnp.where(loss < best_loss, new, old), params, best)
        return (params, state, best, jnp.minimum(loss, best_loss)), None

    (_, _, best, _), _ = jax.lax.scan(epoch, (params, optimiser.init(params), params, jnp.inf), batches)
    return best
