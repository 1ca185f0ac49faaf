"""Puts a policy in front of an OpenAI-compatible server.

    alloc report --log=samples.jsonl --resource=samples --budgets=1.5,3 --workdir=runs/served
    alloc serve --policy=runs/served/policy/value --upstream=http://127.0.0.1:8000/v1 --budget=3 --resource=samples
    alloc serve --config=serve.toml

Clients then talk to http://127.0.0.1:8321/v1 and ask for the model `alloc/auto`. The upstream's key is read from the
environment variable that --upstream_key_env names, the clients' from --client_key_env, and the operator's, who may see
the figures of all tenants, from --admin_key_env; none is ever printed.
"""

import ipaddress
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from absl import app, flags, logging as absl_logging

from alloc_jax.actions import Action
from alloc_jax.collect.recipes import Recipe, load_recipes, parse_recipes
from alloc_jax.learn.policy import load_policy
from alloc_jax.logs.decisions import DecisionLog
from alloc_jax.logs.grade import METHODS
from alloc_jax.options import help_where_asked
from alloc_jax.price_book import PriceBook
from alloc_jax.serve.configuration import prices_of, read_configuration
from alloc_jax.serve.core import Core
from alloc_jax.serve.escalator import rules_beside
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.meter import CAPPED, Meter
from alloc_jax.serve.tickets import ADMIN, Tenant
from alloc_jax.serve.traffic.recording import Recorder

FLAGS = flags.FLAGS
flags.DEFINE_string("config", None, "Configuration file (TOML): flags by name, and tables; a flag goes before it.")
flags.DEFINE_string("policy", None, "Folder of the policy.")
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
flags.DEFINE_string("ledger", "alloc_ledger.sqlite", "The ledger's file; empty keeps it in memory.")
flags.DEFINE_string("traffic", None, "File of decisions and verdicts; default: beside the ledger; empty: none.")
flags.DEFINE_float("exploration", 0.0, "Share of the decisions drawn evenly, within the budget.", 0.0, 0.99)
flags.DEFINE_string("candidate", None, "Folder of a policy that decides beside the live one; see `alloc traffic`.")
flags.DEFINE_float("candidate_share", 0.0, "Share of the decisions that really are the candidate's.", 0.0, 0.99)
flags.DEFINE_bool("keep_texts", False, "Keep the questions in the file of decisions.")
flags.DEFINE_float("step", 0.03, "How fast the multiplier follows the spend; 0: not at all.", lower_bound=0.0)
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

_LIMITS = (
    "cap",
    "window_s",
    "hard",
    "exhausted",
    "max_budget",
    "forced",
    "structured",
)  # of the one tenant, where there is no file
_CONFIG = (
    "answer",
    "answer_pattern",
    "probe",
    "abstain_text",
    "max_body",
    "max_requests",
    "max_n",
    "body_s",
    "deadline_s",
    "read_s",
)


_MODULE = str(FLAGS.find_module_defining_flag("upstream_key_env"))  # another name where it is run as a script


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    absl_logging.set_verbosity(absl_logging.WARNING)
    try:
        tables = read_configuration(FLAGS.config, FLAGS, _MODULE) if FLAGS.config else {}
        for name in ("policy", "upstream", "resource"):
            if FLAGS[name].value is None:
                raise ValueError(f"say --{name}, or {name} in the file of --config")
        gateway = _gateway(tables)
        serve(gateway, FLAGS.host, FLAGS.port)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"serve: {error}") from None


