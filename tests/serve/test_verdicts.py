"""A verifier or a reward model in the loop: the best sample is served, drawing stops in time, and every verdict is paid."""

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import alloc_jax as aj
from alloc_jax.actions import Action
from alloc_jax.collect.replies import Fault
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import Seen, Tenant
from alloc_jax.serve.verdicts.judges import asked_of, scores_of
from alloc_jax.serve.verdicts.verifier import Verifier, judged_policy, priced_plan
from alloc_jax.stopping.pandora import Verdicts, reservation_value
from tests.fake_server import served
from tests.serve.made import RECIPES, make_policy
from tests.serve.running import QUESTION, running

RIGHT = {"123 + 456": "579", "1 + 2": "3"}


@pytest.fixture(scope="module")
def passing():
    """The policy of votes, told that an exact verifier picks."""
    policy = make_policy()
    return replace(policy, actions=tuple(name.replace("vote(", "passes(") for name in policy.actions))


@contextmanager
def scorer(say=None, status=200):
    """A server that scores: by default 1 for what is right, and 0 else."""
    seen = []

    async def score(request):
        body = await request.json()
        seen.append((request.url.path, body))
        question = body.get("text_1") or body.get("query") or body["messages"][-2]["content"]
        answers = body.get("text_2") or body.get("documents") or [body["messages"][-1]["content"]]
        values = [(say or (lambda a: float(a.split()[-1] == RIGHT[question])))(answer) for answer in answers]
        listed = [{"index": j, "score": v, "relevance_score": v, "data": [[0.3], [v]]} for j, v in enumerate(values)]
        return JSONResponse({"data": listed, "results": listed[::-1]}, status)

    paths = [Route(f"/v1/{kind}", score, methods=["POST"]) for kind in ("score", "rerank", "pooling")]
    with served(Starlette(routes=paths)) as url:
        yield url, seen


@pytest.mark.parametrize("kind", ["score", "rerank", "pooling"])
def test_the_sample_with_the_best_verdict_is_served_and_every_verdict_paid(passing, kind):
    with scorer() as (url, seen):
        verifier = Verifier(url=f"{url}/{kind}", exact=True, cost=0.25, model="judge")
        tenant = {"budget": 6.0, "cap": 1000.0, "hard": True}
        with running(passing, tenant=tenant, verifier=verifier, in_turn=False) as gateway:
            for _ in range(4):
                said, headers = gateway.ask(model="alloc/passes(m,8)", headers={"x-alloc-debug": "true"})
                right = said.choices[0].message.content.split()[-1] == "579"
                assert float(headers["verdict"]) == right and headers["samples"] == "8"
                assert float(headers["reserved"]) == 8 * 1.25  # held before anything is sent
            totals = gateway.settled(4)
        judged = sum(len(body.get("text_2") or body.get("documents") or [1]) for _, body in seen)
        assert judged == totals["samples"] == 32
        assert totals["charged"] == totals["cost"] == pytest.approx(32 * 1.25)
        assert all(body["model"] == "judge" for _, body in seen)


def test_drawing_stops_at_the_first_right_sample(passing):
    with scorer() as (url, _):
        verifier = Verifier(url=f"{url}/score", exact=True, cost=0.1)
        with running(passing, tenant={"budget": 6.0}, verifier=verifier) as gateway:
            drawn, judged = [], []
            for _ in range(12):
                said, headers = gateway.ask("1 + 2")
                drawn.append(int(headers["samples"]))
                most = Action.parse(headers["action"]).samples
                right = said.choices[0].message.content.split()[-1] == "3"
                if most > 1:
                    assert float(headers["verdict"]) == right == (drawn[-1] < most or right)
                    judged.append(drawn[-1])
            assert gateway.settled(12)["cost"] == pytest.approx(sum(drawn) + 0.1 * sum(judged))
            assert min(judged) == 1  # it was right at once


def test_a_verifier_that_fails_costs_no_answer_and_is_said(passing):
    with scorer(status=500) as (url, _):
        verifier = Verifier(url=f"{url}/score", exact=True, cost=0.5)
        with running(passing, verifier=verifier, in_turn=False) as gateway:
            said, headers = gateway.ask(model="alloc/passes(m,4)", headers={"x-alloc-debug": "true"})
            assert said.choices[0].message.content and "verdict" not in headers
            assert "the verifier said HTTP 500" in headers["faults"]
            assert gateway.settled(1)["cost"] == 4 * 1.5  # it may have been worked for


