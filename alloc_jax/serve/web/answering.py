"""Answering: an admitted question to samples from upstream, to a vote, to one answer, and to a settled ledger."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from alloc_jax.collect.recipes import request_seed
from alloc_jax.collect.replies import Fault, Most, Usage
from alloc_jax.serve.core import Core
from alloc_jax.serve.meter import limit_of
from alloc_jax.serve.planning.voting import Verdict, best_score, count_votes, decided, pool_answers
from alloc_jax.serve.tickets import AnswerRequest, Pooled, Seen, Ticket
from alloc_jax.serve.verdicts.judges import Judge
from alloc_jax.serve.verdicts.verifier import JUDGED
from alloc_jax.serve.web.answer_keys import AnswerKeys, Said
from alloc_jax.serve.web.protocol import choice_of, json_bytes
from alloc_jax.serve.web.upstream import Upstream
from alloc_jax.serve.web.upstream_usage import Drawn, Sample, bounds, settle

_GRACE = 2.0  # samples that cannot change the vote are waited for, in units of what those took that decided it
_LEAST_GRACE_S = 0.25
_ALONE = Verdict(0, 1.0, 1)  # of one sample, whatever it says


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back to the client."""

    choice: Mapping[str, Any]  # with the message, as the upstream put it
    verdict: Verdict
    samples: int  # that came
    usage: Usage  # over all of them, and over every request
    faults: tuple[str, ...]  # what went wrong on the way
    fallback: str | None = None  # why one sample took the place of a vote
    early: str | None = None  # why samples that were asked for were not waited for
    seen: tuple[Seen, ...] = ()  # the samples in order, where a belief has chosen the answer


async def answer(
    core: Core,
    upstream: Upstream,
    ticket: Ticket[AnswerRequest],
    keys: AnswerKeys,
    drawn: Drawn,
    *,
    judge: Judge | None = None,
    probe: bool = True,
    deadline_s: float = 600.0,
    abstain_text: str = "",
) -> Answer:
    """Do what a ticket says, and settle it whatever happens.

    Args:
      core: that admitted it.
      upstream: where the samples come from.
      ticket: the admitted question.
      keys: reads answers.
      drawn: gets what comes, whatever becomes of the answer.
      judge: says how good samples are, for actions that need it.
      probe: the first sample tells whether there is anything to vote on.
      deadline_s: of all; then the samples that came have to do.
      abstain_text: the answer of an action that gives none.

    Raises:
      Fault: not one sample came.
    """
    drawing = _Drawing(core, upstream, ticket, keys, drawn, judge)
    start = time.monotonic()
    try:
        if ticket.action.samples:
            async with asyncio.timeout(deadline_s):
                await drawing.all(probe)
    except TimeoutError:
        drawing.early = "deadline"
    finally:
        settle(core, ticket, drawn, time.monotonic() - start)
    return await drawing.answer(abstain_text)


