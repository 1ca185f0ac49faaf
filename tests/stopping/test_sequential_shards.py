"""Samples drawn one at a time on eight devices: the paths, rules and outcomes of one, and sums of states as the only exchange."""

import pytest

from tests.devices import collectives, run_on_eight

PROGRAM = """
import jax, numpy as np
from dataclasses import replace
from alloc_jax.evaluate.sequential.replay import replay_frontier, replay_rule
from alloc_jax.stopping import paths as module
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.stopping import fitted_value_iteration, solve_sequential
from tests.conftest import made_log

mesh = jax.make_mesh((8,), ("questions",), axis_types=(jax.sharding.AxisType.Auto,))
log = made_log(questions=101, samples=8)  # shares of 13, the last of them filled up
reward = np.random.default_rng(0).normal(size=log.correct.shape).astype(np.float32)
log = replace(log, reward=reward + log.correct)
drawn = {}

def watched(module, name, among):
    kernel = getattr(module, name)
    def call(*args, **options):
        found = kernel(*args, **options)
        if isinstance(args[0], jax.Array) and len(args[0].devices()) == 8:
            for shards in [leaf.addressable_shards for leaf in args[:among]]:
                assert {shard.device for shard in shards} == set(jax.devices())
                assert all(8 * shard.data.size == sum(other.data.size for other in shards) for shard in shards)
            drawn[name] = kernel.lower(*args, **options).compile().as_text()
        return found
    setattr(module, name, call)

watched(module, "_walks", 6)
watched(fitted_value_iteration, "_iterate", 3)
module._CELLS_PER_BLOCK = 3 * 8 * 8 * 5  # several blocks, of 5 questions a device
for answer in ("vote", "best"):
    options = dict(answer=answer, orders=3, bins=np.float32([0, 1]))
    one, shared = (sample_paths(log, "large", mesh=m, **options) for m in (None, mesh))
    for name in ("lead", "chase", "distinct", "utility", "cost", "code"):
        np.testing.assert_array_equal(getattr(one, name), getattr(shared, name), err_msg=name)
one, shared = (solve_sequential(log, "large", model="fitted", orders=3, mesh=m) for m in (None, mesh))
np.testing.assert_allclose(shared.spend, one.spend, rtol=1e-5)
np.testing.assert_allclose(shared.utility, one.utility, rtol=1e-5)
np.testing.assert_array_equal(shared.index, one.index)
paths, context = [sample_paths(log, "large", orders=3, seed=7, mesh=m) for m in (None, mesh)], np.zeros(len(log), int)
first, second = (
    replay_rule(rules.at(2.5), [replay_frontier(rules, walked, context)], context)
    for rules, walked in zip((one, shared), paths, strict=True)
)
for name in ("utility", "cost"):
    np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-5)
print("==", drawn["_walks"], "==", drawn["_iterate"])
"""


@pytest.mark.long
def test_shards_give_the_paths_rules_and_outcomes_of_one_device():
    walks, fit = run_on_eight(PROGRAM).split("== ")[1:]
    assert not collectives(walks)  # every question by itself
    assert collectives(fit) == {"all-reduce"}
