"""A table shared out over eight devices: the answers of one, by all-reduces only."""

import pytest

from tests.devices import collectives, run_on_eight

SETTING = """
import jax, numpy as np
from alloc_jax.solve import frontier, prepare, solve
from alloc_jax.solve.frontier import _gridded_jit
from alloc_jax.solve.solver import _solve_jit
from alloc_jax.solve import validation
from alloc_jax.types import AllocationProblem
from tests.solve.instances import mean_of, smooth, tied

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
"""
PROGRAM = """
for family in (smooth, tied):
    rng = np.random.default_rng(0)
    questions = 8 * 1500 - 3 * (family is smooth)  # a last share that is filled up, and equal shares
    utility, cost = family(rng, questions, 4)
    weight = rng.integers(1, 3, questions).astype(np.float32) if family is tied else None
    problem = AllocationProblem(utility, cost, weight=weight)
    one, all_ = prepare(problem), prepare(problem, mesh=mesh)
    low, high = (float(x.hi[0] / one.questions.hi) for x in (one.cheapest, one.dearest))
    for budget in (0.5 * low, 0.9 * low + 0.1 * high, 0.4 * low + 0.6 * high, 2 * high):
        a, b = solve(one, budget), solve(all_, budget)
        assert b.action.shape == (questions,) and 0 <= int(b.mixed.question[0]) < questions
        assert a.status == b.status, (a.status, b.status)
        assert budget < low or mean_of(cost, b.action, problem.weight) <= budget * (1 + 1e-12)
        for name in ("multiplier", "spend", "utility", "dual_value", "mixed_spend", "mixed_utility"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=2e-5, atol=1e-6, err_msg=name)
        assert abs(a.mixed_gap - b.mixed_gap) <= 1e-6
        np.testing.assert_allclose(mean_of(utility, b.action, problem.weight), b.utility, rtol=1e-6)
    for share in (0.3, 0.8):
        ends = [float(x.hi[1] / one.questions.hi) for x in (one.cheapest, one.dearest)]
        wanted = (1 - share) * ends[0] + share * ends[1]
        a, b = solve(one, utility=wanted), solve(all_, utility=wanted)
        assert mean_of(utility, b.action, problem.weight) >= wanted - 1e-7
        for name in ("multiplier", "spend", "mixed_spend", "mixed_utility"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=2e-5, atol=1e-6, err_msg=name)
    grid, exact = frontier(all_, points=9), frontier(problem)
    np.testing.assert_allclose(grid.utility, exact.value(grid.spend), atol=1e-5)
    budget = 0.5 * (low + high)
    np.testing.assert_allclose(grid.at(budget).mixed_utility, solve(one, budget).mixed_utility, rtol=1e-3)
for goal in ("spend", "utility"):
    print("==", _solve_jit.lower(all_, validation.as_pair(2.0, np.float32, "budget"), goal=goal).compile().as_text())
print("==", _gridded_jit.lower(all_, 9).compile().as_text())
"""
BOOTSTRAP = """
rng = np.random.default_rng(0)
utility, cost = tied(rng, 8 * 1500, 4)
weights = rng.multinomial(len(utility), np.full(len(utility), 1 / len(utility)), 3).astype(np.float32)

@jax.jit
@jax.vmap
def bootstrap(weight):
    found = frontier(prepare(AllocationProblem(utility, cost, weight=weight), mesh=mesh), points=9)
    return found.spend, found.utility

for weight, spend, gained in zip(weights, *bootstrap(weights), strict=True):
    exact = frontier(AllocationProblem(utility, cost, weight=weight))
    np.testing.assert_allclose(gained, exact.value(spend), atol=1e-5)
print("==", bootstrap.lower(weights).compile().as_text())
"""


@pytest.mark.parametrize(
    ("program", "count"),
    [
        pytest.param(PROGRAM, 3, id="solve and frontier", marks=pytest.mark.long),  # a budget, a utility, a grid
        pytest.param(BOOTSTRAP, 1, id="a bootstrap of grids", marks=pytest.mark.long),
    ],
)
def test_shards_give_the_answer_of_one_device_by_all_reduces_only(program, count):
    programs = run_on_eight(SETTING + program).split("== ")[1:]
    assert len(programs) == count
    for text in programs:
        assert collectives(text) == {"all-reduce"}
