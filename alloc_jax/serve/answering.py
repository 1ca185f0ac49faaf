"""Answering: an admitted request to samples from upstream, to a vote, to one answer, and to a settled ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloc_jax.collect.recipes import request_seed
from alloc_jax.collect.replies import Usage
from alloc_jax.serve.core import Core
from alloc_jax.serve.tickets import Refused, Ticket
from alloc_jax.serve.upstream import Drawn, Upstream
from alloc_jax.serve.voting import AnswerKeys, Verdict, count_votes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes back to the client."""

    text: str
    finish_reason: str | None
    verdict: Verdict
    samples: int  # that came
    usage: Usage  # over all of them, and over every request
    faults: tuple[str, ...]  # what went wrong on the way


async def answer(
    core: Core,
    upstream: Upstream,
    ticket: Ticket,
    messages: Sequence[Mapping[str, Any]],
    text: str,
    *,
    keys: AnswerKeys,
    limit: int | None = None,
    extra: Mapping[str, Any] | None = None,
    abstain_text: str = "",
) -> Answer:
    """Does what a ticket says, and settles it whatever happens.

    Args:
      core: that admitted it.
      upstream: where the samples come from.
      ticket: the admitted request.
      messages: the client's conversation.
      text: its question.
      keys: reads answers.
      limit: tokens of a sample that the client allows.
      extra: fields that the client adds to the request.
      abstain_text: the answer of an action that gives none.

    Raises:
      Refused: not one sample came.
    """
    drawn, start = Drawn(), time.monotonic()
    try:
        if ticket.action.samples:
            await _draw(core, upstream, ticket, messages, text, drawn, keys, limit, extra)
    finally:
        settle(core, ticket, drawn, time.monotonic() - start, _worst(core, ticket, messages, text, limit))
    faults = tuple(str(fault) for fault in drawn.faults)
    if ticket.action.samples and not drawn.choices:
        raise _nothing(drawn)
    verdict = count_votes(await read_keys(keys, drawn), ticket.action, ticket.id)
    chosen = None if verdict.winner is None else drawn.choices[verdict.winner]
    return Answer(
        text=abstain_text if chosen is None else chosen.text,
        finish_reason="stop" if chosen is None else chosen.finish_reason,
        verdict=verdict,
        samples=len(drawn.choices),
        usage=drawn.usage if drawn.usages else Usage(prompt_tokens=0, completion_tokens=0),
        faults=faults,
    )


def settle(core: Core, ticket: Ticket, drawn: Drawn, seconds: float, worst: float, model: str | None = None) -> bool:
    """Settles a ticket with what came, and with the worst of what may have been charged and never came.

    Args:
      core: that admitted it.
      ticket: the request.
      drawn: what came.
      seconds: that it took.
      worst: the most that one sample can be charged.
      model: the upstream's; by default the ticket's action's.
    """
    if model is None:
        source = ticket.action.source
        model = "" if source is None else core.recipes[source].model
    came = len(drawn.choices)
    cost = core.meter.cost(model, drawn.usage, came, seconds) if came else 0.0
    charged = 0.0
    if ticket.tenant.cap is not None:
        counted = core.cap.cost(model, drawn.usage, came, seconds) if came else 0.0
        charged = (ticket.reserved if counted is None else counted) + drawn.uncounted * worst
    return core.settle(ticket, cost, charged, came, *drawn.known)


async def read_keys(keys: AnswerKeys, drawn: Drawn) -> list[str | None]:
    """The keys of the answers so far; what may take its time is read beside the event loop."""
    texts = [choice.text for choice in drawn.choices]
    return await asyncio.to_thread(keys, texts) if keys.slow else keys(texts)


async def _draw(core, upstream, ticket, messages, text, drawn: Drawn, keys, limit, extra) -> None:
    recipe, action = core.recipes[ticket.action.source], ticket.action
    asked = {**(extra or {}), **recipe.limited(limit)}
    worst = _worst(core, ticket, messages, text, limit)

    def allow(samples: int) -> bool:
        return not ticket.tenant.hard or core.extend(ticket, samples * worst)

    def seed(number: int) -> int:
        return request_seed(0, ticket.id, action.source, number)

    wrapped = recipe.wrap(messages, text)
    left = action.samples
    while left:
        wave = left if ticket.enough is None else min(recipe.n, left)
        before = len(drawn.choices)
        await upstream.draw(recipe, wrapped, wave, drawn, seed=seed, extra=asked, allow=allow)
        left -= wave
        if len(drawn.choices) == before:  # upstream has given up; what came before still counts
            return
        if ticket.enough is not None and left and ticket.enough(await read_keys(keys, drawn)):
            return


def _worst(core: Core, ticket: Ticket, messages, text: str, limit: int | None) -> float:
    if ticket.tenant.cap is None or not ticket.action.samples:
        return 0.0
    return core.worst_sample(ticket.tenant, ticket.action, messages, text, limit)


def _nothing(drawn: Drawn) -> Refused:
    """The error of a request for which no sample came."""
    last = drawn.faults[-1]
    said = f"the upstream gave no sample: {last}"
    if last.final:  # about the request itself, but for keys, which are ours and not the client's
        return Refused(502 if last.status in (401, 403) else last.status, said)
    if last.status == 429:
        return Refused(503, said, last.retry_after or 1.0)
    return Refused(504 if str(last) == "time-out" else 502, said)