def serve(gateway, host: str, port: int) -> None:
    """Runs until it is interrupted; then requests that are being answered are finished and settled."""
    import uvicorn

    from alloc_jax.serve.web.connections import timed

    core = gateway.core
    if not gateway.config.keys:
        if not (FLAGS.insecure or _is_local(host)):
            raise ValueError(
                f"nobody needs a key, and {host} is an address that others reach: set {FLAGS.client_key_env} or --tenants,"
                " or say --insecure"
            )
        print(f"no keys: whoever reaches {host}:{port} is served", flush=True)
    lost = f"; {core.ledger.lost} requests of an earlier run were never settled" if core.ledger.lost else ""
    for name, tenant in core.tenants.items():
        limit = "no budget" if tenant.budget is None else f"{tenant.budget:g} {core.policy.unit} per question"
        cap = "" if tenant.cap is None else f", at most {tenant.cap:g} {core.cap.resource} in {tenant.window_s:g} s"
        print(f"{name}: {limit} at a multiplier of {core.multiplier(name):.4g}{cap}", flush=True)
    how = (
        f"sample by sample from {', '.join(core.stopping.sources)}"
        if core.stopping
        else "all samples of an action at once"
    )
    print(f"{core.policy.name}, {how}, at http://{host}:{port}/v1 in front of {gateway.upstream.url}{lost}", flush=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    sys.setswitchinterval(5e-4)  # threads that read long texts hold up the event loop for no longer than this
    try:
        uvicorn.run(
            gateway.app(),
            host=host,
            port=port,
            log_level="warning",
            http=timed(FLAGS.header_s, FLAGS.write_s),
            ws="none",
            timeout_graceful_shutdown=60,
        )
    finally:
        core.close()


def _is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _gateway(tables: Mapping[str, Any]):
    """The gateway that the flags and the configuration file's tables describe."""
    try:
        from alloc_jax.serve.web.gateway import Gateway, GatewayConfig
        from alloc_jax.serve.web.upstream import Upstream
    except ImportError as error:
        raise ImportError(f"the gateway needs {error.name}: pip install 'alloc_jax[serve]'") from None
    policy = _policy()
    sources = {action.source for action in map(Action.parse, policy.actions) if action.source is not None}
    recipes = _recipes(tables, sources)
    book = _book(tables)
    prices = {model: book.price(model) for model in book.models} if book else {}
    meter = Meter(policy.resource, policy.unit, prices, FLAGS.image_tokens)
    own = FLAGS.cap_resource in (None, policy.resource)
    cap = meter if own else Meter(FLAGS.cap_resource, "", prices, FLAGS.image_tokens)
    tenants, keys = _tenants(tables)
    admin = os.environ.get(FLAGS.admin_key_env) or None
    if admin in keys:
        raise ValueError(f"{FLAGS.admin_key_env} holds a tenant's key")
    stopping = rules_beside(FLAGS.policy, policy) if FLAGS.sequential else None
    core = Core(
        policy,
        recipes,
        tenants,
        Ledger(FLAGS.ledger or None),
        meter=meter,
        cap=cap,
        stopping=stopping,
        step=FLAGS.step,
        quantile=FLAGS.quantile,
        longest=FLAGS.longest,
        recorder=_recorder(policy, stopping),
    )
    upstream = Upstream(
        FLAGS.upstream,
        os.environ.get(FLAGS.upstream_key_env),
        attempts=FLAGS.attempts,
        timeout_s=FLAGS.timeout_s,
        concurrency=FLAGS.concurrency,
        tenants=tuple(tenants),
        max_reply=FLAGS.max_reply,
    )
    options = {name: FLAGS[name].value for name in _CONFIG}
    return Gateway(core, upstream, GatewayConfig(keys=keys, admin_key=admin, **options))


def _recorder(policy, stopping) -> Recorder | None:
    """What explores and writes decisions down; None without a file for them."""
    path = FLAGS.traffic
    if path is None and FLAGS.ledger:
        path = Path(FLAGS.ledger).with_suffix(".traffic.sqlite")
    if not path:
        if FLAGS.exploration or FLAGS.candidate:
            raise ValueError("exploration and candidates are for a file of decisions: say --traffic")
        return None
    return Recorder(
        DecisionLog(path),
        policy,
        exploration=FLAGS.exploration,
        candidate=load_policy(FLAGS.candidate) if FLAGS.candidate else None,
        share=FLAGS.candidate_share,
        rule=stopping.mark if stopping else None,
        texts=FLAGS.keep_texts,
    )


def _policy():
    """The policy in the folder.

    Raises:
      ValueError: there is none, or it is paid in something else.
    """
    folder = Path(FLAGS.policy)
    inside = sorted(str(found.parent) for found in folder.glob("*/policy.json"))
    if inside and not (folder / "policy.json").is_file():
        raise ValueError(f"no policy in {folder}: policy.json is missing; there is one in {', '.join(inside)}")
    policy = load_policy(folder)
    if policy.resource != FLAGS.resource:
        raise ValueError(f"the policy is paid in {policy.resource} ({policy.unit}), not in {FLAGS.resource}")
    return policy


def _recipes(tables: Mapping[str, Any], sources: Iterable[str]) -> dict[str, Recipe]:
    """How the sources are asked for."""
    if "sources" in tables:
        with _placed("sources"):
            return parse_recipes(tables["sources"])
    return load_recipes(FLAGS.sources) if FLAGS.sources else parse_recipes({name: {"model": name} for name in sources})


def _book(tables: Mapping[str, Any]) -> PriceBook | None:
    """What the models' tokens cost, where somebody says so."""
    if "prices" in tables:
        entries = prices_of(FLAGS.config, tables["prices"])
        with _placed("prices"):
            return PriceBook.of(entries)
    return PriceBook.load(FLAGS.prices) if FLAGS.prices else None


@contextmanager
def _placed(table: str) -> Iterator[None]:
    """Names the file and the table that an error inside is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{FLAGS.config}: {table}: {error}") from None


def _tenants(tables: Mapping[str, Any]) -> tuple[dict[str, Tenant], dict[str, str]]:
    """The tenants by name, and the tenant of each key."""
    if FLAGS.tenants is None and "tenants" not in tables:
        limits = {name: FLAGS[name].value for name in _LIMITS}
        limits["models"] = None if FLAGS.models is None else [name for name in FLAGS.models if name]
        tenant = Tenant(budget=_budget(FLAGS.budget), **limits)
        key = os.environ.get(FLAGS.client_key_env)
        return {tenant.name: tenant}, {key: tenant.name} if key else {}
    if FLAGS.budget is not None or any(FLAGS[name].present for name in (*_LIMITS, "models")):
        raise ValueError("budgets, caps and what may be asked for stand in the file of --tenants, or in flags")
    if "tenants" in tables:
        where, described = f"{FLAGS.config}: tenants", tables["tenants"]
    else:
        where = FLAGS.tenants
        try:
            described = json.loads(Path(where).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{where}: no JSON: {error}") from None
    if not isinstance(described, dict) or not described:
        raise ValueError(f"{where}: expected an object of tenants by name")
    tenants, keys = {}, {}
    known = {field.name for field in fields(Tenant)} - {"name"} | {"key_env"}
    for name, values in described.items():
        if not isinstance(values, dict):
            raise ValueError(f"{where}: tenant {name!r}: expected an object, got {values!r}")
        if unknown := sorted(values.keys() - known):
            raise ValueError(
                f"{where}: tenant {name!r}: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        for wanted in ("key_env", "budget"):
            if wanted not in values:
                raise ValueError(f"{where}: tenant {name!r}: no {wanted}")
        variable, budget = values["key_env"], values["budget"]
        given = {field: value for field, value in values.items() if field != "key_env"}
        try:
            tenants[name] = Tenant(name=name, **{**given, "budget": None if budget == "none" else budget})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if name == ADMIN:
            raise ValueError(f"{where}: no tenant is called {ADMIN!r}")
        if not isinstance(variable, str) or not os.environ.get(variable) or os.environ[variable] in keys:
            raise ValueError(f"{where}: tenant {name!r}: {variable} holds no key, or another tenant's")
        keys[os.environ[variable]] = name
    return tenants, keys


def _budget(text: str | None) -> float | None:
    if text is None:
        raise ValueError("say --budget, a mean cost per question, or --budget=none for no limit")
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--budget is a number or `none`, got {text!r}") from None


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
