"""Price books: our own form, and the tables that OpenRouter and LiteLLM publish, in which -1 is unknown and never a price."""

import json

import numpy as np
import pytest

from alloc_jax.actions import vote
from alloc_jax.collect.charges import usage_dollars, worst_dollars
from alloc_jax.measure.costs import sample_costs, with_known_costs
from alloc_jax.price_book import PriceBook, TokenPrice
from tests.logs.sample_logs import make_log

OPENROUTER = {
    "data": [
        {
            "id": "lab/m",
            "pricing": {
                "prompt": "0.0000004",
                "completion": "0.0000016",
                "request": "0",
                "image": "0",
                "internal_reasoning": "0",
                "input_cache_read": "0.0000001",
                "input_cache_write": "0.0000005",
            },
        },
        {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
        {"id": "lab/search", "pricing": {"prompt": "0.000001", "completion": "0.000001", "request": "0.005"}},
        {"id": "lab/m:free", "pricing": {"prompt": "0", "completion": "0"}},
    ]
}
LITELLM = {
    "sample_spec": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "mode": "one of: chat, ..."},
    "m": {
        "input_cost_per_token": 4e-07,
        "output_cost_per_token": 1.6e-06,
        "cache_read_input_token_cost": 1e-07,
        "cache_creation_input_token_cost": 5e-07,
        "output_cost_per_reasoning_token": 2e-06,
        "mode": "chat",
    },
    "dall-e": {"mode": "image_generation", "input_cost_per_pixel": 1e-08},
}


def dump(folder, table):
    (folder / "prices.json").write_text(json.dumps(table))
    return folder / "prices.json"


def test_openrouters_list_is_a_price_book(tmp_path):
    book = PriceBook.load(dump(tmp_path, OPENROUTER))
    assert book.models == ("lab/m", "lab/m:free")  # neither the unknown price nor the fee a request
    price = book.price("lab/m")
    assert (price.input, price.output, price.cached_input, price.cache_write, price.reasoning) == (
        0.4,
        1.6,
        0.1,
        0.5,
        None,
    )


def test_litellms_table_is_a_price_book(tmp_path):
    book = PriceBook.load(dump(tmp_path, LITELLM))
    price = book.price("m")
    assert book.models == ("m",) and price.source == "LiteLLM's table of prices"
    assert (price.input, price.output, price.cached_input, price.cache_write, price.reasoning) == (
        0.4,
        1.6,
        0.1,
        0.5,
        2.0,
    )


@pytest.mark.parametrize(
    "table, message",
    [
        ({"m": {"mode": "chat"}}, "no model with a price per token; known are"),
        (
            {"m": {"input_cost_per_token": "much", "output_cost_per_token": 1}},
            "model 'm': input_cost_per_token: expected a rate",
        ),
        ([], r'a price book is a list of at least one price, as in \[\{"model"'),
    ],
)
def test_what_is_no_table_of_prices_is_refused_with_what_one_looks_like(table, message, tmp_path):
    with pytest.raises(ValueError, match=f"prices.json: {message}"):
        PriceBook.load(dump(tmp_path, table))


def test_a_git_lfs_pointer_is_no_price_book(tmp_path):
    (tmp_path / "prices.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match="a Git LFS pointer"):
        PriceBook.load(tmp_path / "prices.json")


def test_tokens_written_to_a_cache_have_their_rate_and_must_be_counted():
    price = TokenPrice(model="small", input=1.0, output=2.0, cache_write=3.0, source="a page", date="2025-01-01")
    usage = {"prompt_tokens": 10, "cached_tokens": None, "completion_tokens": 5, "reasoning_tokens": None}
    assert usage_dollars(price, {**usage, "cache_write_tokens": 4}) == pytest.approx((6 * 1 + 4 * 3 + 5 * 2) / 1e6)
    assert usage_dollars(price, {**usage, "cache_write_tokens": None}) is None
    assert worst_dollars(price, 10, 5) == pytest.approx((10 * 3 + 5 * 2) / 1e6)
    book = PriceBook((price, TokenPrice(model="large", input=1, output=1, source="a page", date="2025-01-01")))
    log = make_log()
    with pytest.raises(
        ValueError, match="without cache_write_tokens: it needs cache_write_tokens, and the log has none"
    ):
        with_known_costs(log, [vote("small", 1)], "usd", prices=book)
    counted = make_log(cache_write_tokens=np.full(log.correct.shape, 1, np.float32))
    expected = (counted.prompt_tokens[:, 0] + 2.0 + 2.0 * counted.completion_tokens[:, 0]) / 1e6
    np.testing.assert_allclose(sample_costs(counted, "usd", 0, book), expected, rtol=1e-6)
