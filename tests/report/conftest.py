"""A small report that tests of pages and answers share."""

import pytest

from alloc_jax.evaluate import evaluate
from alloc_jax.evaluate.baselines import NearestNeighbours, prompt_length
from alloc_jax.measure import measure, menu
from tests.conftest import made_log


@pytest.fixture(scope="session")
def scored():
    """The report of two policies on held-out questions, and the table that scored them."""
    train, held_out = made_log(questions=120).split_questions((0.6, 0.4), key=0)
    actions = menu(train, votes=(1, 4, 8))
    train, choose, score = (measure(part, actions) for part in (train, *held_out.split_samples(key=1)))
    rules = [NearestNeighbours("kNN", train), prompt_length(train)]
    return evaluate(rules, choose, score, (1.5, 2.0, 3.0), replicates=100), score
