"""The gateway's configuration file: what its flags say, and the tables that flags name files for, in one TOML file.

    upstream = "http://127.0.0.1:8000/v1"
    policy = "runs/served/policy/value"
    resource = "samples"
    budget = 3

    [sources.think]
    model = "Qwen/Qwen3-8B"
    max_tokens = 4096

    [tenants.research]
    key_env = "RESEARCH_KEY"
    budget = 3
    cap = 10000

The flags are the schema: their names, kinds and bounds are those of the keys, and a flag that is given goes before the file.
"""

from __future__ import annotations

import datetime
import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

TABLES = {  # beside the flags: a table, or an array of tables
    "tenants": dict,
    "sources": dict,
    "prices": list,
    "upstreams": list,
    "verifier": dict,
}
_OPEN = {"budget": (int, float)}  # further kinds of a flag whose text says more than one kind


def read_configuration(path: str | os.PathLike, values: flags.FlagValues, module: str) -> dict[str, Any]:
    """Put what a file says into the flags that were not given, and return its tables.

    Args:
      path: of the file.
      values: the flags.
      module: whose flags are the file's keys.

    Raises:
      FileNotFoundError: no such file.
      ValueError: it is no TOML, or a key is unknown or not what it should be; the message names file and key, and what was wanted.
    """
    try:
        said = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: no TOML: {error}") from None
    known = {flag.name: flag for flag in values.flags_by_module_dict()[module] if flag.name != "config"}
    tables: dict[str, Any] = {}
    for name, value in said.items():
        if name in TABLES and not isinstance(value, str):
            tables[name] = _table(path, name, value)
        elif name not in known:
            near = difflib.get_close_matches(name, [*known, *TABLES], 1)
            raise ValueError(
                f"{path}: {name}: there is no such key" + (f"; {near[0]} is meant?" if near else "; --help lists them")
            )
        else:
            checked = _checked(path, known[name], value)
            if not known[name].present:
                known[name].value = checked
                known[name].present += 1
    for name in tables.keys() & known.keys():
        if values[name].present:
            raise ValueError(f"{path}: {name}: --{name} says it, too: leave one of them out")
    return tables


def prices_of(path: str | os.PathLike, entries: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A price book's entries as JSON would hold them: TOML has no null, and has dates.

    Raises:
      ValueError: an entry is no table.
    """
    for j, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: prices[{j}]: expected a table, got {entry!r}")
    plain: dict[str, Any] = dict.fromkeys(("cached_input", "cache_write", "reasoning"))
    dated = [
        {name: v.isoformat() if isinstance(v, datetime.date) else v for name, v in entry.items()} for entry in entries
    ]
    return [plain | entry for entry in dated]


def _table(path: str | os.PathLike, name: str, value: Any) -> Any:
    kind = TABLES[name]
    if not isinstance(value, kind) or not value:
        forms = {"prices": "[[prices]]", "upstreams": "[[upstreams]]", "verifier": "[verifier]"}
        form = forms.get(name, f"[{name}.NAME]")
        wanted = f"an array of tables, as in {form}" if kind is list else f"a table, as in {form}"
        raise ValueError(f"{path}: {name}: expected {wanted}, got {_shown(value)}")
    return value


def _checked(path: str | os.PathLike, flag: flags.Flag, value: Any) -> Any:
    """A key's value as its flag holds it.

    Raises:
      ValueError: it is of another kind, or out of bounds.
    """
    kinds, wanted = _kind(flag)
    more = _OPEN.get(flag.name, ())
    good = isinstance(value, (*kinds, *more)) and (isinstance(value, bool) == (kinds == (bool,)))
    if good and isinstance(value, float) and not math.isfinite(value):
        good = False
    if good and isinstance(value, list):
        good = all(isinstance(part, str) for part in value)
    if good:
        try:
            return flag.parser.parse(str(value) if isinstance(value, more) else value)
        except ValueError:
            pass
    raise ValueError(
        f"{path}: {flag.name}: expected {wanted}{' or a number' if more else ''}, got {_shown(value)} ({flag.help})"
    )


def _kind(flag: flags.Flag) -> tuple[tuple[type, ...], str]:
    """The kinds of a TOML value that a flag takes, and their name."""
    parser = flag.parser
    if isinstance(parser, flags.BooleanParser):
        return (bool,), "true or false"
    if isinstance(parser, flags.EnumParser):
        return (str,), f"one of {', '.join(parser.enum_values)}"
    if isinstance(parser, flags.IntegerParser):
        return (int,), parser.syntactic_help
    if isinstance(parser, flags.FloatParser):
        return (int, float), parser.syntactic_help
    if isinstance(parser, flags.ListParser):
        return (list,), "a list of texts"
    return (str,), "a text"


def _shown(value: Any) -> str:
    return repr(value)[:80]
