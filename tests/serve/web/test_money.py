"""Attacks on the money: paid answers are not lost, budgets are the operator's, caps are kept, usage is checked."""

import json
import random
import time
from dataclasses import replace

import openai
import pytest

from alloc_jax.collect import parse_recipes
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger, LedgerFault
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.tickets import AnswerRequest, Passed, Refused, Tenant
from alloc_jax.serve.web.answer_keys import AnswerKeys
from tests.serve.made import RECIPES
from tests.serve.running import QUESTION, running, told

MESSAGES = [{"role": "user", "content": QUESTION}]
HARD = {"cap": 2000.0, "hard": True}


def answers(*texts):
    """A server's `say` that gives these texts in turn."""
    given = iter(texts * 99)
    return lambda body, number, choice: next(given)


# A paid answer is never lost ------------------------------------------------------------------------------------


def test_a_number_of_thousands_of_digits_costs_one_vote_and_no_answer(policy):
    with running(policy) as gateway:
        gateway.fake.say = answers("x = 0." + 5000 * "7", "it is 4", "it is 4")
        said, headers = gateway.ask(model="alloc/vote(m,8)")
        assert said.choices[0].message.content == "it is 4" and headers["samples"] == "8"


@pytest.mark.parametrize("model", ["alloc/vote(m,1)", "through"])
def test_a_body_with_an_odd_number_is_an_answer_and_is_not_asked_for_again(policy, model):
    with running(policy, {"raw_usage": '{"prompt_tokens": ' + 5000 * "9" + ', "completion_tokens": 3}'}) as gateway:
        body = {"model": model, "messages": MESSAGES}
        assert told(gateway.sent(body))[0] == 200
        assert gateway.settled(1)["completion_tokens"] == 3 and len(gateway.fake.requests) == 1


@pytest.mark.parametrize(("cap", "again"), [(1e6, 1), (900.0, 0)])
def test_a_broken_choice_is_drawn_again_as_far_as_a_cap_allows(policy, cap, again):
    good = {"index": 0, "message": {"role": "assistant", "content": "it is 4"}, "finish_reason": "stop"}
    tenant = {"cap": cap, "hard": True}
    recipes = parse_recipes({"m": {"model": "m", "max_tokens": 64, "n": 2}})
    with running(policy, tenant=tenant, recipes=recipes, cap=Meter("tokens")) as gateway:
        gateway.fake.extra = {"choices": [good, {"message": None}]}
        headers = gateway.ask(model="alloc/vote(m,2)")[1]
        assert len(gateway.fake.requests) == 1 + again and headers["samples"] == str(1 + again)
        assert gateway.settled(1)["charged"] <= cap


@pytest.mark.parametrize("text", ["\ud800 4", "\x00 4", "9" * 4000, "{" * 5000, "\U0001f600"])
def test_whatever_an_answer_holds_it_reaches_the_client(policy, text):
    with running(policy) as gateway:
        gateway.fake.say = answers(text)
        for stream in (False, True):
            body = {"model": "alloc/vote(m,4)", "messages": MESSAGES, "stream": stream}
            assert told(gateway.sent(body))[0] == 200
        assert gateway.settled(2)["samples"] == 8


def test_a_field_of_control_characters_is_named_without_them(policy):
    with running(policy) as gateway:
        raw = json.dumps({"model": "alloc/auto", "messages": MESSAGES, "a\r\nx: \u0000\u00e9\ud800": 1, 9000 * "b": 2})
        assert gateway.post(raw.encode())[0] == 200
        assert "b" in gateway.ask(extra_body={"a\n": 1, "b": 2})[1]["ignored"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ('{"model": "m", "messages": [{}], "seed": ' + 5000 * "9" + "}", 400),
        ('{"model": "m", "messages": [{}], "max_tokens": ' + 4000 * "9" + "}", 400),
        ('{"model": "alloc/auto", "messages": [{"role": "user", "content": "a"}], "max_tokens": ' + 4000 * "9" + "}", 400),
        ('{"model": "alloc/auto", "messages": [{"role": "user", "content": "a"}], "alloc": {"budget": ' + 4000 * "9" + "}}", 400),
        ('{"model": "m", "messages": [{}], "temperature": NaN}', 400),
        ('{"model": "m", "messages": [{}], "temperature": 1e999}', 400),
        ('{"model": "m", "messages": [{}], "temperature": -' + 400 * "9" + '.0}', 400),
        (r'{"model": "\ud800", "messages": [{}]}', 400),
        (r'{"model": "alloc/\udfff", "messages": [{"role": "user", "content": "a"}]}', 400),
        ('{"model": "m", "messages": ' + 100000 * "[" + "}", 400),
    ],
)  # fmt: skip
def test_every_bad_request_is_an_error_of_the_protocol_and_counted(policy, raw, status):
    with running(policy) as gateway:
        got, body = gateway.post(raw.encode())
        assert got == status and body["error"]["code"] == status
        assert f'alloc_responses_total{{status="{status}"}} 1.0' in gateway.get("/metrics")
        assert not gateway.fake.requests


