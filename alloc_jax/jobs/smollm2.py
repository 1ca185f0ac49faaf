"""SmolLM2 at work: drawing the shipped log, and the whole loop from a server to an account."""

from __future__ import annotations

import json
import random
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from alloc_jax.collect import CollectConfig, Question, collect, parse_recipes
from alloc_jax.collect.questions import in_shard
from alloc_jax.jobs.config import Seed
from alloc_jax.jobs.escalate import EscalateConfig, compare_escalation
from alloc_jax.jobs.servers import started
from alloc_jax.logs import grade, read_log, write_log
from alloc_jax.price_book import TokenPrice
from alloc_jax.report.tables import right_by
from alloc_jax.smollm2.log import save_packed
from alloc_jax.smollm2.questions import WordProblem, word_problems
from alloc_jax.smollm2.recipes import MODEL, PARAMETERS, smollm2_recipes

SAMPLES = "samples.jsonl"
_TOY = 57_648  # parameters of the small arithmetic model
# What a cascade pays: dollars per million tokens written, in proportion to the parameters; prompts lie in the servers' caches.
_PRICES = [
    asdict(TokenPrice(model=name, input=0.0, output=size / 1e9, source="parameters / 1e9", date="2026-11-30"))
    for name, size in (("small", _TOY), (MODEL, PARAMETERS))
]


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """How the log is drawn."""

    model: Annotated[str, "The model's file (GGUF), the wheel that holds it, or the wheel's folder."] = "runs/model"
    questions: Annotated[int, "The first so many of the questions; 0: all."] = 0
    samples: Annotated[int, "Samples of each question and source."] = 16
    sources: Annotated[tuple[str, ...], "Of direct, examples and steps; empty: all."] = ()
    temperature: Annotated[float, "Of the sampling."] = 0.6
    processes: Annotated[int, "Servers, each with its share of the questions."] = 1
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The loop: how much is collected to learn from, and what is then asked at which budget."""

    model: Annotated[str, "The model's file (GGUF), the wheel that holds it, or the wheel's folder."] = "runs/model"
    questions: Annotated[int, "Questions to learn from."] = 80
    samples: Annotated[int, "Samples of each of them and of each source."] = 6
    asked: Annotated[int, "Questions that are asked of the gateway, none of them learned from."] = 100
    budget: Annotated[
        float, "Mean tokens written per question; with --cascade, mean dollars per million questions."
    ] = 16.0
    cascade: Annotated[bool, "Ask the built-in arithmetic model first, on a server of its own, and for sums."] = False
    seed: Seed = 0


def draw_smollm2(config: DrawConfig, workdir: str | Path) -> Path:
    """Collect the log from servers that this starts; the same call goes on where it was stopped.

    Args:
      config: how.
      workdir: of the journals, of samples.jsonl, and of samples.npz, the form in which the log is shipped.

    Returns:
      The path of samples.npz. Only questions that have all their samples are in it.

    Raises:
      ValueError: no question has all its samples yet.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    asked = word_problems(config.seed)[: config.questions or None]
    recipes = smollm2_recipes(config.temperature)
    recipes = {name: recipes[name] for name in config.sources or recipes}
    parts = range(1, config.processes + 1)
    journals = [workdir / f"journal-{part}-of-{config.processes}.jsonl" for part in parts]
    with ExitStack() as stack, ThreadPoolExecutor(config.processes) as threads:
        servers = [stack.enter_context(started("smollm2", f"--model={config.model}")) for _ in parts]

        def drawn(part: int) -> None:
            mine = [question for question in _questions(asked) if in_shard(question, part, config.processes)]
            settings = CollectConfig(
                base_url=f"{servers[part - 1]}/v1", samples=config.samples, concurrency=1, seed=config.seed
            )
            collect(mine, parse_recipes(recipes), journals[part - 1], settings, show=part == 1)

        list(threads.map(drawn, parts))
    return pack_journals(
        journals, workdir, {"temperature": config.temperature, "seed": config.seed, "recipes": recipes}
    )


