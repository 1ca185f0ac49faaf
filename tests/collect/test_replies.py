"""What a server says instead of an answer, and answers that are not quite well formed."""

import json

import pytest

from alloc_jax.collect.charges import usage_dollars
from alloc_jax.collect.replies import Fault, Most, read_reply, read_usage
from alloc_jax.price_book import TokenPrice

KEYS = (
    "sk-abcdef0123",
    "sk_live_abcdef0123",
    "gsk_abcdef0123",
    "hf_abcdef0123",
    "xai-abcdef0123",
    "AIzaSyabcdef0123",
    "own secret",
)


def choice(text):
    return {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"message": "Incorrect API key provided: %s"}}',
        'no JSON, and the wrong key "%s"',
        '["%s"]',
        '{"choices": ["%s"]}',
        json.dumps({"error": 97 * "x" + " %s"}),  # where the text is cut
    ],
)
def test_no_fault_repeats_a_key(body, key):
    for raw in (body % key, (body % key).encode()):
        with pytest.raises(Fault) as fault:
            read_reply(raw, None, None, "own secret")
        assert key[:9] not in str(fault.value)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices": %b, "created": ' + 5000 * b"9" + b"}",
        b'\xef\xbb\xbf{"choices": %b}',
        b'{"choices": %b, "id": "\xff"}',
    ],
)
def test_what_is_odd_in_a_body_loses_no_answer(raw):
    said = raw.replace(b"%b", json.dumps([choice("it is 4")]).encode())
    assert read_reply(said).choices[0].text == "it is 4"
    assert read_reply(said.decode(errors="replace")).choices[0].text == "it is 4"


def test_a_number_of_thousands_of_digits_is_unknown():
    raw = json.dumps({"choices": [choice("a")], "usage": {"prompt_tokens": 3, "completion_tokens": "?"}})
    usage = read_reply(raw.replace('"?"', 5000 * "9")).usage
    assert usage.prompt_tokens == 3 and usage.completion_tokens is None


def test_a_broken_choice_leaves_the_others():
    broken = [None, {"message": 3}, {"message": {"content": 7}}]
    usage = {"prompt_tokens": 1, "completion_tokens": 10}
    reply = read_reply(json.dumps({"choices": [choice("a"), *broken, choice("b")], "usage": usage}))
    assert [one.text for one in reply.choices] == ["a", "b"] and reply.broken == 3
    assert reply.choices[0].completion_tokens == 2 and reply.usage.completion_tokens == 10


@pytest.mark.parametrize("most", [None, Most(prompt=50.0, completion=64.0)])
@pytest.mark.parametrize(
    ("details", "cost"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 0}}, 10 * 1.0 + 4 * 8.0),
        ({"prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 8}}, 2 * 1.0 + 8 * 5.0 + 4 * 8.0),
        ({"completion_tokens_details": {"reasoning_tokens": 60}}, 10 * 4.0 + 4 * 2.0),
    ],
)
def test_a_part_is_no_more_than_its_whole(details, cost, most):
    none = {"prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    none["completion_tokens_details"] = {"reasoning_tokens": 0}
    usage, odd = read_usage({"prompt_tokens": 10, "completion_tokens": 4} | none | details, most)
    price = TokenPrice(
        model="m",
        source="made",
        date="2026-01-01",
        input=4.0,
        output=8.0,
        cached_input=1.0,
        cache_write=5.0,
        reasoning=2.0,
    )
    assert odd and usage_dollars(price, vars(usage)) == pytest.approx(cost / 1e6)
