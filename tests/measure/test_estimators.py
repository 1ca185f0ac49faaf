"""Every estimator is the mean over all draws, and what it earns with each sample."""

import numpy as np
import pytest

from alloc_jax.actions import Action
from alloc_jax.measure.estimators import weighted_votes
from alloc_jax.measure.estimators.choice import estimate_actions, rule_of
from tests.measure.rules import average, orders, pair_at, random_pairs, resamples, subsets

RULES = (
    "vote",
    "vote/abstain",
    "weighted_vote",
    "weighted_vote/abstain",
    "best_of",
    "passes",
    "unanimous",
)


def action(rule: str, k: int) -> Action:
    name, _, ties = rule.partition("/")
    return Action("s", k, name, ties or "uniform")


@pytest.fixture
def only_enumeration(monkeypatch):
    """Weighted votes are enumerated even where the grid of their rewards takes less."""
    monkeypatch.setattr(weighted_votes, "MOST_FLOATS", 0)


@pytest.fixture
def no_enumeration(monkeypatch):
    """Weighted votes are summed on the grid of their rewards even where few subsets could be enumerated."""
    monkeypatch.setattr(weighted_votes, "MOST_SUBSETS", 0)


def assert_equals_enumeration(rule, pairs, sizes):
    parts = rule_of(action(rule, 2))(pairs, sizes, False)
    n = int(pairs.count[0])
    for i in range(len(pairs.answer)):
        for k, part in zip(sizes, parts, strict=True):
            mean, each = average(rule, pair_at(pairs, i), subsets(n, k))
            assert part.mean[i] == pytest.approx(float(mean), abs=3e-6)
            np.testing.assert_allclose(part.drawn[i], [float(x) for x in each], atol=5e-6)


@pytest.mark.parametrize("rule", RULES)
def test_equals_enumeration_over_all_subsets(rule, only_enumeration):
    assert_equals_enumeration(rule, random_pairs(25, 6, seed=0), (2, 3, 5, 6))


@pytest.mark.parametrize("rule", [rule for rule in RULES if "weighted" in rule])
def test_rewards_on_a_grid_equal_enumeration(rule, no_enumeration):
    assert_equals_enumeration(rule, random_pairs(25, 6, seed=0), (3, 6))


@pytest.mark.parametrize("rule", RULES)
def test_where_graders_disagree_on_an_answer_it_is_worth_its_mean(rule):
    pairs = random_pairs(25, 6, seed=3, disagree=0.3)
    (part,) = rule_of(action(rule, 3))(pairs, (3,), False)
    for i in range(len(pairs.answer)):
        mean, _ = average(rule, pair_at(pairs, i), subsets(6, 3))
        assert part.mean[i] == pytest.approx(float(mean), abs=3e-6)
    np.testing.assert_allclose(part.drawn.sum(axis=1), 3 * part.mean, atol=1e-5)  # the samples of a draw are its own


@pytest.mark.parametrize("rule", [*RULES, "weighted_vote/first"])
def test_draws_with_replacement_equal_enumeration(rule):
    pairs = random_pairs(12, 4, seed=1)
    (part,) = rule_of(action(rule, 4))(pairs, (4,), True)
    for i in range(len(pairs.answer)):
        mean, each = average(rule, pair_at(pairs, i), resamples(4, 4))
        assert part.mean[i] == pytest.approx(float(mean), abs=3e-6)
        np.testing.assert_allclose(part.drawn[i], [float(x) for x in each], atol=5e-6)


@pytest.mark.parametrize("name", ["vote", "weighted_vote"])
@pytest.mark.parametrize("way", ["enumerated", "on the grid"])
def test_the_tied_answer_drawn_first_is_found_over_all_orders(name, way, monkeypatch):
    monkeypatch.setattr(weighted_votes, *(("MOST_FLOATS", 0) if way == "enumerated" else ("MOST_SUBSETS", 0)))
    pairs = random_pairs(20, 5, seed=2)
    uniform, first = estimate_actions(pairs, [action(name, 4), action(f"{name}/first", 4)])
    for i in range(len(pairs.answer)):
        mean, _ = average(f"{name}/first", pair_at(pairs, i), orders(5, 4))
        assert first.mean[i] == pytest.approx(float(mean), abs=3e-6)
    # Equal counts are first equally often; equal sums of rewards may be of more and of fewer samples.
    assert np.array_equal(first.mean, uniform.mean) == (name == "vote")
