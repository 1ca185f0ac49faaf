"""The ledger: what every request reserved and what it really used, in SQLite, so that it survives whatever ends a server.

Reserving comes before the request goes upstream, in one transaction with the check of the cap, so that no two requests
are admitted on the same balance; settling comes after, exactly once. What was reserved and never settled, because the
process died, counts as used when the ledger is opened again: nobody can say that it was not.

Several processes may share one ledger. Where a pace stands is then moved inside the transaction, from wherever another process has
left it, and each process holds a lock for as long as it lives, so that the others know whose open requests nobody will settle.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, purse TEXT, window INTEGER, action TEXT, expected REAL, reserved REAL,
    charged REAL, cost REAL, samples INTEGER, prompt_tokens REAL, completion_tokens REAL, state TEXT, owner TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_requests ON requests(state) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS windows (
    purse TEXT, window INTEGER, held REAL, PRIMARY KEY (purse, window)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    account TEXT PRIMARY KEY, dual REAL, questions INTEGER, spent REAL
) WITHOUT ROWID;
"""
Move = Callable[[float | None], float]  # from where a pace stood, None before the first question, to where it stands


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where the pace of a tenant, a policy and a budget stands, or what a tenant has passed through."""

    dual: float | None = None  # its state; None before the first question, or without a pace
    questions: int = 0  # settled
    spent: float = 0.0  # by them, in the policy's unit


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What a request really was."""

    charged: float  # against the cap, in the cap's unit
    cost: float  # in the policy's unit
    samples: int
    prompt_tokens: float  # as far as the upstream said them
    completion_tokens: float


