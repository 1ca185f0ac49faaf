"""Escalation in front of a server: the next sample from any source, the likeliest answer, and a budget that is kept."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import alloc_jax as aj
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.planning.escalator import Escalator, rules_beside
from alloc_jax.serve.planning.stopper import Stopper
from alloc_jax.serve.replay import drifting, replay_stream
from alloc_jax.serve.tickets import AnswerRequest, Seen, Tenant
from alloc_jax.serve.verdicts.verifier import Verifier
from alloc_jax.serve.web.servers import Server
from tests.fake_server import Fake, served
from tests.serve.made import TWO, two_sources_log, two_sources_policy
from tests.serve.running import running
from tests.serve.test_command import failed

TEXT, BUDGET = "12 + 35", 210.0  # tokens: two small samples, and a large one where those disagree


class TwoModels(Fake):
    """A small and a large model, which say what they are told to."""

    def __init__(self, said, **options):
        super().__init__(tokens=lambda body: {"small": 8, "large": 388}[body["model"]], **options)
        self.said = said

    def say(self, body, number, choice):
        a, b = map(int, body["messages"][-1]["content"].split("+"))
        said = self.said(body["model"], a + b, number)
        return said if isinstance(said, str) else f"It is {said}"


def wrong_if_small(model, value, number):
    """The small model is wrong, and each time in another way."""
    return value + (model == "small") * number


def right(model, value, number):
    return value


def no_answer(model, value, number):
    return f"a poem by {model}"


@pytest.fixture(scope="module")
def log():
    return two_sources_log(500)


@pytest.fixture(scope="module")
def made(log):
    return two_sources_policy(log)


@pytest.fixture(scope="module")
def frontier(log, made):
    said = made.calibration[0].whole
    promise = aj.Promise(np.clip(said.score, 0, 1), said.cost)
    options = {"resource": "tokens", "limits": (2, 1), "beliefs": ("classes",), "promise": promise}
    return aj.solve_escalation(log, ("small", "large"), **options)


@pytest.fixture(scope="module")
def escalator(frontier, made):
    return Escalator(frontier, made)


def planned(escalator, made, max_samples=None):
    """At the multiplier of the budget."""
    return escalator.plan(made.predict([TEXT]), escalator.pace(BUDGET, 0.0).start, max_samples, 0.5, TEXT)


def test_at_the_multiplier_of_a_budget_it_decides_as_the_rule(escalator, frontier, made):
    said = made.predict([TEXT])
    accuracy, cost = np.clip(said.score[0], 0, 1), said.cost[0]
    paths = set()
    for budget in np.linspace(1.01 * frontier.spend[0], frontier.spend[-1], 7):
        rule, pace = frontier.at(budget), escalator.pace(budget, 0.03)
        for ticket in (0.0, 0.3, 0.7, 0.999):
            plan = escalator.plan(said, pace.multiplier(pace.dual), None, ticket, TEXT)
            question, seen = rule.start(accuracy, cost, ticket=ticket), []
            assert plan.expected == pytest.approx(frontier.spend[rule.more if ticket < rule.weight else rule.less])
            while move := rule.decide(question):
                assert plan.next(seen) == tuple(frontier.sources[m] for m in move)
                answers = [f"{len(question.path)}"] * len(move)
                seen += [Seen(frontier.sources[m], answers[0], question.rounds) for m in move]
                question = question.after(move, answers)
            assert plan.next(seen) == () and plan.choose(seen) == (question.answer, question.posterior)
            paths.add(question.path)
    assert len(paths) > 2


def test_a_belief_that_reads_features_of_the_text_has_them_in_the_gateway(log, made):
    promise = aj.policy_promise(made, ("small", "large"), log.question, seen=True)
    options = {"resource": "tokens", "limits": (2, 1), "beliefs": ("classes by text",), "promise": promise}
    frontier = aj.solve_escalation(log, ("small", "large"), **options)
    serving = Escalator(frontier, made)
    assert serving.gated
    one, rule = aj.policy_promise(made, ("small", "large"), [TEXT]), frontier.at(BUDGET)
    for ticket in (0.0, 0.999):
        plan = serving.plan(made.predict([TEXT]), serving.pace(BUDGET, 0.0).start, None, ticket, TEXT)
        first = rule.decide(rule.start(one.accuracy[0], one.cost[0], one.features[0], ticket=ticket))
        assert plan.next([]) == tuple(frontier.sources[m] for m in first)


def test_a_multiplier_between_two_rules_mixes_them_and_beyond_the_last_stands_the_last(escalator, frontier, made):
    said, multipliers = made.predict([TEXT]), frontier.multiplier
    between = float(np.sqrt(multipliers[3] * multipliers[4]))
    spends = [escalator.plan(said, between, None, ticket, TEXT).expected for ticket in np.arange(0, 1, 0.05)]
    assert np.mean(spends) == pytest.approx(frontier.spend[3:5].mean(), rel=0.01) and len(set(spends)) == 2
    for multiplier, at in ((1e9, 0), (float(multipliers[0]), 0), (float(multipliers[5]), 5), (0.0, -1)):
        assert escalator.plan(said, multiplier, None, 0.5, TEXT).expected == pytest.approx(frontier.spend[at])


def test_the_likeliest_answer_is_not_the_most_frequent_one(escalator, made):
    plan = escalator.plan(made.predict([TEXT]), 0.0, None, 0.0, TEXT)
    seen = [Seen("small", "48", 0), Seen("small", "48", 1), Seen("large", "47", 2)]
    answer, posterior = plan.choose(seen)
    assert answer == "47" and 0.5 < posterior < 1
    assert plan.choose([Seen("small", None), Seen("small", None, 1)]) == (None, 0.0)


def test_no_more_samples_are_drawn_than_the_request_allows(escalator, made):
    plan, seen = planned(escalator, made, 2), []
    while wave := plan.next(seen):
        seen += [Seen(source, f"{len(seen)}", len(seen)) for source in wave]
    assert len(seen) == 2 == plan.action.samples


def test_a_decision_takes_no_time(escalator, made):
    plan = planned(escalator, made)
    seen = [Seen("small", "48", 0), Seen("small", "47", 1)]
    took = []
    for _ in range(300):
        start = time.thread_time()
        plan.next(seen)
        took.append(time.thread_time() - start)
    assert np.median(took) < 500e-6  # 9e-6 on a busy machine


@pytest.mark.long
def test_the_budget_is_kept_when_difficulty_shifts(escalator, frontier, made):
    log = two_sources_log(800, seed=3)
    rows = drifting(log, 2000, late=(0.4, 0.8))
    paced = replay_stream(made, log, BUDGET, rows=rows, stopping=escalator)
    fixed = replay_stream(made, log, BUDGET, rows=rows, stopping=escalator, step=0.0)
    assert abs(paced.spend / BUDGET - 1) < 0.025 < abs(fixed.spend / BUDGET - 1)
    assert set(paced.action) == {"escalate(small,large)"} and len({round(c, -1) for c in paced.cost}) > 2


@pytest.mark.long
def test_it_is_right_more_often_than_the_policy_alone_for_the_same_spend(escalator, made):
    log = two_sources_log(1500, seed=4)
    pooled, alone = replay_stream(made, log, BUDGET, stopping=escalator), replay_stream(made, log, BUDGET)
    assert abs(pooled.spend / BUDGET - 1) < 0.025 and abs(alone.spend / BUDGET - 1) < 0.025
    assert pooled.correct.mean() > alone.correct.mean() + 0.05


def test_a_cap_reserves_the_dearest_samples_that_may_come(escalator, made):
    for hard in (False, True):
        tenants = {"default": Tenant(budget=BUDGET, cap=1e5, hard=hard)}
        core = Core(made, TWO, tenants, Ledger(), stopping=escalator)
        ticket = core.admit(AnswerRequest(id="q", text=TEXT))
        assert ticket.sources == ("small", "large") and ticket.action.samples == 3
        small, large = np.quantile(made.calibration_cost, 0.9, axis=0)
        assert ticket.reserved == pytest.approx(3 * ticket.worst if hard else 2 * small + large)


def asked(say, escalator, made, text=TEXT, extra=None, **options):
    """What a gateway in front of two models answers: content, headers, the requests and the core."""
    server = TwoModels(say, **options)
    with served(server.app()) as url:
        tenant = {"budget": BUDGET}
        with running(made, recipes=TWO, stopping=escalator, tenant=tenant, url=url, upstream={"attempts": 1}) as up:
            said, headers = up.ask(text, extra_body={"alloc": extra} if extra else {})
            return said, headers, server.requests, up.core


def test_the_large_model_overrules_the_small_one(escalator, made):
    said, headers, requests, core = asked(wrong_if_small, escalator, made)
    assert said.choices[0].message.content == "It is 47" and said.model == "alloc/escalate(small,large)"
    assert headers["path"] == "small > small > large" and headers["votes"] == "1 > 2 > 3"
    assert 0.5 < float(headers["posterior"]) < 1 and float(headers["vote-share"]) == pytest.approx(1 / 3, abs=1e-3)
    assert float(headers["multiplier"]) == pytest.approx(escalator.pace(BUDGET, 0.0).start, rel=1e-5)
    totals = core.ledger.totals()
    assert totals["completion_tokens"] == said.usage.completion_tokens == 2 * 8 + 388
    assert totals["cost"] == said.usage.total_tokens and not totals["open"]
    assert [body["model"] for body in requests] == headers["path"].split(" > ")


def test_a_question_is_escalated_from_one_server_to_another(escalator, made):
    behind = {name: TwoModels(wrong_if_small) for name in ("small", "large")}
    with served(behind["small"].app()) as first, served(behind["large"].app()) as second:
        servers = [Server(url=first, models=("small",)), Server(url=second, models=("large",))]
        with running(made, recipes=TWO, stopping=escalator, tenant={"budget": BUDGET}, url=servers) as up:
            said, headers = up.ask(TEXT)
            totals = up.settled(1)
    assert headers["path"] == "small > small > large" and said.choices[0].message.content == "It is 47"
    asked = {name: [body["model"] for body in server.requests] for name, server in behind.items()}
    assert asked == {"small": ["small"] * 2, "large": ["large"]} and totals["completion_tokens"] == 2 * 8 + 388


def test_what_has_no_answer_gets_one_sample_unless_the_client_says_that_it_can_be_read(escalator, made):
    said, headers, requests, _ = asked(no_answer, escalator, made)
    assert len(requests) == 1 and "no answer" in headers["fallback"] and "posterior" not in headers
    assert said.choices[0].message.content == no_answer(requests[0]["model"], 0, 1)
    said, headers, requests, _ = asked(no_answer, escalator, made, extra={"gradable": True})
    assert len(requests) > 1 and set(headers["votes"]) <= set("- >") and headers["posterior"] == "0.0000"
    _, headers, requests, _ = asked(wrong_if_small, escalator, made, extra={"gradable": False})
    assert len(requests) == 1 and "nothing to vote on" in headers["fallback"]


def test_where_one_source_is_down_another_answers(escalator, made):
    def fault(number, body):
        return "503" if body["model"] == "small" else None

    said, headers, _, core = asked(right, escalator, made, fault=fault)
    assert said.choices[0].message.content == "It is 47" and headers["samples"] == "1"
    assert "-" in headers["votes"] and "large" in headers["path"] and not core.ledger.totals()["open"]


def test_a_round_of_several_samples_is_drawn_at_once(log, made, frontier):
    options = {"resource": "tokens", "limits": (2, 1), "beliefs": ("classes",), "wave": 2, "rounds": 2}
    at_once = Escalator(aj.solve_escalation(log, ("small", "large"), **options), made)
    _, headers, requests, _ = asked(wrong_if_small, at_once, made)
    assert headers["path"] == "small + small > large" and len(requests) == 3
    _, headers, requests, _ = asked(wrong_if_small, at_once, made, extra={"max_samples": 1})
    assert len(requests) == 1


def test_each_tenant_has_a_multiplier_of_its_own(escalator, frontier, made):
    tenants = {name: Tenant(name=name, budget=b) for name, b in (("poor", 60.0), ("rich", 250.0))}
    core = Core(made, TWO, tenants, Ledger(), stopping=escalator)
    assert core.multiplier("poor") > core.multiplier("rich")
    before = core.multiplier("rich")
    ticket = core.admit(AnswerRequest(id="q", text=TEXT, tenant="poor"))
    core.settle(ticket, 5000.0, 0.0, 3, 0, 0)
    assert core.multiplier("rich") == before and core.multiplier("poor") > escalator.pace(60.0, 0.03).start
    with pytest.raises(ValueError, match="below"):
        Core(made, TWO, {"default": Tenant(budget=1.0)}, Ledger(), stopping=escalator)


def test_what_does_not_fit_the_policy_is_refused(frontier, made, log):
    with pytest.raises(ValueError, match="answer by 'verified'"):
        Escalator(replace(frontier, answer="verified"), made)
    with pytest.raises(ValueError, match="are paid in tokens"):
        Escalator(frontier, two_sources_policy(log, "samples"))
    with pytest.raises(ValueError, match="ask 'other', of which the policy predicts no single sample"):
        Escalator(replace(frontier, sources=("small", "other")), made)


def test_rules_that_look_at_a_reward_are_refused(frontier, made):
    read = replace(frontier, evidence="reward", cuts=np.zeros_like(frontier.cuts))
    with pytest.raises(
        ValueError, match="look at the reward of every sample, which a gateway does not: fit them without"
    ):
        Escalator(read, made)


def test_of_two_rules_in_a_folder_escalation_goes_first(frontier, made, log, tmp_path):
    assert rules_beside(tmp_path, made) is None
    aj.solve_sequential(log, "small", cap=2, resource="tokens").save(tmp_path)
    assert isinstance(rules_beside(tmp_path, made), Stopper)
    frontier.save(tmp_path)
    assert isinstance(rules_beside(tmp_path, made), Escalator)


def test_the_command_names_a_source_without_a_recipe(frontier, made, tmp_path):
    made.save(tmp_path / "policy")
    frontier.save(tmp_path / "policy")
    (tmp_path / "sources.json").write_text('{"small": {"model": "m"}}')
    usual = ["--upstream=http://127.0.0.1:9/v1", "--budget=210", "--resource=tokens", "--ledger="]
    said = failed(tmp_path / "policy", *usual, f"--sources={tmp_path / 'sources.json'}")
    assert "no recipe for source 'large'" in said
    assert "the rule that draws least" in failed(tmp_path / "policy", *usual, "--budget=1")


def test_a_saved_rule_decides_without_jax(frontier, made, tmp_path):
    made.save(tmp_path)
    frontier.save(tmp_path)
    code = (
        "import sys; from alloc_jax.learn.policy import load_policy; from alloc_jax.serve.planning.escalator import rules_beside\n"
        f"policy = load_policy({str(tmp_path)!r})\n"
        f"plan = rules_beside({str(tmp_path)!r}, policy).plan(policy.predict([{TEXT!r}]), 0.0, None, 0.5, {TEXT!r})\n"
        "print(len(plan.next([])), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


@pytest.mark.long
def test_with_a_verifier_the_large_model_is_asked_where_the_small_one_is_wrong(log, made):
    """And each verdict, of a hundred tokens, is in the price: with it fewer samples are worth their cost."""
    frontier = aj.solve_escalation(log, ("small", "large"), answer="verified", resource="tokens", limits=(2, 1))

    async def score(request):
        body = await request.json()
        value = sum(map(int, body["text_1"].split("+")))
        scores = [float(said.split()[-1] == str(value)) for said in body["text_2"]]
        return JSONResponse({"data": [{"index": j, "score": one} for j, one in enumerate(scores)]})

    with served(Starlette(routes=[Route("/v1/score", score, methods=["POST"])])) as url:
        verifier = Verifier(url=f"{url}/score", exact=True, cost=100.0)
        rules = Escalator(frontier, made, verifier)
        fake, options = TwoModels(wrong_if_small), {"recipes": TWO, "stopping": rules, "verifier": verifier}
        with served(fake.app()) as behind, running(made, url=behind, tenant={"budget": 600.0}, **options) as gateway:
            said, headers = gateway.ask(TEXT)
            assert said.choices[0].message.content == "It is 47" and headers["verdict"] == "1.0000"
            assert headers["path"].startswith("small") and headers["path"].endswith("large")
            totals = gateway.settled(1)
            used = totals["prompt_tokens"] + totals["completion_tokens"]
            assert totals["cost"] == used + 100 * totals["samples"] and totals["samples"] > 1
            fake.said = right
            assert gateway.ask(TEXT)[1]["path"] == "small"
    prediction = made.predict([TEXT])
    alone = Escalator(frontier, made, Verifier(url="http://127.0.0.1:9/score", exact=True, cost=0.0))
    no = [Seen("small", None, 0, 0.0)]
    at = [
        (r.plan(prediction, m, None, 0.5, TEXT).next(no)) for m in np.geomspace(1e-4, 1e-1, 30) for r in (rules, alone)
    ]
    assert sum(map(bool, at[0::2])) < sum(map(bool, at[1::2]))
