"""Attacks on the neighbours: slow clients, hostile texts and a sick upstream harm nobody else, and nobody sees what is not his."""

import asyncio
import gzip
import json
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import openai
import pytest

from alloc_jax.collect.replies import Fault
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import Tenant
from alloc_jax.serve.web import answer_keys, upstream as upstream_module
from alloc_jax.serve.web.breaker import Breaker, Breakers
from alloc_jax.serve.web.fair_shares import Fair
from alloc_jax.serve.web.middleware import failed
from tests.fake_server import fake_server, served, streaming
from tests.serve.made import RECIPES
from tests.serve.running import QUESTION, running, told, until

MESSAGES = [{"role": "user", "content": QUESTION}]
PASSED = {"model": "through", "messages": MESSAGES}
TWO = {"a": Tenant(name="a", budget=3.0), "b": Tenant(name="b", budget=3.0)}
KEYS = {"key-a": "a", "key-b": "b"}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upstream_module, "_PAUSE", 0.001)


drip = streaming(b"data: " + 65536 * b"x" + b"\n\n", 200)  # 13 MB


# Slow clients ---------------------------------------------------------------------------------------------------


def test_streams_that_nobody_reads_keep_no_slot(policy):
    with served(drip) as url, running(policy, url=url, upstream={"concurrency": 2}, tenant={"cap": 1e6}) as gateway:
        for _ in range(2):
            gateway.sent({**PASSED, "stream": True, "max_tokens": 9})
        until(lambda: 'alloc_requests_in_flight{tenant="default"} 2.0' in gateway.get("/metrics"))
        assert gateway.ask(model="alloc/vote(m,1)")[0].choices
        assert 'alloc_requests_in_flight{tenant="default"} 2.0' in gateway.get("/metrics")  # and both are there still


def test_streams_that_nobody_reads_end_at_a_limit(policy):
    with served(drip) as url, running(policy, url=url, http={"write_s": 0.3}, tenant={"cap": 1e6}) as gateway:
        gateway.sent({**PASSED, "stream": True, "max_tokens": 9})
        assert gateway.settled(1)["open"] == 0


def half_sent(gateway):
    """Eight connections that have sent the first byte of nine."""
    waiting = [gateway.connected() for _ in range(8)]
    for connection in waiting:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    return waiting


def test_bodies_that_are_half_sent_take_no_place_and_are_told_that_they_are_late(policy):
    with running(policy, config={"max_requests": 8, "body_s": 600.0}) as gateway:
        half_sent(gateway)
        assert gateway.ask()[0].choices
    with running(policy, config={"max_requests": 8, "body_s": 0.3}) as gateway:
        for connection in half_sent(gateway):
            status, _, said = told(connection)
            assert status == 408 and "did not come within 0.3 s" in said


