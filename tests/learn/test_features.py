from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from alloc_jax.learn.features.text import MANY, SURFACE, TextFeatures, surface_counts


def fact(text: str, name: str) -> float:
    return surface_counts(text)[SURFACE.index(name)]


def test_surface_counts_count():
    text = "((12-3)*45)+6.5 is what?"
    assert fact(text, "numbers") == 4
    assert fact(text, "numbers of two digits") == 2
    assert fact(text, "decimal points in numbers") == 1
    assert fact(text, "operators") == 3
    assert fact(text, "distinct operators") == 3
    assert fact(text, "deepest bracket") == 2
    assert fact(text, "words") == 2
    assert fact(text, "count of ?") == 1


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_any_text_gives_finite_features_that_do_not_depend_on_the_batch(texts):
    features = TextFeatures()
    together = features.encode(texts)
    assert together.shape == (len(texts), features.width)
    assert np.isfinite(together).all()
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(features.encode([text])[0], row)


def test_shape_sees_structure_and_not_digits():
    features = TextFeatures(character_buckets=0)
    one, other, longer = features.encode(["(8-2)*6", "(9-4)*7", "(18-2)*6"])
    shape = slice(len(SURFACE), len(SURFACE) + features.shape_buckets)
    np.testing.assert_array_equal(one[shape], other[shape])
    assert (one[shape] != longer[shape]).any()


@pytest.mark.parametrize("name", [field.name for field in fields(TextFeatures)])
def test_every_size_is_part_of_the_identity(name):
    assert TextFeatures(**{name: 16}).config() != TextFeatures().config()
    assert TextFeatures(**{name: 16}).encode(["8-2 apples"]).shape[1] == TextFeatures(**{name: 16}).width


@given(st.lists(st.text(alphabet="aA 01.,+-*()[]^$_\n'é٣\ud800", max_size=30), min_size=MANY, max_size=MANY + 9))
@settings(deadline=None, max_examples=40)
def test_many_texts_together_have_the_features_that_each_has_alone(texts):
    features = TextFeatures(character_buckets=16)
    each = np.concatenate([features.encode([text]) for text in texts])
    np.testing.assert_allclose(features.encode(texts), each, rtol=1e-6)
