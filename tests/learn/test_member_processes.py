"""Members of an ensemble that processes share out: the policy of one process, and an end where one of them is gone."""

import pytest

from tests.processes import assert_alike, assert_ends

PROGRAM = """
from alloc_jax.learn import PolicyConfig, train
from alloc_jax.measure import measure, menu
from tests.conftest import made_log

log = made_log(questions=40, samples=8)
table = measure(log, menu(log)[:3], "tokens")
config = PolicyConfig(epochs=2, hidden=(8,), batch=16)

def check(shared):
    for name, array in train(table, config).weights.items():
        np.testing.assert_allclose(shared.weights[name], array, atol=1e-5, err_msg=name)

run(lambda: train(table, config, mesh=mesh), check)
"""


@pytest.mark.long
def test_processes_train_the_policy_of_one():
    assert_alike(PROGRAM)


@pytest.mark.long
def test_a_training_that_loses_a_process_ends():
    assert_ends(PROGRAM)
