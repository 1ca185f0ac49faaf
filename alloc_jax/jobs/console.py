"""What the scripts share: flags that are fields of a configuration, and one line where something is wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field, fields
from typing import Any

from absl import flags, logging as absl_logging

flags.disclaim_key_flags()  # the flags defined here are those of the script, whose --help lists them

HELP = {  # of options that several jobs have
    "log": "Sample log, or `builtin`.",
    "actions": "Actions such as 'vote(large/think,1),vote(large/think,8)'; default: all sources, all votes.",
    "resource": "What is paid with: samples, tokens, compute, usd, seconds, stated, or one kind of tokens; empty: what the log knows.",
    "prices": "Price book (JSON) behind the resource usd; without it, the dollars that the log states.",
    "missing": "What to do with questions that lack an action, a price, count or latency: error, or drop.",
    "budgets": "Mean costs per question, in the resource's unit.",
    "policies": "Policies to train: kinds, with options where they differ, such as value(epochs=10).",
    "questions": "Questions drawn from the log at random; 0: all.",
    "folds": "Parts of the questions; each is answered for by rules that learned from the others.",
    "by_group": "Keep the questions of a group on one side of a split, or in one fold.",
    "seeds": "Repetitions with other folds or splits and seeds.",
    "train_share": "Share of the questions to learn from; the rest is held out.",
    "replicates": "Resamples of the bootstrap over questions.",
    "seed": "Seed of the splits, the training and the bootstrap.",
}


def option(default: Any, help: str) -> Any:
    """A field of a configuration, with what its flag says of it."""
    return field(default=default, metadata={"help": help})


def define_config_flags(config: Any, *names: str, workdir: bool = True) -> None:
    """Defines a flag for each named field of a configuration, with its value there as default, and the workdir's.

    The flag's help is the field's own (`option`), or what `HELP` says of all options of that name.
    """
    own = {part.name: part.metadata.get("help") for part in fields(config)}
    if workdir:
        flags.DEFINE_string("workdir", None, "Folder for the report; must be new or empty.", required=True)
        flags.DEFINE_bool("overwrite", False, "Replace an earlier run in the workdir.")
    for name in names:
        value, help = getattr(config, name), own[name] or HELP[name]
        if isinstance(value, bool):
            flags.DEFINE_bool(name, value, help)
        elif isinstance(value, tuple):
            flags.DEFINE_string(name, ",".join(_shown(part) for part in value), help)
        else:
            defines: dict[type, Any] = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
            defines[type(value)](name, value, help)


def read_flags(config: Any, *names: str) -> dict[str, Any]:
    """The values of the flags that `define_config_flags` defined, as the fields hold them.

    Raises:
      ValueError: a budget is not a number.
    """
    found = {}
    for name in names:
        value = flags.FLAGS[name].value
        if isinstance(getattr(config, name), tuple):
            value = split_outside_brackets(value)
            value = tuple(map(float, value)) if name == "budgets" else tuple(value)
        found[name] = value
    return found


def split_outside_brackets(text: str) -> list[str]:
    """The parts of a text between its commas, but for those inside brackets.

    >>> split_outside_brackets("value, imitation(hidden=(32, 32), epochs=3)")
    ['value', 'imitation(hidden=(32, 32), epochs=3)']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def define_log_files() -> None:
    """Defines the flag of the files of one log."""
    flags.DEFINE_list("log", ["builtin"], "Sample log in any known format, or several files of one log, or `builtin`.")


def take_files(files: Sequence[str], flag: str) -> None:
    """Gives files that were named without a flag to the command's flag for them.

    Raises:
      ValueError: the command takes none, or takes one file, or the flag says others.
    """
    if not files:
        return
    if not flag:
        raise ValueError(f"unknown arguments {', '.join(files)}: --help lists the flags")
    if flags.FLAGS[flag].present:
        raise ValueError(f"{', '.join(files)} stands beside --{flag}={flags.FLAGS[flag].value}: name the log once")
    if len(files) > 1 and flags.FLAGS[flag].flag_type() == "string" and flag == "log":
        raise ValueError(f"this command reads one log, got {', '.join(files)}")
    flags.FLAGS[flag].parse(",".join(files))


def show_progress() -> None:
    """Shows what the job says of its stages and nothing else: not that JAX tells of devices that are not there."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    log, handler = logging.getLogger("alloc_jax"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def plain_errors(script: str) -> Iterator[None]:
    """Ends the script with one line where its input is wrong or a package is missing (status 1), or it is interrupted (130).

    Args:
      script: what the line starts with.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{script}: {error}") from error
    except KeyboardInterrupt:
        print(f"{script}: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
