"""Samples from a server that misbehaves end up in the journal exactly once, and as what they are."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.collect import (
    CollectConfig,
    Question,
    collect,
    collector as collector_module,
    parse_recipes,
    read_questions,
    suspicions,
)
from alloc_jax.collect.journal import Journal
from alloc_jax.collect.replies import Fault, status_fault
from tests.fake_server import fake_server

ROOT = Path(__file__).parents[2]
QUESTIONS = [Question(f"q{i}", f"{i} + {7 * i}", str(8 * i), "sums") for i in range(12)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(collector_module, "_PAUSE", 0.001)


def recipes(**options):
    return parse_recipes({"m": {"model": "m", "max_tokens": 64, **options}})


def run(fake, path, questions=QUESTIONS, sources=None, prices=None, **options):
    config = CollectConfig(base_url=fake.url, **{"samples": 4, "concurrency": 4, "timeout_s": 60.0, **options})
    return collect(questions, sources or recipes(), path, config, prices, show=False)


def rows(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def keys(path):
    return [(row["id"], row["source"], s["sample"]) for row in rows(path) for s in row.get("samples", ())]


def wanted(questions=QUESTIONS, samples=4, source="m"):
    return sorted((question.id, source, j) for question in questions for j in range(samples))


def test_a_journal_is_a_sample_log(tmp_path):
    with fake_server() as fake:
        account = run(fake, tmp_path / "j.jsonl")
    log = aj.read_log(tmp_path / "j.jsonl", grader="number")
    assert (log.count == 4).all() and len(log) == 12 and log.group[0] == "sums"
    assert 0.3 < log.correct.mean() < 1 and log.gold[3] == "24"
    total = fake.delivered["prompt_tokens"] + fake.delivered["completion_tokens"]
    assert account.samples == 48 and account.tokens == total == log.tokens.sum()
    assert log.latency_s.min() > 0 and log.reasoning_tokens is None
    assert log.sources[0].details["model"] == "m"


@pytest.mark.parametrize("fault", ["429", "500", "503", "html", "truncated", "empty", "drop", "hang"])
def test_a_fault_in_passing_costs_no_sample(tmp_path, fault):
    with fake_server(fault=lambda number, body: fault if number in (2, 9) else None) as fake:
        account = run(fake, tmp_path / "j.jsonl", timeout_s=2.0 if fault == "hang" else 60.0)
    assert sorted(keys(tmp_path / "j.jsonl")) == wanted()
    assert fake.faults[fault] == 2 and sum(row.get("retries", 0) for row in rows(tmp_path / "j.jsonl")) >= 2
    # What may have been worked for is charged with the most it can have cost, though nothing came.
    known = fake.delivered["prompt_tokens"] + fake.delivered["completion_tokens"]
    assert (account.tokens > known) == (fault in ("truncated", "empty", "hang"))
    assert aj.read_log(tmp_path / "j.jsonl", grader="number").count.sum() == 48


def test_what_the_server_refuses_is_a_failure_and_no_wrong_answer(tmp_path):
    def fault(number, body):
        return "400" if "7 + 49" in body["messages"][-1]["content"] else None

    with fake_server(fault=fault) as fake:
        account = run(fake, tmp_path / "j.jsonl")
        again = run(fake, tmp_path / "j.jsonl")
        asked = len(fake.requests)
        run(fake, tmp_path / "j.jsonl", retry_refused=True)
    assert account.samples == again.samples == 44 and asked == 48 and len(fake.requests) == 52
    assert sum(account.failed.values()) == 4 and "told to say 400" in next(iter(account.failed))
    with pytest.warns(UserWarning, match="4 samples are missing"):
        log = aj.read_log(tmp_path / "j.jsonl", grader="number")
    assert "q7" not in log.ids and len(log) == 11


def test_a_server_that_stays_down_leaves_failures_that_are_asked_again(tmp_path):
    with fake_server(fault=lambda number, body: "500") as fake:
        account = run(fake, tmp_path / "j.jsonl", retries=1, questions=QUESTIONS[:2])
    assert account.samples == 0 and sum(account.failed.values()) == 8 and len(fake.requests) == 16
    with fake_server() as fake:
        run(fake, tmp_path / "j.jsonl", questions=QUESTIONS[:2])
    assert sorted(keys(tmp_path / "j.jsonl")) == wanted(QUESTIONS[:2])
    log = aj.read_log(tmp_path / "j.jsonl", grader="number")  # and no note of failures that were made good
    assert log.count.sum() == 8


@pytest.mark.parametrize("status", ["401", "404", "400"])
def test_a_server_that_refuses_everything_ends_the_run(tmp_path, status):
    with fake_server(fault=lambda number, body: status) as fake, pytest.raises(Fault, match="refuses source 'm'"):
        run(fake, tmp_path / "j.jsonl")
    assert len(fake.requests) <= 12  # and not all 48 were tried


def test_n_is_a_request_and_no_promise(tmp_path):
    with fake_server(honours_n=False) as fake:
        run(fake, tmp_path / "j.jsonl", sources=recipes(n=4))
    assert sorted(keys(tmp_path / "j.jsonl")) == wanted() and fake.requests[0]["n"] == 4
    with fake_server() as fake:
        account = run(fake, tmp_path / "k.jsonl", sources=recipes(n=4))
    assert sorted(keys(tmp_path / "k.jsonl")) == wanted() and len(fake.requests) == 12
    assert account.averaged == 12


def test_short_replies_are_no_retries(tmp_path):
    with fake_server(honours_n=False, fault=lambda number, body: "500" if number in (6, 13) else None) as fake:
        run(fake, tmp_path / "j.jsonl", QUESTIONS[:2], recipes(n=8), samples=8, retries=1, concurrency=1)
    assert sorted(keys(tmp_path / "j.jsonl")) == wanted(QUESTIONS[:2], 8) and fake.faults["500"] == 2


def test_every_request_has_a_seed_of_its_own_which_a_resumed_run_repeats(tmp_path):
    with fake_server() as fake:
        run(fake, tmp_path / "j.jsonl")
        run(fake, tmp_path / "k.jsonl")
        run(fake, tmp_path / "l.jsonl", seed=1)
        run(fake, tmp_path / "m.jsonl", seed=None)
    seeds = [body.get("seed") for body in fake.requests]
    assert len(set(seeds[:48])) == 48 and sorted(seeds[:48]) == sorted(seeds[48:96])
    assert not set(seeds[:48]) & set(seeds[96:144]) and set(seeds[144:]) == {None}


def test_missing_usage_is_unknown_and_not_zero(tmp_path):
    with fake_server(fault=lambda number, body: "no usage" if number < 4 else None) as fake:
        account = run(fake, tmp_path / "j.jsonl")
    log = aj.read_log(tmp_path / "j.jsonl", grader="number")

    assert account.unknown == 3 and np.isnan(log.completion_tokens).sum() == 3
    with pytest.raises(ValueError, match="token"):
        aj.measure(log, [aj.vote("m", 1)], "tokens")


def test_reasoning_tokens_stand_apart(tmp_path):
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
    with fake_server(usage=False, extra={"usage": usage}) as fake:
        run(fake, tmp_path / "j.jsonl")
    log = aj.read_log(tmp_path / "j.jsonl", grader="number")
    assert (log.reasoning_tokens == 7).all() and (log.completion_tokens == 9).all()


def test_a_torn_last_line_is_cut_and_asked_again(tmp_path):
    path = tmp_path / "j.jsonl"
    with fake_server() as fake:
        run(fake, path, questions=QUESTIONS[:3])
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        with pytest.warns(UserWarning, match="torn"):
            assert aj.read_log(path, grader="number").count.sum() == 11
        run(fake, path, questions=QUESTIONS[:3])
    assert sorted(keys(path)) == wanted(QUESTIONS[:3]) and len(fake.requests) == 13


_CHILD = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without
from alloc_jax.collect import CollectConfig, collect, parse_recipes
from tests.collect.test_collect import QUESTIONS
collect(QUESTIONS, parse_recipes({"m": {"model": "m", "n": 2}}), sys.argv[1],
        CollectConfig(base_url=sys.argv[2], samples=16, concurrency=4), show=False)
"""


