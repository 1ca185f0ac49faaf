"""Without a policy: the uniform mix at first, then what the traffic has told."""

import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.collect import parse_recipes
from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.planning.voting import Verdict
from alloc_jax.serve.start.cold import cold_policy, greater_part
from alloc_jax.serve.tickets import AnswerRequest, Tenant
from tests.serve.made import ACTIONS, RECIPES
from tests.serve.running import running

TWO = [aj.vote("weak", 1), aj.vote("weak", 4), aj.vote("strong", 1), aj.vote("strong", 4)]


def stream(policy, recipes, budget, questions, draw, resource="samples", seed=0):
    """Runs questions through a core: the actions, and what they cost."""
    core, rng = Core(policy, recipes, {"default": Tenant(budget=budget)}, Ledger()), np.random.default_rng(seed)
    actions, costs = [], []
    for j in range(questions):
        ticket = core.admit(AnswerRequest(id=f"{j}", text=f"question {j}"))
        share, cost = draw(rng, ticket.action)
        core.settle(ticket, cost, cost, ticket.action.samples, 0, 0)
        core.learn(ticket, ticket.action.samples, Verdict(0, share, 1), cost)
        actions.append(ticket.action.name)
        costs.append(cost)
    return actions, np.array(costs)


def agreement(rng, chance, samples):
    counts = np.bincount(np.where(rng.random(samples) < chance, 0, rng.integers(1, 9, samples)))
    return counts.max() / samples


@pytest.mark.parametrize("budget", [1.5, 3.0, 6.0])
def test_it_begins_with_the_uniform_mix_and_keeps_the_budget(budget):
    policy = cold_policy(ACTIONS, "samples", "samples", 1.0)
    actions, costs = stream(policy, RECIPES, budget, 400, lambda rng, a: (0.0, float(a.samples)))
    assert costs.mean() == pytest.approx(budget, rel=0.05)
    drawn = sorted(action.samples for action in ACTIONS)
    below, above = max(k for k in drawn if k <= budget), min(k for k in drawn if k >= budget)
    used = {name for name in actions[50:]}
    assert used <= {f"vote(m,{below})", f"vote(m,{above})"}


def test_it_learns_what_actions_cost_and_which_source_agrees_with_itself():
    policy = cold_policy(TWO, "tokens", "prompt + completion tokens", 10.0)
    recipes = parse_recipes({name: {"model": name, "max_tokens": 64} for name in ("weak", "strong")})

    def draw(rng, action):
        strong = action.source == "strong"
        return agreement(rng, 0.95 if strong else 0.3, action.samples), action.samples * (40.0 if strong else 20.0)

    before = policy.predict(["x"])
    actions, costs = stream(policy, recipes, 160.0, 600, draw)
    after = policy.predict(["x", "y"])
    assert before.cost[0].tolist() == [10, 40, 10, 40] and (after.score[0] == after.score[1]).all()
    np.testing.assert_allclose(after.cost[0, 2:], [40, 160], rtol=1e-5)
    assert after.score[0, 3] > 0.9 and costs[300:].mean() <= 160 * 1.02
    assert actions[-100:].count("vote(strong,4)") > 80


def test_the_gateway_serves_and_learns_without_a_policy():
    policy = cold_policy(ACTIONS, "samples", "samples", 1.0)
    with running(policy) as gateway:
        for _ in range(6):
            assert gateway.ask("1 + 2")[1]["policy"] == "cold"
        assert policy.learned.samples["m"] == gateway.settled(6)["samples"] and policy.learned.seen.sum() > 0


def test_what_cannot_be_begun_with_is_told():
    with pytest.raises(ValueError, match=r"votes and single samples alone, got unanimous\(m,2\)"):
        cold_policy([aj.unanimous("m", 2)], "samples", "samples", 1.0)
    with pytest.raises(ValueError, match="say --actions"):
        cold_policy([], "samples", "samples", 1.0)


def test_the_greater_part_is_the_majoritys_chance():
    rng = np.random.default_rng(0)
    for samples in (1, 2, 5, 8):
        right = (rng.random((40000, samples)) < 0.7).sum(axis=1)
        wanted = np.mean(right > samples / 2) + np.mean(right == samples / 2) / 2
        assert greater_part(0.7, samples) == pytest.approx(wanted, abs=0.01)
