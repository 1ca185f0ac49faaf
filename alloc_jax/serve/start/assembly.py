"""Starting: from what the flags and the configuration file say to a gateway."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from alloc_jax.actions import Action, parse_actions
from alloc_jax.collect.recipes import Recipe, load_recipes, parse_recipes
from alloc_jax.learn.policy import Policy, load_policy
from alloc_jax.logs.decisions import DecisionLog
from alloc_jax.price_book import PriceBook
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.ledger.stores import is_address
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.planning.escalator import rules_beside
from alloc_jax.serve.start.cold import cold_policy
from alloc_jax.serve.start.configuration import prices_of
from alloc_jax.serve.tickets import ADMIN, Stopping, Tenant
from alloc_jax.serve.traffic.recording import Recorder
from alloc_jax.serve.traffic.watching import Watch
from alloc_jax.serve.verdicts.verifier import Verifier
from alloc_jax.stopping.pandora import FILE as VERDICTS_FILE, load_verdicts

if TYPE_CHECKING:
    from alloc_jax.serve.web.gateway import Gateway
    from alloc_jax.serve.web.servers import Server

FLAGS = flags.FLAGS
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
    "request_log",
    "watch_s",
)


def gateway_of(tables: Mapping[str, Any], *, watches: bool = True) -> Gateway:
    """The gateway that the flags and the configuration file's tables describe; `watches`: whether it looks for drift."""
    try:
        from alloc_jax.serve.web.gateway import Gateway, GatewayConfig
        from alloc_jax.serve.web.operate.traces import OpenTelemetry, Traces
        from alloc_jax.serve.web.upstream import Upstream
    except ImportError as error:
        raise ImportError(f"the gateway needs {error.name}: pip install 'alloc_jax[serve]'") from None
    tenants, keys = _tenants(tables)
    admin = os.environ.get(FLAGS.admin_key_env) or None
    if admin in keys:
        raise ValueError(f"{FLAGS.admin_key_env} holds a tenant's key")
    upstream = Upstream(
        _servers(tables),
        attempts=FLAGS.attempts,
        timeout_s=FLAGS.timeout_s,
        concurrency=FLAGS.concurrency,
        tenants=tuple(tenants),
        max_reply=FLAGS.max_reply,
    )
    options = {name: FLAGS[name].value for name in _CONFIG}
    config = GatewayConfig(keys=keys, admin_key=admin, traces=OpenTelemetry() if FLAGS.traces else Traces(), **options)
    ledger = Ledger(FLAGS.ledger or None, shared=FLAGS.workers > 1)
    try:
        log = _decision_log()
        core = _core(tables, tenants, ledger, log)
    except BaseException:
        ledger.close()
        raise
    watch = None
    if watches and FLAGS.watch_s and (path := _decisions()):
        watch = Watch(path, reference=FLAGS.reference, every=FLAGS.every, verdict=FLAGS.verdict)
    return Gateway(core, upstream, config, lambda: _core(tables, tenants, ledger, log), watch)


def _servers(tables: Mapping[str, Any]) -> list[Server]:
    """The servers behind, each with its key."""
    from alloc_jax.serve.web.servers import Server

    if "upstreams" not in tables:
        return [Server(url=FLAGS.upstream, key=os.environ.get(FLAGS.upstream_key_env))]
    if FLAGS.upstream is not None:
        raise ValueError(f"{FLAGS.config}: upstreams: upstream is said, too: leave one of them out")
    known = {field.name for field in fields(Server)} - {"key", "breakers"} | {"key_env"}
    servers = []
    for j, values in enumerate(tables["upstreams"]):
        where = f"{FLAGS.config}: upstreams[{j}]"
        if not isinstance(values, dict) or "url" not in values:
            raise ValueError(f"{where}: expected a table with a url, got {values!r}")
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"{where}.{unknown[0]}: there is no such key; known: {', '.join(sorted(known))}")
        variable = values.get("key_env", FLAGS.upstream_key_env)
        if not isinstance(variable, str):
            raise ValueError(f"{where}.key_env: expected the name of a variable, got {variable!r}")
        try:
            given = {name: value for name, value in values.items() if name != "key_env"}
            servers.append(Server(key=os.environ.get(variable), **given))
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
    return servers


