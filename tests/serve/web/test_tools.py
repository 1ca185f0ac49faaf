"""Tools, structured output and every other parameter: one sample that is sent on as it is, or a vote over calls; nothing in silence."""

import inspect
import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from openai.resources.chat.completions import Completions

from alloc_jax.collect import parse_recipes
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import AnswerRequest, Tenant
from alloc_jax.serve.web import upstream as upstream_module
from alloc_jax.serve.web.answer_keys import AnswerKeys, calls_key
from alloc_jax.serve.web.request_bodies import READ, REFUSED, SAMPLING, SENT
from tests.fake_server import served, streaming
from tests.serve.made import RECIPES, AgreementOfTwo
from tests.serve.running import QUESTION, running, until

MESSAGES = [{"role": "user", "content": QUESTION}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "object"}}}
HARD = {"budget": 75.0, "cap": 1e6, "hard": True}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upstream_module, "_PAUSE", 0.001)


def call(arguments, name="add", identity="call_1"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*arguments, **more):
    """A server's `say`: calls with these arguments, one message after the other."""
    given = iter(arguments * 99)
    return lambda body, number, choice: {"content": None, "tool_calls": [call(next(given))], **more}


def chunks_of(gateway, **fields):
    """The chunks of a stream, each with the seconds after which it came."""
    start = time.monotonic()
    body = {"model": "alloc/auto", "messages": MESSAGES, "tools": TOOLS, **fields}
    with gateway.client.chat.completions.create(**body, stream=True) as stream:
        return [(chunk, time.monotonic() - start) for chunk in stream]


def arguments_of(chunks):
    deltas = [chunk.choices[0].delta for chunk, _ in chunks if chunk.choices]
    return "".join(one.function.arguments or "" for delta in deltas for one in delta.tool_calls or [])


# One sample, as it is -------------------------------------------------------------------------------------------


def test_a_request_with_tools_gets_one_sample_and_the_message_as_it_is(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        gateway.fake.say = calling('{"a": 1,  "b": 2}', reasoning_content="Let me add.", provider="field")
        said, headers = gateway.ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
        message = said.choices[0].message
        assert message.content is None and message.tool_calls[0].function.arguments == '{"a": 1,  "b": 2}'
        assert message.tool_calls[0].id == "call_1" and said.choices[0].finish_reason == "tool_calls"
        assert message.model_extra["reasoning_content"] == "Let me add." and message.model_extra["provider"] == "field"
        assert headers["action"] == "vote(m,1)" and headers["samples"] == "1" and "operator" in headers["fallback"]
        assert "multiplier" in headers and "ignored" not in headers
        (sent,) = gateway.fake.requests
        assert sent["tools"] == TOOLS and sent["tool_choice"] == "required" and sent["parallel_tool_calls"] is False
        totals = gateway.settled(1)
        delivered = gateway.fake.delivered
        assert totals["charged"] == totals["cost"] == delivered["prompt_tokens"] + delivered["completion_tokens"]
        assert said.usage.completion_tokens == delivered["completion_tokens"]


def test_the_whole_loop_of_an_agent_passes(policy):
    with running(policy, recipes=parse_recipes({"m": {"model": "m", "prompt": "Add. {question}"}})) as gateway:
        turns = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call("{}")]}]
        turns.append({"role": "tool", "tool_call_id": "call_1", "content": "579"})
        said = gateway.client.chat.completions.create(model="alloc/auto", messages=turns, tools=TOOLS)
        assert said.choices[0].message.content and gateway.fake.requests[0]["messages"][1:] == turns[1:]
        assert gateway.fake.requests[0]["messages"][0]["content"] == f"Add. {QUESTION}"


