"""The meter: what a request cost in the unit that a policy, or a cap, is paid in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from alloc_jax.collect.charges import usage_dollars, worst_dollars
from alloc_jax.collect.recipes import LIMITS, Recipe, worst_prompt
from alloc_jax.collect.replies import Usage
from alloc_jax.price_book import TokenPrice
from alloc_jax.serve.tickets import CHAT, COMPLETIONS, EMBEDDINGS, Passed

METERED = ("samples", "tokens", "prompt_tokens", "completion_tokens", "reasoning_tokens", "usd", "seconds")
# What a request that passes through may hold under a hard cap: its bytes and its limits bound it, and nothing multiplies it but n.
_SAMPLED = {
    "model", "n", "max_tokens", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "stop", "seed",
    "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "user", "alloc",
}  # fmt: skip
_BOUNDED = {
    CHAT: _SAMPLED | {
        "messages", "max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
        "response_format", "top_logprobs", "metadata", "reasoning_effort", "verbosity", "store", "safety_identifier",
        "prompt_cache_key", "prompt_cache_retention",
    },
    COMPLETIONS: _SAMPLED | {"prompt", "suffix", "echo"},
    EMBEDDINGS: {"model", "input", "dimensions", "encoding_format", "user"},
}  # fmt: skip
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
    image_tokens: int | None = None  # the most that an image is; None: a request with one has no worst case

    def __post_init__(self):
        if self.resource not in METERED:
            raise ValueError(
                f"a gateway cannot meter {self.resource!r}; it meters {', '.join(METERED)}: train the policy in one of them, as"
                " in `python experiments/solve_then_learn.py --resource=samples`"
            )

    def check(self, model: str) -> None:
        """Make sure that a model can be paid.

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

    def worst(self, model: str, body: Mapping[str, Any], limit: int | None, texts: int = 1) -> float:
        """The most that one sample of a request can cost.

        Args:
          model: the upstream's.
          body: that is sent.
          limit: tokens that a sample may have; sent with the request.
          texts: in the body, of each of which there are as many samples.

        Raises:
          ValueError: nothing bounds it, or the model has no price.
        """
        if self.resource == "samples":
            return 1.0
        prompt = worst_prompt(body, self.image_tokens) / texts
        if self.resource == "prompt_tokens":
            return float(prompt)
        if limit is None:
            raise ValueError("nothing limits the tokens of an answer: say max_tokens")
        if self.resource == "usd":
            return worst_dollars(self._price(model), prompt, limit)
        only_written = self.resource == "completion_tokens" or self.unit == "completion tokens"
        return float(limit) if only_written else float(limit + prompt)

    def worst_passed(self, passed: Passed) -> float:
        """`worst` of a request that a client has written: of the larger of its limits, and of no field that nobody can bound.

        Raises:
          ValueError: nothing bounds it, or the model has no price.
        """
        body = passed.body
        if self.resource != "samples" and (strange := sorted(body.keys() - _BOUNDED[passed.path])):
            raise ValueError(f"nobody knows what {', '.join(strange)} may cost: leave it out")
        limits = [0] if passed.path == EMBEDDINGS else [body[name] for name in LIMITS if body.get(name)]
        return self.worst(passed.model, body, max(limits, default=None), passed.texts)

    def _price(self, model: str) -> TokenPrice:
        if model not in self.prices:
            raise ValueError(f"no price for model {model!r}: a missing one is not 0")
        return self.prices[model]


def limit_of(recipe: Recipe, asked: int | None) -> int | None:
    """The token limit of a sample: the recipe's, or the client's where that is lower."""
    return min((limit for limit in (recipe.limit, asked) if limit is not None), default=None)