def test_headers_that_do_not_come_end_a_connection(policy):
    with running(policy, http={"header_s": 1.0}) as gateway:
        begun = (b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: x\r\nA")
        waiting = [gateway.connected() for _ in begun]
        for connection, part in zip(waiting, begun, strict=True):
            connection.sendall(part)
        for connection in waiting:
            assert told(connection)[0] == 408 and not connection.recv(10)
        with gateway.connected() as connection, pytest.raises(OSError):
            connection.sendall(b"GET /health HTTP/1.1\r\n")
            for j in range(20000):
                connection.sendall(b"header-%d: %s\r\n" % (j, 90 * b"x"))
        assert gateway.get("/health")


def test_no_tenant_can_take_all_places(policy):
    greedy, free = [{"role": "user", "content": "1 + 2"}], threading.Event()
    options = {"held": lambda body: body["messages"] == greedy and not free.is_set()}
    with running(
        policy, options, tenants=TWO, config={"keys": KEYS, "admin_key": "key-admin", "max_requests": 8}
    ) as gateway:
        asked = [gateway.sent({"model": "alloc/vote(m,1)", "messages": greedy}, "key-a") for _ in range(8)]
        until(lambda: gateway.fake.at_once == 6)
        other = gateway.client.with_options(api_key="key-b")
        assert other.chat.completions.create(model="alloc/vote(m,1)", messages=MESSAGES).choices
        until(
            lambda: (
                'alloc_responses_total{status="503"} 2.0'
                in gateway.get("/metrics", {"Authorization": "Bearer key-admin"})
            )
        )
        free.set()
        assert sorted(told(connection)[0] for connection in asked) == 6 * [200] + 2 * [503]


def test_slots_go_round():
    async def play():
        fair, order = Fair(2, ("a", "b")), []

        async def work(tenant):
            async with fair.slot(tenant):
                order.append(tenant)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(work("a") for _ in range(6)), *(work("b") for _ in range(3)))
        given_up = asyncio.create_task(fair.take("a"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        return "".join(order), fair

    order, fair = asyncio.run(play())
    assert (sorted(order[:7]).count("b") == 3 and order.startswith("aa") is False) or "b" in order[:4]
    assert not fair.waiting and fair.held["b"] == 0


# The event loop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a" * 1_000_000, "ab cd " * 160_000, "(" * 1_000_000, "1+" * 500_000])
def test_a_question_of_a_megabyte_keeps_nobody_waiting(policy, text):
    with running(policy, config={"max_body": 2 << 20}) as gateway:
        took = []
        for _ in range(3):
            start = time.process_time()
            gateway.ask(text)
            took.append(time.process_time() - start)
        assert min(took) < 0.4  # seconds of CPU, of client, gateway and upstream together; the siege is strict


def test_a_pattern_cannot_explode(policy):
    with running(policy, config={"answer": "text", "answer_pattern": "(a+)+$"}) as gateway:
        gateway.fake.say = lambda body, number, choice: 40 * "a" + "!"
        start = time.process_time()
        assert gateway.ask(model="alloc/vote(m,4)")[1]["vote-share"] == "0.0000"
        assert time.process_time() - start < 2.0


@pytest.mark.long
def test_hostile_mathematics_delays_no_vote_of_one(policy, monkeypatch):
    pytest.importorskip("math_verify")
    monkeypatch.setattr(answer_keys, "_ONE_S", 2.0)
    with running(policy, config={"answer": "math"}) as gateway:
        gateway.fake.say = lambda body, number, choice: "$9^{9^{9^9}}$" if "9 + 9" in str(body) else "$4$"
        attacker = threading.Thread(target=gateway.ask, args=("9 + 9", "alloc/vote(m,4)"))
        attacker.start()
        try:
            until(lambda: len(gateway.fake.requests) == 4)
            for _ in range(5):
                gateway.ask("2 + 2", model="alloc/vote(m,1)")
            assert attacker.is_alive()  # four answers that each take their two seconds
        finally:
            attacker.join()
        assert gateway.settled(6)["open"] == 0


# A sick upstream ------------------------------------------------------------------------------------------------


def test_a_sample_that_hangs_is_not_waited_for_once_the_vote_is_decided(policy):
    options = {"fault": lambda number, body: "hang" if number == 3 else None}
    with running(policy, options, tenant={"cap": 1e4, "hard": True}) as gateway:
        headers = gateway.ask("1 + 1", model="alloc/vote(m,8)")[1]
        assert headers["samples"] == "7"
        assert headers["early"] == "1 samples that could not change the vote"
        assert gateway.core.ledger.totals()["charged"] == 8  # what never came may have been charged


def test_at_the_deadline_the_samples_that_came_have_to_do(policy):
    options = {"fault": lambda number, body: "hang" if number > 2 else None}
    with running(policy, options, config={"deadline_s": 1.5}) as gateway:
        headers = gateway.ask(model="alloc/vote(m,8)")[1]
        assert headers["samples"] == "2" and headers["early"] == "deadline"
        with pytest.raises(openai.InternalServerError, match="time-out") as error:
            gateway.ask(model="alloc/vote(m,2)")
        assert error.value.status_code == 504


def test_when_the_client_leaves_the_rest_is_not_drawn(policy):
    free = threading.Event()
    options = {"held": lambda body: not free.is_set()}
    with running(policy, options, upstream={"concurrency": 2}, tenant={"cap": 1e4, "hard": True}) as gateway:
        gateway.sent({"model": "alloc/vote(m,8)", "messages": MESSAGES}).close()
        totals = gateway.settled(1)
        assert len(gateway.fake.requests) <= 2 and totals["open"] == 0
        with gateway.sent({**PASSED, "max_tokens": 9}):
            until(lambda: any(body["model"] == "through" for body in gateway.fake.requests))
        assert gateway.settled(2)["open"] == 0
        free.set()
        until(lambda: not gateway.fake.at_once)
        assert gateway.fake.delivered["samples"] <= gateway.core.ledger.totals()["charged"] <= 3


def stopped(gateway, model="m"):
    """Stops the clock of a model's breaker; what it shows."""
    now = [0.0]
    gateway.gateway.upstream.servers.all[0].breakers[model].clock = lambda: now[0]
    return now


def test_an_outage_is_not_made_worse(policy):
    with running(policy, {"fault": lambda number, body: "500"}) as gateway:
        now = stopped(gateway)
        for _ in range(9):
            with pytest.raises(openai.InternalServerError) as error:
                gateway.ask(model="alloc/vote(m,8)")
        asked = len(gateway.fake.requests)
        assert asked <= 48 and error.value.status_code == 503 and int(error.value.response.headers["retry-after"]) >= 1
        assert f'alloc_upstream_faults_total{{status="500"}} {float(asked)}' in gateway.get("/metrics")
        gateway.fake.fault = lambda number, body: None
        now[0] = 1.1
        assert gateway.ask(model="alloc/vote(m,8)")[1]["samples"] == "8"  # it is found to be back


def test_a_breaker_lets_one_look_and_the_others_wait_for_what_it_finds():
    async def play():
        now = [0.0]
        breaker, seen = Breaker(most=2, clock=lambda: now[0]), []
        bad, good = Fault("no connection"), None

        async def request(outcome):
            try:
                async with breaker.passage():
                    await asyncio.sleep(0.001)
                    breaker.bad(outcome) if outcome else breaker.good()
                    seen.append(bool(outcome))
            except Fault as fault:
                seen.append(fault.retry_after)

        await request(bad)
        await request(bad)
        await request(good)  # too early
        now[0] = 1.0
        await asyncio.gather(request(bad), request(good), request(good))  # still down: who waited is refused
        now[0] = 3.0
        await asyncio.gather(request(good), request(good), request(good))
        return seen

    assert asyncio.run(play()) == [True, True, 1.0, True, 2.0, 2.0, False, False, False]


def test_a_model_that_is_down_stops_no_other(policy):
    fault = {"fault": lambda number, body: "500" if body["model"] == "down" else None}
    with running(policy, fault) as gateway:
        stopped(gateway, "down")
        said = []
        for _ in range(40):
            with pytest.raises(openai.APIStatusError) as error:
                gateway.ask(model="down")
            said.append(str(error.value))
        assert "the upstream is down" in said[-1] and gateway.fake.faults["500"] == 32
        assert gateway.ask(model="up")[0].choices and gateway.ask(model="alloc/vote(m,2)")[1]["samples"] == "2"


def test_breakers_that_nobody_needs_are_forgotten():
    breakers = Breakers()
    down = breakers["down"]
    for _ in range(down.most):
        down.bad(Fault("no connection"))
    for j in range(5000):
        breakers[f"{j}"].good()
    assert breakers["down"] is down and len(breakers.of) <= 1024
    for j in range(3000):
        breakers[f"{j}"].bad(Fault("no connection"))
    assert len(breakers.of) == 1024


@contextmanager
def closing():
    """A server that says keep-alive and closes every connection after its answer."""
    usage = {"prompt_tokens": 5, "completion_tokens": 5}
    reply = json.dumps({"choices": [{"message": {"content": "it is 4"}}], "usage": usage}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection):
        with connection:
            raw = b""
            while b"\r\n\r\n" not in raw or not raw.endswith(b"}"):
                part = connection.recv(65536)
                if not part:
                    return
                raw += part
            connection.sendall(answer)

    def run():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,)).start()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_connection_that_was_closed_while_idle_costs_nothing(policy):
    with closing() as url, running(policy, url=url, tenant={"cap": 1e6, "hard": True}) as gateway:
        for _ in range(20):
            assert gateway.ask(model="through")[0].choices
        totals = gateway.settled(20)
        assert totals["charged"] == totals["samples"] == 20


