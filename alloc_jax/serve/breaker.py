"""A circuit breaker: an upstream that is down is not asked by everybody again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

from alloc_jax.collect.replies import Fault

_SHORTEST, _LONGEST = 1.0, 30.0  # seconds for which nobody is let through; doubles while it is down


class Breaker:
    """Opens after `most` faults of the server in a row; then one request at a time finds out whether it is back.

    Args:
      most: faults in a row; over all requests, so that a server with many of them open may fail each of them once.
      clock: seconds.
    """

    def __init__(self, most: int = 32, clock: Callable[[], float] = time.monotonic):
        self.most, self.clock = most, clock
        self.failed = 0  # in a row
        self.pause = _SHORTEST
        self.until = 0.0

    def check(self) -> None:
        """Lets a request through.

        Raises:
          Fault: the upstream is down, and it is not yet time to look again.
        """
        if self.failed < self.most:
            return
        left = self.until - self.clock()
        if left > 0:
            raise Fault("the upstream is down", retry_after=left)
        self.until = self.clock() + self.pause  # this one looks; the others wait for what it finds

    def good(self) -> None:
        """The server has answered."""
        self.failed, self.pause = 0, _SHORTEST

    def bad(self, fault: Fault) -> None:
        """The server has not, or has said that it cannot."""
        if fault.final or fault.status == 429:  # about the request or its pace, not about the server
            self.good()
            return
        self.failed += 1
        if self.failed >= self.most:
            if self.failed > self.most:
                self.pause = min(2 * self.pause, _LONGEST)
            self.until = self.clock() + self.pause
