"""What the gateway adds to a request: latency beside calling the upstream directly, throughput, and the time of a decision.

    python benchmarks/gateway.py
    python benchmarks/gateway.py --rate=50 --seconds=10 --policy=runs/main/policy

Upstream, gateway and client are three processes on the loopback; the upstream's answer is canned and costs nothing. At a
steady rate the client sends every request twice, directly and through the gateway, in turn. Every answer is checked: the
usage that the gateway reports must be what the upstream was asked for.
"""

import asyncio
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import uvicorn
from absl import app, flags

from alloc_jax.actions import Action, vote
from alloc_jax.collect.recipes import parse_recipes
from alloc_jax.learn import load_policy
from alloc_jax.logs import read_log
from alloc_jax.logs.decisions import DecisionLog
from alloc_jax.options import help_where_asked
from alloc_jax.serve.allocator import decide
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import AnswerRequest, Tenant
from alloc_jax.serve.traffic.recording import Recorder

FLAGS = flags.FLAGS
flags.DEFINE_float("rate", 50.0, "Requests a second, of either kind.")
flags.DEFINE_float("seconds", 10.0, "Length of each measurement.")
flags.DEFINE_list("samples", ["1", "8"], "Samples that the gateway draws for a request, one measurement each.")
flags.DEFINE_integer("clients", 32, "Requests at a time, for the throughput.")
flags.DEFINE_string(
    "policy", None, "Folder of a policy whose decisions are timed; default: one is trained for a moment."
)

Target = tuple[str, str, int | None] | tuple[str, str, int | None, bool]  # of `Client.ask`
_TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
_TOKENS = 7
_REPLY = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is 42"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": _TOKENS, "completion_tokens": _TOKENS, "total_tokens": 2 * _TOKENS},
        "model": "m",
    }
).encode()


async def canned(scope, receive, send):
    """The upstream: one answer to everything, straight from memory."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_REPLY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _REPLY})


def run_upstream(port: int) -> None:
    uvicorn.run(canned, host="127.0.0.1", port=port, log_level="error", access_log=False)


def run_gateway(port: int, upstream: str, policy: str, ledger: str) -> None:
    from alloc_jax.serve.web.connections import run
    from alloc_jax.serve.web.gateway import Gateway
    from alloc_jax.serve.web.upstream import Upstream

    gateway = Gateway(make_core(load_policy(policy), ledger), Upstream(upstream))
    run(gateway.app(), host="127.0.0.1", port=port)


def make_core(policy, ledger) -> Core:
    """At a budget that leaves a choice, with every decision recorded."""
    sources = {action.source for action in map(Action.parse, policy.actions)}
    recipes = parse_recipes({name: {"model": "m", "max_tokens": 64} for name in sources})
    tenants = {"default": Tenant(budget=float(np.median(policy.calibration_cost)))}
    recorder = Recorder(DecisionLog(f"{ledger}.traffic"), policy, exploration=0.05)
    return Core(policy, recipes, tenants, Ledger(ledger), recorder=recorder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    """Sends one question after the other, directly or through the gateway, and checks the answers."""

    def __init__(self, direct: str, gateway: str):
        self.urls = {"direct": direct, "gateway": gateway}
        self.session: aiohttp.ClientSession | None = None
        self.sent = self.drawn = 0

    async def ask(self, to: str, model: str, samples: int | None, tools: bool = False) -> float:
        """Seconds of one request; where the number of samples is the policy's choice, the answer says it."""
        self.sent += 1
        body = {"model": model, "messages": [{"role": "user", "content": f"What is {self.sent} + {self.sent * 7}?"}]}
        body |= {"tools": _TOOLS} if tools else {}
        start = time.perf_counter()
        async with self.session.post(f"{self.urls[to]}/chat/completions", json=body) as response:
            said = json.loads(await response.read())
        seconds = time.perf_counter() - start
        samples = int(response.headers["x-alloc-samples"]) if samples is None else samples
        self.drawn += samples
        if response.status != 200 or said["usage"]["completion_tokens"] != _TOKENS * samples:
            raise SystemExit(f"gateway: a wrong answer, status {response.status}: {said}")
        return seconds

    async def steadily(self, targets: dict[str, Target], seconds: float) -> dict[str, list[float]]:
        """Latencies by target at a steady rate, however long the answers take; the targets take turns."""
        found = {name: [] for name in targets}

        async def one(name):
            found[name].append(await self.ask(*targets[name]))

        tasks, start = [], time.perf_counter()
        for turn in range(int(FLAGS.rate * seconds)):
            for part, name in enumerate(targets):
                due = start + (turn + part / len(targets)) / FLAGS.rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                tasks.append(asyncio.create_task(one(name)))
        await asyncio.gather(*tasks)
        return found

    async def flat_out(self, target: Target, seconds: float) -> float:
        """Requests a second of clients that each send their next when they have their answer."""
        start, done = time.perf_counter(), 0

        async def one():
            nonlocal done
            while time.perf_counter() < start + seconds:
                await self.ask(*target)
                done += 1

        await asyncio.gather(*(one() for _ in range(FLAGS.clients)))
        return done / (time.perf_counter() - start)


