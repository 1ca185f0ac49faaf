"""What actions cost, in each resource. A missing count or price is an error: zero would be the best price there is.

The k samples of an action are drawn in parallel: tokens and dollars add up, and the last sample ends the wait, so that
`seconds` is the expected maximum over all k-subsets. The cost of a reward model or verifier that picks among the samples is not in a
log, and not included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alloc_jax.actions import CONSTANT, Action
from alloc_jax.measure.estimators.pass_at_k import expected_largest
from alloc_jax.measure.estimators.u_statistics import Pairs, estimate
from alloc_jax.price_book import PriceBook
from alloc_jax.types import SampleLog, Source

TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
RESOURCES = ("samples", *TOKENS, "tokens", "compute", "usd", "seconds", "stated")


class Lack(NamedTuple):
    """Why the costs of some questions are not known."""

    rows: np.ndarray  # bool[N]
    what: str  # ends the sentence "resource 'usd': question 'q1' ..."


def check_resources(resource: str | Sequence[str], prices: PriceBook | None = None) -> tuple[str, ...]:
    """The resources as a tuple.

    Raises:
      ValueError: none, an unknown one, or one listed twice; prices that nothing is paid with.
    """
    names = (resource,) if isinstance(resource, str) else tuple(resource)
    if not names:
        raise ValueError(f"no resource; known: {', '.join(RESOURCES)}")
    for name in names:
        if name not in RESOURCES:
            raise ValueError(f"unknown resource {name!r}; known: {', '.join(RESOURCES)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a resource is listed twice: {', '.join(names)}")
    if prices is not None and not isinstance(prices, PriceBook):
        raise ValueError(f"prices are a PriceBook, got {type(prices).__name__}; PriceBook.load reads a file")
    if prices is not None and "usd" not in names:
        raise ValueError(f"prices are given, but nothing is paid in usd: the resource is {', '.join(names)}")
    return names


def model_of(source: Source) -> str:
    """The model that a price book knows a source by: its detail `model`, or else its name."""
    return str(source.details.get("model", source.name))


def unit_name(log: SampleLog, resource: str, columns: Sequence[int] = (), prices: PriceBook | None = None) -> str:
    """The name of a resource's unit.

    Args:
      log: the samples.
      resource: one of `RESOURCES`.
      columns: the sources (positions on axis M) that are paid; dollars name the dates of their prices.
      prices: in force.
    """
    if resource == "tokens":
        return "completion tokens" if log.prompt_tokens is None else "prompt + completion tokens"
    if resource == "compute":
        return log.compute_unit.name if log.compute_unit else "tokens x parameters"
    if resource == "usd" and prices is not None:
        models = {model_of(log.sources[m]) for m in columns} & set(prices.models)
        dates = sorted({prices.price(model).date for model in models})
        if dates:
            return f"usd (prices of {dates[0]})" if len(dates) == 1 else f"usd (prices of {dates[0]} to {dates[-1]})"
    if resource == "stated":
        units = sorted({str(log.sources[m].details.get("cost_unit", "stated cost")) for m in columns})
        if len(units) > 1:
            raise ValueError(f"resource 'stated': the log states its costs in different units: {', '.join(units)}")
        return units[0] if units else "stated cost"
    return resource.replace("_", " ")


def with_known_costs(
    log: SampleLog,
    actions: Sequence[Action],
    resource: str | Sequence[str],
    *,
    prices: PriceBook | None = None,
    missing: str = "error",
) -> tuple[SampleLog, tuple[str, ...]]:
    """The questions on which the cost of every action is known, and the ids of the others.

    Call this before a log is split: otherwise each half loses the questions that lack something in that half.

    Args:
      log: the samples.
      actions: whose sources are paid.
      resource: one or several of `RESOURCES`.
      prices: for dollars.
      missing: "error" refuses the first lack, "drop" leaves its question out.

    Raises:
      ValueError: a price, token count or latency is missing (named with the first question that lacks it); or with "drop",
        no question is left.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing is 'error' or 'drop', got {missing!r}")
    resources = check_resources(resource, prices)
    columns = sorted({log.source_index(action.source) for action in actions if action.source is not None})
    if "usd" in resources and prices is None and log.usd is None and columns:
        raise ValueError("resource 'usd' needs prices, as in prices=PriceBook.load(path): the log states no dollars")
    rows, why = np.zeros(len(log), bool), None
    for name in resources:
        for lack in (lack for m in columns for lack in _lacks(log, name, m, prices)):
            if why is None and lack.rows.any():
                first = log.ids[int(np.argmax(lack.rows))]
                total = f"({lack.rows.sum()} of {len(log)} questions)"
                why = f"resource {name!r}: question {first!r} {lack.what} {total}"
            rows |= lack.rows
    if why is None:
        return log, ()
    if missing == "error":
        raise ValueError(why)
    if rows.all():
        raise ValueError(f"{why}: with missing='drop' no question is left")
    return log.select(~rows), tuple(identity for identity, out in zip(log.ids, rows, strict=True) if out)


