"""Conversations: earlier messages count as much as they are told to, and a session stays where its prompt is cached while that pays."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.collect import parse_recipes
from alloc_jax.price_book import TokenPrice
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.sessions import earlier, mixed
from alloc_jax.serve.tickets import AnswerRequest, Tenant
from tests.serve.made import RECIPES, two_sources_log, two_sources_policy


def conversation(*texts, **more):
    """A question that the user asks last."""
    messages = []
    for text in texts:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "so"}]
    return AnswerRequest(**{"id": "q", "text": texts[-1], "messages": messages[:-1], **more})


def test_earlier_messages_are_bounded_and_weighted(policy):
    def core(**more):
        return Core(policy, RECIPES, {"default": Tenant(budget=3.0)}, Ledger(), **more)

    easy, hard = "1 + 2", "123456 + 654321"
    alone, before = policy.predict([easy]), policy.predict([hard])
    asked = conversation(hard, hard, easy)
    for weight in (0.0, 0.5, 1.0):
        found = core(history=1, history_weight=weight).predict(asked)
        wanted = (alone.score + weight * before.score) / (1 + weight)
        np.testing.assert_allclose(found.score, wanted, rtol=1e-5)
        np.testing.assert_allclose(found.cost, (alone.cost + weight * before.cost) / (1 + weight), rtol=1e-5)
    both = core(history=5, history_weight=0.5).predict(asked)
    np.testing.assert_allclose(both.score, (alone.score + 0.75 * before.score) / 1.75, rtol=1e-5)
    np.testing.assert_allclose(core(history=0, history_weight=0.5).predict(asked).score, alone.score)
    np.testing.assert_allclose(core(history=9, history_weight=0.5).predict(conversation(easy)).score, alone.score)
    assert earlier([{"role": "user", "content": [{"type": "text"}]}, {"role": "user", "content": "x"}], 3) == []
    np.testing.assert_allclose(mixed([alone, before], 0.0).score, alone.score)


def in_dollars(cached, warm_s=300.0, now=None):
    """A core that pays dollars for two models of the same worth and nearly the same price, and a clock."""
    log = two_sources_log()
    policy = two_sources_policy(log, "samples")
    policy = replace(policy, resource="usd", unit="usd", calibration_cost=policy.calibration_cost * 0.01)
    weights = policy.weights | {"action_cost": policy.weights["action_cost"] * np.float32([0.01, 0.0101])}
    weights["Dense_0/kernel"] = np.zeros_like(weights["Dense_0/kernel"])  # all questions are alike
    bias = weights["Dense_0/bias"].copy()
    bias[..., 0:2], bias[..., 2], bias[..., 3:] = 0.0, 0.5, 0.0
    weights["Dense_0/bias"] = bias
    rates = {"source": "a page", "date": "2026-01-01", "output": 1.0}
    prices = {name: TokenPrice(model=name, input=1.0, cached_input=cached, **rates) for name in ("small", "large")}
    recipes = parse_recipes({name: {"model": name, "max_tokens": 512} for name in prices})
    clock = now if now is not None else [0.0]
    return Core(
        replace(policy, weights=weights),
        recipes,
        {"default": Tenant(budget=None)},
        Ledger(),
        meter=Meter("usd", "usd", prices),
        warm_s=warm_s,
        clock=lambda: clock[0],
    )


def source_of(core, question, multiplier=1.0):
    core.multipliers.multiplier = lambda tenant, budget=None: multiplier
    ticket = core.admit(question)
    core.settle(ticket, 0.0, 0.0, 1, 0, 0)
    return ticket


def test_a_session_keeps_its_source_while_leaving_costs_more_than_it_gains():
    now = [0.0]
    core = in_dollars(0.1, now=now)
    first = source_of(core, conversation("1 + 1", id="a"))
    assert first.action.source == "small"  # which is cheaper by a little
    other = source_of(core, replace(conversation("1 + 1", id="b"), action="single(large)"))
    core.note(other, {"large": 50_000.0})
    warm = source_of(core, conversation("1 + 1", "2 + 2", id="c"))
    assert warm.action.source == "large"  # 0.05 dollars of prompt there, or 0.005 from its cache
    predicted = warm.decision.predicted
    assert predicted["single(large)"][1] == pytest.approx(0.0101 + 0.005, rel=1e-3)
    assert predicted["single(small)"][1] == pytest.approx(0.01 + 0.05, rel=1e-3)
    assert source_of(core, conversation("5 + 5", "2 + 2", id="d")).action.source == "small"  # another conversation
    assert source_of(core, conversation("1 + 1", "2 + 2", id="e", tenant="default")).action.source == "large"
    now[0] = 301.0
    assert source_of(core, conversation("1 + 1", "2 + 2", id="f")).action.source == "small"  # it has gone cold


@pytest.mark.parametrize(
    ("cached", "warm_s", "tokens"), [(None, 300.0, 50_000.0), (0.1, 0.0, 50_000.0), (0.1, 300.0, 900.0)]
)
def test_a_session_leaves_where_nothing_is_saved_by_staying(cached, warm_s, tokens):
    core = in_dollars(cached, warm_s)
    first = source_of(core, replace(conversation("1 + 1", id="a"), action="single(large)"))
    core.note(first, {"large": tokens})
    assert source_of(core, conversation("1 + 1", "2 + 2", id="b")).action.source == "small"


def test_a_client_may_name_its_session():
    core = in_dollars(0.1)
    named = {"extra": {"prompt_cache_key": "s1"}}
    first = source_of(core, replace(conversation("1 + 1", id="a"), action="single(large)", **named))
    core.note(first, {"large": 50_000.0})
    assert source_of(core, conversation("9 + 9", id="b", **named)).action.source == "large"
    assert source_of(core, conversation("1 + 1", id="c")).action.source == "small"
