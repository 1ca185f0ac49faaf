"""Every interval that a report prints covers what it is of, by simulation: many samples of a population whose truth is known."""

from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from alloc_jax.actions import vote
from alloc_jax.evaluate.evaluation import Deployed, score_plans
from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.outcomes import one_hot_plan
from alloc_jax.evaluate.scoring import IN_SAMPLE, ORACLE, RANDOM, SINGLE, UNIFORM
from alloc_jax.types import OutcomeTable

ACTIONS = tuple(vote(source, 1) for source in ("tiny", "small", "large", "huge"))
COST = np.array([0.1, 0.4, 1.0, 4.0])  # mean costs: the uniform mix has a kink at each
LEVEL, SLOPE = np.array([-1.0, 1.0, 2.5, 4.0]), np.array([5.0, 6.0, 8.0, 8.0])  # log-odds: level - slope x difficulty
DESIGNS = {
    "smooth": (0.7, 0.0966),
    "kink": (1.0, 0.0558),
}  # the budget, and the multiplier at which the policy spends it
POLICY, SAMPLES = "policy", 24
NUMBERS = ("accuracy", "spend", "over_uniform", "over_uniform_at_budget", "closed", "saving")
TERMS = ("regret", "mispriced", "unspent")


def drawn(questions: int, multiplier: float, seed: int):
    """Two tables of one draw of questions, and the plan of a policy that sees something of what makes them hard."""
    rng = np.random.default_rng(seed)
    hard, length = rng.normal(size=questions), np.exp(rng.normal(scale=0.6, size=questions) - 0.18)
    tables = []
    for _ in range(2):
        noise = np.exp(rng.normal(scale=0.1, size=(questions, len(COST))) - 0.005)
        tables.append(table_of(rng.binomial(SAMPLES, chance(hard)) / SAMPLES, COST * length[:, None] * noise))
    seen = hard + rng.normal(scale=0.3, size=questions)
    return (*tables, one_hot_plan((chance(seen) - multiplier * COST).argmax(axis=1), len(COST)))


def chance(hard: np.ndarray) -> np.ndarray:
    """f64[N, K] the chance that a sample of each source is right."""
    return 1 / (1 + np.exp(np.outer(hard, SLOPE) - LEVEL))


def table_of(utility: np.ndarray, cost: np.ndarray) -> OutcomeTable:
    ids = tuple(map(str, range(len(utility))))
    counts = np.full(utility.shape, SAMPLES, np.int32)
    nothing = np.zeros(utility.shape, np.float32)
    return OutcomeTable(
        ids=ids, question=ids, group=(None,) * len(ids), actions=ACTIONS, resources=("samples",), units=("samples",),
        utility=utility.astype(np.float32), utility_se=nothing, cost=cost.astype(np.float32), cost_se=nothing,
        valid=np.ones(utility.shape, bool), successes=counts, samples=counts,
    )  # fmt: skip


def intervals(questions: int, design: str, seed: int, replicates: int) -> dict[tuple[str, str], Interval]:
    """Every interval of one report."""
    budget, multiplier = DESIGNS[design]
    choose, score, plan = drawn(questions, multiplier, seed)
    report = score_plans(
        [Deployed(POLICY, budget, plan, multiplier)], choose, score, (budget,), replicates=replicates, seed=seed
    )
    found = {(row.rule, name): getattr(row, name) for row in report.rows for name in NUMBERS}
    found |= {(POLICY, name): getattr(report.row(POLICY, budget).regret, name) for name in TERMS}
    found[POLICY, "ahead of random"] = report.difference(POLICY, RANDOM, budget)
    taken = report.row(SINGLE, budget).plan[0].argmax()
    found = {(f"{rule} {taken}" if rule == SINGLE else rule, name): x for (rule, name), x in found.items()}
    found |= {("fixed", f"cost {k}"): interval for k, interval in enumerate(report.fixed_cost)}
    return found | {("fixed", f"accuracy {k}"): interval for k, interval in enumerate(report.fixed_accuracy)}


