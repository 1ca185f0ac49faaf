"""What `describe` says of a log, on logs small enough to see it."""

import dataclasses

import numpy as np
import pytest

from alloc_jax.measure import describe, fitting_menu, format_description, format_table, measure, menu
from alloc_jax.measure.description import _ROWS, SourceFacts, spearman
from alloc_jax.types import Source
from tests.logs.sample_logs import make_log


def hand_made(right, **changes):
    """A log in which right[i][m] samples of question i by source m are right, and all others answer "1"."""
    right = np.asarray(right)
    samples = changes.pop("samples", 20)
    answer = np.where(np.arange(samples) < right[..., None], 0, 1).astype(np.int32)
    return make_log(len(right), samples, answer=answer, correct=answer == 0, **changes)


def test_shares_of_easy_and_hard_questions_and_what_the_vote_does_to_them():
    facts = describe(hand_made([[20, 20], [18, 20], [12, 20], [8, 0], [2, 0], [0, 0]]))
    small, large = facts.sources
    assert (facts.questions, facts.samples, facts.missing_pairs) == (6, 240, 0)
    assert (small.easy, small.hard) == (2 / 6, 2 / 6) and (large.easy, large.hard) == (0.5, 0.5)
    assert small.accuracy == pytest.approx(0.5)
    # 18 and 12 of 20 become surer with votes, 8 and 2 of 20 go under
    assert small.vote_hurts == pytest.approx(2 / 6) and small.vote_loses == pytest.approx(2 / 6)
    assert large.vote_gain == pytest.approx(0, abs=1e-6) and large.vote_hurts == 0


def test_facts_that_the_log_cannot_give_are_none_and_print_as_dashes():
    log = hand_made([[4, 2], [1, 0]], samples=4, completion_tokens=None, prompt_tokens=None)
    source = describe(log).sources[0]
    assert source.vote_gain is None and source.tokens is None and source.tokens_difficulty is None
    assert source.missing == (
        "prompt_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "completion_tokens",
        "reasoning_tokens",
        "latency_s",
        "usd",
        "reward",
    )
    lines = format_description(describe(log)).splitlines()
    assert next(line for line in lines if line.startswith("mean tokens")).split() == ["mean", "tokens", "-", "-"]


def test_the_best_source_is_the_most_accurate_and_a_best_response_wins_at_some_price():
    # small costs 1, large 10: large pays only where it is more accurate; small pays wherever it is the cheapest.
    facts = describe(hand_made([[20, 20], [10, 20], [20, 10], [0, 0]]))
    small, large = facts.sources
    assert (small.best, large.best) == (3, 1)
    assert (small.best_response, large.best_response) == (4, 1)


def test_a_source_below_the_hull_is_never_a_best_response():
    sources = tuple(Source(name, parameters) for name, parameters in (("a", 1.0), ("b", 10.0), ("c", 20.0)))
    tokens = np.ones((1, 3, 20), np.float32)
    log = hand_made([[4, 5, 20]], sources=sources, prompt_tokens=None, completion_tokens=tokens)
    assert [source.best_response for source in describe(log).sources] == [1, 0, 1]
    assert describe(log).cost_unit == "mean c samples"


def test_longer_samples_on_harder_questions_show_as_a_positive_correlation():
    right = [[20, 0], [15, 5], [10, 10], [5, 15]]
    tokens = np.arange(1, 5, dtype=np.float32)[:, None, None] * np.ones((4, 2, 20), np.float32)
    facts = describe(hand_made(right, completion_tokens=tokens, prompt_tokens=None))
    assert [source.tokens_difficulty for source in facts.sources] == pytest.approx([1, -1])
    assert [source.tokens for source in facts.sources] == pytest.approx([2.5, 2.5])


def test_groups_hold_their_own_means():
    facts = describe(hand_made([[20, 10], [0, 10], [20, 10], [0, 10]]))
    assert [(g.name, g.questions, g.accuracy) for g in facts.groups] == [("a", 2, (1.0, 0.5)), ("b", 2, (0.0, 0.5))]
    assert describe(hand_made([[1, 1]], group=(None,))).groups == ()


def test_pairs_without_samples_are_counted_and_left_out_of_the_means():
    right = [[20, 20], [10, 0]]
    count = np.array([[20, 20], [20, 0]], np.int32)
    full = hand_made(right)
    facts = describe(make_log(2, 20, answer=full.answer, correct=full.correct, count=count))
    assert facts.missing_pairs == 1 and facts.sources[1].questions == 1 and facts.sources[1].accuracy == 1
    assert facts.groups[1].accuracy == (0.5, None)


