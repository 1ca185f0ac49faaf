"""What passes through beside chats: completions, embeddings and models, counted and charged like any request."""

import json
import urllib.error

import openai
import pytest

from alloc_jax.price_book import TokenPrice
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.tickets import COMPLETIONS, EMBEDDINGS, Passed, Tenant
from tests.serve.running import running

HARD = {"budget": 75.0, "cap": 1e6, "hard": True}
PRICE = TokenPrice(model="e", input=1.0, output=10.0, source="a page", date="2026-01-01")


def delivered(gateway):
    return gateway.fake.delivered["prompt_tokens"] + gateway.fake.delivered["completion_tokens"]


def test_embeddings_pass_and_are_charged_by_the_tokens_that_were_read(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        said = gateway.client.embeddings.create(model="e", input=["one two", "three"], encoding_format="float")
        assert [one.embedding for one in said.data] == [[0.5, 0.0], [0.5, 1.0]] and gateway.fake.paths == [
            "/v1/embeddings"
        ]
        totals = gateway.settled(1)
        assert totals["charged"] == delivered(gateway) == 3 and totals["samples"] == 2
        passed = gateway.core.passed("default")
        assert passed.questions == 1 and passed.spent == 3 and gateway.core.account("default").questions == 0
        gateway.client.embeddings.create(model="e", input="one", encoding_format="float")
        gateway.client.embeddings.create(model="e", input=[1, 2, 3], encoding_format="float")  # the tokens of one text
        assert gateway.settled(3)["samples"] == 4


def test_completions_pass_whole_and_streamed(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        said = gateway.client.completions.create(model="c", prompt=["one two", "three"], n=2, max_tokens=9)
        assert [choice.text for choice in said.choices] == ["one two again"] * 2 + ["three again"] * 2
        totals = gateway.settled(1)
        assert totals["samples"] == 4 and totals["charged"] == delivered(gateway)
        stream = gateway.client.completions.create(model="c", prompt="one", max_tokens=9, stream=True)
        chunks = list(stream)
        assert "".join(chunk.choices[0].text for chunk in chunks) == "one again" and not any(
            chunk.usage for chunk in chunks
        )
        assert gateway.settled(2)["charged"] == delivered(gateway)


@pytest.mark.parametrize("path", [EMBEDDINGS, COMPLETIONS])
def test_a_usage_that_is_not_said_is_charged_at_its_worst_case(token_policy, path):
    with running(token_policy, {"usage": False}, tenant=HARD) as gateway:
        asked = {"input": "one two"} if path == EMBEDDINGS else {"prompt": "one two", "max_tokens": 9}
        assert gateway.post(json.dumps({"model": "c", **asked}).encode(), path=path)[0] == 200
        assert gateway.settled(1)["charged"] > 256


def test_what_may_be_reserved_is_bounded_by_what_is_sent():
    meter = Meter("tokens")
    texts = ["word " * 100] * 50
    size = len(json.dumps(texts))
    each = meter.worst_passed(Passed(id="a", body={"model": "e", "input": texts}, path=EMBEDDINGS))
    assert size < 50 * each < size + 400  # every text once, not all of them for each
    prompts = Passed(id="a", body={"model": "c", "prompt": texts, "n": 2, "max_tokens": 9}, path=COMPLETIONS)
    assert prompts.samples == 100 and 2 * size < 100 * (meter.worst_passed(prompts) - 9) < 2 * size + 900
    for body in ({"prompt": "a"}, {"prompt": "a", "max_tokens": 9, "best_of": 50}):
        with pytest.raises(ValueError, match=r"say max_tokens|best_of"):
            meter.worst_passed(Passed(id="a", body={"model": "c", **body}, path=COMPLETIONS))
    dollars = Meter("usd", prices={"e": PRICE})
    worst = dollars.worst_passed(Passed(id="a", body={"model": "e", "input": "a" * 1000}, path=EMBEDDINGS))
    assert 1e-3 < worst < 1.4e-3  # nothing is written


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (EMBEDDINGS, {"model": "e"}, 400, "input"),
        (EMBEDDINGS, {"model": "e", "input": ""}, 400, "input"),
        (EMBEDDINGS, {"model": "e", "input": 3}, 400, "input"),
        (EMBEDDINGS, {"input": "a"}, 400, "model"),
        (
            EMBEDDINGS,
            {"model": "alloc/auto", "input": "a"},
            400,
            "model: alloc/ answers chat completions and responses alone",
        ),
        (EMBEDDINGS, {"model": "closed", "input": "a"}, 403, "model 'closed' is not open"),
        (EMBEDDINGS, {"model": "e", "input": "a", "n": 0}, 400, "n: "),
        (EMBEDDINGS, {"model": "e", "input": ["a" * 900] * 9}, 429, "tenant 'default' has no room"),
        (COMPLETIONS, {"model": "e", "prompt": []}, 400, "prompt"),
        (
            COMPLETIONS,
            {"model": "e", "prompt": ["a"] * 17, "max_tokens": 1},
            400,
            "n is at most 16, over all prompts, got 17",
        ),
        (COMPLETIONS, {"model": "e", "prompt": "a"}, 400, "under a hard cap"),
        (COMPLETIONS, {"model": "e", "prompt": "a", "max_tokens": 9000}, 429, "tenant 'default' has no room"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_and_costs_nothing(token_policy, path, body, status, said):
    tenant = {"budget": 75.0, "cap": 5000.0, "hard": True, "models": ["e", "c"]}
    with running(token_policy, tenant=tenant) as gateway:
        got, error = gateway.post(json.dumps(body).encode(), path=path)
        assert got == status and error["error"]["message"].startswith(said) and error["error"]["code"] == status
        assert not gateway.fake.requests and gateway.core.ledger.totals()["requests"] == 0


def test_a_fault_of_the_upstream_reaches_the_client_and_is_settled(token_policy):
    with running(token_policy, {"fault": lambda number, body: "500"}, tenant=HARD) as gateway:
        with pytest.raises(openai.InternalServerError, match="HTTP 500"):
            gateway.client.embeddings.create(model="e", input="one")
        assert gateway.settled(1)["charged"] == 0
        gateway.fake.fault = lambda number, body: "400"
        with pytest.raises(openai.BadRequestError, match="told to say 400"):
            gateway.client.completions.create(model="c", prompt="one", max_tokens=9)


def test_one_model_is_described_where_it_is_listed(policy):
    with running(policy) as gateway:
        assert gateway.client.models.retrieve("m").id == "m"
        assert gateway.client.models.retrieve("alloc/auto").owned_by == "alloc_jax"
        assert gateway.client.models.retrieve("alloc/vote(m,8)").id == "alloc/vote(m,8)"
        for name in ("alloc/vote(m,9)", "none", "alloc"):
            with pytest.raises(openai.NotFoundError, match="there is no model"):
                gateway.client.models.retrieve(name)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            gateway.get("/v1/models/")
    with running(policy, tenant={"forced": False, "models": []}) as gateway:
        for name in ("m", "alloc/vote(m,8)"):
            with pytest.raises(openai.NotFoundError):
                gateway.client.models.retrieve(name)
    with running(policy, url="http://127.0.0.1:9/v1") as gateway:
        assert gateway.client.models.retrieve("alloc/auto").id  # also where the upstream is down
        with pytest.raises(openai.InternalServerError):
            gateway.client.models.retrieve("m")


def test_each_tenant_pays_for_its_own(token_policy):
    tenants = {name: Tenant(name=name, budget=75.0, cap=1e6) for name in ("a", "b")}
    with running(token_policy, tenants=tenants, config={"keys": {"key-a": "a", "key-b": "b"}}) as gateway:
        client = gateway.client.with_options(api_key="key-a")
        client.embeddings.create(model="e", input="one two", encoding_format="float")
        with pytest.raises(openai.AuthenticationError):
            gateway.client.embeddings.create(model="e", input="one")
        gateway.settled(1)
        assert gateway.core.passed("a").spent == 2 and gateway.core.passed("b").questions == 0
