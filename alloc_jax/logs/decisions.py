"""The file of decisions that a gateway writes, in SQLite: what was decided and with which chance, what it cost, and the verdicts that came later.

A decision is committed before anything is sent upstream, so that no request that is paid lacks its record; what it cost is
added when it is settled. Readers may read while the gateway writes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alloc_jax.logs.traffic import Traffic

AGREEMENT = "agreement"  # the source of the weak verdict that a vote's own share is
POLICY = "policy"  # the kind of what a policy decided freely; other kinds say why it did not
# A commit survives the process's end. Copying the journal's pages back stops everybody for some milliseconds: after 16 MB, not 4.
JOURNAL = ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 4000")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS policies (
    number INTEGER PRIMARY KEY, mark TEXT UNIQUE, name TEXT, features TEXT, actions TEXT, resource TEXT, unit TEXT
);
CREATE TABLE IF NOT EXISTS decisions (
    turn INTEGER PRIMARY KEY, id TEXT UNIQUE, time REAL, tenant TEXT, session TEXT, kind TEXT, policy INTEGER, action TEXT,
    budget REAL, multiplier REAL, figures BLOB, text TEXT, cost REAL, samples INTEGER
);
CREATE TABLE IF NOT EXISTS shadows (
    id TEXT, policy INTEGER, figures BLOB, PRIMARY KEY (policy, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes (
    id TEXT, source TEXT, reward REAL, time REAL, PRIMARY KEY (id, source)
) WITHOUT ROWID;
"""


class Described(NamedTuple):
    """A policy, as decisions name it."""

    mark: str  # changes with its weights
    name: str
    features: str  # changes with what it reads of a text
    actions: tuple[str, ...]  # [K] those that figures are about
    resource: str
    unit: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Decided:
    """One decision."""

    id: str  # of the request
    tenant: str
    session: str  # of requests that belong together
    kind: str  # POLICY, or why the policy did not choose freely
    policy: int  # number of the policy in this file
    action: str
    budget: float | None
    multiplier: float | None
    figures: np.ndarray = field(repr=False)  # f32[3, K] predicted utility, predicted cost, chance; NaN: not allowed
    text: str | None = field(repr=False, default=None)  # of the question, where texts are kept
    # By the number of a candidate that decided beside: f32[2, K] what it predicts.
    shadows: Mapping[int, np.ndarray] = field(repr=False, default_factory=dict)


class OutcomeRecord(NamedTuple):
    """A verdict on an answer."""

    id: str  # of the request
    reward: float  # in [0, 1]; 1 is right
    source: str  # who says so


class DecisionLog:
    """An open file of decisions, to write to.

    Args:
      path: of the file; None keeps it in memory.

    Raises:
      ValueError: the file is none of decisions.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        self._lock = threading.Lock()
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            ":memory:" if path is None else path, timeout=0.5, check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self._db.close)
        try:
            for line in JOURNAL:
                self._db.execute(f"PRAGMA {line}")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ValueError(f"{path}: no file of decisions: {error}") from None

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def number(self, policy: Described) -> int:
        """The number of a policy in this file, which it gets where it is new."""
        with self._lock:
            row = *policy[:3], json.dumps(policy.actions), *policy[4:]
            self._db.execute(
                "INSERT INTO policies (mark, name, features, actions, resource, unit) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (mark) DO NOTHING",
                row,
            )
            return self._db.execute("SELECT number FROM policies WHERE mark = ?", (policy.mark,)).fetchone()[0]

    def decided(self, decided: Decided) -> None:
        """Add a decision."""
        d = decided
        row = (d.id, time.time(), d.tenant, d.session, d.kind, d.policy, d.action, d.budget, d.multiplier)
        figures = np.ascontiguousarray(d.figures, np.float32).tobytes()
        insert = (
            "INSERT INTO decisions (id, time, tenant, session, kind, policy, action, budget, multiplier, figures, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        with self._lock, self._transaction(whole=not d.shadows):
            self._db.execute(insert, (*row, figures, d.text))
            for number, array in d.shadows.items():
                shadow = np.ascontiguousarray(array, np.float32).tobytes()
                self._db.execute("INSERT INTO shadows VALUES (?, ?, ?)", (d.id, number, shadow))

    def settled(self, identity: str, cost: float, samples: int) -> None:
        """Add what a request really cost, in its policy's unit."""
        with self._lock:
            self._db.execute("UPDATE decisions SET cost = ?, samples = ? WHERE id = ?", (cost, samples, identity))

    def judged(self, outcomes: Sequence[OutcomeRecord], tenant: str | None = None) -> list[str]:
        """Add verdicts; the same verdict of the same source again changes nothing.

        Args:
          outcomes: in any order, as late as they come.
          tenant: whose requests alone they may be about; None: anybody's.

        Returns:
          For each `new`, `known`, `contradicts` (the source has said otherwise, and that stands) or `unknown` (no such request).
        """
        with self._lock, self._transaction():
            return [self._judge(outcome, tenant) for outcome in outcomes]

    @contextmanager
    def _transaction(self, whole: bool = False) -> Iterator[None]:
        """Everything inside happens, or nothing; `whole`: it is one statement, which is one by itself."""
        if whole:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _judge(self, outcome: OutcomeRecord, tenant: str | None) -> str:
        row = self._db.execute("SELECT tenant FROM decisions WHERE id = ?", (outcome.id,)).fetchone()
        if row is None or tenant not in (None, row[0]):
            return "unknown"
        known = self._db.execute(
            "SELECT reward FROM outcomes WHERE id = ? AND source = ?", (outcome.id, outcome.source)
        ).fetchone()
        if known is not None:
            return "known" if known[0] == outcome.reward else "contradicts"
        row = (outcome.id, outcome.source, outcome.reward, time.time())
        self._db.execute("INSERT INTO outcomes VALUES (?, ?, ?, ?)", row)
        return "new"


