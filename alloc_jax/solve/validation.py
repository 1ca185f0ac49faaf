"""Validation before anything is traced: shapes and types always, values unless they are traced."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble
from alloc_jax.types import AllocationProblem, Solution, Status

# Where totals with one resource are right to twelve digits and multipliers neither overflow nor vanish; 0 is fine, too.
COSTS = (1e-12, 1e18)
WEIGHTS = (1e-9, 1e9)
GREATEST_UTILITY = 1e12


def out_of_range(x, bounds: tuple[float, float]):
    """Whether numbers are neither 0 nor within the bounds; NaN, negative and infinite ones are not."""
    return ~((x == 0) | ((x >= bounds[0]) & (x <= bounds[1])))


def is_traced(*trees) -> bool:
    """Whether any of these arrays is a tracer, whose values are not known."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def as_arrays(problem: AllocationProblem) -> AllocationProblem:
    """The problem with every field a device array of the solver's type, its shapes checked.

    Raises:
      ValueError: a shape does not match, an axis is empty, or an array is float64 where JAX has no float64.
    """
    fields = {name: getattr(problem, name) for name in ("utility", "cost", "valid", "weight")}
    for name in ("utility", "cost", "weight"):
        dtype = getattr(fields[name], "dtype", None)
        if dtype == np.float64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]  # set when JAX is imported
            raise ValueError(
                f"{name} is float64, which JAX would round to float32 unseen: pass float32, or enable jax_enable_x64"
            )
    dtype = jnp.result_type(jnp.float32, *(jnp.asarray(fields[name]).dtype for name in ("utility", "cost")))
    arrays = {
        name: None if x is None else jnp.asarray(x, bool if name == "valid" else dtype) for name, x in fields.items()
    }
    utility, cost, valid, weight = (arrays[name] for name in ("utility", "cost", "valid", "weight"))
    if utility.ndim != 2 or 0 in utility.shape:
        raise ValueError(f"utility is [N, K] with at least one question and one action, got shape {utility.shape}")
    if cost.ndim not in (2, 3) or cost.shape[:2] != utility.shape or 0 in cost.shape:
        raise ValueError(f"cost is [N, K] or [N, K, R] for utility {utility.shape}, got shape {cost.shape}")
    if valid is not None and valid.shape != utility.shape:
        raise ValueError(f"valid has the shape of utility, {utility.shape}, got {valid.shape}")
    if weight is not None and weight.shape != utility.shape[:1]:
        raise ValueError(f"weight is [N] for {utility.shape[0]} questions, got shape {weight.shape}")
    return replace(problem, **arrays)


def explain(problem: AllocationProblem, first: int = 0) -> None:
    """Raise the error of the first invalid value of a problem, by question and action.

    Args:
      problem: utility, cost, valid and weight.
      first: the number of its first question.

    Raises:
      ValueError: NaN or infinite utility or cost, negative cost, a question without a valid action, a bad weight, a
        number out of the promised range.
    """
    utility, cost = np.asarray(problem.utility), np.asarray(problem.cost)
    valid = np.ones(utility.shape, bool) if problem.valid is None else np.asarray(problem.valid)
    wide = cost.reshape(*utility.shape, -1)
    found = [
        ("utility is not finite", utility, ~np.isfinite(utility) & valid),
        ("cost is not finite", cost, (~np.isfinite(wide)).any(-1) & valid),
        ("cost is negative", cost, (wide < 0).any(-1) & valid),
    ]
    outside = "{} is outside what the solver has the digits for, {}: choose another unit; found"
    costs, most = f"0 or {COSTS[0]:g} to {COSTS[1]:g}", f"{GREATEST_UTILITY:g} in size"
    found += [
        (outside.format("cost", costs), cost, out_of_range(wide, COSTS).any(-1) & valid),
        (outside.format("utility", most), utility, (np.abs(utility) > GREATEST_UTILITY) & valid),
    ]
    for what, values, bad in found:
        if bad.any():
            i, k = np.argwhere(bad)[0]
            raise ValueError(f"{what} on question {first + i}, action {k}: {values[i, k]}")
    if not valid.any(1).all():
        raise ValueError(f"question {first + np.argmin(valid.any(1))} has no valid action")
    if problem.weight is not None:
        weight = np.asarray(problem.weight)
        bad = ~np.isfinite(weight) | (weight < 0)
        if bad.any():
            raise ValueError(
                f"weight of question {first + np.argmax(bad)} is not a finite number of at least 0: {weight[bad][0]}"
            )
        bad = out_of_range(weight, WEIGHTS)
        if bad.any():
            raise ValueError(
                f"weight of question {first + np.argmax(bad)} is {weight[bad][0]:g}: weights are 0 or {WEIGHTS[0]:g} to "
                f"{WEIGHTS[1]:g}, and only their ratios matter"
            )
        if weight.sum() <= 0:
            raise ValueError("the weights sum to 0")


def as_pair(value, dtype, name: str, count: int | None = None) -> DoubleDouble:
    """A budget (or wanted utility) as two floats, so that a Python number keeps more digits than float32 has.

    Args:
      value: a number (or an array of one), or an array of `count` numbers.
      dtype: of the problem.
      name: what it is, for the message.
      count: R, the length it has to have; None for a scalar.

    Raises:
      ValueError: of another shape, NaN, or (a budget) negative.
    """
    shape = () if count is None else (count,)
    if count is None and np.shape(value) == (1,):
        value = jnp.reshape(value, ()) if is_traced(value) else np.reshape(value, ())
    if np.shape(value) != shape:
        raise ValueError(f"{name} has shape {shape} for this problem, got {np.shape(value)}")
    if is_traced(value):
        value = jnp.asarray(value)
        hi = value.astype(dtype)
        return DoubleDouble(
            hi, (value - hi.astype(value.dtype)).astype(dtype) if value.dtype == jnp.float64 else jnp.zeros_like(hi)
        )
    value = np.asarray(value, np.float64)
    if np.isnan(value).any() or (name == "budget" and (value < 0).any()):
        raise ValueError(f"{name} is not {'a number' if np.isnan(value).any() else 'at least 0'}: {value}")
    return double_double.split(value, dtype)


def shaped_like(solution: Solution, budget) -> Solution:
    """A solution with multiplier and spends of shape [1] where the budget has that shape, as they are [R] with several resources."""
    if np.shape(budget) != (1,):
        return solution
    return replace(solution, **{name: getattr(solution, name)[None] for name in ("multiplier", "spend", "mixed_spend")})


def raise_unless_optimal(status: jax.Array, name: str) -> None:
    """Raise where a solve asked to be checked found no optimum.

    Raises:
      ValueError: the status is not `Status.OPTIMAL`.
    """
    worst = Status(int(np.max(np.asarray(status))))
    why = {
        Status.INFEASIBLE: f": no plan meets the {name}",
        Status.MIXED_ONLY: f": a mixed plan meets the {name}, no integral one was found",
    }
    if worst != Status.OPTIMAL:
        raise ValueError(f"the solve ended with status {worst.name}{why.get(worst, '')}")
