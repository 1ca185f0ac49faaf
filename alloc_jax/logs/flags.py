"""The flags of commands that read a sample log: one for each option of `read_logs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from alloc_jax.logs.formats import FORMATS
from alloc_jax.logs.grade import METHODS
from alloc_jax.logs.read import SHIPPED_LOGS, Reading, read_logs

flags.disclaim_key_flags()  # the flags defined here are those of the script, whose --help lists them

_FILES = ("gold", "requests", "tokenizer")
_NAMES = ("format", "skip_bad", "source", *_FILES, "grader", "timeout_s", "threshold", "scorer", "columns")


def define_reading_flags() -> None:
    """Define the flags; a command calls this once, before absl parses its arguments."""
    flags.DEFINE_enum("format", None, list(FORMATS), "Format of the log; by default its content tells.")
    flags.DEFINE_bool("skip_bad", False, "Leave bad records out, and count and list them; else the first is an error.")
    flags.DEFINE_string("source", None, "Name of the source, where the file does not say it.")
    flags.DEFINE_string("gold", None, "JSON lines with `id` and `gold`: reference answers that the log lacks.")
    flags.DEFINE_string("requests", None, "The file of a batch's requests.")
    flags.DEFINE_string("tokenizer", None, "A tokenizer.json, to count tokens that the log lacks.")
    flags.DEFINE_enum("grader", None, list(METHODS), "How responses are graded, where the log does not say.")
    flags.DEFINE_float("timeout_s", 5.0, "The grader's limit for one response, in seconds.")
    flags.DEFINE_float("threshold", None, "Score from which a sample is right, where scores lie between 0 and 1.")
    flags.DEFINE_string(
        "scorer", None, "The scorer that decides, where a log has several; judge.right: one of its values."
    )
    flags.DEFINE_list("columns", None, "Columns of a table by our names, as in question=prompt,correct=is_right.")


def reading_options() -> dict[str, Any]:
    """The flags' values, by the names that `read_logs` has for them."""
    options = {name: flags.FLAGS[name].value for name in _NAMES}
    if named := options["columns"]:
        pairs = [pair.partition("=") for pair in named]
        if not all(name and column for name, _, column in pairs):
            raise ValueError(
                f"--columns is {','.join(named)!r}; expected our name=the column's name, as in correct=is_right"
            )
        options["columns"] = {name.strip(): column.strip() for name, _, column in pairs}
    return options


def changed_options() -> dict[str, Any]:
    """The flags' values that are not the default."""
    return {name: value for name, value in reading_options().items() if value != flags.FLAGS[name].default}


def read_flagged(paths: Sequence[str]) -> Reading:
    """Read a log as the flags say.

    Args:
      paths: the files that make the log, or the name of a shipped one alone.

    Raises: see `read_logs`.
    """
    return read_logs(paths[0] if len(paths) == 1 else list(paths), **reading_options())


def input_files(paths: Sequence[str]) -> list[str]:
    """The files that a log was read from: its own, and those that the flags name."""
    named = [flags.FLAGS[name].value for name in _FILES]
    return [path for path in (*paths, *named) if path and path not in SHIPPED_LOGS]
