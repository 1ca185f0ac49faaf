"""Bayesian models of a question's answers, fitted by empirical Bayes: how many samples are right, wrong, and something else.

A question's samples fall into categories with unknown shares that have a Dirichlet prior, or a mixture of a few (easy, doubtful and
hopeless questions do not make a unimodal prior):

    verified  right and wrong: a Beta prior.
    vote      right, the most frequent wrong answer, and an open tail, each of whose answers is new. The leader may be the
              wrong answer, and agreement on it grows as agreement on the right one does.

The components are fitted to all questions, their weights to those of each context. A rule sees only a leader and a
runner-up of the categories; sums over the rest are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import gammaln, logsumexp

from alloc_jax.measure.estimators.u_statistics import Pairs
from alloc_jax.stopping.states import Lattice, StateModel, Tally

STEPS = 400  # of Adam
SHARED = 20.0  # questions that all questions together count in the weights of a context


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of H Dirichlet priors over C categories; the first category is right."""

    weight: np.ndarray  # f64[G, H] of the components in each context
    alpha: np.ndarray  # f64[H, C]

    def __post_init__(self):
        proper = np.isfinite(self.alpha).all() and (self.alpha > 0).all()
        if not proper or not np.isfinite(self.weight).all() or (self.weight < 0).any():
            raise ValueError(f"a proper prior has positive, finite parameters and weights, got {self}")


def categories(pairs: Pairs, answer: str) -> np.ndarray:
    """f64[N, C] how many samples of each question are right, and wrong; for a vote, most frequently wrong, and the rest."""
    size, right = pairs.count, pairs.correct.sum(axis=1)
    if answer != "vote":
        return np.stack([right, size - right], axis=1).astype(float)
    counts = pairs.answers
    wrong = np.where(counts.correct < 0.5, counts.count, 0).max(axis=1)
    wrong = np.minimum(wrong, size - right)  # graders may disagree on an answer
    return np.stack([right, wrong, size - right - wrong], axis=1).astype(float)


def fit_mixture(counts: np.ndarray, components: int, context: np.ndarray, nearness: np.ndarray) -> Mixture:
    """The mixture of the greatest likelihood, with weights for each context.

    Args:
      counts: f[N, C] samples of every category.
      components: H.
      context: i64[N] of the questions.
      nearness: f[G, G] by how much the questions of a context count in another.
    """
    kinds, which, many = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(kinds[:, 0] / kinds.sum(axis=1), kind="stable")
    parts = np.array_split(np.repeat(order, many[order]), components)
    start = np.stack([kinds[part].sum(axis=0) / kinds[part].sum() for part in parts])
    spare = (1 << (len(kinds) - 1).bit_length()) - len(kinds)  # few shapes, so that few fits compile
    padded = np.pad(kinds, ((0, spare), (0, 0)), constant_values=1), np.pad(many, (0, spare)), 4 * start + 0.2
    weight, alpha, chance = (np.asarray(x, float) for x in _fit(*map(jnp.float32, padded)))
    mine = np.zeros((len(nearness), components))
    np.add.at(mine, context, chance[which.reshape(-1)])
    mine = nearness @ mine + SHARED * weight
    return Mixture(mine / mine.sum(axis=1, keepdims=True), alpha)


@jax.jit
def _fit(kinds: jax.Array, many: jax.Array, start: jax.Array):
    """Weights f[H] and parameters f[H, C] of the greatest likelihood, and the chances f[kinds, H] of the components."""

    def joint(params):
        logits, log_alpha = params
        alpha, n = jnp.exp(log_alpha), kinds.sum(axis=1)
        each = gammaln(kinds[:, None, :] + alpha[None]) - gammaln(alpha)[None]
        size = alpha.sum(axis=1)
        whole = gammaln(size)[None] - gammaln(n[:, None] + size[None])
        return jax.nn.log_softmax(logits)[None] + each.sum(axis=2) + whole

    def loss(params):
        wide = 1e-3 * (jnp.square(params[1])).sum()  # keeps a component that nobody is in from running away
        return -(many * logsumexp(joint(params), axis=1)).sum() / many.sum() + wide / many.sum()

    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, STEPS))
    params = jnp.zeros(len(start)), jnp.log(start)

    def step(state, _):
        params, memory = state
        updates, memory = optimiser.update(jax.grad(loss)(params), memory)
        params = optax.apply_updates(params, updates)
        return (params[0], jnp.clip(params[1], -7, 7)), memory

    (params, _), _ = jax.lax.scan(
        lambda state, x: (step(state, x), None), (params, optimiser.init(params)), None, length=STEPS
    )
    return jax.nn.softmax(params[0]), jnp.exp(params[1]), jax.nn.softmax(joint(params), axis=1)


