"""Programs that were run against tests: HumanEval's results, and those of evalplus. They have bits and no answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from alloc_jax.files import Row, text
from alloc_jax.files.text import json_lines
from alloc_jax.logs.formats.reader import Reader, bit, field


class _Programs(Reader):
    """Questions are named by `task_id`; their texts come from the problems, where `requests` names the file of these."""

    uses: ClassVar[tuple[str, ...]] = ("requests", "source")

    def __init__(self, path, options):
        super().__init__(path, options)
        self.source = options.source or path.name.split(".jsonl")[0].removesuffix("_eval_results.json")
        if options.requests is None:
            self.notes.append(
                "the texts of the questions are not in the file; --requests=<the file of problems> adds them"
            )

    def _record(self, task: str, bits: list[bool], repeat: int | None) -> dict[str, Any]:
        questions = self.options.requests
        if questions is not None and task not in questions:
            raise ValueError(f"question {task!r}: task_id: not among the requests")
        record = {
            "id": task,
            "question": task if questions is None else questions[task],
            "group": task.partition("/")[0] if "/" in task else None,
            "source": self.source,
            "samples": {"correct": bits},
        }
        return record if repeat is None else {**record, "repeat": repeat}


class HumanEval(_Programs):
    """One line a program, with `passed`."""

    name = "humaneval"
    about = "HumanEval samples.jsonl_results.jsonl (openai/human-eval); also MBPP's and other harnesses of its form"
    example = '{"task_id": "HumanEval/0", "completion": "    return 1", "result": "passed", "passed": true}'

    def __init__(self, path, options):
        super().__init__(path, options)
        self.seen: dict[str, int] = {}

    @staticmethod
    def recognises(glimpse) -> bool:
        names = glimpse.fields.keys()
        return glimpse.kind == "object" and "task_id" in names and bool({"completion", "solution"} & names)

    def rows(self) -> Iterator[Row]:
        return json_lines(self.path)

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        task = field(row, "task_id", str)
        if "passed" not in row:
            raise ValueError(
                f"question {task!r}: passed: missing: the programs were not run; read ..._results.jsonl, which"
                " evaluate_functional_correctness writes, or ..._eval_results.json of evalplus.evaluate"
            )
        self.seen[task] = self.seen.get(task, -1) + 1
        yield self._record(task, [bit(row["passed"], "passed")], self.seen[task])


class EvalPlus(_Programs):
    """One document: `eval` holds by task the programs with `base_status` and `plus_status`.

    A program is right where it passes the tests of both; `scorer` "base" takes the first alone.
    """

    name = "evalplus"
    about = "evalplus *_eval_results.json, of HumanEval+ and MBPP+ (evalplus 0.1 to 0.3)"
    example = (
        '{"date": "2024-05-01", "hash": "...", "eval": {"HumanEval/0": [{"task_id": "HumanEval/0", "base_status": "pass",'
        ' "plus_status": "fail"}]}}'
    )
    uses = ("requests", "source", "scorer")

    def __init__(self, path, options):
        super().__init__(path, options)
        if options.scorer not in (None, "base", "plus"):
            raise ValueError(f"{path}: scorer is {options.scorer!r}; evalplus has base and plus")

    @staticmethod
    def recognises(glimpse) -> bool:
        return glimpse.kind == "object" and {"hash", "eval"} <= glimpse.fields.keys()

    def rows(self) -> Iterator[Row]:
        if self.path.stat().st_size > text.LARGEST:
            yield "file", ValueError(f"a value of more than {text.LARGEST >> 20} MiB")
            return
        try:
            tasks = field(json.loads(self.path.read_text(encoding="utf-8-sig")), "eval", dict)
        except (ValueError, RecursionError) as error:
            yield "file", ValueError(f"broken JSON: {error}")
            return
        yield from ((f"eval[{task!r}]", (task, programs)) for task, programs in tasks.items())

    def records(self, row: Any) -> Iterable[dict[str, Any]]:
        task, programs = row
        if isinstance(programs, dict):  # of 2023: a list for each set of tests, [status, details] a program
            base, plus = field(programs, "base", list), field(programs, "plus", list)
            programs = [
                {"base_status": one, "plus_status": plus[j] if j < len(plus) else None} for j, one in enumerate(base)
            ]
        if not isinstance(programs, list) or not programs:
            raise ValueError(f"question {task!r}: expected a list of programs, got {type(programs).__name__}")
        yield self._record(
            task, [self._passed(one, f"question {task!r}: [{j}]") for j, one in enumerate(programs)], None
        )

    def _passed(self, program: Any, where: str) -> bool:
        base = _status(program, "base_status", where)
        if base is None:
            raise ValueError(f"{where}.base_status: null: the program was not run")
        plus = _status(program, "plus_status", where)
        if self.options.scorer == "plus" and plus is None:
            raise ValueError(f"{where}.plus_status: null: the plus tests were not run; --scorer=base takes the others")
        return base if self.options.scorer == "base" or plus is None else base and plus


def _status(program: Any, name: str, where: str) -> bool | None:
    status = field(program, name, (str, list, type(None)), where)
    status = status[0] if isinstance(status, list) and status else status
    if status not in (None, "pass", "success", "fail", "failed", "timeout", "timed out"):
        raise ValueError(f"{where}.{name}: expected pass, fail or timeout, got {str(status)[:60]!r}")
    return None if status is None else status in ("pass", "success")
