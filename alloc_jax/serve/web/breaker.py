"""A circuit breaker for each model: one that is down is not asked for by everybody again and again, and stops no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from alloc_jax.collect.replies import Fault

_SHORTEST, _LONGEST = 1.0, 30.0  # seconds for which nobody is let through; doubles while the server is down
_PATIENCE = 5.0  # seconds for which a request waits for the one that looks
_KEPT = 1024  # breakers; clients name models


class Breaker:
    """Opens after `most` faults of the server in a row; then one request finds out whether it is back, and the others wait for that.

    Args:
      most: faults in a row; over all requests, so that a server with many of them open may fail each of them once.
      clock: seconds.
    """

    def __init__(self, most: int = 32, clock: Callable[[], float] = time.monotonic):
        self.most, self.clock = most, clock
        self.failed = 0  # in a row
        self.pause = _SHORTEST
        self.until = 0.0
        self.looking: asyncio.Event | None = None  # set when the one that looks knows

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """The way to the server, for one request.

        Raises:
          Fault: the upstream is down, and it is not yet time to look again.
        """
        while self.open and self.looking is not None:
            try:
                await asyncio.wait_for(self.looking.wait(), _PATIENCE)
            except TimeoutError:
                raise Fault("the upstream is down", retry_after=_PATIENCE) from None
        looks = self.open
        if looks:
            if (left := self.until - self.clock()) > 0:
                raise Fault("the upstream is down", retry_after=left)
            self.looking = asyncio.Event()
        try:
            yield
        finally:
            if looks:
                self._found()

    @property
    def open(self) -> bool:
        """Whether nobody is let through but the one that looks."""
        return self.failed >= self.most

    @property
    def down(self) -> bool:
        """Whether the server failed, and it is not yet time to look again."""
        return self.open and self.until > self.clock()

    def good(self) -> None:
        """The server has answered."""
        self.failed, self.pause = 0, _SHORTEST
        self._found()

    def bad(self, fault: Fault) -> None:
        """The server has not, or has said that it cannot."""
        if fault.final or fault.status == 429:  # about the request or its pace, not about the server
            self.good()
            return
        self.failed += 1
        if self.looking is not None:
            self.pause = min(2 * self.pause, _LONGEST)
        if self.failed == self.most or self.looking is not None:
            self.until = self.clock() + self.pause
        self._found()

    def _found(self) -> None:
        if self.looking is not None:
            self.looking.set()
            self.looking = None


class Breakers:
    """A breaker for each model that is asked for; of many, those without a fault are forgotten first."""

    def __init__(self):
        self.of: dict[str, Breaker] = {}

    def of_model(self, model: str) -> Breaker:
        """The breaker of a model; of one that was never asked for, a new one that nobody keeps."""
        return self.of.get(model) or Breaker()

    def __getitem__(self, model: str) -> Breaker:
        if model not in self.of:
            if len(self.of) >= _KEPT:
                self.of = {name: breaker for name, breaker in self.of.items() if breaker.failed}
            while len(self.of) >= _KEPT:
                self.of.pop(next(iter(self.of)))
            self.of[model] = Breaker()
        return self.of[model]
