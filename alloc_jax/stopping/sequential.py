"""Stopping rules for a budget: a multiplier on the next sample, the same for all questions.

Where the one-shot problem chooses how many samples a question gets before it sees any, here each sample may change the plan: after
each one (or each wave) a rule stops or draws again. Maximising mean utility under a mean budget puts one multiplier on cost;
given that, the questions are separate stopping problems, which backward induction solves (`induction`). The indices of the states
hold the rules of all multipliers. Their spends are counted on the samples of the training questions (`thresholds`), and a budget is met
by a mix of two adjacent rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alloc_jax.measure.costs import unit_name
from alloc_jax.measure.estimators.u_statistics import Pairs
from alloc_jax.price_book import PriceBook
from alloc_jax.stopping.contexts import Contexts, make_contexts
from alloc_jax.stopping.fitted_value_iteration import fitted_indices
from alloc_jax.stopping.induction import FOLLOW, indices, multiplier_grid, root_values
from alloc_jax.stopping.paths import Paths, sample_paths
from alloc_jax.stopping.priors import categories, expected_tally, fit_mixture
from alloc_jax.stopping.rules import Prior, StoppingFrontier, nearest
from alloc_jax.stopping.states import FOLDS, Lattice, StateModel, Tally, by_context, tallies, waves
from alloc_jax.stopping.thresholds import IndexRules, bars, index_rules, path_index
from alloc_jax.types import SampleLog

MODELS = ("counts", "bayes", "fitted")
MULTIPLIERS = 64  # at which indices look at the best rules
RULES = 1024  # that a frontier keeps
COMPONENTS = 3  # of the Bayesian model's prior
BINS = 8  # of rewards


def solve_sequential(
    log: SampleLog,
    source: str | Sequence[str],
    *,
    answer: str = "vote",
    resource: str = "samples",
    cap: int | None = None,
    wave: int = 1,
    rounds: int | None = None,
    prior: Prior | np.ndarray | None = None,
    contexts: int = 16,
    model: str = "counts",
    follow: str = "best",
    orders: int = 16,
    seed: int = 0,
    prices: PriceBook | None = None,
    mesh: Mesh | None = None,
) -> StoppingFrontier:
    """The stopping rules of all budgets, fitted to a log.

    Args:
      log: training questions with their samples.
      source: where samples are drawn from; of several sources, each multiplier chooses one for every context, by what its rule is worth.
      answer: how a question is answered when drawing stops: "vote", "verified" (by an exact verifier, which sees success) or
        "best" (the sample of the greatest reward).
      resource: what a sample is paid with, as in `measure`.
      cap: the most samples of a question; default: the fewest that a question of the log has.
      wave: samples that are drawn at a time, and all paid for.
      rounds: the most waves.
      prior: features f[N, D] predicted from the texts by models that have not seen the question, such as
        `stopping.policy_prior` of a policy that was trained on the log's questions, in their order. None: all questions are alike
        before the first sample.
      contexts: at most so many groups of questions of like prior are told apart.
      model: "counts" (of the log's own paths, drawn towards the Bayesian model), "bayes" (Beta or Dirichlet mixtures fitted by empirical
        Bayes) or "fitted" (fitted value iteration on the paths, without a model of what comes next).
      follow: "best", or the special cases "myopic" (looks one draw ahead) and "patient" (never stops once it draws).
      orders: of every question's samples that are walked through.
      seed: of the orders.
      prices: behind the resource `usd`.
      mesh: its devices share out the questions where paths are drawn and "fitted" rules are fitted to them.

    Returns:
      A `StoppingFrontier`: `.at(budget)` gives the rule, whose `decide(state)` serves.

    Raises:
      ValueError: an unknown option, a cap above what was logged, questions without samples, a prior of another shape or not
        finite, missing answers, rewards or costs; the message says which.
    """
    sources = (source,) if isinstance(source, str) else tuple(source)
    if not sources or len(set(sources)) < len(sources):
        raise ValueError(f"sources are one or more different names, got {sources}")
    for name, given, known in (("model", model, MODELS), ("follow", follow, FOLLOW)):
        if given not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, got {given!r}")
    if model == "bayes" and answer == "best":
        raise ValueError("there is no Bayesian model of rewards: model='counts' or 'fitted'")
    if model == "fitted" and follow != "best":
        raise ValueError("fitted value iteration follows the best rule: follow='best'")
    waves(1, wave, rounds)  # before anything is drawn
    prior = prior if prior is None or isinstance(prior, Prior) else Prior(prior)
    near = make_contexts(prior and prior.features, len(log), contexts)
    bins = reward_bins(log, sources) if answer == "best" else np.zeros(0, np.float32)
    read = partial(sample_paths, log, answer=answer, resource=resource, cap=cap, orders=orders, seed=seed, bins=bins)
    walked = [read(name, prices=prices, mesh=mesh) for name in sources]
    if cap is None:
        walked = [paths.until(min(p.cap for p in walked)) for paths in walked]
    cap, may_stop = waves(walked[0].cap, wave, rounds)
    walked = [paths.until(cap) for paths in walked]
    lattice = Lattice.of(answer, cap, len(bins))

    found, models = [], []
    for name, paths in zip(sources, walked, strict=True):
        if model == "fitted":
            index, at_root = fitted_indices(paths, lattice, near, may_stop, mesh)
            models.append(at_root)
        else:
            expected = state_model(log, name, paths, lattice, near, may_stop, model)
            index = np.asarray(indices(expected, multiplier_grid(expected, MULTIPLIERS), follow))
            models.append(partial(_at_roots, expected))
        found.append(index)
    counted = partial(_count, found, walked, lattice)
    bar = [bars(path_index(index, lattice, paths, near.of)) for index, paths in zip(found, walked, strict=True)]
    if len(sources) == 1:
        rules = useful(index_rules(bar[0], walked[0])).thinned(RULES)
        multiplier, choice = rules.multiplier, np.zeros((len(rules.multiplier), len(near.center)), np.int8)
    else:
        top = max(float(x[np.isfinite(x)].max(initial=0)) for x in bar)
        top = max(top, 1 / min(paths.cost.mean(dtype=float) for paths in walked))  # where the cheapest source is best
        multiplier = top * np.geomspace(1, 1e-5, RULES)
        worth = [value(multiplier.astype(np.float32)) for value in models]
        choice = np.argmax(worth, axis=0).astype(np.int8)
    multiplier = multiplier.astype(np.float32)
    rules, choice = _rising(_foreseen(counted, multiplier, choice, near, prior), choice)
    columns = [log.source_index(name) for name in sources]
    return StoppingFrontier(
        answer=answer,
        sources=sources,
        resource=resource,
        unit=unit_name(log, resource, columns, prices),
        width=lattice.width,
        index=np.stack(found).astype(np.float32),
        multiplier=rules.multiplier.astype(np.float32),
        spend=rules.spend,
        utility=rules.utility,
        choice=choice,
        center=near.center,
        mean=near.mean,
        scale=near.scale,
        bins=bins,
    )


def state_model(
    log: SampleLog, source: str, paths: Paths, lattice: Lattice, near: Contexts, may_stop: np.ndarray, model: str
) -> StateModel:
    """What the counts or the Bayesian model expect of every state in every context."""
    contexts = len(near.center)
    parts = tallies(paths, lattice, near.of, contexts, FOLDS if contexts > 1 and model == "counts" else 1)
    if lattice.answer == "best":  # has no Bayesian model
        return by_context(parts, near.nearness, None).model(lattice.successor, may_stop)
    m = log.source_index(source)
    pairs = Pairs(log.answer[:, m], log.correct[:, m], log.sampled[:, m])
    mixture = fit_mixture(categories(pairs, lattice.answer), COMPONENTS, near.of, near.nearness)
    expected = expected_tally(mixture, lattice)
    if model == "bayes":
        nearby = parts[0].mixed(near.nearness)
        cost = nearby.paid.sum(axis=(1, 2)) / nearby.seen[:, :-1].sum(axis=(1, 2))
        paid = expected.seen[:, :-1] * cost[:, None, None]
        return Tally(expected.seen, expected.earned, expected.gone, paid).model(lattice.successor, may_stop)
    share = np.bincount(near.of, minlength=contexts) / len(near.of)
    every = expected.mixed(share[None])
    cost = paths.cost.mean(dtype=float)
    every = Tally(every.seen, every.earned, every.gone, every.seen[:, :-1] * cost)
    return by_context(parts, near.nearness, every).model(lattice.successor, may_stop)


def useful(rules: IndexRules) -> IndexRules:
    """The rules that draw where drawing on is worth something: those of a multiplier above 0, and the cheapest in any case."""
    keep = rules.multiplier > 0
    keep[0] = True
    return IndexRules(*(x[keep] for x in rules))


def reward_bins(log: SampleLog, sources: Sequence[str]) -> np.ndarray:
    """f32[B] edges between bins of equally many rewards.

    Raises:
      ValueError: the log has no rewards.
    """
    if log.reward is None:
        raise ValueError("answer='best' needs logged rewards, and the log has none")
    columns = [log.source_index(name) for name in sources]
    known = log.reward[:, columns][log.sampled[:, columns]]
    return np.unique(np.nanquantile(known, np.arange(1, BINS) / BINS)).astype(np.float32)


def _at_roots(model: StateModel, multipliers: np.ndarray) -> np.ndarray:
    """f[M, G] what the best rules of multipliers are worth before the first sample."""
    utility, cost = root_values(model, jnp.asarray(multipliers))
    return np.asarray(utility) - multipliers[:, None] * np.asarray(cost)


def _count(
    found, walked: Sequence[Paths], lattice: Lattice, multiplier: np.ndarray, choice: np.ndarray, context: np.ndarray
):
    """Mean spend and utility f64[L] of the rules of multipliers f[L] that draw contexts from sources i8[L, G], on paths."""
    spend, utility = np.zeros((2, len(multiplier)))
    for m, (index, paths) in enumerate(zip(found, walked, strict=True)):
        bar = bars(path_index(index, lattice, paths, context))
        gain = np.diff(paths.utility)
        for g in range(choice.shape[1]):
            mine = context == g
            if not mine.any() or not (choice[:, g] == m).any():
                continue
            order = np.argsort(-bar[mine], axis=None, kind="stable")
            at = np.searchsorted(-bar[mine].reshape(-1)[order], -multiplier, side="right")
            for into, x in ((spend, paths.cost[mine]), (utility, gain[mine])):
                running = np.append(0, np.cumsum(x.reshape(-1)[order], dtype=float))
                into += np.where(choice[:, g] == m, running[at], 0)
    return np.stack([spend, utility]) / (len(context) * walked[0].cost.shape[1])


def _foreseen(counted, multiplier: np.ndarray, choice: np.ndarray, near: Contexts, prior: Prior | None) -> IndexRules:
    """What the rules spend and earn once the prior's models all serve: extrapolated from all and halves of those that are unseen."""
    whole = counted(multiplier, choice, near.of)
    if prior is not None and prior.halves:
        of = [nearest((np.asarray(half, np.float32) - near.mean) / near.scale, near.center) for half in prior.halves]
        half = np.mean([counted(multiplier, choice, context) for context in of], axis=0)
        whole = whole + prior.reach * (whole - half)
    return IndexRules(multiplier.astype(float), *whole)


def _rising(rules: IndexRules, choice: np.ndarray) -> tuple[IndexRules, np.ndarray]:
    """The rules without those that spend no more than a rule of a higher multiplier."""
    keep = np.append(True, rules.spend[1:] > np.maximum.accumulate(rules.spend)[:-1])
    return IndexRules(*(x[keep] for x in rules)), choice[keep]
