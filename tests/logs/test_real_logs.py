"""Outcomes of public runs go through the readers; skipped where the folder of them is absent.

ALLOC_JAX_DATA names the folder; by default it is shared/data beside the project.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from alloc_jax.logs import LogError, grade, read_log, read_logs, write_log
from alloc_jax.measure import describe, format_description, load_table, measure, menu, save_table
from alloc_jax.types import SAMPLE_FIELDS
from tests.logs.test_read_log import assert_same_log
from tests.measure.test_store import assert_same_table

DATA = Path(os.environ.get("ALLOC_JAX_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no folder of real logs: name it in ALLOC_JAX_DATA")

# file -> its shape, and the sample fields that its costs and rewards become
FILES = {
    "oneshot_rlvr_math/dsr784": ((784, 3, 64), ()),
    "zeroeval/gsm8k": ((1319, 43, 1), ("usd",)),
    "reasoning_gym/easy": ((4617, 10, 3), ("usd",)),
    "reasoning_gym/amc_aime_llama3b": ((70, 2, 50), ("completion_tokens",)),
    "openai_gsm8k/gsm8k_verifier": ((1319, 4, 1), ()),
    "routellm/gsm8k": ((1319, 2, 1), ()),
    "small_math/qwen_math_rm100": ((100, 1, 8), ("completion_tokens", "reward")),
    "small_math/math500_prm20": ((20, 3, 16), ("reward",)),
}


def path_of(name):
    path = DATA / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{name} is not there")
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_sample_is_read_as_the_file_has_it(name):
    path = path_of(name)
    log = read_log(path)
    shape, fields = FILES[name]
    assert (len(log), *log.correct.shape[1:]) == shape
    assert {field for field in SAMPLE_FIELDS if getattr(log, field) is not None} == set(fields)
    with np.load(path) as raw:
        drawn = raw["correct"] != 255
        assert log.ids == tuple(raw["qid"]) and [s.name for s in log.sources] == raw["action"].tolist()
        np.testing.assert_array_equal(log.count, drawn.sum(axis=2))
        np.testing.assert_allclose(
            log.correct.sum(axis=2) / np.maximum(log.count, 1),
            np.where(drawn.any(axis=2), raw["accuracy"], 0),
            atol=1e-6,
        )
        if "answer" in raw.files:
            answer = raw["answer"]
            for i, m in np.argwhere(log.count > 0)[:: max(log.count.size // 500, 1)]:
                said = [None if c < 0 else log.answers[i][c] for c in log.answer[i, m, : log.count[i, m]]]
                assert said == [text or None for text in answer[i, m][drawn[i, m]].tolist()]


@pytest.mark.parametrize(
    "name, method, least",
    [
        ("zeroeval/gsm8k", "number", 0.999),
        ("openai_gsm8k/gsm8k_verifier", "number", 0.999),
        ("small_math/qwen_math_rm100", "math", 0.99),
        ("small_math/math500_prm20", "math", 0.98),  # the log calls `East` wrong against \text{east}, and cuts answers
        pytest.param("reasoning_gym/amc_aime_llama3b", "math", 0.99, marks=pytest.mark.long),
    ],
)
def test_graders_agree_with_logged_verdicts(name, method, least):
    if method == "math":
        pytest.importorskip("math_verify", reason="math-verify is not installed")
    with np.load(path_of(name)) as raw:
        answer, gold, correct = raw["answer"], raw["gold"], raw["correct"]
    drawn = np.argwhere((correct != 255) & (answer != ""))
    cases = Counter((str(answer[i, m, s]), str(gold[i]), bool(correct[i, m, s])) for i, m, s in drawn)
    said = grade([response for response, _, _ in cases], [gold for _, gold, _ in cases], method)
    assert not any(got.failure for got in said)
    same = sum(count for (case, count), got in zip(cases.items(), said, strict=True) if got.correct == case[2])
    assert same / cases.total() >= least


def test_a_negative_cost_in_a_public_log_is_found_by_row_and_skipped_alone():
    path = path_of("tot_game24/game24")
    with pytest.raises(LogError, match=r"row 32: question 'game24/932', source 'gpt4 CoT': samples\[0\]: usd: -0\.14"):
        read_log(path)
    reading = read_logs(path, skip_bad=True)
    assert (
        reading.skipped == 1
        and len(reading.log) == 100
        and reading.log.count.sum(axis=0).tolist() == [10000, 9900, 500]
    )


@pytest.mark.parametrize("name", ["small_math/math500_prm20", "reasoning_gym/amc_aime_llama3b", "routellm/gsm8k"])
def test_a_real_log_is_described_written_measured_and_stored(name, tmp_path):
    path = path_of(name)
    log = read_log(path)
    assert log.sources[0].name in format_description(describe(log))
    write_log(log, tmp_path / "log.jsonl")
    assert_same_log(read_log(tmp_path / "log.jsonl"), log)
    table = measure(log, menu(log, votes=(1,)))
    save_table(table, tmp_path / "table.npz", inputs=[path], options={"votes": [1]})
    assert_same_table(load_table(tmp_path / "table.npz"), table)
    np.testing.assert_allclose(
        table.utility[table.valid], (table.successes / np.maximum(table.samples, 1))[table.valid], atol=1e-6
    )
