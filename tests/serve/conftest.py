"""One policy for all tests of serving."""

import pytest

from tests.serve.made import make_policy


@pytest.fixture(scope="session")
def policy():
    return make_policy()


@pytest.fixture(scope="session")
def token_policy():
    return make_policy("tokens")
