"""The built-in language model: a small decoder-only transformer with the architecture of Llama.

RMSNorm before each part, rotary positions (halves rotated), gated SiLU, no biases, untied output: every weight has its
counterpart in `transformers`' LlamaForCausalLM. One module serves training (`__call__`), reading a prompt (`prefill`)
and writing one token for many samples of it at once (`decode`), so that the three cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from alloc_jax.reasoner.arithmetic import ALPHABET


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a model; the names are those of `transformers`' LlamaConfig."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    vocab_size: int = len(ALPHABET)
    rope_theta: float = 1000.0
    rms_norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


SIZES = {
    "small": ModelConfig(hidden_size=48, intermediate_size=128),
    "large": ModelConfig(hidden_size=80, intermediate_size=208),
}


def rotate(x: jax.Array, positions: jax.Array, theta: float) -> jax.Array:
    """Rotary position embedding of x f32[..., T, D] at positions i32[..., T] (Su et al., arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None].astype(jnp.float32) * frequency.reshape((1,) * positions.ndim + (half,))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)


class Block(nn.Module):
    """One layer, split where the three uses differ: between the projections and what they attend to."""

    config: ModelConfig

    def setup(self):
        config = self.config

        def dense(features: int, name: str, scale: float = 1.0):
            init = nn.initializers.variance_scaling(scale, "fan_in", "normal")
            return nn.Dense(features, use_bias=False, kernel_init=init, name=name)

        residual = 1 / (2 * config.num_hidden_layers)  # keeps the residual stream's scale at the first step
        self.attention_norm = nn.RMSNorm(epsilon=config.rms_norm_eps)
        self.mlp_norm = nn.RMSNorm(epsilon=config.rms_norm_eps)
        self.qkv = dense(3 * config.hidden_size, "qkv")
        self.attention_out = dense(config.hidden_size, "attention_out", residual)
        self.gate_up = dense(2 * config.intermediate_size, "gate_up")
        self.down = dense(config.hidden_size, "down", residual)

    def project(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values f32[B, H, T, D] of x f32[B, T, E]; queries and keys rotated, queries scaled."""
        config = self.config
        heads = self.qkv(self.attention_norm(x)).reshape(*x.shape[:2], 3, config.num_attention_heads, config.head_dim)
        query, key, value = jnp.moveaxis(heads, (2, 3), (0, 2))
        query, key = (rotate(part, positions, config.rope_theta) for part in (query, key))
        return query * config.head_dim**-0.5, key, value

    def finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        """x with what it attended to f32[B, H, T, D] and the MLP added."""
        merged = jnp.moveaxis(attended, 1, 2).reshape(x.shape)
        x = x + self.attention_out(merged)
        gate, up = jnp.split(self.gate_up(self.mlp_norm(x)), 2, axis=-1)
        return x + self.down(nn.silu(gate) * up)


class Llama(nn.Module):
    """The language model."""

    config: ModelConfig

    def setup(self):
        config = self.config
        self.embed = nn.Embed(config.vocab_size, config.hidden_size, embedding_init=nn.initializers.normal(0.05))
        self.layers = [Block(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(epsilon=config.rms_norm_eps)
        head_init = nn.initializers.variance_scaling(0.25, "fan_in", "normal")
        self.head = nn.Dense(config.vocab_size, use_bias=False, kernel_init=head_init)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits f32[B, T, V] of the next token after each of tokens i32[B, T] (padding behind does no harm)."""
        return self._read(tokens, jnp.zeros(tokens.shape[:1], jnp.int32))[0]

    def prefill(self, tokens: jax.Array, padding: jax.Array) -> tuple[jax.Array, list]:
        """Read prompts that are padded in front.

        Args:
          tokens: i32[B, P] prompts, aligned at their ends.
          padding: i32[B] how many tokens in front of each are padding.

        Returns:
          Logits f32[B, V] after the last token, and each layer's keys and values f32[B, H, P, D].
        """
        logits, cache = self._read(tokens, padding)
        return logits[:, -1], cache

    def _read(self, tokens, padding):
        index = jnp.arange(tokens.shape[1])[None]
        positions = (index - padding[:, None])[:, None]  # [B, 1, T]
        real = (index >= padding[:, None])[:, None, None]  # [B, 1, 1, T]
        mask = (index <= index.T)[None, None] & real
        x, cache = self.embed(tokens), []
        for layer in self.layers:
            query, key, value = layer.project(x, positions)
            weights = _masked_softmax(jnp.einsum("bhqd,bhkd->bhqk", query, key), mask)
            x = layer.finish(x, jnp.einsum("bhqk,bhkd->bhqd", weights, value))
            cache.append((key, value))
        return self.head(self.norm(x)), cache

    def decode(self, tokens: jax.Array, step: jax.Array, padding: jax.Array, prompt_cache: list, own_cache: list):
        """Read the last written token of S samples of each of B prompts.

        The prompt's keys and values are shared by its samples; what a sample wrote itself lies in its own cache.

        Args:
          tokens: i32[B, S] the last written tokens.
          step: i32[] how many tokens were written before them.
          padding: i32[B] padding in front of each prompt.
          prompt_cache: each layer's keys and values f32[B, H, P, D] from `prefill`.
          own_cache: each layer's keys and values f32[B, H, S, M, D].

        Returns:
          Logits f32[B, S, V], and the own cache with this token's keys and values in slot `step`.
        """
        prompt_length, slots = prompt_cache[0][0].shape[2], own_cache[0][0].shape[3]
        position = (prompt_length - padding + step)[:, None, None]  # [B, 1, 1]: the same for all samples
        asked = jnp.arange(prompt_length)[None] >= padding[:, None]
        written = jnp.broadcast_to(jnp.arange(slots) <= step, (len(padding), slots))
        mask = jnp.concatenate([asked, written], axis=1)[:, None, None]  # [B, 1, 1, P + M]
        x, cache = self.embed(tokens), []
        for layer, (prompt_key, prompt_value), (own_key, own_value) in zip(
            self.layers, prompt_cache, own_cache, strict=True
        ):
            query, key, value = layer.project(x, position)
            own_key = jax.lax.dynamic_update_index_in_dim(own_key, key, step, axis=3)
            own_value = jax.lax.dynamic_update_index_in_dim(own_value, value, step, axis=3)
            scores = jnp.concatenate(
                [jnp.einsum("bhsd,bhpd->bhsp", query, prompt_key), jnp.einsum("bhsd,bhsmd->bhsm", query, own_key)],
                axis=-1,
            )
            weights = _masked_softmax(scores, mask)
            attended = jnp.einsum("bhsp,bhpd->bhsd", weights[..., :prompt_length], prompt_value)
            attended += jnp.einsum("bhsm,bhsmd->bhsd", weights[..., prompt_length:], own_value)
            x = layer.finish(x, attended)
            cache.append((own_key, own_value))
        return self.head(self.norm(x)), cache


def init_params(config: ModelConfig, key: jax.Array) -> dict:
    """Fresh parameters of a model."""
    return Llama(config).init(key, jnp.zeros((1, 8), jnp.int32))["params"]


def count_parameters(params: dict) -> int:
    """How many numbers a model has learned: the size that `compute` multiplies tokens with."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