def _core(tables: Mapping[str, Any], tenants: Mapping[str, Tenant], ledger: Ledger, log: DecisionLog | None) -> Core:
    """The decision core, of the files as they are now."""
    policy = _policy()
    verifier = _verifier(tables)
    stopping = rules_beside(FLAGS.policy, policy, verifier) if FLAGS.sequential and FLAGS.policy else None
    sources = {action.source for action in map(Action.parse, policy.actions) if action.source is not None}
    recipes = _recipes(tables, sources)
    book = _book(tables)
    prices = {model: book.price(model) for model in book.models} if book else {}
    meter = Meter(policy.resource, policy.unit, prices, FLAGS.image_tokens)
    own = FLAGS.cap_resource in (None, policy.resource)
    return Core(
        policy,
        recipes,
        tenants,
        ledger,
        meter=meter,
        cap=meter if own else Meter(FLAGS.cap_resource, "", prices, FLAGS.image_tokens),
        stopping=stopping,
        verifier=verifier,
        verdicts=load_verdicts(FLAGS.policy) if (Path(FLAGS.policy or "") / VERDICTS_FILE).is_file() else None,
        in_turn=FLAGS.sequential,
        step=FLAGS.step,
        quantile=FLAGS.quantile,
        longest=FLAGS.longest,
        history=FLAGS.history,
        history_weight=FLAGS.history_weight,
        warm_s=FLAGS.warm_s,
        recorder=None if log is None else _recorder(log, policy, stopping),
    )


def _decisions() -> str | Path | None:
    """The file that decisions are written to; none where there is no file for the ledger, and nobody named one."""
    path = FLAGS.traffic
    if path is None and FLAGS.ledger:
        path = Path(FLAGS["ledger"].default if is_address(FLAGS.ledger) else FLAGS.ledger).with_suffix(
            ".traffic.sqlite"
        )
    return path


def _decision_log() -> DecisionLog | None:
    """Where decisions are written down; None without a file for them."""
    if path := _decisions():
        return DecisionLog(path)
    if FLAGS.exploration or FLAGS.candidate:
        raise ValueError("exploration and candidates are for a file of decisions: say --traffic")
    return None


def _recorder(log: DecisionLog, policy: Policy, stopping: Stopping | None) -> Recorder:
    """What explores and writes decisions down."""
    return Recorder(
        log,
        policy,
        exploration=FLAGS.exploration,
        candidate=load_policy(FLAGS.candidate) if FLAGS.candidate else None,
        share=FLAGS.candidate_share,
        rule=stopping.mark if stopping else None,
        texts=FLAGS.keep_texts,
    )


def _verifier(tables: Mapping[str, Any]) -> Verifier | None:
    """What gives verdicts, where the file describes it."""
    if "verifier" not in tables:
        return None
    values = dict(tables["verifier"])
    key = os.environ.get(str(values.pop("key_env", "")))
    try:
        verifier = Verifier.of(values, key)
    except ValueError as error:
        raise ValueError(f"{FLAGS.config}: verifier.{error}") from None
    if verifier.command is not None and shutil.which(verifier.command[0]) is None:
        raise ValueError(f"{FLAGS.config}: verifier.command: there is no {verifier.command[0]!r}")
    return verifier


def _policy() -> Policy:
    """The policy in the folder.

    Raises:
      ValueError: there is none, or it is paid in something else.
    """
    if FLAGS.policy is None or (FLAGS.actions and not (Path(FLAGS.policy) / "policy.json").is_file()):
        return _cold()
    folder = Path(FLAGS.policy)
    inside = sorted(str(found.parent) for found in folder.glob("*/policy.json"))
    if inside and not (folder / "policy.json").is_file():
        raise ValueError(f"no policy in {folder}: policy.json is missing; there is one in {', '.join(inside)}")
    policy = load_policy(folder)
    if policy.resource != FLAGS.resource:
        raise ValueError(f"the policy is paid in {policy.resource} ({policy.unit}), not in {FLAGS.resource}")
    return policy


def _cold() -> Policy:
    """What there is to begin with where there is no policy.

    Raises:
      ValueError: it is not said what there is to choose from.
    """
    if not FLAGS.actions:
        raise ValueError("say --policy, or --actions to begin without one")
    resource, cost = FLAGS.resource, FLAGS.sample_cost
    if resource != "samples" and cost is None:
        raise ValueError(f"say --sample_cost, what one sample is taken to cost in {resource} until some were drawn")
    unit = "prompt + completion tokens" if resource == "tokens" else resource
    return cold_policy(parse_actions(FLAGS.actions), resource, unit, 1.0 if resource == "samples" else cost)


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
    """Name the file and the table that an error inside is about."""
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
