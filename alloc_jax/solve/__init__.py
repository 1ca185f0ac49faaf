"""The solver: a problem and a budget in; a price, a plan and a bound out."""

from alloc_jax.solve.derivatives import best_response, dual_value
from alloc_jax.solve.frontier import Frontier, frontier
from alloc_jax.solve.layout import PreparedProblem
from alloc_jax.solve.resources import by_group
from alloc_jax.solve.smooth import smooth_multiplier, smooth_plan
from alloc_jax.solve.solver import prepare, solve
from alloc_jax.solve.streaming.stream import StreamSolution, solve_stream

__all__ = [
    "Frontier",
    "PreparedProblem",
    "StreamSolution",
    "best_response",
    "by_group",
    "dual_value",
    "frontier",
    "prepare",
    "smooth_multiplier",
    "smooth_plan",
    "solve",
    "solve_stream",
]
