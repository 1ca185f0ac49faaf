"""Scores, intervals and regret are what they are said to be."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from alloc_jax.evaluate import evaluate
from alloc_jax.evaluate.baselines import NearestNeighbours, prompt_length, random_mix
from alloc_jax.evaluate.outcomes import Bootstrap, Interval, Outcome, UniformMix, upper_hull
from alloc_jax.evaluate.report import HINDSIGHT, IN_SAMPLE, ORACLE, RANDOM, UNIFORM, decompose_regret
from alloc_jax.evaluate.text import main_table, markdown_table, to_markdown
from alloc_jax.measure import measure, menu
from alloc_jax.solve import solve
from tests.conftest import made_log

BUDGETS = (0.6, 1.5)


@pytest.fixture(scope="module")
def tables():
    log = made_log(samples=64)  # fewer would leave the disjoint oracle below the uniform mix: the winner's curse
    learn, held_out = log.split_questions((0.6, 0.4), 0)
    halves = held_out.split_samples(1)
    actions = menu(log, votes=(1, 4, 8))
    return [measure(part, actions, "compute") for part in (learn, *halves)]


@pytest.fixture(scope="module")
def report(tables):
    train, choose, score = tables
    policies = [NearestNeighbours("kNN", train), prompt_length(train)]
    return evaluate(policies, choose, score, BUDGETS, replicates=200)


def test_every_rule_stands_at_every_budget(report):
    expected = {ORACLE, IN_SAMPLE, "kNN", "prompt length", RANDOM, UNIFORM}
    for budget in BUDGETS:
        assert {row.rule for row in report.rows if row.budget == budget} == expected


def test_the_oracle_closes_the_gap_and_the_uniform_mix_none_of_it(report):
    for budget in BUDGETS:
        oracle = report.row(ORACLE, budget).closed
        assert (oracle.value, oracle.low, oracle.high) == (1, 1, 1)
        assert report.row(UNIFORM, budget).closed.value == 0
        assert report.row(IN_SAMPLE, budget).accuracy.value >= report.row(ORACLE, budget).accuracy.value


def test_rules_spend_about_the_budget_and_know_more_than_nothing(report):
    for budget in BUDGETS:
        for rule in ("kNN", "prompt length"):
            row = report.row(rule, budget)
            assert abs(row.spend.value / budget - 1) < 0.25
            assert row.spend.low < row.spend.value < row.spend.high
            assert row.over_uniform.value > -0.02
        assert report.row(RANDOM, budget).spend.value == pytest.approx(budget, rel=1e-6)


def test_the_same_samples_twice_are_called_hindsight(tables):
    _train, choose, _ = tables
    report = evaluate([], choose, choose, BUDGETS, replicates=20)
    assert report.oracle == HINDSIGHT
    assert {row.rule for row in report.rows} == {HINDSIGHT, RANDOM, UNIFORM}


@pytest.mark.parametrize("budget", BUDGETS)
def test_regret_splits_exactly_at_the_optimal_price_and_is_bounded_at_any(tables, budget):
    _, choose, score = tables
    solution = solve(score.problem(), budget)
    best = float(solution.mixed_utility)
    action = np.asarray(solve(choose.problem(), budget).action)
    exact = decompose_regret(score, action, budget, float(solution.multiplier), best)
    assert exact.regret == pytest.approx(exact.mispriced + exact.unspent, abs=2e-6)
    for multiplier in (0.0, 0.01, 0.1, 1.0, 10.0):
        terms = decompose_regret(score, action, budget, multiplier, best)
        assert terms.regret <= terms.mispriced + terms.unspent + 2e-6
        assert terms.mispriced <= terms.imitation_error * terms.worst_gap + 1e-12


def test_without_the_slack_term_the_bound_is_false():
    # One question, two actions: the cheap one is a best response at this price, so nothing is mispriced, yet the budget
    # would have paid for the dear one.
    from alloc_jax.types import AllocationProblem

    problem = AllocationProblem(np.array([[0.0, 1.0]], np.float32), np.array([[1.0, 3.0]], np.float32))
    best = float(solve(problem, 3.0).mixed_utility)
    table = _table_of(problem)
    terms = decompose_regret(table, np.array([0]), 3.0, 0.5, best)
    assert terms.mispriced == 0
    assert terms.regret == pytest.approx(1.0)
    assert terms.unspent == pytest.approx(1.0)


def _table_of(problem):
    from types import SimpleNamespace

    return SimpleNamespace(
        utility=np.asarray(problem.utility),
        cost=np.asarray(problem.cost),
        valid=np.ones(problem.utility.shape, bool),
    )


def test_a_mix_is_scored_by_its_expectation(tables):
    score = tables[2]
    one_hot = np.eye(score.utility.shape[1])[np.zeros(len(score), int)]
    chosen, mixed = Outcome.of(np.zeros(len(score), int), score), Outcome.of(one_hot, score)
    np.testing.assert_allclose(chosen.utility, mixed.utility)
    np.testing.assert_allclose(chosen.cost, mixed.cost)


def test_random_mix_spends_the_budget(tables):
    score = tables[2]
    for budget in (0.4, 1.0, 3.0):
        plan = random_mix(score, budget)
        assert plan.sum() == pytest.approx(1)
        assert plan @ score.cost.mean(axis=0) == pytest.approx(min(budget, score.cost.mean()), rel=1e-5)
    with pytest.raises(ValueError, match="below the cheapest action"):
        random_mix(score, 0.01)


def test_the_uniform_mix_is_the_best_mix_of_fixed_actions(tables):
    score = tables[2]
    utility = UniformMix(score, Bootstrap(len(score), 5, 0))
    cost, accuracy = score.cost.mean(axis=0), score.utility.mean(axis=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        weights = rng.dirichlet(np.full(len(cost), 0.3))
        spend = np.full(6, weights @ cost)
        assert utility.utility(spend)[0] >= weights @ accuracy - 1e-6


def test_the_hull_is_concave_and_above_every_point():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost, utility = rng.random(12), rng.random(12)
        hull = upper_hull(cost, utility)
        slopes = np.diff(utility[hull]) / np.diff(cost[hull])
        assert (slopes > 0).all() and (np.diff(slopes) <= 1e-12).all()
        reach = np.interp(cost, cost[hull], utility[hull], left=-np.inf)
        assert (utility[cost >= cost[hull[0]]] <= reach[cost >= cost[hull[0]]] + 1e-12).all()


def test_bootstrap_intervals_cover_the_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.exponential(size=150)
        interval = Bootstrap.interval(Bootstrap(150, 300, trial).mean(values))
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_evaluate_names_what_does_not_fit(tables):
    train, choose, score = tables
    policy = NearestNeighbours("kNN", train)
    with pytest.raises(ValueError, match="same questions"):
        evaluate([policy], choose, score.select(np.arange(5)), BUDGETS)
    with pytest.raises(ValueError, match="different names"):
        evaluate([policy, policy], choose, score, BUDGETS)
    with pytest.raises(ValueError, match="below the cheapest plan"):
        evaluate([policy], choose, score, (0.01,))
    with pytest.raises(ValueError, match="finite"):
        evaluate([policy], choose, score, (float("nan"),))
    with pytest.raises(ValueError, match="was trained for the actions"):
        evaluate([policy], *(replace(t, actions=t.actions[::-1]) for t in (choose, score)), BUDGETS)


def test_neighbours_of_a_training_question_do_not_include_it(tables):
    train = tables[0]
    nearest = NearestNeighbours("kNN", train, neighbours=1)
    known = nearest.predict_features(nearest.featurizer.encode(train.question))
    # Predicting the training questions themselves finds each at distance 0; calibrating must not.
    assert np.mean(np.all(known.score == train.utility, axis=1)) > 0.7
    assert np.mean(np.all(nearest._calibration.score == train.utility, axis=1)) < 0.3


def test_the_report_prints_every_row(report):
    text = to_markdown(report, "title", [("frontier.png", "a curve")])
    assert text.count("| kNN") == 4  # two budgets in two tables
    assert "![a curve](frontier.png)" in text
    header, rows = main_table(report)
    lines = markdown_table(header, rows).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_intervals_print_with_their_ends():
    assert f"{Interval(0.5, 0.25, 0.75):.2f}" == "0.50 [0.25, 0.75]"


def test_seeds_change_the_lottery_and_the_resamples(tables):
    train, choose, score = tables
    first, again, other = (
        evaluate([prompt_length(train)], choose, score, (0.6,), replicates=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first.rows[0].accuracy == again.rows[0].accuracy
    assert first.rows[0].accuracy != other.rows[0].accuracy
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, first.fixed_cost[0].value, again.fixed_cost[0].value))
