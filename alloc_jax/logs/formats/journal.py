"""The journal that `alloc_jax.collect` writes: one line a reply of a server, with the texts still to be graded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alloc_jax.files import Row
from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats.reader import Reader, field, number

VERSION = 1


class JournalLog(Reader):
    """Samples as a server gave them. A request that failed is no sample: it is counted, and is in no average.

    The prompt's tokens stand whole with each sample, because an action that draws k samples reads the prompt k times
    where the server has no `n`; what a request cost in dollars is shared among its samples.
    """

    name = "journal"
    about = "the journal of experiments/collect_samples.py"
    example = (
        '{"id": "q1", "question": "2 + 2?", "gold": "4", "source": "m", "usage": {"prompt_tokens": 9}, "samples": [{"sample": 0,'
        ' "text": "It is 4.", "completion_tokens": 5}]}'
    )
    uses = ("gold", "grader")
    needs = ("grader",)

    def __init__(self, path, options):
        super().__init__(path, options)
        self.failed: dict[tuple[str, str, int], str] = {}  # samples that were asked for in vain, so far

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and "journal" in glimpse.fields

    def rows(self) -> Iterator[Row]:
        with open(self.path, "rb") as file:
            torn = file.seek(0, 2) > 0 and file.seek(-1, 2) >= 0 and file.read(1) != b"\n"
        held = None
        for row in json_lines(self.path):
            if held is not None:
                yield held
            held = row
        if torn:  # what a process that was killed had half written
            self.notes.append("the last line is torn, and was left out")
        elif held is not None:
            yield held

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        if "journal" in row:
            if row["journal"] != VERSION:
                raise ValueError(f"journal: version {row['journal']}, and this is a reader of version {VERSION}")
            yield {"sources": field(row, "recipes", dict)}
            return
        identity = field(row, "id", (str, int))
        if "failure" in row:
            key = str(identity), field(row, "source", str)
            for sample in field(row, "failed", list):
                self.failed[*key, field({"failed": sample}, "failed", int)] = str(row["failure"])
            return
        gold = (self.options.gold or {}).get(str(identity), row.get("gold"))
        if gold is None:
            raise ValueError(f"question {identity!r}: gold: null, and no other file says it")
        gold = str(field({"gold": gold}, "gold", (str, int, float)))
        usage, samples = field(row, "usage", dict), field(row, "samples", list)
        reasoning, usd = number(usage.get("reasoning_tokens"), "usage.reasoning_tokens"), number(row.get("usd"), "usd")
        for j, sample in enumerate(samples):
            where = f"samples[{j}]"
            repeat, source = field(sample, "sample", int, where), field(row, "source", str)
            self.failed.pop((str(identity), source, repeat), None)
            tokens = number(sample.get("completion_tokens"), f"{where}.completion_tokens")
            yield {
                "id": identity,
                "question": field(row, "question", str),
                "gold": gold,
                "group": row.get("group"),
                "source": source,
                "repeat": repeat,
                "samples": {
                    "response": [field(sample, "text", str, where)],
                    "prompt_tokens": [number(usage.get("prompt_tokens"), "usage.prompt_tokens")],
                    "cached_tokens": [number(usage.get("cached_tokens"), "usage.cached_tokens")],
                    "completion_tokens": [tokens],
                    "reasoning_tokens": [None if reasoning is None else reasoning / len(samples)],
                    "latency_s": [number(row.get("latency_s"), "latency_s")],
                    "usd": [None if usd is None else usd / len(samples)],
                },
            }

    def finish(self) -> None:
        for failure, count in Counter(self.failed.values()).most_common(5):
            self.notes.append(f"{count} samples are missing, because their request failed: {failure[:60]}")
