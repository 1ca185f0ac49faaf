"""`alloc`: every job as a command. `alloc --help` lists them; nothing is imported before a command is known."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NamedTuple, NoReturn

from alloc_jax.options import HELP, help_where_asked


class Command(NamedTuple):
    """Where a command stands, and what it does in a line."""

    module: str  # within alloc_jax; has `main(argv)`, and `define_flags()` unless importing it defines them
    summary: str
    files: str = ""  # the flag that arguments without a name fill


COMMANDS = {
    "inspect": Command("commands.inspect_log", "What is in a sample log, and what is missing.", "log"),
    "measure": Command("commands.measure", "A log to a table: what every action earns and costs.", "log"),
    "frontier": Command("commands.frontier", "What every budget would buy if the questions were known.", "log"),
    "report": Command("commands.report", "The main job: measure, solve, learn a policy, evaluate it.", "log"),
    "compare": Command("commands.compare", "Policies and rules to beat at equal spend, by cross-fitting.", "logs"),
    "sequential": Command("commands.sequential", "Rules that stop sample by sample, compared.", "log"),
    "escalate": Command(
        "commands.escalate", "One multiplier on the next sample of any source, compared with cascades.", "log"
    ),
    "resplit": Command("commands.resplit", "The main job over many splits of the questions.", "log"),
    "reproduce-paper": Command("commands.reproduce_paper", "The protocol of arXiv 2604.14853 on a log.", "log"),
    "collect": Command("commands.servers.collect", "Questions and a server to a journal of samples and a log."),
    "check-server": Command("commands.servers.check_server", "What an OpenAI-compatible server honours."),
    "serve": Command("serve.__main__", "The gateway: a policy in front of a server, within a budget."),
    "traffic": Command(
        "commands.traffic",
        "Recorded decisions: is the policy still right, is a candidate safe to switch on?",
        "decisions",
    ),
    "epochs": Command("commands.epochs", "An earlier run of a benchmark: which questions deserve more epochs.", "log"),
    "replay": Command("commands.replay", "A log through the gateway's decisions, offline.", "log"),
    "solve-distributed": Command("commands.solve_distributed", "A stored table of any length, by many processes."),
    "demo": Command("commands.servers.demo", "A small model, the gateway before it, 200 questions, and the account."),
    "reasoner": Command("commands.servers.reasoner", "Serve the built-in language model."),
    "smollm2": Command("commands.servers.smollm2", "Serve SmolLM2-135M-Instruct, a pre-trained language model."),
}


def main() -> None:
    """The entry point: the first argument names the command."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "--version":
        from alloc_jax import __version__

        print(__version__)
    elif name in HELP:
        print(f"usage: alloc COMMAND [LOG] [--flag=value ...]\n\n{_listed()}\n\nalloc COMMAND --help lists its flags.")
    elif name not in COMMANDS:
        raise SystemExit(f"alloc: there is no command {name!r}; there are\n\n{_listed()}")
    else:
        run(name, arguments)


def run(name: str, arguments: list[str] | None = None) -> NoReturn:
    """Run one command, end with its status, and say in one line what is wrong with its input.

    Args:
      name: of the command.
      arguments: its flags; by default, what this process was started with.
    """
    sys.argv = [f"alloc {name}", *(sys.argv[1:] if arguments is None else arguments)]
    module = import_module(f"alloc_jax.{COMMANDS[name].module}")

    from absl import app

    from alloc_jax.jobs.console import plain_errors, take_files

    if define := getattr(module, "define_flags", None):
        define()
    help_where_asked(module)

    def main(argv: list[str]) -> None:
        with plain_errors(sys.argv[0]):
            take_files(argv[1:], COMMANDS[name].files)
            module.main(argv[:1])

    app.run(main)
    raise SystemExit(0)


def _listed() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
