"""The Messages API: requests as chat completions, completions as messages and their events, nothing dropped in silence."""

import json

import pytest

from alloc_jax.collect.replies import Usage
from alloc_jax.serve.tickets import Refused
from alloc_jax.serve.web.dialects.message_events import MessageEvents, Messages
from alloc_jax.serve.web.dialects.messages import chat_of_message
from tests.serve.running import QUESTION, running

ASKED = {"model": "alloc/auto", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}
TOOL = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
HARD = {"budget": 75.0, "cap": 1e6, "hard": True}


def post(gateway, headers=None, **fields):
    return gateway.post(json.dumps({**ASKED, **fields}).encode(), headers, "/messages")


def events_of(text):
    """The events of a stream, each with its name."""
    pairs = [block.split("\n", 1) for block in text.strip().split("\n\n")]
    read = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]
    assert all(name == event["type"] for name, event in read)
    return [event for _, event in read]


def test_a_message_is_an_allocated_answer(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        code, said = post(gateway, system=[{"type": "text", "text": "Add."}], metadata={"user_id": "u"})
        assert code == 200 and said["type"] == "message" and said["role"] == "assistant"
        assert said["content"][0]["type"] == "text" and said["stop_reason"] == "end_turn" and said["id"][:4] == "msg_"
        delivered = gateway.fake.delivered
        assert said["usage"] == {name: delivered[f"{kind}_tokens"] for name, kind in
                                 (("input_tokens", "prompt"), ("output_tokens", "completion"))}  # fmt: skip
        assert gateway.fake.requests[0]["messages"][0] == {"role": "system", "content": "Add."}
        assert gateway.fake.requests[0]["user"] == "u" and gateway.fake.requests[0]["max_tokens"] == 64


def test_a_stream_begins_deltas_and_ends_in_the_official_order(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        for model in ("alloc/vote(m,1)", "alloc/vote(m,4)", "m"):
            _, text = post(gateway, model=model, stream=True)
            events = events_of(text)
            kinds = [event["type"] for event in events]
            assert kinds[:2] == ["message_start", "content_block_start"]
            assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
            assert set(kinds[2:-3]) == {"content_block_delta"}
            said = "".join(event["delta"]["text"] for event in events[2:-3])
            assert said.split()[-1].isdigit() and events[-2]["delta"]["stop_reason"] == "end_turn"
            assert events[-2]["usage"]["output_tokens"] > 0
        delivered = gateway.fake.delivered
        assert gateway.settled(3)["charged"] == delivered["prompt_tokens"] + delivered["completion_tokens"]


def test_calls_of_tools_go_there_and_back(token_policy):
    with running(token_policy, tenant=HARD) as gateway:
        function = {"name": "add", "arguments": '{"a": 1}'}
        gateway.fake.say = lambda *_: {
            "content": "so",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
        _, said = post(gateway, tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True})
        text, call = said["content"]
        assert call == {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}} and text["text"] == "so"
        assert said["stop_reason"] == "tool_use"
        sent = gateway.fake.requests[0]
        assert sent["tool_choice"] == "required" and sent["parallel_tool_calls"] is False
        assert sent["tools"][0]["function"]["parameters"] == {"type": "object"}
        _, streamed = post(gateway, tools=[TOOL], stream=True)
        events = events_of(streamed)
        begun = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
        parts = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        assert begun == ["text", "tool_use"]
        assert json.loads("".join(part.get("partial_json", "") for part in parts)) == {"a": 1}


def test_results_of_tools_stand_before_what_the_user_says():
    body, ignored = chat_of_message(
        {
            **ASKED,
            "messages": [
                {"role": "user", "content": "1 + 2"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "x"},
                        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "and?"},
                        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3"}]},
                        {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": True},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                    ],
                },
            ],
            "stop_sequences": ["#"],
            "top_k": 3,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_config": {"effort": "low"},
            "service_tier": "auto",
        }
    )
    _, call, first, second, last = body["messages"]
    assert call["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'} and call["content"] is None
    assert first == {"role": "tool", "tool_call_id": "c1", "content": "3"} and second["content"] == "error: no"
    assert last["content"][1]["image_url"]["url"] == "data:image/png;base64,AA=="
    assert body["stop"] == ["#"] and body["top_k"] == 3 and body["reasoning_effort"] == "low"
    assert ignored == ("messages.thinking", "service_tier", "thinking")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": None}, "max_tokens: expected a whole number from 1"),
        ({"messages": "hi"}, "messages: expected a list"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role: expected user or assistant"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "a block of type 'document'"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0]: there are no hosted tools"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type: expected auto, any, tool or none"),
        ({"mcp_servers": [{}]}, "mcp_servers: there are no hosted tools"),
        ({"system": [{"type": "image"}]}, "system[0]: expected a block of type text"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields, said):
    with pytest.raises(Refused) as error:
        chat_of_message({**ASKED, **fields})
    assert said in str(error.value)


def test_errors_have_the_protocols_form_and_the_key_its_header(policy):
    with running(policy, config={"keys": {"key": "default"}}, key="key") as gateway:
        code, said = post(gateway)
        assert code == 401 and said == {
            "type": "error",
            "error": {"type": "authentication_error", "message": "no such key"},
        }
        code, said = post(gateway, {"x-api-key": "key"}, model="alloc/none")
        assert code == 404 and said["error"]["type"] == "not_found_error"
        assert post(gateway, {"x-api-key": "key"})[0] == 200


def test_usage_tells_what_came_from_a_cache_apart_and_null_is_not_0():
    body = {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "length", "logprobs": None}],
    }
    usage = Usage(prompt_tokens=10, cached_tokens=6, cache_write_tokens=1, completion_tokens=2)
    said = Messages("x").whole(body, usage)
    assert said["usage"] == {
        "input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 6, "cache_creation_input_tokens": 1,
    }  # fmt: skip
    assert said["stop_reason"] == "max_tokens"
    assert Messages("x").whole(body, Usage())["usage"] == {"input_tokens": None, "output_tokens": None}


def test_thinking_is_a_block_of_its_own_and_broken_arguments_are_not_lost():
    writer = MessageEvents({"id": "msg_x"})
    deltas = [
        {"reasoning_content": "hm"},
        {"content": "so"},
        {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
    ]
    raw = b"".join(writer.chunk({"choices": [{"delta": delta}]}) for delta in deltas) + writer.end(Usage())
    blocks = writer.content()
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
    assert blocks[2]["input"] == {"arguments": "{"}
    assert [event["index"] for event in events_of(raw.decode()) if event["type"] == "content_block_stop"] == [0, 1, 2]
    assert events_of(writer.broken(502, "gone").decode())[0]["error"] == {"type": "api_error", "message": "gone"}