@dataclass(frozen=True, eq=False, kw_only=True)
class Recorded:
    """What a file of decisions says of one policy's traffic."""

    policy: Described
    traffic: Traffic  # what it decided freely, and what that cost
    left_out: Mapping[str, int]  # decisions that say nothing of other policies, by why
    verdicts: Mapping[str, int]  # on its decisions, by their source
    agreement: np.ndarray = field(
        repr=False
    )  # f64[N] share of a vote's samples that agree; NaN where there was no vote
    text: tuple[str | None, ...] = field(repr=False)  # [N] of the questions, where texts were kept
    shadows: Mapping[str, tuple[Described, np.ndarray]] = field(
        repr=False
    )  # by mark: f32[N, 2, K] predicted; NaN: not asked


def read_traffic(
    path: str | os.PathLike,
    *,
    policy: str | None = None,
    tenant: str | None = None,
    verdict: Sequence[str] = (),
    ends: tuple[int, int] | None = None,
) -> Recorded:
    """The decisions of one policy and one tenant in a file, with what came of them.

    Args:
      path: of the file, which a gateway may be writing to.
      policy: its mark; None: the one that decided last.
      tenant: whose; None: everybody's.
      verdict: the sources whose word counts, the first before the others; none: the only one beside agreement.
      ends: only so many of the first decisions and of the last ones; what was left out is then not counted. None: all.

    Raises:
      ValueError: there is no such file, policy or source, or several sources and none was chosen.
    """
    if not Path(path).is_file():
        raise ValueError(f"no decisions in {path}: there is no such file")
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return _read(db, policy, tenant, verdict, ends)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path}: no file of decisions: {error}") from None
    finally:
        db.close()


def _read(
    db: sqlite3.Connection,
    mark: str | None,
    tenant: str | None,
    verdict: Sequence[str],
    ends: tuple[int, int] | None,
) -> Recorded:
    policies = {
        number: Described(mark, name, features, tuple(json.loads(actions)), resource, unit)
        for number, mark, name, features, actions, resource, unit in db.execute("SELECT * FROM policies")
    }
    whose, given = ("", ()) if tenant is None else (" AND tenant = ?", (tenant,))
    last = db.execute(
        f"SELECT policy FROM decisions WHERE kind = ?{whose} ORDER BY turn DESC LIMIT 1", (POLICY, *given)
    )
    numbers = [number for number, known in policies.items() if known.mark == mark] if mark else [row[0] for row in last]
    if not numbers:
        raise ValueError(
            f"no decision of {'a policy' if mark is None else mark}"
            + (f"; there are {', '.join(p.mark for p in policies.values())}" if mark else "")
        )
    number, described = numbers[0], policies[numbers[0]]
    where = f"policy = ?{whose} AND kind = '{POLICY}' AND cost IS NOT NULL"
    rows = _rows(db, where, (number, *given), ends)
    if not rows:
        raise ValueError(f"no decision of {described.mark} is settled")
    ids, times, sessions, names, multipliers, blobs, texts, costs = zip(*rows, strict=True)
    del rows
    known = {name: k for k, name in enumerate(described.actions)}
    figures = np.frombuffer(b"".join(blobs), np.float32).reshape(len(ids), 3, len(known))
    turn = {identity: i for i, identity in enumerate(ids)}
    rewards, agreement, verdicts = _verdicts(_outcomes(db, ids if ends else None), turn, verdict)
    traffic = Traffic(
        actions=described.actions,
        action=np.fromiter(map(known.__getitem__, names), np.int32, len(names)),
        behaviour=np.nan_to_num(figures[:, 2]),
        utility=np.nan_to_num(figures[:, 0]),
        cost=np.nan_to_num(figures[:, 1]),
        allowed=np.isfinite(figures[:, 2]),
        spent=np.array(costs, float),
        reward=rewards,
        session=np.unique(np.array(sessions), return_inverse=True)[1],
        multiplier=np.array(multipliers, float),
        ids=ids,
        time=np.array(times, float),
    )
    return Recorded(
        policy=described, traffic=traffic, left_out={} if ends else _left_out(db, number, whose, given), verdicts=verdicts, agreement=agreement, text=texts,
        shadows={} if ends else _shadows(db, policies, turn),
    )  # fmt: skip


