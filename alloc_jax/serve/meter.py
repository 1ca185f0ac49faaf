"""The meter: what a request cost in the unit that a policy, or a cap, is paid in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from alloc_jax.collect.charges import usage_dollars, worst_dollars
from alloc_jax.collect.recipes import Recipe, worst_prompt
from alloc_jax.collect.replies import Usage
from alloc_jax.price_book import TokenPrice

METERED = ("samples", "tokens", "prompt_tokens", "completion_tokens", "reasoning_tokens", "usd", "seconds")
CAPPED = ("samples", "tokens", "prompt_tokens", "completion_tokens", "usd")  # what has a worst case


@dataclass(frozen=True)
class Meter:
    """Counts in one resource.

    Raises:
      ValueError: a resource that a gateway cannot see.
    """

    resource: str
    unit: str = ""  # of a table's resource: says whether tokens count the prompt
    prices: Mapping[str, TokenPrice] = field(default_factory=dict)  # by the model's name, for usd

    def __post_init__(self):
        if self.resource not in METERED:
            raise ValueError(
                f"a gateway cannot meter {self.resource!r}; it meters {', '.join(METERED)}: train the policy in one of them"
            )

    def check(self, model: str) -> None:
        """Makes sure that a model can be paid.

        Raises:
          ValueError: it has no price, where one is needed.
        """
        if self.resource == "usd":
            self._price(model)

    def cost(self, model: str, usage: Usage, samples: int, seconds: float) -> float | None:
        """What a request cost; None where the upstream did not say."""
        if self.resource == "samples":
            return float(samples)
        if self.resource == "seconds":
            return seconds
        if self.resource == "usd":
            return usage_dollars(self._price(model), asdict(usage))
        if self.resource != "tokens":
            return getattr(usage, self.resource)
        if self.unit == "completion tokens":
            return usage.completion_tokens
        parts = usage.prompt_tokens, usage.completion_tokens
        return None if None in parts else sum(parts)

    def worst(self, model: str, messages: Sequence[Mapping[str, Any]], limit: int | None, samples: int) -> float:
        """The most that `samples` requests of one sample can cost.

        Args:
          model: the upstream's.
          messages: what it reads.
          limit: tokens that it may write; sent with the request.
          samples: how many.

        Raises:
          ValueError: nothing limits it, or the model has no price.
        """
        if self.resource == "samples":
            return float(samples)
        prompt = worst_prompt(messages) * samples
        if self.resource == "prompt_tokens":
            return float(prompt)
        if limit is None:
            raise ValueError("a hard cap needs a limit on the tokens: say max_tokens")
        if self.resource == "usd":
            return worst_dollars(self._price(model), prompt, limit * samples)
        written = float(limit * samples)
        only_written = self.resource == "completion_tokens" or self.unit == "completion tokens"
        return written if only_written else written + prompt

    def _price(self, model: str) -> TokenPrice:
        if model not in self.prices:
            raise ValueError(f"no price for model {model!r}: a missing one is not 0")
        return self.prices[model]


def limit_of(recipe: Recipe, asked: int | None) -> int | None:
    """The token limit of a sample: the recipe's, or the client's where that is lower."""
    return min((limit for limit in (recipe.limit, asked) if limit is not None), default=None)