def pack_journals(journals: Sequence[Path], workdir: Path, made_by: dict[str, Any]) -> Path:
    """samples.jsonl and samples.npz of what journals hold of whole questions, in the order of `word_problems`.

    Raises:
      ValueError: no question has all its samples yet.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples that are not there yet, which are left out here
        log = read_log([str(path) for path in journals], grader="number")
    whole = (log.count == log.count.max()).all(axis=1)
    if not whole.any():
        raise ValueError(f"no question of {workdir} has all its samples yet: run it again")
    row = {name: i for i, name in enumerate(log.ids) if whole[i]}
    log = log.select([row[question.id] for question in word_problems(made_by["seed"]) if question.id in row])
    write_log(log, workdir / SAMPLES)
    save_packed(log, out := workdir / "samples.npz", made_by)
    return out


def run_loop(config: LoopConfig, workdir: str | Path) -> str:
    """Server, samples, rules, gateway, questions through the openai client, and the account.

    Args:
      config: how much of each.
      workdir: of everything that is kept; the samples that it holds already are not drawn again.

    Returns:
      The account.
    """
    from openai import DefaultHttpxClient, OpenAI

    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    recipes = cascade_recipes() if config.cascade else {name: smollm2_recipes()[name] for name in ("direct", "steps")}
    known = (arithmetic_sums if config.cascade else word_problems)(config.seed)
    learned_from, asked = known[: config.questions], known[config.questions :][: config.asked]
    (workdir / "sources.json").write_text(json.dumps(recipes))
    (workdir / "prices.json").write_text(json.dumps(_PRICES))
    budget = config.budget / 1e6 if config.cascade else config.budget
    clock = [time.perf_counter()]
    with ExitStack() as stack:
        models = dict.fromkeys(recipe["model"] for recipe in recipes.values())
        servers = {name: stack.enter_context(started(*_server(name, config.model))) for name in models}
        for name, url in servers.items():
            mine = {source: recipe for source, recipe in recipes.items() if recipe["model"] == name}
            settings = CollectConfig(base_url=f"{url}/v1", samples=config.samples, concurrency=1, seed=config.seed)
            collect(_questions(learned_from), parse_recipes(mine), workdir / f"journal-{name}.jsonl", settings)
        log = read_log([str(workdir / f"journal-{name}.jsonl") for name in models], grader="number")
        write_log(log, workdir / SAMPLES)
        clock.append(time.perf_counter())
        learning = EscalateConfig(
            log=str(workdir / SAMPLES),
            resource="usd" if config.cascade else "completion_tokens",
            prices=str(workdir / "prices.json") if config.cascade else "",
            sources=tuple(recipes),
            budgets=(budget,),
            folds=2,
            orders=2,
            replicates=200,
            seed=config.seed,
        )
        compare_escalation(learning, workdir / "rules", overwrite=True)
        clock.append(time.perf_counter())
        upstreams = [f'[[upstreams]]\nurl = "{url}/v1"\nmodels = ["{name}"]\n' for name, url in servers.items()]
        (workdir / "serve.toml").write_text("\n".join(upstreams))
        options = [f"--config={workdir / 'serve.toml'}", f"--policy={workdir / 'rules' / 'policy'}", "--ledger="]
        options += [f"--sources={workdir / 'sources.json'}", f"--prices={workdir / 'prices.json'}"]
        options += [f"--budget={budget:g}", f"--resource={learning.resource}"]
        gateway = stack.enter_context(started("serve", *options))
        clock.append(time.perf_counter())
        plain = DefaultHttpxClient(trust_env=False)  # to this machine, by way of no proxy
        client = stack.enter_context(OpenAI(base_url=f"{gateway}/v1", api_key="none", http_client=plain, timeout=120))
        answers = list(_answers(client, asked))
        clock.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(clock)]
    return account(answers, [question.answer for question in asked], config, seconds)


@dataclass(frozen=True)
class LoopAnswer:
    """What the gateway gave for one question."""

    text: str
    path: str  # of sources
    samples: int
    tokens: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)  # x-alloc-...


def _answers(client: Any, asked: Sequence[WordProblem]) -> Iterator[LoopAnswer]:
    for question in asked:
        start = time.perf_counter()
        raw = client.chat.completions.with_raw_response.create(
            model="alloc/auto", messages=[{"role": "user", "content": question.text}]
        )
        said, headers = raw.parse(), raw.headers
        yield LoopAnswer(
            text=said.choices[0].message.content or "",
            path=headers.get("x-alloc-path", ""),
            samples=int(headers["x-alloc-samples"]),
            tokens=said.usage.completion_tokens,
            seconds=time.perf_counter() - start,
            headers={name: value for name, value in headers.items() if name.startswith("x-alloc-")},
        )


def account(answers: Sequence[LoopAnswer], golds: Sequence[int], config: LoopConfig, seconds: Sequence[float]) -> str:
    """What was asked, what that cost, how long it took, and how often the answer was right.

    Args:
      answers: of the gateway.
      golds: the right ones.
      config: of the loop.
      seconds: of drawing, learning, starting the gateway, asking.
    """
    right = [given.correct for given in grade([one.text for one in answers], list(map(str, golds)), method="number")]
    share, table = right_by("path", [one.path for one in answers], right, most=8)
    wait = sorted(one.seconds for one in answers)
    tokens = sum(one.tokens for one in answers)
    return "\n".join([
        f"drawn      {config.questions} questions x {config.samples} samples of each source in {seconds[0]:.0f} s",
        f"learned    in {seconds[1]:.0f} s",
        f"asked      {len(answers)} questions in {seconds[3]:.0f} s; median {statistics.median(wait):.2f} s, "
        f"95th percentile {wait[int(0.95 * (len(wait) - 1))]:.2f} s",
        f"spent      {tokens / len(answers):.2f} tokens written per question"
        + ("" if config.cascade else f" of {config.budget:g}")
        + f", {sum(one.samples for one in answers)} samples in all",
        f"right      {share}",
        "",
        table,
    ]) + (_escalated(answers) if config.cascade else "")  # fmt: skip


def _escalated(answers: Sequence[LoopAnswer]) -> str:
    """The first answer that was begun by the arithmetic model and went on to the other, with its headers."""
    first = next((one for one in answers if one.path.startswith("toy") and "steps" in one.path), None)
    if first is None:
        return ""
    return "\n".join(
        [
            "",
            "",
            f"the first escalation: {first.text.strip()!r}",
            *(f"{name}: {value}" for name, value in first.headers.items()),
        ]
    )


def _server(model: str, file: str) -> tuple[str, str]:
    """The command of `alloc` that serves a model."""
    return ("smollm2", f"--model={file}") if model == MODEL else ("reasoner", f"--size={model}")


def arithmetic_sums(seed: int) -> list[WordProblem]:
    """Small sums and differences, as the arithmetic model reads them."""
    every = [(f"{a}+{b}", a + b) for a in range(2, 31) for b in range(2, 21)]
    every += [(f"{a}-{b}", a - b) for a in range(3, 31) for b in range(2, min(a, 21))]
    random.Random(seed).shuffle(every)
    return [WordProblem(text, text, value, "sums") for text, value in every]


def cascade_recipes() -> dict[str, dict[str, Any]]:
    """The arithmetic model, and SmolLM2 after worked examples with a step."""
    toy = {"model": "small", "prompt": "T{question}=", "temperature": 1.0, "max_tokens": 48, "parameters": _TOY}
    steps = smollm2_recipes()["steps"]
    return {"toy": toy, "steps": {**steps, "prompt": steps["prompt"].replace("{question}", "What is {question}?")}}


def _questions(asked: Sequence[WordProblem]) -> list[Question]:
    return [Question(one.id, one.text, str(one.answer), one.group) for one in asked]