async def compare(client: Client, actions: dict[int, str], used) -> None:
    """Prints latencies and throughputs.

    Args:
      client: of two servers that are starting.
      actions: of the gateway, by their numbers of samples.
      used: the CPU seconds that the gateway has used so far.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client.session:
        await wait(client)
        kinds: dict[str, Target] = {"passed through": ("gateway", "m", 1)}
        kinds |= {
            "tools passed through": ("gateway", "m", 1, True),
            "tools, alloc/auto": ("gateway", "alloc/auto", 1, True),
        }
        kinds["alloc/auto"] = ("gateway", "alloc/auto", None)
        kinds |= {f"{k} samples, vote": ("gateway", f"alloc/{name}", k) for k, name in actions.items()}
        for title, kind in kinds.items():
            targets = {"direct": ("direct", "m", 1), "gateway": kind}
            await client.steadily(targets, 1.0)  # warm
            found = await client.steadily(targets, FLAGS.seconds)
            print(f"\n{title}: {FLAGS.rate:g} requests/s directly and as many through the gateway, {FLAGS.seconds:g} s")
            for where, latencies in found.items():
                print(f"  {where:<8} {_shown(latencies)}")
            low, high = (np.subtract(*(np.quantile(found[w], q) for w in ("gateway", "direct"))) for q in (0.5, 0.99))
            print(f"  added    p50 {1e3 * low:6.3f} ms   p99 {1e3 * high:6.3f} ms")
        print(f"\n{FLAGS.clients} clients, each with one request at a time, {FLAGS.seconds / 2:g} s each")
        for title, kind in {"direct": ("direct", "m", 1), **kinds}.items():
            before, drawn = used(), client.drawn
            speed = await client.flat_out(kind, FLAGS.seconds / 2)
            busy = 1e3 * (used() - before) / (speed * FLAGS.seconds / 2)
            samples = (client.drawn - drawn) / (FLAGS.seconds / 2)
            print(
                f"  {title:<16} {speed:6.0f} requests/s {samples:6.0f} samples/s {busy:6.2f} ms of the gateway's CPU each"
            )


async def wait(client: Client) -> None:
    """Until both servers answer."""
    for _ in range(300):
        try:
            await client.ask("direct", "m", 1)
            await client.ask("gateway", "m", 1)
            return
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
    raise SystemExit("gateway: the servers do not come up")


def time_decisions(folder: str, questions: list[str]) -> dict[str, list[float]]:
    """Seconds of each step of a decision, and of its settling; no text is encoded before its turn."""
    policy = load_policy(folder)
    found = {"predict": [], "decide": [], "predict, decide, reserve, record": [], "settle": []}
    with tempfile.TemporaryDirectory() as scratch:
        core = make_core(policy, Path(scratch) / "ledger.sqlite")
        for turn, text in enumerate(questions):
            times = [time.perf_counter()]
            prediction = policy.predict([text])
            times.append(time.perf_counter())
            decide(policy, prediction, core.multiplier("default"))
            times.append(time.perf_counter())
            ticket = core.admit(AnswerRequest(id=f"{turn:032x}", text=f"{text} "))
            times.append(time.perf_counter())
            core.settle(ticket, 1.0, 1.0, 1, _TOKENS, _TOKENS)
            times.append(time.perf_counter())
            for name, seconds in zip(found, np.diff(times), strict=True):
                found[name].append(seconds)
        core.close()
    return found


def train_policy(folder: Path) -> None:
    """A policy of the default size on votes of the built-in log, trained for a moment: its quality changes no time."""
    from alloc_jax.learn import PolicyConfig, train  # with JAX, which no gateway has
    from alloc_jax.measure import measure

    log = read_log("builtin").select(range(1000))
    actions = [vote("large/think", k) for k in (1, 2, 4, 8, 16)]
    train(measure(log, actions, "samples"), PolicyConfig(epochs=3)).save(folder)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = FLAGS.policy or str(Path(scratch) / "policy")
        if not FLAGS.policy:
            train_policy(Path(folder))
        questions = list(read_log("builtin").question[-2000:])
        print(f"{len(questions)} decisions, one after the other")
        for name, seconds in time_decisions(folder, questions).items():
            print(f"  {name:<32} {_shown(seconds)}")
        found = {action.samples: action.name for action in map(Action.parse, load_policy(folder).actions)}
        actions = {int(k): found[int(k)] for k in FLAGS.samples}
        up, gate = free_port(), free_port()
        upstream = f"http://127.0.0.1:{up}/v1"
        spawn = multiprocessing.get_context("spawn")
        servers = [
            spawn.Process(target=run_upstream, args=(up,), daemon=True),
            spawn.Process(
                target=run_gateway, args=(gate, upstream, folder, str(Path(scratch) / "ledger")), daemon=True
            ),
        ]
        for server in servers:
            server.start()
        try:
            gateway = psutil.Process(servers[1].pid)
            client = Client(upstream, f"http://127.0.0.1:{gate}/v1")
            asyncio.run(compare(client, actions, lambda: sum(gateway.cpu_times()[:2])))
        finally:
            for server in servers:
                server.terminate()
                server.join()


def _shown(seconds: list[float]) -> str:
    low, high = np.quantile(seconds, (0.5, 0.99))
    return f"p50 {1e3 * low:6.3f} ms   p99 {1e3 * high:6.3f} ms   mean {1e3 * np.mean(seconds):6.3f} ms"


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
