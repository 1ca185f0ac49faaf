"""Watching: whether each tenant's decisions are still what they were, looked at now and then while they are taken."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence

from alloc_jax.logs.decisions import read_traffic
from alloc_jax.measure.drift import Monitor, watch_traffic

_MOST = 20_000  # decisions that are looked at beyond the first ones: a look is bounded, however long a gateway runs
_log = logging.getLogger("alloc_jax.serve")


class Watch:
    """The drift alarms of a gateway; who looks is one thread.

    Args:
      path: of the file of decisions.
      reference: how many of a policy's first decisions say what is normal.
      every: questions in which there is one false alarm of a tenant at most, on average.
      verdict: the sources whose word counts, the first before the others; none: the only one.
    """

    def __init__(
        self, path: str | os.PathLike, *, reference: int = 1000, every: float = 1e5, verdict: Sequence[str] = ()
    ):
        self.path, self.reference, self.every, self.verdict = path, reference, every, verdict
        self.monitors: dict[str, tuple[Monitor, ...]] = {}  # by tenant, of its last look
        self.rang: dict[str, set[str]] = {}  # by tenant, the names of those that have rung since the policy began
        self._mark: dict[str, str] = {}  # of the policy that was looked at
        self._said: set[str] = set()

    def look(self, tenants: Collection[tuple[str, float | None]]) -> None:
        """Look at what was decided for some tenants, each with its budget."""
        for name, budget in tenants:
            try:
                found = read_traffic(self.path, tenant=name, verdict=self.verdict, ends=(self.reference, _MOST))
            except ValueError as error:  # nothing yet, or nobody has said whose verdicts count
                self._say(f"drift of tenant {name!r} is not watched: {error}", logging.INFO)
                continue
            if found.policy.mark != self._mark.get(name):
                self._mark[name], self.rang[name] = found.policy.mark, set()
            if len(found.traffic) <= self.reference:
                continue
            self.monitors[name] = watch_traffic(
                found.traffic, reference=self.reference, budget=budget, every=self.every
            )
            for monitor in self.monitors[name]:
                if monitor.alarm is not None:
                    self.rang[name].add(monitor.name)
                    self._say(f"tenant {name!r}: {monitor.name} is no longer what it was, see `alloc traffic`")

    def _say(self, what: str, level: int = logging.WARNING) -> None:
        if what not in self._said:  # once is enough
            self._said.add(what)
            _log.log(level, "%s", what)
