"""The rule for boxes against every way of opening them, and what rewards say against logs whose truth is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from alloc_jax.stopping.pandora import fit_verdicts, load_verdicts, reservation_value, search_boxes
from tests.serve.made import sums_log


def boxes(seed, many=3, values=3):
    rng = np.random.default_rng(seed)
    chance = rng.dirichlet(np.ones(values), many)
    return rng.random((many, values)).round(1), chance, rng.uniform(0, 0.4, many)


def best_by_enumeration(prizes, chance, price, in_hand):
    """The most that any way of opening boxes earns, after its prices."""

    @cache
    def worth(left, best):
        def after(box):
            rest = tuple(other for other in left if other != box)
            drawn = zip(prizes[box], chance[box], strict=True)
            return sum(p * worth(rest, max(best, float(v))) for v, p in drawn) - price[box]

        return max([best, *map(after, left)])

    return worth(tuple(range(len(price))), in_hand)


@pytest.mark.parametrize("seed", range(20))
def test_the_rule_earns_what_the_best_of_all_ways_earns(seed):
    prizes, chance, cost = boxes(seed, many=1 + seed % 4)
    for multiplier in (0.0, 0.3, 1.0, 5.0):
        for in_hand in (0.0, 0.45):
            found = search_boxes(prizes, chance, cost, multiplier, in_hand)
            best = best_by_enumeration(prizes, chance, multiplier * cost, in_hand)
            np.testing.assert_allclose(found.utility - multiplier * found.spend, best, atol=1e-12)
            assert (np.diff(found.reservation[found.order]) <= 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_reservation_value_solves_its_equation(seed):
    prizes, chance, cost = boxes(seed, many=5, values=6)
    z = reservation_value(prizes, chance, cost)
    np.testing.assert_allclose((chance * np.maximum(prizes - z[:, None], 0)).sum(axis=1), cost, atol=1e-12)
    free = reservation_value(prizes, chance, 0.0)
    np.testing.assert_allclose(free, prizes.max(axis=1), rtol=1e-12)
    assert (free <= prizes.max(axis=1)).all()


def test_what_is_opened_is_what_a_simulation_opens():
    prizes, chance, cost = boxes(3, many=4)
    found, rng = search_boxes(prizes, chance, cost, 0.5, 0.1), np.random.default_rng(0)
    opened, best = np.zeros(4), np.full(20000, 0.1)
    for box in found.order:
        drawn = rng.choice(prizes[box], 20000, p=chance[box])
        goes = best < found.reservation[box]
        opened[box] = goes.mean()
        best = np.where(goes, np.maximum(best, drawn), best)
    np.testing.assert_allclose(opened, found.opened, atol=0.02)
    np.testing.assert_allclose(best.mean(), found.utility, atol=0.01)


def test_a_higher_multiplier_opens_no_more():
    prizes, chance, cost = boxes(5, many=4)
    spends = [search_boxes(prizes, chance, cost, multiplier).spend for multiplier in np.linspace(0, 4, 30)]
    assert (np.diff(spends) <= 1e-12).all() and spends[0] > spends[-1]


def rewarded_log(noise):
    rng, log = np.random.default_rng(0), sums_log(600, samples=8)
    truth = rng.random(log.correct.shape)
    right = rng.random(log.correct.shape) < truth**2  # the chance rises with the truth, but not as that itself
    reward = (truth + noise * rng.standard_normal(truth.shape)).astype(np.float32)
    return replace(log, correct=right, reward=reward)


def test_rewards_are_read_as_chances_that_rise(tmp_path):
    log = rewarded_log(0.0)
    fitted = fit_verdicts(log)
    fitted.save(tmp_path)
    verdicts = load_verdicts(tmp_path)
    assert verdicts.sources == ("m",) and (np.diff(verdicts.right) >= 0).all()
    np.testing.assert_allclose(verdicts.chance.sum(axis=1), 1)
    read = [verdicts.prize("m", x) for x in (0.2, 0.5, 0.9)]
    np.testing.assert_allclose(read, np.array([0.2, 0.5, 0.9]) ** 2, atol=0.06)
    np.testing.assert_allclose((verdicts.right * verdicts.chance).sum(), log.correct.mean(), atol=1e-6)


def test_a_reward_that_says_nothing_is_read_as_nothing():
    log = rewarded_log(100.0)
    verdicts = fit_verdicts(log)
    assert np.ptp(verdicts.right) < 0.15
    with pytest.raises(ValueError, match="source 'm' has no rewards"):
        fit_verdicts(sums_log(5))