def _rows(db: sqlite3.Connection, where: str, given: tuple, ends: tuple[int, int] | None) -> list[tuple]:
    """Settled decisions in their order: all, or so many at either end."""
    several = f"SELECT id, time, session, action, multiplier, figures, text, cost, turn FROM decisions WHERE {where} ORDER BY turn"
    if ends is None:
        return [row[:-1] for row in db.execute(several, given)]
    first, last = (
        db.execute(f"{several} {part} LIMIT ?", (*given, many)).fetchall()
        for part, many in zip(("ASC", "DESC"), ends, strict=True)
    )
    return [row[:-1] for row in (*first, *(row for row in reversed(last) if row[-1] > first[-1][-1]))]


def _outcomes(db: sqlite3.Connection, ids: Sequence[str] | None) -> Iterator[tuple[str, str, float]]:
    """Verdicts: all that there are, or on some requests."""
    if ids is None:
        yield from db.execute("SELECT id, source, reward FROM outcomes")
        return
    for identity in ids:
        yield from db.execute("SELECT id, source, reward FROM outcomes WHERE id = ?", (identity,))


def _left_out(db: sqlite3.Connection, number: int, whose: str, given: tuple[str, ...]) -> dict[str, int]:
    """How many decisions are not those of a policy that chose freely and is settled, by why."""
    found: dict[str, int] = {}
    grouped = f"SELECT policy, kind, cost IS NULL, COUNT(*) FROM decisions WHERE 1{whose} GROUP BY 1, 2, 3"
    for policy, kind, unsettled, count in db.execute(grouped, given):
        why = "another policy" if policy != number else kind if kind != POLICY else "not settled"
        if why != "not settled" or unsettled:
            found[why] = found.get(why, 0) + count
    return found


def _verdicts(
    outcomes: Iterable[tuple[str, str, float]], turn: Mapping[str, int], wanted: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """The rewards and the agreement f64[N] of decisions, and how many verdicts there are from each source."""
    by_source: dict[str, np.ndarray] = {}
    for identity, source, reward in outcomes:
        if (i := turn.get(identity)) is not None:
            if source not in by_source:
                by_source[source] = np.full(len(turn), np.nan)
            by_source[source][i] = reward
    nothing = np.full(len(turn), np.nan)
    counts = {source: int(np.isfinite(found).sum()) for source, found in by_source.items()}
    strong = [source for source in by_source if source != AGREEMENT]
    if not wanted and len(strong) > 1:
        raise ValueError(
            f"verdicts come from {', '.join(sorted(strong))}: say whose count, the first before the others"
        )
    if missing := [source for source in wanted if source not in by_source]:
        raise ValueError(f"no verdict comes from {missing[0]!r}; there are {', '.join(sorted(by_source)) or 'none'}")
    rewards = nothing
    for source in reversed(wanted or strong):
        rewards = np.where(np.isfinite(by_source[source]), by_source[source], rewards)
    return rewards, by_source.get(AGREEMENT, nothing), counts


def _shadows(
    db: sqlite3.Connection, policies: Mapping[int, Described], turn: Mapping[str, int]
) -> dict[str, tuple[Described, np.ndarray]]:
    found: dict[str, tuple[Described, np.ndarray]] = {}
    for number, identity, blob in db.execute("SELECT policy, id, figures FROM shadows"):
        described = policies[number]
        if described.mark not in found:
            found[described.mark] = described, np.full((len(turn), 2, len(described.actions)), np.nan, np.float32)
        if (i := turn.get(identity)) is not None:
            found[described.mark][1][i] = np.frombuffer(blob, np.float32).reshape(2, -1)
    return found
