"""What a journal's samples give away about the server: seeds that make repeats equal, options that changed nothing, other models."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from alloc_jax.collect.recipes import Recipe

_ERRORS = 3.0  # standard errors within which two means count as equal


def suspicions(journal: str | Path, recipes: Mapping[str, Recipe]) -> list[str]:
    """Reasons to doubt the samples in a journal, one sentence each: equal repeats, options without effect, several models.

    Args:
      journal: the file.
      recipes: the sources by name.
    """
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    tokens: dict[tuple[str, str], list[float]] = defaultdict(list)
    models: dict[str, dict[str, None]] = defaultdict(dict)  # of each source, in the order of their appearance
    with open(journal, encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row.get("samples") and row.get("model"):
                models[row["source"]][row["model"]] = None
            for sample in row.get("samples", ()):
                key = row["source"], row["id"]
                texts[key].append(sample["text"])
                if sample["completion_tokens"] is not None:
                    tokens[key].append(sample["completion_tokens"])
    found = []
    for name, recipe in recipes.items():
        if len(models[name]) > 1:
            found.append(
                f"source {name!r}: the server answered as {', '.join(models[name])}: these may be several models"
            )
        repeated = [said for (source, _), said in texts.items() if source == name and len(said) > 1]
        equal = sum(len(set(said)) == 1 for said in repeated)
        if recipe.temperature != 0 and len(repeated) >= 5 and equal > 0.9 * len(repeated):
            found.append(
                f"source {name!r}: all repeats are the same text on {equal} of {len(repeated)} questions: the server"
                " samples greedily, or honours a fixed seed; votes of such samples are worth one sample"
            )
    for one, other in combinations(recipes.values(), 2):
        if one.model == other.model and one.prompt == other.prompt and one.extra_body != other.extra_body:
            found += _unchanged(one, other, tokens)
    return found


def _unchanged(one: Recipe, other: Recipe, tokens: Mapping[tuple[str, str], list[float]]) -> list[str]:
    """Whether two sources that differ in `extra_body` used the same number of tokens, question by question."""
    ids = [question for source, question in tokens if source == one.name and tokens.get((other.name, question))]
    differences = [fmean(tokens[one.name, i]) - fmean(tokens[other.name, i]) for i in ids]
    if len(differences) < 10:
        return []
    error = stdev(differences) / math.sqrt(len(differences))
    if abs(fmean(differences)) > _ERRORS * error:
        return []
    return [
        f"sources {one.name!r} and {other.name!r} differ in extra_body ({_shown(one.extra_body)} and"
        f" {_shown(other.extra_body)}), yet their tokens differ by {fmean(differences):+.2f} +- {error:.2f} a sample:"
        " the server may ignore the option"
    ]


def _shown(body: Mapping[str, Any]) -> str:
    return json.dumps(dict(body), ensure_ascii=False)
