"""What a request is charged, from its usage; None where a count that it takes is unknown, which is never 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alloc_jax.price_book import TokenPrice


def total_tokens(usage: Mapping[str, float | None]) -> float | None:
    """Prompt and completion tokens together; None where either is unknown."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    return None if prompt is None or completion is None else prompt + completion


def usage_dollars(price: TokenPrice, usage: Mapping[str, float | None]) -> float | None:
    """What a request cost: every token once, at its own rate where it has one; None where a count is unknown."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    if prompt is None or completion is None:
        return None
    total = price.input * prompt + price.output * completion
    for name, rate, of in (
        ("cached_tokens", price.cached_input, price.input),
        ("cache_write_tokens", price.cache_write, price.input),
        ("reasoning_tokens", price.reasoning, price.output),
    ):
        if rate is not None and rate != of:
            if usage[name] is None:
                return None
            total += (rate - of) * usage[name]
    return total / 1e6


def worst_dollars(price: TokenPrice, prompt_tokens: float, completion_tokens: float) -> float:
    """The most that so many tokens can cost."""
    dearest_input = max(price.input, price.cached_input or 0.0, price.cache_write or 0.0)
    dearest_output = max(price.output, price.reasoning or 0.0)
    return (dearest_input * prompt_tokens + dearest_output * completion_tokens) / 1e6
