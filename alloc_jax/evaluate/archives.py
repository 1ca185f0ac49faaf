"""Cases from compact outcome archives (.npz): right or wrong of every action on every question, and what one call costs.

Archives with one action's many samples and no answers give the actions 'right at least once in k samples'; others give
one call of each action.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.evaluate.cases import Case, LogConfig, make_case
from alloc_jax.evaluate.outcomes import upper_hull
from alloc_jax.types import OutcomeTable

DRAWS = (1, 2, 4, 8, 16)
_NEEDED = ("qid", "question", "action", "correct", "cost", "cost_unit")


def read_archive(path: str | Path, config: LogConfig) -> Case:
    """The case of an archive; the group of a question is its task where the archive has tasks.

    Left out are actions whose cost is not known, those with one sample where others have several, and, of more than ten
    actions, those that a mix of others beats.

    Args:
      path: of the `.npz` file, with `qid`, `question`, `action`, `correct` u8[N, A, S] (255: no sample), `cost` f32[N, A] of one
        sample and `cost_unit`, and perhaps `answer` and `task` or `group`.
      config: budgets, and how many questions with which seed; what it says of actions and resources has no use here.

    Raises:
      ValueError: the file lacks one of these, or leaves nothing to decide.
    """
    try:
        with Path(path).open("rb") as file, np.load(file) as arrays:
            data = {name: arrays[name] for name in arrays.files if name != "meta"}
    except (BadZipFile, ValueError) as error:
        raise ValueError(f"{path} is no archive of arrays: {error}") from None
    if missing := [name for name in _NEEDED if name not in data]:
        raise ValueError(f"{path}: an archive of outcomes holds {', '.join(_NEEDED)}; {missing[0]!r} is missing")
    rows = np.arange(len(data["qid"]))
    if 0 < config.questions < len(rows):
        rows = np.sort(np.random.default_rng(config.seed).permutation(rows)[: config.questions])
        data = {
            name: part[rows] if len(part.shape) and len(part) == len(data["qid"]) else part
            for name, part in data.items()
        }
    right, drawn = data["correct"] == 1, data["correct"] != 255
    if "answer" not in data and right.shape[2] > 1:
        parts = _halves(right, drawn, config.seed)
        tables = [_draws(data, *part) for part in ((right, drawn), *parts)]
    else:
        keep = np.isfinite(data["cost"]).mean(axis=0) > 0.9
        several = (drawn.sum(axis=2) > 1).mean(axis=0) > 0.9
        halved = several.any()
        keep &= several | ~halved
        parts = _halves(right, drawn, config.seed) if halved else [(right, drawn)]
        tables = [_calls(data, keep, *part) for part in ((right, drawn), *parts)]
        best = _hull(tables[0])
        tables = [_columns(table, best) for table in tables]
    learn, choose, score = tables if len(tables) == 3 else (tables[0],) * 3
    return make_case(Path(path).stem, learn, choose, score, budgets=config.budgets)


def _halves(right: np.ndarray, drawn: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Right and drawn of two random halves of the samples."""
    order = np.random.default_rng(seed).permuted(np.broadcast_to(np.arange(right.shape[2]), right.shape), axis=2)
    shuffled = [np.take_along_axis(part, order, axis=2) for part in (right, drawn)]
    count = np.cumsum(shuffled[1], axis=2)
    first = count <= (shuffled[1].sum(axis=2, keepdims=True) + 1) // 2
    return [(shuffled[0] & half & shuffled[1], half & shuffled[1]) for half in (first, ~first)]


def _table(data, actions, utility, cost, valid, successes, samples, unit: str) -> OutcomeTable:
    group = data.get("task", data.get("group"))
    chance = successes / np.maximum(samples, 1)
    return OutcomeTable(
        ids=tuple(map(str, data["qid"])),
        question=tuple(map(str, data["question"])),
        group=(None,) * len(data["qid"]) if group is None else tuple(map(str, group)),
        actions=actions,
        resources=("cost",),
        units=(unit,),
        utility=np.where(valid, utility, 0).astype(np.float32),
        utility_se=np.sqrt(chance * (1 - chance) / np.maximum(samples, 1)).astype(np.float32),
        cost=np.where(valid, cost, 0).astype(np.float32),
        cost_se=np.zeros(cost.shape, np.float32),
        valid=valid,
        successes=successes.astype(np.int32),
        samples=samples.astype(np.int32),
    )


def _calls(data, keep: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> OutcomeTable:
    count, good = drawn.sum(axis=2)[:, keep], right.sum(axis=2)[:, keep]
    cost = data["cost"][:, keep]
    actions = tuple(Action(str(name), 1) for name in data["action"][keep])
    unit = str(data["cost_unit"]).split(",")[0]
    valid = (count > 0) & np.isfinite(cost)
    in_dollars = unit in ("USD per call", "USD per sample")
    scale = 1000.0 if in_dollars else 1.0  # dollars a thousand calls: budgets of a size that can be read
    unit = unit.replace("per", "per thousand", 1) + "s" if in_dollars else unit
    return _table(data, actions, good / np.maximum(count, 1), cost * scale, valid, good, count, unit)


def _draws(data, right: np.ndarray, drawn: np.ndarray) -> OutcomeTable:
    """Right at least once in k samples of the last action: the mean over all k-subsets of those drawn."""
    good, count = right[:, -1].sum(axis=1), drawn[:, -1].sum(axis=1)
    miss = np.ones((len(good), len(DRAWS)))
    for column, k in enumerate(DRAWS):
        for j in range(k):
            miss[:, column] *= np.maximum(count - good - j, 0) / np.maximum(count - j, 1)
    name = str(data["action"][-1])
    actions = tuple(Action(name, k, "passes") for k in DRAWS)
    cost = np.broadcast_to(np.array(DRAWS, float), miss.shape)
    wide = [np.repeat(part[:, None], len(DRAWS), axis=1) for part in (good, count)]
    return _table(data, actions, 1 - miss, cost, wide[1] >= DRAWS, *wide, "samples")


def _hull(table: OutcomeTable) -> np.ndarray:
    whole = table.valid.all(axis=1)
    if table.utility.shape[1] <= 10:
        return np.arange(table.utility.shape[1])
    return np.sort(upper_hull(*(part[whole].mean(axis=0, dtype=float) for part in (table.cost, table.utility))))


def _columns(table: OutcomeTable, columns: np.ndarray) -> OutcomeTable:
    names = ("utility", "utility_se", "cost", "cost_se", "valid", "successes", "samples")
    arrays = {name: getattr(table, name)[:, columns] for name in names}
    return replace(table, actions=tuple(table.actions[k] for k in columns), **arrays)