class Ledger:
    """An open ledger.

    Args:
      path: of the file; None keeps it in memory.
      shared: other processes may open it meanwhile, which say so, too; else none can.

    Raises:
      ValueError: another process has it open, or the file is no ledger.
    """

    def __init__(self, path: str | os.PathLike | None = None, *, shared: bool = False):
        self._lock = threading.Lock()
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            self._path or ":memory:", timeout=5.0 if shared else 0.2, check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self._db.close)  # of a ledger that nobody closed
        try:
            # Exclusive: no other process, and no shared memory to look after. A commit survives the process's end.
            mode = "NORMAL" if shared else "EXCLUSIVE"
            for line in (f"locking_mode = {mode}", "journal_mode = WAL", "synchronous = NORMAL"):
                self._db.execute(f"PRAGMA {line}")
            self._db.executescript(_SCHEMA)
            if "owner" not in [column[1] for column in self._db.execute("PRAGMA table_info(requests)")]:
                self._db.execute("ALTER TABLE requests ADD COLUMN owner TEXT")  # of a ledger of an earlier release
            self.life = Life(self._path) if shared and self._path is not None else None
            self.lost = self.settle_lost()  # requests that an earlier process left open
        except sqlite3.DatabaseError as error:
            self._db.close()
            busy = "locked" in str(error)
            raise ValueError(
                f"ledger {path}: {'another process has it open' if busy else f'no ledger: {error}'}"
            ) from None

    def close(self) -> None:
        """Lets go of the file; open requests are settled when it is opened again."""
        self._db.close()
        if self.life is not None:
            self.life.end()

    def settle_lost(self) -> int:
        """Settles what nobody will settle, because its process died; how many requests that were. They count as they were reserved."""
        with self._lock, self._transaction():
            if self.life is None:
                return self._settle_lost("1", ())
            owners = self._db.execute("SELECT DISTINCT owner FROM requests WHERE state = 'open'").fetchall()
            dead = [owner for (owner,) in owners if not self.life.of(owner)]
            return sum(self._settle_lost("owner IS ?", (owner,)) for owner in dead)

    def reserve(
        self,
        identity: str,
        purse: str,
        window: int,
        amount: float,
        cap: float | None,
        *,
        action: str = "",
        expected: float = 0.0,
        account: str | None = None,
        move: Move | None = None,
    ) -> bool:
        """Opens a request, if its reservation fits below the cap together with all that is used and reserved.

        Args:
          identity: of the request; unique.
          purse: who pays, in which unit and window: amounts in two of them never meet.
          window: the number of the time window whose cap it falls under.
          amount: to reserve, in the cap's unit.
          cap: of the window; None: no limit.
          action: what is done, for the record.
          expected: its predicted cost, in the policy's unit.
          account: of the pace it moves; None: of none.
          move: the pace.

        Returns:
          Whether the request is open.
        """
        with self._lock, self._transaction():
            if not self._hold(purse, window, amount, cap):
                return False
            self._db.execute(
                "INSERT INTO requests (id, purse, window, action, expected, reserved, state, owner)"
                " VALUES (?, ?, ?, ?, ?, ?, 'open', ?)",
                (identity, purse, window, action, expected, amount, self.life and self.life.name),
            )
            if account is not None:
                self._move(account, 0, 0.0, move)
            return True

    def extend(self, identity: str, amount: float, cap: float | None) -> bool:
        """Reserves more for an open request; False, and nothing changes, where it does not fit below the cap."""
        with self._lock, self._transaction():
            row = self._db.execute(
                "SELECT purse, window FROM requests WHERE id = ? AND state = 'open'", (identity,)
            ).fetchone()
            if row is None or not self._hold(*row, amount, cap):
                return False
            self._db.execute("UPDATE requests SET reserved = reserved + ? WHERE id = ?", (amount, identity))
            return True

    def settle(
        self,
        identity: str,
        final: Settlement,
        *,
        account: str | None = None,
        move: Move | None = None,
        counted: bool = True,
    ) -> bool:
        """Closes a request with what it really used.

        Args:
          identity: of the request.
          final: what it was.
          account: that it counts in; None: in none.
          move: the account's pace; None where it has none.
          counted: as a question of the account.

        Returns:
          False, and nothing changes, where the request is not open: no request is settled twice.
        """
        with self._lock, self._transaction():
            row = self._db.execute(
                "SELECT purse, window, reserved FROM requests WHERE id = ? AND state = 'open'", (identity,)
            ).fetchone()
            if row is None:
                return False
            purse, window, reserved = row
            self._db.execute(
                "UPDATE requests SET charged = ?, cost = ?, samples = ?, prompt_tokens = ?, completion_tokens = ?,"
                " state = 'settled' WHERE id = ?",
                (final.charged, final.cost, final.samples, final.prompt_tokens, final.completion_tokens, identity),
            )
            self._hold(purse, window, final.charged - reserved, None)
            if account is not None:
                self._move(account, int(counted), final.cost, move)
            return True

    def held(self, purse: str, window: int) -> float:
        """What is used and reserved of a purse in a window."""
        with self._lock:
            row = self._db.execute(
                "SELECT held FROM windows WHERE purse = ? AND window = ?", (purse, window)
            ).fetchone()
        return row[0] if row else 0.0

    def account(self, account: str) -> Account:
        """Where an account stands."""
        with self._lock:
            row = self._db.execute(
                "SELECT dual, questions, spent FROM accounts WHERE account = ?", (account,)
            ).fetchone()
        return Account(dual=row[0], questions=row[1], spent=row[2]) if row else Account()

    def totals(self) -> dict[str, float]:
        """Sums over all settled requests: requests, samples, prompt_tokens, completion_tokens, charged, cost; and those open."""
        names = ("samples", "prompt_tokens", "completion_tokens", "charged", "cost")
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in names)
        with self._lock:
            row = self._db.execute(
                f"SELECT COUNT(*), {sums}, (SELECT COUNT(*) FROM requests WHERE state = 'open') FROM requests"
                " WHERE state <> 'open'"
            ).fetchone()
        return dict(zip(("requests", *names, "open"), row, strict=True))

    # The lock is held, and a transaction is open, in all that follows.

    def _hold(self, purse: str, window: int, amount: float, cap: float | None) -> bool:
        row = self._db.execute("SELECT held FROM windows WHERE purse = ? AND window = ?", (purse, window)).fetchone()
        held = (row[0] if row else 0.0) + amount
        if cap is not None and held > cap:
            return False
        self._db.execute("INSERT OR REPLACE INTO windows VALUES (?, ?, ?)", (purse, window, held))
        return True

    def _move(self, account: str, questions: int, spent: float, move: Move | None) -> None:
        row = self._db.execute("SELECT dual FROM accounts WHERE account = ?", (account,)).fetchone()
        dual = None if move is None else move(row[0] if row else None)
        self._db.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE"
            " SET dual = ?, questions = questions + ?, spent = spent + ?",
            (account, dual, questions, spent, dual, questions, spent),
        )

    def _settle_lost(self, where: str, values: tuple) -> int:
        return self._db.execute(
            "UPDATE requests SET charged = reserved, cost = expected, samples = 0, prompt_tokens = 0,"
            f" completion_tokens = 0, state = 'lost' WHERE state = 'open' AND {where}",
            values,
        ).rowcount

    def _transaction(self):
        return _Transaction(self._db)


class _Transaction:
    """Everything inside happens, or nothing."""

    def __init__(self, db: sqlite3.Connection):
        self.db = db

    def __enter__(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind, *rest) -> None:
        try:
            if kind is None:
                self.db.execute("COMMIT")
        finally:
            if self.db.in_transaction:  # a full disk may have ended it already
                self.db.execute("ROLLBACK")


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
        """Lets go."""
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
