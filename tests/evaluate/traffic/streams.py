"""Streams whose world changes halfway: a live policy with a pace, exploration, verdicts and costs, without a gateway."""

from dataclasses import dataclass

import numpy as np

import alloc_jax as aj
from alloc_jax.logs.traffic import Traffic
from alloc_jax.serve.pacing import make_pace
from alloc_jax.serve.traffic.exploring import chances, draw, priced
from tests.conftest import made_log
from tests.serve.made import fitted_policy

ACTIONS = (aj.single("small"), aj.vote("small", 4), aj.single("large"), aj.vote("large", 4))
UNIT = np.array([1.0, 4.0, 3.0, 12.0])  # cost of an action


@dataclass(frozen=True, eq=False)
class World:
    """Questions of sums, and the chance that either source is right."""

    log: object
    utility: np.ndarray  # f[Q, K]
    cost: np.ndarray  # f[Q, K]

    def harder(self, share=0.5):
        """Rows of the hardest questions."""
        return np.argsort(self.utility[:, 0], kind="stable")[: int(share * len(self.utility))]

    def replaced(self):
        """The large model's answers are now the small one's, and worse; its price stays."""
        utility = self.utility.copy()
        utility[:, 2:] = 0.8 * utility[:, :2]
        return World(self.log, utility, self.cost)

    def dearer(self, times=2.0):
        """All prices are higher."""
        return World(self.log, self.utility, times * self.cost)


def world(questions=1500, seed=0):
    log = made_log(questions=questions, samples=1, seed=seed)
    terms = np.array([len(text.split("+")) for text in log.question])
    small, large = np.exp(-0.35 * (terms - 1)), np.exp(-0.15 * (terms - 1))
    lift = 1.6  # of a vote of four, on what is more often right than wrong
    voted = [p**lift / (p**lift + (1 - p) ** lift + 1e-9) for p in (small, large)]
    return World(log, np.stack([small, voted[0], large, voted[1]], axis=1), np.tile(UNIT, (questions, 1)))


def policy_of(known: World):
    return fitted_policy(known.log, list(ACTIONS), known.utility, known.cost, "samples")


def stream(policy, worlds, rows, budget, *, exploration=0.1, step=0.06, seed=0):
    """Decisions on `rows`, each in the world of its turn.

    Args:
      policy: live.
      worlds: the world of each turn.
      rows: the question of each turn.
      budget: mean cost per question.
    """
    rng = np.random.default_rng(seed)
    predicted = policy.predict(worlds[0].log.question)
    mean = float(policy.calibration_cost.mean())
    pace = priced(lambda left: make_pace(policy, left, step), budget, exploration, mean)
    dual, many = pace.dual, len(policy.actions)
    action, behaviour, spent, reward, multipliers = [], [], [], [], []
    for now, i in zip(worlds, rows, strict=True):
        multiplier = pace.multiplier(dual)
        best = int(np.argmax(predicted.score[i] - np.float32(multiplier) * predicted.cost[i]))
        chance = chances(np.ones(many, bool), best, exploration)
        k = draw(chance, rng.random())
        cost = now.cost[i, k] * rng.gamma(20.0, 1 / 20.0)
        dual = pace.moved(dual, cost - budget)
        action.append(k)
        behaviour.append(chance)
        spent.append(cost)
        reward.append(float(rng.random() < now.utility[i, k]))
        multipliers.append(multiplier)
    return Traffic(
        actions=policy.actions, action=np.array(action, np.int32), behaviour=np.array(behaviour, np.float32),
        utility=predicted.score[rows], cost=predicted.cost[rows], allowed=np.ones((len(rows), many), bool),
        spent=np.array(spent), reward=np.array(reward), session=np.arange(len(rows)), multiplier=np.array(multipliers),
    )  # fmt: skip


def earned(policy, now: World, rows, budget):
    """What a policy earns in a world at a budget, its multiplier solved for what questions really cost."""
    predicted, at = policy.predict(now.log.question), np.arange(len(now.cost))
    low, high = 0.0, 100.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        best = predicted.best_response(middle)
        low, high = (middle, high) if now.cost[at, best][rows].mean() > budget else (low, middle)
    ends = [predicted.best_response(m) for m in (low, high)]
    spends, earns = zip(*((now.cost[at, b][rows].mean(), now.utility[at, b][rows].mean()) for b in ends), strict=True)
    weight = 1.0 if spends[0] <= spends[1] else np.clip((budget - spends[1]) / (spends[0] - spends[1]), 0, 1)
    return float(weight * earns[0] + (1 - weight) * earns[1])