def action_costs(
    log: SampleLog, actions: Sequence[Action], resources: Sequence[str], prices: PriceBook | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The cost of every action on every question, and its standard error.

    Args:
      log: whose samples have what the resources need (`with_known_costs`).
      actions: K actions.
      resources: R of `RESOURCES`.
      prices: for dollars.

    Returns:
      f32[N, K, R] and f32[N, K, R]; 0 where a pair has no samples, and for `abstain()`. The error is NaN where one sample
      leaves it unknown; samples, and costs that the log states for every sample alike, are certain.
    """
    cost, error = np.zeros((2, len(log), len(actions), len(resources)), np.float32)
    paid = {action.source: [a for a in actions if a.source == action.source] for action in actions if action.samples}
    for source, of_source in paid.items():
        m = log.source_index(source)
        rows = np.flatnonzero(log.count[:, m])
        answer, correct, real = (x[rows, m] for x in (log.answer, log.correct, log.sampled))
        sizes = sorted({action.samples for action in of_source})
        for r, resource in enumerate(resources):
            pairs = Pairs(answer, correct, real, np.where(real, sample_costs(log, resource, m, prices)[rows], 0))
            found = dict(zip(sizes, _estimates(pairs, sizes, resource), strict=True))
            for action in of_source:
                k = actions.index(action)
                cost[rows, k, r], error[rows, k, r] = found[action.samples]
    return cost, error


def _estimates(pairs: Pairs, sizes: Sequence[int], resource: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(mean, error) of what k of the pairs' values cost, for every k of `sizes`: the largest in seconds, else the sum."""
    if resource == "seconds":
        for found in estimate(expected_largest, pairs, sizes):
            yield found.mean, found.error
        return
    n, values = pairs.count, pairs.value
    mean = values.sum(axis=1) / n
    squares = np.where(pairs.sampled, (values - mean[:, None]) ** 2, 0).sum(axis=1)
    alone = 0.0 if resource in CONSTANT else np.nan
    error = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1) / n), alone)
    yield from ((k * mean, k * error) for k in sizes)


def sample_costs(log: SampleLog, resource: str, m: int, prices: PriceBook | None = None) -> np.ndarray:
    """What each sample of a source costs, f64[N, S]; NaN where something is missing and in the padding.

    Dollars bill every token once: prompt tokens at the input rate, or at the rates of tokens read from and written to a cache;
    completion tokens at the output rate, or at that of reasoning tokens.
    """
    known = log.sampled[:, m]

    def field(name: str) -> np.ndarray:
        return np.where(known, getattr(log, name)[:, m], np.nan).astype(np.float64)

    if resource in ("samples", "stated"):
        return np.where(known, 1.0 if resource == "samples" else log.sources[m].details["cost_of_one_sample"], np.nan)
    if resource in TOKENS:
        return field(resource)
    if resource == "seconds":
        return field("latency_s")
    if resource == "usd" and prices is not None:
        price = prices.price(model_of(log.sources[m]))
        total = price.input * field("prompt_tokens") + price.output * field("completion_tokens")
        for name, rate, of in (
            ("cached_tokens", price.cached_input, price.input),
            ("cache_write_tokens", price.cache_write, price.input),
            ("reasoning_tokens", price.reasoning, price.output),
        ):
            if rate is not None and rate != of:
                total += (rate - of) * field(name)
        return total / 1e6
    if resource == "usd":
        return field("usd")
    tokens = field("tokens")
    return tokens if resource == "tokens" else tokens * (log.sources[m].parameters / log.compute_unit.size)


def _lacks(log: SampleLog, resource: str, m: int, prices: PriceBook | None) -> Iterator[Lack]:
    """The fields that a resource needs and some samples of a source lack."""
    source, sampled = log.sources[m], log.sampled[:, m]
    has = np.asarray(sampled.any(axis=1))
    needed = {"samples": (), "stated": (), "seconds": ("latency_s",)}.get(resource, (resource,))
    if resource in ("tokens", "compute"):
        needed = ("completion_tokens", *(() if log.prompt_tokens is None else ("prompt_tokens",)))
    if resource == "compute" and source.parameters is None:
        yield Lack(has, f"has samples of {source.name!r}, and the log does not say the parameter count of source"
                        f" {source.name!r}")  # fmt: skip
    if resource == "stated" and "cost_of_one_sample" not in source.details:
        yield Lack(
            has, f"has samples of {source.name!r}, and the log does not say what one costs: it needs cost_of_one_sample"
        )
    if resource == "usd" and prices is not None:
        model = model_of(source)
        if model not in prices.models:
            known = ", ".join(map(repr, prices.models)) or "none"
            yield Lack(
                has, f"has samples of model {model!r} (source {source.name!r}), which has no price; priced: {known}"
            )
            return
        price = prices.price(model)
        needed = ("prompt_tokens", "completion_tokens")
        needed += ("cached_tokens",) * (price.cached_input not in (None, price.input))
        needed += ("cache_write_tokens",) * (price.cache_write not in (None, price.input))
        needed += ("reasoning_tokens",) * (price.reasoning not in (None, price.output))
    for name in needed:
        values = getattr(log, name)
        of = repr(source.name) if resource != "usd" else f"{source.name!r} (model {model_of(source)!r})"
        if values is None:
            hint = "; prices would bill its tokens" if resource == "usd" and prices is None else ""
            yield Lack(has, f"has samples of {of} without {name}: it needs {name}, and the log has none{hint}")
        else:
            yield Lack(
                np.asarray((sampled & ~np.isfinite(values[:, m])).any(axis=1)), f"has a sample of {of} without {name}"
            )
        # A part cannot exceed the whole: billing it would make the rest negative.
        prompt_parts = dict.fromkeys(("cached_tokens", "cache_write_tokens"), log.prompt_tokens)
        whole = {**prompt_parts, "reasoning_tokens": log.completion_tokens}.get(name)
        if resource == "usd" and values is not None and whole is not None:
            more = (sampled & (values[:, m] > whole[:, m])).any(axis=1)
            yield Lack(more, f"has a sample of {of} with more {name} than tokens they are part of")
