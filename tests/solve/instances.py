"""Small and large instances that the solver's tests share."""

import itertools

import numpy as np

from alloc_jax.types import AllocationProblem


def smooth(rng, questions, actions=8, dtype=np.float32):
    """Accuracies and costs without ties; costs rise with the action."""
    ability = rng.beta(0.5, 0.7, (questions, 1))
    samples = 2.0 ** np.arange(actions)
    utility = 1 - (1 - ability) ** np.sqrt(samples)
    cost = samples * rng.lognormal(0, 0.5, (questions, 1))
    return utility.astype(dtype), cost.astype(dtype)


def tied(rng, questions, actions=8, dtype=np.float32):
    """Accuracies j/16 and costs 1, 2, 4, ...: a finite share of the questions switches at one multiplier."""
    utility = np.sort(rng.integers(0, 17, (questions, actions)), axis=1) / 16
    return utility.astype(dtype), np.broadcast_to(2.0 ** np.arange(actions), utility.shape).astype(dtype)


def unsorted(rng, questions, actions=8, dtype=np.float32):
    """Costs in any order, equal costs and zero costs among them."""
    utility = rng.uniform(-1, 1, (questions, actions))
    cost = rng.integers(0, 6, (questions, actions)) * rng.choice([0.5, 1.0], (questions, actions))
    return utility.astype(dtype), cost.astype(dtype)


FAMILIES = {"smooth": smooth, "tied": tied, "unsorted": unsorted}


def cases():
    """(name, utility, cost, valid, weight) over families, sizes down to one question and one action, masks, weights."""
    sizes = ((1, 1), (1, 4), (6, 3), (300, 8))
    options = ((False, False), (True, True))
    for (name, family), (questions, actions), (masked, weighted) in itertools.product(FAMILIES.items(), sizes, options):
        rng = np.random.default_rng([questions, actions, masked, weighted])
        utility, cost = family(rng, questions, actions)
        valid = weight = None
        if masked:
            valid = rng.uniform(size=utility.shape) < 0.7
            valid[np.arange(questions), rng.integers(0, actions, questions)] = True
        if weighted:
            weight = rng.integers(0, 4, questions).astype(np.float32)
            weight[rng.integers(questions)] = 2.5
        yield f"{name}-{questions}x{actions}{'-masked' * masked}{'-weighted' * weighted}", utility, cost, valid, weight


def problem_of(utility, cost, valid=None, weight=None):
    return AllocationProblem(utility, cost, valid, weight)


def mean_of(x, action, weight=None):
    """Weighted mean of x[i, action[i]] in float64."""
    chosen = np.asarray(x, np.float64)[np.arange(len(x)), np.asarray(action)]
    return np.average(chosen, weights=None if weight is None else np.asarray(weight, np.float64), axis=0)
