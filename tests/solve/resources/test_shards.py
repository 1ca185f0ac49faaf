"""Several resources on a mesh of two axes: the answers of one device, by all-reduces only."""

import pytest

from tests.devices import collectives, run_on_eight

PROGRAM = """
import jax, numpy as np
from alloc_jax.solve import validation, prepare, solve
from alloc_jax.solve.solver import _solve_jit
from alloc_jax.types import AllocationProblem
from tests.solve.instances import smooth, tied
from tests.solve.resources.test_kernel import assert_mixes_few, assert_within, several

mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
for family in (smooth, tied):
    rng = np.random.default_rng(0)
    questions = 8 * 1500 - 3 * (family is smooth)  # a last share that is filled up, and equal shares
    utility, cost, budget = several(rng, family, questions, 3)
    weight = rng.integers(1, 3, questions).astype(np.float32)
    problem = AllocationProblem(utility, cost, weight=weight)
    one, all_ = prepare(problem), prepare(problem, mesh=mesh)
    for limit in (budget, budget * np.float32([1, 1e3, 0.7]), 0.1 * budget):
        a, b = solve(one, limit), solve(all_, limit)
        assert a.status == b.status, (a.status, b.status)
        assert b.action.shape == b.mixed.action.shape == (questions,)
        if limit[0] < budget[0]:
            continue
        assert_within(b, cost, limit, weight)
        assert_mixes_few(b, utility, cost, limit, weight)
        np.testing.assert_allclose(a.mixed_utility, b.mixed_utility, rtol=1e-6)
        np.testing.assert_allclose(a.dual_value, b.dual_value, rtol=1e-6)
        assert b.mixed_gap < 1e-6 and b.gap < 1e-5
print(_solve_jit.lower(all_, validation.as_pair(budget, np.float32, "budget", 3), goal="spend").compile().as_text())
"""


@pytest.mark.long
def test_shards_give_the_answer_of_one_device_by_all_reduces_only():
    assert collectives(run_on_eight(PROGRAM)) == {"all-reduce"}
