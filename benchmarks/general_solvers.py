"""The same problem given to solvers of any linear programme, and to float64 NumPy.

Every function takes utility [N, K], cost [N, K] or [N, K, R] and the budget, and returns the mean spend (of the resource that is overspent
most) as a share of its budget, and the mean utility, of the point the solver calls optimal.
"""

import numpy as np

STEPS = 40  # of every bisection: what leaves a bracket of neighbouring floats


def numpy_bisection(utility, cost, budget):
    """The plan under the multiplier at which float64 bisection stops; within the budget, ties left unspent."""
    utility, cost = utility.astype(np.float64), cost.astype(np.float64)
    rows = np.arange(len(utility))
    low, high = 0.0, float(np.ptp(utility) / np.diff(np.sort(cost, axis=1)).min())
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        spend = cost[rows, np.argmax(utility - middle * cost, axis=1)].mean()
        low, high = (middle, high) if spend > budget else (low, middle)
    action = np.argmax(utility - high * cost, axis=1)
    return cost[rows, action].mean() / budget, utility[rows, action].mean()


def programme(utility, cost, budget):
    """Columns of the linear programme: rows add each question's shares up to 1, then one row a resource.

    Returns:
      (start i32[NK + 1], row i32[...], value f64[...], limits f64[R]) by columns.
    """
    questions, actions = utility.shape
    costs = cost.reshape(questions * actions, -1).astype(np.float64)
    resources = costs.shape[1]
    row = np.empty((questions * actions, 1 + resources), np.int32)
    row[:, 0] = np.repeat(np.arange(questions), actions)
    row[:, 1:] = questions + np.arange(resources)
    value = np.concatenate([np.ones((questions * actions, 1)), costs / questions], axis=1)
    start = (1 + resources) * np.arange(questions * actions + 1, dtype=np.int64)
    return start, row.reshape(-1), value.reshape(-1), np.atleast_1d(np.asarray(budget, np.float64))


def quality(share, utility, cost, budget):
    """What a point f64[N K] spends at most of its budgets, and its utility."""
    questions = len(utility)
    spend = share @ cost.reshape(share.size, -1).astype(np.float64) / questions
    return float((spend / np.atleast_1d(budget)).max()), float(
        share @ utility.reshape(-1).astype(np.float64) / questions
    )


def highs(utility, cost, budget):
    """HiGHS' interior point method."""
    import highspy

    start, row, value, limits = programme(utility, cost, budget)
    questions, columns = len(utility), utility.size
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns, questions + len(limits)
    model.col_cost_ = -utility.reshape(-1).astype(np.float64) / questions
    model.col_lower_, model.col_upper_ = np.zeros(columns), np.full(columns, highspy.kHighsInf)
    model.row_lower_ = np.append(np.ones(questions), np.full(len(limits), -highspy.kHighsInf))
    model.row_upper_ = np.append(np.ones(questions), limits)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = start, row, value
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("solver", "ipm")
    solver.passModel(model)
    solver.run()
    return quality(np.array(solver.getSolution().col_value), utility, cost, budget)


def pdlp(utility, cost, budget, tolerance):
    """OR-tools' first-order method, to a relative tolerance."""
    from ortools.pdlp import solvers_pb2
    from ortools.pdlp.python import pdlp as library
    from scipy.sparse import csc_matrix

    start, row, value, limits = programme(utility, cost, budget)
    questions, columns = len(utility), utility.size
    model = library.QuadraticProgram()
    model.objective_vector = -utility.reshape(-1).astype(np.float64) / questions
    model.constraint_matrix = csc_matrix((value, row, start), shape=(questions + len(limits), columns))
    model.constraint_lower_bounds = np.append(np.ones(questions), np.full(len(limits), -np.inf))
    model.constraint_upper_bounds = np.append(np.ones(questions), limits)
    model.variable_lower_bounds, model.variable_upper_bounds = np.zeros(columns), np.full(columns, np.inf)
    parameters = solvers_pb2.PrimalDualHybridGradientParams()
    optimality = parameters.termination_criteria.simple_optimality_criteria
    optimality.eps_optimal_relative = optimality.eps_optimal_absolute = tolerance
    parameters.num_threads = 2
    found = library.primal_dual_hybrid_gradient(model, parameters)
    return quality(np.asarray(found.primal_solution), utility, cost, budget)


def mpax(utility, cost, budget):
    """mpax's r2HPDHG to 1e-4, float32; compilation is part of its first call."""
    import jax.numpy as jnp
    from jax.experimental.sparse import BCOO
    from mpax import create_lp, r2HPDHG
    from scipy.sparse import csc_matrix

    start, row, value, limits = programme(utility, cost, budget)
    questions, columns = len(utility), utility.size
    matrix = csc_matrix((value, row, start), shape=(questions + len(limits), columns)).tocsr().astype(np.float32)
    equal, above = (BCOO.from_scipy_sparse(part) for part in (matrix[:questions], -matrix[questions:]))
    model = create_lp(
        jnp.asarray(-utility.reshape(-1) / questions),
        equal,
        jnp.ones(questions),
        above,
        jnp.asarray(-limits, jnp.float32),
        jnp.zeros(columns),
        jnp.ones(columns),
    )
    found = r2HPDHG(eps_abs=1e-4, eps_rel=1e-4, verbose=False).optimize(model)
    return quality(np.asarray(found.primal_solution, np.float64), utility, cost, budget)


if __name__ == "__main__":
    print(__doc__)
