"""Every estimator is the mean over all draws, and what it earns with each sample."""

import numpy as np
import pytest

from alloc_jax.actions import Action
from alloc_jax.measure import weighted
from alloc_jax.measure.estimators import estimate_actions, rule_of
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


@pytest.fixture(params=["enumerated", "on the grid"])
def weighted_way(request, monkeypatch):
    if request.param == "on the grid":
        monkeypatch.setattr(weighted, "MOST_SUBSETS", 0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("disagree", [0.0, 0.3])
def test_equals_enumeration_over_all_subsets(rule, disagree, weighted_way):
    pairs = random_pairs(25, 6, seed=0, disagree=disagree)
    sizes = (2, 3, 5, 6)
    parts = rule_of(action(rule, 2))(pairs, sizes, False)
    for i in range(len(pairs.answer)):
        for k, part in zip(sizes, parts, strict=True):
            mean, each = average(rule, pair_at(pairs, i), subsets(6, k))
            assert part.mean[i] == pytest.approx(float(mean), abs=3e-6)
            if not disagree:
                np.testing.assert_allclose(part.drawn[i], [float(x) for x in each], atol=5e-6)


@pytest.mark.parametrize("rule", RULES)
def test_draws_with_replacement_equal_enumeration(rule):
    pairs = random_pairs(12, 4, seed=1)
    (part,) = rule_of(action(rule, 4))(pairs, (4,), True)
    for i in range(len(pairs.answer)):
        mean, each = average(rule, pair_at(pairs, i), resamples(4, 4))
        assert part.mean[i] == pytest.approx(float(mean), abs=3e-6)
        np.testing.assert_allclose(part.drawn[i], [float(x) for x in each], atol=5e-6)


@pytest.mark.parametrize("name", ["vote", "weighted_vote"])
def test_the_tied_answer_drawn_first_is_found_over_all_orders(name, weighted_way):
    pairs = random_pairs(20, 5, seed=2)
    uniform, first = estimate_actions(pairs, [action(name, 4), action(f"{name}/first", 4)])
    for i in range(len(pairs.answer)):
        mean, _ = average(f"{name}/first", pair_at(pairs, i), orders(5, 4))
        assert first.mean[i] == pytest.approx(float(mean), abs=3e-6)
    # Equal counts are first equally often; equal sums of rewards may be of more and of fewer samples.
    assert np.array_equal(first.mean, uniform.mean) == (name == "vote")


def test_first_drawn_with_replacement_equals_enumeration():
    pairs = random_pairs(8, 4, seed=1)
    (part,) = rule_of(action("weighted_vote/first", 4))(pairs, (4,), True)
    for i in range(len(pairs.answer)):
        mean, each = average("weighted_vote/first", pair_at(pairs, i), resamples(4, 4))
        assert part.mean[i] == pytest.approx(float(mean), abs=3e-6)
        np.testing.assert_allclose(part.drawn[i], [float(x) for x in each], atol=5e-6)