def test_one_sample_is_streamed_as_it_comes(token_policy):
    with running(token_policy, {"chunk_s": 0.05}, tenant=HARD) as gateway:
        gateway.fake.say = calling(json.dumps({"a": list(range(20))}))
        chunks = chunks_of(gateway, stream_options={"include_usage": True})
        assert json.loads(arguments_of(chunks)) == {"a": list(range(20))}
        assert chunks[0][1] < 0.3 < chunks[-1][1] and len(chunks) > 8
        assert len({chunk.id for chunk, _ in chunks}) == 1 and {chunk.model for chunk, _ in chunks} == {
            "alloc/vote(m,1)"
        }
        finish = [chunk.choices[0].finish_reason for chunk, _ in chunks if chunk.choices]
        assert finish[-1] == "tool_calls" and set(finish[:-1]) == {None}
        delivered = gateway.fake.delivered
        assert chunks[-1][0].usage.completion_tokens == delivered["completion_tokens"]
        totals = gateway.settled(1)
        assert totals["charged"] == totals["cost"] == delivered["prompt_tokens"] + delivered["completion_tokens"]
        assert len(gateway.fake.requests) == 1 and "seed" in gateway.fake.requests[0]
        assert not any(chunk.usage for chunk, _ in chunks_of(gateway))  # who does not ask for it


@pytest.mark.parametrize("fields", [{}, {"model": "alloc/vote(m,1)", "tools": openai.NOT_GIVEN}])
def test_a_stream_says_in_its_headers_what_is_done(policy, fields):
    with running(policy) as gateway:
        body = {"model": "alloc/auto", "messages": MESSAGES, "tools": TOOLS, **fields}
        raw = gateway.client.chat.completions.with_raw_response.create(**body, stream=True)
        assert raw.headers["x-alloc-action"] == "vote(m,1)" and raw.headers["x-alloc-samples"] == "1"
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()).count("the answer is") == 1


@pytest.mark.parametrize("streams", ["whole", "refused"])
def test_a_server_that_does_not_stream_answers_all_the_same(token_policy, streams):
    fault = {"fault": lambda number, body: "no stream" if body.get("stream") and streams == "refused" else None}
    with running(token_policy, {**fault, "streams": False}, tenant=HARD) as gateway:
        gateway.fake.say = calling('{"a": 1}')
        chunks = chunks_of(gateway, stream_options={"include_usage": True})
        assert arguments_of(chunks) == '{"a": 1}' and chunks[-2][0].choices[0].finish_reason == "tool_calls"
        delivered = gateway.fake.delivered
        assert gateway.settled(1)["charged"] == delivered["prompt_tokens"] + delivered["completion_tokens"]
        assert chunks[-1][0].usage.completion_tokens == delivered["completion_tokens"] and delivered["requests"] == 1


def test_of_each_source_the_action_that_draws_fewest_stands_for_one_sample(policy):
    four = replace(policy, actions=("vote(m,4)", *policy.actions[1:]))  # none draws one
    core = Core(four, RECIPES, {"default": Tenant(budget=3.0, cap=100.0)}, Ledger(), stopping=AgreementOfTwo(four))
    ticket = core.admit(AnswerRequest(id="a", text="1 + 2", structured="tools"))
    assert ticket.action.name == "vote(m,1)" and ticket.plan is None and ticket.one and ticket.single
    assert ticket.expected == pytest.approx(ticket.decision.cost / core.actions[ticket.decision.action].samples)
    assert ticket.reserved < core.admit(AnswerRequest(id="b", text="1 + 2")).reserved
    named = core.admit(AnswerRequest(id="c", text="1 + 2", structured="tools", action="vote(m,8)"))
    assert named.action.name == "vote(m,1)" and named.expected == pytest.approx(1.0)


# Votes over calls -----------------------------------------------------------------------------------------------


