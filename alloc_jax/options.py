"""Options that are said once: a configuration's fields as flags, and `--help` that ends well.

The help of an option stands at its field, `Annotated[type, help]`, and its default is the field's.
"""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType
from typing import Any, get_args, get_type_hints

HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


def option_help(config: Any, name: str) -> str:
    """The help of an option of a configuration, or of its class."""
    return get_type_hints(_kind(config), include_extras=True)[name].__metadata__[0]


def define_options(config: Any, *names: str) -> None:
    """Define a flag for each of these fields of a configuration, or of its class; a field without a default must be said."""
    from absl import flags

    flags.disclaim_key_flags()  # they are those of the command, whose --help lists them
    defines: dict[Any, Any] = {
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
        bool: flags.DEFINE_bool,
    }
    fields, hints = {field.name: field for field in dataclasses.fields(config)}, get_type_hints(_kind(config))
    for name in names:
        value = fields[name].default if isinstance(config, type) else getattr(config, name)
        needed = value is dataclasses.MISSING
        (kind, *_) = (*(part for part in get_args(hints[name]) if part is not type(None)), hints[name])
        defines[kind](name, None if needed else value, option_help(config, name), required=needed)


def help_where_asked(module: ModuleType) -> None:
    """Print what a command or a script says of itself, with its flags, and end well, where its arguments ask for help."""
    from absl import flags

    if any(argument in HELP for argument in sys.argv):
        print(f"{str(module.__doc__).strip()}\n{flags.FLAGS.module_help(module)}")
        raise SystemExit(0)


def _kind(config: Any) -> type:
    return config if isinstance(config, type) else type(config)
