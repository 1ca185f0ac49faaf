"""The Responses API: the official client in front, chat completions behind, nothing dropped in silence."""

import asyncio
import inspect
import json

import openai
import pytest
from openai.resources.responses import Responses

from alloc_jax.collect.replies import Fault, Usage
from alloc_jax.serve.web import upstream as upstream_module
from alloc_jax.serve.web.dialects import response_events
from alloc_jax.serve.web.dialects.response_events import Events
from alloc_jax.serve.web.dialects.responses import chat_request
from tests.serve.running import QUESTION, running

TOOLS = [{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}]
HARD = {"budget": 75.0, "cap": 1e6, "hard": True}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(upstream_module, "_PAUSE", 0.001)


def message(text=None, *calls, **more):
    """A server's `say`."""
    listed = [
        {"id": f"call_{j}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for j, (name, arguments) in enumerate(calls)
    ]
    return lambda body, number, choice: {"content": text, **({"tool_calls": listed} if calls else {}), **more}


def ask(gateway, **fields):
    """The response and the alloc headers."""
    asked = {"model": "alloc/auto", "input": QUESTION, **fields}
    raw = gateway.client.responses.with_raw_response.create(**asked)
    return raw.parse(), {k.removeprefix("x-alloc-"): v for k, v in raw.headers.items() if k.startswith("x-alloc-")}


def events_of(gateway, **fields):
    with gateway.client.responses.create(**{"model": "alloc/auto", "input": QUESTION, **fields}, stream=True) as stream:
        return list(stream)


def paid(gateway, requests=1):
    """What was charged, and what the upstream delivered."""
    delivered = gateway.fake.delivered
    return gateway.settled(requests)["charged"], delivered["prompt_tokens"] + delivered["completion_tokens"]


# Whole ----------------------------------------------------------------------------------------------------------


def test_a_response_is_an_allocated_answer(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        said, headers = ask(gateway, instructions="Add.", max_output_tokens=30, metadata={"a": "b"})
        assert said.output_text.split()[-1].isdigit() and said.status == "completed" and said.id.startswith("resp_")
        assert said.model == f"alloc/{headers['action']}" and said.metadata == {"a": "b"} and said.store is False
        delivered = gateway.fake.delivered
        assert (
            said.usage.output_tokens == delivered["completion_tokens"] and said.usage.total_tokens == paid(gateway)[1]
        )
        sent = gateway.fake.requests[0]
        assert sent["messages"] == [{"role": "system", "content": "Add."}, {"role": "user", "content": QUESTION}]
        assert sent["max_tokens"] == 30 and "metadata" not in sent
        charged, delivered = paid(gateway)
        assert charged == delivered


def test_a_vote_is_answered_by_its_winner(policy):
    with running(policy) as gateway:
        said, headers = ask(gateway, model="alloc/vote(m,4)")
        assert headers["samples"] == "4" and said.usage.output_tokens == gateway.fake.delivered["completion_tokens"]
        events = events_of(gateway, model="alloc/vote(m,4)")
        texts = [gateway.fake.say(body, j + 1, 0) for j, body in enumerate(gateway.fake.requests)]
        assert said.output_text in texts and events[-1].response.output_text in texts


def test_calls_come_and_their_results_go_back(policy):
    with running(policy) as gateway:
        gateway.fake.say = message("So.", ("add", '{"a": 1}'), ("now", ""), reasoning_content="Hm.")
        said, headers = ask(
            gateway, tools=TOOLS, tool_choice={"type": "function", "name": "add"}, parallel_tool_calls=True
        )
        assert [item.type for item in said.output] == ["reasoning", "message", "function_call", "function_call"]
        assert (
            said.output[2].name == "add"
            and said.output[2].arguments == '{"a": 1}'
            and said.output[2].call_id == "call_0"
        )
        sent = gateway.fake.requests[0]
        assert sent["tools"] == [{"type": "function", "function": {k: v for k, v in TOOLS[0].items() if k != "type"}}]
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "add"}} and "ignored" not in headers
        turns = [{"role": "user", "content": QUESTION}, *(item.model_dump(exclude_none=True) for item in said.output)]
        turns += [{"type": "function_call_output", "call_id": f"call_{j}", "output": "579"} for j in range(2)]
        _, headers = ask(gateway, input=turns, tools=TOOLS)
        assert headers["ignored"] == "input.reasoning"
        roles = [one["role"] for one in gateway.fake.requests[1]["messages"]]
        assert roles == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in gateway.fake.requests[1]["messages"][1]["tool_calls"]] == ["call_0", "call_1"]
        assert gateway.fake.requests[1]["messages"][1]["content"] == "So."


