"""LiteLLM, LangChain and Anthropic's client, as agents use them, in front of the gateway; they run from the environment of tests/real_tools.py."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.real_tools import needs_package
from tests.serve.running import running

SCRIPT = Path(__file__).with_name("clients.py")
SUM = {"a": 123, "b": 456}
pytestmark = pytest.mark.long


def say(body, number, choice):
    """Calls a tool where there is one and it was not called yet, and else answers, in JSON where that is asked for."""
    if body.get("tools") and body["messages"][-1]["role"] != "tool":
        function = {"name": "add", "arguments": json.dumps(SUM)}
        return {"content": None, "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]}
    return '{"total": 579}' if body.get("response_format") else "it is 579"


def run(name, package, policy, folder):
    """What a client saw, and the gateway's account: tokens charged, and tokens that the upstream delivered."""
    python = needs_package(package)
    with running(policy, tenant={"budget": 75.0, "cap": 1e6, "hard": True}) as gateway:
        gateway.fake.say = say
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        command = [python, SCRIPT, name, gateway.url]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        charged = gateway.settled(len(gateway.fake.requests))["charged"]
        delivered = gateway.fake.delivered
        assert charged == delivered["prompt_tokens"] + delivered["completion_tokens"] > 0
        return json.loads(done.stdout.splitlines()[-1])


def test_litellm(token_policy, tmp_path):
    found = run("litellm", "litellm", token_policy, tmp_path)
    assert found["call"] == found["streamed"] == SUM and found["tokens"] > 0
    assert found["response"] == ["function_call"] and found["vectors"] == 2
    assert found["events"][0] == "response.created" and found["events"][-1] == "response.completed"


def test_anthropic(token_policy, tmp_path):
    found = run("anthropic", "anthropic", token_policy, tmp_path)
    assert found["call"] == found["streamed"] == SUM and found["stop"] == "tool_use"
    assert found["tokens"] > found["streamed tokens"] > 0  # the first has a system prompt
    assert found["wrong"] == "not_found_error"
    assert found["answer"] == found["passed"] == "it is 579" and found["text"].strip() == "it is 579"
    assert found["events"][0] == "message_start" and found["events"][-1] == "message_stop"


def test_langchain(token_policy, tmp_path):
    found = run("langchain", "langchain_openai", token_policy, tmp_path)
    for said in found.values():
        assert said["call"] == said["streamed"] == SUM and said["answer"] == "it is 579"
        assert said["tokens"] == said["streamed tokens"] > 0 and said["structured"] == {"total": 579}
