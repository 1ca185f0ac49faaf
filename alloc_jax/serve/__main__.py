"""Puts a policy in front of an OpenAI-compatible server.

    alloc report --log=samples.jsonl --resource=samples --budgets=1.5,3 --workdir=runs/served
    alloc serve --policy=runs/served/policy/value --upstream=http://127.0.0.1:8000/v1 --budget=3 --resource=samples
    alloc serve --config=serve.toml

Clients then talk to http://127.0.0.1:8321/v1 and ask for the model `alloc/auto`. The upstream's key is read from the
environment variable that --upstream_key_env names, the clients' from --client_key_env, and the operator's, who may see
the figures of all tenants, from --admin_key_env; none is ever printed.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import app, flags, logging as absl_logging

from alloc_jax.logs.grade import METHODS
from alloc_jax.options import help_where_asked
from alloc_jax.serve.meter import CAPPED
from alloc_jax.serve.start.assembly import gateway_of
from alloc_jax.serve.start.configuration import read_configuration
from alloc_jax.serve.start.workers import run_workers

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway

FLAGS = flags.FLAGS
flags.DEFINE_string("config", None, "Configuration file (TOML): flags by name, and tables; a flag goes before it.")
flags.DEFINE_string("policy", None, "Folder of the policy; without one, --actions are mixed and learned about.")
flags.DEFINE_string("actions", None, "Votes and single samples to begin with, where there is no policy.")
flags.DEFINE_float("sample_cost", None, "What one sample is taken to cost, likewise, until some were drawn.", 0.0)
flags.DEFINE_string("upstream", None, "The server behind, with its /v1.")
flags.DEFINE_string("budget", None, "Mean cost per question in the policy's unit, or `none` for no limit.")
flags.DEFINE_string("resource", None, "What the policy is paid in; refused where it is another.")
flags.DEFINE_string("sources", None, "Recipes of the sources (JSON); default: each source is a model of that name.")
flags.DEFINE_string(
    "tenants",
    None,
    "Tenants by name (JSON): key_env, budget, cap, window_s, hard, exhausted, max_budget, forced, models, structured.",
)
flags.DEFINE_float("cap", None, "The most that may be spent in each window.")
flags.DEFINE_enum("cap_resource", None, list(CAPPED), "What caps are in; default: what the policy is paid in.")
flags.DEFINE_bool("hard", False, "Reserve the worst case, so that the cap is never passed.")
flags.DEFINE_float("window_s", 86400.0, "Length of a cap's window, in seconds.")
flags.DEFINE_enum("exhausted", "cheapest", ["cheapest", "refuse"], "What the cap's end leaves, before HTTP 429.")
flags.DEFINE_float("max_budget", None, "The most that a request may bring as its own budget; default: --budget.")
flags.DEFINE_bool("forced", True, "Whether a request may name its action.")
flags.DEFINE_list("models", None, "Models of the upstream that pass through; default: any; empty: none.")
flags.DEFINE_enum(
    "structured", "one", ["one", "vote"], "What a request with tools or a format gets: one sample, or a vote."
)
flags.DEFINE_integer("image_tokens", None, "The most tokens of an image, without which a hard cap refuses it.", 1)
flags.DEFINE_string("prices", None, "Price book (JSON), by the models' names, for dollars.")
flags.DEFINE_string(
    "ledger", "alloc_ledger.sqlite", "The ledger's file, or a database's postgresql://user@host/name; empty: in memory."
)
flags.DEFINE_string("traffic", None, "File of decisions and verdicts; default: beside the ledger; empty: none.")
flags.DEFINE_float("exploration", 0.0, "Share of the decisions drawn evenly, within the budget.", 0.0, 0.99)
flags.DEFINE_string("candidate", None, "Folder of a policy that decides beside the live one; see `alloc traffic`.")
flags.DEFINE_float("candidate_share", 0.0, "Share of the decisions that really are the candidate's.", 0.0, 0.99)
flags.DEFINE_bool("keep_texts", False, "Keep the questions in the file of decisions.")
flags.DEFINE_float("watch_s", 300.0, "Between two looks for drift, whose alarms /metrics shows; 0: none.", 0.0)
flags.DEFINE_integer("reference", 1000, "The first decisions of a policy, which say what is normal.", 1)
flags.DEFINE_float("every", 1e5, "Questions in which there may be one false alarm, on average.", 1.0)
flags.DEFINE_list("verdict", [], "Sources whose verdicts count, the first before the others; empty: the only one.")
flags.DEFINE_float("step", 0.06, "How fast the multiplier follows the spend; 0: not at all.", lower_bound=0.0)
flags.DEFINE_bool(
    "sequential", True, "Draw sample by sample, where the policy's folder has escalation or stopping rules."
)
flags.DEFINE_float("quantile", 0.9, "Of an action's measured costs, that a cap which is not hard reserves.", 0.0, 1.0)
flags.DEFINE_enum("answer", "number", list(METHODS), "How answers are read: as the policy's log was graded.")
flags.DEFINE_string("answer_pattern", None, "Regular expression (RE2) whose last match holds the answer.")
flags.DEFINE_bool(
    "probe", True, "Draw one sample first, and vote only where it has an answer; off: all at once, sooner."
)
flags.DEFINE_integer("longest", 8192, "Characters of a question that the policy reads.", lower_bound=2)
flags.DEFINE_integer("history", 3, "Messages of the user before the last one, that the policy reads, too.", 0)
flags.DEFINE_float("history_weight", 0.1, "How much each counts, in units of the one after it.", 0.0, 1.0)
flags.DEFINE_float("warm_s", 300.0, "For which a source's cache holds a conversation, in seconds; for dollars.", 0.0)
flags.DEFINE_string("abstain_text", "", "The answer of an action that gives none.")
flags.DEFINE_string("host", "127.0.0.1", "Where to listen.")
flags.DEFINE_integer("port", 8321, "Where to listen; 0: any free one.")
flags.DEFINE_string("upstream_key_env", "OPENAI_API_KEY", "The environment variable with the upstream's key.")
flags.DEFINE_string("admin_key_env", "ALLOC_ADMIN_KEY", "The environment variable with the operator's key.")
flags.DEFINE_bool("insecure", False, "Serve without keys on an address that others reach.")
flags.DEFINE_string("client_key_env", "ALLOC_CLIENT_KEY", "The environment variable with the clients' key.")
flags.DEFINE_integer("attempts", 3, "At one upstream request.", lower_bound=1)
flags.DEFINE_float("timeout_s", 600.0, "Of one attempt, in seconds.")
flags.DEFINE_float("deadline_s", 600.0, "Of an answer, in seconds; then the samples that came have to do.")
flags.DEFINE_float("header_s", 20.0, "Until a request's headers are whole.")
flags.DEFINE_float("body_s", 30.0, "Until a request's body is whole.")
flags.DEFINE_float("write_s", 30.0, "For which a client may read nothing of its answer.")
flags.DEFINE_float("read_s", 300.0, "For which a client may read its answer, beyond --deadline_s.")
flags.DEFINE_integer("concurrency", 512, "Upstream requests at a time.", lower_bound=1)
flags.DEFINE_integer("max_requests", 512, "Client requests at a time; more are told to come again.", lower_bound=1)
flags.DEFINE_integer("max_body", 1 << 20, "Bytes of a client's request.", lower_bound=1)
flags.DEFINE_integer("max_reply", 32 << 20, "Bytes of an upstream's answer.", lower_bound=1)
flags.DEFINE_integer("max_n", 16, "Choices of a request that passes through.", lower_bound=1)
flags.DEFINE_string("request_log", None, "File that gets a line of JSON for every request; -: the standard output.")
flags.DEFINE_bool("traces", False, "Traces by OpenTelemetry, sent as the variables OTEL_EXPORTER_OTLP_* say.")
flags.DEFINE_float("drain_s", 60.0, "At the end, for requests that are being answered.", lower_bound=0.0)
flags.DEFINE_string("tls_cert", None, "Certificate (PEM) with which HTTPS is spoken.")
flags.DEFINE_string("tls_key", None, "Its key (PEM).")
flags.DEFINE_integer("workers", 1, "Processes that share the port and the ledger.", lower_bound=1)

_MODULE = str(FLAGS.find_module_defining_flag("upstream_key_env"))  # another name where it is run as a script


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    absl_logging.set_verbosity(absl_logging.WARNING)
    try:
        tables = read_configuration(FLAGS.config, FLAGS, _MODULE) if FLAGS.config else {}
        for name in ("upstream", "resource"):
            if FLAGS[name].value is None and f"{name}s" not in tables:
                raise ValueError(f"say --{name}, or {name} in the file of --config")

        def one(at: socket.socket, worker: int, again: bool) -> None:
            serve(gateway_of(tables, watches=worker == 0), at, worker == 0 and not again)

        if FLAGS.workers == 1:
            serve(gateway_of(tables))
        elif FLAGS.ledger and FLAGS.port:
            run_workers(FLAGS.workers, FLAGS.host, FLAGS.port, one)
        else:
            raise ValueError("several workers share a port and the file of a ledger: say --port and --ledger")
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"serve: {error}") from None


def serve(gateway: Gateway, at: socket.socket | None = None, first: bool = True) -> None:
    """Run until it is interrupted; then requests that are being answered are finished and settled.

    Args:
      gateway: to run.
      at: where it listens; None: at --host and --port.
      first: of the processes that do so; it says what it serves.

    Raises:
      ValueError: nobody needs a key, and others reach it.
    """
    from alloc_jax.serve.web.connections import run

    core, host = gateway.core, FLAGS.host
    if not gateway.config.keys and not (FLAGS.insecure or _is_local(host)):
        raise ValueError(
            f"nobody needs a key, and {host} is an address that others reach: set {FLAGS.client_key_env} or --tenants,"
            " or say --insecure"
        )
    if first:
        print("\n".join(_said(gateway)), flush=True)
    try:
        started = run(
            gateway.app(),
            at,
            header_s=FLAGS.header_s,
            write_s=FLAGS.write_s,
            host=host,
            port=FLAGS.port,
            timeout_graceful_shutdown=math.ceil(FLAGS.drain_s),
            ssl_certfile=FLAGS.tls_cert,
            ssl_keyfile=FLAGS.tls_key,
        )
    finally:
        core.close()
    if not started:
        raise SystemExit(3)


def _said(gateway: Gateway) -> Iterator[str]:
    """What is said of a gateway before it serves."""
    core, at = gateway.core, f"{FLAGS.host}:{FLAGS.port}"
    if not gateway.config.keys:
        yield f"no keys: whoever reaches {at} is served"
    for name, tenant in core.tenants.items():
        limit = "no budget" if tenant.budget is None else f"{tenant.budget:g} {core.policy.unit} per question"
        cap = "" if tenant.cap is None else f", at most {tenant.cap:g} {core.cap.resource} in {tenant.window_s:g} s"
        yield f"{name}: {limit} at a multiplier of {core.multiplier(name):.4g}{cap}"
    lost = f"; {core.ledger.lost} requests of an earlier run were never settled" if core.ledger.lost else ""
    how = (
        f"sample by sample from {', '.join(core.stopping.sources)}"
        if core.stopping
        else "all samples of an action at once"
    )
    scheme = "https" if FLAGS.tls_cert else "http"
    yield f"{core.policy.name}, {how}, at {scheme}://{at}/v1 in front of {gateway.upstream.url}{lost}"


def _is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
