"""Fair shares: places, upstream requests and worker threads, of which no tenant can take all."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Fair:
    """Slots, a part of which is kept for each tenant; whoever waits gets the next one in turn.

    Half of the slots are kept, the same number for each tenant, where there is more than one; the rest is for whoever comes.

    Args:
      slots: in all.
      tenants: who share them.

    >>> fair = Fair(8, ("a", "b"))
    >>> [fair.take_now("a") for _ in range(8)].count(True), fair.take_now("b")
    (6, True)
    """

    def __init__(self, slots: int, tenants: Collection[str]):
        self.kept = slots // (2 * len(tenants)) if len(tenants) > 1 else 0
        self.common = slots - self.kept * len(tenants)
        self.held: Counter[str] = Counter()
        self.waiting: dict[str, deque[asyncio.Future]] = {}  # in the order of whose turn it is

    def take_now(self, tenant: str) -> bool:
        """Take a slot if there is one for this tenant."""
        if self.held[tenant] >= self.kept:
            if not self.common:
                return False
            self.common -= 1
        self.held[tenant] += 1
        return True

    async def take(self, tenant: str) -> None:
        """Take a slot, when it is this tenant's turn."""
        if tenant not in self.waiting and self.take_now(tenant):
            return
        turn = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(tenant)
            raise

    def give(self, tenant: str) -> None:
        """Give a slot back, to whoever is next."""
        self.held[tenant] -= 1
        if self.held[tenant] >= self.kept:
            self.common += 1
        for name in list(self.waiting):
            turns = self.waiting[name]
            while turns and turns[0].done():  # gave up
                turns.popleft()
            if not turns:
                del self.waiting[name]
            elif self.take_now(name):
                turns.popleft().set_result(None)
                del self.waiting[name]  # to the end of the line
                if turns:
                    self.waiting[name] = turns

    def slot(self, tenant: str) -> _Slot:
        """A slot, held while inside."""
        return _Slot(self, tenant)


class _Slot:
    def __init__(self, fair: Fair, tenant: str):
        self.fair, self.tenant = fair, tenant

    async def __aenter__(self) -> None:
        await self.fair.take(self.tenant)

    async def __aexit__(self, *exc) -> None:
        self.fair.give(self.tenant)


class Pool:
    """Threads that work beside the event loop, shared fairly.

    Args:
      threads: how many; one more than a request may use, so that none keeps another from its turn.
      tenants: who share them.
    """

    def __init__(self, threads: int, tenants: Collection[str]):
        self.fair = Fair(threads, tenants)
        self.threads = ThreadPoolExecutor(threads)

    async def run(self, tenant: str, work: Callable, *args: Any) -> Any:
        """What `work` gives. Where the caller is cancelled the slot stays taken until the thread is free."""
        await self.fair.take(tenant)
        loop = asyncio.get_running_loop()
        try:
            running = self.threads.submit(work, *args)
        except BaseException:
            self.fair.give(tenant)
            raise
        running.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(self.fair.give, tenant))
        return await asyncio.wrap_future(running)

    def close(self) -> None:
        """End the threads when their work is done."""
        self.threads.shutdown(wait=False, cancel_futures=True)
