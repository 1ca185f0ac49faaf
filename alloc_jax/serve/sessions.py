"""Conversations: what earlier messages say of the last one, and the source whose cache holds what was said so far."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.collect.recipes import Recipe
from alloc_jax.learn.calibration import Prediction
from alloc_jax.price_book import TokenPrice
from alloc_jax.serve.tickets import AnswerRequest, Ticket

_KEPT = 1 << 16  # sessions
_LEAST = 1024  # tokens of a prompt that servers keep at least


def earlier(messages: Sequence[Mapping[str, object]], most: int) -> list[str]:
    """What the user said before the last message, the latest first.

    >>> earlier([{"role": "user", "content": text} for text in "abc"], 5)
    ['b', 'a']
    """
    said = [message.get("content") for message in messages if message.get("role") == "user"]
    texts = [text for text in said[:-1] if isinstance(text, str) and text.strip()]
    return texts[::-1][:most]


def mixed(predictions: Sequence[Prediction], weight: float) -> Prediction:
    """Predictions of messages, the latest first, averaged: each counts `weight` times as much as the one after it."""
    shares = np.float32(weight) ** np.arange(len(predictions), dtype=np.float32)
    shares /= shares.sum()

    def mean(parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.tensordot(shares, np.stack(parts), 1)

    first = predictions[0]
    return Prediction(mean([one.score for one in predictions]), mean([one.cost for one in predictions]), first.spread)


@dataclass(frozen=True)
class Warm:
    """What is known of a session."""

    source: str  # whose cache holds it
    tokens: float  # of its last prompt
    since: float


class Sessions:
    """Which source answered each conversation last, and what its next prompt costs there and elsewhere; its caller holds a lock.

    A prompt that a source has in its cache is paid at the rate of cached tokens, and at another source in full. Both are in the costs
    that actions are compared by, so that a session stays where it is as long as leaving costs more than it gains.

    Args:
      recipes: of the sources.
      prices: of the models.
      warm_s: for which a prompt stays in a cache, in seconds; 0: nothing is assumed of caches.
      clock: seconds.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        prices: Mapping[str, TokenPrice],
        warm_s: float,
        clock: Callable[[], float],
    ):
        self.recipes, self.prices, self.warm_s, self.clock = recipes, prices, warm_s, clock
        self.of: OrderedDict[bytes, Warm] = OrderedDict()

    def more(self, question: AnswerRequest, actions: Mapping[str, Action]) -> np.ndarray | None:
        """f32[K] dollars that the conversation so far adds to every action; None where no cache holds it."""
        warm = self.of.get(key) if (key := self._key(question)) else None
        if warm is None or self.clock() - warm.since > self.warm_s:
            return None
        found = []
        for action in actions.values():
            if action.source is None:
                found.append(0.0)
                continue
            price = self.prices[self.recipes[action.source].model]
            rate = price.input if action.source != warm.source or price.cached_input is None else price.cached_input
            found.append(action.samples * warm.tokens * rate / 1e6)
        return np.array(found, np.float32)

    def note(self, ticket: Ticket, prompt: Mapping[str, float | None]) -> None:
        """Remember who answered.

        Args:
          ticket: that was answered.
          prompt: tokens of one sample's prompt, by source; None where the server did not say.
        """
        key = self._key(ticket.asked) if isinstance(ticket.asked, AnswerRequest) else None
        known = {source: tokens for source, tokens in prompt.items() if tokens is not None and tokens >= _LEAST}
        if key is None or not known:
            return
        source = max(known, key=known.__getitem__)
        self.of[key] = Warm(source, known[source], self.clock())
        self.of.move_to_end(key)
        while len(self.of) > _KEPT:
            self.of.popitem(last=False)

    def _key(self, question: AnswerRequest) -> bytes | None:
        """A session by what its client calls it, else by how its conversation begins."""
        if not self.warm_s or not question.messages:
            return None
        named = question.extra.get("prompt_cache_key")
        if not isinstance(named, str):
            first = next((j for j, one in enumerate(question.messages) if one.get("role") == "user"), 0)
            named = json.dumps(question.messages[: first + 1])
        return hashlib.blake2b(f"{question.tenant}\0{named}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
