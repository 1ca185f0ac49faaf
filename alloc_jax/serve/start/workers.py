"""Several processes at one port, on one ledger: what dies is started again, and what is told to one is told to all."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the variable by which the processes of a gateway know where they count together
_SOON_S = 5.0  # a worker that ends within this time never served


def run_workers(number: int, host: str, port: int, serve: Callable[[socket.socket, int, bool], None]) -> None:
    """Run until it is interrupted; SIGTERM, SIGINT and SIGHUP reach every worker.

    Args:
      number: of processes.
      host: where they listen.
      port: likewise.
      serve: runs the one of a number, for the first time or again, until it is interrupted.

    Raises:
      OSError: the address is taken.
      SystemExit: a worker did not begin to serve.
    """
    with tempfile.TemporaryDirectory(prefix="alloc-counts-") as folder:
        os.environ[FOLDER] = folder
        _run(number, host, port, serve)


def _run(number: int, host: str, port: int, serve: Callable[[socket.socket, int, bool], None]) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    at = socket.socket(family)
    at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    at.bind((host, port))
    at.set_inheritable(True)
    alive: dict[int, tuple[int, float]] = {}  # number and start by process
    ending = False

    def start(worker: int, again: bool = False) -> None:
        child = os.fork()
        if child:
            alive[child] = worker, time.monotonic()
            return
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, signal.SIG_DFL)
        status = 1
        try:
            serve(at, worker, again)
            status = 0
        except (ValueError, OSError, ImportError) as error:
            print(f"serve: {error}", file=sys.stderr, flush=True)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except KeyboardInterrupt:
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)

    def tell(name: int, frame: object) -> None:
        nonlocal ending
        ending = ending or name != signal.SIGHUP
        for child in list(alive):
            os.kill(child, name)

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, tell)
    for worker in range(number):
        start(worker)
    failed = 0
    while alive:
        child, status = os.wait()
        worker, since = alive.pop(child)
        _forget(child)
        if ending:
            continue
        if time.monotonic() - since < _SOON_S and os.waitstatus_to_exitcode(status) > 0:
            failed, ending = os.waitstatus_to_exitcode(status), True
            for other in alive:
                os.kill(other, signal.SIGTERM)
        else:
            start(worker, again=True)
    at.close()
    if failed:
        raise SystemExit(failed)


def _forget(child: int) -> None:
    """Of a process that has ended, counts stay, and what it was doing does not."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(child)
