"""Sampling from the built-in reasoner: many samples of many prompts, with one reading of each prompt.

Prompts are padded in front to a common length, read once, and their keys and values shared by all samples of the
prompt. Writing is a `lax.scan` over blocks of tokens inside a loop that ends when every sample has ended. The noise of
a prompt comes from its own key, so a question's samples do not depend on which others share its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from alloc_jax.reasoner.arithmetic import END, PAD, encode
from alloc_jax.reasoner.model import Llama, ModelConfig

BLOCK = 8  # tokens written between two looks at whether everything has ended


def sample(
    config: ModelConfig,
    params: dict,
    prompts: Sequence[str],
    keys: jax.Array,
    *,
    samples: int,
    max_tokens: int,
    temperature: float = 1.0,
    batch: int = 16,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Completions of prompts, batch by batch.

    Args:
      config: the model's shape.
      params: its parameters.
      prompts: texts that end where the model goes on.
      keys: [N] one random key a prompt.
      samples: how many completions of each prompt.
      max_tokens: where a completion is cut; rounded up to whole blocks of 8.
      temperature: 1 samples from the model's distribution, 0 is greedy.
      batch: prompts handled at once.

    Yields:
      Positions i64[b] in `prompts`, and the tokens i8[b, samples, max_tokens] written for them: up to and with the end
      token, then padding.
    """
    encoded = [encode(prompt) for prompt in prompts]
    max_tokens = -(-max_tokens // BLOCK) * BLOCK
    order = np.argsort([len(codes) for codes in encoded], kind="stable")
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        length = -(-max(len(encoded[row]) for row in rows) // 16) * 16
        tokens = np.full((batch, length), PAD, np.int32)
        padding = np.full(batch, length - 1, np.int32)
        for slot, row in enumerate(rows):
            padding[slot] = length - len(encoded[row])
            tokens[slot, padding[slot] :] = encoded[row]
        # A short last batch is filled up with its first prompt, so that it needs no compilation of its own.
        filled = np.concatenate([rows, np.full(batch - len(rows), rows[0])])
        written = generate(config, params, tokens, padding, keys[filled], temperature, samples, max_tokens)
        yield rows, np.asarray(written)[: len(rows)]


@partial(jax.jit, static_argnums=(0, 6, 7))
def generate(
    config: ModelConfig,
    params: dict,
    tokens: jax.Array,
    padding: jax.Array,
    keys: jax.Array,
    temperature: jax.Array,
    samples: int,
    max_tokens: int,
) -> jax.Array:
    """Tokens i8[B, S, max_tokens] written after prompts i32[B, P] that are padded in front by padding i32[B]."""
    model = Llama(config)
    logits, prompt_cache = model.apply({"params": params}, tokens, padding, method="prefill")
    batch, vocabulary = logits.shape
    slots = (batch, config.num_attention_heads, samples, max_tokens, config.head_dim)
    own_cache = [(jnp.zeros(slots), jnp.zeros(slots)) for _ in range(config.num_hidden_layers)]

    def write(carry, step):
        logits, ended, own_cache = carry
        noise = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, step), (samples, vocabulary)))(keys)
        token = jnp.where(ended, PAD, jnp.argmax(logits + temperature * noise, axis=-1))
        ended |= token == END
        logits, own_cache = model.apply(
            {"params": params}, token, step, padding, prompt_cache, own_cache, method="decode"
        )
        return (logits, ended, own_cache), token.astype(jnp.int8)

    def write_block(state):
        start, carry, written = state
        carry, tokens = jax.lax.scan(write, carry, start + jnp.arange(BLOCK))
        written = jax.lax.dynamic_update_slice_in_dim(written, jnp.moveaxis(tokens, 0, 2), start, axis=2)
        return start + BLOCK, carry, written

    def unfinished(state):
        start, (_, ended, _), _ = state
        return (start < max_tokens) & ~jnp.all(ended)

    logits = jnp.broadcast_to(logits[:, None], (batch, samples, vocabulary))
    carry = logits, jnp.zeros((batch, samples), bool), own_cache
    written = jnp.full((batch, samples, max_tokens), PAD, jnp.int8)
    return jax.lax.while_loop(unfinished, write_block, (jnp.int32(0), carry, written))[2]
