"""Rules that processes fit together: those of one process, and an end where one of them is gone."""

import pytest

from tests.processes import assert_alike, assert_ends

SEQUENTIAL = """
from alloc_jax.stopping import solve_sequential
from tests.conftest import made_log

log = made_log(questions=101, samples=8)

def check(shared):
    one = solve_sequential(log, "large", model="fitted", orders=3)
    np.testing.assert_allclose(shared.spend, one.spend, rtol=1e-5)
    np.testing.assert_array_equal(shared.index, one.index)

run(lambda: solve_sequential(log, "large", model="fitted", orders=3, mesh=mesh), check)
"""
ESCALATION = """
from alloc_jax.stopping.sources.solver import solve_escalation
from alloc_jax.stopping.sources.solver_input import Promise
from tests.stopping.test_escalate import SOURCES, made_answers

log = made_answers(questions=150)
text = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
promise = Promise(np.broadcast_to(np.float32([0.55, 0.65, 0.85]), (150, 3)), features=text)
options = dict(resource="usd", promise=promise, beliefs=("classes by text",))

def check(shared):
    one = solve_escalation(log, SOURCES, **options)
    for name in ("effect", "spread", "gate", "net_utility", "bound"):
        np.testing.assert_allclose(getattr(shared, name), getattr(one, name), atol=1e-3, err_msg=name)

run(lambda: solve_escalation(log, SOURCES, **options, mesh=mesh), check)
"""
both = pytest.mark.parametrize("program", [SEQUENTIAL, ESCALATION], ids=["sequential", "escalation"])


@pytest.mark.long
@both
def test_processes_fit_the_rules_of_one(program):
    assert_alike(program)


@pytest.mark.long
@both
def test_a_fit_that_loses_a_process_ends(program):
    assert_ends(program)
