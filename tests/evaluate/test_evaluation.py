"""Scores, intervals and regret are what they are said to be."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from alloc_jax.evaluate import evaluate
from alloc_jax.evaluate.baselines import NearestNeighbours, RidgeRegression, best_single, prompt_length, random_mix
from alloc_jax.evaluate.intervals import Bootstrap, Interval
from alloc_jax.evaluate.outcomes import Outcome
from alloc_jax.evaluate.scoring import HINDSIGHT, IN_SAMPLE, ORACLE, RANDOM, SINGLE, UNIFORM
from alloc_jax.evaluate.uniform_mix import UniformMix, upper_hull
from alloc_jax.learn.calibration import MixedMultiplier
from alloc_jax.measure import measure, menu
from alloc_jax.report.pages.markdown import to_markdown
from alloc_jax.report.pages.page import report_page
from alloc_jax.report.pictures.diagnostics import share_right
from alloc_jax.report.pictures.style import Picture
from alloc_jax.report.tables import main_table, markdown_table, regret_table
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
    expected = {ORACLE, IN_SAMPLE, "kNN", "prompt length", RANDOM, SINGLE, UNIFORM}
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
    assert {row.rule for row in report.rows} == {HINDSIGHT, RANDOM, SINGLE, UNIFORM}


def test_a_mix_is_scored_by_its_expectation(tables):
    score = tables[2]
    first = np.zeros(score.utility.shape)
    first[:, 0] = 0.25
    first[:, 3] = 0.75
    outcome = Outcome.of(first, score)
    np.testing.assert_allclose(outcome.utility, 0.25 * score.utility[:, 0] + 0.75 * score.utility[:, 3], rtol=1e-6)
    np.testing.assert_allclose(outcome.cost, 0.25 * score.cost[:, 0] + 0.75 * score.cost[:, 3], rtol=1e-6)


def test_random_mix_spends_the_budget(tables):
    cost = tables[2].cost.mean(axis=0)
    for budget in (0.4, 1.0, 3.0):
        mix = random_mix(cost, budget)
        assert mix.sum() == pytest.approx(1)
        assert mix @ cost == pytest.approx(min(budget, cost.mean()), rel=1e-5)
        np.testing.assert_allclose(random_mix(np.stack([2 * cost, cost]), budget)[1], mix)
    assert random_mix(cost, 0.01) @ cost == pytest.approx(cost.min())


def test_the_best_single_action_is_within_the_budget(tables):
    score = tables[2]
    cost, utility = score.cost.mean(axis=0), score.utility.mean(axis=0)
    for budget in (0.4, 1.0, 3.0):
        single = best_single(score, budget)
        assert cost[single] <= budget
        assert utility[single] == utility[cost <= budget].max()
    assert best_single(score, 0.01) is None


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


def test_differences_between_rules_are_paired(report):
    first, second = (report.row(rule, 1.5) for rule in ("kNN", "prompt length"))
    difference = report.difference("kNN", "prompt length", 1.5)
    assert difference.value == pytest.approx(first.over_uniform.value - second.over_uniform.value)
    widths = [row.over_uniform.high - row.over_uniform.low for row in (first, second)]
    assert difference.high - difference.low < np.hypot(*widths)
    assert report.difference("kNN", UNIFORM, 1.5).value == pytest.approx(first.over_uniform.value)


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
    text = to_markdown(report_page(report, "title", [Picture(Path("folder/frontier.png"), "A caption", "a curve")]))
    assert text.count("| kNN") == 4  # two budgets in two tables
    assert "![a curve](frontier.png)\n\n*A caption.*" in text
    header, rows = main_table(report)
    lines = markdown_table(header, rows).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_intervals_print_with_their_ends():
    assert f"{Interval(0.5, 0.25, 0.75):.2f}" == "0.50 [0.25, 0.75]"


def test_what_rounds_to_zero_prints_without_a_minus():
    assert f"{Interval(-0.001, -0.2, 0.3):+.1f}" == "+0.0 [-0.2, +0.3]"
    assert f"{Interval(-0.4, -0.3, -0.0):.0f}" == "0 [0, 0]"


def test_regret_of_less_than_a_hundredth_of_a_point_prints_without_a_minus(report):
    row = next(row for row in report.rows if row.regret is not None)
    tiny = replace(row, regret=replace(row.regret, unspent=Interval(-1e-6, -2e-6, 1e-6)))
    (cells,) = regret_table(replace(report, rows=(tiny,)))[1]
    assert cells[5] == "0.00 [0.00, 0.00]" and "-0.00" not in " ".join(cells)


def test_seeds_change_the_lottery_and_the_resamples(tables):
    train, choose, score = tables
    first, again, other = (
        evaluate([prompt_length(train)], choose, score, (0.6,), replicates=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first.rows[0].accuracy == again.rows[0].accuracy
    assert first.rows[0].accuracy != other.rows[0].accuracy
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, first.fixed_cost[0].value, again.fixed_cost[0].value))


def holes(table, rows):
    """The table without samples of its last action on some questions, as `measure` leaves them: 0, and not valid."""
    valid = table.valid.copy()
    valid[rows, -1] = False
    parts = {name: np.where(valid, getattr(table, name), 0).astype(np.float32) for name in ("utility", "cost")}
    return replace(table, valid=valid, **parts)


def test_absent_pairs_are_refused_or_left_out_and_never_count_as_free_and_wrong(tables):
    _train, choose, score = tables
    rows = np.arange(0, len(score), 2)
    sparse = [holes(table, rows) for table in (choose, score)]
    with pytest.raises(ValueError, match=r"choose: question '.*' has no samples for vote.large,8. .40 of 80 questions"):
        evaluate([], *sparse, BUDGETS)
    with pytest.raises(ValueError, match="score: question"):
        evaluate([], choose, sparse[1], BUDGETS)
    kept = evaluate([], *sparse, BUDGETS, missing="drop", replicates=20)
    whole = evaluate([], *(table.select(rows + 1) for table in (choose, score)), BUDGETS, replicates=20)
    assert kept.dropped == 40 and kept.questions == 40 and whole.dropped == 0
    assert kept.fixed_cost == whole.fixed_cost and kept.row(ORACLE, 1.5).accuracy == whole.row(ORACLE, 1.5).accuracy
    assert evaluate([], sparse[0], sparse[0], BUDGETS, missing="drop", replicates=20).oracle == HINDSIGHT
    with pytest.raises(ValueError, match="missing is"):
        evaluate([], choose, score, BUDGETS, missing="zero")


@pytest.mark.parametrize(
    "average",
    [
        lambda table: UniformMix(table, Bootstrap(len(table), 5, 0)),
        lambda table: best_single(table, 1.0),
        lambda table: NearestNeighbours("kNN", table),
        lambda table: RidgeRegression("ridge", table),
        lambda table: Outcome.of(np.full(table.utility.shape, 1 / 6), table),
    ],
)
def test_nothing_averages_over_pairs_that_are_not_there(tables, average):
    with pytest.raises(ValueError, match=r"vote\(large,8\)"):
        average(holes(tables[2], [3]))


def test_a_source_that_was_not_sampled_does_not_make_a_question_harder(tables):
    table = tables[2]
    large = np.array([action.source == "large" for action in table.actions])
    absent = replace(table, **{n: np.where(large, getattr(table, n), 0) for n in ("successes", "samples")})
    alone = table.successes[:, large][:, 0] / table.samples[:, large][:, 0]
    np.testing.assert_allclose(share_right(absent), alone)


def test_budgets_that_only_a_choice_among_questions_can_keep_are_evaluated(tables):
    _train, choose, score = tables
    least = [float(table.cost.min(axis=1).mean()) for table in (choose, score)]
    cost = score.cost.copy()
    cost[::2, 0] *= 3  # on half of the questions another action is the cheapest
    odd = replace(score, cost=cost)
    fixed = float(cost.mean(axis=0).min())
    budget = 0.5 * (max(float(cost.min(axis=1).mean()), *least) + fixed)
    assert budget < fixed
    report = evaluate([], replace(choose, cost=cost), odd, (budget,), replicates=20)
    assert {row.rule for row in report.rows} == {ORACLE, IN_SAMPLE, UNIFORM}
    oracle, uniform = report.row(ORACLE, budget), report.row(UNIFORM, budget)
    assert oracle.accuracy.value > 0 and np.isnan([oracle.over_uniform.value, uniform.accuracy.value]).all()
    assert main_table(report)[1][0][4:7] == ["n/a"] * 3


def test_a_budget_that_no_action_reaches_is_not_spent(tables):
    _train, choose, score = tables
    report = evaluate([], choose, score, (50.0,), replicates=50)
    dearest = score.cost.mean(axis=0).max()
    for row in report.rows:
        assert row.spend.value <= dearest * (1 + 1e-6)


def test_an_unknown_rule_or_budget_is_named(report):
    with pytest.raises(
        ValueError, match=r"no row of 'KNN' at a budget of 0.6: the rules are .*'kNN'.* budgets 0.6, 1.5"
    ):
        report.row("KNN", 0.6)


class Deploys:
    """A policy with the interface that `evaluate` asks for."""

    name = "made"

    def __init__(self, table, predicts_utility):
        self.predicts_utility, self._inner = predicts_utility, NearestNeighbours("kNN", table)
        self.actions, self.featurizer = self._inner.actions, self._inner.featurizer
        self.head, self.predict_features = self._inner.head, self._inner.predict_features

    def multiplier(self, budget):
        return MixedMultiplier(0.07, 0.07, 1.0)


def test_regret_is_taken_at_the_multiplier_that_was_deployed_whatever_the_kind_of_policy(tables):
    train, choose, score = tables
    found = [evaluate([Deploys(train, told)], choose, score, BUDGETS, replicates=20) for told in (True, False)]
    for budget in BUDGETS:
        deployed, other = (report.row("made", budget).regret for report in found)
        assert deployed.multiplier == pytest.approx(0.07)
        assert other.multiplier == pytest.approx(float(solve(score.problem(), budget).multiplier))
        assert deployed.regret == other.regret


def test_the_difference_at_the_budget_and_the_one_at_the_spend_part_where_a_rule_leaves_budget_over(report, tables):
    mix = UniformMix(tables[2], Bootstrap(len(tables[2]), 2, 0))
    for row in (row for row in report.rows if row.rule != UNIFORM):
        for gain, spend in ((row.over_uniform, row.spend.value), (row.over_uniform_at_budget, row.budget)):
            expected = row.accuracy.value - mix.utility(np.full(3, spend))[0]
            assert gain.value == pytest.approx(expected, abs=1e-9) and gain.low <= gain.value <= gain.high
