from alloc_jax.solve.derivatives import (
    best_response as best_response,
    dual_value as dual_value,
)
from alloc_jax.solve.frontier import (
    Frontier as Frontier,
    frontier as frontier,
)
from alloc_jax.solve.layout import PreparedProblem as PreparedProblem
from alloc_jax.solve.resources.kernel import by_group as by_group
from alloc_jax.solve.smooth import (
    smooth_multiplier as smooth_multiplier,
    smooth_plan as smooth_plan,
)
from alloc_jax.solve.solver import (
    prepare as prepare,
    solve as solve,
)
from alloc_jax.solve.streaming.stream import (
    StreamSolution as StreamSolution,
    solve_stream as solve_stream,
)
