"""The commands that collect, as their user runs them, and what they read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import alloc_jax as aj
from alloc_jax.collect import CollectConfig, parse_recipes, read_questions
from alloc_jax.collect.check_server import check_server
from alloc_jax.collect.questions import in_shard, parse_shard
from tests.fake_server import fake_server

ROOT = Path(__file__).parents[2]


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{i}", "question": f"{i} + {i}", "gold": 2 * i} for i in range(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_command_writes_a_journal_and_a_graded_log_and_goes_on(tmp_path, questions):
    with fake_server() as fake:
        command = ["experiments/collect_samples.py", f"--base_url={fake.url}", f"--questions={questions}"]
        command += ["--model=m", "--max_completion=64", "--grader=number", "--samples=4", f"--workdir={tmp_path / 'w'}"]
        stopped = run(*command, "--max_tokens=700")
        assert stopped.returncode == 0 and "stopped by max_tokens=700" in stopped.stdout, stopped.stderr
        first = run(*command)
        second = run(*command)
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout and len(fake.requests) == 32 and "32 samples" in first.stdout
    assert "$" not in first.stdout  # nobody said what a token costs
    log = aj.read_log(tmp_path / "w" / "samples.jsonl")
    assert len(log) == 8 and (log.count == 4).all()


@pytest.mark.long
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, questions):
    command = ["experiments/collect_samples.py", "--base_url=http://127.0.0.1:9/v1", f"--workdir={tmp_path / 'w'}"]
    for options, said in (
        ([f"--questions={questions}"], "name either --sources or a --model"),
        ([f"--questions={tmp_path / 'none.jsonl'}", "--model=m"], "no questions at"),
        ([f"--questions={questions}", "--model=m", "--shard=3/2"], "a shard is i/k"),
        ([f"--questions={questions}", "--model=m", "--max_usd=1"], "max_usd needs a price"),
    ):
        failed = run(*command, *options)
        assert failed.returncode == 1 and said in failed.stderr.splitlines()[-1], failed.stderr
    with fake_server(fault=lambda number, body: "404") as fake:
        failed = run(*command, f"--questions={questions}", "--model=m", f"--base_url={fake.url}")
    assert failed.returncode == 1 and "refuses source 'm': HTTP 404" in failed.stderr


def test_check_server_tells_what_a_server_ignores():
    with fake_server() as fake:
        good = {f.feature: f.honoured for f in check_server(CollectConfig(base_url=fake.url), "m", "12 + 345678")}
    with fake_server(honours_n=False, honours_seed=False, honours_temperature=False, usage=False) as fake:
        bad = {f.feature: f.honoured for f in check_server(CollectConfig(base_url=fake.url), "m", "12 + 345678")}
        said = run("-m", "alloc_jax", "check-server", f"--base_url={fake.url}", "--model=m")
    assert good == {
        "choices": True,
        "seed": True,
        "temperature": True,
        "logprobs": False,
        "usage": True,
        "limit": False,
        "stream": True,
    }
    assert not any(bad[name] for name in ("choices", "seed", "temperature", "usage")) and bad["limit"] is None
    assert said.returncode == 0 and "asked for n=4, got 1 choice" in said.stdout
    down = run("-m", "alloc_jax", "check-server", "--base_url=http://127.0.0.1:9/v1", "--model=m")
    assert down.returncode == 1 and "check-server: no connection" in down.stderr


def test_questions_come_from_three_formats(tmp_path, questions):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    read = read_questions(questions)
    (tmp_path / "q.csv").write_text("id,question,gold\n" + "".join(f"q{i},{i} + {i},{2 * i}\n" for i in range(8)))
    rows = [{"id": q.id, "question": q.text, "gold": q.gold} for q in read]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "q.parquet")
    assert read == read_questions(tmp_path / "q.csv") == read_questions(tmp_path / "q.parquet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no questions"),
        ('{"id": 1}', "line 1: no 'question'; the row has 'id'"),
        ('{"question": " "}', "line 1: question: the question is empty"),
        ('{"id": 1, "question": "a"}\n{"id": 1, "question": "b"}', "line 2: id: '1' occurs twice"),
        ('{"question": ["a"]}', "question: expected a text"),
        ('{"question": "a"', "broken JSON"),
        ('{"question": "\\ud800"}', "half a surrogate pair"),
    ],
)
def test_bad_questions_are_named(tmp_path, text, said):
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_questions(tmp_path / "q.jsonl")


def test_shards_are_a_partition(questions):
    read = read_questions(questions)
    parts = [[q for q in read if in_shard(q, *parse_shard(f"{i}/3"))] for i in (1, 2, 3)]
    assert sorted(q.id for part in parts for q in part) == [q.id for q in read]


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ([], "recipes by name"),
        ({"a": {}}, "source 'a': no model"),
        ({"a": {"model": "m", "temprature": 1}}, "unknown field 'temprature'"),
        ({"a": {"model": "m", "prompt": "hi"}}, "no {question} in it"),
        ({"a": {"model": "m", "n": 0}}, "n is at least 1"),
        ({"a": {"model": "m", "extra_body": {"seed": 1}}}, "extra_body.seed"),
        ({"a": {"model": "m", "temperature": float("nan")}}, "temperature"),
        ({"a": {"model": "m", "finish": ""}}, "finish is a text"),
        ({"a": {"model": "m", "finish": "So "}}, "finish needs max_tokens"),
        ({"a": {"model": "m", "finish": "So ", "max_tokens": 8, "n": 2}}, "one sample a request"),
        ({"a": {"model": "m", "finish": "So ", "max_tokens": 8, "finish_tokens": 0}}, "finish_tokens is at least 1"),
        ({"a": {"model": "m", "finish": "So ", "max_tokens": 8, "finish_body": 3}}, "finish_body is an object"),
        ({"a": {"model": "m", "finish_tokens": 8}}, "change nothing without finish"),
    ],
)
def test_bad_recipes_are_named(described, said):
    with pytest.raises(ValueError, match=said):
        parse_recipes(described)


def test_a_prompt_may_hold_braces():
    recipe = parse_recipes({"a": {"model": "m", "prompt": r"Solve \frac{1}{2}: {question}"}})["a"]
    assert recipe.messages("x{0}")[0]["content"] == r"Solve \frac{1}{2}: x{0}"
