"""Traces: what a request did and when, as OpenTelemetry collects it; nothing where nobody asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request


class Traces:
    """No traces."""

    @contextmanager
    def request(self, request: Request, said: Mapping[str, Any]) -> Iterator[None]:
        """While a request lasts; what is said of it by then is said of its span."""
        yield

    @contextmanager
    def step(self, name: str, **said: Any) -> Iterator[dict[str, str]]:
        """While a part of it lasts; gives the headers that hand the trace on."""
        yield {}


class OpenTelemetry(Traces):
    """Spans of requests, decisions and samples, in the trace that a client's `traceparent` names.

    Args:
      provider: of tracers; by default one that exports by OTLP over HTTP, which the variables OTEL_EXPORTER_OTLP_* set up.

    Raises:
      ImportError: OpenTelemetry is not installed; the message names the extra.
    """

    def __init__(self, provider: Any = None):
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ImportError("traces need OpenTelemetry: pip install 'alloc_jax[traces]'") from None
        if provider is None:
            provider = TracerProvider(resource=Resource.create({"service.name": "alloc"}))
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._trace, self._propagate = trace, propagate
        self._tracer = provider.get_tracer("alloc_jax")

    @contextmanager
    def request(self, request: Request, said: Mapping[str, Any]) -> Iterator[None]:
        context = self._propagate.extract(dict(request.headers))
        kind = self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(f"{request.method} {request.url.path}", context, kind) as span:
            try:
                yield
            finally:
                known = {name: value for name, value in said.items() if isinstance(value, (str, int, float))}
                span.set_attributes({f"alloc.{name}": value for name, value in known.items()})
                if said.get("status", 500) >= 500:
                    span.set_status(self._trace.StatusCode.ERROR)

    @contextmanager
    def step(self, name: str, **said: Any) -> Iterator[dict[str, str]]:
        with self._tracer.start_as_current_span(name, attributes=said) as span:
            headers: dict[str, str] = {}
            self._propagate.inject(headers, self._trace.set_span_in_context(span))
            yield headers
