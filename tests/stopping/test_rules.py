"""Stopping rules as they are served: microseconds, no JAX, the same decisions as when they were made."""

import subprocess
import sys
import time

import numpy as np
import pytest

import alloc_jax as aj
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.stopping.rules import DRAW, FILE, STOP, State, load_stopping, prior_features, vote_state
from alloc_jax.stopping.sequential import solve_sequential
from tests.conftest import made_log


@pytest.fixture(scope="module")
def log():
    return made_log(questions=200, samples=12)


@pytest.fixture(scope="module")
def frontier(log):
    length = np.array([[len(text), 0.0] for text in log.question])
    return solve_sequential(log, "large", cap=10, prior=length, contexts=4, orders=8)


def test_decisions_are_those_that_the_budget_was_counted_on(log, frontier):
    rule = frontier.at(2.5)
    paths = sample_paths(log, "large", cap=10, orders=8)
    length = np.array([[len(text), 0.0] for text in log.question])
    context = frontier.contexts(length)
    rng = np.random.default_rng(0)
    spent = []
    for i in range(len(log)):
        for p in range(8):
            n, ticket = 0, rng.random()
            while True:
                lead, chase = int(paths.lead[i, p, n]), int(paths.chase[i, p, n])
                if rule.decide(State(n, lead, chase, int(context[i]), ticket)) == STOP:
                    break
                n += 1
            spent.append(n)
    assert np.mean(spent) == pytest.approx(2.5, abs=0.05)


def test_a_saved_frontier_decides_as_before(frontier, tmp_path):
    frontier.save(tmp_path / "policy")
    loaded = load_stopping(tmp_path / "policy")
    assert [path.name for path in (tmp_path / "policy").iterdir()] == [FILE]
    old, new = frontier.at(2.2), loaded.at(2.2)
    assert (old.less, old.more, old.weight) == (new.less, new.more, new.weight)
    for drawn in range(11):
        for lead in range(drawn + 1):
            for ticket in (0.0, 0.99):
                state = State(drawn, lead, min(drawn - lead, lead), 1, ticket)
                assert old.decide(state) == new.decide(state)
    assert loaded.context([12.0, 0.0]) == frontier.context([12.0, 0.0])


def test_a_decision_takes_microseconds(frontier):
    rule, state = frontier.at(2.0), State(3, 2, 1, 1)
    start = time.perf_counter()
    for _ in range(2000):
        rule.decide(state)
    assert (time.perf_counter() - start) / 2000 < 50e-6


def test_serving_loads_no_jax(frontier, tmp_path):
    frontier.save(tmp_path)
    code = (
        "import sys, alloc_jax as aj; rule = aj.load_stopping(sys.argv[1]).at(2.0);"
        "print(rule.decide(aj.vote_state(['1', '2', '1'])), 'jax' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] in (STOP, DRAW)
    assert said.stdout.split()[1] == "False"


def test_a_lower_multiplier_draws_wherever_a_higher_one_does(frontier):
    cheap, dear = frontier.at(1.5), frontier.at(4.0)
    for drawn in range(10):
        for lead in range(drawn + 1):
            state = State(drawn, lead, 0, 2, 0.5)
            assert not (cheap.decide(state) == DRAW and dear.decide(state) == STOP)


def test_everybody_gets_a_first_sample_and_nobody_more_than_the_cap(frontier):
    rule = frontier.at(frontier.spend[0])
    assert rule.decide(State(0)) == DRAW
    assert frontier.at(1e9).decide(State(10, 5, 5)) == STOP


def test_a_budget_beyond_use_is_not_spent(frontier):
    rule = frontier.at(1e9)
    assert rule.weight == 1
    assert rule.more == len(frontier.spend) - 1


def test_a_budget_that_buys_no_first_sample_is_refused(frontier):
    for budget in (0.5, float("nan")):
        with pytest.raises(ValueError, match="what the rule that draws least spends"):
            frontier.at(budget)


@pytest.mark.parametrize("state", [State(2, 3), State(3, 1, 2), State(4, 2, 1, context=9), State(4, -1)])
def test_impossible_states_are_refused(state, frontier):
    with pytest.raises(ValueError, match="no such state"):
        frontier.at(2.0).decide(state)


def test_a_prior_of_another_kind_is_refused(frontier):
    for prior in (None, [1.0], [np.nan, 0.0]):
        with pytest.raises(ValueError, match="prior"):
            frontier.context(prior)


@pytest.mark.parametrize("damage", ["missing", "cut", "version", "index", "field"])
def test_damaged_files_are_refused(damage, frontier, tmp_path):
    frontier.save(tmp_path)
    path = tmp_path / FILE
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        if damage == "version":
            arrays["about"] = np.array(str(arrays["about"]).replace('"schema_version": 1', '"schema_version": 99'))
        elif damage == "index":
            arrays["index"] = np.full_like(arrays["index"], np.nan)
        else:
            del arrays["spend"]
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match="stopping"):
        load_stopping(tmp_path)


def test_answers_become_states():
    assert vote_state([]) == State(0)
    assert vote_state([None, "3"]) == State(2, 1, 0)
    assert vote_state(["3", "4", "3", None, "4", "4"], context=2) == State(6, 3, 2, 2)


def test_a_prior_says_where_a_question_starts_and_what_it_can_gain():
    found = prior_features([[0.2, 0.5, 0.4], [0.9, 0.8, 0.7]])
    np.testing.assert_allclose(found, [[0.2, 0.3], [0.9, 0.0]], atol=1e-6)


def test_public_names_are_there():
    assert aj.solve_sequential is solve_sequential
    assert aj.StoppingFrontier.__name__ == "StoppingFrontier"
