"""The reasoner as a server: what it says it honours, it honours, and its answers are the model's."""

import jax
import openai
import pytest

from alloc_jax.collect import CollectConfig
from alloc_jax.collect.check_server import check_server
from alloc_jax.reasoner import arithmetic
from alloc_jax.reasoner.sampler import sample
from alloc_jax.reasoner.server import ReasonerServer
from alloc_jax.reasoner.weights import load_weights
from tests.fake_server import served

PROMPT = "T((8-2)-2)*6+45="


@pytest.fixture(scope="module")
def url():
    with served(ReasonerServer("small").app()) as url:
        yield url


def test_it_honours_what_a_collection_asks_for(url):
    found = {f.feature: f.honoured for f in check_server(CollectConfig(base_url=url), "small", PROMPT)}
    honoured = {name: True for name in ("choices", "seed", "temperature", "usage", "limit")}
    assert found == {**honoured, "logprobs": False, "stream": False}


def test_a_seed_gives_the_same_samples_whatever_else_is_asked(url):
    with openai.OpenAI(base_url=url, api_key="none") as client:

        def ask(n, **fields):
            said = client.chat.completions.create(
                model="small", messages=[{"role": "user", "content": PROMPT}], n=n, **fields
            )
            return [choice.message.content for choice in said.choices]

        eight = ask(8, seed=5)
        assert ask(4, seed=5) == eight[:4] and len(set(eight)) > 1 and ask(4) != ask(4)


def test_its_greedy_answers_are_the_models(url):
    config, params = load_weights("small")
    prompts = [arithmetic.prompt(q.text, "think") for q in arithmetic.held_out_questions(20, seed=4)]
    keys = jax.random.split(jax.random.key(0), len(prompts))
    mine = {}
    for rows, written in sample(config, params, prompts, keys, samples=1, max_tokens=64, temperature=0.0):
        mine |= {prompts[row]: arithmetic.decode(codes[0]) for row, codes in zip(rows, written, strict=True)}
    with openai.OpenAI(base_url=url, api_key="none") as client:
        for prompt in prompts:
            said = client.chat.completions.create(
                model="small", messages=[{"role": "user", "content": prompt}], temperature=0
            )
            assert said.choices[0].message.content == mine[prompt]
            assert said.usage.completion_tokens == len(mine[prompt]) and said.usage.prompt_tokens == len(prompt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "large"},
        {"messages": [{"role": "user", "content": "Hello?"}]},
        {"n": 100},
        {"temperature": -1},
        {"stream": True},
        {"max_tokens": 0.5},
    ],
)
def test_what_it_cannot_do_it_refuses(url, wrong):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{"model": "small", "messages": [{"role": "user", "content": PROMPT}], **wrong})
