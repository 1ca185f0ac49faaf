"""Backward induction against every stopping rule there is, and what indices must satisfy."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.stopping.induction import FOLLOW, best_at, indices, multiplier_grid, root_values, totals
from alloc_jax.stopping.priors import beta_model
from alloc_jax.stopping.rules import adjacent
from alloc_jax.stopping.sequential import MULTIPLIERS, useful
from alloc_jax.stopping.states import Lattice, StateModel, waves
from alloc_jax.stopping.thresholds import IndexRules
from tests.precision import double_precision


def frontier_of_model(model: StateModel, share: np.ndarray, points: int = MULTIPLIERS) -> tuple[np.ndarray, IndexRules]:
    """The indices f[G, T, J] of a model's states, and the rules they hold with what the model expects them to spend and earn.

    Args:
      model: whose layers are small: every distinct index is one evaluation of the model.
      share: f[G] of the questions in each context.
      points: multipliers at which the best rules are looked at.
    """
    index = indices(model, multiplier_grid(model, points))
    multiplier = np.unique(np.append(np.asarray(index), np.inf))[::-1]
    multiplier = np.append(multiplier[multiplier > 0], np.float32(0) if not (multiplier > 0).any() else [])
    utility, cost = (
        np.asarray(x, float) @ np.asarray(share, float) for x in totals(model, index, jnp.asarray(multiplier))
    )
    return np.asarray(index), IndexRules(multiplier.astype(float), cost, utility)


def made_model(answer="vote", cap=5, contexts=1, seed=0, wave=1) -> StateModel:
    rng = np.random.default_rng(seed)
    lattice = Lattice.of(answer, cap)
    ways = lattice.successor.shape[1]
    chance = rng.dirichlet(np.ones(ways), (contexts, cap, lattice.states))
    if answer == "vote":  # the first answer leads, the runner-up never overtakes, a second answer is a runner-up
        lead, chase = np.divmod(np.arange(lattice.states), lattice.width)
        chance *= np.stack([np.ones(len(lead)), chase < lead, chase > 0], axis=1)
        chance /= chance.sum(axis=-1, keepdims=True)
    return StateModel(
        stop=rng.random((contexts, cap + 1, lattice.states)),
        chance=chance,
        cost=rng.uniform(0.5, 2, (contexts, cap, lattice.states)),
        successor=lattice.successor,
        may_stop=waves(cap, wave, None)[1],
    )


def reachable(model: StateModel) -> list[tuple[int, int]]:
    """(layer, state) of the states a question can come to and a rule may stop in."""
    cap = model.cost.shape[1]
    found, layer = [], {0}
    for n in range(cap):
        found += [(n, j) for j in sorted(layer) if model.may_stop[n]]
        layer = {int(k) for j in layer for k in model.successor[j][model.chance[0, n, j] > 0]}
    return found


def every_rule(model: StateModel) -> tuple[np.ndarray, np.ndarray]:
    """Utility and cost f[rules] of one context under every stopping rule, by plain recursion over the paths."""
    where = reachable(model)
    rules = np.array(list(product([False, True], repeat=len(where))))
    draws = {place: rules[:, k] for k, place in enumerate(where)}
    cap = model.cost.shape[1]

    def value(n, j):
        stop = np.full(len(rules), model.stop[0, n, j])
        if n == cap:
            return stop, np.zeros(len(rules))
        utility, cost = np.zeros(len(rules)), np.full(len(rules), model.cost[0, n, j])
        for k, after in enumerate(model.successor[j]):
            if model.chance[0, n, j, k] == 0:
                continue
            u, c = memo(n + 1, int(after))
            utility = utility + model.chance[0, n, j, k] * u
            cost = cost + model.chance[0, n, j, k] * c
        draw = draws.get((n, j), np.ones(len(rules), bool))
        return np.where(draw, utility, stop), np.where(draw, cost, 0)

    known = {}

    def memo(n, j):
        if (n, j) not in known:
            known[n, j] = value(n, j)
        return known[n, j]

    return memo(0, 0)


def best_mix(utility, cost, budget) -> float:
    """The most that a mix of rules earns within a budget: over all pairs of rules on the upper hull."""
    order = np.lexsort((-utility, cost))
    hull = []
    for i in order:
        if hull and utility[i] <= utility[hull[-1]]:
            continue
        while len(hull) >= 2 and (utility[i] - utility[hull[-2]]) * (cost[hull[-1]] - cost[hull[-2]]) >= (
            utility[hull[-1]] - utility[hull[-2]]
        ) * (cost[i] - cost[hull[-2]]):
            hull.pop()
        hull.append(i)
    return np.interp(budget, cost[hull], utility[hull])


def utility_at(rules: IndexRules, budget) -> float:
    less, more, weight = adjacent(rules.spend, budget)
    return (1 - weight) * rules.utility[less] + weight * rules.utility[more]


@pytest.mark.parametrize(
    ("answer", "cap", "wave"), [("verified", 6, 1), ("verified", 6, 2), ("vote", 5, 1), ("vote", 6, 2)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_mix_of_any_stopping_rules_earns_more(answer, cap, wave, seed):
    model = made_model(answer, cap, seed=seed, wave=wave)
    utility, cost = every_rule(model)
    with double_precision():
        _, rules = frontier_of_model(model, np.ones(1), points=4000)
    rules = useful(rules)
    for budget in np.linspace(rules.spend[0], rules.spend[-1], 23):
        assert utility_at(rules, budget) == pytest.approx(best_mix(utility, cost, budget), abs=1e-6)


def test_one_multiplier_gives_the_best_of_every_rule():
    model = made_model("vote", 5, seed=3)
    utility, cost = every_rule(model)
    for multiplier in (0.0, 0.02, 0.1, 0.5):
        found, spent = root_values(model, jnp.float32([multiplier]))
        assert float(found[0, 0] - multiplier * spent[0, 0]) == pytest.approx(
            (utility - multiplier * cost).max(), abs=1e-6
        )


def test_draws_while_the_index_is_above_the_multiplier():
    model = made_model("vote", 8, contexts=2, seed=4)
    index = np.asarray(indices(model, multiplier_grid(model, 512)))
    for multiplier in (0.01, 0.05, 0.2):
        _, _, gain, extra = best_at(model, jnp.float32(multiplier))
        clear = np.abs(index - multiplier) > 1e-3 * multiplier
        draws = np.asarray(gain > multiplier * extra)
        assert ((index > multiplier) == draws)[clear & np.asarray(model.may_stop)[None, :, None]].all()


def test_spend_and_utility_rise_as_the_multiplier_falls():
    _, rules = frontier_of_model(made_model("vote", 6, contexts=3, seed=5), np.ones(3) / 3)
    rules = useful(rules)
    assert (np.diff(rules.multiplier) < 0).all()
    assert (np.diff(rules.spend) >= -1e-6).all()
    assert (np.diff(rules.utility) >= -1e-6).all()


def test_contexts_share_one_multiplier_and_more_contexts_never_earn_less():
    two = made_model("verified", 6, contexts=2, seed=6)
    parts = [jax.tree.map(lambda x, g=g: x[g : g + 1] if np.ndim(x) > 2 else x, two) for g in range(2)]
    both = useful(frontier_of_model(two, np.ones(2) / 2, points=1000)[1])
    alone = [useful(frontier_of_model(part, np.ones(1), points=1000)[1]) for part in parts]
    budget = 2.0
    apart = np.mean([utility_at(rules, max(budget, rules.spend[0])) for rules in alone])
    assert utility_at(both, budget) >= apart - 1e-6


def test_myopic_and_patient_rules_never_beat_the_best():
    model = made_model("vote", 8, seed=7)
    best, myopic, patient = (np.asarray(indices(model, multiplier_grid(model, 256), follow)) for follow in FOLLOW)
    inside = np.asarray(model.may_stop)[None, :, None] & (best > 0)  # below, no rule's multiplier lies
    assert (myopic[inside] <= best[inside] + 1e-6).all()
    assert (patient[inside] <= best[inside] + 1e-5).all()
    assert (myopic[inside] < best[inside] - 1e-3).any()
    assert (patient[inside] < best[inside] - 1e-3).any()


def test_the_last_draw_is_myopic_whatever_follows():
    model = made_model("vote", 6, seed=8)
    last = [np.asarray(indices(model, multiplier_grid(model, 32), follow))[0, -1] for follow in FOLLOW]
    np.testing.assert_allclose(last[0], last[1], rtol=1e-5)
    np.testing.assert_allclose(last[0], last[2], rtol=1e-5)


def test_the_model_expects_of_rules_what_walks_through_it_show():
    model = made_model("vote", 6, seed=12)
    index = np.asarray(indices(model, multiplier_grid(model, 64)))
    multiplier = 0.5 * float(
        index[0, 1, Lattice.of("vote", 6).number(np.int64(1), np.int64(0))]
    )  # draws a second sample
    assert multiplier > 0
    utility, cost = (float(x[0, 0]) for x in totals(model, index, jnp.float32([multiplier])))
    rng = np.random.default_rng(0)
    walks, earned, spent = 20000, np.zeros(20000), np.zeros(20000)
    state, walking = np.zeros(walks, int), np.ones(walks, bool)
    for n in range(6):
        walking &= index[0, n, state] >= multiplier
        way = (rng.random(walks)[:, None] > np.cumsum(model.chance[0, n, state], axis=1)).sum(axis=1)
        spent += np.where(walking, model.cost[0, n, state], 0)
        state = np.where(walking, model.successor[state, np.minimum(way, 2)], state)
        earned = np.where(walking, model.stop[0, n + 1, state], earned)
    assert earned.mean() == pytest.approx(utility, abs=4 * earned.std() / walks**0.5)
    assert spent.mean() == pytest.approx(cost, abs=4 * spent.std() / walks**0.5)


def test_a_verifier_with_a_beta_prior_gives_up_on_those_that_fail_on():
    model = beta_model(np.float32([0.5, 4.0]), np.float32([1.5, 1.0]), cap=16)
    index = np.asarray(indices(model, multiplier_grid(model, 128)))[:, 1:, 0]
    assert (np.diff(index, axis=1) < 0).all()  # every failure is bad news
    assert (index[1] > index[0]).all()  # and an easy question is worth more samples
    myopic = np.float32([0.5 / (2 + n) for n in range(1, 16)])
    np.testing.assert_allclose(index[0], myopic, rtol=1e-4)  # chances fall, so that one look ahead is enough


def test_improper_priors_are_refused():
    with pytest.raises(ValueError, match="proper Beta prior"):
        beta_model(np.float32([0.0]), np.float32([1.0]), cap=4)
    with pytest.raises(ValueError, match="proper Beta prior"):
        beta_model(np.float32([np.inf]), np.float32([1.0]), cap=4)


def test_shapes_that_do_not_fit_are_refused():
    model = made_model()
    with pytest.raises(ValueError, match="a state model's arrays are"):
        StateModel(model.stop[:, 1:], model.chance, model.cost, model.successor, model.may_stop)
