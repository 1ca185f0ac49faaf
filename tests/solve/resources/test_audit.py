"""Several resources, audited: thousands of small random problems against HiGHS, and nothing that is claimed may be false."""

import highspy
import jax
import numpy as np
import pytest

from alloc_jax.solve import solve
from alloc_jax.types import AllocationProblem, Status

SHAPES = ((6, 4, 2), (12, 3, 3))  # questions, actions, resources
BATCH = 250
HAIR = 1e-6


def plain(rng, utility, cost, valid, weight):
    return utility, cost


def ties(rng, utility, cost, valid, weight):
    return np.round(utility * 4) / 4, rng.integers(1, 5, cost.shape)


def zeros(rng, utility, cost, valid, weight):
    return utility * (rng.random(utility.shape) < 0.7), cost * (rng.random(cost.shape) < 0.6)


def masks(rng, utility, cost, valid, weight):
    valid[:] = rng.random(valid.shape) < 0.6
    valid[np.arange(len(valid)), rng.integers(0, valid.shape[1], len(valid))] = True
    return utility, rng.integers(1, 5, cost.shape)


def weights(rng, utility, cost, valid, weight):
    weight[:] = rng.integers(0, 4, len(weight))
    weight[rng.integers(len(weight))] = 2.5
    return utility, cost


def equal(rng, utility, cost, valid, weight):
    return utility, np.repeat(cost[:, :, :1], cost.shape[2], axis=2)


def proportional(rng, utility, cost, valid, weight):
    return utility, np.float32(cost[:, :, :1]) * np.float32(rng.choice([3, 0.1, 1e3], cost.shape[2]))


def constant(rng, utility, cost, valid, weight):
    cost[:, :, 0] = rng.random((len(cost), 1)) if rng.random() < 0.5 else 1
    return utility, cost


def decades(rng, utility, cost, valid, weight):
    return utility, 10.0 ** rng.uniform(-4, 4, cost.shape)


def offset(rng, utility, cost, valid, weight):
    return np.float32(utility / 8) + rng.choice([-5, 20]), cost


FAMILIES = (plain, ties, zeros, masks, weights, equal, proportional, constant, decades, offset)


def instance(number, family, shape):
    """One problem and its budgets; of those, some are what a plan spends, some a hair beside, some too small."""
    rng = np.random.default_rng([number, *shape, FAMILIES.index(family)])
    questions, _, resources = shape
    valid, weight = np.ones(shape[:2], bool), np.ones(questions, np.float32)
    utility, cost = np.sort(rng.random(shape[:2]), axis=1), 4 * rng.random(shape)
    utility, cost = (np.float32(x) for x in family(rng, utility, cost, valid, weight))
    share = weight.astype(float) / weight.astype(float).sum()
    least, most = (share @ f(np.where(valid[:, :, None], cost, x), axis=1) for f, x in ((np.min, np.inf), (np.max, 0)))
    kind = rng.integers(6)
    plan = np.argmax(np.where(valid, rng.random(valid.shape), -1), axis=1)
    spent = share @ cost[np.arange(questions), plan].astype(float)
    budget = np.float32(
        [
            least + rng.uniform(0.1, 0.9, resources) * (most - least),
            spent,
            spent * (1 + HAIR * rng.choice([-1, 1], resources)),
            least * np.where(np.arange(resources) == 0, 1, 1.3) + 0.02 * (most - least),
            least * rng.uniform(0.5, 1.1, resources),
            np.where(np.arange(resources) == 0, least, most),
        ][kind]
    )
    up = kind in (1, 5) and rng.random() < 0.8  # what the plan spends, rounded so that it fits
    return utility, cost, valid, weight, np.where(up & (budget > 0), np.nextafter(budget, np.float32(np.inf)), budget)


