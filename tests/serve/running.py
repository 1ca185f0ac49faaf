"""A gateway that is up, between a client and a server that misbehaves."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import openai

from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import Tenant
from alloc_jax.serve.web.connections import timed
from alloc_jax.serve.web.gateway import Gateway, GatewayConfig
from alloc_jax.serve.web.upstream import Upstream
from tests.fake_server import fake_server, served
from tests.serve.made import RECIPES

QUESTION = "123 + 456"
PATIENCE = 300.0  # seconds for what comes at once on a quick machine


def until(true, seconds=PATIENCE):
    """Waits until something is true, and gives what is; fails where it takes longer than any slow machine needs."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.005)
    return found


def told(connection):
    """Status, headers and text of the answer that comes over a socket, however many pieces it comes in."""
    response = http.client.HTTPResponse(connection)
    with response:
        response.begin()
        return response.status, response.headers, response.read().decode()


class Running:
    def __init__(self, url, fake, gateway, key="none"):
        self.url, self.fake, self.gateway, self.core = url, fake, gateway, gateway.core
        self.client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
        self.sockets = []

    def close(self):
        self.client.close()
        for connection in self.sockets:
            connection.close()

    def ask(self, text=QUESTION, model="alloc/auto", headers=None, **fields):
        """The parsed answer and the alloc headers."""
        raw = self.client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": text}], extra_headers=headers or {}, **fields
        )
        return raw.parse(), {k.removeprefix("x-alloc-"): v for k, v in raw.headers.items() if k.startswith("x-alloc-")}

    def get(self, path, headers=None):
        request = urllib.request.Request(self.url.removesuffix("/v1") + path, headers=headers or {})
        with urllib.request.urlopen(request) as response:
            return response.read().decode()

    def settled(self, requests):
        """Waits until so many requests are settled and none is open; the ledger's totals."""
        until(lambda: (now := self.core.ledger.totals())["requests"] >= requests and not now["open"])
        return self.core.ledger.totals()

    def connected(self):
        """A socket to the gateway, closed with it."""
        host, port = self.url.split("/")[2].split(":")
        self.sockets.append(socket.create_connection((host, int(port)), timeout=PATIENCE))
        return self.sockets[-1]

    def sent(self, body, key=None):
        """A socket over which a request was sent, whose answer nobody has read."""
        raw = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n"
        head += f"Authorization: Bearer {key}\r\n" if key else ""
        connection = self.connected()
        connection.sendall(head.encode() + b"\r\n" + raw)
        return connection

    def post(self, raw, headers=None, path="/chat/completions"):
        """Status and body of a request that no client would send; of a stream, or what is nested too deeply, the text."""
        request = urllib.request.Request(self.url + path, data=raw, headers=headers or {})
        try:
            with urllib.request.urlopen(request) as response:
                said = response.read().decode()
            try:
                return response.status, json.loads(said)
            except (ValueError, RecursionError):
                return response.status, said
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@contextmanager
def running(
    policy,
    fake_options=None,
    tenant=None,
    config=None,
    upstream=None,
    recipes=RECIPES,
    ledger=None,
    http=None,
    url=None,
    key="none",
    drift=None,
    **options,
):
    """A gateway before a `Fake`, or before another server at a URL."""
    with fake_server(**(fake_options or {})) as fake:
        tenants = {"default": Tenant(**{"budget": 3.0, **(tenant or {})})}
        core = Core(policy, recipes, options.pop("tenants", None) or tenants, ledger or Ledger(), **options)
        up = Upstream(
            url or fake.url, "sk-upstream", **{"timeout_s": PATIENCE, "tenants": (*core.tenants,), **(upstream or {})}
        )
        gateway = Gateway(core, up, GatewayConfig(**(config or {})), drift=drift)
        with served(
            gateway.app(), http=timed(**{"header_s": PATIENCE, "write_s": PATIENCE, **(http or {})})
        ) as address:
            made = Running(address, fake, gateway, key)
            try:
                yield made
            finally:
                made.close()