def test_calls_are_voted_on_where_the_operator_says_so(policy):
    with running(policy, tenant={"structured": "vote"}) as gateway:
        gateway.fake.say = calling('{"a": 1, "b": 2}', '{"a": 3}', '{"b":2.0,"a":1}', '{"a": 1, "b"')
        said, headers = gateway.ask(model="alloc/vote(m,4)", tools=TOOLS, headers={"x-alloc-debug": "true"})
        assert headers["samples"] == "4" and headers["vote-share"] == "0.5000" and headers["answers"] == "2"
        assert json.loads(said.choices[0].message.tool_calls[0].function.arguments) == {"a": 1, "b": 2}
        assert "fallback" not in headers and said.usage.completion_tokens == gateway.fake.delivered["completion_tokens"]
        chunks = chunks_of(gateway, model="alloc/vote(m,4)")
        assert json.loads(arguments_of(chunks)) == {"a": 1, "b": 2}
        assert chunks[-1][0].choices[0].finish_reason == "tool_calls"
    with running(policy) as gateway:
        assert (
            gateway.ask(model="alloc/vote(m,4)", tools=TOOLS, extra_body={"alloc": {"gradable": True}})[1]["samples"]
            == "1"
        )
        headers = gateway.ask(model="alloc/vote(m,4)", tools=TOOLS, tool_choice="none")[1]
        assert headers["samples"] == "4"  # the answer is a text
    with pytest.raises(ValueError, match="structured is 'one' or 'vote', got 'all'"):
        Tenant(budget=3.0, structured="all")


def test_a_calls_key_is_its_name_and_then_its_arguments():
    one, other = call('{"a": 1.0, "b": [2]}'), call('{"b":[2],"a":1}', identity="call_2")
    assert calls_key([one]) == calls_key([other]) == '[["add",{"a":1,"b":[2]}]]'
    assert calls_key([call("", "now")]) == calls_key([call("{}", "now")]) == calls_key([call(None, "now")])
    assert calls_key([one, call("{}", "now")]) != calls_key([call("{}", "now"), one])
    assert calls_key([call("{}", "add")]) != calls_key([call("{}", "sub")])
    assert calls_key([{"type": "custom", "custom": {"name": "sql", "input": "select 1"}}]) == '[["sql","select 1"]]'


@pytest.mark.parametrize(
    "broken", [[call('{"a"')], [None], [{}], [{"function": None}], [call(3)], [call("{}", None)], [call("[" * 9000)]]
)
def test_a_call_that_nobody_could_make_has_no_vote(broken):
    assert AnswerKeys("number")([broken, [call("{}")]]) == [None, '[["add",{}]]']


def test_structured_answers_are_one_sample_unless_somebody_says_that_they_can_be_voted_on(policy):
    texts = ['{"sum": 579}', '{"sum":579.0}', '{"sum": 1}', "no"]

    def say(body, number, choice):
        return texts[number % 4]

    with running(policy) as gateway:
        gateway.fake.say = say
        said, headers = gateway.ask(model="alloc/vote(m,4)", response_format=FORMAT)
        assert headers["samples"] == "1" and "gradable" in headers["fallback"]
        assert gateway.fake.requests[0]["response_format"] == FORMAT and said.choices[0].message.content in texts
        voted = gateway.ask(model="alloc/vote(m,4)", response_format=FORMAT, extra_body={"alloc": {"gradable": True}})
        assert voted[1]["vote-share"] == "0.5000" and json.loads(voted[0].choices[0].message.content) == {"sum": 579}
        assert gateway.ask(model="alloc/vote(m,4)", response_format={"type": "text"})[1]["samples"] == "4"
    with running(policy, tenant={"structured": "vote"}) as gateway:
        gateway.fake.say = say
        assert gateway.ask(model="alloc/vote(m,4)", response_format=FORMAT)[1]["samples"] == "4"


# Parameters -----------------------------------------------------------------------------------------------------

