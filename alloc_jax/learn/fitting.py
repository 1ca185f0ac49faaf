"""Fitting an ensemble of small Flax networks, all members at once, as one compiled program.

A decision policy is fitted twice: to the value targets, and from there for a third of the epochs to the decisions
themselves, one sampled budget a step. Decisions alone say nothing about actions that no multiplier would take.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from threading import Lock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from alloc_jax.learn.targets import Targets, decision_loss, imitation_loss, value_loss
from alloc_jax.solve.mesh import filled, on_mesh, put, shared_out, whole_on_host, whole_shares

ANCHOR = 0.1  # of the value loss while decisions are learned
ROUND = 64  # questions and features are filled up to a multiple of it
MOST_CHECKED = 2048  # questions that a member is checked on after every epoch
CHECKED = 3  # budgets at which decisions are checked on the unseen questions
_OF_TARGETS = {"seed": 0, "budgets": (1.0,), "labels": "hard"}  # what shapes targets and batches, not the program
_COMPILING = Lock()


class Network(nn.Module):
    """A multilayer perceptron."""

    hidden: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.silu(nn.Dense(width)(x))
        return nn.Dense(self.outputs, kernel_init=nn.initializers.variance_scaling(0.01, "fan_in", "normal"))(x)


def fit(config, x: np.ndarray, targets: Targets, unseen: np.ndarray, key: jax.Array, mesh: Mesh | None = None) -> dict:
    """Parameters of the members, as leaves with the members in front.

    Args:
      config: a `PolicyConfig`.
      x: f32[N, D] standardised features.
      targets: of the N questions.
      unseen: bool[members, N] what each member leaves out.
      key: of the initial parameters and the sampled budgets.
      mesh: its devices share out the members, and hold all questions each.
    """
    # Folds may differ by a question; members take the same steps, and are checked on as many questions.
    batches = np.stack([_batches(config, out, member) for member, out in enumerate(_equally_many(~unseen))])
    held = np.stack(_equally_many(unseen, MOST_CHECKED))
    questions, width = x.shape
    # Tables of nearly the same size share a program: some questions stand there twice, in no batch and no check.
    many = whole_shares(questions, ROUND)
    x = filled(filled(x, many), whole_shares(width, ROUND), axis=1, value=0)
    rows = {name: filled(row, many) for name, row in targets.rows.items()}
    learned = (rows, targets.described, targets.start, targets.budgets, targets.multipliers)
    given = _placed((batches, held, jax.random.split(key, len(unseen))), (x, learned), mesh)
    shapes = tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in jax.tree.leaves(given))
    with _COMPILING:  # or threads that ask for the same program would each compile it
        run = _compiled(replace(config, **_OF_TARGETS), targets.outputs, mesh, jax.tree.structure(given), shapes)
    params = jax.tree.map(lambda leaf: whole_on_host(leaf)[: len(unseen)], run(*given))
    params["Dense_0"]["kernel"] = params["Dense_0"]["kernel"][:, :width]
    return params


def _placed(members: tuple, shared: tuple, mesh: Mesh | None) -> tuple:
    """What each member has and what all of them learn from, on the device, or on the devices that train them.

    Every device trains as many members: where they do not divide, the first ones are trained again to fill up the last rounds.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, (*members, *shared))
    return (*shared_out(members, mesh), *put(shared, NamedSharding(mesh, P())))


def program(config, outputs: int, mesh: Mesh | None = None):
    """The training of all members as one program, of a `PolicyConfig` and the width of the last layer."""
    fitter = jax.vmap(partial(_fit_member, config, outputs), in_axes=(0, 0, 0, None, None))
    own = None if mesh is None else P(mesh.axis_names)
    return jax.jit(on_mesh(fitter, mesh, own, own, own, out=own))


@lru_cache(maxsize=32)
def _compiled(config, outputs: int, mesh: Mesh | None, structure, shapes: tuple):
    """The compiled training of all members, kept: compiling takes four fifths of a training on a thousand questions."""
    given = [jax.ShapeDtypeStruct(shape, dtype, sharding=where) for shape, dtype, where in shapes]
    return program(config, outputs, mesh).lower(*jax.tree.unflatten(structure, given)).compile()


