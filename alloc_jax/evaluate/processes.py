"""Processes of one run on this machine, watched from outside.

The runtime that connects them ends a process from within, with a signal and a page of addresses, where process 0 is gone:
no Python handler sees it. So a process that does no work itself starts the one that does, and says what happened in one line.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_GRACE = 10.0  # seconds for the others to notice by themselves that one is gone
_FATAL = re.compile(r"^F\d{4} ")  # how the runtime begins its last words


def watch(commands: Sequence[Sequence[str]], script: str) -> int:
    """Runs commands to their end, all of them or none: where one fails, the others are ended.

    Args:
      commands: one a process; each is to call `end_with_parent`.
      script: what a message starts with.

    Returns:
      The exit status: 0, or that of the first that failed; 1 where a signal ended it.
    """
    children = [subprocess.Popen(c, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    echoes = [threading.Thread(target=_echo, args=(child.stderr,)) for child in children]
    for echo in echoes:
        echo.start()
    status, deadline = 0, float("inf")
    try:
        while any(child.poll() is None for child in children):
            for i, child in enumerate(children):
                if child.poll() and not status:
                    status, deadline = child.returncode, time.monotonic() + _GRACE
                    if status < 0:
                        print(f"{script}: {_why(i, -status, len(children))}", file=sys.stderr, flush=True)
            if time.monotonic() > deadline:
                for child in children:
                    child.kill()
            time.sleep(0.05)
        ended = [child.returncode for child in children if child.returncode]
        if ended and not status:
            status = ended[0]
            if status < 0:
                print(f"{script}: {_why(0, -status, len(children))}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        status = 130
    finally:
        for child in children:
            child.kill()
        for child, echo in zip(children, echoes, strict=True):
            child.wait()
            echo.join()
    return status if status >= 0 else 1


def end_with_parent() -> None:
    """Ends this process when the one that watches it is gone, whichever way."""

    def wait():
        os.read(0, 1)  # not sys.stdin, whose lock the interpreter wants when it ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _why(number: int, ended_by: int, count: int) -> str:
    if ended_by == signal.SIGABRT:
        what = "another process of the run is gone, and the runtime ended this one"
    else:
        what = f"process {number} of the {count} here was ended by {signal.Signals(ended_by).name}"
    return f"{what}; start all again with the same --workdir, and they go on after the last pass"


def _echo(lines) -> None:
    shown = True
    for line in lines:
        shown = shown and not _FATAL.match(line)  # what follows are addresses
        if shown:
            sys.stderr.write(line)
            sys.stderr.flush()