VALUES = {
    "tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True, "response_format": {"type": "text"}, "stop": ["x"],
    "logprobs": True, "top_logprobs": 2, "verbosity": "low", "user": "u", "metadata": {"a": "b"}, "store": False,
    "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "24h", "temperature": 0.1, "top_p": 0.5,
    "top_k": 3, "min_p": 0.1, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.5, "logit_bias": {"5": 1},
    "n": 1, "max_tokens": 9, "max_completion_tokens": 9, "reasoning_effort": "low", "modalities": ["text"],
    "functions": [{"name": "f"}], "function_call": "auto", "audio": {"voice": "a"}, "web_search_options": {},
    "prediction": {"type": "content", "content": "a"}, "service_tier": "flex", "moderation": {}, "prompt_cache_options": {},
}  # fmt: skip


@pytest.mark.parametrize("action", ["vote(m,1)", "vote(m,2)"])
def test_no_parameter_is_dropped_in_silence(policy, action):
    known = set(inspect.signature(Completions.create).parameters) - {
        "self",
        "extra_headers",
        "extra_query",
        "extra_body",
        "timeout",
    }
    assert known - {"model", "messages", "stream", "stream_options"} <= VALUES.keys()
    assert (SENT | SAMPLING | REFUSED.keys()) <= VALUES.keys()
    with running(policy) as gateway:
        for name, value in VALUES.items():
            before = len(gateway.fake.requests)
            body = {"model": f"alloc/{action}", "messages": MESSAGES, name: value}
            if name in REFUSED:
                status, said = gateway.post(json.dumps(body).encode())
                assert status == 400 and name in said["error"]["message"] and len(gateway.fake.requests) == before
                continue
            headers = gateway.ask(model=f"alloc/{action}", extra_body={name: value})[1]
            sent, ignored = gateway.fake.requests[-1], headers.get("ignored")
            if name in ("max_tokens", "max_completion_tokens"):
                assert sent["max_tokens"] == 9 and ignored is None
            elif name == "reasoning_effort":  # no recipe says how much it reasons
                assert ignored == name
            elif name in SENT or (name in SAMPLING and action == "vote(m,1)"):
                assert sent[name] == value and ignored is None, name
            elif name not in READ:
                assert ignored == name and sent.get(name) != value, name
    recipes = parse_recipes({"m": {"model": "m", "temperature": 1.0, "extra_body": {"stop": ["y"]}}})
    with running(policy, recipes=recipes) as gateway:
        headers = gateway.ask(model=f"alloc/{action}", temperature=0.1, stop=["x"])[1]
        assert headers["ignored"] == "stop,temperature" and gateway.fake.requests[0]["stop"] == ["y"]


def test_the_page_has_every_parameter():
    page = Path(__file__).parents[3] / "docs" / "serve.md"
    table = page.read_text().partition("### Every parameter")[2].partition("| all others")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(names) == sorted(READ | SENT | SAMPLING | REFUSED.keys())


