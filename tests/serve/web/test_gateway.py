"""The gateway as its clients see it: the real openai client in front, a server that misbehaves behind."""

import json
import urllib.error
import urllib.request

import openai
import pytest

from alloc_jax.collect import parse_recipes
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.tickets import Tenant
from alloc_jax.serve.web import answering as answering_module, upstream as upstream_module
from alloc_jax.serve.web.gateway import Gateway
from alloc_jax.serve.web.upstream import Upstream
from tests.fake_server import fake_server, served
from tests.serve.made import RECIPES, AgreementOfTwo
from tests.serve.running import QUESTION, Running, running


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upstream_module, "_PAUSE", 0.001)


def test_an_allocated_answer_is_the_vote_and_its_usage_the_sum(policy):
    with running(policy) as gateway:
        said, headers = gateway.ask(model="alloc/vote(m,8)")
        assert headers["action"] == "vote(m,8)" and headers["samples"] == "8" and "multiplier" not in headers
        assert 0 < float(headers["vote-share"]) <= 1 and headers["policy"] == "sums in samples"
        texts = [gateway.fake.say(body, j + 1, 0) for j, body in enumerate(gateway.fake.requests)]
        assert said.choices[0].message.content in texts and said.model == "alloc/vote(m,8)"
        assert said.usage.completion_tokens == gateway.fake.delivered["completion_tokens"]
        assert said.usage.prompt_tokens == gateway.fake.delivered["prompt_tokens"] == 8 * 6
        assert gateway.core.ledger.totals()["completion_tokens"] == said.usage.completion_tokens
        sent = gateway.fake.requests
        assert len({body["seed"] for body in sent}) == 8 and {body["max_tokens"] for body in sent} == {64}
        assert gateway.fake.headers[0]["authorization"] == "Bearer sk-upstream"


def test_the_policy_decides_and_says_why(policy):
    with running(policy) as gateway:
        actions = {gateway.ask(text)[1]["action"] for text in ("1 + 2", "12 + 34", "345 + 678", "9999 + 8888")}
        headers = gateway.ask(headers={"x-alloc-debug": "true"})[1]
        assert len(actions) > 1 and float(headers["multiplier"]) > 0 and float(headers["margin"]) >= 0
        predicted = json.loads(headers["predicted"])
        assert predicted.keys() == set(policy.actions) and headers["runner-up"] in policy.actions
        assert "margin" not in gateway.ask()[1]
        assert gateway.core.account("default").questions == 6


def test_the_request_field_limits_samples_and_sets_a_budget(policy):
    with running(policy, tenant={"max_budget": 8.0}) as gateway:
        assert int(gateway.ask(extra_body={"alloc": {"max_samples": 1}})[1]["samples"]) == 1
        rich = gateway.ask(extra_body={"alloc": {"budget": 7.5}})[1]
        poor = gateway.ask(extra_body={"alloc": {"budget": 1.01}})[1]
        assert int(rich["samples"]) > int(poor["samples"]) and float(rich["multiplier"]) < float(poor["multiplier"])


def test_n_upstream_is_used_where_the_source_has_it_and_made_up_for_where_the_server_has_not(policy):
    recipes = parse_recipes({"m": {"model": "m", "n": 8, "max_tokens": 64}})
    with running(policy, recipes=recipes) as gateway:
        assert gateway.ask(model="alloc/vote(m,8)")[1]["samples"] == "8" and len(gateway.fake.requests) == 1
    with running(policy, {"honours_n": False}, recipes=recipes) as gateway:
        assert gateway.ask(model="alloc/vote(m,8)")[1]["samples"] == "8" and len(gateway.fake.requests) == 8


