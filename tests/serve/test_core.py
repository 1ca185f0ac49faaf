"""What is decided, reserved and settled, without any HTTP."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.actions import Action
from alloc_jax.collect import parse_recipes
from alloc_jax.logs import Grader
from alloc_jax.serve.core import Core, fingerprint
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.planning.voting import count_votes
from alloc_jax.serve.tickets import AnswerRequest, Passed, Pooled, Refused, Seen, Tenant
from alloc_jax.serve.web.answer_keys import AnswerKeys
from tests.serve.made import RECIPES, AgreementOfTwo

EASY, HARD = "1 + 2", "4321 + 1234"
PRICE = aj.TokenPrice(model="m", input=1.0, output=10.0, source="a page", date="2026-01-01")


def core(policy, ledger=None, recipes=RECIPES, tenants=None, **options):
    tenant = Tenant(**{"budget": 3.0, **options.pop("tenant", {})})
    return Core(policy, recipes, tenants or {"default": tenant}, ledger or Ledger(), **options)


def admit(made, name, text, **asked):
    return made.admit(AnswerRequest(id=name, text=text, **asked))


def settle(made, ticket, cost=None):
    cost = float(ticket.action.samples) if cost is None else cost
    return made.settle(ticket, cost, cost, ticket.action.samples, 0, 0)


def test_without_pace_the_core_decides_as_the_allocator(policy):
    made = core(policy, step=0.0)
    allocator = aj.allocator(policy, 3.0)
    allocator = replace(
        allocator,
        multiplier=replace(allocator.multiplier, low=made.multiplier("default"), high=made.multiplier("default")),
    )
    for j, text in enumerate([EASY, HARD, "12 + 45", "555 + 111"] * 5):
        ticket = admit(made, str(j), text)
        assert ticket.decision == allocator.choose(text) and ticket.action.name == ticket.decision.action
        assert ticket.decision.predicted.keys() == set(policy.actions)
        assert settle(made, ticket) and not settle(made, ticket)


def test_spending_raises_the_multiplier_and_saving_lowers_it(policy):
    made = core(policy, step=0.03)  # which ends below the rail
    multipliers = [made.multiplier("default")]
    for j in range(20):
        settle(made, admit(made, f"h{j}", HARD), cost=8.0)
        multipliers.append(made.multiplier("default"))
    assert np.all(np.diff(multipliers) > 0)
    for j in range(20):
        settle(made, admit(made, f"e{j}", EASY), cost=1.0)
    assert made.multiplier("default") < multipliers[-1]
    assert made.account("default").questions == 40 and made.account("default").spent == 20 * 8 + 20


def test_without_a_budget_compute_is_free_and_nothing_is_paced(policy):
    made = core(policy, tenant={"budget": None})
    ticket = admit(made, "a", HARD)
    assert ticket.decision.multiplier == 0.0 and not ticket.budget and settle(made, ticket)
    assert made.account("default").questions == 0


def test_the_pace_survives_a_restart_but_not_another_budget_or_policy(policy, tmp_path):
    path = tmp_path / "ledger.sqlite"
    made = core(policy, Ledger(path))
    for j in range(30):
        settle(made, admit(made, str(j), HARD), cost=8.0)
    multiplier = made.multiplier("default")
    made.ledger.close()
    again = core(policy, Ledger(path))
    assert again.multiplier("default") == pytest.approx(multiplier) and again.account("default").questions == 30
    again.ledger.close()
    other = core(policy, Ledger(path), tenant={"budget": 2.0})
    assert other.account("default").questions == 0
    changed = replace(policy, weights={name: array + 1 for name, array in policy.weights.items()})
    assert fingerprint(changed) != fingerprint(policy)


def test_a_budget_of_the_requests_own_has_its_own_multiplier_and_its_own_account_of_excess(policy):
    made = core(policy)
    with pytest.raises(Refused, match="may ask for at most 3, got 7"):
        admit(made, "z", HARD, budget=7.0)
    made = core(policy, tenant={"max_budget": 8.0})
    rich, poor = admit(made, "a", HARD, budget=7.0), admit(made, "b", HARD, budget=1.05)
    assert rich.decision.multiplier < poor.decision.multiplier and rich.expected >= poor.expected
    before = made.multiplier("default")
    made.settle(rich, 7.0, 0.0, 7, 0, 0)  # as much as it may: the tenant's multiplier ends as if nothing had been
    made.settle(poor, 1.05, 0.0, 1, 0, 0)
    assert made.multiplier("default") == pytest.approx(core(policy).multiplier("default"))
    assert before != made.multiplier("default")
    with pytest.raises(Refused, match=r"alloc\.budget"):
        admit(made, "c", HARD, budget=0.01)


def test_max_samples_is_obeyed(policy):
    made = core(policy, tenant={"budget": None})
    assert admit(made, "a", HARD, max_samples=2).action.samples <= 2
    assert admit(made, "b", HARD).action.samples > 2
    with pytest.raises(Refused, match="max_samples is 0, and every action draws at least 1"):
        admit(made, "c", HARD, max_samples=0)


def test_an_action_that_the_client_names_is_done_and_held_against_the_budget(policy):
    made = core(policy)
    multiplier = made.multiplier("default")
    ticket = admit(made, "a", EASY, action="vote(m,8)")
    assert ticket.action.samples == 8 and ticket.decision is None and ticket.budget == 3
    settle(made, ticket)
    assert made.multiplier("default") > multiplier and made.account("default").spent == 8
    with pytest.raises(Refused, match=r"unknown action 'vote\(m,3\)'; known: vote\(m,1\)") as refused:
        admit(made, "b", EASY, action="vote(m,3)")
    assert refused.value.reason == "unknown"


@pytest.mark.parametrize("hard", [False, True])
def test_a_cap_falls_back_to_the_cheapest_action_and_then_refuses(policy, hard):
    clock = [1000.0]
    made = core(policy, tenant={"budget": 7.9, "cap": 20.0, "hard": hard, "window_s": 100.0}, clock=lambda: clock[0])
    taken = []
    with pytest.raises(Refused) as refused:
        for j in range(100):
            taken.append(admit(made, str(j), HARD))
    assert refused.value.reason == "exhausted" and refused.value.retry_after == 100.0
    samples = [ticket.action.samples for ticket in taken]
    assert samples[0] > 1 and samples[-1] == 1 and sum(samples) == 20
    clock[0] += 100.0
    assert admit(made, "later", HARD).action.samples > 1
    refusing = core(policy, tenant={"budget": 7.9, "cap": 9.0, "hard": hard, "exhausted": "refuse"})
    admit(refusing, "a", HARD, action="vote(m,8)")
    with pytest.raises(Refused):
        admit(refusing, "b", HARD, action="vote(m,2)")


def test_a_soft_cap_reserves_the_measured_quantile_and_a_hard_one_the_worst(token_policy):
    soft = admit(core(token_policy, tenant={"budget": 60.0, "cap": 1e6}), "a", HARD, action="vote(m,8)")
    hard = admit(core(token_policy, tenant={"budget": 60.0, "cap": 1e6, "hard": True}), "a", HARD, action="vote(m,8)")
    measured = np.quantile(token_policy.calibration_cost[:, 3], 0.9)
    assert soft.reserved == pytest.approx(measured) and hard.reserved >= 8 * (64 + len(HARD))
    limited = core(token_policy, tenant={"budget": 60.0, "cap": 1e6, "hard": True})
    assert admit(limited, "a", HARD, action="vote(m,8)", limit=10).reserved == hard.reserved - 8 * 54


def test_threads_keep_one_account_and_one_multiplier(policy):
    made = core(policy, tenant={"cap": 500.0, "hard": True})
    admitted = []

    def ask(worker):
        for j in range(40):
            try:
                ticket = admit(made, f"{worker}-{j}", f"{worker} + {j * 97}")
            except Refused:
                continue
            assert made.reservations.held(ticket.tenant, ticket.window) <= 500
            admitted.append(ticket)
            settle(made, ticket)

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = sum(ticket.action.samples for ticket in admitted)
    assert len(admitted) > 100 and made.account("default").spent == spent <= 500
    assert made.account("default").questions == len(admitted) and made.ledger.totals()["open"] == 0
    pace = made.multipliers.paces["default"]
    assert made.multiplier("default") == pace.multiplier(made.account("default").dual)


def test_a_hard_cap_in_dollars_beside_a_budget_in_samples(policy):
    made = core(policy, tenant={"cap": 1.0, "hard": True}, cap=Meter("usd", prices={"m": PRICE}))
    ticket = admit(made, "a", EASY, action="vote(m,2)")
    assert 2 * 64 * 10 / 1e6 < ticket.reserved < 0.002
    with pytest.raises(Refused, match="no price for model 'other'"):
        made.admit_passed(Passed(id="b", body={"model": "other", "messages": [], "max_tokens": 5}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipes": {}}, "no recipe for source 'm'"),
        ({"tenant": {"budget": 0.2}}, "below the policy's cheapest plan"),
        ({"tenant": {"cap": 5.0}, "cap": Meter("usd", prices={"m": PRICE})}, "a cap in usd must be hard"),
        ({"cap": Meter("usd"), "tenant": {"cap": 5.0, "hard": True}}, "no price for model 'm'"),
        (
            {
                "tenant": {"cap": 5.0, "hard": True},
                "cap": Meter("tokens"),
                "recipes": parse_recipes({"m": {"model": "m"}}),
            },
            "'m' has no max_tokens",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_at_the_start(policy, options, said):
    with pytest.raises(ValueError, match=said):
        core(policy, **options)


def test_actions_that_need_rewards_or_a_verifier_are_refused(policy):
    with pytest.raises(ValueError, match=r"action best_of\(m,8\) needs rewards"):
        core(replace(policy, actions=(*policy.actions[:3], "best_of(m,8)")))
    with pytest.raises(ValueError, match="a gateway cannot meter 'compute'"):
        core(replace(policy, resource="compute"))


def votes(keys, aggregator="vote", ties="uniform", seed="s"):
    return count_votes(keys, Action("m", max(len(keys), 1), aggregator, ties), seed)


def test_votes_are_counted_as_they_are_measured():
    assert votes(["a", "b", None, "b"]).winner == 1 and votes(["a", "b", None, "b"]).share == 0.5
    assert votes([None, "a"]).winner == 1  # a sample without an answer has no vote
    assert votes([None, None]).winner == 0 and votes([None, None]).share == 0
    assert votes(["a", "b"], ties="first").winner == 0 and votes(["a", "b"], ties="abstain").winner is None
    drawn = [votes(["a", "b"], seed=str(j)).winner for j in range(400)]
    assert 150 < sum(drawn) < 250 and drawn[0] == votes(["a", "b"], seed="0").winner
    assert votes(["a", "a"], "unanimous").winner == 0 and votes(["a", "b"], "unanimous").winner is None
    assert votes(["a", None], "unanimous").winner is None and votes([None], "unanimous").winner is None
    assert count_votes(["b"], Action("m", 1, "single"), "s").winner == 0


def test_answers_of_several_sources_that_tie_when_the_time_is_over_have_an_even_chance():
    pool = Pooled(("cheap", "dear"), 3, "passes")
    assert {count_votes(["a", "b"], pool, f"s{j}").winner for j in range(20)} == {0, 1}


def test_answers_are_read_by_method_and_pattern():
    assert AnswerKeys("number")(["it is 1,250.00", "no"]) == ["1250", None]
    assert AnswerKeys("number", r"#(\d+)\.")(["8-2=6,6*4=24#24.", "8-2=6,6*"]) == ["24", None]
    assert AnswerKeys("text", "[ab]+$")(["xx ab", "c"]) == ["ab", None]
    with pytest.raises(ValueError, match="answer pattern"):
        AnswerKeys("text", "(")
    with pytest.raises(ValueError, match="unknown way"):
        AnswerKeys("nothing")


def test_mathematics_votes_on_what_it_means():
    pytest.importorskip("math_verify")
    keys = AnswerKeys("math")
    one, other, none = keys([r"so $\boxed{\frac{1}{2}}$", "the answer is $0.5$", ""])
    keys.close()
    assert one == other == "1/2" and none is None


def test_answers_that_say_the_same_share_a_vote():
    pytest.importorskip("math_verify")
    keys = AnswerKeys("math")

    async def votes(*texts):
        return await keys.unite(await keys.read(texts))

    percent, other, number, none = asyncio.run(votes(r"\boxed{50\%}", r"\boxed{7}", r"\boxed{50}", "no"))
    keys.close()
    assert percent == number != other and none is None


def test_what_a_grader_remembers_is_bounded():
    pytest.importorskip("math_verify")
    with Grader("math", workers=1, remembered=2) as grader:
        grader.keys([rf"\boxed{{{n}}}" for n in range(5)])
        assert list(grader.pool.written) == ["3", "4"]
        assert grader.keys([r"\boxed{50\%}", r"\boxed{50}"]) == 2 * ["1/2 as %"]


def seen(*keys):
    return [Seen("m", key) for key in keys]


def test_a_stopping_rule_takes_the_policys_place(policy):
    rule = AgreementOfTwo(policy)
    made = core(policy, stopping=rule, tenant={"cap": 1000.0})
    ticket = admit(made, "a", HARD)
    assert ticket.action.samples == 16 and ticket.plan.next(seen("1", "2", "1")) == ()
    assert ticket.plan.next([]) == ("m",) == ticket.plan.next(seen("1", None))
    assert ticket.decision.action == "vote(m,16)" and ticket.decision.utility is None
    assert ticket.reserved == 16  # of an action that the policy does not know, by the sample
    assert admit(made, "b", HARD, action="vote(m,2)").plan is None
    assert made.multipliers.accounts["default"] != core(policy).multipliers.accounts["default"]
    rule.sources = ("other",)
    with pytest.raises(ValueError, match="draw from 'other', which no action"):
        core(policy, stopping=rule)
