"""A ledger on PostgreSQL: one cap, one pace and one account for the gateways of several hosts."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from alloc_jax.serve.ledger.stores import SCHEMA, Execute, LedgerFault

_PLACE = "alloc"  # the schema that the tables are in
_MADE = 0x616C6C6F63  # an advisory lock: one process at a time makes the tables
_WAIT_S = 5  # for a connection, a statement, a row that somebody else has
_AGAIN_S = 1.0  # for which nobody tries once more to connect: requests are refused at once meanwhile


class PostgresStore:
    """A database; its caller holds a lock.

    A process's life is an advisory lock of its connection, which the server lets go of when the process or its host is gone.

    Args:
      address: `postgresql://user@host/database`; a password is better kept in PGPASSWORD or a file of passwords.

    Raises:
      ImportError: psycopg is not installed; the message names the extra.
      ValueError: it does not answer, or does not let the tables be made.
    """

    def __init__(self, address: str):
        try:
            import psycopg
        except ImportError as error:
            raise ImportError(f"a ledger on PostgreSQL needs {error.name}: pip install 'alloc_jax[postgres]'") from None
        self._driver, self._address, self._failed = psycopg, address, -_AGAIN_S
        self._life = secrets.randbits(62)
        self.owner = str(self._life)
        shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1:...@", address)
        try:
            self._db = self._connected()
        except psycopg.Error as error:
            said = _line(error).replace(address, shown)
            raise ValueError(
                f"ledger {shown}: cannot connect: {said}; is the server up, and its address right?"
            ) from None
        try:
            with self.transaction() as execute:
                execute("SELECT pg_advisory_xact_lock(?)", (_MADE,))
                if not execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (_PLACE,)):
                    execute(f"CREATE SCHEMA {_PLACE}")
                for statement in SCHEMA:
                    execute(statement.format(end=""))
        except LedgerFault as error:
            self._db.close()
            raise ValueError(
                f"ledger {shown}: no tables: {error}; its user has to own the schema {_PLACE!r}, or may create it"
            ) from None

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """See `Store`."""
        try:
            self._again()
            with self._db.transaction():
                yield self._execute
        except self._driver.Error as error:
            raise LedgerFault(_line(error)) from error

    def read(self, statement: str, values: tuple = ()) -> list[tuple]:
        """See `Store`."""
        try:
            self._again()
            return self._execute(statement, values)
        except self._driver.Error as error:
            raise LedgerFault(_line(error)) from error

    def alive(self, owner: str | None) -> bool:
        """See `Store`."""
        if owner == self.owner:
            return True
        return owner is not None and not self._execute("SELECT pg_try_advisory_xact_lock(?)", (int(owner),))[0][0]

    def close(self) -> None:
        """See `Store`."""
        self._db.close()

    def _execute(self, statement: str, values: tuple = ()) -> list[tuple]:
        cursor = self._db.execute(statement.replace("?", "%s"), values)
        return cursor.fetchall() if cursor.description else []

    def _again(self) -> None:
        """Connect anew where the connection has broken."""
        if not self._db.closed:
            return
        if time.monotonic() - self._failed < _AGAIN_S:
            raise self._driver.OperationalError("the database does not answer")
        try:
            self._db = self._connected()
        except self._driver.Error:
            self._failed = time.monotonic()
            raise

    def _connected(self):
        db = self._driver.connect(
            self._address,
            autocommit=True,
            connect_timeout=_WAIT_S,
            tcp_user_timeout=1000 * _WAIT_S,
            fallback_application_name="alloc serve",
        )
        try:
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                db.execute(f"SET {name} = '{_WAIT_S}s'")
            db.execute(f"SET search_path TO {_PLACE}")
            db.execute("SELECT pg_advisory_lock(%s)", (self._life,))
        except BaseException:
            with suppress(self._driver.Error):
                db.close()
            raise
        return db


def _line(error: Exception) -> str:
    """What the driver says, in a line."""
    return " ".join(str(error).split())
