"""Rules of all budgets in one file: the arrays of a dataclass as they are, its other fields as JSON beside them. NumPy alone."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

Rules = TypeVar("Rules")


def save_rules(rules: Any, path: Path, version: int) -> None:
    """Write a dataclass into a file, whole or not at all. Its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = {f.name: getattr(rules, f.name) for f in fields(rules)}
    arrays: dict[str, Any] = {name: value for name, value in every.items() if isinstance(value, np.ndarray)}
    text = {name: value for name, value in every.items() if name not in arrays}
    scratch = path.with_name(f".{path.name}")
    with scratch.open("wb") as file:
        np.savez_compressed(file, about=json.dumps({"schema_version": version, **text}), **arrays)
    os.replace(scratch, path)


def load_rules(kind: type[Rules], path: Path, version: int, name: str) -> Rules:
    """What `save_rules` wrote of this kind; its lists come back as tuples.

    Raises:
      ValueError: there is no such file, it is damaged, or of another schema version.
    """
    if not path.is_file():
        raise ValueError(f"no {name} rules in {path.parent}: {path.name} is missing")
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {key: stored[key] for key in stored.files}
        text = json.loads(str(arrays.pop("about")))
        found = text.pop("schema_version")
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if found != version:
        raise ValueError(f"{path} has schema version {found}, this release reads {version}")
    text = {key: tuple(value) if isinstance(value, list) else value for key, value in text.items()}
    try:
        return kind(**text, **arrays)
    except TypeError as error:  # a field is missing, or there is one too many
        raise ValueError(f"{path} is damaged: {error}") from None