def expected_tally(mixture: Mixture, lattice: Lattice) -> Tally:
    """The expectations of a mixture, as a tally of one question per context; samples cost 0."""
    each = [_component(alpha, lattice) for alpha in mixture.alpha]
    parts = [np.stack([getattr(one, name) for one in each]) for name in ("seen", "earned", "gone", "paid")]
    return Tally(*parts).mixed(mixture.weight)


def _component(alpha: np.ndarray, lattice: Lattice) -> Tally:
    cap, states, ways = lattice.cap, lattice.states, lattice.successor.shape[1]
    seen, earned = np.zeros((2, cap + 1, states))
    gone = np.zeros((cap, states, ways))
    for n in range(cap + 1):
        counts = _all_counts(n, len(alpha))
        chance = np.exp(_log_chance(counts, alpha))
        lead, chase, right = _look(counts, lattice.answer)
        number = lattice.number(lead, chase)
        np.add.at(seen[n], number, chance)
        np.add.at(earned[n], number, chance * right)
        for c in range(len(alpha) if n < cap else 0):
            more = counts + np.eye(len(alpha), dtype=int)[c]
            after = _look(more, lattice.answer)
            way = lattice.way(np.stack([lead, after[0]], axis=1), np.stack([chase, after[1]], axis=1))[:, 0]
            np.add.at(gone[n], (number, way), chance * (alpha[c] + counts[:, c]) / (alpha.sum() + n))
    return Tally(seen, earned, gone, np.zeros((cap, states)))


def _all_counts(n: int, categories: int) -> np.ndarray:
    """i64[..., C] all ways to spread n samples over categories."""
    first = np.arange(n + 1)
    if categories == 2:
        return np.stack([first, n - first], axis=1)
    right, wrong = (x.ravel() for x in np.meshgrid(first, first, indexing="ij"))
    keep = right + wrong <= n
    return np.stack([right, wrong, n - right - wrong], axis=1)[keep]


def _log_chance(counts: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """f64[...] the Dirichlet-multinomial log chance of counts i[..., C]."""
    n = int(counts[0].sum())
    rising = [np.append(0, np.cumsum(np.log(a + np.arange(n)))) for a in (*alpha, alpha.sum(), 1.0)]
    whole = rising[-1][n] - rising[-2][n]
    return whole + sum(rising[c][counts[:, c]] - rising[-1][counts[:, c]] for c in range(len(alpha)))


def _look(counts: np.ndarray, answer: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leader and runner-up of counts i[..., C], and what answering with the leader earns; tied ones answer evenly."""
    right = counts[:, 0]
    if answer != "vote":
        return np.minimum(right, 1), np.zeros_like(right), np.minimum(right, 1)
    _, wrong, tail = counts.T
    votes = np.sort(np.stack([right, wrong, np.minimum(tail, 1), np.minimum(np.maximum(tail - 1, 0), 1)], 1), axis=1)
    lead, chase = votes[:, -1], votes[:, -2]
    tied = (right == lead).astype(int) + (wrong == lead) + np.where(lead == 1, tail, 0)
    return lead, chase, np.where(lead > 0, (right == lead) / np.maximum(tied, 1), 0)


def beta_model(alpha: np.ndarray, beta: np.ndarray, cap: int, cost: float = 1.0) -> StateModel:
    """An exact verifier's states under Beta priors, one per context: after n failures the next sample is right with chance alpha /
    (alpha + beta + n).

    Args:
      alpha: f[G] above 0, and beta f[G] alike.
      cap: samples.
      cost: of a sample.

    Raises:
      ValueError: a prior is improper.
    """
    alpha, beta = (np.asarray(x, np.float32)[:, None] for x in (alpha, beta))
    if not (np.isfinite(alpha + beta).all() and (alpha > 0).all() and (beta > 0).all()):
        raise ValueError("a proper Beta prior has two positive, finite parameters")
    chance = alpha / (alpha + beta + np.arange(cap, dtype=np.float32))
    sure = np.array([0, 1], np.float32)
    chance = np.stack([np.stack([1 - chance, chance], -1), np.broadcast_to(sure, (*chance.shape, 2))], 2)
    stop = np.broadcast_to(sure, (len(alpha), cap + 1, 2))
    lattice = Lattice.of("verified", cap)
    return StateModel(stop, chance, np.full(chance.shape[:3], cost, np.float32), lattice.successor, np.arange(cap) > 0)