def test_formats_efforts_and_logprobs_have_their_place():
    schema = {"type": "json_schema", "name": "sum", "schema": {"type": "object"}, "strict": True}
    asked = {
        "model": "m",
        "input": "1",
        "text": {"format": schema, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
    }
    body, ignored = chat_request(
        {**asked, "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2}
    )
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {k: v for k, v in schema.items() if k != "type"},
    }
    assert (
        body["reasoning_effort"] == "low"
        and body["verbosity"] == "low"
        and body["logprobs"]
        and body["top_logprobs"] == 2
    )
    assert ignored == ("include.reasoning.encrypted_content", "reasoning.summary")
    image = {"type": "input_image", "image_url": "data:x", "detail": "low"}
    parts = [{"type": "input_text", "text": "a"}, image]
    body, _ = chat_request({"model": "m", "input": [{"role": "user", "content": parts}]})
    assert body["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}


def test_usage_has_its_details_where_they_are_known(policy):
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
    usage["completion_tokens_details"] = {"reasoning_tokens": 5}
    with running(policy, {"raw_usage": json.dumps(usage)}) as gateway:
        said = ask(gateway, model="alloc/vote(m,1)")[0].usage
        assert said.input_tokens_details.cached_tokens == 4 and said.output_tokens_details.reasoning_tokens == 5
        gateway.fake.raw_usage = ""
        assert ask(gateway, model="alloc/vote(m,1)")[0].usage.input_tokens_details is None  # unknown is not 0
        gateway.fake.usage = False
        assert ask(gateway, model="alloc/vote(m,1)")[0].usage is None


def test_an_answer_that_was_cut_off_is_incomplete(policy):
    with running(policy) as gateway:
        choice = {"index": 0, "message": {"role": "assistant", "content": "it is"}, "finish_reason": "length"}
        gateway.fake.extra = {"choices": [choice]}
        said = ask(gateway, model="alloc/vote(m,1)")[0]
        assert said.status == "incomplete" and said.incomplete_details.reason == "max_output_tokens"
        assert said.output[0].status == "incomplete" and said.output_text == "it is"
        assert events_of(gateway, model="alloc/vote(m,1)")[-1].type == "response.incomplete"


def test_models_of_the_upstream_answer_too_and_are_counted(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        said, headers = ask(gateway, model="through", max_output_tokens=50, reasoning={"summary": "auto"})
        assert said.output_text and said.model == "through" and headers == {"ignored": "reasoning.summary"}
        assert events_of(gateway, model="through", max_output_tokens=50)[-1].response.usage.output_tokens > 0
        charged, delivered = paid(gateway, 2)
        assert charged == delivered and gateway.core.passed("default").questions == 2
        assert gateway.core.account("default").questions == 0


# Streams --------------------------------------------------------------------------------------------------------


def test_events_come_in_their_order_and_say_together_what_the_last_one_says(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        gateway.fake.say = message(
            "It is so", ("add", '{"a": 1, "b": 2}'), ("now", "{}"), reasoning_content="Let me see"
        )
        events = events_of(gateway, tools=TOOLS)
        kinds = [event.type for event in events]
        short = [kind.removeprefix("response.") for j, kind in enumerate(kinds) if kind != kinds[j - 1]]  # deltas once

        def part(name):
            ends = ["content_part.done", "output_item.done"]
            return ["output_item.added", "content_part.added", f"{name}.delta", f"{name}.done", *ends]

        call = [
            "output_item.added",
            *(f"function_call_arguments.{end}" for end in ("delta", "done")),
            "output_item.done",
        ]
        wanted = ["created", "in_progress", *part("reasoning_text"), *part("output_text"), *call, *call, "completed"]
        assert short == wanted and [event.sequence_number for event in events] == list(range(len(events)))
        whole = events[-1].response
        assert (
            "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
        )
        done = [event.item for event in events if event.type == "response.output_item.done"]
        assert [item.model_dump() for item in done] == [item.model_dump() for item in whole.output]
        assert whole.output[2].arguments == '{"a": 1, "b": 2}' and whole.status == "completed"
        charged, delivered = paid(gateway)
        assert charged == delivered == whole.usage.total_tokens and len(gateway.fake.requests) == 1


def test_the_clients_own_helper_reads_the_stream(policy):
    with running(policy) as gateway, gateway.client.responses.stream(model="alloc/auto", input=QUESTION) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text


def test_async_clients_are_answered_all_at_once(policy):
    async def play(url):
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def one(j):
                stream = await client.responses.create(model="alloc/auto", input=f"{j} + 1", stream=True)
                return [event async for event in stream][-1].response.output_text

            whole = client.responses.create(model="alloc/auto", input=QUESTION)
            return await asyncio.gather(whole, *(one(j) for j in range(8)))

    with running(policy) as gateway:
        whole, *texts = asyncio.run(play(gateway.url))
        assert whole.output_text and all(texts) and gateway.settled(9)["open"] == 0


@pytest.mark.parametrize("fault", ["cut", "broken off", "error event"])
def test_a_stream_that_is_cut_in_mid_call_fails_and_is_not_free(token_policy, fault):
    with running(token_policy, {"fault": lambda number, body: fault}, tenant=HARD) as gateway:
        gateway.fake.say = message(None, ("add", json.dumps({"a": "word " * 9})))
        events = events_of(gateway, tools=TOOLS)
        assert events[-1].type == "response.failed" and "broke off" in events[-1].response.error.message
        assert events[-1].response.output[0].status == "in_progress" and "sk-upstream" not in str(events[-1])
        charged, delivered = paid(gateway)
        assert charged >= delivered and gateway.settled(1)["cost"] > 0


def chunk(finish=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def calls(*listed):
    return chunk(tool_calls=[{"index": j, "function": about} for j, about in listed])


def test_calls_that_are_mixed_with_each_other_are_whole_in_the_end():
    events = Events({"id": "resp_1"})
    said = events.chunk(calls((0, {"name": "a", "arguments": "{"}), (1, {"name": "b", "arguments": "["})))
    said += events.chunk(calls((0, {"arguments": "}"}))) + events.chunk(calls((1, {"arguments": "]"})))
    said += events.end(Usage())
    last = json.loads(said.split(b"data: ")[-1])["response"]
    assert [item["arguments"] for item in last["output"]] == ["{}", "[]"] and last["usage"] is None
    done = [json.loads(part.split(b"\n")[0]) for part in said.split(b"data: ")[1:]]
    final = {event["item"]["name"]: event["item"]["arguments"] for event in done if event["type"].endswith("item.done")}
    assert final == {"a": "{}", "b": "[]"}


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": None}, {"tool_calls": [None, 3, {}, {"function": 3}, {"function": {"name": 5, "arguments": []}}]},
        {"content": [1]}, {"content": {}}, {"refusal": 3}, {"tool_calls": [{"index": "x", "id": [], "function": {"arguments": "{}"}}]},
    ],
)  # fmt: skip
def test_whatever_a_chunk_holds_the_response_ends(delta):
    events = Events({"id": "resp_1"})
    said = events.chunk(chunk(**delta)) + events.chunk(chunk(finish=["stop"])) + events.end(Usage())
    assert json.loads(said.split(b"data: ")[-1])["type"] == "response.completed"


def test_a_response_without_an_end_is_bounded(monkeypatch):
    monkeypatch.setattr(response_events, "_LONGEST", 100)
    events = Events({"id": "resp_1"})
    with pytest.raises(Fault, match="more than 100 characters"):
        for _ in range(99):
            events.chunk(chunk(content="word "))


# Parameters -----------------------------------------------------------------------------------------------------

VALUES = {
    "temperature": (0.1, "temperature"), "top_p": (0.1, "top_p"), "parallel_tool_calls": (True, "parallel_tool_calls"),
    "user": ("u", "user"), "safety_identifier": ("s", "safety_identifier"), "prompt_cache_key": ("k", "prompt_cache_key"),
    "prompt_cache_retention": ("24h", "prompt_cache_retention"), "instructions": ("Add.", "messages"), "tools": (TOOLS, "tools"),
    "tool_choice": ("none", "tool_choice"), "reasoning": ({"effort": "low"}, "reasoning_effort"), "text": ({"verbosity": "low"}, "verbosity"),
    "max_output_tokens": (9, "max_completion_tokens"), "include": (["message.output_text.logprobs"], "logprobs"),
    "top_logprobs": (2, "top_logprobs"), "metadata": ({"a": "b"}, None), "store": (False, None), "background": (False, None),
    "truncation": ("disabled", None), "service_tier": ("auto", None), "input": ("1", "messages"), "model": ("m", "model"),
    "stream": (True, "stream"), "stream_options": ({}, None), "alloc": ({}, "alloc"),
}  # fmt: skip
REFUSED = {
    "previous_response_id": "resp_1", "conversation": "c", "store": True, "background": True, "prompt": {"id": "p"},
}  # fmt: skip


def test_no_parameter_is_dropped_in_silence():
    known = set(inspect.signature(Responses.create).parameters) - {
        "self",
        "extra_headers",
        "extra_query",
        "extra_body",
        "timeout",
    }
    for name in known | VALUES.keys():
        value, place = VALUES.get(name, ("something", None))
        if name in REFUSED and name not in VALUES:
            continue
        body, ignored = chat_request({"model": "m", "input": "1", name: value})
        if name not in VALUES:
            assert ignored == (name,)
        elif place is not None:
            assert ignored == () and place in body, name
        else:
            assert ignored == (), name
    for name, value in {
        "truncation": "auto",
        "service_tier": "flex",
        "stream_options": {"include_obfuscation": True},
    }.items():
        assert chat_request({"model": "m", "input": "1", name: value})[1] == (name,)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        *(({name: value}, name) for name, value in REFUSED.items()),
        ({"tools": [{"type": "web_search"}]}, "tools[0]: there are no hosted tools, got 'web_search'"),
        ({"tools": {}}, "tools: expected a list"),
        ({"tools": [[]]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": TOOLS, "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"input": None}, "input"),
        ({"input": []}, "messages"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"role": 3, "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": None}]}, "input[0].content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]: an item of type 'item_reference'"),
        ({"input": [{"type": ["a"]}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f", "call_id": "c"}]}, "input[0].arguments"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": 3}, "text: expected an object"),
        ({"reasoning": "low"}, "reasoning: expected an object"),
        ({"include": [{}]}, "include"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"instructions": [1]}, "instructions"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_and_costs_nothing(policy, fields, said):
    with running(policy) as gateway:
        for model in ("alloc/auto", "through"):
            body = {"model": model, "input": QUESTION, **fields}
            status, error = gateway.post(json.dumps(body).encode(), path="/responses")
            assert status == 400 and error["error"]["message"].startswith(said) and not gateway.fake.requests
