"""The built-in reasoner as a Hugging Face folder, which `transformers serve` makes an OpenAI-compatible server of.

The model's every weight has its counterpart in LlamaForCausalLM, its tokens are the characters of its alphabet, and the
chat template is the last message as it stands: a source's recipe says `"prompt": "T{question}="` to have it think and
`"prompt": "D{question}="` for the answer alone. Neither torch nor transformers is needed to write the folder.

    python experiments/export_reasoner.py --size=large --folder=runs/reasoner-large
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from alloc_jax.reasoner.arithmetic import ALPHABET, END, PAD
from alloc_jax.reasoner.model import ModelConfig, count_parameters
from alloc_jax.reasoner.weights import load_weights

_PAD = "<pad>"  # how the tokenizer writes code 0
_POSITIONS = 512
_MAX_NEW_TOKENS = 64


def export_reasoner(size_or_path: str | Path, folder: str | Path) -> int:
    """Write a model with its tokenizer into a folder.

    Args:
      size_or_path: a shipped size or a file of weights, see `load_weights`.
      folder: new or empty.

    Returns:
      The number of parameters.

    Raises:
      ValueError: the folder holds something, or there are no such weights.
    """
    config, params = load_weights(size_or_path)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: choose a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": _model_config(config),
        "generation_config.json": _generation_config(),
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", llama_weights(config, params))
    return count_parameters(params)


def llama_weights(config: ModelConfig, params: dict) -> dict[str, np.ndarray]:
    """The weights by their names in LlamaForCausalLM, f32; a matrix there is the transpose of one here."""
    flat = {name: np.asarray(leaf, np.float32) for name, leaf in flatten_dict(params, sep="/").items()}
    out = {
        "model.embed_tokens.weight": flat["embed/embedding"],
        "model.norm.weight": flat["norm/scale"],
        "lm_head.weight": flat["head/kernel"].T,
    }
    for number in range(config.num_hidden_layers):
        mine, theirs = f"layers_{number}", f"model.layers.{number}"
        parts = dict(zip("qkv", np.split(flat[f"{mine}/qkv/kernel"], 3, axis=1), strict=True))
        gate, up = np.split(flat[f"{mine}/gate_up/kernel"], 2, axis=1)
        out |= {f"{theirs}.self_attn.{name}_proj.weight": part.T for name, part in parts.items()}
        out |= {
            f"{theirs}.self_attn.o_proj.weight": flat[f"{mine}/attention_out/kernel"].T,
            f"{theirs}.mlp.gate_proj.weight": gate.T,
            f"{theirs}.mlp.up_proj.weight": up.T,
            f"{theirs}.mlp.down_proj.weight": flat[f"{mine}/down/kernel"].T,
            f"{theirs}.input_layernorm.weight": flat[f"{mine}/attention_norm/scale"],
            f"{theirs}.post_attention_layernorm.weight": flat[f"{mine}/mlp_norm/scale"],
        }
    return out


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write float32 arrays in the safetensors format: the length of a JSON header, the header, the bytes."""
    header: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").tobytes())


def _model_config(config: ModelConfig) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_attention_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_eps,
        # Releases from 5 on read the second.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "max_position_embeddings": _POSITIONS,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
    }


def _generation_config() -> dict:
    # Without do_sample a server answers greedily whatever temperature a request names; top_k would be 50.
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return {**sampling, "max_new_tokens": _MAX_NEW_TOKENS, "eos_token_id": END, "pad_token_id": PAD}


def _tokenizer() -> dict:
    """A tokenizer whose tokens are single characters: pairs of which none is ever merged."""
    vocabulary = {_PAD if code == PAD else character: code for code, character in enumerate(ALPHABET)}
    special = {"id": PAD, "content": _PAD, "special": True}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": _PAD, "fuse_unk": False}
    model |= {"dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**special, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": model,
    }


def _tokenizer_config() -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": _PAD,
        "model_max_length": _POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{{ messages[-1]['content'] }}",
    }
