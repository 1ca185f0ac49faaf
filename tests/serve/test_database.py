"""What a ledger on PostgreSQL does that a file does not: a server that goes away, several hosts, and what is said where it cannot be had."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error

import pytest

from alloc_jax.serve.ledger import Ledger, LedgerFault, Settlement
from tests.fake_server import fake_server
from tests.serve.running import until
from tests.serve.test_command import failed, folder, free_port, start, up  # noqa: F401
from tests.serve.test_processes import ask, options

FINAL = Settlement(charged=1.0, cost=1.0, samples=1, prompt_tokens=1, completion_tokens=1)


def test_a_database_that_restarts_is_found_again_and_open_requests_are_settled_once(postgres):
    ledger = Ledger(postgres.database())
    ledger.reserve("a", "t", 0, 4.0, 10.0)
    postgres.stop()
    for _ in range(2):  # where the connection breaks, and where there is none
        with pytest.raises(LedgerFault):
            ledger.settle("a", FINAL)
    with pytest.raises(LedgerFault):
        ledger.account("x")
    postgres.start()
    ledger.store._failed = -1e9  # as if it had waited before it tries again
    assert ledger.settle("a", FINAL) and ledger.held("t", 0) == 1.0
    ledger.close()


def test_a_process_whose_connection_broke_is_taken_for_dead_and_loses_no_money(postgres):
    at = postgres.database()
    ledger, other = Ledger(at), Ledger(at)
    ledger.reserve("a", "t", 0, 4.0, 10.0)
    assert other.settle_lost() == 0
    ledger.store._db.close()
    assert until(other.settle_lost) == 1  # as soon as the server has noticed
    assert not ledger.settle("a", FINAL) and other.held("t", 0) == 4.0
    assert ledger.reserve("b", "t", 0, 4.0, 10.0) and other.settle_lost() == 0  # it is alive again
    for one in (ledger, other):
        one.close()


def test_what_is_wrong_with_a_database_is_said_without_its_password(postgres):
    missing = postgres.address("nobody").replace("postgres@", "postgres:secret@")
    with pytest.raises(ValueError, match=r"cannot connect: .*\"nobody\" does not exist; is the server up") as said:
        Ledger(missing)
    assert "secret" not in str(said.value) and ":...@" in str(said.value)
    at = postgres.database()
    import psycopg

    with psycopg.connect(at, autocommit=True) as db:
        db.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(ValueError, match=r"no tables: permission denied .* has to own the schema 'alloc'"):
        Ledger(at.replace("postgres@", "guest@"))


def test_without_the_driver_the_extra_is_named():
    code = "import sys; sys.modules['psycopg'] = None; from alloc_jax.serve.ledger import Ledger; Ledger('postgresql://x/y')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "a ledger on PostgreSQL needs psycopg: pip install 'alloc_jax[postgres]'" in said.stderr


@pytest.mark.long
def test_gateways_of_several_hosts_share_a_cap_and_settle_for_one_that_is_killed(folder, postgres, tmp_path):  # noqa: F811
    at, answered, stop = postgres.database(), [], threading.Event()
    kept = Ledger(at)

    def client(port):
        while not stop.is_set():
            try:
                answered.append(ask(f"http://127.0.0.1:{port}")[1])
            except urllib.error.HTTPError as error:
                with error:
                    assert json.loads(error.read())["error"]["code"] == 429
                return
            except OSError:
                return  # the one that was killed

    cap = 400.0
    with fake_server(delay_s=0.02) as fake:
        ports = free_port(), free_port()
        gateways = []
        for port in ports:
            more = f"--cap={cap}", "--hard", "--exhausted=refuse", f"--traffic={tmp_path}/{port}.sqlite"
            gateways.append(start(folder, *options(fake, port, at, *more)))
        with up(gateways[0], ports[0]), up(gateways[1], ports[1]):
            clients = [threading.Thread(target=client, args=(port,)) for port in ports for _ in range(4)]
            for thread in clients:
                thread.start()
            try:
                until(lambda: len(answered) > 20)
                os.kill(gateways[0].pid, signal.SIGKILL)
                until(lambda: not any(thread.is_alive() for thread in clients[4:]))  # the cap is reached
            finally:
                stop.set()
                for thread in clients:
                    thread.join()
            gateways[0].wait()
    kept.settle_lost()
    totals = kept.totals()
    lost, purses = (
        kept._read("SELECT COUNT(*) FROM requests WHERE state = 'lost'")[0][0],
        kept._read("SELECT held FROM windows"),
    )
    kept.close()
    assert totals["open"] == 0 and lost <= 4 and totals["requests"] - lost >= len(answered) > 20
    assert sum(held for (held,) in purses) == totals["charged"] and cap - 8 < totals["charged"] <= cap
