"""`alloc epochs`: an earlier run to the documents that get 1, 2, 4, ... epochs."""

import json
from dataclasses import replace

import numpy as np

from alloc_jax.logs import write_log
from tests.commands.test_cli import alloc
from tests.conftest import made_log


def only_small(log):
    parts = (
        "answer",
        "correct",
        "prompt_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "latency_s",
        "usd",
        "reward",
    )
    kept = {name: part[:, :1] for name in parts if (part := getattr(log, name)) is not None}
    return replace(log, sources=log.sources[:1], count=log.count[:, :1], **kept)


def test_uncertain_questions_get_more_epochs_and_every_document_is_in_one_file(tmp_path):
    log = only_small(made_log(questions=30, samples=8))
    sure = np.arange(30) % 2 == 0
    correct = np.where(sure[:, None, None], (np.arange(30) % 4 == 0)[:, None, None], np.arange(8) % 2 == 0)
    log = replace(log, ids=tuple(f"sums/{i}" for i in range(30)), correct=correct)
    write_log(log, tmp_path / "log.jsonl")
    command = ["epochs", str(tmp_path / "log.jsonl"), f"--workdir={tmp_path / 'out'}"]
    said = alloc(*command, "--budget=3", "--most=8")
    assert said.returncode == 0, said.stderr
    files = {int(path.stem.split("-")[1]): json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()}
    assert sorted(i for documents in files.values() for i in documents["sums"]) == list(range(30))
    epochs = {i: number for number, documents in files.items() for i in documents["sums"]}
    assert max(epochs[i] for i in np.flatnonzero(sure)) < min(epochs[i] for i in np.flatnonzero(~sure))
    assert 2.5 < np.mean(list(epochs.values())) <= 3 and "epochs per question; standard error" in said.stdout
    write_log(replace(log, ids=tuple(f"q{i}" for i in range(30))), tmp_path / "log.jsonl")
    said = alloc(*command, "--budget=3")
    assert said.returncode == 1 and "expected ids of the form task/document" in said.stderr
