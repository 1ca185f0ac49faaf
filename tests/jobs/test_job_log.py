"""Cases of sample logs: what is paid with unasked, which actions, which questions are left out, and that halves share no sample."""

import numpy as np
import pytest

from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.jobs.config import LogConfig
from alloc_jax.jobs.job_log import LONGEST_MENU, JobLog, default_actions
from alloc_jax.logs import read_log


def saved(folder, questions=40, actions=3, samples=40, **changed):
    """A compact archive of outcomes without answers; each action costs one more than the one before."""
    rng = np.random.default_rng(0)
    chance = rng.random((questions, 1, 1)) * np.linspace(0.4, 1, actions)[:, None]
    arrays = {
        "qid": np.array([f"q{i}" for i in range(questions)]),
        "question": np.array([f"question {i}" for i in range(questions)]),
        "action": np.array([f"model {k}" for k in range(actions)]),
        "correct": (rng.random((questions, actions, samples)) < chance).astype(np.uint8),
        "cost": np.broadcast_to(np.arange(1, actions + 1, dtype=np.float32), (questions, actions)).copy(),
        "cost_unit": np.array("calls"),
    }
    path = folder / "made.npz"
    np.savez(path, **{**arrays, **{k: v(arrays[k]) if callable(v) else v for k, v in changed.items()}})
    return str(path)


def read_case(path, config, questions=0):
    return JobLog.read(path, config, questions).case(config.budgets, config.seed)


def without(cell, samples=slice(None)):
    def change(correct):
        correct = correct.copy()
        correct[(*cell, samples)] = 255
        return correct

    return change


def test_many_samples_without_answers_are_right_once_one_of_k_is(tmp_path):
    case = read_case(saved(tmp_path), LogConfig())
    assert case.name == "made" and case.halved and case.dropped == 0
    assert {(action.aggregator, action.samples) for action in case.learn.actions} == {
        ("passes", k) for k in (1, 4, 8, 16)
    }


def test_halves_share_no_sample_and_lose_none(tmp_path):
    path = saved(tmp_path, correct=without((slice(None), slice(None)), slice(37, None)))
    case = read_case(path, LogConfig())
    np.testing.assert_array_equal(case.choose.samples + case.score.samples, case.learn.samples)
    np.testing.assert_array_equal(case.choose.successes + case.score.successes, case.learn.successes)
    assert (case.learn.samples == 37).all() and (abs(case.choose.samples - case.score.samples) <= 1).all()
    assert not np.array_equal(case.choose.successes, read_case(path, LogConfig(seed=1)).choose.successes)


@pytest.mark.parametrize(
    ("unit", "paid", "shown"),
    [("calls", "stated", "calls"), ("USD per call", "usd", "usd"), ("output tokens", "tokens", "completion tokens")],
)
def test_a_log_is_paid_in_what_it_knows(tmp_path, unit, paid, shown):
    case = read_case(saved(tmp_path, samples=1, cost_unit=np.array(unit)), LogConfig())
    assert (case.learn.resources, case.learn.units) == ((paid,), (shown,))
    np.testing.assert_allclose(case.learn.cost[0], [1, 2, 3])
    assert not case.halved
    assert read_case(saved(tmp_path), LogConfig(resource="samples", budgets=(2.0,))).learn.resources == ("samples",)


def test_what_cannot_be_priced_is_refused_or_left_out(tmp_path, caplog):
    def unknown(cost):
        cost[:, 1] = cost[3, 0] = np.nan
        return cost

    path = saved(tmp_path, samples=1, cost=unknown, cost_unit=np.array("USD per call"))
    with pytest.raises(ValueError, match="question 'q3' has a sample of 'model 0'"):
        read_case(path, LogConfig())
    case = read_case(path, LogConfig(missing="drop"))
    assert [action.source for action in case.learn.actions] == ["model 0", "model 2"]
    assert case.dropped == 1 and "q3" not in case.learn.ids
    assert "left out for want of a price or of samples: model 1" in caplog.text


def test_the_few_questions_with_a_single_sample_are_left_out_for_the_sake_of_halves(tmp_path):
    case = read_case(saved(tmp_path, correct=without((4, -1), slice(1, None))), LogConfig())
    assert case.halved and case.dropped == 1 and "q4" not in case.learn.ids


def test_a_source_of_single_samples_among_others_of_many_is_left_out(tmp_path):
    path = saved(tmp_path, correct=without((slice(None), 0), slice(1, None)))
    assert not read_case(path, LogConfig()).halved
    case = read_case(path, LogConfig(missing="drop"))
    assert case.halved and {action.source for action in case.learn.actions} == {"model 1", "model 2"}


def test_a_question_that_an_action_was_not_sampled_on_is_left_out(tmp_path):
    case = read_case(saved(tmp_path, samples=1, correct=without((4, 1))), LogConfig())
    assert case.dropped == 1 and "q4" not in case.learn.ids


def test_of_a_long_menu_those_actions_are_kept_that_no_mix_beats(tmp_path):
    log = read_log(saved(tmp_path, actions=LONGEST_MENU + 1, samples=1))
    names = [action.source for action in default_actions(log, "stated")]
    right, cost = log.correct[:, :, 0].mean(axis=0), np.arange(1, LONGEST_MENU + 2)
    assert names == [log.sources[m].name for m in np.sort(upper_hull(cost, right))]
    assert len(default_actions(read_log(saved(tmp_path, actions=LONGEST_MENU, samples=1)), "stated")) == LONGEST_MENU


def test_the_task_of_a_question_is_its_group(tmp_path):
    path = saved(tmp_path, task=np.array(["sums", "words"] * 20), group=np.array(["all"] * 40))
    assert read_case(path, LogConfig()).learn.group[:2] == ("sums", "words")


def test_as_many_questions_are_drawn_as_asked_for_and_another_seed_draws_others(tmp_path):
    path = saved(tmp_path)
    drawn = [JobLog.read(path, LogConfig(seed=seed), 7) for seed in (3, 3, 4)]
    assert len(drawn[0].log) == 7 and drawn[0].dropped == 0
    assert drawn[0].log.ids == drawn[1].log.ids != drawn[2].log.ids


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LogConfig(budgets=(0.5,)), "budget 0.5 is below the cheapest plan"),
        (LogConfig(missing="zero"), "missing is 'error' or 'drop'"),
        (LogConfig(resource="usd"), "needs prices"),
        (LogConfig(prices="nowhere.json"), "nowhere.json"),
        (LogConfig(actions="vote(model 0,1)", budgets=(2.0,)), "one action"),
        (LogConfig(actions="vote(model 9,1)"), "unknown source 'model 9'"),
    ],
)
def test_bad_settings_are_named(tmp_path, config, message):
    with pytest.raises((ValueError, OSError), match=message):
        read_case(saved(tmp_path), config)
