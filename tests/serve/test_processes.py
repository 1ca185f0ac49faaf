"""The gateway as processes: several on one ledger, one that is told to end or to read its policy anew, one that speaks HTTPS."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from alloc_jax.serve.ledger import Ledger
from tests.fake_server import fake_server
from tests.serve.running import PATIENCE, until
from tests.serve.test_command import answers, folder, free_port, start, up  # noqa: F401

pytestmark = pytest.mark.long
ASKED = json.dumps({"model": "alloc/auto", "messages": [{"role": "user", "content": "123 + 456"}]}).encode()


def ask(url, context=None, **more):
    """The policy that answered."""
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=ASKED, **more)
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as response:
        return response.headers["x-alloc-policy"], response.headers["x-request-id"]


def counted(url):
    """How many requests were answered, as whichever process answers says it."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE) as response:
        said = response.read().decode()
    return float(next(line for line in said.splitlines() if 'responses_total{status="200"}' in line).split()[-1])


def options(fake, port, path, *more):
    usual = [f"--upstream={fake.url}", "--budget=3", "--resource=samples", f"--port={port}", f"--ledger={path}"]
    return [*usual, *more]


def children(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(child) for child in listed.split()]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the children of a process are read from /proc")
def test_workers_share_a_ledger_and_one_that_is_killed_is_started_again_and_loses_no_entry(folder, tmp_path):  # noqa: F811
    port, path, log = free_port(), tmp_path / "ledger.sqlite", tmp_path / "requests.jsonl"
    answered, failed = [], []

    def client(stop):
        while not stop.is_set():
            try:
                answered.append(ask(f"http://127.0.0.1:{port}")[1])
            except (OSError, urllib.error.URLError):
                failed.append(1)  # its connection was to the worker that was killed
                time.sleep(0.05)

    with fake_server(delay_s=0.05) as fake:
        gateway = start(folder, *options(fake, port, path, "--workers=3", f"--request_log={log}"))
        with up(gateway, port):
            first, stop = children(gateway), threading.Event()
            clients = [threading.Thread(target=client, args=(stop,)) for _ in range(8)]
            for thread in clients:
                thread.start()
            try:
                until(lambda: len(answered) >= 30)
                os.kill(first[0], signal.SIGKILL)
                until(lambda: len(now := children(gateway)) == 3 and first[0] not in now and len(answered) > 120)
            finally:
                stop.set()
                for thread in clients:
                    thread.join()
            now, shown = children(gateway), counted(f"http://127.0.0.1:{port}")
            assert len(now) == 3 and len(set(now) & set(first)) == 2
    assert len(answered) <= shown <= len(answered) + 8  # of all three, and of the one that was killed
    assert len(set(answered)) == len(answered) > 120 and len(failed) <= 20
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(set(answered) - {line["id"] for line in lines}) <= 8  # of the one that was killed
    kept = Ledger(path)
    totals, account = kept.totals(), kept._read("SELECT SUM(questions) FROM accounts")[0][0]
    lost = kept._read("SELECT COUNT(*) FROM requests WHERE state = 'lost'")[0][0]
    assert totals["open"] == kept.lost == 0 and totals["requests"] == account + lost
    assert account >= len(answered) and lost <= 8


def test_what_is_being_answered_at_the_end_is_finished_and_a_drain_has_its_time(folder, tmp_path):  # noqa: F811
    for drain, finished in (("600", True), ("0.2", False)):
        port, path, said, free = free_port(), tmp_path / f"{drain}.sqlite", [], threading.Event()
        with fake_server(held=lambda body, free=free: not free.is_set()) as fake:
            gateway = start(folder, *options(fake, port, path, f"--drain_s={drain}"))
            with up(gateway, port):

                def client(port=port, said=said):
                    with suppress(OSError):
                        said.append(ask(f"http://127.0.0.1:{port}"))

                thread = threading.Thread(target=client)
                thread.start()
                until(lambda fake=fake: fake.at_once)
                gateway.send_signal(signal.SIGTERM)
                if finished:  # what nobody has answered yet is waited for, and nobody new is let in
                    until(lambda port=port: not answers(f"http://127.0.0.1:{port}/health"))
                    free.set()
                thread.join()
            free.set()
            assert bool(said) == finished
        kept = Ledger(path)
        assert kept.totals()["requests"] == 1 and kept.lost == 0
        kept.close()


def test_a_signal_reads_the_policy_anew_and_a_broken_one_changes_nothing(folder, policy, tmp_path):  # noqa: F811
    mine, port = tmp_path / "policy", free_port()
    shutil.copytree(folder, mine)
    with fake_server() as fake:
        gateway = start(mine, *options(fake, port, tmp_path / "ledger.sqlite"))
        with up(gateway, port):
            assert ask(f"http://127.0.0.1:{port}")[0] == policy.name
            replace(policy, name="another").save(mine)
            gateway.send_signal(signal.SIGHUP)
            until(lambda: ask(f"http://127.0.0.1:{port}")[0] == "another")
            (mine / "policy.npz").unlink()
            gateway.send_signal(signal.SIGHUP)
            while "the policy stays as it is" not in (line := gateway.stderr.readline()):
                assert line
            assert ask(f"http://127.0.0.1:{port}")[0] == "another" and gateway.poll() is None


def test_a_gateway_begins_without_a_policy_and_finds_it_when_it_is_there(folder, policy, tmp_path):  # noqa: F811
    later, port = tmp_path / "policy", free_port()
    with fake_server() as fake:
        gateway = start(later, *options(fake, port, "", "--actions=vote(m,1) vote(m,4)"))
        with up(gateway, port) as said:
            assert said[-1].startswith("cold, ") and ask(f"http://127.0.0.1:{port}")[0] == "cold"
            shutil.copytree(folder, later)
            gateway.send_signal(signal.SIGHUP)
            until(lambda: ask(f"http://127.0.0.1:{port}")[0] == policy.name)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_is_spoken_with_a_certificate(folder, tmp_path):  # noqa: F811
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    port, context = free_port(), ssl.create_default_context(cafile=tmp_path / "cert.pem")
    tls = [f"--tls_cert={tmp_path / 'cert.pem'}", f"--tls_key={tmp_path / 'key.pem'}"]
    with fake_server() as fake:
        gateway = start(folder, *options(fake, port, "", *tls))
        with up(gateway, port, f"https://127.0.0.1:{port}", context) as said:
            assert f"https://127.0.0.1:{port}/v1" in said[-1]
            assert ask(f"https://127.0.0.1:{port}", context)[1]