def test_a_recipe_puts_the_question_and_keeps_the_conversation(policy):
    described = {"model": "big", "prompt": "Think. {question}=", "system": "Be brief.", "extra_body": {"top_k": 3}}
    with running(policy, recipes=parse_recipes({"m": described})) as gateway:
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        turns.append({"role": "user", "content": [{"type": "text", "text": "1 + 2"}]})
        gateway.client.chat.completions.create(model="alloc/vote(m,1)", messages=turns, max_tokens=9, stop=["x"])
        body = gateway.fake.requests[0]
        assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
        assert body["messages"][-1]["content"] == "Think. 1 + 2=" and body["model"] == "big" and body["top_k"] == 3
        assert body["max_tokens"] == 9 and body["stop"] == ["x"]
        headers = gateway.ask("1 + 2", model="alloc/vote(m,2)", temperature=0.1, top_p=0.5)[1]
        assert headers["ignored"] == "temperature,top_p" and "temperature" not in gateway.fake.requests[-1]


def test_the_winner_is_streamed(policy):
    with running(policy) as gateway:
        message = [{"role": "user", "content": QUESTION}]
        options = {"model": "alloc/vote(m,4)", "messages": message, "stream": True}
        chunks = list(gateway.client.chat.completions.create(**options, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        texts = [gateway.fake.say(body, j + 1, 0) for j, body in enumerate(gateway.fake.requests)]
        assert text in texts and chunks[-1].usage.completion_tokens == gateway.fake.delivered["completion_tokens"]
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in gateway.client.chat.completions.create(**options))


def test_other_models_pass_through_and_are_metered(policy):
    with running(policy, {"extra": {"x": 1}}) as gateway:
        assert gateway.ask(model="some/model", extra_body={"alloc": {"budget": 1}})[1] == {"ignored": "alloc"}
        gateway.fake.requests.clear()
        said, headers = gateway.ask("1 + 2", model="some/model", temperature=0.3, n=3, extra_body={"top_k": 7})
        assert len(said.choices) == 3 and not headers and said.model_extra["x"] == 1
        assert gateway.fake.requests[0]["temperature"] == 0.3 and gateway.fake.requests[0]["top_k"] == 7
        totals = gateway.settled(2)  # after the last byte
        assert totals["samples"] == 1 + 3 and totals["completion_tokens"] == gateway.fake.delivered["completion_tokens"]
        assert gateway.core.account("default").questions == 0  # no question of the budget's
        with pytest.raises(openai.BadRequestError, match="n is at most 16"):
            gateway.ask(model="some/model", n=17)


def test_a_stream_that_passes_through_is_metered_whether_or_not_the_client_asks_for_usage(policy):
    with running(policy) as gateway:
        options = {"model": "x", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
        quiet = list(gateway.client.chat.completions.create(**options))
        asked = list(gateway.client.chat.completions.create(**options, stream_options={"include_usage": True}))
        assert not any(chunk.usage for chunk in quiet) and asked[-1].usage.completion_tokens > 0
        assert quiet[-1].choices[0].finish_reason == "stop"
        totals = gateway.settled(2)  # after a stream's last byte, which the client may have read before
        assert totals["completion_tokens"] == gateway.fake.delivered["completion_tokens"] and totals["open"] == 0


def test_models_health_and_metrics(policy):
    with running(policy) as gateway:
        names = [model.id for model in gateway.client.models.list()]
        assert names == ["alloc/auto", *(f"alloc/{name}" for name in policy.actions), "m"]
        gateway.ask(model="alloc/vote(m,4)")
        gateway.ask()
        assert json.loads(gateway.get("/health")) == {"status": "ok", "upstream": "ok"}
        metrics = gateway.get("/metrics")
        wanted = f'alloc_tokens_total{{kind="completion",tenant="default"}} {float(gateway.fake.delivered["completion_tokens"])}'
        assert wanted in metrics and 'alloc_actions_total{action="vote(m,4)",tenant="default"}' in metrics
        assert 'kind="reasoning"' not in metrics  # this server does not count them, which is not 0
        assert 'alloc_budget{tenant="default"} 3.0' in metrics and "alloc_decision_seconds_count 2.0" in metrics
        assert f'alloc_multiplier{{tenant="default"}} {gateway.core.multiplier("default")}' in metrics


@pytest.mark.parametrize("fault", ["429", "500", "503", "html", "truncated", "empty", "drop", "hang"])
def test_a_fault_in_passing_costs_no_answer(policy, fault, monkeypatch):
    monkeypatch.setattr(answering_module, "_LEAST_GRACE_S", 60.0)  # also where the others agree
    options = {"fault": lambda number, body: fault if number in (2, 5) else None}
    with running(policy, options, upstream={"timeout_s": 2.0 if fault == "hang" else 60.0}) as gateway:
        said, headers = gateway.ask(model="alloc/vote(m,8)", headers={"x-alloc-debug": "true"})
        assert headers["samples"] == "8" and headers["faults"].count(";") == 1
        assert said.usage.completion_tokens == gateway.fake.delivered["completion_tokens"]
        assert gateway.core.ledger.totals()["open"] == 0


def test_samples_that_never_come_leave_a_vote_of_the_others(policy):
    with running(
        policy, {"fault": lambda number, body: "500" if number % 2 else None}, upstream={"attempts": 1}
    ) as gateway:
        said, headers = gateway.ask(model="alloc/vote(m,8)")
        assert headers["samples"] == "4" and said.usage.completion_tokens == gateway.fake.delivered["completion_tokens"]
        assert gateway.core.ledger.totals()["cost"] == 4


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("500", 502, "HTTP 500"),
        ("400", 400, "told to say 400"),
        ("401", 502, "401"),
        ("429", 503, "429"),
        ("hang", 504, "time-out"),
    ],
)
def test_without_any_sample_the_client_gets_an_error_that_says_why(policy, fault, status, said):
    with running(
        policy, {"fault": lambda number, body: fault}, upstream={"timeout_s": 0.2 if fault == "hang" else 60.0}
    ) as gateway:
        with pytest.raises(openai.APIStatusError, match=said) as error:
            gateway.ask(model="alloc/vote(m,2)")
        assert error.value.status_code == status
        with pytest.raises(openai.APIStatusError):
            gateway.ask(model="through")
        totals = gateway.settled(2)
        assert totals["open"] == 0 and totals["requests"] == 2 and totals["cost"] == 0


