"""What the scripts share: flags that are fields of a configuration, and one line where something is wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from absl import flags, logging as absl_logging

from alloc_jax.options import define_options, option_help

C = TypeVar("C")

flags.disclaim_key_flags()  # the flags defined here are those of the script, whose --help lists them


def define_config_flags(config: Any, workdir: bool = True) -> None:
    """Define a flag for each field of a configuration, with its value there as default and its help, and the workdir's."""
    if workdir:
        flags.DEFINE_string("workdir", None, "Folder for the report; must be new or empty.", required=True)
        flags.DEFINE_bool("overwrite", False, "Replace an earlier run in the workdir.")
    for name, value in vars(config).items():
        if isinstance(value, tuple):
            flags.DEFINE_string(name, ",".join(_shown(part) for part in value), option_help(config, name))
        else:
            define_options(config, name)


def read_config(default: C) -> C:
    """The configuration that the flags state which `define_config_flags` defined.

    Raises:
      ValueError: a budget is not a number, or whatever the configuration refuses.
    """
    found = {}
    for name, value in vars(default).items():
        found[name] = flags.FLAGS[name].value
        if isinstance(value, tuple):
            given = found[name]
            parts = given if isinstance(given, tuple) else split_outside_brackets(given)  # files: see `take_files`
            found[name] = tuple(map(float, parts)) if name == "budgets" else tuple(parts)
    return type(default)(**found)


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
    """Define the flag of the files of one log."""
    flags.DEFINE_list(
        "log", ["builtin"], "Sample log in any known format, or several files of one log, or `builtin` or `smollm2`."
    )


def take_files(files: Sequence[str], flag: str) -> None:
    """Give files that were named without a flag to the command's flag for them.

    Raises:
      ValueError: the command takes none, or the flag says others.
    """
    if not files:
        return
    if not flag:
        raise ValueError(f"unknown arguments {', '.join(files)}: --help lists the flags")
    if flags.FLAGS[flag].present:
        raise ValueError(f"{', '.join(files)} stands beside --{flag}={flags.FLAGS[flag].value}: name the log once")
    whole = len(files) == 1 and flags.FLAGS[flag].flag_type() == "string"
    flags.FLAGS[flag].value = files[0] if whole else tuple(files)  # not parsed: file names may hold commas


def show_progress() -> None:
    """Show what the job says of its stages and nothing else: not that JAX tells of devices that are not there."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    log, handler = logging.getLogger("alloc_jax"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def plain_errors(script: str) -> Iterator[None]:
    """End the script with one line where its input is wrong or a package is missing (status 1), or it is interrupted (130).

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
