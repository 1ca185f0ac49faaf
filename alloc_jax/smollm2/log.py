"""The shipped log of SmolLM2: what it answered, and what every sample cost, in tokens and seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from alloc_jax.types import SampleLog, Source

SHIPPED = Path(__file__).parent / "data" / "samples.npz"
_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def smollm2_log() -> SampleLog:
    """The shipped log: samples of SmolLM2-135M-Instruct on small questions in natural language, from three sources.

    The group of a question is its template: a split by group tries a rule on wordings that it has not seen. Tokens are as
    the server stated them, prompt and cached prompt included; seconds are those of one request at a time on a
    machine that had other work, and say more about that machine than about the model.
    """
    return load_packed(SHIPPED)


def save_packed(log: SampleLog, path: str | os.PathLike, made_by: dict[str, Any]) -> None:
    """Write a log as one small archive: numbers in few bytes, and each answer's text once.

    Args:
      log: all pairs of which have equally many samples, with tokens and seconds.
      path: of the `.npz` file.
      made_by: whatever is needed to make it again; plain JSON.

    Raises:
      ValueError: the log is of another shape.
    """
    samples = log.answer.shape[2]
    if (log.count != samples).any():
        raise ValueError(f"every question has {samples} samples of every source, or it does not belong here")
    texts = sorted({text for answers in log.answers for text in answers})
    place = {text: j for j, text in enumerate(texts)}
    codes = np.full(log.answer.shape, -1, np.int16)
    for i, answers in enumerate(log.answers):
        own = np.array([place[text] for text in answers] + [-1], np.int16)  # the last stands for no answer
        codes[i] = own[log.answer[i]]
    sources = {source.name: {"parameters": source.parameters, **source.details} for source in log.sources}
    arrays: dict[str, Any] = {name: np.asarray(getattr(log, name)).astype(np.uint16) for name in _COUNTS}
    np.savez_compressed(
        path,
        id=np.array(log.ids),
        question=np.array(log.question),
        gold=np.array(log.gold),
        group=np.array(log.group),
        text=np.array(texts),
        answer=codes,
        correct=np.packbits(log.correct),
        latency_s=np.asarray(log.latency_s).astype(np.float16),
        sources=np.array(json.dumps(sources)),
        made_by=np.array(json.dumps(made_by)),
        **arrays,
    )


def load_packed(path: str | os.PathLike) -> SampleLog:
    """The log in an archive that `save_packed` wrote."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    codes, texts = arrays["answer"], arrays["text"].tolist()
    answer, answers = np.full(codes.shape, -1, np.int32), []
    for i, given in enumerate(codes):
        own = np.unique(given[given >= 0])
        answer[i] = np.where(given >= 0, np.searchsorted(own, given), -1)
        answers.append(tuple(texts[code] for code in own))
    described = json.loads(str(arrays["sources"]))
    return SampleLog(
        ids=tuple(arrays["id"].tolist()),
        question=tuple(arrays["question"].tolist()),
        gold=tuple(arrays["gold"].tolist()),
        group=tuple(arrays["group"].tolist()),
        sources=tuple(Source(name, values.pop("parameters"), values) for name, values in described.items()),
        answers=tuple(answers),
        count=np.full(codes.shape[:2], codes.shape[2], np.int32),
        answer=answer,
        correct=np.unpackbits(arrays["correct"], count=codes.size).reshape(codes.shape).astype(bool),
        latency_s=arrays["latency_s"].astype(np.float32),
        **{name: arrays[name].astype(np.float32) for name in _COUNTS},
    )
