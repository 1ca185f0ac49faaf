"""No request is admitted on a balance that another has used, none is settled twice, and nothing is lost."""

import sqlite3
import subprocess
import sys
import threading

import pytest

from alloc_jax.serve.ledger import Account, Ledger, LedgerFault, Settlement
from tests.serve.running import PATIENCE


@pytest.fixture
def ledger(at):
    made = Ledger(at)
    yield made
    made.close()


def to(dual):
    """A pace that goes there, wherever it was."""
    return lambda before: dual


def final(charged=1.0, cost=1.0, samples=1):
    return Settlement(charged=charged, cost=cost, samples=samples, prompt_tokens=5, completion_tokens=7)


def test_a_reservation_holds_room_below_the_cap_until_it_is_settled(ledger):
    assert ledger.reserve("a", "t", 0, 6.0, 10.0) and not ledger.reserve("b", "t", 0, 5.0, 10.0)
    assert ledger.held("t", 0) == 6.0 and ledger.settle("a", final(charged=2.0))
    assert ledger.held("t", 0) == 2.0 and ledger.reserve("b", "t", 0, 8.0, 10.0)
    assert not ledger.reserve("c", "t", 0, 0.1, 10.0)
    assert ledger.reserve("c", "t", 1, 10.0, 10.0) and ledger.reserve("d", "u", 0, 10.0, 10.0)  # another window, tenant
    assert ledger.reserve("e", "t", 0, 1e9, None)  # no cap, no limit


def test_an_extension_obeys_the_cap_and_is_given_back(ledger):
    ledger.reserve("a", "t", 0, 4.0, 10.0)
    assert ledger.extend("a", 6.0, 10.0) and not ledger.extend("a", 0.1, 10.0) and not ledger.extend("none", 1.0, None)
    ledger.settle("a", final(charged=1.0))
    assert ledger.held("t", 0) == 1.0 and not ledger.extend("a", 1.0, 10.0)


def test_nothing_is_settled_twice_nor_unless_it_was_reserved(ledger):
    ledger.reserve("a", "t", 0, 4.0, None, account="x", move=to(0.1))
    assert ledger.settle("a", final(cost=3.0), account="x", move=to(0.2))
    assert not ledger.settle("a", final(cost=3.0), account="x", move=to(0.9))
    assert not ledger.settle("never", final(), account="x", move=to(0.9))
    assert ledger.account("x") == Account(dual=0.2, questions=1, spent=3.0)
    assert ledger.totals() == {
        "requests": 1,
        "samples": 1,
        "prompt_tokens": 5.0,
        "completion_tokens": 7.0,
        "charged": 1.0,
        "cost": 3.0,
        "open": 0,
    }


def test_a_request_that_fails_halfway_changes_nothing(ledger):
    ledger.reserve("a", "t", 0, 4.0, 10.0)
    with pytest.raises(LedgerFault):
        ledger.reserve("a", "t", 0, 3.0, 10.0)  # the same id again
    assert ledger.held("t", 0) == 4.0


def test_threads_cannot_pass_the_cap_together(ledger):
    admitted = []

    def ask(worker):
        for j in range(50):
            if ledger.reserve(f"{worker}-{j}", "t", 0, 1.0, 100.0):
                admitted.append(1)
                if j % 3 == 0:
                    ledger.settle(f"{worker}-{j}", final(charged=0.5))

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 99 <= ledger.held("t", 0) <= 100 and len(admitted) >= 100


def test_a_restart_finds_everything_and_charges_what_was_left_open_as_reserved(at):
    ledger = Ledger(at)
    ledger.reserve("a", "t", 0, 4.0, 10.0, account="x", move=to(0.5))
    ledger.settle("a", final(charged=2.0), account="x", move=to(0.7))
    ledger.reserve("b", "t", 0, 5.0, 10.0, expected=2.5, account="x", move=to(0.9))
    ledger.close()
    again = Ledger(at)
    assert again.lost == 1 and again.held("t", 0) == 7.0 and again.account("x").dual == 0.9
    assert again.totals()["cost"] == 3.5 and not again.settle("b", final())
    again.close()
    last = Ledger(at)
    assert last.lost == 0
    last.close()