def test_a_run_that_is_killed_goes_on_and_gets_every_sample_exactly_once(tmp_path):
    path = tmp_path / "j.jsonl"
    with fake_server(delay_s=0.1) as fake:
        for turn in range(3):
            child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path), fake.url], cwd=ROOT)
            while not (path.exists() and len(path.read_bytes().splitlines()) > 8 + 15 * turn):
                assert child.poll() is None
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
            child.wait()
            with open(path, "ab") as file:
                file.write(b'{"id": "q1", "samples": [{"sam')  # as if the kill had come in the middle of a line
        run(fake, path, sources=recipes(n=2, max_tokens=None), samples=16)
    assert sorted(keys(path)) == wanted(samples=16)


def test_ctrl_c_closes_the_journal(tmp_path):
    path = tmp_path / "j.jsonl"
    with fake_server(delay_s=0.5) as fake:  # slow enough that a busy machine does not miss the middle of the run
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), fake.url], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        while not (path.exists() and len(path.read_bytes().splitlines()) > 4):
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=60)[1]
    assert child.returncode != 0 and "KeyboardInterrupt" in said
    assert path.read_bytes().endswith(b"\n") and len(keys(path)) == len(set(keys(path))) >= 4


def test_two_processes_cannot_write_one_journal(tmp_path):
    with Journal(tmp_path / "j.jsonl", {"m": {}}), pytest.raises(ValueError, match="another process is writing"):
        Journal(tmp_path / "j.jsonl", {"m": {}})


