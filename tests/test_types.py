"""The types that the stages hand to each other: parts of a log are disjoint, and nothing is lost on the way."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from alloc_jax.actions import Action, vote
from alloc_jax.types import SAMPLE_FIELDS, ComputeUnit, OutcomeTable, SampleLog, Source


def make_log(count=((4, 5), (3, 0), (2, 4), (5, 5)), **changes) -> SampleLog:
    """A log whose completion tokens number its samples from 1, so that each can be followed."""
    count = np.array(count, np.int32)
    shape = (*count.shape, int(count.max()))
    real = np.arange(shape[2]) < count[..., None]
    number = np.cumsum(real).reshape(shape)
    parts = dict(
        ids=tuple(f"q{i}" for i in range(shape[0])),
        question=tuple(f"text {i}" for i in range(shape[0])),
        gold=(None,) * shape[0],
        group=(None,) * shape[0],
        sources=(Source("small", 1e3), Source("large", 1e4)),
        answers=(("0", "1", "2"),) * shape[0],
        count=count,
        answer=np.where(real, number % 3, -1).astype(np.int32),
        correct=real & (number % 3 == 0),
        completion_tokens=np.where(real, number, np.nan).astype(np.float32),
    )
    return SampleLog(**{**parts, **changes})


def numbers(log: SampleLog) -> list[list[set[int]]]:
    """The samples of every pair, by number."""
    return [
        [{int(x) for x in log.completion_tokens[i, m, :n]} for m, n in enumerate(row)]
        for i, row in enumerate(log.count)
    ]


def test_halves_are_disjoint_and_together_everything():
    log = make_log()
    first, second = log.split_samples(0)
    for whole, a, b in zip(numbers(log), numbers(first), numbers(second), strict=True):
        for all_of, one, other in zip(whole, a, b, strict=True):
            assert one | other == all_of and not one & other
    assert first.ids == second.ids == log.ids


def test_the_first_half_gets_the_odd_sample():
    first, second = make_log().split_samples(3)
    np.testing.assert_array_equal(first.count, [[2, 3], [2, 0], [1, 2], [3, 3]])
    np.testing.assert_array_equal(second.count, [[2, 2], [1, 0], [1, 2], [2, 2]])


def test_every_field_of_a_sample_moves_with_it_and_padding_stays_padding():
    for half in make_log().split_samples(1):
        n = half.completion_tokens
        assert half.answer.shape[2] == 3
        np.testing.assert_array_equal(half.sampled, np.isfinite(n))
        np.testing.assert_array_equal(half.answer, np.where(half.sampled, np.nan_to_num(n) % 3, -1))
        np.testing.assert_array_equal(half.correct, half.sampled & (np.nan_to_num(n) % 3 == 0))
        assert half.prompt_tokens is None and half.answer.dtype == np.int32 and n.dtype == np.float32


def test_halves_depend_on_the_key_alone():
    log = make_log(count=((20, 20),) * 4)
    assert numbers(log.split_samples(5)[0]) == numbers(log.split_samples(jax.random.key(5))[0])
    assert numbers(log.split_samples(5)[0]) != numbers(log.split_samples(6)[0])
    for seed in (np.int64(5), np.uint8(5), np.array(5)):
        assert numbers(log.split_samples(seed)[0]) == numbers(log.split_samples(5)[0])
        assert log.split_questions((0.5, 0.5), seed)[0].ids == log.split_questions((0.5, 0.5), 5)[0].ids


def test_every_sample_is_as_likely_in_either_half():
    log = make_log(count=((4, 2),))
    taken = np.zeros(7)
    for seed in range(400):
        for x in numbers(log.split_samples(seed)[0])[0]:
            taken[list(x)] += 1
    assert np.all(np.abs(taken[1:] / 400 - 0.5) < 0.1)


def test_a_single_sample_has_no_halves():
    with pytest.raises(ValueError, match="question 'q1' has one sample of 'large'"):
        make_log(count=((4, 2), (2, 1))).split_samples(0)


def test_questions_are_split_into_disjoint_sets_of_the_given_shares():
    log = make_log(count=((2, 2),) * 50)
    parts = log.split_questions((0.5, 0.3, 0.2), 0)
    assert [len(part) for part in parts] == [25, 15, 10]
    assert sorted(i for part in parts for i in part.ids) == sorted(log.ids)
    some = log.split_questions((0.2, 0.2), 0)
    assert [len(part) for part in some] == [10, 10] and not set(some[0].ids) & set(some[1].ids)
    assert log.split_questions((0.5, 0.5), 1)[0].ids != log.split_questions((0.5, 0.5), 2)[0].ids


@pytest.mark.parametrize("fractions", [(0.7, 0.4), (0.5, 0.0), (1.5, -0.5)])
def test_shares_that_are_none_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions are positive and sum to at most 1"):
        make_log().split_questions(fractions, 0)


def test_a_share_without_a_question_is_refused():
    with pytest.raises(ValueError, match=r"a share of 0\.1 of 4 questions is empty"):
        make_log().split_questions((0.1, 0.9), 0)


def test_questions_of_the_same_text_are_never_on_two_sides():
    log = make_log(count=((2, 2),) * 60)
    log = replace(log, question=tuple(f"Text  {i % 20}" if i < 40 else f"text {i % 20} " for i in range(60)))
    parts = log.split_questions((0.5, 0.25, 0.25), 3)
    assert [len(part) for part in parts] == [30, 15, 15]
    texts = [{" ".join(text.lower().split()) for text in part.question} for part in parts]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 20


def test_groups_stay_together_where_that_is_asked_for_and_so_do_groups_that_share_a_text():
    log = make_log(count=((2, 2),) * 60)
    log = replace(log, group=tuple(f"g{i % 12}" for i in range(60)), question=(*map(str, range(59)), "0"))
    for seed in range(5):
        left, right = log.split_questions((0.5, 0.5), seed, by_group=True)
        assert not set(left.group) & set(right.group) and abs(len(left) - 30) <= 5
        assert len({"g0", "g11"} & set(left.group)) != 1  # questions 0 and 59 have the same text
    assert set(left.group) & set(log.split_questions((0.5, 0.5), 4)[1].group)
    with pytest.raises(ValueError, match="question 'q0' has no group to be split by"):
        replace(log, group=(None,) * 60).split_questions((0.5, 0.5), 0, by_group=True)


def test_a_text_that_is_everywhere_cannot_be_split():
    log = replace(make_log(), question=("same",) * 4)
    with pytest.raises(ValueError, match=r"a share of 0\.5 of 4 questions, of which 1 can be told apart, is empty"):
        log.split_questions((0.5, 0.5), 0)


@pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0]), np.array([True, False, True, False]), []])
def test_selecting_keeps_rows_and_their_order(rows):
    log = make_log()
    part = log.select(rows)
    wanted = [0, 2] if len(rows) == 4 else list(rows)
    assert part.ids == tuple(f"q{i}" for i in wanted) and len(part) == len(wanted)
    assert numbers(part) == [numbers(log)[i] for i in wanted]
    for name in SAMPLE_FIELDS:
        assert (getattr(part, name) is None) == (getattr(log, name) is None)


def test_the_compute_unit_is_that_of_the_whole_log_in_all_its_parts():
    log = make_log()
    tokens = np.nanmean(log.completion_tokens[:, 1])
    assert log.compute_unit == ComputeUnit(pytest.approx(1e4 * tokens), "mean large samples")
    for part in (*log.split_samples(0), *log.split_questions((0.5, 0.5), 0), log.select([0])):
        assert part.compute_unit is log.compute_unit


def test_prompt_tokens_count_where_they_are_logged():
    log = make_log(prompt_tokens=np.full((4, 2, 5), 7, np.float32))
    np.testing.assert_array_equal(log.tokens, log.completion_tokens + 7)
    np.testing.assert_array_equal(make_log().tokens, make_log().completion_tokens)


@pytest.mark.parametrize("changes", [{"completion_tokens": None}, {"sources": (Source("small"), Source("large"))}])
def test_without_tokens_or_parameters_there_is_no_compute_unit(changes):
    assert make_log(**changes).compute_unit is None


def test_a_source_is_found_by_its_name():
    assert make_log().source_index("large") == 1
    with pytest.raises(ValueError, match="unknown source 'huge'; the log has 'small', 'large'"):
        make_log().source_index("huge")


@pytest.mark.parametrize("action", [vote("large/think", 16), Action("a, b(c)", 3, "best_of"), vote("gpt-4.1", 1)])
def test_an_action_is_read_back_from_its_name(action):
    assert Action.parse(action.name) == action and Action.parse(f" {action.name} ") == action


@pytest.mark.parametrize("name", ["", "vote", "vote(a)", "vote(a,b)", "vote(a,1", "(a,1)", "vote(,1)", "vote(a,-1)"])
def test_names_of_no_form_are_refused(name):
    with pytest.raises(ValueError, match="is not of the form"):
        Action.parse(name)


def test_an_action_draws_at_least_one_sample():
    with pytest.raises(ValueError, match=r"vote\(a,0\): an action draws at least 1 sample"):
        vote("a", 0)


def make_table(**changes) -> OutcomeTable:
    zeros, ones = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    parts = dict(
        ids=("a", "b", "c"),
        question=("x", "y", "z"),
        group=(None, "g", None),
        actions=(vote("s", 1), vote("s", 2)),
        resources=("samples",),
        units=("samples",),
        utility=np.arange(6, dtype=np.float32).reshape(3, 2) / 6,
        utility_se=zeros,
        cost=ones,
        cost_se=zeros,
        valid=ones.astype(bool),
        successes=zeros.astype(np.int32),
        samples=ones.astype(np.int32),
    )
    return OutcomeTable(**{**parts, **changes})


def test_a_selected_table_keeps_its_rows_together():
    table = make_table().select([2, 1])
    assert table.ids == ("c", "b") and table.question == ("z", "y") and table.group == (None, "g")
    np.testing.assert_array_equal(table.utility, make_table().utility[[2, 1]])
    assert len(table) == 2 and len(make_table().select(np.array([True, False, False]))) == 1


def test_the_problem_of_a_table_masks_only_where_something_is_missing():
    problem = make_table().problem()
    assert problem.valid is None and problem.utility.dtype == np.float32
    valid = np.array([[True, True], [True, False], [True, True]])
    np.testing.assert_array_equal(make_table(valid=valid).problem().valid, valid)
