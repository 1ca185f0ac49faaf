"""A ledger in a file of SQLite: what there is without a database; for the processes of one host."""

from __future__ import annotations

import os
import sqlite3
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alloc_jax.logs.decisions import JOURNAL
from alloc_jax.serve.ledger.stores import SCHEMA, Execute, LedgerFault


class SQLiteStore:
    """A file, or the memory; its caller holds a lock.

    Args:
      path: of the file; None keeps it in memory.
      shared: other processes open it meanwhile.

    Raises:
      ValueError: another process has it open, or the file is no ledger.
    """

    def __init__(self, path: str | os.PathLike | None, shared: bool):
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            self._path or ":memory:", timeout=5.0 if shared else 0.2, check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self._db.close)  # of a ledger that nobody closed
        try:
            # Exclusive: no other process, and no shared memory to look after.
            mode = "NORMAL" if shared else "EXCLUSIVE"
            for line in (f"locking_mode = {mode}", *JOURNAL):
                self._db.execute(f"PRAGMA {line}")
            for statement in SCHEMA:
                self._db.execute(statement.format(end=" WITHOUT ROWID"))
            if "owner" not in [column[1] for column in self._db.execute("PRAGMA table_info(requests)")]:
                self._db.execute("ALTER TABLE requests ADD COLUMN owner TEXT")  # of a ledger of an earlier release
            self.life = Life(self._path) if shared and self._path is not None else None
            self.owner = None if self.life is None else self.life.name
        except sqlite3.DatabaseError as error:
            self._db.close()
            busy = "locked" in str(error)
            raise ValueError(
                f"ledger {path}: {'another process has it open' if busy else f'no ledger: {error}'}"
            ) from None

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """See `Store`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._execute
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:  # a full disk may have ended it already
                    self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise LedgerFault(str(error)) from error

    def read(self, statement: str, values: tuple = ()) -> list[tuple]:
        """See `Store`."""
        try:
            return self._execute(statement, values)
        except sqlite3.Error as error:
            raise LedgerFault(str(error)) from error

    def alive(self, owner: str | None) -> bool:
        """See `Store`."""
        return self.life is not None and self.life.of(owner)

    def close(self) -> None:
        """See `Store`."""
        self._db.close()
        if self.life is not None:
            self.life.end()

    def _execute(self, statement: str, values: tuple = ()) -> list[tuple]:
        return self._db.execute(statement, values).fetchall()


class Life:
    """A lock that this process holds while it lives, and by which others know that it does; whatever ends it lets go of the lock.

    Args:
      path: of the ledger, beside which the locks lie.
    """

    def __init__(self, path: Path):
        self._path, self.name = path, uuid.uuid4().hex[:12]
        self._file = os.open(self._lock_of(self.name), os.O_CREAT | os.O_RDWR, 0o600)
        self._locked(self._file)

    def of(self, owner: str | None) -> bool:
        """Whether the process that had this name is alive."""
        if owner == self.name:
            return True
        try:
            file = os.open(self._lock_of(str(owner)), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if self._locked(file):
                self._lock_of(str(owner)).unlink(missing_ok=True)
                return False
            return True
        finally:
            os.close(file)

    def end(self) -> None:
        """Let go."""
        self._lock_of(self.name).unlink(missing_ok=True)
        with suppress(OSError):
            os.close(self._file)

    @staticmethod
    def _locked(file: int) -> bool:
        """Whether a lock could be had."""
        import fcntl  # no other system than POSIX has it

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_of(self, owner: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{owner}.alive")
