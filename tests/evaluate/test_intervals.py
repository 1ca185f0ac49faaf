"""Intervals of means, of the largest of several, and of a ratio; the oracle's multiplier in every resample."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from alloc_jax.evaluate import intervals, oracle_intervals as resolving
from alloc_jax.evaluate.intervals import Bootstrap, Interval, Largest
from alloc_jax.evaluate.oracle_intervals import resolved
from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.evaluate.uniform_mix import UniformMix
from alloc_jax.measure import measure, menu
from alloc_jax.solve import solve
from alloc_jax.solve.envelope import mixed_plan
from tests.conftest import made_log


def resampled(values: np.ndarray, seed: int = 0, replicates: int = 400) -> np.ndarray:
    return Bootstrap(len(values), replicates, seed).mean(values)


def ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def test_one_mean_that_is_clearly_the_largest_has_the_percentile_interval():
    means = resampled(np.random.default_rng(0).normal((0, 5, 0), size=(100, 3)))
    found = Largest.of(means)
    assert found.means.shape[1] == 1
    np.testing.assert_allclose(ends(found.interval), ends(Bootstrap.interval(means[:, 1])))
    other = Largest.of(means[:, :1])
    np.testing.assert_allclose(ends(found.minus(other)), ends(Bootstrap.interval(means[:, 1] - means[:, 0])))


@pytest.mark.long
@pytest.mark.parametrize("behind", [0.0, 0.1, 0.3])
def test_the_largest_of_two_means_is_covered_wherever_they_lie(behind):
    rng, missed = np.random.default_rng(1), np.zeros(2)
    for seed in range(300):
        means = resampled(rng.normal(size=(100, 2)) * [1.0, 3.0] - [0, behind], seed, 200)
        interval = Largest.of(means).interval
        missed += interval.low > 0, interval.high < 0
    assert (missed / 300 < 0.05).all() and missed.sum() / 300 < 0.08
    if behind == 0.0:  # the plain percentile interval misses on one side
        rng = np.random.default_rng(1)
        plain = [
            Bootstrap.interval(resampled(rng.normal(size=(100, 2)), s, 200).max(axis=1)).low > 0 for s in range(300)
        ]
        assert np.mean(plain) > 0.06


def test_a_ratio_is_fiellers_and_drops_no_resample():
    rng = np.random.default_rng(2)
    means = resampled(rng.normal((0.3, 0.6), size=(200, 2)))
    part, whole = Largest.of(means[:, :1]), Largest.of(means[:, 1:])
    share = part.over(whole)
    assert share.low < share.value < share.high
    assert part.minus(whole, share.low - 1e-3).low > 0 >= part.minus(whole, share.low + 1e-3).low
    assert part.minus(whole, share.high + 1e-3).high < 0 <= part.minus(whole, share.high - 1e-3).high
    same = whole.over(whole)
    np.testing.assert_allclose(ends(same), (1, 1, 1), atol=1e-3)
    below = Largest(-part.means)
    np.testing.assert_allclose(ends(below.over(whole)), [-share.value, -share.high, -share.low], atol=1e-3)


def test_a_share_of_what_is_inside_its_own_noise_is_not_told():
    means = resampled(np.random.default_rng(3).normal((0.3, 0.05), size=(200, 2)))
    share = Largest.of(means[:, :1]).over(Largest.of(means[:, 1:]))
    assert np.isnan(ends(share)).all() and f"{share:+.1f}" == "n/a"


@pytest.fixture(scope="module")
def halves():
    log = made_log(questions=120, samples=32)
    return [measure(half, menu(log, votes=(1, 4)), "compute") for half in log.split_samples(1)]


def test_the_oracle_meets_its_budget_in_every_resample_and_is_the_mixed_plan_on_the_sample(halves):
    choose, score = halves
    bootstrap, budgets = Bootstrap(len(choose), 200, 0), (0.6, 1.5)
    utility, spend = resolved(choose, score, budgets, bootstrap)
    for b, budget in enumerate(budgets):
        plan = mixed_plan(jax.device_get(solve(choose.problem(), budget)), len(choose.actions), np)
        np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-6)
        assert Outcome.of(plan, choose).cost.mean() == pytest.approx(budget, rel=1e-5)
        found = Outcome.of(plan, score)
        assert (utility[b, 0], spend[b, 0]) == pytest.approx((found.utility.mean(), found.cost.mean()), abs=1e-3)
        interval = Bootstrap.interval(spend[b])
        frozen = Bootstrap.interval(bootstrap.mean(found.cost))
        assert interval.high - interval.low < 0.2 * (frozen.high - frozen.low)
    itself = resolved(choose, choose, budgets, bootstrap)[1]
    np.testing.assert_allclose(itself, np.repeat([[0.6], [1.5]], 201, axis=1), rtol=1e-6)


@pytest.mark.parametrize("reach", [6.0, 0.5])
def test_a_resample_is_solved_as_a_table_of_its_own_would_be(halves, reach, monkeypatch):
    monkeypatch.setattr(resolving, "REACH", reach)  # so short a reach leaves resamples whose budget is met elsewhere
    choose, score = halves
    bootstrap = Bootstrap(len(choose), 3, 5)
    (weights,) = bootstrap.weights()
    utility, spend = resolved(choose, score, (0.9,), bootstrap)
    for r in (1, 2, 3):
        rows = np.repeat(np.arange(len(choose)), np.rint(weights[r] * len(choose)).astype(int))
        again, scored = choose.select(rows), score.select(rows)
        found = Outcome.of(mixed_plan(jax.device_get(solve(again.problem(), 0.9)), len(choose.actions), np), scored)
        assert (utility[0, r], spend[0, r]) == pytest.approx((found.utility.mean(), found.cost.mean()), abs=0.01)


def test_many_questions_are_resampled_by_poisson_counts_a_few_replicates_at_a_time(halves, monkeypatch):
    choose, score = halves
    values = np.random.default_rng(4).normal(size=(len(choose), 3)) * [1, 5, 0]
    drawn = Bootstrap(len(choose), 4000, 0).mean(values)
    monkeypatch.setattr(intervals, "KEPT", 0)
    monkeypatch.setattr(intervals, "DRAWN", 7 * len(choose))
    bootstrap = Bootstrap(len(choose), 4000, 0)
    found = bootstrap.mean(values)
    assert len(found) == 4001 and max(map(len, bootstrap.weights())) == 7
    np.testing.assert_array_equal(found, bootstrap.mean(values))  # the same resamples in every pass
    np.testing.assert_allclose(found[0], values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found[1:].std(axis=0), drawn[1:].std(axis=0), rtol=0.05)
    np.testing.assert_allclose(found[1:].mean(axis=0), values.mean(axis=0), atol=0.03)
    each = bootstrap.means({"first": values[:, 0], "others": values[:, 1:]})
    np.testing.assert_allclose(np.column_stack([each["first"], each["others"]]), found, atol=1e-12)
    utility, spend = resolved(choose, score, (0.6, 1.5), Bootstrap(len(choose), 30, 0))
    assert np.isfinite(utility).all() and (spend[:, 1:].std(axis=1) > 0).all()
    met = resolved(choose, choose, (0.6, 1.5), Bootstrap(len(choose), 30, 0))[1]
    np.testing.assert_allclose(met, np.repeat([[0.6], [1.5]], 31, axis=1), rtol=1e-6)


def test_poisson_counts_have_mean_and_variance_one():
    assert abs(intervals.POISSON.mean() - 1) < 1e-4 and abs(intervals.POISSON.var() - 1) < 1e-3


def test_the_uniform_mix_spends_no_more_than_its_dearest_action_and_no_less_than_its_cheapest(halves):
    score = halves[1]
    mix = UniformMix(score, Bootstrap(len(score), 50, 0))
    cost = score.cost.mean(axis=0, dtype=float)
    dearest = cost[mix.actions[-1]]
    assert mix.spend(50.0).value == pytest.approx(dearest, rel=1e-6) and mix.spend(50.0).low < dearest
    assert ends(mix.spend(0.9)) == (0.9, 0.9, 0.9)
    assert mix.accuracy(50.0).value == pytest.approx(score.utility.mean(axis=0).max(), rel=1e-6)
    below = 0.9 * cost.min()
    assert np.isnan([mix.spend(below).value, mix.accuracy(below).value]).all()


def test_a_saving_is_what_the_uniform_mix_would_have_spent_more(halves):
    score = halves[1]
    bootstrap = Bootstrap(len(score), 200, 0)
    mix = UniformMix(score, bootstrap)
    spend = np.full(201, 0.9)
    utility = mix.utility(spend)
    nothing = mix.saving(utility, spend)
    assert nothing.value == pytest.approx(0, abs=1e-6) and nothing.low <= 1e-6 and nothing.high >= -1e-6
    assert mix.saving(utility, 0.75 * spend).value == pytest.approx(0.25, abs=1e-6)
    assert np.isnan(mix.saving(utility + 1, spend).value)  # no mix of fixed actions is so accurate
    assert np.isnan(mix.saving(utility - 1, spend).value)  # and none so inaccurate


def test_few_questions_whose_resamples_turn_the_hull_around_still_have_an_interval():
    log = made_log(questions=12, samples=8)
    score = measure(log, menu(log, votes=(1, 4)), "samples")
    mix = UniformMix(score, Bootstrap(12, 200, 0))
    spend = np.full(201, 1.5)
    saved = mix.saving(mix.utility(spend) - 0.02, spend)
    assert saved.low <= saved.value < 0 and np.isfinite(ends(saved)).all()


def test_actions_whose_costs_differ_by_rounding_are_one_place_on_the_hull():
    log = made_log(questions=40, samples=8)
    log = replace(log, completion_tokens=np.full_like(log.completion_tokens, 0.1))
    score = measure(log, menu(log, votes=(1, 4)), "tokens")
    score = replace(score, cost=score.cost * np.float32([1, 1, 1 + 1e-7, 1]))
    mix = UniformMix(score, Bootstrap(40, 100, 0))
    assert [score.actions[k].source for k in mix.actions] == ["large", "large"]
    found = mix.excess(mix.utility(np.full(101, 0.25)), np.full(101, 0.25)).interval
    assert np.isfinite(ends(found)).all()


def test_two_cheap_actions_of_nearly_one_cost_say_nothing_of_the_mix_far_from_them():
    log = made_log(questions=400, samples=8)
    score = measure(log, menu(log, votes=(1, 4)), "samples")
    rng = np.random.default_rng(0)
    right, cost = np.array([0.5, 0.52, 0.6, 0.7]), np.float32([1.0, 1.02, 10.0, 30.0])
    utility = (rng.random((400, 4)) < right).astype(np.float32)
    utility = utility - utility.mean(axis=0) + np.float32(right)  # the hull holds all four
    mix = UniformMix(replace(score, utility=utility, cost=np.broadcast_to(cost, (400, 4))), Bootstrap(400, 300, 0))
    assert len(mix.actions) == 4
    accuracy = mix.accuracy(20.0)
    assert accuracy.value == pytest.approx(0.65, abs=1e-5) and accuracy.high - accuracy.low < 0.12
    saved = mix.saving(np.full(301, 0.65), np.full(301, 10.0))
    assert saved.value == pytest.approx(0.5, abs=1e-4) and saved.low > -0.1 and saved.high < 1