def test_a_wrong_path_and_a_broken_request_are_errors_of_the_protocol_too(policy):
    with running(policy) as gateway:
        gateway.url += "/x"
        assert gateway.post(b"{}")[1]["error"]["code"] == 404
        with gateway.connected() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
            status, _, said = told(connection)
        assert status == 400 and json.loads(said)["error"]["code"] == 400


class Full(Ledger):
    """A ledger on a disk that is full, from when it is told."""

    full = False

    def settle(self, *args, **more):
        if self.full:
            raise LedgerFault("database or disk is full")
        return super().settle(*args, **more)

    def reserve(self, *args, **more):
        if self.full:
            raise LedgerFault("database or disk is full")
        return super().reserve(*args, **more)


def test_a_disk_that_fills_loses_no_answer_and_what_came_is_settled_when_there_is_room(policy):
    ledger = Full()
    with running(policy, {"delay_s": 0.02}, tenant={"cap": 500.0, "hard": True}, ledger=ledger) as gateway:
        gateway.fake.fault = lambda number, body: setattr(ledger, "full", True)  # while the upstream works
        for _ in range(3):
            ledger.full = False
            assert gateway.ask(model="alloc/vote(m,4)")[0].choices
        with pytest.raises(openai.InternalServerError, match="ledger cannot be written") as error:
            gateway.ask()
        assert error.value.status_code == 503
        assert ledger.totals()["open"] >= 1 and "alloc_unsettled" in gateway.get("/metrics")
        gateway.fake.fault = lambda number, body: None
        ledger.full = False
        gateway.core.retry()
        totals = ledger.totals()
        assert totals["open"] == 0 and totals["samples"] == totals["cost"] == 12
        assert (
            gateway.core.reservations.held(
                gateway.core.tenants["default"], gateway.core.reservations.window(gateway.core.tenants["default"])
            )
            == 12
        )


