"""Processes of one run on this machine, watched from outside.

The runtime that connects them ends a process from within, with a signal and a page of addresses, where process 0 is gone:
no Python handler sees it. So a process that does no work itself starts the one that does, and says what happened in one line.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence

_GRACE = 10.0  # seconds for the others to notice by themselves that one is gone
_FATAL = re.compile(r"^F\d{4} ")  # how the runtime begins its last words


def watch(commands: Sequence[Sequence[str]], script: str) -> int:
    """Run commands to their end, all of them or none: where one fails, the others are ended.

    Args:
      commands: one a process; each is to call `end_with_parent`.
      script: what a message starts with.

    Returns:
      The exit status: 0, or that of the first that failed; 1 where a signal ended it.
    """
    children = [subprocess.Popen(c, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    silenced: set[int] = set()  # processes that the runtime ended before they said why
    echoes = [
        threading.Thread(target=_echo, args=(child.stderr, f"{script}: ", number, silenced))
        for number, child in enumerate(children)
    ]
    for echo in echoes:
        echo.start()
    first, deadline = None, math.inf
    try:
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            first = first or next((child for child in children if child.returncode), None)
            if first and deadline == math.inf:
                deadline = time.monotonic() + _GRACE
            time.sleep(0.05)
        first = first or next((child for child in children if child.returncode), None)
        status = first.returncode if first else 0
    except KeyboardInterrupt:
        status = 130
    finally:
        for child, echo in zip(children, echoes, strict=True):
            child.kill()
            child.wait()
            echo.join()
    if first and (status < 0 or children.index(first) in silenced):
        print(f"{script}: {_why(children.index(first), status, len(children))}", file=sys.stderr, flush=True)
    return status if status >= 0 else 1


def end_with_parent() -> None:
    """End this process when the one that watches it is gone, whichever way."""

    def wait():
        os.read(0, 1)  # not sys.stdin, whose lock the interpreter wants when it ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _why(number: int, status: int, count: int) -> str:
    if status > 0 or -status == signal.SIGABRT:  # some releases of the runtime abort, others exit
        what = "another process of the run is gone, and the runtime ended this one"
    else:
        what = f"process {number} of the {count} here was ended by {signal.Signals(-status).name}"
    return f"{what}; start all again with the same --workdir, and they go on after the last pass"


def _echo(lines: Iterable[str], own: str, number: int, silenced: set[int]) -> None:
    """Pass on what a process says, and once the runtime has given up only what the process says of its own."""
    given_up = spoke = False
    for line in lines:
        given_up = given_up or bool(_FATAL.match(line))  # what follows are addresses
        mine = line.startswith(own)
        spoke = spoke or mine
        if mine or not given_up:
            sys.stderr.write(line)
            sys.stderr.flush()
    if given_up and not spoke:
        silenced.add(number)
