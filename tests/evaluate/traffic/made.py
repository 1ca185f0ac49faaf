"""Decisions of which the truth is known: questions with known chances, a live policy that explores, and a candidate."""

import numpy as np

from alloc_jax.learn.calibration import Prediction
from alloc_jax.logs.traffic import Traffic


class World:
    """Questions with a utility and a cost f[Q, K] of every action, and two policies that predict them with errors.

    Args:
      utility: f[Q, K] chances that an action is right.
      cost: f[Q, K] mean costs.
      seed: of the errors.
    """

    def __init__(self, utility, cost, seed=0):
        rng = np.random.default_rng(seed)
        self.utility, self.cost = utility, cost
        self.actions = tuple(f"vote(m,{2**k})" for k in range(utility.shape[1]))
        blur = lambda size: np.clip(utility + size * rng.normal(size=utility.shape), 0, 1).astype(np.float32)  # noqa: E731
        rough = (cost * np.exp(0.2 * rng.normal(size=cost.shape))).astype(np.float32)
        self.live = Prediction(blur(0.15), rough)
        self.candidate = Prediction(blur(0.05), cost.astype(np.float32))

    def truth(self, prediction, budget):
        """Accuracy of a prediction's best responses at the multipliers whose true spend meets a budget."""
        rows = np.arange(len(self.cost))
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            if prediction.spend(middle, self.cost) > budget:
                low = middle
            else:
                high = middle
        bests = [prediction.best_response(m) for m in (low, high)]
        spends, earns = zip(*((self.cost[rows, b].mean(), self.utility[rows, b].mean()) for b in bests), strict=True)
        weight = (budget - spends[1]) / (spends[0] - spends[1]) if spends[0] > spends[1] else 1.0
        return weight * earns[0] + (1 - weight) * earns[1]

    def traffic(self, decisions, seed, multiplier=0.03, explore=0.3, session=4, labelled=1.0):
        """Decisions of the live policy at a multiplier; the questions of a session are alike."""
        rng = np.random.default_rng(seed)
        sessions = -(-decisions // session)
        first = rng.integers(len(self.utility), size=sessions)
        number = np.repeat(np.arange(sessions), session)[:decisions]
        same = rng.random(decisions) < 0.5  # as the first question of the session
        row = np.where(same, first[number], rng.integers(len(self.utility), size=decisions))
        best = (self.live.score - multiplier * self.live.cost)[row].argmax(axis=1)
        count = len(self.actions)
        behaviour = np.full((decisions, count), explore / count, np.float32)
        behaviour[np.arange(decisions), best] += 1 - explore
        action = (rng.random((decisions, 1)) > np.cumsum(behaviour, axis=1)[:, :-1]).sum(axis=1)
        reward = (rng.random(decisions) < self.utility[row, action]).astype(float)
        reward[rng.random(decisions) >= labelled] = np.nan
        spent = self.cost[row, action] * rng.gamma(8.0, 1 / 8.0, decisions)
        made = Traffic(
            actions=self.actions, action=action.astype(np.int32), behaviour=behaviour, utility=self.live.score[row],
            cost=self.live.cost[row], allowed=np.ones((decisions, count), bool), spent=spent, reward=reward,
            session=number, multiplier=np.full(decisions, multiplier),
        )  # fmt: skip
        return made, Prediction(self.candidate.score[row], self.candidate.cost[row]), row


def made_world(questions=3000, actions=4, seed=0):
    """Questions of all difficulties, to which votes help in between."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0.2, 1.2, (questions, 1))
    gain = np.linspace(0.6, 1.9, actions)
    utility = 1 / (1 + np.exp(-gain * ease - 0.1 * rng.normal(size=(questions, actions))))
    cost = 2.0 ** np.arange(actions) * np.exp(0.25 * rng.normal(size=(questions, 1)))
    return World(utility, cost, seed)
