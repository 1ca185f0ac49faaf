"""What actions cost in every resource; a missing price, count or latency is an error and never 0."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from alloc_jax.actions import abstain, best_of, single, vote
from alloc_jax.measure import measure, reprice
from alloc_jax.measure.costs import RESOURCES
from alloc_jax.price_book import PriceBook
from alloc_jax.types import SAMPLE_FIELDS, Source
from tests.logs.sample_logs import make_log

STATED = {"cost_of_one_sample": 2.5, "cost_unit": "calls"}
SOURCES = (
    Source("small", 10.0, {"model": "tiny-1", **STATED}),
    Source("large", 100.0, {**STATED, "cost_of_one_sample": 4}),
)
ENTRIES = [
    dict(model="tiny-1", input=1, output=4, cached_input=0.25, reasoning=None, source="a page", date="2025-01-01"),
    dict(model="large", input=2, output=8, cached_input=None, reasoning=6, source="a page", date="2025-03-01"),
]
BOOK = PriceBook.of(ENTRIES)
ACTIONS = (vote("large", 3), single("small"), abstain(), vote("small", 4), best_of("large", 2))


def full_log(**changes):
    """A log that knows everything about every sample."""
    rng = np.random.default_rng(1)
    shape = (6, 2, 4)
    whole = {name: rng.integers(10, 50, shape).astype(np.float32) for name in ("prompt_tokens", "completion_tokens")}
    parts = {
        "cached_tokens": np.floor(whole["prompt_tokens"] * rng.random(shape)),
        "reasoning_tokens": np.floor(whole["completion_tokens"] * rng.random(shape)),
        "latency_s": rng.integers(1, 5, shape) + 0.5,
        "usd": rng.random(shape),
        "reward": rng.random(shape),
    }
    parts = {name: values.astype(np.float32) for name, values in parts.items()}
    return make_log(**{"sources": SOURCES, **whole, **parts, **changes})


def test_k_parallel_samples_take_as_long_as_the_slowest_of_every_k_subset():
    log = full_log()
    table = measure(log, ACTIONS, "seconds")
    assert table.units == ("seconds",)
    for i, (k, action) in itertools.product(range(len(log)), enumerate(ACTIONS)):
        if action.source is None:
            continue
        latency = log.latency_s[i, log.source_index(action.source)]

        def slowest(values, k=action.samples):
            return np.mean([max(subset) for subset in itertools.combinations(values, k)])

        assert table.cost[i, k] == pytest.approx(slowest(latency), rel=1e-6)
        if action.samples < 4:  # the delete-one jackknife, up to its bound
            without = [slowest(np.delete(latency, j)) - slowest(latency) for j in range(4)]
            draws = [max(subset) for subset in itertools.combinations(latency, action.samples)]
            variance = min(3 / 4 * np.sum(np.square(without)), action.samples * np.var(draws) / (4 - action.samples))
            assert table.cost_se[i, k] == pytest.approx(np.sqrt(variance), rel=1e-5, abs=1e-6)


def test_the_slowest_of_all_samples_has_the_spread_of_the_exact_bootstrap_but_for_its_n_less_1():
    log = full_log()
    table = measure(log, [vote("small", 4)], "seconds")
    for latency, error in zip(log.latency_s[:, 0], table.cost_se[:, 0], strict=True):
        slowest = [max(draw) for draw in itertools.product(latency, repeat=4)]
        assert error == pytest.approx(np.std(slowest) * np.sqrt(4 / 3), rel=1e-5)


def test_dollars_bill_every_token_once_at_the_rate_it_has():
    log = full_log()
    table = measure(log, ACTIONS, "usd", prices=BOOK)
    small = (log.prompt_tokens - log.cached_tokens) * 1 + log.cached_tokens * 0.25 + log.completion_tokens * 4
    large = log.prompt_tokens * 2 + (log.completion_tokens - log.reasoning_tokens) * 8 + log.reasoning_tokens * 6
    np.testing.assert_allclose(table.cost[:, 1], small[:, 0].mean(axis=1) / 1e6, rtol=1e-5)
    np.testing.assert_allclose(table.cost[:, 0], 3 * large[:, 1].mean(axis=1) / 1e6, rtol=1e-5)
    assert table.units == ("usd (prices of 2025-01-01 to 2025-03-01)",)


def test_dollars_are_what_the_log_states_where_no_prices_are_given():
    log = full_log()
    table = measure(log, ACTIONS, "usd")
    np.testing.assert_allclose(table.cost[:, 1], log.usd[:, 0].mean(axis=1), rtol=1e-5)
    assert table.units == ("usd",)


@pytest.mark.parametrize("name", ["prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"])
def test_every_kind_of_token_is_a_resource(name):
    log = full_log()
    table = measure(log, ACTIONS, name)
    np.testing.assert_allclose(table.cost[:, 3], 4 * getattr(log, name)[:, 0].mean(axis=1), rtol=1e-5)
    assert table.units == (name.replace("_", " "),)


def test_abstaining_costs_and_earns_nothing_in_every_resource():
    table = measure(full_log(), ACTIONS, RESOURCES, prices=BOOK)
    assert table.cost.shape == (6, 5, len(RESOURCES)) and table.valid.all()
    assert not table.cost[:, 2].any() and not table.utility[:, 2].any() and not table.utility_se[:, 2].any()
    assert (table.cost[:, [0, 1, 3, 4]] > 0).all()


# What a resource needs of a sample; BOOK bills the cached tokens of `tiny-1` and the reasoning of `large`.
NEEDS = {
    "prompt_tokens": ("prompt_tokens",),
    "cached_tokens": ("cached_tokens",),
    "completion_tokens": ("completion_tokens",),
    "reasoning_tokens": ("reasoning_tokens",),
    "tokens": ("prompt_tokens", "completion_tokens"),
    "compute": ("prompt_tokens", "completion_tokens"),
    "usd": ("prompt_tokens", "cached_tokens", "completion_tokens"),
    "seconds": ("latency_s",),
}


@pytest.mark.parametrize("resource, name", [(r, name) for r, names in NEEDS.items() for name in names])
def test_one_missing_number_is_an_error_that_names_the_question_and_the_model_or_drops_the_question(resource, name):
    log = full_log()
    values = getattr(log, name).copy()
    values[2, 0, 1] = values[4, 0, 3] = np.nan
    log = replace(log, **{name: values})
    prices = BOOK if resource == "usd" else None
    of = "'small' (model 'tiny-1')" if resource == "usd" else "'small'"
    with pytest.raises(ValueError) as error:
        measure(log, ACTIONS, resource, prices=prices)
    expected = f"resource '{resource}': question 'q2' has a sample of {of} without {name} (2 of 6 questions)"
    assert str(error.value) == expected
    table = measure(log, ACTIONS, ("samples", resource), prices=prices, missing="drop")
    assert table.ids == ("q0", "q1", "q3", "q5") and table.dropped == ("q2", "q4")
    assert np.isfinite(table.cost).all()
    measure(log, [vote("large", 2), abstain()], resource, prices=prices)  # whose numbers are all there


def test_every_resource_but_samples_is_held_to_what_it_needs():
    assert set(NEEDS) == set(RESOURCES) - {"samples", "stated"}


def test_a_stated_cost_is_the_sources_own_in_the_unit_they_share():
    log = full_log()
    table = measure(log, ACTIONS, "stated")
    np.testing.assert_allclose(table.cost[0], [12, 2.5, 0, 10, 8])
    assert table.units == ("calls",) and not table.cost_se.any()
    small, large = SOURCES
    with pytest.raises(ValueError, match="'q0' has samples of 'large', and the log does not say what one costs"):
        measure(replace(log, sources=(small, Source("large", 100.0))), ACTIONS, "stated")
    other = replace(large, details={**STATED, "cost_unit": "dollars"})
    with pytest.raises(ValueError, match="states its costs in different units: calls, dollars"):
        measure(replace(log, sources=(small, other)), ACTIONS, "stated")


def test_a_model_without_a_price_is_an_error_that_names_it():
    log = full_log()
    with pytest.raises(
        ValueError, match=r"question 'q0' has samples of model 'large' \(source 'large'\), which has no"
    ):
        measure(log, ACTIONS, "usd", prices=PriceBook.of(ENTRIES[:1]))
    with pytest.raises(ValueError, match="with missing='drop' no question is left"):
        measure(log, ACTIONS, "usd", prices=PriceBook.of(ENTRIES[:1]), missing="drop")


def test_rates_that_are_null_need_no_count_of_their_tokens():
    log = full_log(cached_tokens=None, reasoning_tokens=None)
    plain = PriceBook.of([{**entry, "cached_input": None, "reasoning": None} for entry in ENTRIES])
    table = measure(log, [single("small")], "usd", prices=plain)
    billed = (log.prompt_tokens + 4 * log.completion_tokens)[:, 0].mean(axis=1) / 1e6
    np.testing.assert_allclose(table.cost[:, 0], billed, rtol=1e-5)
    with pytest.raises(ValueError, match="it needs cached_tokens, and the log has none"):
        measure(log, [single("small")], "usd", prices=BOOK)


def test_more_cached_tokens_than_the_prompt_has_are_refused():
    log = full_log()
    log.cached_tokens[3, 0, 0] = log.prompt_tokens[3, 0, 0] + 1
    with pytest.raises(
        ValueError, match=r"question 'q3' has a sample of 'small' .* with more cached_tokens than tokens"
    ):
        measure(log, ACTIONS, "usd", prices=BOOK)


def test_a_table_at_new_prices_is_the_table_that_would_have_been_measured():
    log = full_log()
    dearer = PriceBook.of([*ENTRIES, {**ENTRIES[0], "date": "2025-09-01", "output": 40}])
    resources = ("usd", "seconds", "tokens")
    again = reprice(measure(log, ACTIONS, "samples"), log, resources, prices=dearer)
    fresh = measure(log, ACTIONS, resources, prices=dearer)
    for name in ("utility", "utility_se", "cost", "cost_se", "valid"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fresh, name))
    assert (again.units, again.resources) == (fresh.units, fresh.resources)
    before = reprice(again, log, "usd", prices=BOOK)
    assert (before.cost[:, 1] < again.cost[:, 1, 0]).all() and (before.cost[:, 0] == again.cost[:, 0, 0]).all()


def test_repricing_drops_questions_as_measuring_does():
    log = full_log()
    log.latency_s[1, 1, 0] = np.nan
    table = measure(log, ACTIONS, "samples").select([5, 1, 0])
    with pytest.raises(ValueError, match=r"question 'q1' has a sample of 'large' without latency_s \(1 of 3"):
        reprice(table, log, "seconds")
    again = reprice(table, log, "seconds", missing="drop")
    assert again.ids == ("q5", "q0") and again.dropped == ("q1",)
    np.testing.assert_array_equal(again.cost, measure(log.select([5, 0]), ACTIONS, "seconds").cost)
    np.testing.assert_array_equal(again.utility, table.utility[[0, 2]])


def test_repricing_by_a_log_of_other_questions_or_samples_is_refused():
    log = full_log()
    table = measure(log, [single("small")], "samples")
    with pytest.raises(ValueError, match=r"the log has no question 'q0' \(1 of the table's 6\)"):
        reprice(table, log.select(range(1, 6)), "tokens")
    with pytest.raises(ValueError, match="measured on other samples"):
        reprice(table, log.split_samples(0)[0], "tokens")


@pytest.mark.parametrize(
    "resource, options, message",
    [
        ("tokens", {"prices": BOOK}, "nothing is paid in usd"),
        ("usd", {"prices": "prices.json"}, "prices are a PriceBook, got str"),
        ("tokens", {"missing": "ignore"}, "missing is 'error' or 'drop', got 'ignore'"),
    ],
)
def test_options_that_would_change_nothing_are_refused(resource, options, message):
    with pytest.raises(ValueError, match=message):
        measure(full_log(), ACTIONS, resource, **options)
    with pytest.raises(ValueError, match=message):
        reprice(measure(full_log(), ACTIONS), full_log(), resource, **options)


def test_samples_cost_what_they_cost_whatever_else_is_unknown():
    blind = full_log(**{name: None for name in SAMPLE_FIELDS if name != "reward"})
    np.testing.assert_array_equal(measure(blind, ACTIONS).cost, np.tile([3, 1, 0, 4, 2], (6, 1)))
