"""Running one job a model size, each in a process and on a core of its own, under one progress display.

XLA gains little from a second core on matrices this small; two processes with a core each do nearly twice the work.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def run_sizes(job: Callable, sizes: Iterable[str], *arguments, report: Callable[[dict], None] = lambda _: None) -> dict:
    """`job(size, *arguments, report=...)` for every size at once.

    Args:
      job: a function of module level; it calls `report` with dicts that hold size, step and steps.
      sizes: one process each.
      *arguments: handed to every job.
      report: also receives every dict, in this process.

    Returns:
      What the jobs returned, by size.
    """
    sizes = list(sizes)
    context = get_context("spawn")  # forking a process that runs XLA's threads can deadlock
    with context.Manager() as manager, _progress() as progress:
        queue = manager.Queue()
        bars = {size: progress.add_task(size, total=None, note="compiling") for size in sizes}

        def show() -> None:
            while (message := queue.get()) is not None:
                note = f"loss {message['loss']:.3f}" if "loss" in message else ""
                progress.update(bars[message["size"]], completed=message["step"], total=message["steps"], note=note)
                report(message)

        listener = threading.Thread(target=show)
        listener.start()
        try:
            with ProcessPoolExecutor(len(sizes), mp_context=context) as pool:
                jobs = {
                    pool.submit(_on_own_core, number, job, size, arguments, queue): size
                    for number, size in enumerate(sizes)
                }
                return {jobs[future]: future.result() for future in as_completed(jobs)}
        finally:
            queue.put(None)
            listener.join()


def _on_own_core(number: int, job: Callable, size: str, arguments: tuple, queue):
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    return job(size, *arguments, report=queue.put)


def _progress() -> Progress:
    columns = TextColumn("{task.description:>6}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, TextColumn("{task.fields[note]}"))
