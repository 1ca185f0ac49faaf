"""From a log to a table: costs and their units, masks, and what is refused."""

import numpy as np
import pytest

from alloc_jax.actions import Action, vote
from alloc_jax.measure import measure, menu
from alloc_jax.types import Source
from tests.logs.sample_logs import enumerated_vote, make_log


def test_every_cell_is_the_expected_vote_of_its_source_and_the_order_of_actions_is_kept():
    log = make_log()
    actions = (vote("large", 3), vote("small", 1), vote("small", 3), vote("large", 1))
    table = measure(log, actions)
    assert table.actions == actions
    for i in range(len(log)):
        for j, action in enumerate(actions):
            m = log.source_index(action.source)
            expected = enumerated_vote(log.answer[i, m].tolist(), log.correct[i, m], action.samples)
            assert table.utility[i, j] == pytest.approx(float(expected), abs=1e-6)
    np.testing.assert_array_equal(table.successes[:, 1], log.correct[:, 0].sum(axis=1))
    assert (table.samples == 4).all() and table.valid.all()


def test_sources_may_have_menus_of_their_own():
    count = np.tile(np.array([[2, 4]], np.int32), (6, 1))
    log = make_log(count=count)
    table = measure(log, [vote("small", 2), vote("large", 1), vote("large", 3)])
    alone = measure(log, [vote("large", 3)])
    np.testing.assert_allclose(table.utility[:, 2], alone.utility[:, 0], atol=1e-6)


def test_a_vote_of_k_costs_k_mean_samples_of_its_question():
    log = make_log()
    table = measure(log, menu(log, votes=(1, 3)), ("samples", "tokens"))
    tokens = log.prompt_tokens + log.completion_tokens
    assert table.cost.shape == (6, 4, 2) and table.resources == ("samples", "tokens")
    np.testing.assert_array_equal(table.cost[0, :, 0], [1, 3, 1, 3])
    assert not table.cost_se[:, :, 0].any()
    np.testing.assert_allclose(table.cost[:, 3, 1], 3 * tokens[:, 1].mean(axis=1), rtol=1e-6)
    spread = tokens[:, 1].std(axis=1, ddof=1)
    np.testing.assert_allclose(table.cost_se[:, 3, 1], 3 * spread / np.sqrt(4), rtol=1e-5)
    assert table.units == ("samples", "prompt + completion tokens")
    assert measure(log, ["vote(small,1)"], "tokens").cost.shape == (6, 1)


def test_tokens_without_logged_prompts_are_completion_tokens_and_say_so():
    log = make_log(prompt_tokens=None)
    table = measure(log, ["vote(small,1)"], "tokens")
    assert table.units == ("completion tokens",)
    np.testing.assert_allclose(table.cost[:, 0], log.completion_tokens[:, 0].mean(axis=1), rtol=1e-6)


def test_one_unit_of_compute_is_one_mean_sample_of_the_dearest_source():
    log = make_log()
    table = measure(log, menu(log, votes=(1,)), "compute")
    assert table.units == ("mean large samples",)
    assert table.cost[:, 1].mean() == pytest.approx(1, rel=1e-5)
    tokens = log.prompt_tokens + log.completion_tokens
    np.testing.assert_allclose(table.cost[:, 0], tokens[:, 0].mean(axis=1) / 10 / tokens[:, 1].mean(), rtol=1e-5)


def test_all_tables_of_one_log_count_compute_in_the_same_unit():
    log = make_log(questions=20, samples=6)
    whole = measure(log, menu(log, votes=(1,)), "compute")
    halves = [measure(part, menu(part, votes=(1,)), "compute") for part in log.split_samples(0)]
    np.testing.assert_allclose((halves[0].cost + halves[1].cost) / 2, whole.cost, rtol=1e-5)
    for part in log.split_questions((0.5, 0.5), 0):
        rows = [log.ids.index(i) for i in part.ids]
        np.testing.assert_allclose(measure(part, menu(part, votes=(1,)), "compute").cost, whole.cost[rows], rtol=1e-6)


def test_pairs_without_samples_are_masked_and_not_counted_as_zero_accuracy():
    log = make_log(samples=2)
    count = log.count.copy()
    count[2, 1] = 0
    table = measure(make_log(samples=2, count=count), menu(log, votes=(1, 2)), "tokens")
    np.testing.assert_array_equal(table.valid[2], [True, True, False, False])
    assert table.valid.sum() == 22
    assert not table.utility[2, 2:].any() and not table.cost[2, 2:].any()
    assert table.problem().valid is not None


def test_one_sample_needs_no_answers_only_right_and_wrong():
    log = make_log()
    blind = make_log(answer=np.full_like(log.answer, -1), correct=log.correct)
    table = measure(blind, ["vote(small,1)"])
    np.testing.assert_allclose(table.utility[:, 0], log.correct[:, 0].mean(axis=1), atol=1e-6)
    with pytest.raises(ValueError, match=r"question 'q.' has right samples of 'small' and no answers"):
        measure(blind, ["vote(small,2)"])


NAN = np.full((6, 2, 4), np.nan, np.float32)


@pytest.mark.parametrize(
    "changes, actions, resource, message",
    [
        ({}, [], "samples", "no actions"),
        ({}, "vote(small,1)", "samples", "a sequence"),
        ({}, ["vote(small)"], "samples", "not of the form"),
        ({}, ["vote(small,1)", "vote(small,1)"], "samples", "listed twice"),
        ({}, ["guess(small,1)"], "samples", "unknown aggregator; known: vote"),
        ({}, ["vote(tiny,1)"], "samples", "unknown source 'tiny'; the log has 'small', 'large'"),
        ({}, ["vote(small,5)"], "samples", r"needs 5 samples, but question 'q0' has 4 of 'small' \(6 of 6"),
        ({}, ["vote(small,1)"], "eur", "unknown resource 'eur'; known: samples, prompt_tokens"),
        ({}, ["vote(small,1)"], "usd", "needs prices"),
        ({}, ["vote(small,1)"], (), "no resource"),
        ({}, ["vote(small,1)"], ("tokens", "tokens"), "listed twice"),
        ({"count": np.zeros((6, 2), np.int32)}, ["vote(small,1)"], "samples", "no samples of 'small'"),
        ({"completion_tokens": None}, ["vote(small,1)"], "tokens", "needs completion_tokens"),
        ({"completion_tokens": NAN}, ["vote(small,1)"], "tokens", "question 'q0' has a sample of 'small' without comp"),
        ({"prompt_tokens": NAN}, ["vote(large,1)"], "compute", "question 'q0' has a sample of 'large' without prompt"),
        (
            {"sources": (Source("small"), Source("large"))},
            ["vote(small,1)"],
            "compute",
            "parameter count of source 'sm",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(changes, actions, resource, message):
    with pytest.raises(ValueError, match=message):
        measure(make_log(**changes), actions, resource)


def test_a_log_without_questions_is_refused():
    with pytest.raises(ValueError, match="no questions"):
        measure(make_log().select([]), ["vote(small,1)"])


def test_the_menu_is_every_source_with_every_vote():
    log = make_log()
    assert menu(log) == tuple(vote(s, k) for s in ("small", "large") for k in (1, 4, 8, 16))
    assert menu(log.sources, votes=(2,)) == menu(["small", "large"], votes=(2,))


def test_an_action_is_its_name():
    assert measure(make_log(), ["vote(large,2)"]).actions == (Action("large", 2),)
