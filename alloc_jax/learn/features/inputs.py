"""Features beside the text's own: embeddings from any callable, and arrays that the user has. NumPy only.

    featurizer = Combined((TextFeatures(), Embedding("minilm", encode, 384), Given.of("account", questions, array)))
    policy = train(table, config, featurizer)

Each part has an identity that is stored with the policy, and loading refuses another: an encoder that was changed makes
every stored weight wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from alloc_jax.learn.protocols import Featurizer


@dataclass(frozen=True, eq=False)
class Embedding:
    """Features from any callable: a list of texts in, an array [N, width] out."""

    name: str  # identifies the encoder and its version
    function: Callable[[list[str]], np.ndarray] = field(repr=False, compare=False)
    width: int

    @property
    def blocks(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def takes(self) -> tuple[str, ...]:
        return ()

    def config(self) -> dict:
        """What identifies the encoder."""
        return {"name": "embedding", "version": 1, "encoder": self.name, "width": self.width}

    def encode(self, questions: Sequence[str], given: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """f32[N, width].

        Raises:
          ValueError: the callable returns another shape.
        """
        found = np.asarray(self.function(list(questions)), np.float32)
        return _checked(found, (len(questions), self.width), f"the encoder {self.name!r}")


def sentence_embedding(model: str) -> Embedding:
    """Embeddings of a `sentence-transformers` model, by its name or folder.

    Raises:
      ImportError: the extra is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError("sentence embeddings need an extra: pip install 'alloc_jax[embeddings]'") from error
    encoder = SentenceTransformer(model)
    return Embedding(model, encoder.encode, encoder.get_sentence_embedding_dimension())


@dataclass(frozen=True, eq=False)
class Given:
    """Features that the user has: known for the questions of a table, and handed over with each new one."""

    name: str
    columns: tuple[str, ...]  # [D] their names
    rows: Mapping[str, np.ndarray] = field(repr=False, compare=False, default_factory=dict)  # question -> f32[D]

    @classmethod
    def of(cls, name: str, questions: Sequence[str], array: np.ndarray, columns: Sequence[str] = ()) -> Given:
        """The features array[N, D] of N questions; columns are numbered where they have no names.

        Raises:
          ValueError: shapes that do not match, or a question that occurs twice with different features.
        """
        array = np.asarray(array, np.float32)
        columns = tuple(columns) or tuple(map(str, range(array.shape[-1])))
        _checked(array, (len(questions), len(columns)), f"the array {name!r}")
        rows: dict[str, np.ndarray] = {}
        for question, row in zip(questions, array, strict=True):
            if not np.array_equal(rows.setdefault(question, row), row, equal_nan=True):
                raise ValueError(f"the array {name!r} has two different rows for the question {question!r}")
        return cls(name, columns, rows)

    @property
    def width(self) -> int:
        return len(self.columns)

    @property
    def blocks(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def takes(self) -> tuple[str, ...]:
        """The names under which `encode` takes arrays."""
        return (self.name,)

    def config(self) -> dict:
        """What identifies the array: its name and its columns."""
        return {"name": "given", "version": 1, "array": self.name, "columns": list(self.columns)}

    def encode(self, questions: Sequence[str], given: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """f32[N, D]: the rows handed over, or the known ones.

        Raises:
          ValueError: a question is not known and nothing was handed over, or another shape was.
        """
        if given is not None and self.name in given:
            array = np.asarray(given[self.name], np.float32)
            return _checked(array, (len(questions), self.width), f"the array {self.name!r}")
        for question in questions:
            if question not in self.rows:
                raise ValueError(
                    f"no features {self.name!r} for the question {question!r}: pass given={{{self.name!r}: ...}}"
                )
        return np.stack([self.rows[question] for question in questions])


@dataclass(frozen=True)
class Combined:
    """Several featurisers side by side, each a block of its own weight."""

    parts: tuple[Featurizer, ...]

    @property
    def blocks(self) -> tuple[int, ...]:
        return tuple(chain.from_iterable(part.blocks for part in self.parts))

    @property
    def width(self) -> int:
        return sum(self.blocks)

    @property
    def takes(self) -> tuple[str, ...]:
        """The names under which `encode` takes arrays."""
        return tuple(chain.from_iterable(part.takes for part in self.parts))

    def config(self) -> dict:
        """The identities of all parts, in order."""
        return {"name": "combined", "version": 1, "parts": [part.config() for part in self.parts]}

    def encode(self, questions: Sequence[str], given: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """f32[N, width] the parts' features in order."""
        return np.concatenate([part.encode(questions, given) for part in self.parts], axis=1)


def _checked(array: np.ndarray, shape: tuple[int, int], what: str) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape}, expected {shape}")
    return array
