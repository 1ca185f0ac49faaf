"""Effort is an action: one recipe is a source for each effort, and the client's own effort bounds what the policy may choose."""

import numpy as np
import openai
import pytest

import alloc_jax as aj
from alloc_jax.collect import parse_recipes
from alloc_jax.collect.recipes import Recipe
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.tickets import AnswerRequest, Pooled, Refused, SamplingPlan, Tenant
from tests.serve.made import fitted_policy, sums_log
from tests.serve.running import running

EFFORTS = parse_recipes({"m": {"model": "m", "max_tokens": 64, "efforts": ["low", "medium", "high"]}})
HARD = "9999 + 8888"


@pytest.fixture(scope="module")
def policy():
    """More effort is right more often, and dearer; all of it is worth its cost."""
    log = sums_log()
    actions = [aj.vote(name, k) for name in EFFORTS for k in (1, 2)]
    utility = np.tile([0.1, 0.11, 0.4, 0.41, 0.8, 0.81], (len(log), 1))
    return fitted_policy(log, actions, utility, np.tile([1.0, 2.0] * 3, (len(log), 1)), "samples")


def admit(core, **asked):
    return core.admit(AnswerRequest(id=f"{asked}", text=HARD, **asked))


@pytest.mark.parametrize("effort", ["low", "medium", "high", "max", None])
def test_the_clients_effort_bounds_the_policys_choice(policy, effort):
    core = Core(policy, EFFORTS, {"default": Tenant(budget=None)}, Ledger())
    chosen = admit(core, effort=effort)
    assert chosen.action.source == f"m/{'high' if effort in ('max', None) else effort}"
    allowed = {"low": 2, "medium": 4}.get(effort, 6)
    assert len(chosen.decision.predicted) == allowed
    assert admit(core, effort=effort, structured="tools").action.samples == 1


def test_what_the_bound_leaves_nothing_of_is_refused_by_name(policy):
    core = Core(policy, EFFORTS, {"default": Tenant(budget=None)}, Ledger())
    with pytest.raises(Refused, match="reasoning_effort: the least there is to choose from is 'low', got 'none'"):
        admit(core, effort="none")
    with pytest.raises(Refused, match="the least there is to choose from is 'high', got 'low'"):
        admit(core, effort="low", action="vote(m/high,2)")
    assert admit(core, effort="high", action="vote(m/high,2)").action.name == "vote(m/high,2)"


class Rules:
    """Stopping rules that ask every source once."""

    mark, sources = "all", tuple(EFFORTS)

    def pace(self, budget, step):
        raise AssertionError("nobody has a budget")

    def plan(self, prediction, multiplier, max_samples, ticket, text):
        limits = dict.fromkeys(self.sources, 1)
        return SamplingPlan(action=Pooled(self.sources, 3), expected=3.0, next=lambda seen: (), limits=limits)


def test_rules_that_might_ask_for_more_give_way_to_the_policy(policy):
    core = Core(policy, EFFORTS, {"default": Tenant(budget=None)}, Ledger(), stopping=Rules())
    assert admit(core).plan is not None and admit(core, effort="high").plan is not None
    bounded = admit(core, effort="medium")
    assert bounded.plan is None and bounded.action.source == "m/medium"


def test_efforts_are_sent_and_a_bound_is_no_wish(policy):
    with running(policy, recipes=EFFORTS, tenant={"budget": None}) as gateway:
        said, headers = gateway.ask(HARD, reasoning_effort="medium")
        assert said.model == "alloc/vote(m/medium,2)" and "ignored" not in headers
        assert {body["reasoning_effort"] for body in gateway.fake.requests} == {"medium"}
        assert gateway.client.responses.create(model="alloc/auto", input=HARD, reasoning={"effort": "low"}).output_text
        assert gateway.fake.requests[-1]["reasoning_effort"] == "low"
        with pytest.raises(openai.BadRequestError, match="the least there is to choose from is 'low'"):
            gateway.ask(HARD, reasoning_effort="minimal")
    silent = {name: Recipe(name=name, model="m") for name in EFFORTS}
    with running(policy, recipes=silent, tenant={"budget": None}) as gateway:
        headers = gateway.ask(HARD, reasoning_effort="low")[1]  # nobody says how much these reason
        assert headers["ignored"] == "reasoning_effort" and "reasoning_effort" not in gateway.fake.requests[0]


def test_recipes_by_effort():
    assert [recipe.effort for recipe in EFFORTS.values()] == ["low", "medium", "high"]
    assert EFFORTS["m/low"].extra_body == {"reasoning_effort": "low"} and EFFORTS["m/low"].limit == 64
    budgets = {"low": {"extra_body": {"thinking_token_budget": 9}, "max_tokens": 8}, "high": {}}
    own = parse_recipes({"q": {"model": "q", "extra_body": {"top_k": 3}, "efforts": budgets}})
    assert own["q/low"].extra_body == {"top_k": 3, "thinking_token_budget": 9} and own["q/low"].max_tokens == 8
    assert own["q/high"].extra_body == {"top_k": 3} and own["q/high"].effort == "high"
    assert parse_recipes({"m": {"model": "m", "extra_body": {"reasoning_effort": "low"}}})["m"].effort == "low"
    assert parse_recipes({"m": {"model": "m", "extra_body": {"reasoning_effort": 512}}})["m"].effort is None


def test_a_recipe_is_described_as_it_was_written():
    own = {"model": "m", "extra_body": {"reasoning_effort": "low"}}
    assert parse_recipes({"m": own})["m"].describe() == own  # journals that were begun go on
    both = parse_recipes({"m": {"model": "m", "efforts": {"high": {"max_tokens": 9}}}})["m/high"]
    assert both.describe() == {"model": "m", "max_tokens": 9, "effort": "high"}


def test_a_source_that_takes_two_requests_for_a_sample_is_not_served(policy):
    described = {"model": "m", "max_tokens": 64, "finish": "So ", "efforts": ["low", "medium", "high"]}
    with pytest.raises(ValueError, match="one request for a sample"):
        Core(policy, parse_recipes({"m": described}), {"default": Tenant(budget=None)}, Ledger())


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"m": {"model": "m", "efforts": []}}, "source 'm': efforts are a list of names or an object"),
        ({"m": {"model": "m", "efforts": "low"}}, "source 'm': efforts are"),
        ({"m": {"model": "m", "efforts": {"low": 512}}}, "source 'm': efforts are"),
        ({"m": {"model": "m", "efforts": ["much"]}}, "source 'm/much': an effort is one of none, minimal"),
        ({"m": {"model": "m", "efforts": {"low": {"budget": 5}}}}, "source 'm/low': unknown field 'budget'"),
        ({"m": {"model": "m", "effort": 3}}, "source 'm': an effort is one of"),
        (
            {"m/low": {"model": "m"}, "m": {"model": "m", "efforts": ["low"]}},
            "source 'm/low': there are two of that name",
        ),
        ({"m": {"model": "m", "extra_body": 3, "efforts": ["low"]}}, "extra_body is an object"),
    ],
)
def test_bad_efforts_are_named(described, said):
    with pytest.raises(ValueError, match=said):
        parse_recipes(described)