def test_a_source_that_changed_is_refused_and_a_new_one_is_not(tmp_path):
    path = tmp_path / "j.jsonl"
    with fake_server() as fake:
        run(fake, path, questions=QUESTIONS[:2])
        with pytest.raises(ValueError, match="source 'm' was asked with"):
            run(fake, path, questions=QUESTIONS[:2], sources=recipes(temperature=0.5))
        other = parse_recipes({"other": {"model": "m", "temperature": 0.5}})
        run(fake, path, questions=QUESTIONS[:2], sources=other)
    log = aj.read_log(path, grader="number")
    assert [source.name for source in log.sources] == ["m", "other"] and (log.count == 4).all()


def test_another_file_is_no_journal_and_stays_as_it_is(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(ValueError, match="no journal"):
        Journal(path, {"m": {}})
    assert path.read_text() == '{"id": 1}\n'


def test_shards_merge_and_a_sample_in_two_of_them_is_refused(tmp_path):
    with fake_server() as fake:
        run(fake, tmp_path / "a.jsonl", questions=QUESTIONS[:5])
        run(fake, tmp_path / "b.jsonl", questions=QUESTIONS[5:])
        run(fake, tmp_path / "c.jsonl", questions=QUESTIONS[4:6])
    log = aj.read_log([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], grader="number")
    assert set(log.ids) == {question.id for question in QUESTIONS} and (log.count == 4).all()
    with pytest.raises(ValueError, match="occurs twice"):
        aj.read_log([tmp_path / "a.jsonl", tmp_path / "c.jsonl"], grader="number")


@pytest.mark.parametrize("faults", [False, True])
def test_the_token_limit_is_never_passed_and_nearly_reached(tmp_path, faults):
    def fault(number, body):
        return "truncated" if faults and number % 5 == 0 else None

    with fake_server(fault=fault) as fake:
        account = run(fake, tmp_path / "j.jsonl", samples=50, max_tokens=6000.0, concurrency=8)
        worst = 6000 - account.tokens
        assert account.stopped == "max_tokens=6000" and 0 <= worst < 500
        assert fake.delivered["total_tokens"] <= account.tokens
        resumed = run(fake, tmp_path / "j.jsonl", samples=50, max_tokens=6000.0)
    assert resumed.tokens == account.tokens  # nothing more was asked: the spend of earlier runs counts


def test_the_dollar_limit_needs_a_price_and_holds(tmp_path):
    price = aj.TokenPrice(model="m", input=1.0, output=1000.0, source="a page", date="2026-01-01")
    with fake_server() as fake:
        with pytest.raises(ValueError, match="max_usd needs a price for source 'm'"):
            run(fake, tmp_path / "j.jsonl", max_usd=0.5)
        with pytest.raises(ValueError, match="no max_tokens"):
            run(fake, tmp_path / "j.jsonl", max_tokens=5.0, sources=recipes(max_tokens=None))
        account = run(fake, tmp_path / "j.jsonl", samples=30, max_usd=0.5, prices={"m": price})
    assert account.stopped and 0.3 < account.usd <= 0.5
    log = aj.read_log(tmp_path / "j.jsonl", grader="number")

    assert np.nansum(log.usd) == pytest.approx(account.usd, rel=1e-5)


FORCED = {"max_tokens": 6, "finish": " So it is ", "finish_tokens": 3, "finish_body": {"continue": True}}


def thinking(fake):
    """Every second question is thought about for too long; asked for the answer, the model gives it."""
    fake.cut = lambda body: body["messages"][-1]["role"] == "user" and int(said_of(body).split()[0]) % 2 == 1
    fake.say = lambda body, number, choice: (
        "8 it is" if body["messages"][-1]["role"] == "assistant" else "let me see 5 or" if fake.cut(body) else "I say 7"
    )


def said_of(body):
    return body["messages"][0]["content"]


def test_what_was_cut_off_is_finished_and_both_requests_are_one_sample(tmp_path):
    with fake_server() as fake:
        thinking(fake)
        account = run(fake, tmp_path / "j.jsonl", sources=recipes(**FORCED))
    finishing = [body for body in fake.requests if len(body["messages"]) > 1]
    assert len(finishing) == 24 and len(fake.requests) == 72 and account.samples == 48
    for body in finishing:
        assert body["messages"][-1] == {"role": "assistant", "content": "let me see 5 or So it is "}
        assert body["max_tokens"] == 3 and body["continue"] is True and "seed" in body
    log = aj.read_log(tmp_path / "j.jsonl", grader="number")
    cut = np.arange(12) % 2 == 1
    assert [log.answers[i] for i in range(12)] == [("8",) if one else ("7",) for one in cut]
    np.testing.assert_array_equal(log.completion_tokens[:, 0], np.where(cut, 8, 3)[:, None].repeat(4, 1))
    assert account.tokens == log.tokens.sum() == fake.delivered["total_tokens"]
    assert {s["text"] for row in rows(tmp_path / "j.jsonl")[1:] for s in row["samples"]} == {
        "I say 7",
        "let me see 5 or So it is 8 it is",
    }


def test_a_fault_while_finishing_charges_for_what_was_thought(tmp_path):
    def fault(number, body):
        return "500" if len(body["messages"]) > 1 and number % 3 == 0 else None

    with fake_server(fault=fault) as fake:
        thinking(fake)
        account = run(fake, tmp_path / "j.jsonl", sources=recipes(**FORCED), retries=9)
    assert account.samples == 48 and account.failed and sorted(keys(tmp_path / "j.jsonl")) == wanted()
    assert fake.faults and account.tokens > fake.delivered["total_tokens"]  # at its worst case


def test_the_token_limit_counts_both_requests_of_a_sample(tmp_path):
    forced, plain = recipes(**FORCED)["m"], recipes(max_tokens=6)["m"]
    messages = plain.messages("1 + 1")
    assert forced.limit == plain.limit + 3 and forced.worst_tokens(messages) > 2 * plain.worst_tokens(messages)
    with fake_server() as fake:
        thinking(fake)
        account = run(fake, tmp_path / "j.jsonl", sources=recipes(**FORCED), max_tokens=900.0, concurrency=1)
    assert account.stopped == "max_tokens=900" and fake.delivered["total_tokens"] == account.tokens > 50


def test_repeats_that_are_equal_are_pointed_out(tmp_path):
    with fake_server(honours_seed=False) as fake:
        fake.say = lambda body, number, choice: "the answer is 7"
        run(fake, tmp_path / "j.jsonl")
    assert "all repeats are the same text on 12 of 12" in suspicions(tmp_path / "j.jsonl", recipes())[0]
    with fake_server() as fake:
        run(fake, tmp_path / "k.jsonl")
    assert suspicions(tmp_path / "k.jsonl", recipes()) == []


def test_options_that_change_nothing_are_pointed_out(tmp_path):
    sources = parse_recipes({"m": {"model": "m"}, "low": {"model": "m", "extra_body": {"reasoning_effort": "low"}}})
    with fake_server() as fake:
        run(fake, tmp_path / "j.jsonl", sources=sources)
    assert "the server may ignore the option" in suspicions(tmp_path / "j.jsonl", sources)[0]
    said = fake.say
    fake.requests.clear()
    with fake_server() as fake:
        fake.say = lambda body, *rest: said(body, *rest) + (" well" * 9 if "reasoning_effort" in body else "")
        run(fake, tmp_path / "k.jsonl", sources=sources)
    assert suspicions(tmp_path / "k.jsonl", sources) == []


def test_the_key_comes_from_the_environment_and_is_not_in_the_journal(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "MY_KEY", "sk-secret")
    with fake_server() as fake:
        run(fake, tmp_path / "j.jsonl", questions=QUESTIONS[:1], key_env="MY_KEY")
    assert fake.headers[0]["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in (tmp_path / "j.jsonl").read_text()


def test_a_question_without_id_is_known_by_its_text_wherever_it_stands(tmp_path):
    path, journal = tmp_path / "q.jsonl", tmp_path / "j.jsonl"
    lines = [json.dumps({"question": question.text, "gold": question.gold}) for question in QUESTIONS[:3]]
    with fake_server() as fake:
        path.write_text("\n".join(lines))
        run(fake, journal, read_questions(path))
        path.write_text("\n".join([json.dumps({"question": "100 + 1", "gold": "101"}), *lines]))
        run(fake, journal, read_questions(path))
    asked = [body["messages"][-1]["content"] for body in fake.requests]
    assert {text: asked.count(text) for text in asked} == dict.fromkeys(
        [q.text for q in QUESTIONS[:3]] + ["100 + 1"], 4
    )
    path.write_text("\n".join([lines[0], lines[0]]))
    with pytest.raises(ValueError, match="line 2: question: this text occurs twice"):
        read_questions(path)


def test_a_question_that_changed_is_named_and_nothing_is_asked(tmp_path):
    path = tmp_path / "j.jsonl"
    with fake_server() as fake:
        run(fake, path, QUESTIONS[:3])
        before = len(fake.requests)
        with pytest.raises(ValueError, match="'q1' has another text: '9 \\+ 9'"):
            run(fake, path, [QUESTIONS[0], Question("q1", "9 + 9", "18"), QUESTIONS[2]])
        with pytest.raises(ValueError, match="'q2' has the gold '17', and had '16'"):
            run(fake, path, [*QUESTIONS[:2], Question("q2", QUESTIONS[2].text, "17", "sums")])
        assert len(fake.requests) == before
        run(fake, path, QUESTIONS[:4])
    assert sorted(keys(path)) == wanted(QUESTIONS[:4])


def test_a_server_that_changes_its_model_is_noticed(tmp_path, caplog):
    path = tmp_path / "j.jsonl"
    with fake_server() as fake:
        run(fake, path, QUESTIONS[:2])
        assert not caplog.records
        fake.extra = {"model": "another"}
        run(fake, path, QUESTIONS[:4])
    assert "named its model 'm', and now names it 'another'" in caplog.text and len(caplog.records) == 1
    assert "the server answered as m, another" in suspicions(path, recipes())[0]


def test_a_server_that_asks_to_wait_for_a_day_ends_the_run_and_says_so(tmp_path):
    assert status_fault(429, "", "inf").retry_after is None and status_fault(429, "", "5").retry_after == 5.0
    with fake_server(retry_after="86400", fault=lambda number, body: "429" if number > 4 else None) as fake:
        start = time.monotonic()
        account = run(fake, tmp_path / "j.jsonl", QUESTIONS[:4])
        assert time.monotonic() - start < 3600 and "asks to wait 86,400 s" in account.stopped
    with fake_server() as fake:
        assert run(fake, tmp_path / "j.jsonl", QUESTIONS[:4]).stopped is None
    assert sorted(keys(tmp_path / "j.jsonl")) == wanted(QUESTIONS[:4])


def test_a_usage_that_cannot_be_counts_as_the_most_that_was_asked_for(tmp_path, caplog):
    with fake_server(usage=False, raw_usage='{"prompt_tokens": 9, "completion_tokens": 1e999}') as fake:
        account = run(fake, tmp_path / "j.jsonl", QUESTIONS[:1])
    assert account.tokens == 4 * (9 + 64) and "beyond what was asked for" in caplog.text


def test_no_prompt_follows_a_redirect_and_no_key_comes_back(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "MY_KEY", "my-secret-key")
    with fake_server() as elsewhere, fake_server(redirect=lambda: elsewhere.url) as fake:
        with pytest.raises(Fault, match="HTTP 307"):
            run(fake, tmp_path / "j.jsonl", key_env="MY_KEY")
        assert not elsewhere.requests
    with fake_server(fault=lambda number, body: "echo") as fake, pytest.raises(Fault) as refused:
        run(fake, tmp_path / "k.jsonl", key_env="MY_KEY")
    assert "my-secret-key" not in str(refused.value) and "[key]" in str(refused.value)
