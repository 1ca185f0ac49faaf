"""A PostgreSQL server of the tests' own, from the distribution's package, in a temporary folder: `cluster()`."""

import getpass
import os
import shutil
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

_QUICK = "-c fsync=off -c full_page_writes=off -c shared_buffers=16MB -c max_connections=40"
_OWNER = "postgres"  # the package makes this user; the server does not run as root


def program(name):
    """Where a program of the server is; None where the package is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else shutil.which(name)


class Cluster:
    """A server that is up, reached over a socket in its folder."""

    def __init__(self, folder, user):
        self.folder, self.user = folder, user

    def run(self, name, *arguments):
        command = [program(name), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", self.user, "--", *command]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        at = f"-c listen_addresses= -c unix_socket_directories={self.folder} {_QUICK}"
        self.run(
            "pg_ctl",
            "start",
            "-w",
            "-s",
            "-t",
            "300",
            "-D",
            f"{self.folder}/data",
            "-l",
            f"{self.folder}/log",
            "-o",
            at,
        )

    def stop(self):
        self.run("pg_ctl", "stop", "-w", "-s", "-t", "300", "-m", "immediate", "-D", f"{self.folder}/data")

    def address(self, database):
        return f"postgresql://{self.user}@/{database}?host={self.folder}"

    def database(self):
        """The address of a new database."""
        import psycopg

        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return self.address(name)


@contextmanager
def cluster():
    """A server; skips with a reason where there is none to start."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'alloc_jax[postgres]'")
    if program("initdb") is None:
        pytest.skip("there is no PostgreSQL server: install the package postgresql")
    user = _OWNER if os.getuid() == 0 else getpass.getuser()
    folder = tempfile.mkdtemp(prefix="pg")  # a short path: a socket's name is bounded
    try:
        if os.getuid() == 0:
            shutil.chown(folder, user)
        made = Cluster(folder, user)
        made.run("initdb", "-D", f"{folder}/data", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
