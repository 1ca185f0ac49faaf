"""Making a sample log with the built-in reasoner: every source answers every question many times."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np

from alloc_jax.reasoner import arithmetic
from alloc_jax.reasoner.log import NO_ANSWER, save_log
from alloc_jax.reasoner.model import SIZES, count_parameters
from alloc_jax.reasoner.parallel import run_sizes
from alloc_jax.reasoner.sampler import sample
from alloc_jax.reasoner.weights import load_weights

MODES = ("direct", "think")


def draw_log(workdir: Path, *, weights: Path, questions: int, samples: int, temperature: float, seed: int) -> Path:
    """Draw held-out questions, let both models answer them, a process each, and write samples.npz into a folder.

    Args:
      workdir: of the log.
      weights: the folder of small.npz and large.npz.
      questions: how many, the same ones for the same seed.
      samples: of each question and source.
      temperature: of the sampling.
      seed: of the questions and of the samples.

    Returns:
      The file written.
    """
    asked = arithmetic.held_out_questions(questions, seed)
    parameters = {size: count_parameters(load_weights(weights / f"{size}.npz")[1]) for size in SIZES}
    workdir.mkdir(parents=True, exist_ok=True)
    drawn = run_sizes(draw_samples, SIZES, asked, weights, samples, temperature, seed)
    path = workdir / "samples.npz"
    made_by = {"questions": questions, "samples": samples, "temperature": temperature, "seed": seed}
    save_log(path, asked, {name: array for size in SIZES for name, array in drawn[size].items()}, parameters, made_by)
    return path


def draw_samples(
    size: str,
    questions: list[arithmetic.Exercise],
    weights: Path,
    samples: int,
    temperature: float,
    seed: int,
    report: Callable[[dict], None] = lambda progress: None,
) -> dict[str, np.ndarray]:
    """What one model answers in both modes.

    Args:
      size: `small` or `large`.
      questions: what is asked.
      weights: the folder of the weights.
      samples: completions of each question and mode.
      temperature: of the sampling.
      seed: of all randomness; a question's samples depend on the seed, its position, the mode and the size alone.
      report: called with dicts of size, step, steps (questions done and in all, over both modes).

    Returns:
      For each source the answers i8[N, S] (-1 where there is none) and tokens u8[N, S], as `answers/large/think` and
      `tokens/large/think`.
    """
    config, params = load_weights(weights / f"{size}.npz")
    operations = np.array([question.operations for question in questions])
    done, drawn = 0, {}
    for mode in MODES:
        source = f"{size}/{mode}"
        answers: np.ndarray = np.full((len(questions), samples), NO_ANSWER, np.int8)
        tokens: np.ndarray = np.zeros((len(questions), samples), np.uint8)
        number = len(MODES) * list(SIZES).index(size) + MODES.index(mode)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(questions))
        # Longer questions write longer chains: three groups keep the caches short where they can be.
        for low, limit in ((1, 24), (3, 40), (5, 64)):
            group = np.flatnonzero((operations >= low) & (operations < low + 2))
            prompts = [arithmetic.prompt(questions[i].text, mode) for i in group]
            limit = 8 if mode == "direct" else limit
            for rows, written in sample(
                config, params, prompts, keys[group], samples=samples, max_tokens=limit, temperature=temperature
            ):
                tokens[group[rows]] = (written != arithmetic.PAD).sum(axis=2)
                answers[group[rows]] = [[_answer(line) for line in one] for one in written]
                done += len(rows)
                report({"size": size, "step": done, "steps": len(MODES) * len(questions)})
        drawn[f"answers/{source}"], drawn[f"tokens/{source}"] = answers, tokens
    return drawn


def _answer(codes: np.ndarray) -> int:
    return _parse(codes.tobytes())


@lru_cache(maxsize=100_000)
def _parse(line: bytes) -> int:
    answer = arithmetic.parse_answer(arithmetic.decode(line))
    return NO_ANSWER if answer is None else answer
