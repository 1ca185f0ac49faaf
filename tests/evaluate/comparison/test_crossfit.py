"""Cross-fitting: nobody answers for a question he learned from, whoever knows nothing closes nothing, and errors say where."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.evaluate.baselines import NearestNeighbours, prompt_length
from alloc_jax.evaluate.comparison import contenders
from alloc_jax.evaluate.comparison.cases import Case, default_budgets, make_case, transferred
from alloc_jax.evaluate.comparison.crossfit import Contender, cross_fit, question_folds
from alloc_jax.evaluate.evaluation import score_plans
from alloc_jax.evaluate.scoring import UNIFORM
from alloc_jax.learn.features.text import TextFeatures
from alloc_jax.measure import measure, menu
from alloc_jax.report.pictures.frontiers import uniform_line
from tests.conftest import made_log

BUDGETS = (2.0, 3.0)  # beside the kinks of the uniform mix, which are at 1, 4 and 8
COUNTS = TextFeatures(
    shape_buckets=0, word_buckets=0, sequence_buckets=0, neighbour_buckets=0
)  # neighbours drown in hashes


def case_of(questions=200, samples=32, votes=(1, 4, 8), seed=0, budgets=BUDGETS) -> Case:
    log = made_log(questions, samples, seed)
    actions = menu(log, votes=votes)
    halves = [measure(half, actions, "samples") for half in log.split_samples(1)]
    return make_case("made", measure(log, actions, "samples"), *halves, budgets=budgets)


@pytest.fixture(scope="module")
def case():
    return case_of()


class Spy:
    """Takes the cheapest action, and remembers what it learned from and answered for."""

    name, predicts_utility, blocks, takes = "spy", True, (1,), ()
    seen: list = []  # noqa: RUF012

    def __init__(self, table):
        self.inner = prompt_length(table)
        self.learned = set(table.ids)
        self.actions, self.featurizer = self.inner.actions, self
        self.head, self.multiplier, self.predict_features = (
            self.inner.head,
            self.inner.multiplier,
            self.inner.predict_features,
        )

    def encode(self, questions, given=None):
        Spy.seen.append((self.learned, questions))
        return self.inner.featurizer.encode(questions)


def test_no_rule_answers_for_a_text_it_learned_from(case):
    Spy.seen.clear()
    doubled = replace(case, **{name: _twice(getattr(case, name)) for name in ("learn", "choose", "score")})
    parts = question_folds(doubled.learn, 5, (0, 1))
    deployed = cross_fit([Contender("spy", lambda table, seed: Spy(table))], doubled, BUDGETS, parts)
    text = dict(zip(doubled.learn.ids, doubled.learn.question, strict=True))
    assert len(Spy.seen) == 10
    for learned, answered in Spy.seen:
        assert not {text[name] for name in learned} & set(answered)
    for made in deployed:
        np.testing.assert_allclose(made.plan.sum(axis=1), 1)


def _twice(table):
    """Every question twice, under two ids."""
    again = replace(table, ids=tuple(f"{name} again" for name in table.ids))
    text = {name: getattr(table, name) + getattr(again, name) for name in ("ids", "question", "group")}
    names = ("utility", "utility_se", "cost", "cost_se", "valid", "successes", "samples")
    return replace(table, **text, **{name: np.concatenate([getattr(table, name)] * 2) for name in names})


def test_every_question_is_held_out_once_in_every_repetition(case):
    parts = question_folds(case.learn, 4, (3, 4, 5))
    for seed in (3, 4, 5):
        held = np.concatenate([part.held for part in parts if part.seed == seed])
        assert sorted(held) == list(range(len(case.learn)))
    for part in parts:
        assert not set(part.train) & set(part.held)
    assert not np.array_equal(parts[0].held, parts[4].held)


def test_folds_keep_groups_together(case):
    for part in question_folds(case.learn, 3, (0,), by_group=True):
        groups = [{case.learn.group[i] for i in rows} for rows in (part.train, part.held)]
        assert not groups[0] & groups[1]


@pytest.mark.long
def test_a_rule_that_learns_from_shuffled_outcomes_closes_nothing(case):
    def shuffled(table, seed):
        order = np.random.default_rng(seed).permutation(len(table))
        return NearestNeighbours("kNN", replace(table, utility=table.utility[order]), COUNTS)

    contenders = [
        Contender("learns", lambda table, seed: NearestNeighbours("kNN", table, COUNTS)),
        Contender("shuffled", shuffled),
    ]
    parts = question_folds(case.learn, 5, range(3))
    deployed = cross_fit(contenders, case, BUDGETS, parts)
    report = score_plans(deployed, case.choose, case.score, BUDGETS, replicates=300)
    for budget in BUDGETS:
        assert report.row("shuffled", budget).over_uniform.low <= 0
        assert report.difference("learns", "shuffled", budget).low > 0


def test_the_uniform_line_of_a_picture_is_straight_in_spend_between_two_actions(case):
    report = score_plans([], case.choose, case.score, BUDGETS, replicates=10)
    spend, accuracy = uniform_line(report)
    for budget in BUDGETS:
        drawn = np.exp(np.interp(np.log(budget), np.log(spend), np.log(accuracy)))  # as a logarithmic axis joins points
        assert drawn == pytest.approx(100 * report.row(UNIFORM, budget).accuracy.value, rel=1e-3)


def test_threads_change_nothing(case):
    parts = question_folds(case.learn, 3, (0,))
    contenders = [Contender("kNN", lambda table, seed: NearestNeighbours("kNN", table))]
    one, two = (cross_fit(contenders, case, BUDGETS, parts, workers) for workers in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.plan, second.plan)


def test_a_contender_may_learn_from_another_table(case):
    other = replace(case, learn=replace(case.learn, utility=case.learn.utility[:, ::-1].copy()))
    table = transferred(case, other)
    np.testing.assert_array_equal(table.utility, other.learn.utility)
    np.testing.assert_array_equal(table.cost, case.learn.cost)
    parts = question_folds(case.learn, 3, (0,))
    fit = Contender("kNN", lambda table, seed: NearestNeighbours("kNN", table))
    plain, odd = (cross_fit([c], case, BUDGETS, parts)[0] for c in (fit, replace(fit, table=table)))
    assert not np.array_equal(plain.plan, odd.plan)


def test_an_error_says_which_rule_fold_and_seed(case):
    def fails(table, seed):
        raise ValueError("no good")

    with pytest.raises(ValueError, match="made: broken, fold 1, seed 7, 160 training questions: no good"):
        cross_fit([Contender("broken", fails)], case, BUDGETS, question_folds(case.learn, 5, (7,)))
    twins = [Contender("a", fails)] * 2
    with pytest.raises(ValueError, match="different names"):
        cross_fit(twins, case, BUDGETS, [])


def test_a_budget_no_fold_can_meet_is_named(case):
    fit = Contender("kNN", lambda table, seed: NearestNeighbours("kNN", table))
    with pytest.raises(ValueError, match=r"budget 0\.5 is below the cheapest plan on made, fold 1"):
        cross_fit([fit], case, (0.5,), question_folds(case.learn, 5, (0,)))


def test_a_rule_that_cannot_spend_so_little_does_the_cheapest_action_and_says_so(case, caplog):
    class Dear(Spy):
        def __init__(self, table):
            super().__init__(table)
            self.multiplier = self.refuse

        def refuse(self, budget):
            raise ValueError("no multiplier is high enough")

    parts = question_folds(case.learn, 2, (0,))
    with caplog.at_level("WARNING", logger="alloc_jax"):
        made = cross_fit([Contender("dear", lambda table, seed: Dear(table))], case, (2.0,), parts)[0]
    assert "no multiplier is high enough; it does vote(small,1)" in caplog.text
    assert (made.plan[:, 0] == 1).all() and made.multiplier is None


@pytest.mark.parametrize(
    ("folds", "by_group", "message"),
    [(1, False, "2 folds or more"), (500, False, "as many questions"), (50, True, "as many groups, the table has 7")],
)
def test_folds_that_cannot_be_are_refused(case, folds, by_group, message):
    with pytest.raises(ValueError, match=message):
        question_folds(case.learn, folds, (0,), by_group)


def test_questions_without_a_group_cannot_be_split_by_it(case):
    table = replace(case.learn, group=(None, *case.learn.group[1:]))
    with pytest.raises(ValueError, match="'q0' has no group"):
        question_folds(table, 2, (0,), by_group=True)


def test_cases_refuse_what_cannot_be_compared(case):
    one = [replace(_column(t, 0)) for t in (case.learn, case.choose, case.score)]
    with pytest.raises(ValueError, match="one action"):
        make_case("one", *one, budgets=(2.0,))
    flat = [replace(t, utility=np.full_like(t.utility, 0.5)) for t in (case.learn, case.choose, case.score)]
    with pytest.raises(ValueError, match="every action earns"):
        make_case("flat", *flat, budgets=(2.0,))
    with pytest.raises(ValueError, match=r"made: budget 0\.1 is below the cheapest plan"):
        case_of(budgets=(0.1,))
    worse = replace(case.learn, utility=case.learn.utility * (np.arange(6) == 0))
    with pytest.raises(ValueError, match="no action earns more than the cheapest"):
        default_budgets(worse)


def _column(table, k):
    names = ("utility", "utility_se", "cost", "cost_se", "valid", "successes", "samples")
    return replace(table, actions=table.actions[k : k + 1], **{n: getattr(table, n)[:, k : k + 1] for n in names})


def test_questions_without_every_outcome_are_left_out_and_counted(case):
    valid = case.learn.valid.copy()
    valid[3, 1] = False
    found = make_case("holes", replace(case.learn, valid=valid), case.choose, case.score, budgets=BUDGETS)
    assert found.dropped == 1
    assert "q3" not in found.learn.ids and found.learn.ids == found.score.ids
    assert found.halved


def test_default_budgets_lie_between_the_useful_actions(case):
    budgets = default_budgets(case.learn)
    assert len(budgets) == 3
    assert 1 < budgets[0] < budgets[1] < budgets[2] < 8


def test_contenders_leave_groups_out_where_those_to_come_are_others(case, monkeypatch):
    told = []
    monkeypatch.setattr(contenders, "train", lambda table, config, *rest: told.append(config.by_group))
    monkeypatch.setattr(contenders, "boosted_gains", lambda table, featurizer, seed, by_group: told.append(by_group))
    monkeypatch.setattr(contenders, "boosted_classes", lambda table, *rest: told.append(rest[-1]))
    for by_group in (False, True):
        named = [
            contenders.baseline(name, (1.0,), by_group=by_group) for name in (contenders.GAINS, contenders.CLASSES)
        ]
        for contender in (contenders.policy("value", (1.0,), by_group=by_group), *named):
            contender.fit(case.learn, 0)
    assert told == [False] * 3 + [True] * 3
    nearest, length = (contenders.baseline(name, (1.0,), by_group=True) for name in (contenders.KNN, contenders.LENGTH))
    assert nearest.fit(case.learn, 0).by_group and length.fit(case.learn, 0).by_group
