"""The processes that share one table: what each says to all, a few hundred bytes a pass.

A peer is anything with `rank`, `count` and `gather`. `SingleProcess` is a process by itself; `Processes` are the processes of
`jax.distributed`, on one machine or many.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import jax
import numpy as np

T = TypeVar("T")


class Peers(Protocol):
    """What `solve_stream` asks of the processes it runs in."""

    rank: int  # this process
    count: int  # of all processes, whose shards follow each other in this order

    def gather(self, mine: np.ndarray) -> np.ndarray:
        """f64[count, ...] what every process said; the same everywhere."""


class SingleProcess:
    """One process."""

    rank, count = 0, 1

    def gather(self, mine: np.ndarray) -> np.ndarray:
        return np.asarray(mine, np.float64)[None]


class Processes:
    """The processes of `jax.distributed`: gloo between CPUs, NCCL or ICI elsewhere.

    Args:
      coordinator: address and port of process 0, which listens there and nowhere else.
      count: the number of processes.
      rank: this process, from 0.
      patience: seconds without a sign of life after which a process counts as dead.

    Raises:
      ValueError: a rank that is none of the processes.
      ConnectionError: the processes do not find each other.
    """

    def __init__(self, coordinator: str, count: int, rank: int, patience: int = 30):
        if not 0 <= rank < count:
            raise ValueError(f"process {rank} of {count}: processes are counted from 0")
        self.rank, self.count = rank, count
        try:
            # Unless told where to listen, process 0 listens on every interface of its machine.
            jax.distributed.initialize(
                coordinator,
                count,
                rank,
                coordinator_bind_address=coordinator if rank == 0 else None,
                initialization_timeout=2 * patience,
                heartbeat_timeout_seconds=patience,
            )
        except RuntimeError as error:
            raise ConnectionError(f"the {count} processes did not meet at {coordinator}: {error}") from error

    def gather(self, mine: np.ndarray) -> np.ndarray:
        """f64[count, ...] what every process said.

        Raises:
          ConnectionError: a process is gone.
        """
        from jax.experimental import multihost_utils

        mine = np.asarray(mine, np.float64)
        words = np.ascontiguousarray(mine.reshape(-1)).view(
            np.uint32
        )  # JAX has no float64 unless asked; a float64 is two of these
        try:
            said = np.asarray(multihost_utils.process_allgather(words))
        except (RuntimeError, ValueError) as error:  # JAX raises the one or the other, by where it notices
            reason = str(error).splitlines()[0]
            raise ConnectionError(
                f"another process is gone, as process {self.rank} of {self.count} noticed ({reason}); "
                "start all again, and they go on after the last pass that was saved"
            ) from error
        return np.ascontiguousarray(said).reshape(self.count, -1).view(np.float64).reshape(self.count, *mine.shape)


def flat(tree: Any) -> np.ndarray:
    """f64[...] all numbers of a tree, as processes send them and checkpoints hold them."""
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def in_form(values: np.ndarray, tree: T) -> T:
    """Numbers in the form of a tree, whose leaves are arrays and Python's numbers."""
    leaves, form = jax.tree.flatten(tree)
    parts = zip(np.split(values, np.cumsum([np.size(x) for x in leaves])[:-1]), leaves, strict=True)
    return jax.tree.unflatten(
        form, [v.reshape(x.shape).astype(x.dtype) if hasattr(x, "dtype") else type(x)(v.item()) for v, x in parts]
    )