TEST = """
import json, sys, time
said = json.load(sys.stdin)
mode = sys.argv[1]
if mode == "exact":
    sys.exit(said["answer"].split()[-1] != str(sum(map(int, said["question"].split()[::2]))))
if mode == "sleep":
    time.sleep(60)
if mode == "memory":
    x = bytearray(1 << 30)
if mode == "print":
    print("noise " * (1 << 20))
if mode == "number":
    print("some words, and", len(said["answer"]))
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    path = tmp_path_factory.mktemp("verifier") / "check.py"
    path.write_text(TEST)
    return lambda mode, **more: Verifier(command=[sys.executable, str(path), mode], cost=0.0, **more)


def judged(passing, verifier, model="alloc/passes(m,2)"):
    with running(passing, verifier=verifier, in_turn=False) as gateway:
        start = time.monotonic()
        said, headers = gateway.ask(QUESTION, model=model, headers={"x-alloc-debug": "true"})
        return said.choices[0].message.content, headers, time.monotonic() - start


def test_a_command_judges_within_its_limits(passing, command):
    text, headers, _ = judged(passing, command("exact", exact=True, timeout_s=20))
    assert float(headers["verdict"]) == (text.split()[-1] == "579")
    _, headers, took = judged(passing, command("sleep", exact=True, timeout_s=1.5))
    assert headers["verdict"] == "0.0000" and took < 45
    for mode in ("memory", "print"):  # beyond its memory, or its output
        _, headers, _ = judged(passing, command(mode, exact=True, timeout_s=20, memory_mb=256))
        assert headers["verdict"] == "0.0000"
    best = replace(passing, actions=tuple(name.replace("passes(", "best_of(") for name in passing.actions))
    text, headers, _ = judged(best, command("number", timeout_s=20), "alloc/best_of(m,2)")
    assert float(headers["verdict"]) == len(text)
    gone = replace(command("number"), command=("/no/such/command",))
    _, headers, _ = judged(best, gone, "alloc/best_of(m,2)")
    assert "the verifier's command is missing" in headers["faults"] and "verdict" not in headers


def test_a_reward_says_when_to_stop_where_it_was_measured():
    grid = np.linspace(0, 1, 32)[None]
    verdicts = Verdicts(("m",), grid, grid, np.full((1, 32), 1 / 32))
    action = aj.best_of("m", 6)
    plans = [priced_plan(action, 0.9, 6.0, multiplier, verdicts) for multiplier in (0.001, 0.05, 0.5, 10.0)]
    assert (np.diff([plan.expected for plan in plans]) < 0).all() and plans[-1].expected == pytest.approx(1.0)
    enough = float(reservation_value(grid[0], np.full(32, 1 / 32), 0.05))
    for reward in (enough - 0.02, enough + 0.02):
        stops = not plans[1].next([Seen("m", None, 0, reward)])
        assert stops == (reward >= enough)
    assert plans[1].next([]) == ("m",) and not plans[0].next([Seen("m", None, j, 0.1) for j in range(6)])
    assert not plans[3].next([Seen("m", None, 0, 0.0)])  # another is worth less than it costs
    assert priced_plan(action, 0.9, 6.0, 0.1, None) is None and plans[1].limits == {"m": 6}


def test_the_costs_of_verdicts_are_in_what_the_policy_predicts(passing):
    verifier = Verifier(url="http://x/score", exact=True, cost=0.5)
    dearer = judged_policy(passing, verifier)
    before, after = passing.predict(["1 + 2"]), dearer.predict(["1 + 2"])
    np.testing.assert_allclose(after.cost - before.cost, [[0.5, 1.0, 2.0, 4.0]], rtol=1e-5)
    assert dearer.multiplier(4.0).mean > passing.multiplier(4.0).mean  # the same budget buys less
    votes = make_policy()
    assert judged_policy(votes, verifier) is votes


def test_what_a_verifier_cannot_do_is_told_before_anything_is_served(passing):
    for wrong, said in (
        ({}, "cost: expected what a verdict costs"),
        ({"cost": 1}, "a verifier has a url or a command"),
        ({"cost": 1, "url": "http://x/other"}, "url: expected an address of one of score, rerank"),
        ({"cost": -1, "url": "http://x/score"}, "cost: expected a number from 0, got -1"),
        ({"cost": 1, "command": "check"}, "command: expected a list of texts, got 'check'"),
        ({"cost": 1, "url": "http://x/score", "timeout_s": 0}, "timeout_s: expected a positive number, got 0"),
        ({"cost": 1, "ulr": "x"}, "ulr: there is no such key; known: url, kind"),
    ):
        with pytest.raises(ValueError) as error:
            Verifier.of(wrong)
        assert said in str(error.value)
    reward, tenants = Verifier(url="http://x/score", cost=0.0), {"default": Tenant(budget=3.0)}
    with pytest.raises(ValueError, match=r"passes\(m,1\) needs rewards or a verifier that is exact"):
        Core(passing, RECIPES, tenants, Ledger(), verifier=reward)


def test_servers_are_asked_and_read_in_their_own_words():
    assert asked_of("score", "q", [], ["a", "b"]) == {"text_1": "q", "text_2": ["a", "b"]}
    assert asked_of("rerank", "q", [], ["a"]) == {"query": "q", "documents": ["a"]}
    assert asked_of("classify", "q", [], ["a"]) == {"input": ["q\na"]}
    assert asked_of("pooling", "q", [], ["a"])["messages"][-1] == {"role": "assistant", "content": "a"}
    read = lambda kind, listed, name="data": scores_of(kind, json.dumps({name: listed}).encode(), 2)  # noqa: E731
    assert read("score", [{"index": 1, "score": 2.0}, {"index": 0, "score": 1}]) == [1.0, 2.0]
    assert read("rerank", [{"index": 1, "relevance_score": 0.5}], "results") == [None, 0.5]
    assert read("classify", [{"index": 0, "probs": [0.2, 0.8]}]) == [0.8, None]
    assert read("pooling", [{"data": [[0.1], [0.7]]}]) == [0.7, None]
    for broken in (b"<html>", b"{}", b'{"data": [{"index": 0}]}', b'{"data": 3}'):
        with pytest.raises(Fault, match="holds no verdicts"):
            scores_of("score", broken, 1)
