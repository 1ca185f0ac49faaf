"""Several servers behind one gateway: shares by weight, and another one where one fails."""

import json
from contextlib import ExitStack, contextmanager

import openai
import pytest

from alloc_jax.collect.replies import Fault
from alloc_jax.serve.web import upstream as upstream_module
from alloc_jax.serve.web.servers import Server, Servers
from tests.fake_server import fake_server
from tests.serve.running import QUESTION, running


@contextmanager
def behind(policy, *options, weights=None, models=None, **more):
    """A gateway, and the servers behind it."""
    with ExitStack() as stack:
        fakes = [stack.enter_context(fake_server(**said)) for said in options]
        servers = [
            Server(
                url=fake.url,
                key=f"sk-{j}",
                weight=weights[j] if weights else 1.0,
                models=models[j] if models else None,
            )
            for j, fake in enumerate(fakes)
        ]
        yield stack.enter_context(running(policy, url=servers, **more)), fakes


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upstream_module, "_PAUSE", 0.001)


def always(fault):
    return {"fault": lambda number, body: fault}


def test_requests_are_shared_by_weight():
    servers = [Server(url=f"http://{name}/v1", weight=weight) for name, weight in (("a", 3.0), ("b", 1.0), ("c", 0.0))]
    chosen = [Servers(servers, seed).choose("m").server for seed in range(2000)]
    shares = [chosen.count(server) / 2000 for server in servers]
    assert shares[2] == 0 and shares[0] == pytest.approx(0.75, abs=0.04)
    (first,) = {Servers(servers).choose("m", servers[:2]).server}
    assert first is servers[2]  # the one without a weight, where the others have failed
    with pytest.raises(Fault, match="no upstream has the model 'x'"):
        Servers([Server(url="http://a/v1", models=("m",))]).choose("x")


@pytest.mark.parametrize("fault", ["500", "401", "404", "drop"])
def test_another_server_answers_where_one_fails(policy, fault):
    with behind(policy, always(fault), {}, weights=(1.0, 0.0)) as (gateway, (bad, good)):
        said, headers = gateway.ask(model="alloc/vote(m,4)")
        assert headers["samples"] == "4" and said.choices and len(good.requests) == 4 and len(bad.requests) == 4
        assert {headers["authorization"] for headers in good.headers} == {"Bearer sk-1"}
        assert gateway.settled(1)["samples"] == 4


def test_what_is_wrong_with_the_request_itself_is_asked_of_one(policy):
    with behind(policy, always("400"), {}, weights=(1.0, 0.0)) as (gateway, (bad, good)):
        with pytest.raises(openai.BadRequestError):
            gateway.ask(model="alloc/vote(m,1)")
        assert len(bad.requests) == 1 and not good.requests


@pytest.mark.parametrize("stream", [False, True])
def test_what_passes_through_falls_back_where_nothing_can_have_been_charged(policy, stream):
    ask = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "stream": stream}
    with behind(policy, always("500"), {}, weights=(1.0, 0.0)) as (gateway, (bad, good)):
        code, _ = gateway.post(json.dumps(ask).encode())
        assert code == 200 and len(bad.requests) == len(good.requests) == 1
        assert gateway.settled(1)["samples"] == 1
    with behind(policy, always("drop"), {}, weights=(1.0, 0.0)) as (gateway, (bad, good)):
        gateway.post(json.dumps(ask).encode())
        assert len(bad.requests) == 1 and not good.requests  # it may have been worked for


def test_a_server_that_is_down_is_not_asked_again_and_again(policy):
    with behind(policy, always("500"), {}, weights=(1.0, 1.0)) as (gateway, (bad, good)):
        for _ in range(12):
            gateway.ask(model="alloc/vote(m,8)")
        assert len(bad.requests) < 60 and len(good.requests) >= 96  # its breaker opens after 32 in a row


def test_a_model_is_asked_for_where_it_is_and_listed_once(policy):
    with behind(policy, {}, {}, models=(("m",), ("n", "m"))) as (gateway, (one, two)):
        assert [model.id for model in gateway.client.models.list() if "/" not in model.id] == ["m"]
        gateway.client.chat.completions.create(model="n", messages=[{"role": "user", "content": QUESTION}])
        assert not one.requests and len(two.requests) == 1
        with pytest.raises(openai.NotFoundError, match="no upstream has the model 'x'"):
            gateway.client.chat.completions.create(model="x", messages=[{"role": "user", "content": QUESTION}])
    with behind(policy, {}, {}) as (gateway, (one, two)):
        for _ in range(6):
            gateway.ask(model="alloc/vote(m,8)")
        assert min(len(one.requests), len(two.requests)) > 10  # both have a share


def test_a_server_is_described_as_it_should_be():
    for wrong, said in (
        ({"url": "ftp://x"}, "url: expected an address that begins with http, got 'ftp://x'"),
        ({"url": "http://x", "weight": -1}, "weight: expected a number from 0, got -1"),
        ({"url": "http://x", "models": "m"}, "models: expected a list of names, got 'm'"),
    ):
        with pytest.raises(ValueError) as error:
            Server(**wrong)
        assert str(error.value) == said
