"""The siege: everything at once and for some minutes, over the loopback, bounded in count and time.

The gateway runs as its user starts it, in a process of its own; so does the upstream, so that what is measured is the
gateway and not the interpreter that the test shares with it.
"""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from alloc_jax.serve.ledger import Ledger
from tests.fake_server import Fake

ROOT = Path(__file__).parents[3]
TENANTS = {"key-a": "attacker", "key-b": "neighbour"}
SECONDS = 6.0  # of each attack
pytestmark = pytest.mark.long


def upstream_process(port, faults, delay_s):
    """A `Fake` that tells at /v1/told what it has delivered."""
    import uvicorn
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    rng = random.Random(0)
    broken = ["429", "500", "html", "truncated", "empty", "drop"]
    fake = Fake(delay_s=delay_s, fault=lambda number, body: rng.choice(broken) if rng.random() < faults else None)
    app = fake.app()

    async def told(request):
        return JSONResponse({**fake.delivered, "faults": fake.faults.total()})

    app.router.routes.append(Route("/v1/told", told))
    uvicorn.run(app, port=port, log_level="critical")


QUICK = [
    json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}).encode()
    for usage in [{"prompt_tokens": 5, "completion_tokens": 5}]
    for text in ("it is 4", "x = 0." + 60_000 * "7", "it is" + 60_000 * " ")
]


async def quick(scope, receive, send):
    """An upstream that costs nothing, whatever it is sent; its answer is hostile where the question says so."""
    if scope["type"] != "http":
        return
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    reply = QUICK[next((j for j in (1, 2) if b"hostile %d" % j in parts[0]), 0)]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": reply})


def quick_process(port):
    import uvicorn

    uvicorn.run(quick, port=port, log_level="critical")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read(url, key=None):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode()


@contextmanager
def besieged(policy, folder, *options, server=(quick_process,), **tenant):
    """A gateway and its upstream in processes of their own: the gateway's URL, the upstream's, and the ledger's path."""
    policy.save(folder / "policy")
    tenants = {name: {"key_env": key.upper().replace("-", "_"), "budget": 3, **tenant} for key, name in TENANTS.items()}
    (folder / "tenants.json").write_text(json.dumps(tenants))
    (folder / "sources.json").write_text(json.dumps({"m": {"model": "m", "max_tokens": 64}}))
    up, port = free_port(), free_port()
    spawn = multiprocessing.get_context("spawn")
    behind = spawn.Process(target=server[0], args=(up, *server[1:]), daemon=True)
    behind.start()
    command = [sys.executable, "-m", "alloc_jax.serve", f"--policy={folder / 'policy'}", f"--port={port}"]
    command += [f"--upstream=http://127.0.0.1:{up}/v1", "--resource=samples", f"--ledger={folder / 'ledger.sqlite'}"]
    command += [f"--tenants={folder / 'tenants.json'}", f"--sources={folder / 'sources.json'}", *options]
    environment = {
        **os.environ,
        **{key.upper().replace("-", "_"): key for key in TENANTS},
        "ALLOC_ADMIN_KEY": "key-admin",
    }
    gateway = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                read(f"{url}/health")
                read(f"http://127.0.0.1:{up}/v1/models")
                break
            except OSError:
                assert gateway.poll() is None
            time.sleep(0.05)
        yield url, f"http://127.0.0.1:{up}/v1", folder / "ledger.sqlite"
    finally:
        gateway.send_signal(signal.SIGINT)
        gateway.wait(timeout=90)
        behind.terminate()
        behind.join()


