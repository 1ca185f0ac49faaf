"""Slow references: every rule by its definition, every expectation by going through all draws."""

import itertools
from fractions import Fraction

import numpy as np

from alloc_jax.measure.estimators.u_statistics import Pairs


def worth_of(answers, correct) -> dict[int, Fraction]:
    """The share of right samples of every answer."""
    right = [a for a, c in zip(answers, correct, strict=True) if c]
    return {a: Fraction(right.count(a), answers.count(a)) for a in answers}


def decide(rule: str, draw, pair) -> Fraction:
    """What one draw earns: indices of samples in the order they were drawn."""
    answers, correct, reward, worth = pair
    name, _, ties = rule.partition("/")
    given = [i for i in draw if answers[i] >= 0]
    if name == "passes":
        return Fraction(any(correct[i] for i in draw))
    if name == "single":
        return Fraction(bool(correct[draw[0]]))
    if name == "unanimous":
        agree = len(given) == len(draw) and len({answers[i] for i in given}) == 1
        return worth[answers[given[0]]] if agree else Fraction(0)
    if not given:
        return Fraction(0)
    if name == "best_of":
        top = max(reward[i] for i in given)
        best = [i for i in given if reward[i] == top]
        return Fraction(sum(bool(correct[i]) for i in best), len(best))
    weight = {"vote": lambda i: Fraction(1), "weighted_vote": lambda i: Fraction(reward[i])}[name]
    total = {a: sum(weight(i) for i in given if answers[i] == a) for a in {answers[i] for i in given}}
    winners = [a for a in total if total[a] == max(total.values())]
    if ties == "abstain" and len(winners) > 1:
        return Fraction(0)
    if ties == "first":
        winners = [next(answers[i] for i in given if answers[i] in winners)]
    return sum((worth[a] for a in winners), Fraction(0)) / len(winners)


def pair_at(pairs: Pairs, i: int):
    """(answers, correct, rewards, worth of each answer) of a pair as plain values; rewards are fractions."""
    n = int(pairs.count[i])
    answers, correct = pairs.answer[i, :n].tolist(), pairs.correct[i, :n].tolist()
    rewards = None if pairs.value is None else [Fraction(str(r)) for r in pairs.value[i, :n]]
    return answers, correct, rewards, worth_of(answers, correct)


def average(rule: str, pair, draws) -> tuple[Fraction, list[Fraction]]:
    """E[h] and E[h N_i] over draws."""
    draws = list(draws)
    earned = [decide(rule, draw, pair) for draw in draws]
    each = [
        sum((h * draw.count(i) for h, draw in zip(earned, draws, strict=True)), Fraction(0)) / len(draws)
        for i in range(len(pair[0]))
    ]
    return sum(earned, Fraction(0)) / len(draws), each


def subsets(n: int, k: int):
    return itertools.combinations(range(n), k)


def orders(n: int, k: int):
    return itertools.permutations(range(n), k)


def resamples(n: int, k: int):
    return itertools.product(range(n), repeat=k)


def random_pairs(pairs: int, n: int, seed: int, classes: int = 5, ragged: bool = False, disagree: float = 0.0) -> Pairs:
    """Pairs with few or many answers, some samples without one, and rewards with ties (the all-wrong included)."""
    rng = np.random.default_rng(seed)
    answer = np.stack([rng.integers(-1, rng.integers(1, classes + 1), n) for _ in range(pairs)]).astype(np.int32)
    count = rng.integers(max(n // 2, 1), n + 1, pairs) if ragged else np.full(pairs, n)
    sampled = np.arange(n) < count[:, None]
    answer = np.where(sampled, answer, -1)
    right = rng.integers(0, 3, (pairs, 1))
    correct = (answer >= 0) & ((answer == right) ^ (rng.random(answer.shape) < disagree))
    reward = np.where(sampled, rng.integers(-1, 5, answer.shape) / 4, np.nan).astype(np.float32)
    return Pairs(answer, correct, sampled, reward)
