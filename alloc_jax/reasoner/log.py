"""The built-in sample log: what the reasoner did on held-out questions, as it is shipped.

The file holds answers and token counts, a byte each, beside the questions and what they were made with; which answers
are right follows from the questions.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.reasoner import arithmetic
from alloc_jax.types import SampleLog, Source

SHIPPED_LOG = Path(__file__).parent / "data" / "samples.npz"
NO_ANSWER = -1


def save_log(
    path: Path,
    questions: list[arithmetic.Exercise],
    drawn: dict[str, Any],
    parameters: dict[str, int],
    made_by: dict,
) -> None:
    """Write a log.

    Args:
      path: of the `.npz` file.
      questions: what was asked.
      drawn: what `draw_samples` gave, for all sizes.
      parameters: the parameter count of each size.
      made_by: whatever is needed to make it again.
    """
    np.savez_compressed(
        path,
        question=np.array([question.text for question in questions]),
        gold=np.array([question.answer for question in questions], np.int8),
        difficulty=np.array([arithmetic.difficulty(question) for question in questions], np.float32),
        parameters=np.array(json.dumps(parameters)),
        made_by=np.array(json.dumps(made_by)),
        **drawn,
    )


@cache
def _shipped() -> dict[str, np.ndarray]:
    with np.load(SHIPPED_LOG) as file:
        return {name: file[name] for name in file.files}


def builtin_log() -> SampleLog:
    """The shipped log: real samples of the built-in reasoner on arithmetic it has not been trained on.

    The group of a question is its number of operations.
    """
    return read_drawn(_shipped())


def builtin_difficulty() -> np.ndarray:
    """f32[N, D] the generator's variables (`arithmetic.DIFFICULTY`) of the shipped log's questions.

    No policy may see them: they tell what the best reader of a question could know.
    """
    return _shipped()["difficulty"]


def read_drawn(file: dict[str, np.ndarray]) -> SampleLog:
    """The sample log in the arrays that `save_log` wrote."""
    parameters = json.loads(str(file["parameters"]))
    names = [name.removeprefix("answers/") for name in file if name.startswith("answers/")]
    sources = tuple(
        Source(name, parameters[name.split("/")[0]], {"model": f"alloc_jax/reasoner/{name.split('/')[0]}"})
        for name in names
    )
    answer = np.stack([file[f"answers/{name}"] for name in names], axis=1).astype(np.int32)
    vocabularies, codes = [], np.empty_like(answer)
    for i, given in enumerate(answer):
        values = np.unique(given[given != NO_ANSWER])
        codes[i] = np.where(given == NO_ANSWER, -1, np.searchsorted(values, given))
        vocabularies.append(tuple(str(value) for value in values))
    questions = tuple(str(text) for text in file["question"])
    tokens = np.stack([file[f"tokens/{name}"] for name in names], axis=1).astype(np.float32)
    return SampleLog(
        ids=tuple(f"arithmetic-{i:05d}" for i in range(len(questions))),
        question=questions,
        gold=tuple(str(gold) for gold in file["gold"]),
        group=tuple(f"{n:.0f} operation{'s' if n > 1 else ''}" for n in file["difficulty"][:, 0]),
        sources=sources,
        answers=tuple(vocabularies),
        count=np.full(answer.shape[:2], answer.shape[2], np.int32),
        answer=codes,
        correct=answer == file["gold"][:, None, None],
        # A prompt is read once for all samples of its question, so no sample is charged for it: tokens are those
        # written.
        completion_tokens=tokens,
    )