def test_an_upstream_that_is_down_at_the_start_may_return_later(policy):
    core = Core(policy, RECIPES, {"default": Tenant(budget=3.0)}, Ledger())
    with fake_server() as fake:
        address = fake.url
    with served(Gateway(core, Upstream(address)).app()) as url:
        gateway = Running(url, None, type("G", (), {"core": core}))
        with pytest.raises(openai.APIStatusError, match="no connection") as error:
            gateway.ask()
        assert error.value.status_code == 502 and "no connection" in json.loads(gateway.get("/health"))["upstream"]
        assert next(iter(gateway.client.models.list())).id == "alloc/auto"
        with served(fake.app(), port=int(address.split(":")[2].split("/")[0])):
            assert gateway.ask()[0].choices
        gateway.client.close()
    assert core.ledger.totals() | {"open": 0} == core.ledger.totals() and core.ledger.totals()["requests"] == 2


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 400, "expected a JSON object, got list"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', 400, "model: expected a name"),
        (b'{"model": "alloc/auto", "messages": []}', 400, "messages: expected"),
        (b'{"model": "alloc/auto", "messages": [{"role": "system", "content": "a"}]}', 400, "no text in it"),
        (b'{"model": "alloc/auto", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', 400, "no text"),
        (b'{"model": "alloc/nothing", "messages": [{"role": "user", "content": "a"}]}', 404, "unknown action 'nothing'"),
        (b'{"model": "alloc/auto", "n": 2, "messages": [{"role": "user", "content": "a"}]}', 400, "got n=2"),
        (b'{"model": "alloc/auto", "n": true, "messages": [{"role": "user", "content": "a"}]}', 400, "n: expected"),
        (b'{"model": "alloc/auto", "tools": [{}], "messages": [{"role": "user", "content": "a"}]}', 400, "tools"),
        (b'{"model": "alloc/auto", "alloc": {"bugdet": 1}, "messages": [{"role": "user", "content": "a"}]}', 400, "bugdet"),
        (b'{"model": "alloc/auto", "alloc": {"budget": 0}, "messages": [{"role": "user", "content": "a"}]}', 400, "positive"),
        (b'{"model": "alloc/auto", "alloc": {"budget": 0.01}, "messages": [{"role": "user", "content": "a"}]}', 400, "cheapest plan"),
        (b'{"model": "alloc/auto", "alloc": {"max_samples": -1}, "messages": [{"role": "user", "content": "a"}]}', 400, "max_samples"),
        (b" " * 5000, 413, "at most 4000 bytes"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_what_is_wrong_and_costs_nothing(policy, raw, status, said):
    with running(policy, config={"max_body": 4000}) as gateway:
        got, body = gateway.post(raw)
        assert got == status and said in body["error"]["message"] and body["error"]["code"] == status
        assert not gateway.fake.requests and gateway.core.ledger.totals()["requests"] == 0


def test_a_text_that_is_no_text_is_answered_all_the_same(policy):
    with running(policy, tenant={"cap": 1e6, "hard": True}, cap=Meter("tokens")) as gateway:
        raw = b'{"model": "alloc/vote(m,1)", "messages": [{"role": "user", "content": "\\ud800 1 + 2"}]}'
        assert gateway.post(raw)[0] == 200
        assert gateway.post(raw.replace(b"vote(m,1)", b"auto"))[0] == 200


def test_clients_are_known_by_their_keys_and_pay_from_their_own_budgets(policy):
    tenants = {"a": Tenant(name="a", budget=7.0), "b": Tenant(name="b", budget=1.5, cap=4.0, hard=True)}
    config = {"keys": {"key-a": "a", "key-b": "b"}}
    with running(policy, tenants=tenants, config=config) as gateway:
        for key in ("none", "key-", "key-a2"):
            with pytest.raises(openai.AuthenticationError, match="no such key"):
                gateway.client.with_options(api_key=key).models.list()
        for client, many in (("key-a", 7), ("key-b", 4)):
            gateway.client = gateway.client.with_options(api_key=client)
            for _ in range(many):
                gateway.ask("5 + 5", model="alloc/vote(m,1)")
        with pytest.raises(openai.RateLimitError, match="no room left below its cap of 4") as error:
            gateway.ask()
        assert int(error.value.response.headers["retry-after"]) > 0
        assert gateway.core.multiplier("a") < gateway.core.multiplier("b")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            gateway.get("/metrics")
        assert "key-a" not in gateway.get("/metrics", {"Authorization": "Bearer key-a"})
        assert gateway.get("/health")


def test_too_many_requests_at_a_time_are_told_to_come_again(policy):
    with running(policy, config={"max_requests": 0}) as gateway, pytest.raises(openai.InternalServerError) as error:
        gateway.ask()
    assert error.value.status_code == 503 and error.value.response.headers["retry-after"] == "1"


def test_a_stopping_rule_leaves_samples_undrawn(policy):
    with running(policy, stopping=AgreementOfTwo(policy)) as gateway:
        said, headers = gateway.ask("1 + 2", headers={"x-alloc-debug": "true"})
        assert headers["action"] == "vote(m,16)" and headers["samples"] == "2" and len(gateway.fake.requests) == 2
        assert said.choices[0].message.content.endswith("3") and headers["runner-up"] == "None"
        assert gateway.core.ledger.totals()["cost"] == 2 and gateway.core.account("default").spent == 2
        assert 'alloc_samples_saved_total{tenant="default"} 14.0' in gateway.get("/metrics")
        assert gateway.ask("1 + 2", model="alloc/vote(m,8)")[1]["samples"] == "8"  # the client has decided
        assert gateway.ask(extra_body={"alloc": {"max_samples": 1}})[1]["samples"] == "1"
        before = gateway.core.multiplier("default")
        for _ in range(10):
            gateway.ask("1 + 2")
        assert gateway.core.multiplier("default") < before  # two samples, where three are allowed
