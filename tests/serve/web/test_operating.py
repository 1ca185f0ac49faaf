"""What operators ask a gateway: readiness, the request log, the spend, and another policy without a request lost."""

import json
import threading
import urllib.error
from dataclasses import replace

import pytest

from alloc_jax.serve.core import Core
from alloc_jax.serve.tickets import Tenant
from alloc_jax.serve.web.operate.traces import OpenTelemetry
from tests.serve.made import RECIPES
from tests.serve.running import QUESTION, running, until

KEYS = {"keys": {"key-a": "a", "key-b": "b"}, "admin_key": "key-admin"}


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def status_of(gateway, path, **more):
    try:
        return 200, json.loads(gateway.get(path, **more))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_gateway_is_ready_while_its_upstream_answers_and_its_ledger_takes_what_is_settled(policy, monkeypatch):
    with running(policy) as gateway:
        monkeypatch.setattr("alloc_jax.serve.web.operate.routes._LOOK_S", 0.0)
        assert status_of(gateway, "/ready") == (200, {"status": "ready", "upstream": "ok", "ledger": "ok"})
        late = gateway.core.reservations.late
        monkeypatch.setattr(gateway.core, "retry", lambda: None)
        late.append("something")
        assert status_of(gateway, "/ready")[1]["ledger"] == "1 requests wait to be settled"
        late.clear()
    with running(policy, url="http://127.0.0.1:9/v1") as gateway:
        code, said = status_of(gateway, "/ready")
        assert code == 503 and said["status"] == "not ready" and said["upstream"] == "no connection: cannot connect"
        assert status_of(gateway, "/health")[0] == 200  # it is up all the same


def test_every_request_has_an_id_and_a_line_in_the_log_without_anybodys_words(policy, tmp_path):
    path = tmp_path / "requests.jsonl"
    with running(policy, config={"request_log": str(path)}) as gateway:
        raw = gateway.client.chat.completions.with_raw_response.create(
            model="alloc/auto",
            messages=[{"role": "user", "content": QUESTION}],
            extra_headers={"x-request-id": "of-the-client"},
        )
        gateway.client.chat.completions.create(model="m", messages=[{"role": "user", "content": QUESTION}])
        gateway.post(b"no JSON")
        gateway.get("/health")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    allocated, passed, refused = lines  # and none of what is asked every few seconds
    assert allocated["id"] == raw.headers["x-request-id"] and allocated["client_id"] == "of-the-client"
    assert allocated["action"] == raw.headers["x-alloc-action"] and allocated["status"] == 200
    assert allocated["cost"] == allocated["samples"] == int(raw.headers["x-alloc-samples"])
    assert allocated["multiplier"] > 0 and allocated["prompt_tokens"] > 0 and allocated["seconds"] > 0
    assert passed["model"] == "m" and passed["samples"] == 1 and "action" not in passed
    assert refused["status"] == 400 and "no JSON" in refused["error"]
    assert QUESTION not in path.read_text() and "answer is" not in path.read_text()


def test_a_tenant_sees_its_own_spend_and_the_operator_everybodys(policy):
    tenants = {
        "a": Tenant(name="a", budget=3.0, cap=100.0, hard=True),
        "b": Tenant(name="b", budget=2.0),
    }
    with running(policy, tenants=tenants, config=KEYS, key="key-a") as gateway:
        _, headers = gateway.ask()
        code, own = status_of(gateway, "/v1/alloc/spend", headers=bearer("key-a"))
        assert code == 200 and list(own["tenants"]) == ["a"] and own["unit"] == "samples"
        drawn, of_a = int(headers["samples"]), own["tenants"]["a"]
        assert of_a["questions"] == 1 and of_a["spent"] == of_a["spent_per_question"] == drawn
        assert of_a["cap"]["held"] == drawn and of_a["cap"]["left"] == 100 - drawn and of_a["budget"] == 3
        everybody = status_of(gateway, "/v1/alloc/spend", headers=bearer("key-admin"))[1]["tenants"]
        assert list(everybody) == ["a", "b"] and everybody["b"]["questions"] == 0 and "cap" not in everybody["b"]
        assert status_of(gateway, "/v1/alloc/spend")[0] == 401
        assert "alloc_spend" in gateway.get("/metrics", headers={"x-api-key": "key-admin"})  # a key's other header


def test_another_policy_is_read_while_requests_are_answered_and_none_is_lost(policy):
    config = {"admin_key": "key-admin", "keys": {"k": "default"}}
    with running(policy, fake_options={"delay_s": 0.3}, config=config, key="k") as gateway:
        first, found = gateway.core, [replace(policy, name="another")]

        def remake():
            if not found:
                raise ValueError("policy.npz is missing")
            return Core(found[0], RECIPES, first.tenants, first.ledger)

        def reload(key):
            return gateway.post(b"{}", bearer(key), "/alloc/reload")

        assert "was not started from files" in reload("key-admin")[1]["error"]["message"]
        gateway.gateway.remake = remake
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(gateway.ask()[1]["policy"])) for _ in range(4)]
        for thread in asking:
            thread.start()
        until(lambda: gateway.fake.at_once)
        assert reload("k")[0] == 403 and gateway.gateway.core is first
        code, said = reload("key-admin")
        assert code == 200 and said["policy"] == "another" and said["actions"] == list(policy.actions)
        after = gateway.ask()[1]["policy"]
        for thread in asking:
            thread.join()
        assert answers.count(policy.name) >= 1 and after == "another"
        totals = gateway.settled(5)
        now = gateway.gateway.core
        assert totals["requests"] == 5 and totals["open"] == 0
        assert first.account("default").questions + now.account("default").questions == 5
        found.clear()
        assert reload("key-admin")[1]["error"]["message"] == "the policy stays as it is: policy.npz is missing"
        assert gateway.gateway.core is now


def test_a_trace_goes_from_the_client_over_the_decision_to_the_upstream(policy):
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace = "0af7651916cd43dd8448eb211c80319c"
    with running(policy, config={"traces": OpenTelemetry(provider)}) as gateway:
        gateway.ask(headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        gateway.settled(1)
        sent = [headers["traceparent"] for headers in gateway.fake.headers]
    spans = kept.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans} == {trace}
    names = [span.name for span in spans]
    assert names.count("decide") == 1 and names.count("POST /chat/completions") == len(sent) > 0
    (root,) = [span for span in spans if span.name == "POST /v1/chat/completions"]
    assert root.attributes["alloc.status"] == 200 and root.attributes["alloc.samples"] == len(sent)
    inner = {f"00-{trace}-{span.context.span_id:016x}-01" for span in spans if span.name == "POST /chat/completions"}
    assert set(sent) == inner  # the upstream goes on from where it was asked
