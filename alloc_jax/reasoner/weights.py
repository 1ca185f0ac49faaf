"""The reasoner's weights on disk: one `.npz` a size, in half precision, computed with in single."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from alloc_jax.reasoner.model import ModelConfig

SHIPPED = Path(__file__).parent / "data"
_CONFIG = "config.json"


def save_weights(path: Path, config: ModelConfig, params: dict) -> None:
    """Write a model to one file, its matrices rounded to float16."""
    arrays: dict[str, Any] = {_CONFIG: np.array(json.dumps(asdict(config)))}
    arrays |= {name: np.asarray(leaf, np.float16) for name, leaf in flatten_dict(params, sep="/").items()}
    np.savez_compressed(path, **arrays)


def load_weights(size_or_path: str | Path) -> tuple[ModelConfig, dict]:
    """The configuration and float32 parameters of a shipped size (`small`, `large`) or of a file.

    Raises:
      ValueError: there is no such size and no such file.
    """
    path = Path(size_or_path)
    if path.suffix != ".npz":
        path = SHIPPED / f"{size_or_path}.npz"
    if not path.is_file():
        raise ValueError(
            f"no reasoner weights at {str(size_or_path)!r}: give `small`, `large` or an existing .npz file"
        )
    with np.load(path) as file:
        config = ModelConfig(**json.loads(str(file[_CONFIG])))
        flat = {name: jnp.asarray(file[name], jnp.float32) for name in file.files if name != _CONFIG}
    return config, unflatten_dict(flat, sep="/")
