"""Features beside the text: arrays, embeddings, probes; their identity, and what they cost."""

from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.learn import Combined, Embedding, Given, PolicyConfig, TextFeatures, load_policy, split_probe, train
from alloc_jax.learn.features.inputs import sentence_embedding
from alloc_jax.measure import measure, menu
from alloc_jax.serve import allocator
from tests.conftest import made_log

QUICK = PolicyConfig(folds=2, left_out=1, epochs=4, hidden=(8,))
SMALL = TextFeatures(shape_buckets=0, character_buckets=0, word_buckets=0, sequence_buckets=0, neighbour_buckets=0)


@pytest.fixture(scope="module")
def distinct():
    log = made_log()
    first = {text: i for i, text in reversed(list(enumerate(log.question)))}
    return log.select(sorted(first.values()))


@pytest.fixture(scope="module")
def table(distinct):
    return measure(distinct, menu(distinct, votes=(1, 4)), "compute")


def lengths(texts):
    return np.array([[len(text)] for text in texts], np.float32)


def test_an_array_decides_where_the_text_cannot_and_is_handed_over_when_served(table, tmp_path):
    secret = np.random.default_rng(0).integers(0, 2, len(table))
    utility = np.where(np.arange(4) == 3, secret[:, None], 0.5).astype(np.float32)
    given = Given.of("secret", table.question, secret[:, None])
    policy = train(
        replace(table, utility=utility), replace(QUICK, epochs=60, batch=16, hidden=(16,)), Combined((SMALL, given))
    )
    policy.save(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy", Combined((SMALL, Given("secret", ("0",)))))
    serve = allocator(loaded, float(table.cost[:, 3].mean()) * 0.6)
    yes, no = (serve.choose("1+2+3", given={"secret": [[value]]}).utility for value in (1, 0))
    assert yes > no + 0.2
    with pytest.raises(ValueError, match=r"no features 'secret' for the question '1\+2'"):
        serve.choose("1+2")
    with pytest.raises(ValueError, match="takes no array 'public'; it takes secret"):
        serve.choose("1+2", given={"public": [[1]]})
    with pytest.raises(ValueError, match=r"'secret' has shape \(1, 2\), expected \(1, 1\)"):
        serve.choose("1+2", given={"secret": [[1, 2]]})


def test_features_that_are_not_finite_are_refused_with_the_question(table):
    holes = np.zeros((len(table), 1))
    holes[7] = np.nan
    with pytest.raises(ValueError, match="features of question 'q7' are not finite"):
        train(table, QUICK, Given.of("holes", table.question, holes))
    policy = train(table, QUICK, Given.of("whole", table.question, lengths(table.question)))
    with pytest.raises(ValueError, match="features of question 1 are not finite"):
        policy.predict(["1+1", "1+2"], given={"whole": [[3.0], [np.inf]]})


def test_another_encoder_or_other_columns_are_refused(table, tmp_path):
    policy = train(table, QUICK, Combined((SMALL, Embedding("length", lengths, 1))))
    policy.save(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy", Combined((SMALL, Embedding("length", lengths, 1))))
    np.testing.assert_array_equal(loaded.predict(["1+2"]).score, policy.predict(["1+2"]).score)
    for other in (Embedding("width", lengths, 1), Embedding("length", lengths, 2), Given("length", ("0",))):
        with pytest.raises(ValueError, match="was trained on features"):
            load_policy(tmp_path / "policy", Combined((SMALL, other)))
    with pytest.raises(ValueError, match="was trained on features"):
        load_policy(tmp_path / "policy")


def test_an_encoder_that_returns_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"encoder 'wide' has shape \(2, 1\), expected \(2, 3\)"):
        Embedding("wide", lengths, 3).encode(["a", "b"])


def test_one_question_has_one_row():
    with pytest.raises(ValueError, match="two different rows for the question 'a'"):
        Given.of("twice", ["a", "a"], [[1], [2]])
    assert Given.of("twice", ["a", "a"], [[1], [1]]).encode(["a"]) == 1


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'alloc_jax\[embeddings\]'"):
        sentence_embedding("any")


def test_a_probe_is_paid_for_and_its_samples_are_measured_no_more(distinct):
    probe, rest = split_probe(distinct, "small", samples=2)
    m = distinct.source_index("small")
    assert (rest.count[:, m] == 14).all() and (rest.count[:, 1 - m] == 16).all()
    together = np.concatenate([probe.drawn.answer[:, m, :2], rest.answer[:, m, :14]], axis=1)
    np.testing.assert_array_equal(together, distinct.answer[:, m])
    table = measure(rest, menu(rest, votes=(1,)), ("samples", "compute"))
    charged = probe.charge(table.select([3, 1]))
    np.testing.assert_allclose(charged.cost[:, :, 0] - table.cost[[3, 1], :, 0], 2, rtol=1e-5)
    tokens = distinct.completion_tokens[[3, 1], m, :2].sum(axis=1) * distinct.sources[m].parameters
    expected = tokens[:, None] / distinct.compute_unit.size
    np.testing.assert_allclose(charged.cost[:, :, 1] - table.cost[[3, 1], :, 1], expected + np.zeros((2, 2)), rtol=1e-4)


def test_a_probe_tells_what_text_does_not(distinct):
    probe, rest = split_probe(distinct, "small", samples=4)
    agreement = probe.features.encode(rest.question)[:, 0]
    right = rest.correct[:, 0].sum(axis=1) / rest.count[:, 0]
    assert np.corrcoef(agreement, right)[0, 1] > 0.3


def test_a_probe_that_leaves_no_samples_is_refused(distinct):
    with pytest.raises(ValueError, match="question 'q0' has 16 samples of 'small': a probe of 16 leaves none"):
        split_probe(distinct, "small", samples=16)
    with pytest.raises(ValueError, match="unknown source 'none'"):
        split_probe(distinct, "none")
