"""What a gateway counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from alloc_jax.collect.replies import Usage
from alloc_jax.serve.answering import Answer
from alloc_jax.serve.core import Core
from alloc_jax.serve.tickets import Ticket

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_DECISION = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2)


class Metrics:
    """The counters of one gateway."""

    def __init__(self, core: Core):
        self.core = core
        self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"alloc_{name}", about, labels, registry=self.registry)

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"alloc_{name}", about, labels, registry=self.registry)

        self.responses = counter("responses", "Responses, by HTTP status.", "status")
        self.actions = counter("actions", "Requests answered, by action.", "action")
        self.samples = counter("samples", "Samples that came from upstream.")
        self.saved = counter("samples_saved", "Samples that a stopping rule left undrawn.")
        self.tokens = counter("tokens", "Tokens that upstream counted.", "kind")
        self.faults = counter("upstream_faults", "Answers of upstream that were none, retried or not.")
        self.busy = gauge("requests_in_flight", "Requests that are being answered.")
        self.price = gauge("price", "The price of one unit of cost, in utility.", "tenant")
        self.budget = gauge("budget", "Mean cost a question that is allowed.", "tenant")
        self.spend = gauge("spend", "Mean cost a question so far.", "tenant")
        self.questions = gauge("questions", "Questions that were held against the budget.", "tenant")
        self.deciding = Histogram(
            "alloc_decision_seconds", "From the text to the reservation.", buckets=_DECISION, registry=self.registry
        )
        self.answering = Histogram(
            "alloc_answer_seconds", "From the request to the answer.", buckets=_SECONDS, registry=self.registry
        )

    def count_answer(self, ticket: Ticket, answer: Answer) -> None:
        """Counts an answer that was allocated."""
        self.actions.labels(ticket.action.name).inc()
        self.samples.inc(answer.samples)
        if ticket.enough is not None:
            self.saved.inc(ticket.action.samples - answer.samples)
        self.faults.inc(len(answer.faults))
        self.count_tokens(answer.usage)

    def count_tokens(self, usage: Usage) -> None:
        """Counts tokens that upstream counted; a kind that it never counts has no line, which is not 0."""
        for kind in ("prompt", "completion", "reasoning"):
            if (count := getattr(usage, f"{kind}_tokens")) is not None:
                self.tokens.labels(kind).inc(count)

    def text(self) -> bytes:
        """The exposition."""
        for name, tenant in self.core.tenants.items():
            account = self.core.account(name)
            self.questions.labels(name).set(account.questions)
            self.price.labels(name).set(self.core.price(name))
            if tenant.budget is not None:
                self.budget.labels(name).set(tenant.budget)
            if account.questions:
                self.spend.labels(name).set(account.spent / account.questions)
        return generate_latest(self.registry)
