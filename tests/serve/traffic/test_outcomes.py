"""Verdicts on answers, posted by clients: late, in part, again, in batches, and only on what is theirs."""

import json

import pytest

from alloc_jax.logs.decisions import AGREEMENT, DecisionLog, read_traffic
from alloc_jax.serve.tickets import Refused, Tenant
from alloc_jax.serve.traffic.outcomes import MOST, read_outcomes
from alloc_jax.serve.traffic.recording import Recorder
from tests.serve.running import running

PATH = "/alloc/outcomes"
HARD = "4321 + 1234"


def post(server, body, key=None):
    return server.post(json.dumps(body).encode(), {"Authorization": f"Bearer {key}"} if key else {}, PATH)


def test_a_gateway_takes_verdicts_on_its_answers(policy, tmp_path):
    path = tmp_path / "traffic.sqlite"
    recorder = Recorder(DecisionLog(path), policy, exploration=0.5)
    with running(policy, recorder=recorder) as server:
        names = [server.ask(HARD, extra_body={"user": "ann"})[0].id for _ in range(6)]
        server.settled(6)
        assert names[0].startswith("chatcmpl-")
        first = {"id": names[0], "correct": True, "source": "tests"}
        assert post(server, first) == (200, {"object": "alloc.outcomes", "new": 1, "known": 0, "refused": []})
        assert post(server, first)[1]["known"] == 1
        status, said = post(server, {**first, "correct": False})
        assert status == 409 and "this source has said otherwise, which stands" in said["error"]["message"]
        status, said = post(server, {**first, "id": "chatcmpl-none"})
        assert status == 404 and "no such request" in said["error"]["message"]
        batch = [first, {**first, "id": names[1], "correct": False}, {**first, "id": "x"}, {**first, "correct": False}]
        status, said = post(server, {"outcomes": batch})
        assert status == 200 and (said["new"], said["known"]) == (1, 1)
        assert [item["id"] for item in said["refused"]] == ["x", names[0].removeprefix("chatcmpl-")]
    found = read_traffic(path)
    assert found.traffic.reward[:2].tolist() == [1.0, 0.0] and found.verdicts["tests"] == 2
    assert len(set(found.traffic.session)) == 1 and len(found.traffic) == 6
    voted = sum(found.traffic.actions[a] != "vote(m,1)" for a in found.traffic.action)
    assert found.verdicts.get(AGREEMENT, 0) == voted


def test_a_tenant_judges_its_own_answers_and_the_operator_all(policy, tmp_path):
    tenants = {name: Tenant(name=name, budget=3.0) for name in ("ann", "bob")}
    config = {"keys": {"key-a": "ann", "key-b": "bob"}, "admin_key": "key-o"}
    recorder = Recorder(DecisionLog(tmp_path / "traffic.sqlite"), policy)
    with running(policy, recorder=recorder, tenants=tenants, config=config) as server:
        body = {"model": "alloc/auto", "messages": [{"role": "user", "content": HARD}]}
        status, said = server.post(json.dumps(body).encode(), {"Authorization": "Bearer key-a"})
        assert status == 200
        verdict = {"id": said["id"], "reward": 0.25, "source": "user"}
        assert post(server, verdict)[0] == 401 and post(server, verdict, "key-b")[0] == 404
        assert post(server, verdict, "key-a")[1]["new"] == 1 and post(server, verdict, "key-o")[1]["known"] == 1


def test_without_a_file_there_is_nothing_to_judge(policy):
    with running(policy) as server:
        status, said = post(server, {"id": "a", "correct": True, "source": "tests"})
    assert status == 404 and "--traffic" in said["error"]["message"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([], "expected an object"),
        ({"id": "a", "source": "s"}, "either correct or reward"),
        ({"id": "a", "source": "s", "correct": True, "reward": 1.0}, "either correct or reward"),
        ({"id": "a", "source": "s", "correct": 1}, "true or false"),
        ({"id": "a", "source": "s", "reward": 1.5}, "from 0 to 1"),
        ({"id": "a", "source": "s", "reward": float("nan")}, "from 0 to 1"),
        ({"id": "a", "source": "s", "reward": True}, "from 0 to 1"),
        ({"id": "", "source": "s", "correct": True}, "outcome.id"),
        ({"id": "a", "source": "a\nb", "correct": True}, "outcome.source"),
        ({"id": "a", "source": AGREEMENT, "correct": True}, "the gateway's own"),
        ({"id": "a", "source": "s", "correct": True, "more": 1}, "expected an object"),
        ({"outcomes": []}, f"1 to {MOST}"),
        ({"outcomes": [{}] * (MOST + 1)}, f"1 to {MOST}"),
        ({"outcomes": [{}], "source": "s"}, "nothing beside it"),
        ({"outcomes": [{"id": "a", "source": "s", "correct": True}, {"id": "b"}]}, r"outcomes\[1\].source"),
    ],
)
def test_what_is_no_verdict_is_refused_by_its_place(body, why):
    with pytest.raises(Refused, match=why):
        read_outcomes(body)