def test_totals_are_sums_over_all_samples_and_unknown_where_one_is():
    usd = np.full((6, 2, 4), 0.25, np.float32)
    usd[3, 1, 2] = np.nan
    small, large = describe(make_log(usd=usd, latency_s=np.full((6, 2, 4), 2, np.float32))).sources
    assert (small.total_prompt_tokens, small.total_usd, small.total_seconds) == (72, 6, 48)
    assert large.total_usd is None and large.total_seconds == 48
    count = np.array([[4, 4]] * 3 + [[4, 0]] * 3, np.int32)
    assert describe(make_log(count=count, prompt_tokens=usd * 12)).sources[1].total_prompt_tokens == 36
    assert describe(make_log(count=count * [1, 0])).sources[1].total_prompt_tokens is None


def test_many_sources_stand_one_under_another():
    sources = tuple(Source(f"s{m}") for m in range(9))
    assert any(line.startswith("s8 ") for line in format_description(describe(make_log(sources=sources))).splitlines())


def test_sources_that_lack_the_same_are_named_together():
    said = format_description(describe(make_log()))
    assert "all sources: no or incomplete cached_tokens, cache_write_tokens" in said
    usd = np.ones((6, 2, 4), np.float32)
    usd[0, 1, 0] = np.nan
    said = format_description(describe(make_log(usd=usd)))
    assert (
        "\nlarge: no or incomplete cached_tokens, cache_write_tokens, reasoning_tokens, latency_s, usd, reward" in said
    )
    assert "\nsmall: no or incomplete cached_tokens, cache_write_tokens, reasoning_tokens, latency_s, reward" in said


def _votes(source):
    return [f"vote({source},{k})" for k in (1, 4, 8)]


def test_a_fitting_menu_has_the_votes_that_every_question_can_hold():
    count = np.array([[9, 9], [4, 0], [9, 9]], np.int32)
    log = make_log(3, 9, count=count)
    names = [action.name for action in fitting_menu(log)]
    assert names == ["vote(small,1)", "vote(small,4)", "vote(large,1)", "vote(large,4)", "vote(large,8)"]
    mute = make_log(3, 9, answer=np.full((3, 2, 9), -1, np.int32))
    unseen = [action.name for action in fitting_menu(mute)]  # without answers an exact verifier picks
    assert unseen == [name.replace("vote", "passes") for source in ("small", "large") for name in _votes(source)]
    halved = [action.name for action in fitting_menu(log, halved=True)]
    assert halved == ["vote(small,1)", "vote(large,1)", "vote(large,4)"]
    assert describe(log).sources[0].silent > 0 and describe(mute).sources[0].silent is None
    absent = make_log(3, 9, count=count * [0, 1])
    assert {action.source for action in fitting_menu(absent)} == {"large"}
    for one in (log, mute, absent):
        measure(one, fitting_menu(one))


def test_a_tables_means_are_over_the_questions_where_an_action_is_valid():
    log = hand_made([[20, 10], [10, 20]], count=np.array([[20, 20], [20, 0]], np.int32))
    header, small, large = format_table(measure(log, menu(log, (1,)), ("samples", "tokens"))).splitlines()
    assert header.split()[:5] == ["action", "questions", "utility", "+-", "samples"] and header.count("+-") == 3
    assert small.split()[:5] == ["vote(small,1)", "2", "0.75", "0.05735", "1"]  # (0 + 0.5 * 0.5 / 19) ** 0.5 / 2
    assert large.split()[:3] == ["vote(large,1)", "1", "0.5"]


def test_ranks_of_ties_are_their_mean():
    assert spearman(np.array([1, 1, 2, 3]), np.array([1, 2, 3, 3])) == pytest.approx(8 / 9)
    assert spearman(np.array([1, 1, 1]), np.array([1, 2, 3])) is None


def test_every_fact_of_a_source_is_printed():
    printed = {name for _, name, _ in _ROWS} | {"name", "missing"}
    assert printed == {field.name for field in dataclasses.fields(SourceFacts)}
    text = format_description(describe(hand_made([[20, 10], [0, 10]])))
    assert "best response" in text and "small" in text and "accuracy of one sample and mean tokens by group" in text


def test_an_empty_log_has_no_facts():
    with pytest.raises(ValueError, match="no questions"):
        describe(make_log().select([]))
