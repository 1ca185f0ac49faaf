"""Training the built-in reasoner: next-token prediction on what a teacher that slips would write.

Blocks are updated by Muon, embeddings, head and norms by Adam (`optax.contrib.muon`). Sequences of similar length share
a batch, so that a batch is a fixed number of tokens with little padding. Training is a fixed number of steps, never a
time, so that a seed gives the same model on a slower machine.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alloc_jax.reasoner import arithmetic
from alloc_jax.reasoner.arithmetic import ExerciseMix
from alloc_jax.reasoner.model import SIZES, Llama, ModelConfig, init_params
from alloc_jax.reasoner.parallel import run_sizes
from alloc_jax.reasoner.weights import save_weights

BUCKETS = (24, 40, 56, 72, 96)  # sequence lengths; the longest sequence there is has 87 characters
BATCH_TOKENS = 4096


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training on one mix of questions."""

    steps: int
    mix: ExerciseMix
    slip_sum: float  # chance that the teacher slips in a sum or difference
    slip_product: float  # chance that the teacher slips in a product
    direct_share: float  # share of the sequences in the direct mode
    direct_weight: float  # weight of their tokens in the loss
    muon_rate: float = 0.02
    adam_rate: float = 3e-3
    warmup_steps: int = 200
    sequences: int = 200_000  # generated before the phase and drawn from at random


RECIPES: dict[str, tuple[Phase, ...]] = {
    "small": (
        Phase(
            steps=3000,
            mix=arithmetic.HARD_MIX,
            slip_sum=0.03,
            slip_product=0.09,
            direct_share=0.35,
            direct_weight=4.0,
        ),
    ),
    "large": (
        Phase(
            steps=3200,
            mix=arithmetic.HARD_MIX,
            slip_sum=0.03,
            slip_product=0.09,
            direct_share=0.25,
            direct_weight=3.0,
        ),
        Phase(
            steps=1600,
            mix=arithmetic.DEFAULT_MIX,
            slip_sum=0.03,
            slip_product=0.09,
            direct_share=0.25,
            direct_weight=3.0,
            muon_rate=0.012,
            adam_rate=2e-3,
            warmup_steps=100,
        ),
    ),
}


def train_model(
    config: ModelConfig,
    phases: tuple[Phase, ...],
    seed: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> dict:
    """Parameters of a model trained through the phases.

    Args:
      config: the model's shape.
      phases: what to train on, in order; each starts its optimiser and schedule afresh.
      seed: of the initialisation and of the data.
      report: called with (steps done over all phases, mean loss since the last call) every 20 steps.
    """
    params = init_params(config, jax.random.key(seed))
    done = 0
    for number, phase in enumerate(phases):
        buckets = build_sequences(phase, random.Random(f"training {seed} {number}"))
        batches = _draw_batches(buckets, phase.steps, np.random.default_rng((seed, number)))
        optimiser = _optimiser(phase)
        state = optimiser.init(params)
        losses = []
        for tokens, weights in batches:
            params, state, loss = _train_step(config, optimiser, params, state, tokens, weights)
            losses.append(loss)
            done += 1
            if len(losses) == 20:
                report(done, float(np.mean(losses)))
                losses = []
        if losses:
            report(done, float(np.mean(losses)))
    return params


def build_sequences(phase: Phase, rng: random.Random) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Token codes i8[n, length] and loss weights f16[n, length] of a phase's sequences, by bucket length.

    The weight at a position is that of predicting the token there: 0 on the prompt and on padding.
    """
    rows: dict[int, list] = {length: [] for length in BUCKETS}
    for question in islice(arithmetic.training_questions(rng, phase.mix), phase.sequences):
        mode = "direct" if rng.random() < phase.direct_share else "think"
        asked = arithmetic.prompt(question.text, mode)
        written = arithmetic.completion(question, mode, rng, phase.slip_sum, phase.slip_product)
        size = len(asked) + len(written)
        bucket = next(length for length in BUCKETS if length >= size)
        rows[bucket].append((asked + written, len(asked), phase.direct_weight if mode == "direct" else 1.0))
    code = np.zeros(128, np.int8)
    code[[ord(c) for c in arithmetic.ALPHABET]] = np.arange(len(arithmetic.ALPHABET))
    built = {}
    for length, members in rows.items():
        tokens = np.zeros((len(members), length), np.int8)
        weights = np.zeros((len(members), length), np.float16)
        for row, (text, start, weight) in enumerate(members):
            tokens[row, : len(text)] = code[np.frombuffer(text.encode(), np.uint8)]
            weights[row, start : len(text)] = weight
        built[length] = tokens, weights
    return built


def _draw_batches(buckets, steps: int, rng: np.random.Generator):
    """Batches of BATCH_TOKENS tokens, each from one bucket, which is drawn in proportion to what it holds."""
    lengths = [length for length in buckets if len(buckets[length][0])]
    content = np.array([buckets[length][0].size for length in lengths], float)
    for length in rng.choice(lengths, size=steps, p=content / content.sum()):
        tokens, weights = buckets[length]
        rows = rng.integers(len(tokens), size=BATCH_TOKENS // length)
        yield tokens[rows], weights[rows]


@cache  # the step is compiled for an optimiser; one phase has one
def _optimiser(phase: Phase) -> optax.GradientTransformation:
    def schedule(peak: float):
        return optax.warmup_cosine_decay_schedule(0.0, peak, phase.warmup_steps, phase.steps, end_value=0.02 * peak)

    def orthogonalised(params):
        # Muon is for the matrices between hidden spaces: not for the embedding, the head or the norms' gains.
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: (
                optax.contrib.MuonDimensionNumbers() if leaf.ndim == 2 and path[0].key.startswith("layers") else None
            ),
            params,
        )

    return optax.contrib.muon(
        schedule(phase.muon_rate),
        adam_learning_rate=schedule(phase.adam_rate),
        muon_weight_dimension_numbers=orthogonalised,
    )


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def _train_step(config: ModelConfig, optimiser, params, state, tokens, weights):
    tokens, weights = tokens.astype(jnp.int32), weights[:, 1:].astype(jnp.float32)

    def loss_of(params):
        logits = Llama(config).apply({"params": params}, tokens[:, :-1])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return jnp.sum(weights * losses) / jnp.sum(weights)

    loss, gradient = jax.value_and_grad(loss_of)(params)
    updates, state = optimiser.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, loss


def train_reasoner(workdir: Path, sizes: Sequence[str], seed: int) -> list[Path]:
    """Train models by their recipes, a process each, and write their weights and metrics.jsonl into a folder.

    Returns:
      The files of the weights.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "metrics.jsonl").open("w", buffering=1) as metrics:
        trained = run_sizes(_train_size, sizes, seed, report=lambda row: print(json.dumps(row), file=metrics))
    paths = []
    for size, params in trained.items():
        paths.append(workdir / f"{size}.npz")
        save_weights(paths[-1], SIZES[size], params)
    return paths


def _train_size(size: str, seed: int, report: Callable[[dict], None]) -> dict:
    start = time.monotonic()
    steps = sum(phase.steps for phase in RECIPES[size])

    def forward(step: int, loss: float) -> None:
        report({"size": size, "step": step, "steps": steps, "loss": loss, "seconds": time.monotonic() - start})

    return jax.device_get(train_model(SIZES[size], RECIPES[size], seed, forward))
