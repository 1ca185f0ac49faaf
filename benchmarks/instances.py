"""What the benchmarks solve: seeded tables of utilities and costs, and budgets between the cheapest and the most expensive plan."""

import numpy as np

FAMILIES = ("smooth", "tied")


def instance(family: str, questions: int, actions: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Utility and cost f32[N, K], costs rising with the action, and a budget.

    Args:
      family: "smooth", votes of 1, 2, 4, ... whose tokens differ by question; or "tied", accuracies j/16 at costs 1, 2, 4, ...
    """
    rng = np.random.default_rng(seed)
    samples = 2.0 ** np.arange(actions, dtype=np.float32)
    if family == "tied":
        utility = np.sort(rng.integers(0, 17, (questions, actions), dtype=np.int8), axis=1).astype(np.float32) / 16
        cost = np.ascontiguousarray(np.broadcast_to(samples, utility.shape))
    elif family == "smooth":
        wrong = 1 - rng.beta(0.5, 0.7, (questions, 1)).astype(np.float32)
        utility = 1 - wrong ** np.sqrt(samples)
        cost = samples * np.exp(rng.standard_normal((questions, 1), np.float32) / 2)
    else:
        raise ValueError(f"unknown family {family!r}: {' or '.join(FAMILIES)}")
    return utility, cost, float(3 * cost[:, 0].mean(dtype=np.float64))


def several(family: str, questions: int, actions: int, resources: int, seed: int):
    """Utility f32[N, K], cost f32[N, K, R] and budgets f32[R], of which every fourth leaves room and the others bind."""
    utility, cost, _ = instance(family, questions, actions, seed)
    rng = np.random.default_rng((seed, resources))
    costs = np.empty((*cost.shape, resources), np.float32)
    for r in range(resources):
        costs[:, :, r] = cost * np.exp(0.4 * rng.standard_normal(cost.shape, np.float32))
    multiplier = rng.uniform(0.3, 1, resources) * utility.mean() / costs.mean(axis=(0, 1)) / resources
    action = np.argmax(utility - costs @ multiplier.astype(np.float32), axis=1)
    spend = costs[np.arange(questions), action].mean(axis=0, dtype=np.float64)
    return utility, costs, (spend * np.where(np.arange(resources) % 4 == 3, 1.5, 1)).astype(np.float32)


if __name__ == "__main__":
    print(__doc__)
