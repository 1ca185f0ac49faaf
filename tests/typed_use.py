"""What a type checker sees of the package: checked by `mypy`, and run by nothing."""

from typing import assert_type

import alloc_jax as aj
import alloc_jax.logs.grade as grading
import alloc_jax.solve as solver


def use(table: aj.OutcomeTable) -> None:
    assert_type(aj.solve(table, 3.0), aj.Solution)
    assert_type(solver.solve(table, budget=3.0), aj.Solution)
    assert_type(aj.frontier(table), aj.Frontier)
    assert_type(aj.train(table), aj.Policy)
    assert_type(grading.grade(["7"], ["7"]), list[grading.Grade])
    assert_type(aj.__version__, str)
    aj.solv(table, 3.0)  # type: ignore[attr-defined]  # a misspelt name is found
    aj.solve(table, budgets=3.0)  # type: ignore[call-arg]  # and a misspelt argument