def linear_programme(utility, cost, valid, weight, budget, *, stretch=False):
    """HiGHS's optimum of the relaxation, None where it is infeasible; with `stretch`, by which the budgets must at least grow."""
    (questions, actions), resources = utility.shape, len(budget)
    share = np.repeat(weight.astype(float) / weight.astype(float).sum(), actions)
    unit = np.where(budget > 0, budget.astype(float), 1)
    rows = share * np.moveaxis(cost.astype(float), 2, 0).reshape(resources, -1) / unit[:, None]
    sums = np.kron(np.eye(questions), np.ones(actions))
    matrix = np.vstack([rows, sums])
    limit = budget / unit
    objective, upper = -share * utility.astype(float).ravel(), valid.ravel().astype(float)
    if stretch:
        matrix = np.hstack([matrix, np.r_[-limit, np.zeros(questions)][:, None]])
        objective, upper = np.r_[0 * objective, 1], np.r_[upper, np.inf]
        limit = 0 * limit
    model = highspy.Highs()
    model.silent()
    for name in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        model.setOptionValue(name, 1e-10)
    model.setOptionValue("presolve", "off")
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = matrix.shape
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = objective, np.zeros(len(objective)), upper
    lp.row_lower_ = np.r_[np.full(resources, -np.inf), np.ones(questions)]
    lp.row_upper_ = np.r_[limit, np.ones(questions)]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    where = [np.flatnonzero(row) for row in matrix]
    lp.a_matrix_.start_ = np.r_[0, np.cumsum([len(x) for x in where])]
    lp.a_matrix_.index_ = np.concatenate(where)
    lp.a_matrix_.value_ = np.concatenate([row[x] for row, x in zip(matrix, where, strict=True)])
    model.passModel(lp)
    model.run()
    if model.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return None
    assert model.getModelStatus() == highspy.HighsModelStatus.kOptimal
    value = model.getInfo().objective_function_value
    return value if stretch else -value


def faults(found, utility, cost, valid, weight, budget):
    """What is wrong with one solution, in words."""
    share, rows = weight.astype(float) / weight.astype(float).sum(), np.arange(len(utility))
    wide, status = budget.astype(float), Status(int(found.status))
    best = linear_programme(utility, cost, valid, weight, budget)
    size = abs(float(found.dual_value)) + float(found.multiplier @ budget) + float(np.ptp(utility))
    spend = share @ cost[rows, found.action].astype(float)
    earned = share @ utility[rows, found.action].astype(float)
    mixed = found.mixed
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(found)):
        yield "not finite"
    if not (
        valid[rows, found.action].all() and valid[rows, mixed.action].all() and valid[mixed.question, mixed.other].all()
    ):
        yield "a forbidden action"
    if not np.allclose(found.spend, spend, rtol=1e-6, atol=0) or abs(found.utility - earned) > 1e-6 * (1 + abs(earned)):
        yield "totals of another plan"
    fits = (spend <= wide * (1 + 1e-12)).all()
    if status == Status.OPTIMAL and not fits:
        yield "over budget"
    if status == Status.MIXED_ONLY and fits:
        yield "a plan that fits, and said to be none"
    if best is None:
        hair = (
            linear_programme(utility, cost, valid, weight, budget, stretch=True) < 1 + 10 * HAIR
            if wide.all()
            else False
        )
        if status != Status.INFEASIBLE and not (hair and status != Status.OPTIMAL):
            yield f"{status.name} where nothing fits"
        return
    if status == Status.INFEASIBLE:
        yield "infeasible where a plan fits"
        return
    if found.dual_value < best - 1e-8 * size:
        yield f"the bound is {best - float(found.dual_value):.1e} below the optimum"
    if status in (Status.OPTIMAL, Status.MIXED_ONLY):
        if found.dual_value > best + 3e-6 * size:
            yield f"the bound is {float(found.dual_value) - best:.1e} above the optimum, and said to have closed"
        if (found.mixed_spend > wide * (1 + HAIR)).any():
            yield "the mixed plan is over budget"
        if abs(found.mixed_utility - best) > 3e-6 * size:
            yield "the mixed plan is not the best"


def audit(count):
    """Faults in words, and how often each status occurred, over so many problems of each family and shape."""
    many = jax.jit(jax.vmap(lambda *x: solve(AllocationProblem(*x[:4]), x[4])))
    wrong, seen = [], dict.fromkeys(Status, 0)
    for shape in SHAPES:
        cases = [(family, number) for family in FAMILIES for number in range(count)]
        cases += cases[: -len(cases) % BATCH]
        for first in range(0, len(cases), BATCH):
            batch = [instance(number, family, shape) for family, number in cases[first : first + BATCH]]
            found = jax.device_get(many(*(np.stack(x) for x in zip(*batch, strict=True))))
            for i, problem in enumerate(batch):
                one = jax.tree.map(lambda x, i=i: x[i], found)
                seen[Status(int(one.status))] += 1
                family, number = cases[first + i]
                wrong += [f"{family.__name__} {number} {shape}: {fault}" for fault in faults(one, *problem)]
    return wrong, seen


def check(count):
    wrong, seen = audit(count)
    assert not wrong, f"{len(wrong)} faults, among them {wrong[:20]}; {seen}"
    total = sum(seen.values())
    assert seen[Status.OPTIMAL] > 0.4 * total and seen[Status.INFEASIBLE] > 0.1 * total
    assert seen[Status.NOT_CONVERGED] < 0.02 * total and seen[Status.INVALID] == 0, seen


@pytest.mark.long
def test_nothing_that_is_claimed_is_false_in_thousands_of_problems():
    check(350)
