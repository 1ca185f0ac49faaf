"""Escalation fitted on eight devices: the beliefs and rules of one."""

import pytest

from tests.devices import run_on_eight

PROGRAM = """
import jax, numpy as np
from alloc_jax.stopping.sources import latent, superprocess
from alloc_jax.stopping.sources.solver import solve_escalation
from alloc_jax.stopping.sources.solver_input import Promise
from tests.stopping.test_escalate import SOURCES, made_answers

mesh = jax.make_mesh((8,), ("questions",), axis_types=(jax.sharding.AxisType.Auto,))
log = made_answers(questions=150)
text = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
promise = Promise(np.broadcast_to(np.float32([0.55, 0.65, 0.85]), (150, 3)), features=text)
shares = set()

def watched(module, name, at):
    kernel = getattr(module, name)
    def call(*args, **options):
        given = jax.tree.leaves(args[at])[0]
        shares.add((name, len(given.devices()), 8 * given.addressable_shards[0].data.size == given.size))
        return kernel(*args, **options)
    setattr(module, name, call)

options = dict(resource="usd", promise=promise, beliefs=("classes by text",))
one = solve_escalation(log, SOURCES, **options)
watched(latent, "_fit", 0)
watched(superprocess, "_solve", 0)
shared = solve_escalation(log, SOURCES, **options, mesh=mesh)
assert shares == {("_fit", 8, True), ("_solve", 8, True)}, shares
for name in ("effect", "spread", "variant", "gate", "net_utility", "bound"):
    np.testing.assert_allclose(getattr(shared, name), getattr(one, name), atol=1e-3, err_msg=name)
for budget in (4.0, 8.0, 12.0):
    np.testing.assert_allclose(shared.value(budget), one.value(budget), atol=0.01)
"""


@pytest.mark.long
def test_shards_give_the_beliefs_and_rules_of_one_device():
    run_on_eight(PROGRAM)
