"""One policy for all tests of serving, and one database server."""

import pytest

from alloc_jax.serve.web import answer_keys
from tests.serve.database import cluster
from tests.serve.made import make_policy


@pytest.fixture(scope="session")
def policy():
    return make_policy()


@pytest.fixture(scope="session")
def token_policy():
    return make_policy("tokens")


@pytest.fixture(scope="session")
def postgres():
    with cluster() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request, tmp_path):
    """Where a ledger is: a file, or a database."""
    return tmp_path / "ledger.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres").database()


@pytest.fixture(autouse=True)
def _time_to_read(monkeypatch):
    """A slow machine reads every answer in time."""
    monkeypatch.setattr(answer_keys, "_ONE_S", 60.0)
    monkeypatch.setattr(answer_keys, "_ALL_S", 120.0)
