"""A benchmark is worth what its rivals are: each finds the optimum."""

import importlib.util

import numpy as np
import pytest

from benchmarks import general_solvers
from benchmarks.instances import FAMILIES, instance, several
from tests.solve import reference


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.mark.long
@needs("numba")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_numba_rivals_are_exact_and_keep_the_budget(family):
    from benchmarks.numba_rivals import hull_and_sort, radix_selection, sorted_frontier

    utility, cost, budget = instance(family, 500, 8, 0)
    best = reference.value(utility, cost, budget)
    for rival in (radix_selection, hull_and_sort):
        action, spend, value, mixed_spend, mixed_value = rival(utility, cost, budget)
        rows = np.arange(500)
        np.testing.assert_allclose(spend, cost[rows, action].mean(dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(value, utility[rows, action].mean(dtype=np.float64), rtol=1e-12)
        assert spend <= budget * (1 + 1e-12)
        np.testing.assert_allclose([mixed_spend, mixed_value], [budget, best], rtol=1e-7)
    spend, value, _ = sorted_frontier(utility, cost)
    np.testing.assert_allclose(np.interp(budget, spend, value), best, rtol=1e-6)


@needs("highspy")
@pytest.mark.parametrize("family", FAMILIES)
def test_highs_finds_the_optimum(family):
    utility, cost, budget = instance(family, 200, 8, 0)
    spend, value = general_solvers.highs(utility, cost, budget)
    np.testing.assert_allclose([spend, value], [1, reference.value(utility, cost, budget)], rtol=1e-7)


@needs("ortools")
@pytest.mark.filterwarnings("ignore")
def test_pdlp_is_near_the_optimum():
    utility, cost, budget = several("smooth", 200, 4, 2, 0)
    spend, value = general_solvers.pdlp(utility, cost, budget, 1e-6)
    np.testing.assert_allclose([spend, value], general_solvers.highs(utility, cost, budget), rtol=1e-3)