class _Drawing:
    """The samples of one question, as they come."""

    def __init__(
        self,
        core: Core,
        upstream: Upstream,
        ticket: Ticket[AnswerRequest],
        keys: AnswerKeys,
        drawn: Drawn,
        judge: Judge | None,
    ):
        judged = ticket.action.aggregator in JUDGED and ticket.action.samples > 1
        self.judge = judge if judged else None
        self.scores: list[float | None] = []  # verdicts on the samples so far
        self.core, self.upstream, self.ticket, self.reader = core, upstream, ticket, keys
        self.question = ticket.asked
        self.drawn = drawn
        drawn.retries = upstream.retries(ticket.action.samples)
        self.read: list[str | None] = []  # keys of the samples that have been read
        self.keys: list[str | None] = []  # the same, with one key for what says the same
        self.starts: list[int] = []  # the first sample of each round
        self.lost: list[Seen] = []  # samples that were asked for and did not come
        self.bodies: dict[tuple[str, int], tuple[bytes, Most]] = {}  # by source and number of samples
        self.fallback = ticket.single
        self.early: str | None = None

    async def all(self, probe: bool) -> None:
        """Draw what the ticket says."""
        action, gradable = self.ticket.action, self.question.gradable
        if self.ticket.plan is not None:
            await self._in_turn(probe and self.judge is None)
        elif self.judge is not None or gradable or not probe or action.samples == 1 or self.question.action is not None:
            await self._draw(action.source, action.samples)
            await self._judged()
        else:
            await self._draw(action.source, 1)
            if not self.drawn.samples:  # upstream has given up
                return
            if await self._votable():
                await self._draw(action.source, action.samples - 1)

    async def answer(self, abstain_text: str) -> Answer:
        """The vote of what came.

        Raises:
          Fault: nothing came.
        """
        drawn, action = self.drawn, self.ticket.action
        if action.samples and not drawn.samples:
            raise drawn.faults[-1] if drawn.faults else Fault("time-out")
        seen: tuple[Seen, ...] = ()
        if drawn.samples and self.ticket.plan and self.ticket.plan.choose and not self.fallback:
            seen = tuple(await self._seen())
            verdict = pool_answers(await self._read(), *self.ticket.plan.choose(seen))
        elif self.scores:
            seen = tuple(await self._seen()) if isinstance(action, Pooled) else ()
            missing = len(drawn.samples) - len(self.scores)  # at a deadline
            verdict = best_score([*self.scores, *[None] * missing])
        elif len(drawn.samples) == 1 and action.aggregator != "unanimous":
            verdict = _ALONE
        else:
            verdict = count_votes(await self._read(), action, self.ticket.id)
        if verdict.winner is None:
            choice = choice_of({"message": {"content": abstain_text}}, abstain_text)
        else:
            winner = drawn.samples[verdict.winner]
            choice = choice_of(winner.raw, winner.choice.text)
        return Answer(
            choice=choice,
            verdict=verdict,
            samples=len(drawn.samples),
            usage=drawn.usage() if drawn.usages else Usage(prompt_tokens=0, completion_tokens=0),
            faults=tuple(map(str, drawn.faults)),
            fallback=self.fallback,
            early=self.early,
            seen=seen,
        )

    async def _votable(self) -> bool:
        """Whether the first samples have an answer; one that was cut off tells nothing."""
        keys = await self._read()
        if any(key is not None for key in keys) or self.drawn.samples[0].choice.finish_reason == "length":
            return True
        self.fallback = "the first sample has no answer that could be voted on"
        return False

    async def _in_turn(self, probe: bool) -> None:
        """Draw from whichever sources the plan says next, until it says that what was seen suffices."""
        plan, gradable = self.ticket.plan, self.question.gradable
        while wave := plan.next(await self._seen()):
            before = len(self.drawn.samples)
            self.starts.append(before)
            wanted = Counter(wave)
            if len(plan.limits) == 1:  # as many as one request gives
                wanted = Counter({wave[0]: min(self.core.recipes[wave[0]].n, plan.action.samples - before)})
            async with asyncio.TaskGroup() as group:
                for source, samples in wanted.items():
                    group.create_task(self._draw(source, samples))
            came = Counter(sample.source for sample in self.drawn.samples[before:])
            if not came and len(plan.limits) == 1:  # upstream has given up; what came before still counts
                return
            # Another source may still answer: what did not come counts as a sample without an answer.
            self.lost += [Seen(source, None, len(self.starts) - 1) for source in (wanted - came).elements()]
            if came and not before and probe and gradable is None and not await self._votable():
                return

    async def _judged(self) -> list[float | None]:
        """The verdicts on the samples so far; each is judged once, and what is asked for is paid for."""
        new = self.drawn.samples[len(self.scores) :]
        if self.judge is not None and new:
            self.drawn.verdicts += len(new)
            texts = [sample.choice.text for sample in new]
            scores, faults = await self.judge.verdicts(self.question.text, self.question.conversation, texts)
            self.scores += scores
            self.drawn.faults += faults
        return self.scores

    async def _draw(self, source: str, samples: int) -> None:
        """Draw samples of a source at once, asking again for those that a server leaves out; those that cannot change the vote
        any more are not waited for long."""
        recipe, start = self.core.recipes[source], time.monotonic()
        while 0 < samples <= recipe.n:  # one request has nothing beside it to wait for
            samples = await self._request(source, samples)
        sizes = [min(recipe.n, samples - at) for at in range(0, samples, recipe.n)]
        out = {asyncio.create_task(self._request(source, size)): size for size in sizes}
        until = None
        try:
            while out:
                left = None if until is None else max(until - time.monotonic(), 0.0)
                done, _ = await asyncio.wait(out, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self.early = f"{sum(out.values())} samples that could not change the vote"
                    return
                for task in done:
                    del out[task]
                    if short := task.result():
                        out[asyncio.create_task(self._request(source, short))] = short
                if out and until is None and await self._decided(sum(out.values())):
                    until = time.monotonic() + max(_GRACE * (time.monotonic() - start), _LEAST_GRACE_S)
        finally:
            for task in out:
                task.cancel()
            if out:
                await asyncio.gather(*out, return_exceptions=True)

    async def _request(self, source: str, samples: int) -> int:
        """One request for samples of a source; how many it has left out, and may still be asked for."""
        ticket, recipe = self.ticket, self.core.recipes[source]
        seed = seed_of(ticket, source, self.drawn.requests)
        self.drawn.requests += 1
        if (source, samples) not in self.bodies:
            self.bodies[source, samples] = sample_request(self.core, ticket, source, samples)
        raw, most = self.bodies[source, samples]
        return await self.upstream.sample(
            source,
            recipe.model,
            b'%b, "seed": %d}' % (raw[:-1], seed),  # a long conversation is written once
            samples,
            self.drawn,
            tenant=ticket.tenant.name,
            most=most,
            allow=lambda again: self.core.extend(ticket, again),
        )

    async def _decided(self, left: int) -> bool:
        if self.ticket.plan is not None or self.judge is not None or len(self.drawn.samples) <= left:
            return False
        return decided(await self._read(), left, self.ticket.action)

    async def _read(self) -> list[str | None]:
        """The keys of the samples so far; each is read once."""
        new = [_said(sample) for sample in self.drawn.samples[len(self.read) :]]
        if new:
            self.read += await self.reader.read(new, self.ticket.tenant.name)
            self.keys = await self.reader.unite(self.read, self.ticket.tenant.name)
        return self.keys

    async def _seen(self) -> list[Seen]:
        """What the samples told, round by round."""
        keys = [] if self.judge is not None else await self._read()
        told = zip_longest(self.drawn.samples, keys, await self._judged())  # a sample has one of the two
        came = [Seen(one.source, key, bisect(self.starts, j) - 1, score) for j, (one, key, score) in enumerate(told)]
        return sorted(came + self.lost, key=lambda one: one.round)


def sample_request(core: Core, ticket: Ticket[AnswerRequest], source: str, samples: int) -> tuple[bytes, Most]:
    """The request for samples of a source, without its seed, and the most that it can use: what its recipe says, and what the client
    says where that is open."""
    question = ticket.asked
    recipe = core.recipes[source]
    body = recipe.body(recipe.wrap(question.conversation, question.text), samples)
    wished = {**question.sampling, **question.extra} if ticket.one else question.extra
    body = {
        **{name: value for name, value in wished.items() if name not in body and name != "seed"},
        **body,
        **recipe.limited(question.limit),
    }
    limit = limit_of(recipe, question.limit)
    raw = json_bytes(body)
    return raw, bounds(body, raw, samples, limit, core.cap.image_tokens)


def seed_of(ticket: Ticket[AnswerRequest], source: str, number: int) -> int:
    """The seed of a request for samples: the client's where there is one sample, else one of its own, as equal ones would give equal
    samples."""
    if ticket.one and "seed" in ticket.asked.sampling:
        return ticket.asked.sampling["seed"]
    return request_seed(0, ticket.id, source, number)


def one_sample(ticket: Ticket[AnswerRequest], drawn: Drawn) -> Answer:
    """What is known of an answer that is one sample, when that has begun."""
    faults = tuple(map(str, drawn.faults))
    return Answer(choice={}, verdict=_ALONE, samples=1, usage=Usage(), faults=faults, fallback=ticket.single)


def _said(sample: Sample) -> Said:
    """What is voted on: calls of tools where there are any."""
    message = sample.raw.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return calls if isinstance(calls, list) and calls else sample.choice.text
