import numpy as np
from hypothesis import given, strategies as st

from alloc_jax.learn.features.tokens import QUANTITIES, neighbours, quantities, sequences, tokens


def fact(text: str, name: str) -> float:
    return quantities(tokens(text))[QUANTITIES.index(name)]


def test_quantities_count_what_they_name():
    text = "((12-3)*407)+6.5"
    assert fact(text, "digit 2 at place 0") == 1
    assert fact(text, "digit 4 at place 2") == 1
    assert fact(text, "digit 5 at place 0") == 0  # decimals have no place
    assert fact(text, "- at depth 2") == 1
    assert fact(text, "* at depth 1") == 1
    assert fact(text, "+ at depth 0") == 1
    assert fact(text, "more digits at depth 2") == 1
    assert fact(text, "one digit at depth 0") == 1
    np.testing.assert_allclose(fact(text, "logarithm of the largest number"), np.log1p(407))


@given(st.text(max_size=60))
def test_any_text_has_finite_quantities(text):
    assert np.isfinite(quantities(tokens(text))).all()


def test_superscripts_and_other_scripts_are_read():
    assert fact("x² + ٣٤", "digit 4 at place 0") == 1


def test_sequences_see_structure_and_neighbours_see_last_digits():
    def both(text):
        return sequences(tokens(text), 512), neighbours(tokens(text), 512)

    one, other, wider = map(both, ("(18-2)*6", "(38-2)*6", "(8-2)*6"))
    np.testing.assert_array_equal(one[0], other[0])
    assert (one[0] != wider[0]).any()
    np.testing.assert_array_equal(one[1], other[1])  # the same last digits
    assert (one[1] != both("(18-3)*6")[1]).any()


def test_half_a_surrogate_pair_is_a_token_like_any_other():
    assert sequences(tokens("1 + \ud800"), 16).sum() == sequences(tokens("1 + x"), 16).sum()
