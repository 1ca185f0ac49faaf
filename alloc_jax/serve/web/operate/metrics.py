"""What a gateway counts, as Prometheus reads it: everything for the operator, its own for a tenant."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from alloc_jax.collect.replies import Usage
from alloc_jax.serve.core import Core
from alloc_jax.serve.start.workers import FOLDER
from alloc_jax.serve.tickets import Ticket
from alloc_jax.serve.traffic.watching import Watch
from alloc_jax.serve.web.answering import Answer
from alloc_jax.serve.web.upstream import Upstream
from alloc_jax.serve.web.upstream_usage import Drawn

_log = logging.getLogger("alloc_jax.serve")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_DECISION = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2)


class Metrics:
    """The counters of one gateway."""

    def __init__(self, core: Core, upstream: Upstream):
        self.core = core
        self.odd_said = False  # once is enough: the counter counts
        self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"alloc_{name}", about, labels, registry=self.registry)

        def gauge(name: str, about: str, *labels: str, mode: Any = "mostrecent") -> Gauge:
            return Gauge(f"alloc_{name}", about, labels, registry=self.registry, multiprocess_mode=mode)

        def histogram(name: str, about: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"alloc_{name}_seconds", about, buckets=buckets, registry=self.registry)

        self.responses = counter("responses", "Responses, by HTTP status.", "status")
        self.actions = counter("actions", "Questions answered, by action.", "tenant", "action")
        self.fallbacks = counter("fallbacks", "Questions for which one sample took the place of a vote.", "tenant")
        self.samples = counter("samples", "Samples that came from upstream.", "tenant")
        self.saved = counter("samples_saved", "Samples that a stopping rule left undrawn.", "tenant")
        self.uncounted = counter("samples_uncounted", "Samples that may be charged and never came.", "tenant")
        self.tokens = counter("tokens", "Tokens that upstream counted.", "tenant", "kind")
        self.busy = gauge("requests_in_flight", "Requests that are being answered.", "tenant", mode="livesum")
        self.multiplier = gauge("multiplier", "Utility that one unit of cost must earn.", "tenant")
        self.budget = gauge("budget", "Mean cost per question that is allowed.", "tenant")
        self.spend = gauge("spend", "Mean cost per question so far.", "tenant")
        self.questions = gauge("questions", "Questions that were held against the budget.", "tenant")
        self.passed = gauge("passed", "Requests that passed through, under no budget.", "tenant")
        self.passed_cost = gauge("passed_cost", "What they cost, in the policy's unit.", "tenant")
        self.unsettled = gauge("unsettled", "Requests that wait for a ledger that can be written.", mode="livesum")
        watched = "tenant", "monitor"
        self.drift = gauge("drift_alarm", "1 where a monitor has rung since the policy began.", *watched)
        self.evidence = gauge("drift_evidence", "Log evidence of drift over what rings: from 1 on.", *watched)
        self.change = gauge("drift_change", "The mean of the last decisions less that of the first.", *watched)
        self.odd = counter("upstream_odd_usage", "Replies whose usage cannot be, charged at their worst case.")
        self.faults = counter("upstream_faults", "Answers of upstream that were none, retried or not.", "status")
        self.deciding = histogram("decision", "From the text to the reservation.", _DECISION)
        self.answering = histogram("answer", "From the request to the answer.", _SECONDS)

        upstream.noticed = lambda status: self.faults.labels(status).inc()

    def count_answer(self, ticket: Ticket, answer: Answer) -> None:
        """Count an answer that was allocated."""
        tenant = ticket.tenant.name
        self.actions.labels(tenant, ticket.action.name).inc()
        if ticket.plan is not None:
            self.saved.labels(tenant).inc(max(ticket.action.samples - answer.samples, 0))
        if answer.fallback:
            self.fallbacks.labels(tenant).inc()

    def count_drawn(self, ticket: Ticket, drawn: Drawn) -> None:
        """Count what came for a request, whatever became of it."""
        tenant = ticket.tenant.name
        self.samples.labels(tenant).inc(len(drawn.samples))
        self.uncounted.labels(tenant).inc(drawn.uncounted)
        if drawn.odd and not self.odd_said:
            self.odd_said = True
            _log.warning("the upstream states a usage beyond what was asked for; it is charged at its worst case")
        self.odd.inc(drawn.odd)
        self.unsettled.set(len(self.core.reservations.late))
        self._count_tokens(tenant, drawn.usage())

    def show_drift(self, watch: Watch) -> None:
        """Show what the last look found."""
        for tenant, monitors in watch.monitors.items():
            for monitor in monitors:
                self.drift.labels(tenant, monitor.name).set(monitor.name in watch.rang[tenant])
                self.evidence.labels(tenant, monitor.name).set(monitor.evidence[-1] / monitor.threshold)
                self.change.labels(tenant, monitor.name).set(monitor.now - monitor.reference)

    def text(self, tenant: str | None = None) -> bytes:
        """The exposition; for a tenant, of what is its own."""
        for name, described in self.core.tenants.items():
            account, passed = self.core.account(name), self.core.passed(name)
            self.questions.labels(name).set(account.questions)
            self.multiplier.labels(name).set(self.core.multiplier(name))
            self.passed.labels(name).set(passed.questions)
            self.passed_cost.labels(name).set(passed.spent)
            if described.budget is not None:
                self.budget.labels(name).set(described.budget)
            if account.questions:
                self.spend.labels(name).set(account.spent / account.questions)
        self.unsettled.set(len(self.core.reservations.late))
        whole = self.registry
        if FOLDER in os.environ:  # of what all processes count
            whole = CollectorRegistry()
            MultiProcessCollector(whole)
        return generate_latest(whole if tenant is None else _Own(whole, tenant))

    def _count_tokens(self, tenant: str, usage: Usage) -> None:
        """Count tokens that upstream counted; a kind that it never counts has no line, which is not 0."""
        for kind in ("prompt", "completion", "reasoning"):
            if (count := getattr(usage, f"{kind}_tokens")) is not None:
                self.tokens.labels(tenant, kind).inc(count)


class _Own:
    """A registry of one tenant's series alone."""

    def __init__(self, registry: CollectorRegistry, tenant: str):
        self.registry, self.tenant = registry, tenant

    def collect(self) -> Iterable[Metric]:
        for metric in self.registry.collect():
            own = [sample for sample in metric.samples if sample.labels.get("tenant") == self.tenant]
            if own:
                part = copy(metric)
                part.samples = own
                yield part