def asked(text, model="alloc/auto", **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def post(session, url, body, key):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(f"{url}/v1/chat/completions", data=raw, headers=headers) as response:
        return response.status, await response.read(), response.headers


async def neighbour(session, url, end, found):
    """One question after the other, at a human pace; what each took."""
    rng = random.Random(7)
    while time.monotonic() < end:
        start = time.monotonic()
        status, said, _ = await post(session, url, asked(f"{rng.randrange(99)} + {rng.randrange(99)}"), "key-b")
        assert status == 200, said
        found.append(time.monotonic() - start)
        await asyncio.sleep(0.02)


async def attacker(session, url, end, make, statuses, number):
    """One hostile request after the other."""
    rng = random.Random(number)
    while time.monotonic() < end:
        try:
            status, said, _ = await asyncio.wait_for(post(session, url, make(rng), "key-a"), 5)
            json.loads(said) if status != 200 else None  # every error is the protocol's
            statuses[status] += 1
        except (TimeoutError, aiohttp.ClientError) as error:
            statuses[type(error).__name__] += 1


async def fought(url, make, clients, seconds=SECONDS):
    """The neighbour's times while clients attack."""
    found, statuses, end = [], Counter(), time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        attackers = [attacker(session, url, end, make, statuses, number) for number in range(clients)]
        await asyncio.gather(neighbour(session, url, end, found), *attackers)
    return np.array(found), statuses


_TOOLS = [{"type": "function", "function": {"name": f"f{j}", "description": 900 * "x"}} for j in range(900)]
MANY_TOOLS = [json.dumps(asked("1 + 2", tools=_TOOLS, stream=stream)).encode() for stream in (False, True)]
ATTACKS = {
    "questions of a megabyte": lambda rng: asked(rng.choice(["a", "1+", "(", "ab cd "]) * 170_000),
    "hostile answers": lambda rng: asked(f"hostile {rng.randrange(1, 3)}", "alloc/vote(m,8)"),
    "tools of a megabyte": lambda rng: MANY_TOOLS[rng.random() < 0.5],
    "bodies that are no JSON": lambda rng: b"[" * 900_000,
    "numbers of thousands of digits": lambda rng: (
        b'{"model": "alloc/auto", "messages": [{}], "seed": ' + b"9" * 5000 + b"}"
    ),
    "votes of eight": lambda rng: asked(f"{rng.randrange(9999)} + {rng.randrange(9999)}", "alloc/vote(m,8)"),
    "budgets of their own": lambda rng: asked("1 + 2", alloc={"budget": 16}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_neighbours_p99_stays_below_a_tenth_of_a_second(policy, tmp_path, name):
    with besieged(policy, tmp_path) as (url, _, _):
        for _ in range(3):  # what else the machine does in these seconds is not the gateway's
            calm, _ = asyncio.run(fought(url, ATTACKS[name], clients=0, seconds=2))
            found, statuses = asyncio.run(fought(url, ATTACKS[name], clients=3))
            before, during = np.quantile(calm, 0.99), np.quantile(found, 0.99)
            print(f"{name}: p99 {1e3 * before:.0f} ms alone, {1e3 * during:.0f} ms beside {dict(statuses)}")
            limit = max(0.1, 8 * before)  # a machine that is busy with other things is slow alone, too
            if len(found) > 30 and during < limit:
                break
        assert len(found) > 30 and during < limit
        assert set(statuses) <= {200, 400, 403, 413, 429, 503}


def test_connections_that_send_or_read_nothing_harm_nobody(policy, tmp_path):
    with besieged(policy, tmp_path, "--max_requests=16", "--body_s=2", "--header_s=2", "--write_s=2") as (url, _, _):
        host, port = url.split("//")[1].split(":")
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-a\r\nContent-Length: 99\r\n"
        sockets = []
        for j in range(120):
            connection = socket.create_connection((host, int(port)))
            connection.sendall((b"", head, head + b"\r\n{")[j % 3])
            sockets.append(connection)
        found, _ = asyncio.run(fought(url, lambda rng: asked("1 + 2"), clients=1, seconds=5))
        assert np.quantile(found, 0.99) < 0.3  # with two processes of the test's own beside
        for connection in sockets:
            connection.settimeout(5)
            while connection.recv(4096):
                pass
            connection.close()


@pytest.mark.parametrize("faults", [0.0, 0.1])
def test_the_ledger_knows_what_the_upstream_did(token_policy, tmp_path, faults):
    """Also where clients leave: the ledger is never below the upstream's count, and without faults as good as equal."""

    async def clients(url):
        statuses = Counter()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

            async def one(number):
                rng = random.Random(number)
                for _ in range(25):
                    text = f"{rng.randrange(9999)} + {rng.randrange(9999)}"
                    model = rng.choice(["alloc/auto", "alloc/vote(m,4)", "through"])
                    body = asked(text, model, max_tokens=64)
                    body["stream"] = rng.random() < 0.3
                    leaves = faults and rng.random() < 0.2
                    try:
                        call = post(session, url, body, "key-b")
                        status, _, _ = await asyncio.wait_for(call, 0.004 if leaves else 60)
                        statuses[status if model == "through" or status == 200 else "lost"] += 1
                    except TimeoutError:
                        statuses["left"] += 1

            await asyncio.gather(*(one(number) for number in range(40)))
        return statuses

    options = ("--resource=tokens", "--attempts=5")
    server = upstream_process, faults, 0.002
    with besieged(token_policy, tmp_path, *options, server=server, budget=75, cap=1e9, hard=True) as (
        url,
        behind,
        path,
    ):
        statuses = asyncio.run(clients(url))
        time.sleep(1.0)
        told = json.loads(read(f"{behind}/told"))
    ledger = Ledger(path)
    totals, lost = ledger.totals(), ledger.lost
    ledger.close()
    print(dict(statuses), told, totals)
    assert lost == totals["open"] == 0 and set(statuses) <= {200, "left"} | ({502, 503} if faults else set())
    delivered = told["prompt_tokens"] + told["completion_tokens"]
    assert totals["charged"] >= delivered
    if not faults:
        assert totals["charged"] <= 1.01 * delivered and statuses == {200: 1000}