def test_a_ledger_that_is_full_stays_usable(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.store._db.execute(
        f"PRAGMA max_page_count = {ledger.store._db.execute('PRAGMA page_count').fetchone()[0] + 1}"
    )
    with pytest.raises(LedgerFault, match="full"):
        for j in range(10000):
            ledger.reserve(f"{j}", "t", j, 1.0, None, action="x" * 50)
    ledger.store._db.execute("PRAGMA max_page_count = 100000")
    assert ledger.reserve("again", "t", 0, 1.0, None) and ledger.totals()["open"] == j + 1
    ledger.close()


# The budget is the operator's -----------------------------------------------------------------------------------


def test_what_a_client_may_ask_for_is_the_operators_to_say(policy):
    with running(policy) as gateway:
        with pytest.raises(openai.PermissionDeniedError, match="may ask for at most 3, got 16"):
            gateway.ask(extra_body={"alloc": {"budget": 16}})
        with pytest.raises(openai.BadRequestError, match=r"max_samples is 2, and vote\(m,8\) draws 8"):
            gateway.ask(model="alloc/vote(m,8)", extra_body={"alloc": {"max_samples": 2}})
        assert not gateway.fake.requests
        gateway.ask(model="through", n=2)
        gateway.settled(1)  # after the last byte
        passed = gateway.core.passed("default")
        assert passed.questions == 1 and passed.spent == 2 and gateway.core.account("default").questions == 0
        assert 'alloc_passed_cost{tenant="default"} 2.0' in gateway.get("/metrics")
    with running(policy, tenant={"forced": False, "models": ["open"]}) as gateway:
        with pytest.raises(openai.PermissionDeniedError, match="may not name actions"):
            gateway.ask(model="alloc/vote(m,8)")
        with pytest.raises(openai.PermissionDeniedError, match="'closed' is not open to tenant"):
            gateway.ask(model="closed")
        assert gateway.ask(model="open")[0].choices and gateway.ask()[0].choices
        assert [model.id for model in gateway.client.models.list()] == ["alloc/auto"]


def test_forced_actions_are_held_against_the_budget(policy):
    core = Core(policy, RECIPES, {"default": Tenant(budget=3.0)}, Ledger())
    for j in range(400):
        action = "vote(m,8)" if j % 4 == 0 else None
        ticket = core.admit(AnswerRequest(id=f"{j}", text=f"{j % 90 + 10} + {j % 7}", action=action))
        core.settle(ticket, float(ticket.action.samples), 0.0, ticket.action.samples, 0, 0)
    account = core.account("default")
    assert account.questions == 400 and abs(account.spent / 400 / 3.0 - 1) < 0.05


# Hard caps are hard ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"max_tokens": 1, "max_completion_tokens": 100000}, 429),
        ({"max_tokens": 5, "tools": [{"type": "function", "function": {"name": "f", "description": 200000 * "a"}}]}, 429),
        ({"max_tokens": 5, "response_format": {"type": "json_schema", "json_schema": {"name": 200000 * "a"}}}, 429),
        ({"max_tokens": 5, "messages": [{"role": "user", "content": 3 * [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400),
        ({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, 400),
        ({"max_tokens": 5, "best_of": 50}, 400),
        ({"max_tokens": 5, "prediction": {"content": "a"}}, 400),
        ({}, 400),
        ({"model": "alloc/vote(m,1)", "response_format": {"type": "json_object", "pad": 200000 * "a"}}, 429),
        ({"model": "alloc/vote(m,1)", "messages": [{"role": "user", "content": [{"type": "text", "text": "1 + 2"}, {"type": "image_url"}]}]}, 400),
    ],
)  # fmt: skip
def test_what_would_pass_a_hard_cap_is_refused_before_anything_is_sent(policy, fields, status):
    with running(policy, tenant=HARD, cap=Meter("tokens")) as gateway:
        body = {"model": "through", "messages": MESSAGES, **fields}
        got, said = gateway.post(json.dumps(body).encode())
        assert got == status, said
        assert not gateway.fake.requests and gateway.core.ledger.totals()["requests"] == 0


def test_an_image_with_a_bound_is_served_under_a_hard_cap(policy):
    part = [{"type": "text", "text": "1 + 2"}, {"type": "image_url", "image_url": {"url": "x"}}]
    passed = Passed(id="a", body={"model": "x", "max_tokens": 5, "messages": [{"role": "user", "content": part}]})
    core = Core(
        policy, RECIPES, {"default": Tenant(budget=3.0, **HARD)}, Ledger(), cap=Meter("tokens", image_tokens=900)
    )
    assert 1200 < core.admit_passed(passed).reserved < 1500


@pytest.mark.parametrize("model", ["alloc/vote(m,1)", "through"])
def test_a_question_with_an_image_is_charged_no_more_than_its_worst_case(policy, model):
    usage = '{"prompt_tokens": 9000000, "completion_tokens": 1}'
    part = [{"type": "text", "text": "1 + 2"}, {"type": "image_url", "image_url": {"url": "x"}}]
    tenant, meter = {"cap": 20000.0, "hard": True}, Meter("tokens", image_tokens=900)
    with running(policy, {"raw_usage": usage}, tenant=tenant, cap=meter) as gateway:
        gateway.fake.say = answers("it is 3")
        body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": part}]}
        assert gateway.post(json.dumps(body).encode())[0] == 200
        assert 900 < gateway.settled(1)["charged"] <= 20000


def test_caps_in_two_units_on_one_ledger_never_mix(policy, tmp_path):
    def core(cap, resource):
        tenants = {"default": Tenant(budget=3.0, cap=cap, hard=True)}
        return Core(policy, RECIPES, tenants, Ledger(tmp_path / "l.sqlite"), cap=Meter(resource), clock=lambda: 5.0)

    one = core(1e5, "tokens")
    ticket = one.admit(AnswerRequest(id="a", text="1 + 2"))
    one.settle(ticket, 1.0, 900.0, 1, 0, 0)
    one.close()
    other = core(10.0, "samples")
    assert other.reservations.held(other.tenants["default"], 0) == 0
    assert other.admit(AnswerRequest(id="b", text="1 + 2")).reserved >= 1
    other.close()
    again = core(1e5, "tokens")
    assert again.reservations.held(again.tenants["default"], 0) == 900
    again.close()


def test_a_recipe_that_sends_two_limits_is_bounded_by_the_larger_and_lowered_in_both():
    recipe = parse_recipes({"m": {"model": "m", "max_tokens": 1, "extra_body": {"max_completion_tokens": 500}}})["m"]
    assert recipe.limit == 500 and recipe.limited(90) == {"max_completion_tokens": 90} and recipe.limited(900) == {}
    assert recipe.limited(None) == {}


def strange_request(rng: random.Random):
    """A question or a request to pass, as hostile as the protocol allows."""
    text = rng.choice(["1 + 2", "9999 + 1234", "x" * rng.randrange(1, 3000), "\u4e2d" * rng.randrange(1, 300)])
    parts = [
        [{"type": "text", "text": text}],
        text,
        [{"type": "text", "text": text}, {"type": "image_url", "image_url": {}}],
    ]
    messages = [{"role": "user", "content": rng.choice(parts)}]
    limit = rng.choice([None, 1, 10, 5000])
    extra = rng.choice([{}, {"stop": ["a"]}, {"response_format": {"type": "text", "x": "y" * rng.randrange(2000)}}])
    identity = f"{rng.random()}"
    if rng.random() < 0.5:
        action = rng.choice([None, None, "vote(m,1)", "vote(m,8)", "vote(m,9)"])
        more = {"max_samples": rng.choice([None, None, 0, 1, 4]), "budget": rng.choice([None, None, 2.0, 0.01, 1e9])}
        return AnswerRequest(id=identity, text=text, messages=messages, action=action, limit=limit, extra=extra, **more)
    body = {"model": "m", "messages": messages, "n": rng.randrange(1, 17), **extra}
    for name in ("max_tokens", "max_completion_tokens"):
        if limit is not None and rng.random() < 0.7:
            body[name] = rng.choice([limit, 1, 3 * limit])
    if rng.random() < 0.3:
        body[rng.choice(["tools", "best_of", "min_tokens"])] = rng.randrange(100)
    return Passed(id=identity, body=body)


@pytest.mark.parametrize("resource", ["samples", "tokens", "completion_tokens"])
def test_a_cap_is_never_passed_in_ten_thousand_random_requests(policy, resource):
    never_passed(policy, resource, Ledger())


@pytest.mark.long
def test_a_cap_is_never_passed_on_a_database(policy, postgres):
    ledger = Ledger(postgres.database())
    never_passed(policy, "tokens", ledger)
    ledger.close()


def never_passed(policy, resource, ledger):
    rng, now = random.Random(resource), [0.0]
    cap = {"samples": 400.0, "tokens": 3e5, "completion_tokens": 2e4}[resource]
    tenants = {"default": Tenant(budget=3.0, cap=cap, hard=True, window_s=100.0)}
    core = Core(policy, RECIPES, tenants, ledger, cap=Meter(resource), clock=lambda: now[0])
    used, open_tickets, counts = {}, [], {"admitted": 0, "invalid": 0, "exhausted": 0}
    for _ in range(3334):
        now[0] += rng.random()
        try:
            asked = strange_request(rng)
            ticket = core.admit(asked) if isinstance(asked, AnswerRequest) else core.admit_passed(asked)
            open_tickets.append(ticket)
            counts["admitted"] += 1
        except Refused as refused:
            counts[refused.reason] = counts.get(refused.reason, 0) + 1
        while open_tickets and rng.random() < 0.6:
            ticket = open_tickets.pop(rng.randrange(len(open_tickets)))
            charged = ticket.reserved * rng.choice([1.0, 1.0, rng.random()])  # the upstream uses all that it may
            if rng.random() < 0.2 and core.extend(ticket, 1):
                charged += ticket.worst
            core.settle(ticket, None, charged, 1, 0, 0)
            used[ticket.window] = used.get(ticket.window, 0.0) + charged
        for window in {ticket.window for ticket in open_tickets} | used.keys():
            held = core.reservations.held(tenants["default"], window)
            assert used.get(window, 0.0) * (1 - 1e-12) <= held <= cap
    assert min(counts.values()) > 50 and max(used.values()) > 0.7 * cap


# Usage is checked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1e999", "-5", "1e9", str(2**63), "1e400", "NaN"])
def test_a_usage_that_cannot_be_is_charged_at_its_worst_case_and_moves_no_multiplier_beyond_it(token_policy, count):
    usage = f'{{"prompt_tokens": 9, "completion_tokens": {count}}}'
    budget = {"budget": 75.0, "cap": 1e6, "hard": True}
    with running(token_policy, {"raw_usage": usage}, tenant=budget) as gateway:
        before = gateway.core.multiplier("default")
        said, headers = gateway.ask(model="alloc/vote(m,1)", headers={"x-alloc-debug": "true"})
        assert said.usage.completion_tokens == 64 and "beyond what was asked for" in headers["faults"]
        assert gateway.core.account("default").spent == 9 + 64 == gateway.settled(1)["charged"]
        assert gateway.core.multiplier("default") < 2 * before
        gateway.ask(model="through", max_tokens=20)
        assert gateway.settled(2)["charged"] == 9 + 64 + 9 + 20
        assert "alloc_upstream_odd_usage_total 2.0" in gateway.get("/metrics")
    assert json.dumps(said.usage.model_dump())


# Keys are the operator's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["echo", "echo with 200"])
@pytest.mark.parametrize("fields", [{"model": "alloc/vote(m,2)"}, {"model": "x"}, {"model": "x", "stream": True}])
def test_no_error_of_upstream_repeats_a_key(policy, fields, fault):
    with running(policy, {"fault": lambda number, body: fault}) as gateway:
        body = {"messages": MESSAGES, **fields}
        with gateway.sent(body) as connection:
            raw = b""
            while b"API key provided" not in raw and b"HTTP 401" not in raw:
                raw += (part := connection.recv(1 << 16))
                assert part, raw
        assert b"sk-upstream" not in raw and b"gsk_" not in raw


# Votes need votes -----------------------------------------------------------------------------------------------


def rich(policy):
    """A policy that finds every question worth eight samples."""
    weights = dict(policy.weights)
    name = max(n for n in weights if n.endswith("bias"))
    weights[name] = weights[name].copy()
    weights[name][..., :4] += [0, 0, 0, 5]
    return replace(policy, weights=weights)


def test_free_texts_get_one_sample_and_the_header_says_why(policy):
    with running(rich(policy), tenant={"budget": 7.9}) as gateway:
        assert gateway.ask()[1]["samples"] == "8"
        gateway.fake.say = answers("The cat", "A cat sat", "Un chat")
        before = len(gateway.fake.requests)
        said, headers = gateway.ask("Translate the poem")
        assert headers["samples"] == "1" and "no answer that could be voted on" in headers["fallback"]
        assert said.choices[0].message.content == "The cat" and len(gateway.fake.requests) == before + 1
        assert gateway.ask("Translate", extra_body={"alloc": {"gradable": True}})[1]["samples"] == "8"
        gateway.fake.say = answers("it is 4")
        headers = gateway.ask("4", extra_body={"alloc": {"gradable": False}})[1]
        assert headers["samples"] == "1" and "nothing to vote on" in headers["fallback"]
        assert 'alloc_fallbacks_total{tenant="default"} 2.0' in gateway.get("/metrics")
    with running(rich(policy), tenant={"budget": 7.9}, config={"probe": False}) as gateway:
        gateway.fake.say = answers("The cat", "A cat sat")
        assert gateway.ask("Translate the poem")[1]["samples"] == "8"


def test_what_is_read_of_an_answer_is_bounded():
    keys = AnswerKeys("number")
    start = time.process_time()
    assert keys(["it is 4" + 60_000 * " ", 60_000 * " " + "it is 4", 60_000 * "1 "]) == ["4", "4", "1"]
    assert time.process_time() - start < 2.0
    assert AnswerKeys("text")([5000 * "a", " Yes."]) == [None, "yes"]


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": "yes", "sure": 1}',
        '{"sure":1.0, "answer":"yes"}',
        'Here is the JSON: {"answer": "yes", "sure": 1e0}',
        'Let {x} be {"x"}.\n```json\n{"answer": "yes", "sure": 1}\n```\nThat is 9 of 10.',
    ],
)
def test_json_has_one_key_however_it_is_written(text):
    keys = AnswerKeys("number")
    assert keys([text, '{"answer": "no", "sure": 1}', r"\frac{1}{2} {}"]) == [
        '{"answer":"yes","sure":1}',
        '{"answer":"no","sure":1}',
        "1/2",
    ]


@pytest.mark.parametrize("text", ['{"a":', '{"', "{" + 20 * " ", '{"a": ["'])
def test_what_only_begins_like_json_is_read_fast(text):
    start = time.process_time()
    AnswerKeys("text")([text * (1 << 14)])
    assert time.process_time() - start < 2.0


def test_json_is_voted_on_as_a_whole_and_not_by_a_number_in_it(policy):
    with running(policy) as gateway:
        yes, no = '{"answer": "yes", "sure": 0.9}', '{"answer": "no", "sure": 0.9}'
        gateway.fake.say = answers(yes, no, '```json\n{"sure":0.9,  "answer":"yes"}\n```', yes)
        headers = gateway.ask(model="alloc/vote(m,4)", headers={"x-alloc-debug": "true"})[1]
        assert headers["vote-share"] == "0.7500" and headers["answers"] == "2"