@cache
def truths(design: str, questions: int = 1_000_000) -> dict[tuple[str, str], float]:
    """What the intervals are of: the values on very many questions."""
    truth = {key: interval.value for key, interval in intervals(questions, design, 10**6, 1).items()}
    for k in range(len(COST)):  # whichever action is the best within the budget on a sample; all are on the hull
        rule = f"{SINGLE} {k}"
        truth |= {
            (rule, name): truth["fixed", f"{part} {k}"] for name, part in (("accuracy", "accuracy"), ("spend", "cost"))
        }
        truth |= {(rule, name): 0.0 for name in ("over_uniform", "closed", "saving")}
        truth[rule, "over_uniform_at_budget"] = truth[rule, "accuracy"] - truth[UNIFORM, "accuracy"]
    return truth


def coverage(truth, design: str, questions: int, trials: int, replicates: int = 500):
    """Of the intervals of each kind: the shares that hold the truth, lie above it and below it; and how many there were."""
    found = defaultdict(lambda: np.zeros(4))
    for seed in range(5000, 5000 + trials):
        for key, interval in intervals(questions, design, seed, replicates).items():
            if np.isnan(interval.value):
                continue
            slack = 1e-4 if interval.high - interval.low < 1e-3 else 0.0  # numbers known exactly
            above, below = truth[key] < interval.low - slack, truth[key] > interval.high + slack
            found[key] += (not (above or below), above, below, 1)
    return {key: np.append(counts[:3] / counts[3], counts[3]) for key, counts in found.items()}


def too_far(found, enough: int, low: float, high: float) -> list[str]:
    """Kinds of intervals whose coverage is outside of [low, high] by more than 2.5 standard errors of the simulation: many are looked at."""
    said = []
    for (rule, name), (covers, above, below, count) in found.items():
        error = 2.5 * np.sqrt(0.05 * 0.95 / count)
        known = covers == 1.0  # such as what the random mix spends; too wide intervals are tested for below
        if count >= enough and not (low - error <= covers <= high + error or known):
            said.append(f"{rule}, {name}: {covers:.3f} of {count:.0f} ({above:.3f} above, {below:.3f} below)")
    return said


@pytest.mark.long
@pytest.mark.parametrize(
    ("questions", "trials", "kept"), [(400, 300, None), (1600, 200, None), (400, 300, 0), (1600, 200, 0)]
)
@pytest.mark.parametrize("design", DESIGNS)
def test_every_interval_of_a_report_covers_what_it_is_of(design, questions, trials, kept, monkeypatch):
    if kept is not None:
        monkeypatch.setattr("alloc_jax.evaluate.intervals.KEPT", kept)  # Poisson counts
    found = coverage(truths(design), design, questions, trials)
    doubtful = [key for key in found if key[0].startswith(SINGLE)] if design == "kink" else []
    for key in [*doubtful, *((IN_SAMPLE, name) for name in ("closed", "saving"))]:
        # At a kink it depends on the sample which action is within the budget. The share of an oracle that is scored on what it
        # chose on is compared at the same kink twice, which is too wide; its saving is near the best that fixed actions reach.
        assert found.pop(key)[0] > 0.88
    assert not too_far(found, trials // 2, 0.93, 0.97)
    always = {key for key, counts in found.items() if counts[0] == 1.0}
    exact = {(rule, "spend") for rule in (IN_SAMPLE, RANDOM, UNIFORM)} | {(ORACLE, "closed")}
    exact |= {(UNIFORM, name) for name in ("over_uniform", "over_uniform_at_budget", "closed", "saving")}
    assert {key for key in always if not key[0].startswith(SINGLE)} == exact


@pytest.mark.long
def test_no_interval_at_the_kink_misses_on_one_side_only():
    found = coverage(truths("kink", 200_000), "kink", 200, 40, replicates=200)
    found = {key: counts for key, counts in found.items() if not key[0].startswith(SINGLE)}
    assert len(found) > 40 and not too_far(found, 20, 0.9, 1.0)
    assert found[ORACLE, "over_uniform"][1] < 0.1 and found[ORACLE, "over_uniform"][2] < 0.1
