"""Where a ledger's tables are: a file of this host, or a database that several hosts share. The two have one interface."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS requests ("
    ' id TEXT PRIMARY KEY, purse TEXT, "window" BIGINT, action TEXT, expected DOUBLE PRECISION, reserved DOUBLE PRECISION,'
    " charged DOUBLE PRECISION, cost DOUBLE PRECISION, samples INTEGER, prompt_tokens DOUBLE PRECISION,"
    " completion_tokens DOUBLE PRECISION, state TEXT, owner TEXT){end}",
    "CREATE INDEX IF NOT EXISTS open_requests ON requests(state) WHERE state = 'open'",
    'CREATE TABLE IF NOT EXISTS windows (purse TEXT, "window" BIGINT, held DOUBLE PRECISION, PRIMARY KEY (purse, "window")){end}',
    "CREATE TABLE IF NOT EXISTS accounts ("
    " account TEXT PRIMARY KEY, dual DOUBLE PRECISION, questions INTEGER, spent DOUBLE PRECISION){end}",
)
ADDRESSES = ("postgresql://", "postgres://")
Execute = Callable[..., list[tuple]]  # a statement with `?` for values, and these: its rows


class LedgerFault(Exception):
    """The ledger cannot be read or written now; nothing has changed."""


class Store(Protocol):
    """A database with a ledger's tables."""

    owner: str | None  # this process's name beside its open requests; None: nobody else opens the ledger meanwhile

    def transaction(self) -> AbstractContextManager[Execute]:
        """Everything inside happens, or nothing; what is written inside, nobody else writes meanwhile.

        Raises:
          LedgerFault: it did not happen.
        """

    def read(self, statement: str, values: tuple = ()) -> list[tuple]:
        """The rows of one statement.

        Raises:
          LedgerFault: there are none now.
        """

    def alive(self, owner: str | None) -> bool:
        """Whether a process will settle its own requests; asked inside a transaction."""

    def close(self) -> None:
        """Let go."""


def is_address(at: str | os.PathLike | None) -> bool:
    """Whether a ledger is a database, and no file."""
    return isinstance(at, str) and at.startswith(ADDRESSES)


def store_at(at: str | os.PathLike | None, shared: bool) -> Store:
    """The store of a file, an address, or the memory; see `Ledger`."""
    if is_address(at):
        from alloc_jax.serve.ledger.postgres import PostgresStore

        return PostgresStore(str(at))
    from alloc_jax.serve.ledger.sqlite import SQLiteStore

    return SQLiteStore(at, shared)
