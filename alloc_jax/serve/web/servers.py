"""Servers behind a gateway: which of several a request goes to, by weight, and where else where that one fails."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from alloc_jax.collect.replies import Fault
from alloc_jax.serve.web.breaker import Breaker, Breakers


@dataclass(frozen=True, kw_only=True, eq=False)
class Server:
    """One server that speaks the OpenAI protocol.

    Raises:
      ValueError: a field is not what it should be.
    """

    url: str  # its base, with /v1
    key: str | None = field(default=None, repr=False)  # sent as a bearer token; None sends none
    weight: float = 1.0  # its share of the requests; 0: only where those with a weight fail
    models: tuple[str, ...] | None = None  # that it has; None: any
    breakers: Breakers = field(default_factory=Breakers, repr=False)  # of its models

    def __post_init__(self):
        if not isinstance(self.url, str) or not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: expected an address that begins with http, got {self.url!r}")
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)) or not 0 <= self.weight < 1e9:
            raise ValueError(f"weight: expected a number from 0, got {self.weight!r}")
        if self.models is not None and not (
            isinstance(self.models, (list, tuple)) and all(isinstance(model, str) for model in self.models)
        ):
            raise ValueError(f"models: expected a list of names, got {self.models!r}")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    def has(self, model: str) -> bool:
        """Whether a model may be asked for here."""
        return self.models is None or model in self.models


@dataclass
class Way:
    """Where one request goes."""

    server: Server
    breaker: Breaker

    def good(self) -> None:
        """The server has answered."""
        self.breaker.good()


class Servers:
    """Some servers, of which each request gets one.

    Args:
      servers: at least one.
      seed: of the choice among them.

    Raises:
      ValueError: there is none.
    """

    def __init__(self, servers: Sequence[Server], seed: int = 0):
        if not servers:
            raise ValueError("there is no upstream")
        self.all = tuple(servers)
        self._random = random.Random(seed)

    def choose(self, model: str, tried: Collection[Server] = ()) -> Way:
        """A server for a request: of those that have the model, were not tried and are not known to be down, by their weights.

        Raises:
          Fault: none has the model.
        """
        having = [server for server in self.all if server.has(model)]
        if not having:
            raise Fault(f"no upstream has the model {model[:80]!r}", status=404)
        up = [server for server in having if not server.breakers.of_model(model).down]
        for among in (up, having):
            among = [server for server in among if server not in tried]
            among = [server for server in among if server.weight] or among
            if among:
                break
        else:
            among = having
        weights = [server.weight for server in among]
        chosen = self._random.choices(among, weights if any(weights) else None)[0] if len(among) > 1 else among[0]
        return Way(chosen, chosen.breakers[model])

    def others(self, model: str, tried: Collection[Server], fault: Fault) -> bool:
        """Whether another server may do what some have failed to do: not where the request itself is wrong."""
        if fault.final and not fault.everything:
            return False
        return any(server.has(model) and server not in tried for server in self.all)
