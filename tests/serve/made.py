"""A small policy for the fake server's questions, and logs of them."""

from collections import Counter
from dataclasses import replace

import numpy as np

import alloc_jax as aj
from alloc_jax.collect import parse_recipes
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.learn.policy import Policy, Unseen
from alloc_jax.serve.pacing import make_pace
from alloc_jax.serve.tickets import SamplingPlan
from alloc_jax.types import SampleLog, Source

ACTIONS = tuple(aj.vote("m", k) for k in (1, 2, 4, 8))
RECIPES = parse_recipes({"m": {"model": "m", "max_tokens": 64}})


def sums_log(questions=400, samples=16, seed=0, digits=None) -> SampleLog:
    """Sums of numbers of one to six digits: the longer, the harder, and the more tokens they take."""
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 7, questions) if digits is None else np.asarray(digits)
    questions = len(size)
    low, high = 10 ** (size - 1), 10**size
    a, b = rng.integers(low, high), rng.integers(low, high)
    right = rng.random((questions, 1, samples)) < (1.15 - 0.17 * size)[:, None, None]
    answer = np.where(right, 0, rng.integers(1, 4, right.shape)).astype(np.int32)
    tokens = (3 * size[:, None, None] + rng.integers(0, 4, right.shape)).astype(np.float32)
    return SampleLog(
        ids=tuple(f"q{i}" for i in range(questions)),
        question=tuple(f"{x} + {y}" for x, y in zip(a, b, strict=True)),
        gold=tuple(str(x + y) for x, y in zip(a, b, strict=True)),
        group=tuple(f"{n} digits" for n in size),
        sources=(Source("m"),),
        answers=tuple(tuple(str(x + y + d) for d in range(4)) for x, y in zip(a, b, strict=True)),
        count=np.full((questions, 1), samples, np.int32),
        answer=answer,
        correct=right,
        prompt_tokens=np.full(right.shape, 12, np.float32),
        completion_tokens=tokens,
    )


def vote_accuracy(chance, k, draws=4000, seed=0):
    """How often the most frequent of k answers is right, ties uniform, where errors spread over three answers."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(k, [chance, *3 * [(1 - chance) / 3]], draws)
    return np.mean((counts[:, 0] == counts.max(axis=1)) / (counts == counts.max(axis=1, keepdims=True)).sum(axis=1))


def make_policy(resource="samples", questions=400) -> Policy:
    """A value policy whose network is one layer, fitted to what its actions earn on sums of each length."""
    log = sums_log(questions)
    size = np.array([int(group[0]) for group in log.group])
    votes = [action.samples for action in ACTIONS]
    by_size = np.array([[vote_accuracy(max(1.15 - 0.17 * n, 0.13), k) for k in votes] for n in range(1, 7)])
    utility = by_size[size - 1]
    per_sample = {"samples": np.ones(questions), "tokens": 12 + 3.0 * size + 1.5}[resource]
    cost = per_sample[:, None] * np.array(votes, float)
    return fitted_policy(log, ACTIONS, utility, cost, resource)


def fitted_policy(log, actions, utility, cost, resource) -> Policy:
    """A value policy whose network is one layer."""
    featurizer = TextFeatures(shape_buckets=16, character_buckets=8, word_buckets=8)
    features = featurizer.encode(log.question)
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-3)
    action_cost = cost.mean(axis=0)
    targets = np.concatenate([utility - utility[:, :1], utility[:, :1], np.log(cost / action_cost)], axis=1)
    x = np.concatenate([(features - mean) / scale, np.ones((len(log), 1))], axis=1)
    solved = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ targets)
    weights = {
        "feature_mean": mean,
        "feature_scale": scale,
        "action_cost": action_cost,
        "is_gain": np.arange(len(actions)).clip(0, 1).astype(float),
        "Dense_0/kernel": solved[None, :-1],
        "Dense_0/bias": solved[None, -1],
    }
    policy = Policy(
        name=f"sums in {resource}",
        kind="value",
        actions=tuple(action.name for action in actions),
        resource=resource,
        unit={"samples": "samples", "tokens": "prompt + completion tokens"}[resource],
        featurizer=featurizer,
        weights={name: array.astype(np.float32) for name, array in weights.items()},
        calibration_cost=cost.astype(np.float32),
    )
    return replace(policy, calibration=(Unseen(policy.predict(log.question)),))


TWO = parse_recipes({name: {"model": name, "max_tokens": 512} for name in ("small", "large")})


def two_sources_log(questions=400, samples=2, seed=0) -> SampleLog:
    """Sums of which a small source gets some wrong that no text gives away, often in the same way, and a large one seldom, for twenty times the tokens."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(10, 100, (2, questions))
    hard = rng.random(questions) < 0.5
    chance = np.stack([np.where(hard, 0.25, 0.97), np.full(questions, 0.9)], axis=1)
    right = rng.random((questions, 2, samples)) < chance[:, :, None]
    wrong = np.where(rng.random(right.shape) < 0.5, 1, rng.integers(2, 8, right.shape))
    tokens = np.broadcast_to(np.float32([8, 388])[:, None], right.shape)
    return SampleLog(
        ids=tuple(f"q{i}" for i in range(questions)),
        question=tuple(f"{x} + {y}" for x, y in zip(a, b, strict=True)),
        gold=tuple(str(x + y) for x, y in zip(a, b, strict=True)),
        group=(None,) * questions,
        sources=(Source("small"), Source("large")),
        answers=tuple(tuple(str(x + y + d) for d in range(8)) for x, y in zip(a, b, strict=True)),
        count=np.full((questions, 2), samples, np.int32),
        answer=np.where(right, 0, wrong).astype(np.int32),
        correct=right,
        prompt_tokens=np.full(right.shape, 12, np.float32),
        completion_tokens=tokens + rng.integers(-2, 3, right.shape).astype(np.float32),
    )


def two_sources_policy(log, resource="tokens") -> Policy:
    """A policy that chooses between one sample of either source."""
    utility = log.correct.mean(axis=2)
    cost = (log.prompt_tokens + log.completion_tokens).mean(axis=2) if resource == "tokens" else np.ones((len(log), 2))
    return fitted_policy(log, [aj.single("small"), aj.single("large")], utility, cost, resource)


class AgreementOfTwo:
    """A stopping rule, whatever the multiplier: two answers that agree, or 16."""

    mark, sources = "agreement", ("m",)

    def __init__(self, policy):
        self.policy = policy

    def pace(self, budget, step):
        return make_pace(self.policy, budget, step)

    def plan(self, prediction, multiplier, max_samples, ticket, text):
        most = min(16, max_samples or 16)

        def following(seen):
            votes = Counter(one.key for one in seen)
            return () if len(seen) >= most or max(votes.values(), default=0) >= 2 else ("m",)

        return SamplingPlan(action=aj.vote("m", most), expected=3.0, next=following, limits={"m": most}, rule=self.mark)