_KILLED = """
import os, sys
from alloc_jax.serve.ledger import Ledger, Settlement
ledger = Ledger(sys.argv[1])
final = Settlement(charged=1.0, cost=1.0, samples=1, prompt_tokens=1, completion_tokens=1)
for j in range(50):
    ledger.reserve(str(j), "t", 0, 3.0, None)
    if j % 2:
        ledger.settle(str(j), final)
os.kill(os.getpid(), 9)
"""


def test_a_server_that_is_killed_loses_no_entry(at):
    subprocess.run([sys.executable, "-c", _KILLED, str(at)], check=False)
    ledger = Ledger(at)
    assert ledger.lost == 25 and ledger.totals()["requests"] == 50 and ledger.held("t", 0) == 25 * 3.0 + 25 * 1.0
    ledger.close()


def test_a_second_server_on_one_ledger_is_refused_and_so_is_another_file(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(ValueError, match="another process has it open"):
        Ledger(tmp_path / "ledger.sqlite")
    ledger.close()
    (tmp_path / "mine").write_text("no database, but a text that is longer than a header of SQLite would be" * 20)
    with pytest.raises(ValueError, match="no ledger"):
        Ledger(tmp_path / "mine")


_SHARING = """
import os, sys
from alloc_jax.serve.ledger import Ledger, Settlement
path, name, die = sys.argv[1:]
ledger = Ledger(path, shared=True)
final = Settlement(charged=1.0, cost=1.0, samples=1, prompt_tokens=1, completion_tokens=1)
move = lambda dual: (dual or 0.0) + 1.0
print("up", flush=True)
sys.stdin.readline()
for j in range(120):
    if ledger.reserve(f"{name}-{j}", "t", 0, 3.0, 400.0, account="x", move=move) and (die == "no" or j % 2):
        ledger.settle(f"{name}-{j}", final, account="x", move=move)
    ledger.settle_lost()
if die == "yes":
    os.kill(os.getpid(), 9)
ledger.close()
"""


def test_processes_share_a_ledger_one_cap_and_one_pace_and_settle_for_those_that_are_killed(at, tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _SHARING, str(at), str(j), die],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for j, die in enumerate(["no", "yes", "no"])
    ]
    for worker in workers:
        assert worker.stdout.readline() == "up\n"
    if at == tmp_path / "ledger.sqlite":
        with pytest.raises(ValueError, match="another process has it open"):
            Ledger(at)  # for itself alone
    ledger = Ledger(at, shared=True)
    for worker in workers:
        worker.communicate("go\n", timeout=PATIENCE)
    assert [worker.returncode for worker in workers] == [0, -9, 0]
    ledger.settle_lost()
    totals, account = ledger.totals(), ledger.account("x")
    assert totals["open"] == 0 and ledger.held("t", 0) == totals["charged"] <= 400
    lost = totals["requests"] - account.questions
    assert 0 < lost <= 60 and totals["charged"] == 3.0 * lost + account.questions
    assert account.dual == totals["requests"] + account.questions  # every move counts, whoever made it
    assert ledger.settle_lost() == 0
    if at == tmp_path / "ledger.sqlite":
        assert [found.name for found in tmp_path.glob("*.alive")] == [f"ledger.sqlite.{ledger.store.owner}.alive"]
    ledger.close()
    again = Ledger(at)  # for itself alone again
    assert again.lost == 0
    again.close()


def test_a_ledger_of_an_earlier_release_is_read_on(tmp_path):
    path = tmp_path / "ledger.sqlite"
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE requests (id TEXT PRIMARY KEY, purse TEXT, window INTEGER, action TEXT, expected REAL, reserved REAL,"
        " charged REAL, cost REAL, samples INTEGER, prompt_tokens REAL, completion_tokens REAL, state TEXT) WITHOUT ROWID"
    )
    old.execute("INSERT INTO requests (id, reserved, expected, state) VALUES ('a', 4.0, 2.0, 'open')")
    old.commit()
    old.close()
    ledger = Ledger(path)
    assert ledger.lost == 1 and ledger.totals()["charged"] == 4.0 and ledger.reserve("b", "t", 0, 1.0, None)
