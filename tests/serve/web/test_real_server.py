"""The whole way with a real server: collect, measure, solve, train, and a gateway in front."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

import alloc_jax as aj
from alloc_jax.collect import CollectConfig, Question, collect, parse_recipes, suspicions
from alloc_jax.collect.check_server import check_server
from alloc_jax.reasoner import arithmetic
from alloc_jax.reasoner.export import export_reasoner
from alloc_jax.reasoner.server import ReasonerServer
from alloc_jax.serve.ledger import Ledger
from tests.fake_server import served
from tests.real_server import needs_server, real_server

ROOT = Path(__file__).parents[3]
BUDGET, ASKED = 2.5, 200


@contextmanager
def upstream(kind, folder):
    """A server with the small reasoner: URL, the model's name there, and what the server must be found to honour."""
    if kind == "built in":
        with served(ReasonerServer("small").app()) as url:
            yield url, "small", {"choices": True, "seed": True}
    else:
        needs_server()
        export_reasoner("small", folder / "small")
        with real_server(folder / "small", folder / "cache") as url:
            yield url, str(folder / "small"), {"choices": False}


@pytest.mark.parametrize(
    "kind",
    [pytest.param("built in", marks=pytest.mark.long), pytest.param("transformers serve", marks=pytest.mark.server)],
)
def test_collect_measure_solve_train_serve(tmp_path, kind):
    drawn = arithmetic.held_out_questions(60 + ASKED, seed=3)
    train, ask = drawn[:60], drawn[60:]
    with upstream(kind, tmp_path) as (url, model, honoured):
        sources = {"think": {"model": model, "temperature": 1.0, "max_tokens": 48, "prompt": "T{question}="}}
        recipes = parse_recipes(sources)
        config = CollectConfig(base_url=url, samples=8, concurrency=8)
        found = {f.feature: f.honoured for f in check_server(config, model, "T(8-2)*6+35-7*4=")}
        assert found.items() >= ({"usage": True, "temperature": True, "limit": True} | honoured).items()
        questions = [Question(f"q{i}", q.text, str(q.answer), f"{q.operations}") for i, q in enumerate(train)]
        account = collect(questions, recipes, tmp_path / "journal.jsonl", config, show=False)
        assert account.samples == 480 and not account.unknown and not suspicions(tmp_path / "journal.jsonl", recipes)
        log = aj.read_log(tmp_path / "journal.jsonl", grader="number")
        table = aj.measure(log, [aj.vote("think", k) for k in (1, 2, 4, 8)], "samples")
        assert 0.05 < table.utility[:, 0].mean() < table.utility[:, 3].mean() + 0.05 < 1
        plan = aj.solve(table.problem(), BUDGET)
        assert float(plan.mixed_spend) <= BUDGET + 1e-5
        policy = aj.train(table, aj.PolicyConfig(kind="value", folds=2, left_out=1, epochs=10, hidden=(16,)))
        policy.save(tmp_path / "policy")
        _serve_and_ask(tmp_path, url, sources, ask)


def _serve_and_ask(folder, upstream, sources, ask):
    (folder / "sources.json").write_text(json.dumps(sources))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "alloc_jax.serve", f"--policy={folder / 'policy'}", f"--upstream={upstream}"]
    command += [f"--budget={BUDGET}", "--resource=samples", f"--sources={folder / 'sources.json'}", f"--port={port}"]
    command += [f"--ledger={folder / 'ledger.sqlite'}"]
    gateway = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "ALLOC_CLIENT_KEY": "a-key"})
    try:
        _wait(gateway, port)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="a-key") as client:

            def one(question):
                raw = client.chat.completions.with_raw_response.create(
                    model="alloc/auto", messages=[{"role": "user", "content": question.text}]
                )
                return raw.parse(), raw.headers

            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(one, ask))
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/metrics", headers={"Authorization": "Bearer a-key"}
            )
            with urllib.request.urlopen(request) as response:
                metrics = response.read().decode()
    finally:
        gateway.terminate()
        gateway.wait(timeout=30)
    samples = [int(headers["x-alloc-samples"]) for _, headers in answers]
    assert abs(sum(samples) / len(samples) / BUDGET - 1) < 0.1 and len(set(samples)) > 1
    right = [
        re.findall(r"#(\d+)", said.choices[0].message.content)[-1:] == [str(q.answer)]
        for (said, _), q in zip(answers, ask, strict=True)
    ]
    assert sum(right) / len(right) > 0.2
    shares = [float(headers["x-alloc-vote-share"]) for _, headers in answers]
    assert all(0 <= share <= 1 for share in shares) and max(shares) == 1
    used = Counter()
    for said, _ in answers:
        used.update(prompt=said.usage.prompt_tokens, completion=said.usage.completion_tokens)
    for kind, tokens in used.items():
        assert f'alloc_tokens_total{{kind="{kind}",tenant="default"}} {float(tokens)}' in metrics
    assert f'alloc_samples_total{{tenant="default"}} {float(sum(samples))}' in metrics
    ledger = Ledger(folder / "ledger.sqlite")
    totals = ledger.totals()
    assert ledger.lost == 0 and totals["requests"] == ASKED and totals["samples"] == sum(samples)
    assert totals["completion_tokens"] == used["completion"] and totals["prompt_tokens"] == used["prompt"]
    ledger.close()


def _wait(gateway, port):
    for _ in range(300):
        assert gateway.poll() is None, "the gateway does not start"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the gateway does not come up")
