"""The three uses of the model agree, and the sampler samples from it."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.reasoner import arithmetic, train
from alloc_jax.reasoner.arithmetic import DEFAULT_MIX, PAD
from alloc_jax.reasoner.model import Llama, ModelConfig, count_parameters, init_params
from alloc_jax.reasoner.sampler import sample
from alloc_jax.reasoner.weights import load_weights, save_weights

TINY = ModelConfig(hidden_size=16, intermediate_size=24)
APPLY = jax.jit(Llama(TINY).apply, static_argnames="method")  # one program, not one for each operation


@pytest.fixture(scope="module")
def params():
    scaled = jax.jit(init_params, static_argnums=0)(TINY, jax.random.key(0))
    return jax.tree.map(lambda leaf: 3 * leaf, scaled)  # away from the flat start, so that differences show


def codes(text):
    return np.array(arithmetic.encode(text), np.int32)


def test_later_tokens_do_not_change_earlier_logits(params):
    long = codes("T8-2=8-2=6")[None]
    whole, part = (APPLY({"params": params}, text) for text in (long, long[:, :5]))
    np.testing.assert_allclose(whole[:, :5], part, rtol=1e-4, atol=1e-4)


def test_padding_in_front_does_not_change_what_is_read(params):
    text = codes("T(8-2)*6=")
    plain = APPLY({"params": params}, text[None])[:, -1]
    padded = np.concatenate([np.zeros(7, np.int32), text])[None]
    logits, _ = APPLY({"params": params}, padded, jnp.array([7]), method="prefill")
    np.testing.assert_allclose(logits, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_writing_token_by_token_agrees_with_reading_at_once(params):
    prompts = ["T8-2=", "T(8-2)*6="]
    written = codes("8-2=6#")
    length, slots = 16, 8
    padding = np.array([length - len(p) for p in prompts])
    tokens = np.stack([np.concatenate([np.full(n, PAD), codes(p)]) for n, p in zip(padding, prompts, strict=True)])
    _, prompt_cache = APPLY({"params": params}, tokens, jnp.asarray(padding), method="prefill")
    shape = (2, TINY.num_attention_heads, 1, slots, TINY.head_dim)
    cache = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(TINY.num_hidden_layers)]
    for step, token in enumerate(written):
        logits, cache = APPLY(
            {"params": params},
            jnp.full((2, 1), token),
            jnp.int32(step),
            jnp.asarray(padding),
            prompt_cache,
            cache,
            method="decode",
        )
    for row, prompt in enumerate(prompts):
        whole = APPLY({"params": params}, np.concatenate([codes(prompt), written])[None])
        np.testing.assert_allclose(logits[row, 0], whole[0, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_first_tokens_follow_the_models_distribution(params):
    prompt = "T8-2="
    keys = jax.random.split(jax.random.key(1), 1)
    [(_, written)] = sample(TINY, params, [prompt], keys, samples=4000, max_tokens=8, batch=1)
    expected = jax.nn.softmax(Llama(TINY).apply({"params": params}, codes(prompt)[None])[0, -1])
    seen = np.bincount(written[0, :, 0], minlength=TINY.vocab_size) / 4000
    np.testing.assert_allclose(seen, expected, atol=5 * np.sqrt(0.25 / 4000))


def test_samples_do_not_depend_on_the_batch(params):
    prompts = ["T8-2=", "T3+4=", "T(8-2)*6=", "T9*9=", "T(1+2)+3="]
    keys = jax.random.split(jax.random.key(2), len(prompts))

    def drawn(batch):
        out = {}
        for rows, written in sample(TINY, params, prompts, keys, samples=4, max_tokens=8, batch=batch):
            out |= {int(row): arithmetic.decode(written[i].ravel()) for i, row in enumerate(rows)}
        return out

    assert drawn(2) == drawn(5)


def test_temperature_0_is_greedy(params):
    keys = jax.random.split(jax.random.key(3), 1)
    [(_, written)] = sample(TINY, params, ["T8-2="], keys, samples=8, max_tokens=8, temperature=0.0, batch=1)
    assert (written == written[:, :1]).all()


def test_nothing_is_written_after_the_end(params):
    keys = jax.random.split(jax.random.key(4), 1)
    [(_, written)] = sample(TINY, params, ["T8-2="], keys, samples=200, max_tokens=32, batch=1)
    ended = np.cumsum(written[0] == arithmetic.END, axis=1)
    after = (ended - (written[0] == arithmetic.END)) > 0
    assert ended[:, -1].any()
    assert (written[0][after] == PAD).all()


def test_weights_round_trip_in_half_precision(params, tmp_path):
    save_weights(tmp_path / "tiny.npz", TINY, params)
    config, loaded = load_weights(tmp_path / "tiny.npz")
    assert config == TINY
    assert count_parameters(loaded) == count_parameters(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), loaded, params)


def test_missing_weights_are_named():
    with pytest.raises(ValueError, match="no reasoner weights at 'huge'"):
        load_weights("huge")


@pytest.mark.long
def test_training_learns_and_repeats():
    phase = train.Phase(
        steps=80,
        mix=DEFAULT_MIX,
        slip_sum=0.03,
        slip_product=0.09,
        direct_share=0.3,
        direct_weight=3.0,
        warmup_steps=5,
        sequences=2000,
    )
    losses = []
    first = train.train_model(TINY, (phase,), 0, lambda step, loss: losses.append(loss))
    assert losses[-1] < 0.9 * losses[0]
    again = train.train_model(TINY, (phase,), 0)
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_sequences_are_weighted_where_something_is_predicted():
    phase = train.RECIPES["small"][0]
    buckets = train.build_sequences(train.Phase(**{**vars(phase), "sequences": 500}), random.Random(0))
    assert sum(len(tokens) for tokens, _ in buckets.values()) == 500
    for tokens, weights in buckets.values():
        for row, weight in zip(tokens, weights, strict=True):
            text = arithmetic.decode(row)
            prompt = (
                text.index("=") + 1 if text[0] == "D" else text.index("=", text.rindex(")") if ")" in text else 0) + 1
            )
            assert (weight[:prompt] == 0).all()
            assert (weight[prompt : len(text)] == (phase.direct_weight if text[0] == "D" else 1)).all()
            assert (weight[len(text) :] == 0).all()
