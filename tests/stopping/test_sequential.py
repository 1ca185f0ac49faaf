"""Fitting stopping rules to logs: budgets, priors, sources, waves and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.sequential.replay import replay, replay_frontier, replay_rule
from alloc_jax.evaluate.sequential.stopping_rules import beta_confidence
from alloc_jax.measure.estimators.u_statistics import Pairs
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.stopping.priors import Mixture, categories, expected_tally, fit_mixture
from alloc_jax.stopping.rules import State
from alloc_jax.stopping.sequential import solve_sequential
from alloc_jax.stopping.states import Lattice, waves
from tests.conftest import made_log


def stubborn_log(questions=400, samples=16, seed=0):
    """A third of the questions is easy, a third agrees on a wrong answer, a third answers something new each time."""
    log = made_log(questions, samples, seed)
    rng = np.random.default_rng(seed)
    kind = np.arange(questions) % 3
    new = 3 + np.arange(samples)
    answer = np.empty((questions, 2, samples), np.int32)
    for i in range(questions):
        share = {0: (0.65, 0.2), 1: (0.15, 0.75), 2: (0.1, 0.1)}[kind[i]]
        draw = rng.random((2, samples))
        answer[i] = np.where(draw < share[0], 0, np.where(draw < sum(share), 1, new))
    names = ("0", "1", *map(str, new), "never")
    return replace(log, answer=answer, correct=answer == 0, answers=(names,) * questions, compute_unit=None)


@pytest.fixture(scope="module")
def stubborn():
    return stubborn_log()


def spent(frontier, log, budget, prior=None, seed=11, cap=10):
    paths = [
        sample_paths(log, name, cap=cap, orders=12, seed=seed, resource=frontier.resource, answer=frontier.answer)
        for name in frontier.sources
    ]
    context = frontier.contexts(prior, len(log))
    played = [replay_frontier(frontier, path, context, m) for m, path in enumerate(paths)]
    return replay_rule(frontier.at(budget), played, context)


@pytest.mark.long
@pytest.mark.parametrize("model", ["counts", "bayes", "fitted"])
def test_the_multiplier_beats_fixed_confidence_where_agreement_may_be_wrong(model, stubborn):
    train, held = stubborn.select(np.arange(300)), stubborn.select(np.arange(300, 400))
    frontier = solve_sequential(train, "large", cap=10, model=model)
    found = spent(frontier, held, 3.0)
    paths = sample_paths(held, "large", cap=10, orders=12, seed=11)
    confident = replay(beta_confidence, paths).at(3.0)
    assert found.utility.mean() > confident.utility.mean() + 0.01


def test_agreement_may_be_on_a_wrong_answer(stubborn):
    frontier = solve_sequential(stubborn, "large", cap=10)
    lattice = Lattice.of("vote", 10)
    index = frontier.index[0, 0]
    unanimous = index[4, lattice.number(np.int64(4), np.int64(0))]
    torn = index[4, lattice.number(np.int64(2), np.int64(2))]
    assert torn > unanimous
    m = stubborn.source_index("large")
    pairs = Pairs(stubborn.answer[:, m], stubborn.correct[:, m], stubborn.sampled[:, m])
    mixture = fit_mixture(categories(pairs, "vote"), 3, np.zeros(len(stubborn), int), np.ones((1, 1)))
    model = expected_tally(mixture, lattice).model(lattice.successor, waves(10, 1, None)[1])
    agreed = lattice.number(np.int64(5), np.int64(1))
    paths = sample_paths(stubborn, "large", cap=10, orders=40)
    here = (paths.lead[..., 6] == 5) & (paths.chase[..., 6] == 1)
    assert model.stop[0, 6, agreed] == pytest.approx(paths.utility[..., 6][here].mean(), abs=0.06)
    assert model.stop[0, 6, agreed] < 0.75  # a posterior of the leader's share would be sure


@pytest.mark.parametrize("resource", ["samples", "tokens"])
@pytest.mark.parametrize("model", ["counts", "fitted"])
def test_a_budget_is_kept_on_held_out_questions(resource, model):
    train, held = made_log(1200, 16, seed=1), made_log(1200, 16, seed=2)
    frontier = solve_sequential(train, "large", cap=10, resource=resource, model=model)
    unit = 1.0 if resource == "samples" else float(frontier.spend[0])
    for budget in (1.5 * unit, 3 * unit):
        assert spent(frontier, held, budget).cost.mean() == pytest.approx(budget, rel=0.03)


def test_a_prior_that_tells_helps_and_one_that_does_not_is_harmless():
    train, held = made_log(900, 16, seed=1), made_log(900, 16, seed=2)
    plain = solve_sequential(train, "small", cap=10)
    terms = [np.array([[int(group)] for group in log.group], float) for log in (train, held)]
    noise = [np.random.default_rng(s).normal(size=(900, 1)) for s in (3, 4)]
    told = solve_sequential(train, "small", cap=10, prior=terms[0])
    fooled = solve_sequential(train, "small", cap=10, prior=noise[0])
    base, better, worse = (
        spent(frontier, held, 3.0, prior) for frontier, prior in ((plain, None), (told, terms[1]), (fooled, noise[1]))
    )
    assert len(told.center) > 1
    assert better.utility.mean() > base.utility.mean() + 0.005
    assert worse.utility.mean() > base.utility.mean() - 0.01


def test_waves_are_paid_whole_and_rounds_are_limits(stubborn):
    single = solve_sequential(stubborn, "large", cap=12, answer="verified")
    waved = solve_sequential(stubborn, "large", cap=12, wave=3, rounds=2, answer="verified")
    assert waved.cap == 6
    assert waved.spend[0] == pytest.approx(3.0)
    assert waved.spend[-1] <= 6 + 1e-6
    for budget in (3.0, 4.0):
        assert waved.value(budget) <= single.value(budget) + 1e-3
    rule = waved.at(4.0)
    assert [rule.decide(State(n, 1)) for n in (1, 2, 4, 5)] == ["draw"] * 4


def test_the_source_is_chosen_by_what_its_rule_is_worth():
    log = made_log(600, 16, seed=5)
    terms = np.array([[int(group)] for group in log.group], float)
    options = {"cap": 8, "resource": "compute", "prior": terms, "contexts": 8}
    both = solve_sequential(log, ("small", "large"), **options)
    assert set(np.unique(both.choice)) == {0, 1}
    alone = [solve_sequential(log, name, **options) for name in ("small", "large")]
    lowest = max(frontier.spend[0] for frontier in alone)
    for budget in (1.2 * lowest, 2 * lowest):
        assert both.value(budget) >= max(float(frontier.value(budget)) for frontier in alone) - 2e-3
        assert spent(both, log, budget, terms, seed=0, cap=8).cost.mean() == pytest.approx(budget, rel=0.02)


def test_the_best_reward_answers():
    log = made_log(300, 12, seed=6)
    noise = np.random.default_rng(0).normal(size=log.correct.shape).astype(np.float32)
    log = replace(log, reward=log.correct + 0.5 * noise)
    frontier = solve_sequential(log, "large", answer="best", cap=8)
    assert frontier.value(3.0) > frontier.utility[0] + 0.02
    index = frontier.index[0, 0, 2]
    assert index[2] > index[len(frontier.bins) + 1]  # a high reward is kept


def test_the_mixture_finds_the_prior_it_was_drawn_from():
    rng = np.random.default_rng(0)
    alpha = np.array([[6.0, 1.0, 1.0], [0.6, 0.6, 4.0]])
    which = rng.integers(0, 2, 3000)
    share = np.array([rng.dirichlet(alpha[k]) for k in which])
    counts = np.array([rng.multinomial(32, p) for p in share]).astype(float)
    found = fit_mixture(counts, 2, np.zeros(3000, int), np.ones((1, 1)))
    order = np.argsort(-found.alpha[:, 0])
    np.testing.assert_allclose(found.alpha[order], alpha, rtol=0.35)
    np.testing.assert_allclose(found.weight[0], 0.5, atol=0.05)


def test_a_verifier_needs_no_answers(stubborn):
    without = replace(stubborn, answer=np.full_like(stubborn.answer, -1), answers=((),) * len(stubborn))
    for model in ("counts", "bayes"):
        options = {"answer": "verified", "cap": 8, "model": model}
        same = [solve_sequential(log, "large", **options).index for log in (stubborn, without)]
        np.testing.assert_array_equal(*same)
        assert (same[0][0, 0, 1:, 0] > 0.01).all()


def test_what_a_mixture_expects_is_what_its_questions_do():
    rng = np.random.default_rng(1)
    alpha = np.array([[2.0, 1.5, 1.0]])
    lattice = Lattice.of("vote", 6)
    tally = expected_tally(Mixture(np.ones((1, 1)), alpha), lattice)
    np.testing.assert_allclose(tally.seen.sum(axis=2), 1)
    np.testing.assert_allclose(tally.gone.sum(axis=(2, 3)), 1)
    n, draws = 5, 40000
    share = rng.dirichlet(alpha[0], draws)
    right, wrong, tail = np.array([rng.multinomial(n, p) for p in share]).T
    lead = np.maximum(np.maximum(right, wrong), np.minimum(tail, 1))
    tied = (right == lead).astype(int) + (wrong == lead) + np.where(lead == 1, tail, 0)
    earned = np.where(right == lead, 1 / tied, 0)
    by_lead = [tally.earned[0, n].reshape(-1, lattice.width).sum(axis=1)[k] for k in range(1, 6)]
    np.testing.assert_allclose(by_lead, [earned[lead == k].sum() / draws for k in range(1, 6)], atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "magic"}, "model is one of counts, bayes, fitted"),
        ({"follow": "luck"}, "follow is one of best, myopic, patient"),
        ({"model": "fitted", "follow": "myopic"}, "follow='best'"),
        ({"cap": 17}, "cap is between 1 and"),
        ({"wave": 0}, "waves have 1 sample or more"),
        ({"rounds": 0}, "1 round or more"),
        ({"contexts": 0}, "contexts is 1 or more"),
        ({"prior": np.zeros(3)}, "one row per question"),
        ({"prior": np.full((400, 1), np.nan)}, "question 0 are not finite"),
        ({"source": "huge"}, "unknown source 'huge'"),
        ({"source": ()}, "one or more different names"),
        ({"answer": "best"}, "needs logged rewards"),
    ],
)
def test_what_cannot_be_solved_is_refused(options, message, stubborn):
    options = {"source": "large", **options}
    with pytest.raises(ValueError, match=message):
        solve_sequential(stubborn, options.pop("source"), **options)


def test_improper_mixtures_are_refused():
    with pytest.raises(ValueError, match="a proper prior"):
        Mixture(np.ones((1, 1)), np.array([[1.0, 0.0]]))
