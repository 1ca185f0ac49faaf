"""`python -m alloc_jax.serve`, as its user starts it, and what it says where something is wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from alloc_jax.serve.ledger import Ledger
from tests.fake_server import fake_server
from tests.serve.running import PATIENCE, until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(policy, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "policy"
    policy.save(path)
    return path


def start(folder, *options, environment=None, imports=None):
    """A gateway in a process of its own; a file for its imports holds all that it says of errors, too, which would fill a pipe."""
    watched = ["-X", "importtime"] if imports else []
    command = [sys.executable, *watched, "-m", "alloc_jax.serve", f"--policy={folder}", *options]
    environment = {**os.environ, **(environment or {})}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=imports or subprocess.PIPE, text=True
    )


def failed(folder, *options, **more):
    """The last line of a gateway that did not start."""
    command = start(folder, *options, **more)
    said = command.communicate(timeout=PATIENCE)
    assert command.returncode == 1, said
    return said[1].splitlines()[-1]


@contextmanager
def up(gateway, port, url=None, context=None):
    """A gateway that answers; gives the lines that it has said, and ends it."""
    said = []
    try:
        while not said or " in front of " not in said[-1]:
            said.append(gateway.stdout.readline())
            assert said[-1], gateway.stderr.read()[-2000:]
        until(lambda: answers(f"{url or f'http://127.0.0.1:{port}'}/health", context))
        yield said
    finally:
        if gateway.poll() is None:
            gateway.send_signal(signal.SIGINT)
        gateway.communicate(timeout=PATIENCE)


def answers(url, context=None):
    try:
        urllib.request.urlopen(url, context=context).close()
    except OSError:
        return False
    return True


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_one_command_serves_without_jax_and_keeps_its_ledger(folder, tmp_path):
    port, ledger = free_port(), tmp_path / "ledger.sqlite"
    environment = {"UP_KEY": "sk-up", "ALLOC_CLIENT_KEY": "client-key"}
    with fake_server(delay_s=0.3) as fake:
        options = [f"--upstream={fake.url}", "--budget=3", "--resource=samples", f"--port={port}", f"--ledger={ledger}"]
        options += ["--structured=vote", "--upstream_key_env=UP_KEY"]
        imports = (tmp_path / "imports").open("w")
        gateway = start(folder, *options, environment=environment, imports=imports)
        first = [gateway.stdout.readline(), gateway.stdout.readline()]
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/health"))
        with openai.OpenAI(base_url=f"{url}/v1", api_key="client-key") as client:
            messages = [{"role": "user", "content": "1 + 2"}]
            said = client.chat.completions.create(model="alloc/auto", messages=messages)
            assert said.usage.completion_tokens == fake.delivered["completion_tokens"]
            before, tools = len(fake.requests), [{"type": "function", "function": {"name": "add"}}]
            client.chat.completions.create(model="alloc/vote(m,2)", messages=messages, tools=tools)
            assert len(fake.requests) == before + 2  # calls are voted on
        gateway.send_signal(signal.SIGINT)
        out, _ = gateway.communicate(timeout=PATIENCE)
        imports.close()
        log = (tmp_path / "imports").read_text()
        assert fake.headers[0]["authorization"] == "Bearer sk-up"
    assert first[0].startswith("default: 3 samples per question at a multiplier of") and fake.url in first[1]
    assert not any(line.endswith(("| jax", "| jaxlib", "| flax")) for line in log.splitlines())
    for secret in ("sk-up", "client-key"):
        assert secret not in "".join(first) + out + log
    kept = Ledger(ledger)
    assert kept.lost == 0 and kept.totals()["requests"] == 2
    kept.close()


@pytest.mark.long
def test_it_says_in_one_line_what_is_wrong(folder, policy, tmp_path):
    usual = ["--upstream=http://127.0.0.1:9/v1", "--budget=3", "--resource=samples", "--ledger="]
    assert "the policy is paid in samples (samples), not in tokens" in failed(folder, *usual, "--resource=tokens")
    assert "below the policy's cheapest plan" in failed(folder, *usual, "--budget=0.5")
    assert "say --budget" in failed(folder, usual[0], *usual[2:])
    assert "--budget is a number or `none`, got 'much'" in failed(folder, *usual, "--budget=much")
    assert "policy.json is missing" in failed(tmp_path, *usual)
    assert "no price for model" in failed(folder, *usual, "--cap=5", "--hard", "--cap_resource=usd")
    (tmp_path / "sources.json").write_text('{"m": {"model": "m"}}')
    recipes = [*usual, f"--sources={tmp_path / 'sources.json'}", "--cap=5", "--hard"]
    assert "source 'm' has no max_tokens: a hard cap needs a worst case" in failed(
        folder, *recipes, "--cap_resource=tokens"
    )
    (tmp_path / "sources.json").write_text('{"n": {"model": "x"}}')
    assert "no recipe for source 'm'" in failed(folder, *usual, f"--sources={tmp_path / 'sources.json'}")
    broken = tmp_path / "broken"
    policy.save(broken)
    described = json.loads((broken / "policy.json").read_text())
    described["featurizer"]["version"] = 99
    (broken / "policy.json").write_text(json.dumps(described))
    assert "was trained on features" in failed(broken, *usual)
    (broken / "policy.npz").unlink()
    assert "policy.npz is missing" in failed(broken, *usual)
    best = replace(policy, actions=(*policy.actions[:3], "best_of(m,8)"))
    best.save(tmp_path / "best")
    assert "needs rewards or a verifier" in failed(tmp_path / "best", *usual)


def test_tenants_come_from_a_file_and_their_keys_from_the_environment(folder, tmp_path):
    usual = ["--upstream=http://127.0.0.1:9/v1", "--resource=samples", "--ledger=", f"--tenants={tmp_path / 't.json'}"]

    def told(described, **more):
        (tmp_path / "t.json").write_text(json.dumps(described))
        return failed(folder, *usual, *more.pop("options", ()), environment={"KEY_A": "a", **more})

    assert "KEY_B holds no key" in told({"a": {"key_env": "KEY_B", "budget": 3}})
    assert "another tenant's" in told({n: {"key_env": "KEY_A", "budget": 3} for n in ("a", "b")})
    assert "tenant 'a': no key_env" in told({"a": {"budget": 3}})
    assert "tenant 'a': unknown field 'bugdet'; known: budget, cap" in told(
        {"a": {"key_env": "KEY_A", "bugdet": 3, "budget": 3}}
    )
    assert "budget is a positive number or null, got -1" in told({"a": {"key_env": "KEY_A", "budget": -1}})
    assert "or in flags" in told({"a": {"key_env": "KEY_A", "budget": 1}}, options=["--budget=3"])


def test_an_open_door_is_said_and_on_an_address_of_others_refused(folder, policy, tmp_path):
    with fake_server() as fake:
        usual = [f"--upstream={fake.url}", "--budget=3", "--resource=samples", "--ledger="]
        environment = {"ALLOC_CLIENT_KEY": ""}
        for host in ("0.0.0.0", "::", "example.org"):
            assert "say --insecure" in failed(folder, *usual, f"--host={host}", environment=environment)
        gateway = start(folder, *usual, f"--port={free_port()}", environment=environment)
        assert "no keys: whoever reaches 127.0.0.1" in gateway.stdout.readline()
        gateway.kill()
        gateway.communicate()
    assert "there is one in" in failed(folder.parent, *usual)
    shapeless = replace(policy, weights={**policy.weights, "feature_mean": policy.weights["feature_mean"][:-1]})
    shapeless.save(tmp_path / "shapeless")
    assert "do not fit its features and actions" in failed(tmp_path / "shapeless", *usual)
    assert "train the policy in one of them" in failed(_in_compute(policy, tmp_path), *usual, "--resource=compute")


def _in_compute(policy, tmp_path):
    replace(policy, resource="compute").save(tmp_path / "compute")
    return tmp_path / "compute"


def test_an_address_that_is_taken_ends_it(folder, tmp_path):
    with fake_server() as fake:
        port = fake.url.split(":")[2].split("/")[0]
        usual = [f"--upstream={fake.url}", "--budget=3", "--resource=samples", "--ledger=", f"--port={port}"]
        command = start(folder, *usual)
        said = command.communicate(timeout=PATIENCE)
    assert command.returncode != 0 and "address already in use" in said[1]