async def picky(scope, receive, send):
    """An upstream of another school: no stream_options, no space after `data:`, content in parts."""
    if scope["type"] != "http":
        return
    body = json.loads((await receive())["body"])
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    status, kind = 200, b"application/json"
    if "stream_options" in body:
        status, said = 400, json.dumps({"error": {"message": "stream_options: unknown field"}})
    elif body.get("stream"):
        kind, said = b"text/event-stream", 'data:{"choices": [{"delta": {"content": "4"}}]}\n\n'
        said += f'data:{{"choices": [], "usage": {json.dumps(usage)}}}\n\ndata:[DONE]\n\n'
    else:
        parts = [{"type": "text", "text": "it is "}, {"type": "text", "text": "4"}]
        said = json.dumps({"choices": [{"message": {"content": parts}}], "usage": usage})
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": said.encode()})


def test_other_schools_of_the_protocol_are_understood(policy):
    with served(picky) as url, running(policy, url=url) as gateway:
        assert gateway.ask(model="alloc/vote(m,1)")[0].choices[0].message.content == "it is 4"
        chunks = list(gateway.client.chat.completions.create(**PASSED, stream=True))
        assert chunks[0].choices[0].delta.content == "4" and len(chunks) == 1
        assert gateway.settled(2)["completion_tokens"] == 14


