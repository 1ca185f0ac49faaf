"""Collecting samples from an OpenAI-compatible server into a journal."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from alloc_jax.collect.charges import total_tokens, usage_dollars, worst_dollars
from alloc_jax.collect.journal import Journal
from alloc_jax.collect.progress import Progress
from alloc_jax.collect.questions import Question
from alloc_jax.collect.recipes import Recipe, request_seed, worst_prompt
from alloc_jax.collect.replies import Fault, Most, Reply, read_reply, redact, status_fault
from alloc_jax.price_book import TokenPrice

_log = logging.getLogger("alloc_jax.collect")
_REFUSALS = 5  # of a source that has never answered: the next will be refused, too
_PAUSE = 0.5  # seconds before the first retry; doubles with each


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Settings of a collection: the server, how many samples, how many requests at a time, and what may be spent."""

    base_url: Annotated[str, "Of the server, with its /v1."]
    samples: Annotated[int, "Samples of each question and source."] = 16
    concurrency: Annotated[int, "Requests at a time."] = 16
    timeout_s: Annotated[float, "Limit of a request, in seconds."] = 600.0
    retries: Annotated[int, "Of a request that failed for a passing reason, such as a timeout."] = 4
    seed: Annotated[int | None, "From which each request gets a seed of its own; None sends none."] = 0
    max_usd: Annotated[float | None, "Stops before more dollars are spent; needs prices."] = None
    max_tokens: Annotated[float | None, "Stops before more tokens are spent, prompts and completions together."] = None
    retry_refused: Annotated[bool, "Ask again what the server refused in an earlier run."] = False
    max_wait_s: Annotated[float, "A server that asks to wait longer ends the run; start it again later."] = 300.0
    key_env: Annotated[str, "The environment variable that holds the server's key."] = "OPENAI_API_KEY"

    def __post_init__(self):
        for name in ("samples", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        for name in ("max_usd", "max_tokens"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} is positive, or None for no limit, got {value}")
        if self.retries < 0 or not self.timeout_s > 0 or not self.max_wait_s > 0:
            raise ValueError(
                f"retries is at least 0, timeout_s and max_wait_s positive, got {self.retries}, {self.timeout_s} and"
                f" {self.max_wait_s}"
            )


@dataclass(kw_only=True)
class CollectTotals:
    """Totals of a collection: good samples, failed requests, tokens and dollars, over all runs into one journal."""

    samples: int = 0  # good ones
    failed: dict[str, int] = field(default_factory=dict)  # requests given up or charged for nothing, by what went wrong
    tokens: float = 0.0  # prompts and completions; the most that a request can have used where nobody says
    usd: float = 0.0  # likewise; only where there are prices
    unknown: int = 0  # replies without usage
    averaged: int = 0  # replies whose samples share one token count
    stopped: str | None = None  # the limit that ended the run

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one line of the journal."""
        if "failure" in row:
            self.failed[row["failure"]] = self.failed.get(row["failure"], 0) + 1
        else:
            self.samples += len(row["samples"])
            self.averaged += row["averaged"]
            self.unknown += total_tokens(row["usage"]) is None
        for name, amount in row["charged"].items():
            setattr(self, name, getattr(self, name) + (amount or 0.0))


@dataclass
class Job:
    """One request to come: some samples of one question and source."""

    question: Question
    recipe: Recipe
    samples: list[int]
    asked: int = 0  # requests made for them so far


def collect(
    questions: Sequence[Question],
    recipes: Mapping[str, Recipe],
    journal: str | os.PathLike,
    config: CollectConfig,
    prices: Mapping[str, TokenPrice] | None = None,
    show: bool = True,
) -> CollectTotals:
    """Ask every question of every source until each has its samples; what the journal holds already is not asked again.

    Args:
      questions: what is asked.
      recipes: the sources by name.
      journal: where the samples go.
      config: how to ask.
      prices: of the sources by name; needed for `max_usd`.
      show: a progress display, where stderr is a terminal.

    Returns:
      The account over everything in the journal.

    Raises:
      ImportError: the openai package is not installed.
      ValueError: the configuration or the journal does not fit, or a question is not what the journal has under its id.
      Fault: the server refuses a source for good (an unknown model, a wrong key).
      KeyboardInterrupt: after the journal was closed; the same call goes on from there.
    """
    prices = dict(prices or {})
    _check(recipes, config, prices)
    with Journal(journal, {name: recipe.describe() for name, recipe in recipes.items()}) as open_journal:
        run = _Run(open_journal, config, prices)
        open_journal.check(questions)
        done = open_journal.done(refused=not config.retry_refused)
        for row in open_journal.rows:
            run.account.add(row)
            run.answered.update({row["source"]} if row["samples"] else ())
        jobs = list(_jobs(questions, recipes, config.samples, done))
        total = len(questions) * len(recipes) * config.samples
        with Progress(total, total - sum(len(job.samples) for job in jobs), run.account, show) as progress:
            asyncio.run(run.all(jobs, progress))
    return run.account


class _Run:
    """The requests of one run, and what they have spent."""

    def __init__(self, journal: Journal, config: CollectConfig, prices: Mapping[str, TokenPrice]):
        self.journal, self.config, self.prices = journal, config, prices
        self.account = CollectTotals()
        self.in_flight = {"tokens": 0.0, "usd": 0.0}  # the most that open requests can use
        self.open = 0  # requests
        self.settled = asyncio.Condition()
        self.answered: set[str] = set()  # sources that have given a sample
        self.odd: set[str] = set()  # sources whose usage was beyond what was asked for
        self.refused: dict[str, int] = {}  # requests refused for good, of sources that have not

    async def all(self, jobs: list[Job], progress: Progress) -> None:
        jobs.reverse()  # taken from the end
        async with client_of(self.config) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.config.concurrency, len(jobs))):
                        group.create_task(self._work(client, jobs, progress))
            except* Fault as group_of_faults:
                raise group_of_faults.exceptions[0] from None

    async def _work(self, client, jobs: list[Job], progress: Progress) -> None:
        while jobs and self.account.stopped is None:
            job = jobs.pop()
            worst = self.worst(job)
            if not await self._reserve(worst):
                return
            try:
                row, rest, wait = await self._ask(client, job, worst)
                if row is not None:
                    self.journal.write(row)
                    self.account.add(row)
            finally:  # in one step with the charge, so that no other request sees the sum without either
                await self._release(worst)
            if row is not None and "samples" in row:
                self.answered.add(job.recipe.name)
            progress.advance(len(job.samples) - len(rest))
            if wait > self.config.max_wait_s:
                self.account.stopped = self.account.stopped or f"the server, which asks to wait {wait:,.0f} s"
            elif wait:
                progress.waiting(wait)
                await asyncio.sleep(wait)
                progress.waiting(0.0)
            if rest:
                got = row is not None and "samples" in row  # a short reply is no failure
                jobs.append(Job(job.question, job.recipe, rest, 0 if got else job.asked + 1))

    async def _reserve(self, worst: Mapping[str, float | None]) -> bool:
        """Wait until the request fits below the limits for certain; False where it never will."""
        limits = {"tokens": self.config.max_tokens, "usd": self.config.max_usd}
        async with self.settled:
            while self.account.stopped is None:
                over = [
                    name
                    for name, limit in limits.items()
                    if limit is not None and getattr(self.account, name) + self.in_flight[name] + worst[name] > limit
                ]
                if not over:
                    for name in self.in_flight:
                        self.in_flight[name] += worst[name] or 0.0
                    self.open += 1
                    return True
                if not self.open:  # nothing will be given back
                    self.account.stopped = f"max_{over[0]}={limits[over[0]]:g}"
                    self.settled.notify_all()
                    break
                await self.settled.wait()
        return False

    async def _release(self, worst: Mapping[str, float | None]) -> None:
        for name in self.in_flight:
            self.in_flight[name] -= worst[name] or 0.0
        self.open -= 1
        async with self.settled:
            self.settled.notify_all()

    async def _ask(
        self, client, job: Job, worst: Mapping[str, float | None]
    ) -> tuple[dict[str, Any] | None, list[int], float]:
        """One request: the journal's line for it, the samples that are still to be had, and seconds to wait before that.

        Raises:
          Fault: the server refuses everything: a wrong key, an unknown model.
        """
        seed = request_seed(self.config.seed, job.question.id, job.recipe.name, job.samples[0])
        body = job.recipe.body(job.recipe.messages(job.question.text), len(job.samples), seed)
        try:
            start = time.perf_counter()
            raw = await request(client, body)
            reply = read_reply(raw.text, len(job.samples), self.most(job), client.api_key)
            if job.recipe.finish is not None and reply.choices[0].finish_reason == "length":
                reply = await _finished(client, job.recipe, body, reply)
            seconds = time.perf_counter() - start
        except Fault as fault:
            return self._failed(job, fault, worst)
        self._notice(job.recipe.name, reply)
        got = job.samples[: len(reply.choices)]
        usd = self.dollars(job.recipe, reply)
        tokens = total_tokens(asdict(reply.usage))
        row = {
            "id": job.question.id,
            "question": job.question.text,
            "gold": job.question.gold,
            "group": job.question.group,
            "source": job.recipe.name,
            "usage": asdict(reply.usage),
            "usd": usd,
            "charged": {
                "tokens": worst["tokens"] if tokens is None else tokens,
                "usd": worst["usd"] if usd is None else usd,
            },
            "latency_s": round(seconds, 6),
            "retries": job.asked,
            "seed": seed,
            "model": reply.model,
            "averaged": reply.averaged,
            "samples": [{"sample": j, **asdict(choice)} for j, choice in zip(got, reply.choices, strict=True)],
        }
        return row, job.samples[len(got) :], 0.0

    def _notice(self, source: str, reply: Reply) -> None:
        """Says, once each, what makes samples doubtful: another model behind a source, a usage that cannot be."""
        names = self.journal.models.setdefault(source, [])
        if reply.model and reply.model not in names:
            names.append(reply.model)
            if len(names) > 1:
                _log.warning("source %r: the server named its model %r, and now names it %r", source, *names[-2:])
        if reply.odd and source not in self.odd:
            self.odd.add(source)
            _log.warning(
                "source %r: the server states a usage beyond what was asked for; it counts as the most", source
            )

    def _failed(
        self, job: Job, fault: Fault, worst: Mapping[str, float | None]
    ) -> tuple[dict[str, Any] | None, list[int], float]:
        again = not fault.final and job.asked < self.config.retries
        if fault.final and job.recipe.name not in self.answered:
            self.refused[job.recipe.name] = self.refused.get(job.recipe.name, 0) + 1
            if fault.everything or self.refused[job.recipe.name] >= _REFUSALS:
                raise Fault(f"the server refuses source {job.recipe.name!r}: {fault}", status=fault.status)
        wait = fault.retry_after if fault.retry_after is not None else min(_PAUSE * 2**job.asked, 30.0)
        if again and not fault.billed:
            return None, job.samples, wait
        row = {
            "id": job.question.id,
            "source": job.recipe.name,
            "failed": job.samples,
            "failure": str(fault),
            "final": fault.final,
            "charged": dict(worst) if fault.billed else {"tokens": 0.0, "usd": 0.0},
            "retries": job.asked,
        }
        return row, job.samples if again else [], wait if again else 0.0

    def most(self, job: Job) -> Most:
        """The most that a request can have used."""
        recipe, samples = job.recipe, len(job.samples)
        prompt = samples * worst_prompt(recipe.body(recipe.messages(job.question.text)))
        return Most(prompt=prompt, completion=None if recipe.limit is None else samples * recipe.limit)

    def worst(self, job: Job) -> dict[str, float | None]:
        """The most that a request can use; None where nothing limits it."""
        recipe, samples = job.recipe, len(job.samples)
        if recipe.limit is None:
            return {"tokens": None, "usd": None}
        prompt = recipe.worst_tokens(recipe.messages(job.question.text)) - recipe.limit
        price = self.prices.get(recipe.name)
        usd = None if price is None else worst_dollars(price, prompt, recipe.limit * samples)
        return {"tokens": prompt + recipe.limit * samples, "usd": usd}

    def dollars(self, recipe: Recipe, reply: Reply) -> float | None:
        """What a reply cost; None where the price or a count that it needs is unknown."""
        price = self.prices.get(recipe.name)
        return None if price is None else usage_dollars(price, asdict(reply.usage))


def _check(recipes: Mapping[str, Recipe], config: CollectConfig, prices: Mapping[str, TokenPrice] | None) -> None:
    for name, recipe in recipes.items():
        if config.max_usd is not None and name not in (prices or {}):
            raise ValueError(f"max_usd needs a price for source {name!r}: a missing one is not 0")
        if (config.max_usd or config.max_tokens) and recipe.limit is None:
            raise ValueError(f"source {name!r} has no max_tokens: a limit on the spend needs a worst case")


def _jobs(
    questions: Sequence[Question], recipes: Mapping[str, Recipe], samples: int, done: set[tuple[str, str, int]]
) -> Iterator[Job]:
    for question in questions:
        for name, recipe in recipes.items():
            left = [j for j in range(samples) if (question.id, name, j) not in done]
            for start in range(0, len(left), recipe.n):
                yield Job(question, recipe, left[start : start + recipe.n])


def client_of(config: CollectConfig):
    """The client of a server.

    Raises:
      ImportError: the openai package is not installed; the message names the extra.
    """
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError as error:
        raise ImportError("collecting needs openai: pip install 'alloc_jax[collect]'") from error
    key = os.environ.get(config.key_env) or "none"  # own servers want none, and the client wants some text
    # It would retry some faults by itself: unseen, and what a time-out may have cost would be in no account.
    plain = DefaultAsyncHttpxClient(follow_redirects=False)  # a question goes to the server that was named
    return AsyncOpenAI(
        base_url=config.base_url, api_key=key, timeout=config.timeout_s, max_retries=0, http_client=plain
    )


async def _finished(client, recipe: Recipe, body: Mapping[str, Any], cut: Reply) -> Reply:
    """The reply with its one sample finished, by a request that goes on from where it was cut off.

    Raises:
      Fault: there is no such answer; what was written before is lost, and charged.
    """
    more = recipe.finishing(body, cut.choices[0].text)
    try:
        raw = await request(client, more)
        most = Most(prompt=worst_prompt(more), completion=recipe.finish_tokens)
        rest = read_reply(raw.text, 1, most, client.api_key)
    except Fault as fault:
        raise Fault(str(fault), status=fault.status, billed=True, retry_after=fault.retry_after) from None
    before, said = more["messages"][-1]["content"], rest.choices[0].text
    return cut.joined(rest, said if said.startswith(before) else before + said)  # some servers repeat what went before


async def request(client, body: dict[str, Any]):
    """The raw response to a request, whose status says 200.

    Raises:
      Fault: there is none.
    """
    import openai

    known = {name: body[name] for name in ("model", "messages")}
    rest = {name: value for name, value in body.items() if name not in known}
    try:
        return await client.chat.completions.with_raw_response.create(**known, extra_body=rest)
    except openai.APITimeoutError:
        raise Fault("time-out", billed=True) from None
    except openai.APIStatusError as error:
        wait = error.response.headers.get("retry-after")
        raise status_fault(error.status_code, redact(error.response.text, client.api_key), wait) from None
    except openai.APIConnectionError as error:
        raise Fault(f"no connection: {error.__cause__ or error}") from None
