"""Public names: completion sees them, modules can be imported whatever functions are called, and importing loads no JAX."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.exports import FunctionModule

ROOT = Path(aj.__file__).parent
STUBS = sorted(ROOT.rglob("__init__.pyi"))
PACKAGES = [".".join(path.parent.relative_to(ROOT.parent).parts) for path in STUBS]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_offers_the_names_of_its_stub(package):
    module = importlib.import_module(package)
    assert module.__all__ and set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert not inspect.ismodule(value) or isinstance(value, FunctionModule), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018  # reading it is the test


def test_functions_and_packages_of_one_name_are_both_reachable():
    import alloc_jax.logs.grade as grade
    import alloc_jax.measure.costs as costs
    import alloc_jax.solve as solve
    import alloc_jax.solve.frontier as frontier

    assert solve is aj.solve and solve.Frontier is aj.Frontier
    assert costs.action_costs and frontier.exact and grade.Grader
    problem = aj.AllocationProblem(np.float32([[0, 1], [0, 2]]), np.float32([[1, 5], [1, 5]]))
    for called in (aj.frontier, solve.frontier, frontier, frontier.frontier):
        assert called(problem).spend.tolist() == [1, 3, 5]


@pytest.mark.parametrize("name", ["solve", "measure", "evaluate"])
def test_a_package_that_is_called_has_its_functions_signature(name):
    package = importlib.import_module(f"alloc_jax.{name}")
    assert inspect.signature(package) == inspect.signature(getattr(package, name))
    assert callable(package) and inspect.ismodule(package)


def test_transformations_take_the_package_for_its_function():
    problem = aj.AllocationProblem(np.float32([[0, 1], [0, 0.5]]), np.float32([[1, 3], [1, 3]]))
    assert jax.jit(aj.solve)(problem, 2.5).action.tolist() == [1, 0]
    assert jax.jit(aj.solve).lower(problem, 2.5).compile()
    assert jax.vmap(aj.solve, in_axes=(None, 0))(problem, np.float32([1.0, 2.5])).spend.tolist() == [1, 2]


def test_a_table_is_solved_as_it_is(log):
    table = aj.measure(log, aj.menu(log, (1, 4)))
    assert aj.solve(table, 2.0).action.tolist() == aj.solve(aj.prepare(table), 2.0).action.tolist()
    assert aj.frontier(table).spend.tolist() == aj.frontier(table.problem()).spend.tolist()


def test_the_version_stands_once():
    setup = (ROOT.parent / "setup.py").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", aj.__version__) and aj.__version__ not in setup


def test_importing_loads_nothing_heavy():
    code = "import sys, alloc_jax, alloc_jax.measure, alloc_jax.solve, alloc_jax.cli; print({'jax', 'numpy', 'absl'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert said.stdout.strip() == "set()", said
