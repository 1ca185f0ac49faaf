"""The nearest of points: exactly where they are few, nearly where they are many, and never one of a query's own number."""

import numpy as np
import pytest

from alloc_jax.evaluate import neighbours
from alloc_jax.evaluate.neighbours import Neighbours


def brute(points, queries, count, alike=None):
    distance = ((queries[:, None] - points) ** 2).sum(axis=2)
    if alike is not None:
        distance[alike[0][:, None] == alike[1]] = np.inf
    return np.argsort(distance, axis=1, kind="stable")[:, :count]


@pytest.fixture
def many(monkeypatch):
    """Six hundred points are many, in cells of twenty, of which ten are looked at."""
    for name, value in {"FEW": 100, "CELL": 20, "LOOKED_AT": 200, "BLOCK": 4000}.items():
        monkeypatch.setattr(neighbours, name, value)


def points_of(seed, count):
    return np.random.default_rng(seed).integers(-9, 9, (count, 3)).astype(np.float32)


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_few_points_have_their_nearest_exactly_and_the_earlier_of_equally_near_ones(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    points, queries = points_of(0, 80), points_of(1, 30)
    alike = np.arange(30) % 4, np.arange(80) % 4
    np.testing.assert_array_equal(Neighbours(points).nearest(queries, 9), brute(points, queries, 9))
    np.testing.assert_array_equal(Neighbours(points).nearest(queries, 9, alike), brute(points, queries, 9, alike))


def test_of_many_points_most_of_the_nearest_are_found_and_what_is_found_is_in_order(many):
    rng = np.random.default_rng(2)
    points, queries = (rng.normal(size=(n, 4)).astype(np.float32) for n in (600, 90))
    found, exact = Neighbours(points).nearest(queries, 10), brute(points, queries, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]) > 0.85
    distance = ((queries[:, None] - points[found]) ** 2).sum(axis=2)
    assert (np.diff(distance, axis=1) > -1e-5).all() and len(set(found[0])) == 10


def test_of_many_points_none_of_a_querys_own_number_is_found_although_they_fill_the_cells_around_it(many):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(600, 4)).astype(np.float32)
    points[:400] *= 0.01  # one text, 400 times
    number = np.maximum(np.arange(600), 399)
    found = Neighbours(points).nearest(points, 5, (number, number))
    assert (number[found] != number[:, None]).all()
    np.testing.assert_array_equal(np.sort(found[:3]), np.sort(brute(points, points[:3], 5, (number[:3], number))))