def _equally_many(chosen: np.ndarray, most: int | None = None) -> list[np.ndarray]:
    """The positions i64[n] of as many True in each row of bool[members, N], a round number of them where there are enough."""
    count = int(chosen.sum(axis=1).min())
    count = min(max(count // 16 * 16, min(count, 16)), most or count)
    return [np.random.default_rng(member).permutation(np.flatnonzero(row))[:count] for member, row in enumerate(chosen)]


def _batches(config, rows: np.ndarray, member: int) -> np.ndarray:
    """i32[epochs, steps, batch] of the questions every epoch; drawn here because a permutation inside jit is a sort."""
    rng = np.random.default_rng((config.seed, member))
    batch = min(config.batch, len(rows))
    steps = len(rows) // batch
    return np.stack([rng.permutation(rows)[: steps * batch].reshape(steps, batch) for _ in range(config.epochs)])


def _fit_member(config, outputs: int, batches, held, key, x, learned):
    """The parameters at the epoch whose loss on the unseen questions is least."""
    rows, described, start, budgets, multipliers = learned
    network = Network(config.hidden, outputs)
    start_key, value_key, decision_key = jax.random.split(key, 3)
    params = network.init(start_key, x[:1])["params"]
    params[f"Dense_{len(config.hidden)}"]["bias"] = start

    def answer(params, x):
        return network.apply({"params": params}, x)

    check = imitation_loss if config.kind == "imitation" else partial(value_loss, shared_weight=config.shared_weight)

    def loss(outputs, rows, key):
        return check(outputs, rows)  # all of it; decisions are sampled

    params = _descend(config, config.learning_rate, answer, loss, check, params, x, rows, batches, held, value_key)
    if config.kind != "decision":
        return params

    def at(outputs, rows, index):
        return decision_loss(outputs, rows, described, budgets[index], multipliers[index], config.temperature)

    def sampled(outputs, rows, key):
        index = jax.random.randint(key, (), 0, len(budgets))
        return at(outputs, rows, index) + ANCHOR * value_loss(outputs, rows, config.shared_weight)

    def checked(outputs, rows):
        spread = np.linspace(0, len(budgets) - 1, CHECKED + 2).astype(int)[1:-1]
        return jax.vmap(lambda index: at(outputs, rows, index))(spread).mean(axis=0)

    batches = batches[: -(-len(batches) // 3)]
    return _descend(
        config, config.learning_rate / 4, answer, sampled, checked, params, x, rows, batches, held, decision_key
    )


def _descend(config, learning_rate, answer, loss, check, params, x, rows, batches, held, key):
    """Adam over the batches i32[epochs, steps, batch], and the parameters of the epoch that checks best, the first ones among them."""
    schedule = optax.cosine_decay_schedule(learning_rate, batches.shape[0] * batches.shape[1])
    optimiser = optax.adamw(schedule, weight_decay=config.weight_decay)

    def step(carry, batch):
        params, state, key = carry
        key, sampled = jax.random.split(key)
        part = jax.tree.map(lambda row: row[batch], rows)
        grad = jax.grad(lambda params: jnp.mean(loss(answer(params, x[batch]), part, sampled)))(params)
        updates, state = optimiser.update(grad, state, params)
        return (optax.apply_updates(params, updates), state, key), None

    held_x, held_rows = x[held], jax.tree.map(lambda row: row[held], rows)

    def unseen_loss(params):
        return jnp.mean(check(answer(params, held_x), held_rows))

    def epoch(carry, batches):
        learner, best, best_loss, _ = carry
        learner, _ = jax.lax.scan(step, learner, batches)
        now = unseen_loss(learner[0])
        best = jax.tree.map(lambda new, old: jnp.where(now < best_loss, new, old), learner[0], best)
        return (learner, best, jnp.minimum(now, best_loss), now), None

    before = unseen_loss(params)
    start = ((params, optimiser.init(params), key), params, before, before)
    _, best, _, last = jax.lax.scan(epoch, start, batches)[0]
    # A fit that diverged is no policy, however good its start was.
    return jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(last), leaf, jnp.nan), best)
