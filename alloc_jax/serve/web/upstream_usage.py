"""What came from upstream for one request, the most that it can have used, and what is settled for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from alloc_jax.collect.recipes import beside_bytes
from alloc_jax.collect.replies import Choice, Fault, Most, Usage
from alloc_jax.serve.core import Core
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.tickets import Passed, Ticket

_COUNTS = ("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens")
_counts = attrgetter(*_COUNTS)
_log = logging.getLogger("alloc_jax.serve")


@dataclass(frozen=True)
class Sample:
    """One sample, and where it came from."""

    source: str
    choice: Choice
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the same as the server put it


@dataclass
class Drawn:
    """What came from upstream for one request."""

    retries: int = 0  # that are left, over all samples
    samples: list[Sample] = field(default_factory=list)
    usages: list[tuple[str, Usage]] = field(default_factory=list)  # source and usage of each reply
    faults: list[Fault] = field(default_factory=list)  # every one on the way, retried or not
    requests: int = 0  # that were made, without the retries
    odd: int = 0  # replies whose usage cannot be
    uncounted: int = 0  # samples that may have been generated and charged, but were never received
    verdicts: int = 0  # that a verifier was asked for
    cost: float | None = None  # as it was settled, in the policy's unit
    charged: float | None = None  # likewise, in the cap's

    def came(self, source: str) -> int:
        """Samples of a source."""
        return sum(sample.source == source for sample in self.samples)

    def usage(self, source: str | None = None) -> Usage:
        """The sum over a source's replies, or over all; None where one of them does not say."""
        counts = [_counts(usage) for name, usage in self.usages if source in (None, name)]
        sums = [None if None in column else sum(column) for column in zip(*counts, strict=True)]
        return Usage(**dict(zip(_COUNTS, sums, strict=True))) if counts else Usage()

    @property
    def known(self) -> tuple[float, float]:
        """Prompt and completion tokens as far as the upstream said them."""
        usages = [usage for _, usage in self.usages]
        return sum(u.prompt_tokens or 0 for u in usages), sum(u.completion_tokens or 0 for u in usages)

    def mark_odd(self) -> None:
        """Note a reply whose usage cannot be."""
        self.odd += 1
        self.faults.append(Fault("a usage beyond what was asked for, charged at its worst case"))


def settle(core: Core, ticket: Ticket, drawn: Drawn, seconds: float) -> None:
    """Settle a ticket with what came, and with the worst of what may have been charged and never came."""
    models = _models(core, ticket)
    cost, counted = (_sum_of(meter, models, drawn, seconds) for meter in (core.meter, core.cap))
    charged = 0.0
    if ticket.tenant.cap is not None:
        charged = (ticket.reserved if counted is None else counted) + drawn.uncounted * ticket.worst
        charged += drawn.verdicts * core.judging[1] if counted is not None else 0.0
        drawn.charged = charged
    if cost is not None:
        cost += drawn.verdicts * core.judging[0]
    drawn.cost = ticket.expected if cost is None else cost
    core.note(ticket, {source: usage.prompt_tokens for source, usage in drawn.usages})
    core.settle(ticket, cost, charged, len(drawn.samples), *drawn.known)


def bounds(body: Mapping[str, Any], raw: bytes, samples: int, limit: int | None, image_tokens: int | None) -> Most:
    """The most that a request can use."""
    try:
        # Some servers count the prompt once, some for each choice.
        prompt = samples * (len(raw) + beside_bytes(body.get("messages", ()), image_tokens))
    except ValueError:
        prompt = None
    return Most(prompt=prompt, completion=None if limit is None else samples * limit)


def _models(core: Core, ticket: Ticket) -> dict[str, str]:
    """The upstream's model by source; what passes through has no source, and stands under ''."""
    if isinstance(ticket.asked, Passed):
        return {"": ticket.asked.model}
    return {source: core.recipes[source].model for source in ticket.sources}


def _sum_of(meter: Meter, models: Mapping[str, str], drawn: Drawn, seconds: float) -> float | None:
    """What a request cost, over its sources; None where it is not known."""
    if not drawn.samples:
        return 0.0
    if meter.resource == "seconds":
        return seconds
    total = 0.0
    for source, model in models.items():
        if came := drawn.came(source):
            try:
                cost = meter.cost(model, drawn.usage(source), came, seconds)
            except ValueError as error:  # a model without a price
                _log.warning("%s", error)
                return None
            if cost is None:
                return None
            total += cost
    return total
