"""The ledger: what every request reserved and what it really used, in a database, so that it survives whatever ends a server.

Reserving comes before the request goes upstream, in one transaction with the check of the cap, so that no two requests
are admitted on the same balance; settling comes after, exactly once. What was reserved and never settled, because the
process died, counts as used when the ledger is opened again: nobody can say that it was not.

Several processes may share one ledger. Where a pace stands is then moved inside the transaction, from wherever another process has
left it, and each process holds a lock for as long as it lives, so that the others know whose open requests nobody will settle.

The statements are SQLite's and PostgreSQL's. Each that checks something also locks the row that it checks: on one host SQLite has
one writer at a time anyway, and on several hosts PostgreSQL lets those wait that want the same row.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from alloc_jax.serve.ledger.stores import Execute, Store, store_at

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
      at: a file, or the address of a PostgreSQL database (`postgresql://...`); None keeps it in memory.
      shared: other processes of this host may open the file meanwhile, which say so, too; else none can. A database is always shared.

    Raises:
      ImportError: an address without psycopg; the message names the extra.
      ValueError: another process has the file open, it is no ledger, or the database does not answer.
    """

    def __init__(self, at: str | os.PathLike | None = None, *, shared: bool = False):
        self._lock = threading.Lock()
        self.store: Store = store_at(at, shared)
        try:
            self.lost = self.settle_lost()  # requests that an earlier process left open
        except BaseException:
            self.store.close()
            raise

    def close(self) -> None:
        """Let go of the database; open requests are settled when it is opened again."""
        self.store.close()

    def settle_lost(self) -> int:
        """Settle what nobody will settle, because its process died; how many requests that were. They count as they were reserved."""
        with self._lock, self.store.transaction() as execute:
            owners = execute("SELECT DISTINCT owner FROM requests WHERE state = 'open'")
            dead = [owner for (owner,) in owners if not self.store.alive(owner)]
            return sum(len(execute(_LOST, (owner or "",))) for owner in dead)

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
        """Open a request, if its reservation fits below the cap together with all that is used and reserved.

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
        with self._lock, self.store.transaction() as execute:
            if not _hold(execute, purse, window, amount, cap):
                return False
            execute(
                'INSERT INTO requests (id, purse, "window", action, expected, reserved, state, owner)'
                " VALUES (?, ?, ?, ?, ?, ?, 'open', ?)",
                (identity, purse, window, action, expected, amount, self.store.owner),
            )
            if account is not None:
                _move(execute, account, 0, 0.0, move)
            return True

    def extend(self, identity: str, amount: float, cap: float | None) -> bool:
        """Reserve more for an open request; False, and nothing changes, where it does not fit below the cap."""
        with self._lock, self.store.transaction() as execute:
            found = execute("SELECT purse, \"window\" FROM requests WHERE id = ? AND state = 'open'", (identity,))
            if not found:
                return False
            purse, window = found[0]
            if not _hold(execute, purse, window, amount, cap):
                return False
            execute("UPDATE requests SET reserved = reserved + ? WHERE id = ?", (amount, identity))
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
        """Close a request with what it really used.

        Args:
          identity: of the request.
          final: what it was.
          account: that it counts in; None: in none.
          move: the account's pace; None where it has none.
          counted: as a question of the account.

        Returns:
          False, and nothing changes, where the request is not open: no request is settled twice.
        """
        with self._lock, self.store.transaction() as execute:
            found = execute(
                "UPDATE requests SET charged = ?, cost = ?, samples = ?, prompt_tokens = ?, completion_tokens = ?,"
                " state = 'settled' WHERE id = ? AND state = 'open' RETURNING purse, \"window\", reserved",
                (final.charged, final.cost, final.samples, final.prompt_tokens, final.completion_tokens, identity),
            )
            if not found:
                return False
            purse, window, reserved = found[0]
            _hold(execute, purse, window, final.charged - reserved, None)
            if account is not None:
                _move(execute, account, int(counted), final.cost, move)
            return True

    def held(self, purse: str, window: int) -> float:
        """What is used and reserved of a purse in a window."""
        found = self._read('SELECT held FROM windows WHERE purse = ? AND "window" = ?', (purse, window))
        return found[0][0] if found else 0.0

    def account(self, account: str) -> Account:
        """Where an account stands."""
        found = self._read("SELECT dual, questions, spent FROM accounts WHERE account = ?", (account,))
        if not found:
            return Account()
        dual, questions, spent = found[0]
        return Account(dual=dual, questions=questions, spent=spent)

    def totals(self) -> dict[str, float]:
        """Sums over all settled requests: requests, samples, prompt_tokens, completion_tokens, charged, cost; and those open."""
        names = ("samples", "prompt_tokens", "completion_tokens", "charged", "cost")
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in names)
        (row,) = self._read(
            f"SELECT COUNT(*), {sums}, (SELECT COUNT(*) FROM requests WHERE state = 'open') FROM requests"
            " WHERE state <> 'open'"
        )
        return dict(zip(("requests", *names, "open"), row, strict=True))

    def _read(self, statement: str, values: tuple = ()) -> list[tuple]:
        with self._lock:
            return self.store.read(statement, values)


_LOST = (
    "UPDATE requests SET charged = reserved, cost = expected, samples = 0, prompt_tokens = 0, completion_tokens = 0,"
    " state = 'lost' WHERE state = 'open' AND COALESCE(owner, '') = ? RETURNING id"
)


def _hold(execute: Execute, purse: str, window: int, amount: float, cap: float | None) -> bool:
    """Add to what is held of a purse; False, and nothing changes, where that would pass the cap."""
    if cap is None and not amount:  # nothing is held
        return True
    if cap is not None and amount > cap:
        return False
    added = 'INSERT INTO windows VALUES (?, ?, ?) ON CONFLICT (purse, "window") DO UPDATE SET held = windows.held + excluded.held'
    if cap is None:
        execute(added, (purse, window, amount))
        return True
    fits = " WHERE windows.held + excluded.held <= ? RETURNING held"
    return bool(execute(added + fits, (purse, window, amount, cap)))


def _move(execute: Execute, account: str, questions: int, spent: float, move: Move | None) -> None:
    """Count in an account, and move its pace from where it stands, which nobody else can meanwhile."""
    ((dual,),) = execute(
        "INSERT INTO accounts VALUES (?, NULL, ?, ?) ON CONFLICT (account) DO UPDATE"
        " SET questions = accounts.questions + excluded.questions, spent = accounts.spent + excluded.spent RETURNING dual",
        (account, questions, spent),
    )
    if move is not None:
        execute("UPDATE accounts SET dual = ? WHERE account = ?", (move(dual), account))
