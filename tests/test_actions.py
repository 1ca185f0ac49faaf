"""Actions are plain values, and their names say all there is to say about them."""

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import alloc_jax as aj
from alloc_jax.actions import AGGREGATORS, TIED, TIES, Action, parse_actions

sources = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
counts = st.integers(1, 10**6)
actions = st.one_of(
    st.builds(Action, sources, counts, st.sampled_from(TIED), st.sampled_from(TIES)),
    st.builds(Action, sources, counts, st.sampled_from(["best_of", "passes", "unanimous"])),
    st.builds(aj.single, sources),
    st.builds(aj.abstain),
)


@given(actions)
@example(aj.vote("gpt-4.1, low", 8))
@example(aj.vote('he said "hi" \\', 8))
@example(aj.vote("a=b", 8, ties="first"))
@example(aj.single("ties=first"))
@example(aj.single(" "))
@example(aj.single("two\nlines"))
def test_an_action_is_read_back_from_its_name(action):
    assert Action.parse(action.name) == action


@given(st.lists(actions, max_size=5), st.sampled_from([",", ";", " ", ", ", "\n", ""]))
def test_a_list_of_actions_is_read_back_from_one_string(several, separator):
    assert parse_actions(separator.join(action.name for action in several)) == tuple(several)


@given(st.text())
def test_any_text_is_an_action_or_a_plain_refusal(text):
    try:
        action = Action.parse(text)
    except ValueError as error:
        assert "action" in str(error) or "draws" in str(error)
    else:
        assert Action.parse(action.name) == action


@pytest.mark.parametrize(
    "action, name",
    [
        (aj.vote("think", 8), "vote(think,8)"),
        (aj.vote("think", 8, ties="abstain"), "vote(think,8,ties=abstain)"),
        (aj.weighted_vote("think", 8, ties="first"), "weighted_vote(think,8,ties=first)"),
        (aj.best_of("large/think 2k", 4), "best_of(large/think 2k,4)"),
        (aj.passes("think", 16), "passes(think,16)"),
        (aj.unanimous("think", 3), "unanimous(think,3)"),
        (aj.single("gpt-4.1, low"), 'single("gpt-4.1, low")'),
        (aj.abstain(), "abstain()"),
    ],
)
def test_the_names_that_files_and_flags_hold(action, name):
    assert action.name == name


def test_spaces_around_arguments_do_not_matter():
    assert Action.parse(' vote( "a b" , 8 , ties=first ) ') == aj.vote("a b", 8, ties="first")


def test_actions_are_values():
    assert len({aj.vote("a", 2), aj.vote("a", np.int64(2)), aj.vote("a", 2, ties="first"), aj.passes("a", 2)}) == 3


@pytest.mark.parametrize(
    "text, message",
    [
        ("vote", "does not begin with an aggregator and a bracket"),
        ("vote(a,8", "does not end with a bracket"),
        ("vote(a)", "not of the form"),
        ("vote(a,8,9)", "has 3 arguments"),
        ("vote(a,8,)", "cannot read ''"),
        ("vote(a,eight)", "'eight' is no number of samples"),
        ("vote(a,0)", "at least 1 sample"),
        ("vote(a,²)", "no number of samples"),
        ("vote(a,8,ties=last)", "unknown tie rule 'last'; known: uniform, first, abstain"),
        ("vote(a,8,tie=first)", "unknown option 'tie'; known: ties"),
        ("passes(a,8,ties=first)", "only vote and weighted_vote have a tie rule"),
        ("single(a,2)", r"not of the form single\(source\)"),
        ("abstain(a)", r"not of the form abstain\(\)"),
        ("majority(a,8)", "unknown aggregator; known: vote"),
        ('vote("a,8)', "stands in double quotes"),
        (r'vote("\q",8)', "no JSON string"),
        ("vote(a=b,8)", "stands in double quotes, because it holds '='"),
    ],
)
def test_what_is_no_action_says_why(text, message):
    with pytest.raises(ValueError, match=message):
        Action.parse(text)


@pytest.mark.parametrize("text", ["vote(a,1),b", "vote(a)", "vote(a,1)vote", "3"])
def test_a_piece_of_a_list_that_is_no_action_is_refused(text):
    with pytest.raises(ValueError, match="not of the form"):
        parse_actions(text)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a", 2.5), "the number of samples is an integer, got 2.5"),
        (("", 2), "draws from a source, got ''"),
        ((None, 2), "draws from a source, got None"),
        (("a", 2, "single"), "single draws 1 sample, got 2"),
        (("a", 2, "abstain"), "draws no samples"),
        (("a", 2, "guess"), "unknown aggregator"),
    ],
)
def test_an_action_that_cannot_be_taken_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Action(*arguments)


def test_every_aggregator_has_a_function_of_its_name():
    for name in AGGREGATORS:
        arguments = {"abstain": (), "single": ("a",)}.get(name, ("a", 2))
        assert getattr(aj, name)(*arguments).aggregator == name