@pytest.mark.parametrize("kind", ["endless", "gzip"])
def test_an_upstreams_answer_is_bounded(policy, kind):
    async def upstream(scope, receive, send):
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"application/json")] + [(b"content-encoding", b"gzip")] * (kind == "gzip")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        part = gzip.compress(bytes(1 << 22)) if kind == "gzip" else bytes(1 << 16)
        for _ in range(100):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    with served(upstream) as url, running(policy, url=url, upstream={"max_reply": 1 << 18, "attempts": 1}) as gateway:
        for model in ("alloc/vote(m,1)", "through"):
            with pytest.raises(openai.InternalServerError, match=r"more than|compressed") as error:
                gateway.ask(model=model)
            assert error.value.status_code == 502


# Isolation ------------------------------------------------------------------------------------------------------


def test_a_tenant_sees_its_own_figures_and_the_operator_all(policy):
    with running(policy, tenants=TWO, config={"keys": KEYS, "admin_key": "key-admin"}) as gateway:
        for key in KEYS:
            gateway.client.with_options(api_key=key).chat.completions.create(model="alloc/auto", messages=MESSAGES)
        own = gateway.get("/metrics", {"Authorization": "Bearer key-a"})
        everything = gateway.get("/metrics", {"Authorization": "Bearer key-admin"})
        assert 'tenant="a"' in own and 'tenant="b"' not in own and "alloc_responses" not in own
        assert 'tenant="a"' in everything and 'tenant="b"' in everything and "alloc_responses" in everything
        with pytest.raises(openai.AuthenticationError):
            gateway.client.with_options(api_key="key-admin").models.list()


def test_neither_keys_nor_addresses_of_the_upstream_reach_a_client(policy):
    with running(policy, {"fault": lambda number, body: "echo"}) as gateway:
        for model in ("alloc/vote(m,1)", "through"):
            with pytest.raises(openai.InternalServerError) as error:
                gateway.ask(model=model, headers={"x-alloc-debug": "true"})
            said = str(error.value.body) + str(error.value.response.headers)
            assert "sk-upstream" not in said and "401" in said
    with running(policy, url="http://127.0.0.1:9/v1") as gateway:
        with pytest.raises(openai.InternalServerError) as error:
            gateway.ask()
        assert "127.0.0.1" not in str(error.value.body) + gateway.get("/health")


def test_a_redirect_is_not_followed(policy):
    with fake_server() as elsewhere, running(policy, {"redirect": lambda: elsewhere.url}) as gateway:
        for model in ("alloc/vote(m,1)", "through"):
            with pytest.raises(openai.InternalServerError, match="HTTP 307") as error:
                gateway.ask(model=model)
            assert error.value.status_code == 502
        assert not elsewhere.requests and len(gateway.fake.requests) == 2


def test_what_nobody_foresaw_is_an_error_of_the_protocol_and_says_nothing():
    said = failed(RuntimeError("a secret"))
    assert said.status_code == 500 and b"secret" not in said.body and json.loads(said.body)["error"]["code"] == 500


def test_a_policy_whose_weights_do_not_fit_does_not_start(policy):
    from dataclasses import replace

    for name, shape in (("feature_mean", (3,)), ("Dense_0/bias", (1, 3)), ("action_cost", (2,))):
        broken = replace(policy, weights={**policy.weights, name: np.ones(shape, np.float32)})
        with pytest.raises(ValueError, match=r"do not fit|predicts"):
            Core(broken, RECIPES, {"default": Tenant(budget=3.0)}, Ledger())
