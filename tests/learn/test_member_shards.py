"""An ensemble trained on eight devices, a few members on each: the policy of one device, without a word between them."""

import pytest

from tests.devices import collectives, run_on_eight

PROGRAM = """
import jax, numpy as np
from alloc_jax.learn import PolicyConfig, fitting, train
from alloc_jax.measure import measure, menu
from tests.conftest import made_log

mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
table = measure(made_log(questions=300), menu(made_log(questions=2), votes=(1, 4)), "compute")
compiled = fitting._compiled

def watched(config, outputs, mesh, *rest):
    run = compiled(config, outputs, mesh, *rest)
    def call(*given):
        found = run(*given)
        placed = [leaf.addressable_shards for leaf in (*jax.tree.leaves(found), *jax.tree.leaves(given[:3]))]
        if mesh is not None:
            for shards in placed:  # ten members: two on each device, of which some stand in twice
                assert {shard.device for shard in shards} == set(jax.devices())
                assert all(len(shard.data) == 2 for shard in shards)
            print("==", run.as_text())
        return found
    return call

fitting._compiled = watched
config = PolicyConfig(folds=5, left_out=2, epochs=4, hidden=(8,))
one, shared = train(table, config), train(table, config, mesh=mesh)
assert one.weights.keys() == shared.weights.keys()
for name, leaf in one.weights.items():
    assert leaf.shape == shared.weights[name].shape
    # Adam's steps are as long for a gradient that is all rounding as for any other: a few weights in a million show it.
    np.testing.assert_allclose(shared.weights[name], leaf, rtol=1e-3, atol=1e-3, err_msg=name)
    assert np.isclose(shared.weights[name], leaf, rtol=1e-4, atol=1e-5).mean() > 0.999, name
ours, theirs = (policy.predict(table.question) for policy in (shared, one))
np.testing.assert_allclose(ours.score, theirs.score, atol=1e-4)
for budget in (0.5, 1.0):
    multipliers = [policy.multiplier(budget).mean for policy in (shared, one)]
    np.testing.assert_allclose(*multipliers, rtol=1e-4)
    assert np.array_equal(ours.best_response(multipliers[0]), theirs.best_response(multipliers[1]))
"""


@pytest.mark.long
def test_members_on_eight_devices_are_the_policy_of_one_and_need_no_word_between_them():
    said = run_on_eight(PROGRAM)
    assert said.startswith("==") and "fusion" in said
    assert not collectives(said)
