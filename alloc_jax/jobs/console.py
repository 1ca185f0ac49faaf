"""What the scripts share: flags that are fields of a configuration, and one line where something is wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

flags.disclaim_key_flags()  # the flags defined here are those of the script, whose --help lists them

_HELP = {
    "log": "Sample log, or `builtin`.",
    "logs": "Sample logs, with commas between; `builtin` is one.",
    "actions": "Actions such as 'vote(large/think,1),vote(large/think,8)'; default: all sources, all votes.",
    "resource": "What is paid with: samples, tokens, compute, usd, seconds, stated, or one kind of tokens; empty: what the log knows.",
    "prices": "Price book (JSON) behind the resource usd; without it, the dollars that the log states.",
    "missing": "What to do with questions that lack a price, count or latency: error, or drop.",
    "shrink": "empirical_bayes: utilities that are learned from and chosen on are shrunken; scores never are.",
    "budgets": "Mean costs a question, in the resource's unit.",
    "policies": "Policies to train: kinds, with options where they differ, such as value(epochs=10).",
    "baselines": "Rules to beat that learn.",
    "ablations": "Parts to ablate: features, size, heads, loss, temperature, ensemble.",
    "ablate": "The policy that is ablated and transferred.",
    "transfer": "Also learn from each source and deploy on each.",
    "source": "The source whose votes are the actions; default: the log's most accurate one.",
    "questions": "Questions drawn from the log at random; 0: all.",
    "samples": "Samples of each question that are used.",
    "folds": "Parts of the questions; each is answered for by rules that learned from the others.",
    "by_group": "Keep the questions of a group in one fold.",
    "seeds": "Repetitions with other folds or splits and seeds.",
    "train_share": "Share of the questions to learn from; the rest is held out.",
    "replicates": "Resamples of the bootstrap over questions.",
    "sources": "Sources that samples are drawn from; of several, the rule chooses one first. Default: the log's most accurate one.",
    "answer": "How a question is answered: vote, verified (an exact verifier) or best (the greatest reward).",
    "cap": "The most samples of a question.",
    "limits": "The most samples of each source, in the order of the sources; default: as many as the log allows, up to 4.",
    "beliefs": "Families of beliefs to choose from: independent, classes, classes by text, patterns, patterns by text.",
    "wave": "Samples that are drawn at a time.",
    "rounds": "The most waves; 0: as many as the cap allows.",
    "contexts": "The most groups of questions that a text prior tells apart.",
    "orders": "Orders of every question's samples that are walked through.",
    "skip_bad": "Leave bad records and questions without samples out, rather than stop at the first.",
    "workers": "Threads.",
    "seed": "Seed of the splits, the training and the bootstrap.",
}


def define_flags(config: Any, *names: str, workdir: bool = True) -> None:
    """Defines a flag for each named field of a configuration, with its value there as default, and the workdir's."""
    if workdir:
        flags.DEFINE_string("workdir", None, "Folder for the report; must be new or empty.", required=True)
        flags.DEFINE_bool("overwrite", False, "Replace an earlier run in the workdir.")
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool):
            flags.DEFINE_bool(name, value, _HELP[name])
        elif isinstance(value, tuple):
            flags.DEFINE_string(name, ",".join(_shown(part) for part in value), _HELP[name])
        else:
            define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[type(value)]
            define(name, value, _HELP[name])


def read_flags(config: Any, *names: str) -> dict[str, Any]:
    """The values of the flags that `define_flags` defined, as the fields hold them.

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


def start(argv: Sequence[str]) -> None:
    """Refuses arguments that are no flags, and shows what the job says of its stages and nothing else."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
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