def test_logprobs_are_those_of_the_sample_that_is_sent_back(policy):
    with running(policy) as gateway:
        inside = {"content": [{"token": "4", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
        message = {"role": "assistant", "content": "it is 4"}
        gateway.fake.extra = {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": inside}]
        }
        for action in ("vote(m,1)", "vote(m,4)"):
            said = gateway.ask(model=f"alloc/{action}", logprobs=True)[0]
            assert said.choices[0].logprobs.content[0].logprob == -0.5
        gateway.fake.extra["choices"][0]["logprobs"] = {"content": [{"token": "4", "logprob": float("-inf")}]}
        said = gateway.ask(model="alloc/vote(m,4)", logprobs=True)[0]  # no JSON: what is, is sent
        assert said.choices[0].message.content == "it is 4" and said.choices[0].logprobs is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tools": "add"}, "tools: expected a list"),
        ({"tools": [[]]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]: there are no hosted tools"),
        ({"tools": [*TOOLS, {"type": "function"}]}, "tools[1].function"),
        ({"tools": [{"type": "function", "function": {"name": 3}}]}, "tools[0].function"),
        ({"tool_choice": "add", "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": ["auto"], "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice: there are no tools"),
        ({"tools": [], "tool_choice": {"type": "function"}}, "tool_choice: there are no tools"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning_effort": ["low"]}, "reasoning_effort"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"store": True}, "store"),
        ({"seed": "7"}, "seed"),
        ({"n": 2}, "n"),
    ],
)
def test_what_is_malformed_is_named_and_costs_nothing(policy, fields, said):
    with running(policy) as gateway:
        status, body = gateway.post(json.dumps({"model": "alloc/auto", "messages": MESSAGES, **fields}).encode())
        assert status == 400 and body["error"]["message"].startswith(said) and not gateway.fake.requests


# Attacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structured", ["one", "vote"])
def test_huge_arguments_reach_the_client_and_keep_nobody_waiting(policy, structured):
    huge = json.dumps({"text": "x" * 2_000_000})
    with running(policy, tenant={"structured": structured}) as gateway:
        gateway.fake.say = calling(huge)
        said = gateway.ask(model="alloc/vote(m,2)", tools=TOOLS)[0]
        assert said.choices[0].message.tool_calls[0].function.arguments == huge
        assert arguments_of(chunks_of(gateway, model="alloc/vote(m,2)")) == huge
        assert gateway.settled(2)["open"] == 0


@pytest.mark.parametrize("model", ["alloc/auto", "through"])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_what_is_nested_deeply_is_answered_or_refused_and_settled(policy, model, path):
    about = {"name": "f", "parameters": "deep"}
    tool = {"type": "function", **about} if path == "/responses" else {"type": "function", "function": about}
    asked = {"input": QUESTION} if path == "/responses" else {"messages": MESSAGES}
    with running(policy, tenant={"cap": 1e6, "hard": True}) as gateway:
        found = []
        for depth in (*range(800, 1000, 5), 100_000):  # from Python 3.12 on, JSON may be nested much deeper
            for stream in (False, True):
                raw = json.dumps({"model": model, **asked, "tools": [tool], "stream": stream})
                raw = raw.replace('"deep"', depth * "[" + depth * "]").encode()
                found.append((depth, *gateway.post(raw, path=path)))
        assert {status for _, status, _ in found} == {200, 400}, [one[:2] for one in found]
        assert not any("broke off" in said for _, _, said in found if isinstance(said, str))
        assert gateway.settled(1)["open"] == 0


@pytest.mark.parametrize("fault", ["cut", "broken off", "error event"])
def test_a_stream_that_is_cut_in_mid_call_is_an_error_and_not_free(token_policy, fault):
    options = {"fault": lambda number, body: fault if number == 1 else None}
    with running(token_policy, options, tenant=HARD) as gateway:
        gateway.fake.say = calling(json.dumps({"a": "word " * 9}))
        with pytest.raises(openai.APIError, match="the upstream broke off") as error:
            chunks_of(gateway)
        assert "sk-upstream" not in str(error.value)
        totals = gateway.settled(1)
        delivered = gateway.fake.delivered
        assert totals["charged"] >= delivered["prompt_tokens"] + delivered["completion_tokens"]
        assert (
            totals["cost"] > 0 and len(gateway.fake.requests) == 1
        )  # what was expected stands; nothing is asked again
        assert arguments_of(chunks_of(gateway)) and gateway.settled(2)["open"] == 0


@pytest.mark.parametrize("fault", ["429", "500", "503", "html", "truncated", "empty", "drop"])
def test_what_fails_before_the_first_chunk_is_asked_for_again(token_policy, fault):
    options = {"fault": lambda number, body: fault if number == 1 else None}
    with running(token_policy, options, tenant=HARD) as gateway:
        gateway.fake.say = calling('{"a": 1}')
        assert arguments_of(chunks_of(gateway)) == '{"a": 1}' and len(gateway.fake.requests) == 2
        delivered = gateway.fake.delivered
        assert gateway.settled(1)["charged"] >= delivered["prompt_tokens"] + delivered["completion_tokens"]
        gateway.fake.fault = lambda number, body: fault
        with pytest.raises(openai.APIStatusError) as refused:
            chunks_of(gateway)
        assert refused.value.status_code in (502, 503) and len(gateway.fake.requests) == 5
        assert gateway.settled(2)["open"] == 0


def test_an_answer_that_is_whole_is_not_lost_with_its_usage(token_policy):
    with running(token_policy, {"fault": lambda number, body: "no last event"}, tenant=HARD) as gateway:
        gateway.fake.say = calling('{"a": 1}')
        chunks = chunks_of(gateway, stream_options={"include_usage": True})
        assert arguments_of(chunks) == '{"a": 1}' and chunks[-1][0].usage is None
        totals = gateway.settled(1)
        assert totals["charged"] > 64 and totals["cost"] > 0  # nobody knows what it was


def test_a_client_that_leaves_in_mid_stream_pays_for_what_was_expected(token_policy):
    with running(token_policy, {"chunk_s": 0.05}, tenant=HARD) as gateway:
        gateway.fake.say = calling(json.dumps({"a": "word " * 9}))
        with gateway.client.chat.completions.create(
            model="alloc/auto", messages=MESSAGES, tools=TOOLS, stream=True
        ) as stream:
            next(iter(stream))
        totals = gateway.settled(1)
        delivered = gateway.fake.delivered
        assert totals["charged"] >= delivered["prompt_tokens"] + delivered["completion_tokens"] and totals["cost"] > 0
        assert gateway.core.account("default").questions == 1


def test_a_client_that_leaves_before_the_first_chunk_ends_the_request(token_policy):
    free = threading.Event()
    with running(token_policy, {"held": lambda body: not free.is_set()}, tenant=HARD) as gateway:
        body = {"model": "alloc/auto", "messages": MESSAGES, "tools": TOOLS, "stream": True}
        with gateway.sent(body):
            until(lambda: gateway.fake.at_once)
        totals = gateway.settled(1)
        free.set()
        assert totals["open"] == 0 and totals["samples"] == 0 and totals["charged"] > 64  # it may be worked for
        assert len(gateway.fake.requests) == 1


@pytest.mark.parametrize("at", ["before", "in the middle"])
def test_a_stream_has_a_deadline(token_policy, at):
    options = {"fault": lambda number, body: "hang"} if at == "before" else {"chunk_s": 0.2}
    with running(token_policy, options, tenant=HARD, config={"deadline_s": 0.5}) as gateway:
        gateway.fake.say = calling(json.dumps({"a": "word " * 9}))
        with pytest.raises(openai.APIError, match="time-out") as late:
            chunks_of(gateway)
        assert getattr(late.value, "status_code", 504) == 504
        totals = gateway.settled(1)
        assert totals["open"] == 0 and totals["charged"] > 64


_CALL = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": 65536 * "x"}}]}}]}
flood = streaming(b"data: " + json.dumps(_CALL).encode() + b"\n\n", 300)  # one call of 20 MB


def test_calls_that_nobody_reads_keep_no_slot(policy):
    with served(flood) as url, running(policy, url=url, upstream={"concurrency": 2}) as gateway:
        body = {"model": "alloc/auto", "messages": MESSAGES, "tools": TOOLS, "stream": True}
        stalled = [gateway.sent(body) for _ in range(3)]
        until(lambda: 'alloc_requests_in_flight{tenant="default"} 3.0' in gateway.get("/metrics"))
        assert gateway.ask()[0].choices
        assert 'alloc_requests_in_flight{tenant="default"} 3.0' in gateway.get("/metrics")
        for connection in stalled:
            connection.close()
        assert gateway.settled(4)["open"] == 0


def test_an_event_without_an_end_is_bounded(policy):
    async def upstream(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                await send({"type": "http.response.body", "body": b"data: " + 65536 * b"x", "more_body": True})

    with served(upstream) as url, running(policy, url=url, upstream={"attempts": 1}) as gateway:
        with pytest.raises(openai.InternalServerError, match="an event of more than"):
            chunks_of(gateway)
        assert gateway.settled(1)["open"] == 0
