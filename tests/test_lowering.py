"""The programs of every stage lower for TPUs and GPUs without one being there: no float64, no call back to the host."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from alloc_jax.learn import PolicyConfig, fitting, train
from alloc_jax.measure import measure, menu
from alloc_jax.measure.estimators.vote_kernel import vote_batch, vote_nodes, without_replacement
from alloc_jax.solve import frontier, prepare, solve
from alloc_jax.types import AllocationProblem
from tests.conftest import made_log
from tests.devices import run_on_eight

QUESTIONS, ACTIONS = 1000, 4
SHAPE = jax.ShapeDtypeStruct((QUESTIONS, ACTIONS), jnp.float32)
PROBLEM = AllocationProblem(SHAPE, SHAPE)
NUMBER = jax.ShapeDtypeStruct((), jnp.float32)
SHARDED_BY = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "xla.sdy.FuncResultSharding"}
SOLVED_BY = {
    "LuDecomposition",
    "cu_lu_pivots_to_permutation",
    "cusolver_getrf_ffi",
}  # of the platforms themselves: R x R
COMPILED_BY = {"mhlo.topk", "mhlo.erf"}  # XLA itself, as JAX 0.7 writes these two
KNOWN = SHARDED_BY | SOLVED_BY | COMPILED_BY


def several(problem, budget):
    costs = jnp.stack([problem.cost, problem.cost[:, ::-1]], axis=-1)
    return solve(AllocationProblem(problem.utility, costs), jnp.stack([budget, budget])).multiplier


def votes(problem, budget):
    chance = jnp.asarray(without_replacement(128, 8, 8 / 17), jnp.float32)
    others = jnp.broadcast_to(jnp.int32([4, 3, 2] + [0] * 29), (64, 32))
    few = jnp.zeros(64, jnp.int32)
    taps = np.int32([1, *([4] * 32)])
    return vote_batch(few + 5, others, few + 1, few, jnp.int32(3), taps, chance, vote_nodes((4, 8), "uniform"), (4, 8))[
        0
    ]


PROGRAMS = {
    "a budget": lambda problem, budget: solve(problem, budget),
    "a utility": lambda problem, utility: solve(problem, utility=utility),
    "several resources": several,
    "a grid of the frontier": lambda problem, budget: frontier(prepare(problem), points=9).spend,
    "a derivative": lambda problem, budget: jax.grad(lambda b: solve(problem, b).dual_value)(budget),
    "votes": votes,
}


def check(text: str) -> None:
    assert "f64" not in text
    assert "callback" not in text
    assert set(re.findall(r"custom_call @(\S+?)\(", text)) <= KNOWN, re.findall(r"custom_call @(\S+?)\(", text)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_lowers_for_accelerators(name):
    for platform in ("tpu", "cuda"):
        check(export.export(jax.jit(PROGRAMS[name]), platforms=(platform,))(PROBLEM, NUMBER).mlir_module())


@pytest.mark.parametrize(
    "kind", ["value", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("imitation", "decision"))]
)
def test_training_lowers_for_accelerators(kind, monkeypatch):
    log = made_log(questions=40, samples=8)
    table = measure(log, menu(log, votes=(1, 4)), "tokens")
    table = replace(table, question=tuple(f"{i} {text}" for i, text in enumerate(table.question)))

    def lowered(config, outputs, mesh, structure, shapes):
        given = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype, _ in shapes]
        for platform in ("tpu", "cuda"):
            program = export.export(fitting.program(config, outputs), platforms=(platform,))
            check(program(*jax.tree.unflatten(structure, given)).mlir_module())
        raise NotImplementedError("lowered")

    monkeypatch.setattr(fitting, "_compiled", lowered)
    with pytest.raises(NotImplementedError, match="lowered"):
        train(table, PolicyConfig(kind=kind, budgets=(1.0,), epochs=2))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax import export
from alloc_jax.solve import frontier, prepare, solve
from alloc_jax.types import AllocationProblem
from tests.test_lowering import check

mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
shape = jax.ShapeDtypeStruct((1003, 4), jnp.float32)
problem = AllocationProblem(shape, shape)
for program in (
    lambda problem, budget: solve(prepare(problem, mesh=mesh), budget),
    lambda problem, budget: frontier(prepare(problem, mesh=mesh), points=9).spend,
):
    for platform in ("tpu", "cuda"):
        found = export.export(jax.jit(program), platforms=(platform,))(problem, jax.ShapeDtypeStruct((), jnp.float32))
        assert found.nr_devices == 8
        check(found.mlir_module())
print("done")
"""


def test_what_is_shared_out_over_devices_lowers_for_accelerators():
    assert "done" in run_on_eight(SHARDED)
