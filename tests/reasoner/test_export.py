"""The exported reasoner is the reasoner: the same weights, the same tokens, and in a real server the same answers."""

import json

import jax
import numpy as np
import openai
import pytest

from alloc_jax.reasoner import arithmetic
from alloc_jax.reasoner.export import export_reasoner, llama_weights
from alloc_jax.reasoner.sampler import sample
from alloc_jax.reasoner.weights import load_weights
from tests.real_server import needs_server, real_server

QUESTIONS = [question.text for question in arithmetic.held_out_questions(100, seed=11)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "large"
    export_reasoner("large", path)
    return path


def test_every_weight_is_there_once(folder):
    config, params = load_weights("large")
    arrays = llama_weights(config, params)
    raw = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    del header["__metadata__"]
    assert header.keys() == arrays.keys() and size % 8 == 0
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        read = np.frombuffer(raw[8 + size + start : 8 + size + end], "<f4").reshape(entry["shape"])
        np.testing.assert_array_equal(read, arrays[name])
    assert sum(array.size for array in arrays.values()) == export_count(folder)


def export_count(folder):
    return sum(leaf.size for leaf in jax.tree.leaves(load_weights("large")[1]))


def test_a_character_is_a_token(folder):
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt = arithmetic.prompt(QUESTIONS[0], "think")
    assert tokenizer.encode(prompt).ids == arithmetic.encode(prompt)
    assert tokenizer.decode(arithmetic.encode("8-2=6#6.")) == "8-2=6#6."
    assert tokenizer.encode("8x").ids == [*arithmetic.encode("8"), arithmetic.PAD]  # what it cannot read is not dropped


def test_a_folder_that_holds_something_is_left_alone(folder):
    with pytest.raises(ValueError, match="is not empty"):
        export_reasoner("small", folder)
    with pytest.raises(ValueError, match="no reasoner weights"):
        export_reasoner("huge", folder.with_name("other"))


@pytest.mark.server
@pytest.mark.parametrize("mode", ["think", "direct"])
def test_a_real_server_gives_the_same_greedy_answers(folder, tmp_path, mode):
    needs_server()
    config, params = load_weights("large")
    prompts = [arithmetic.prompt(text, mode) for text in QUESTIONS]
    keys = jax.random.split(jax.random.key(0), len(prompts))
    mine = {}
    for rows, written in sample(config, params, prompts, keys, samples=1, max_tokens=64, temperature=0.0):
        mine |= {prompts[row]: arithmetic.decode(codes[0]) for row, codes in zip(rows, written, strict=True)}
    with real_server(folder, tmp_path / "cache") as url, openai.OpenAI(base_url=url, api_key="none") as client:
        for prompt in prompts:
            said = client.chat.completions.create(
                model=str(folder), messages=[{"role": "user", "content": prompt}], temperature=0.0, max_tokens=64
            )
            assert said.choices[0].message.content == mine[prompt]
            assert said.usage.completion_tokens == len(mine[prompt])
