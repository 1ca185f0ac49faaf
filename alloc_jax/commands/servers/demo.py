"""A small language model, the gateway before it, some questions, and the account: all on this machine, without a download or a key.

    alloc demo
    alloc demo --budget=1.5 --questions=500

A policy is learned from half of the built-in log, whose samples this model once wrote. Then the two commands that are printed
are started, and questions of the other half are asked. The right answers are known, so the account says how many were given.
"""

import json
import logging
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from absl import flags

from alloc_jax.jobs.console import show_progress
from alloc_jax.jobs.servers import PATIENCE_S, direct, started

FLAGS = flags.FLAGS
SIZE, SOURCE = "large", "large/think"
RECIPES = {SOURCE: {"model": SIZE, "prompt": "T{question}=", "temperature": 1.0, "max_tokens": 48}}
VOTES = (1, 4, 8)
AT_ONCE = 8  # questions


class DemoAnswer(NamedTuple):
    """What the gateway gave for a question."""

    text: str
    action: str
    samples: int


def define_flags():
    flags.DEFINE_integer("questions", 200, "Questions that are asked.", 1, 2000)
    flags.DEFINE_float("budget", 3.0, "Mean samples per question.", 1.0, float(VOTES[-1]))
    flags.DEFINE_integer("seed", 0, "Of the split, the training and the choice of questions.")


def main(argv):
    show_progress()
    try:
        for module in ("uvicorn", "alloc_jax.serve.web.gateway"):
            import_module(module)
    except ImportError as error:
        raise ImportError(f"needs {error.name}: pip install 'alloc_jax[serve]'") from None
    from alloc_jax import PolicyConfig, measure, read_log, train, vote
    from alloc_jax.logs import grade

    with tempfile.TemporaryDirectory(prefix="alloc-demo-") as folder, started("reasoner", f"--size={SIZE}") as model:
        learn, rest = read_log("builtin").split_questions((0.5, 0.5), FLAGS.seed)
        asked = rest.select(range(FLAGS.questions))
        table = measure(learn, [vote(SOURCE, k) for k in VOTES], "samples")
        train(table, PolicyConfig(kind="value", seed=FLAGS.seed)).save(f"{folder}/policy")
        recipes = Path(folder, "sources.json")
        recipes.write_text(json.dumps(RECIPES), encoding="utf-8")
        options = [f"--policy={folder}/policy", f"--upstream={model}/v1", f"--sources={recipes}"]
        options += [f"--budget={FLAGS.budget:g}", "--resource=samples", "--ledger="]
        with started("serve", *options) as gateway:
            logging.getLogger("alloc_jax").info("asking %d questions, %d at once", len(asked), AT_ONCE)
            start, first = time.monotonic(), _figure(gateway, "multiplier")
            with ThreadPoolExecutor(AT_ONCE) as clients:
                answers = list(clients.map(lambda text: _ask(gateway, text), asked.question))
            seconds, last = time.monotonic() - start, _figure(gateway, "multiplier")
            spend = _figure(gateway, "spend")
    right = [given.correct for given in grade([answer.text for answer in answers], asked.gold, method="number")]
    print(_account(answers, right, spend, (first, last), seconds))


def _account(
    answers: Sequence[DemoAnswer], right: Sequence[bool], spend: float, multiplier: tuple[float, float], seconds: float
) -> str:
    """What was asked of the model, what that cost, and how often it was right."""
    from alloc_jax.report.tables import right_by

    share, table = right_by("action", [answer.action for answer in answers], right)
    return "\n".join([
        "",
        f"questions  {len(answers)} in {seconds:.1f} s",
        f"spent      {spend:.3f} samples per question of {FLAGS.budget:g}, {sum(a.samples for a in answers)} in all",
        f"multiplier {multiplier[0]:.4f} at first, {multiplier[1]:.4f} at last: the accuracy that a sample must earn to be drawn",
        f"right      {share}",
        "",
        table,
    ])  # fmt: skip


def _ask(gateway: str, question: str) -> DemoAnswer:
    """The gateway's answer to a question.

    Raises:
      ValueError: it gave none.
    """
    body = {"model": "alloc/auto", "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(f"{gateway}/v1/chat/completions", json.dumps(body).encode(), method="POST")
    try:
        with direct.open(request, timeout=PATIENCE_S) as response:
            said, headers = json.loads(response.read()), response.headers
    except urllib.error.HTTPError as error:
        raise ValueError(f"{question!r}: {error.code}: {error.read().decode(errors='replace')}") from None
    text = said["choices"][0]["message"]["content"]
    return DemoAnswer(text, headers["x-alloc-action"], int(headers["x-alloc-samples"]))


def _figure(gateway: str, name: str) -> float:
    """One of the gateway's figures for its tenant."""
    with direct.open(f"{gateway}/metrics", timeout=5) as response:
        (value,) = re.findall(rf"^alloc_{name}\{{.*\}} (\S+)$", response.read().decode(), re.MULTILINE)
    return float(value)
