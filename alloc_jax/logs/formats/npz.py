"""Compact outcome archives: one array a field over questions, actions and samples."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from alloc_jax.files import Row
from alloc_jax.logs.formats.reader import Reader

_NEEDED = ("question", "qid", "action", "correct")
_LARGEST = 1 << 31  # bytes of one array, as its header claims
_ABSENT = 255  # in `correct`: no sample


class Archive(Reader):
    """`question, qid, gold, group` [N], `action` [A], `correct` and `answer` [N, A, S], `cost` [N, A], `cost_unit`.

    `correct` is 1, 0, or 255 where there is no sample. Where questions have a `task` [N], it is their group. The cost is that of
    one sample, a mean over the pair's samples: dollars and output tokens go to each of them; what is neither is the
    source's stated cost if it is one number, and is dropped with a note if it is not. `reward` is read where it is [N, A, S], or [N, S] and one action alone has S.
    """

    name = "npz"
    about = "compact npz of outcomes: correct [N, A, S] with 255 for no sample"
    example = (
        'question=["2 + 2?"], qid=["q1"], action=["gpt-4"], correct=[[[1, 0, 255]]] (uint8), answer=[[["4", "5", ""]]]'
    )

    @staticmethod
    def recognises(glimpse) -> bool:
        return {f"{name}.npy" for name in _NEEDED} <= set(glimpse.members)

    def rows(self) -> Iterator[Row]:
        try:
            arrays = self._load()
            details = self._check(arrays)
        except ValueError as error:
            yield "arrays", error
            return
        yield "action", {"sources": details}
        for i in range(len(arrays["qid"])):
            yield f"row {i}", (i, arrays)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if isinstance(row, dict):
            yield row
            return
        i, arrays = row
        head = {"id": str(arrays["qid"][i]), "question": str(arrays["question"][i])}
        named = {"gold": "gold", "group": "task" if "task" in arrays else "group"}
        head |= {name: str(arrays[array][i]) or None for name, array in named.items() if array in arrays}
        for a, action in enumerate(arrays["action"].tolist()):
            bits = arrays["correct"][i, a]
            present = bits != _ABSENT
            bits = bits[present]
            if not bits.size:
                continue
            if bits.max() > 1:
                raise ValueError(f"question {head['id']!r}: correct[{i},{a}]: {bits.max()} is none of 0, 1 and 255")
            samples = {"correct": bits.astype(bool).tolist()}
            if "answer" in arrays:
                samples["answer"] = [answer or None for answer in arrays["answer"][i, a][present].tolist()]
            if "reward" in arrays:
                samples["reward"] = _known(arrays["reward"][i, a][present])
            if self.cost_field and "cost" in arrays:
                samples[self.cost_field] = _known(arrays["cost"][i, a]) * len(bits)
            yield {**head, "source": action, "samples": samples}

    def _load(self) -> dict[str, np.ndarray]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                for info in archive.infolist():
                    if info.file_size > _LARGEST:
                        raise ValueError(f"{info.filename}: an array of more than {_LARGEST >> 30} GiB")
            with np.load(self.path, allow_pickle=False) as archive:
                wanted = (*_NEEDED, "gold", "group", "task", "answer", "reward", "cost", "cost_unit")
                return {name: archive[name] for name in wanted if name in archive.files}
        except Exception as error:  # whatever the libraries say of a broken archive
            raise ValueError(f"broken npz: {error}") from None

    def _check(self, arrays: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Check shapes and types, decide what becomes of costs and rewards, and describe the sources."""
        for name in _NEEDED:
            if name not in arrays:
                raise ValueError(f"{name}: missing")
        n, actions = arrays["qid"].size, arrays["action"].size
        samples = arrays["correct"].shape[-1] if arrays["correct"].ndim == 3 else 0
        shapes: dict[str, tuple[int, ...]] = {
            "question": (n,),
            "qid": (n,),
            "gold": (n,),
            "group": (n,),
            "task": (n,),
            "action": (actions,),
        }
        shapes |= {"correct": (n, actions, samples), "answer": (n, actions, samples), "cost": (n, actions)}
        shapes["cost_unit"] = ()
        for name, shape in shapes.items():
            if name not in arrays:
                continue
            if arrays[name].shape != shape:
                raise ValueError(f"{name}: shape {arrays[name].shape}, expected {shape}")
            kind = {"correct": "u", "cost": "f"}.get(name, "U")
            if arrays[name].dtype.kind != kind:
                raise ValueError(f"{name}: type {arrays[name].dtype}, expected {kind}")
        names = arrays["action"].tolist()
        if len(set(names)) < len(names) or not all(names):
            raise ValueError("action: a name is empty or occurs twice")
        self._place_reward(arrays, (n, actions, samples))
        return self._place_cost(arrays, names)

    def _place_reward(self, arrays: dict[str, np.ndarray], shape: tuple[int, int, int]) -> None:
        reward = arrays.pop("reward", None)
        if reward is None:
            return
        if reward.dtype.kind != "f":
            raise ValueError(f"reward: type {reward.dtype}, expected f")
        full = np.flatnonzero((arrays["correct"] != _ABSENT).all(axis=(0, 2)))
        if reward.shape == shape:
            arrays["reward"] = reward
        elif reward.shape == (shape[0], shape[2]) and len(full) == 1:
            arrays["reward"] = np.full(shape, np.nan, np.float32)
            arrays["reward"][:, full[0]] = reward
        else:
            self.notes.append(f"reward: shape {reward.shape} fits no action, and is not read")

    def _place_cost(self, arrays: dict[str, np.ndarray], names: list[str]) -> dict[str, dict[str, Any]]:
        self.cost_field = None
        if "cost" not in arrays or "cost_unit" not in arrays:
            return {name: {} for name in names}
        unit = str(arrays["cost_unit"])
        if unit.lower().startswith("usd") and "million" not in unit:
            self.cost_field = "usd"
        elif unit.lower().startswith("output tokens"):
            self.cost_field = "completion_tokens"
        if self.cost_field:
            return {name: {"cost_unit": unit} for name in names}
        cost = arrays["cost"]
        details = {}
        for a, name in enumerate(names):
            constant = len(cost) and bool((cost[:, a] == cost[0, a]).all())
            details[name] = {"cost_unit": unit, "cost_of_one_sample": float(cost[0, a])} if constant else {}
            if not constant:
                self.notes.append(f"cost of {name!r} in {unit!r}: no resource of a log, and is not read")
        return details


def _known(values: np.ndarray) -> list[float | None]:
    """Numbers, None where NaN; a single one for a single value."""
    return [None if value != value else value for value in np.atleast_1d(values).tolist()]
