"""A price book: what is refused, and which price is in force."""

import json

import pytest

from alloc_jax.price_book import PriceBook, TokenPrice

ENTRY = {
    "model": "m",
    "input": 1,
    "output": 4.5,
    "cached_input": None,
    "reasoning": None,
    "source": "a page",
    "date": "2025-01-31",
}


def test_a_book_is_read_from_its_file(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, "model": "n", "cached_input": 0.0}]), encoding="utf-8-sig")
    book = PriceBook.load(path)
    assert book.models == ("m", "n") and book.price("m") == TokenPrice(**ENTRY)
    assert book.price("n").cached_input == 0  # free is a rate; null is none


def test_the_latest_price_is_in_force_and_an_earlier_day_has_its_own():
    book = PriceBook.of([ENTRY, {**ENTRY, "date": "2025-06-01", "output": 9}, {**ENTRY, "date": "2024-01-01"}])
    assert book.price("m").output == 9
    assert book.as_of("2025-05-31").price("m").date == "2025-01-31"
    assert book.as_of("2025-06-01").price("m").output == 9
    with pytest.raises(KeyError, match="m"):
        book.as_of("2023-12-31").price("m")
    with pytest.raises(ValueError, match="2025-6-1"):
        book.as_of("2025-6-1")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"input": None}, r"entry 1: model 'm': input is None; a rate is a number >= 0, and a missing one is not 0"),
        ({"output": "4.5"}, "output is '4.5'"),
        ({"output": -1}, "output is -1"),
        ({"output": True}, "output is True"),
        ({"output": float("nan")}, "output is nan"),
        ({"cached_input": float("inf")}, "cached_input is inf"),
        ({"date": "January 2025"}, "date is 'January 2025', expected YYYY-MM-DD"),
        ({"date": "20250131"}, "expected YYYY-MM-DD"),
        ({"date": 20250131}, "expected YYYY-MM-DD"),
        ({"source": ""}, "a price's source is a text, got ''"),
        ({"model": 3}, "a price's model is a text, got 3"),
        ({"per_request": 1}, "entry 1: unknown field 'per_request'; known: model, input"),
        ({}, "model 'm' has two prices of 2025-01-31"),
    ],
)
def test_a_price_that_is_none_is_refused_by_entry_and_field(tmp_path, change, message):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, **change}]))
    with pytest.raises(ValueError, match=f"prices.json: .*{message}"):
        PriceBook.load(path)


@pytest.mark.parametrize("name", ENTRY)
def test_a_field_that_is_missing_is_named(name):
    entry = {key: value for key, value in ENTRY.items() if key != name}
    with pytest.raises(ValueError, match=f"entry 0 .*: no {name}"):
        PriceBook.of([entry])


@pytest.mark.parametrize(
    "content, message",
    [(b"[", "no JSON"), (b"\xff\xfe[", "no JSON"), (b"{}", "a list of at least one"), (b"[3]", "entry 0: expected an")],
)
def test_a_file_that_is_no_book_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "prices.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"prices.json: .*{message}"):
        PriceBook.load(path)
