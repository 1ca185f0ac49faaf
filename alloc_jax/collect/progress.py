"""How far a collection is: samples, rate, spend so far and time left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from alloc_jax.collect.collector import CollectTotals


class Progress:
    """A bar on stderr; use in a `with` block.

    Args:
      total: samples wanted.
      done: those that the journal holds already.
      account: read for the spend at every step.
      show: whether to draw at all; nothing is drawn where stderr is no terminal.
    """

    def __init__(self, total: int, done: int, account: CollectTotals, show: bool):
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn()
        console = Console(stderr=True)
        self.bars = Bars(*columns, console=console, disable=not (show and sys.stderr.isatty()))
        self.account = account
        self.wait = ""  # that a server asked for
        self.task = self.bars.add_task("samples", total=total, completed=done, note="")

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, *exc) -> None:
        self.bars.stop()

    def advance(self, samples: int) -> None:
        """Count samples that came, or that failed for good."""
        speed = self.bars.tasks[0].speed
        spend = f"{self.account.tokens:,.0f} tokens" + (f", ${self.account.usd:.4f}" if self.account.usd else "")
        note = (f"{speed:.1f} samples/s, {spend}" if speed else spend) + self.wait
        self.bars.update(self.task, advance=samples, note=note)

    def waiting(self, seconds: float) -> None:
        """Say that a request waits, as after a fault or as its server asked; 0: no longer."""
        self.wait = f", waiting {seconds:.0f} s" if seconds >= 1 else ""
        self.advance(0)
