"""Strict numerics for every test, compiled programs that the workers of a run share, and a small log that looks like a real one."""

import os
import shutil

import jax
import numpy as np
import pytest
from absl import flags

from alloc_jax.types import SampleLog, Source
from tests import compiling

jax.config.update("jax_numpy_rank_promotion", "raise")

MADE = pytest.StashKey[str | None]()


def pytest_configure(config):
    """Parses no flags, and lets the workers and the commands of this run share what they compile."""
    flags.FLAGS.mark_as_parsed()
    config.stash[MADE] = compiling.prepare()


def pytest_xdist_auto_num_workers(config):
    """One worker more than there are cores: tests of servers and commands wait, and another may compute meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def pytest_unconfigure(config):
    if made := config.stash.get(MADE, None):
        shutil.rmtree(made, ignore_errors=True)


# `-m fast`: of every stage what compiles little and would notice that the stage is broken. Folders, files, or tests by their names.
FAST = (
    "test_actions.py",
    "test_exports.py",
    "test_house.py",
    "test_price_book.py",
    "test_types.py",
    "collect/test_collect.py",
    "commands/test_cli.py",
    "logs/test_formats.py",
    "logs/test_read_log.py",
    "measure/test_costs.py",
    "measure/test_measure_table.py",
    "measure/test_store.py",
    "solve/test_frontier.py::test_agrees_with_highs",
    "solve/test_frontier.py::test_any_multiplier_bounds_any_plan_within_the_budget",
    "solve/test_frontier.py::test_bad_",
    "solve/test_frontier.py::test_the_exact_frontier_is_the_references",
    "solve/test_solver.py::test_a_budget_that_a_plan_meets_exactly_is_spent_to_the_end",
    "solve/test_one_budget.py::test_agrees_with_the_reference_and_never_overspends[smooth-300x8]",
    "stopping/test_rules.py",
    "learn/test_calibration.py",
    "learn/test_features.py",
    "learn/test_stacking.py",
    "evaluate/test_baselines.py",
    "jobs/test_job_log.py",
    "evaluate/test_regret.py",
    "report/test_pictures.py",
    "jobs/test_console.py",
    "serve/test_core.py",
    "serve/test_ledger.py",
    "serve/test_pacing.py",
)

# What takes long there.
NOT_FAST = (
    "test_exports.py::test_a_table_is_solved_as_it_is",
    "test_exports.py::test_transformations_take_the_package_for_its_function",
    "collect/test_collect.py::test_a_fault_in_passing_costs_no_sample[hang]",
    "collect/test_collect.py::test_a_fault_while_finishing_charges_for_what_was_thought",
    "collect/test_collect.py::test_a_run_that_is_killed_goes_on_and_gets_every_sample_exactly_once",
    "collect/test_collect.py::test_ctrl_c_closes_the_journal",
    "collect/test_collect.py::test_every_request_has_a_seed_of_its_own_which_a_resumed_run_repeats",
    "collect/test_collect.py::test_n_is_a_request_and_no_promise",
    "collect/test_collect.py::test_options_that_change_nothing_are_pointed_out",
    "collect/test_collect.py::test_repeats_that_are_equal_are_pointed_out",
    "collect/test_collect.py::test_shards_merge_and_a_sample_in_two_of_them_is_refused",
    "collect/test_collect.py::test_the_dollar_limit_needs_a_price_and_holds",
    "collect/test_collect.py::test_the_token_limit_",
    "commands/test_cli.py::test_a_log_is_named_without_a_flag",
    "jobs/test_console.py::test_scripts_say_what_is_wrong_in_a_line",
    "learn/test_calibration.py::test_a_ceiling_keeps_the_promise_where_a_few_questions_are_dear",
    "learn/test_features.py::test_any_text_gives_finite_features_that_do_not_depend_on_the_batch",
    "report/test_pictures.py::test_every_picture_is_small_and_told_in_words_with_its_numbers",
    "serve/test_core.py::test_answers_that_say_the_same_share_a_vote",
    "serve/test_core.py::test_mathematics_votes_on_what_it_means",
    "serve/test_ledger.py::test_processes_share_a_ledger_one_cap_and_one_pace_and_settle_for_those_that_are_killed",
    "evaluate/test_regret.py::test_without_the_slack_term_the_bound_is_false",
)


# A file stays with one worker: those that take longest come first, or one worker would end on them while the others wait.
LONGEST = (
    "jobs/test_job.py",
    "stopping/test_escalate.py",
    "learn/test_policy.py",
    "solve/test_one_budget.py",
    "logs/test_grade.py",
    "stopping/test_sequential.py",
    "jobs/test_escalate_job.py",
    "solve/resources/test_kernel.py",
    "solve/test_solver.py",
    "solve/test_envelope.py",
    "collect/test_collect.py",
    "logs/test_broken_logs.py",
    "measure/test_estimators.py",
    "serve/planning/test_escalator.py",
    "solve/test_streaming.py",
    "solve/test_frontier.py",
    "evaluate/comparison/test_trees.py",
    "logs/test_real_logs.py",
    "serve/planning/test_stopper.py",
    "measure/test_commands.py",
    "measure/test_vote_estimates.py",
    "serve/test_command.py",
    "collect/test_commands.py",
    "docs/test_docs.py",
    "serve/web/test_neighbours.py",
)


def pytest_collection_modifyitems(items):
    """Marks the fast tests, and puts the longest files first."""
    chosen, left_out = (tuple(f"tests/{name}" for name in names) for names in (FAST, NOT_FAST))
    for item in items:
        if item.nodeid.startswith(chosen) and not item.nodeid.startswith(left_out) and "long" not in item.keywords:
            item.add_marker(pytest.mark.fast)
    place = {f"tests/{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


# What checks the solver's claims to the last digit, on programs as LLVM optimises them: `tests/compiling.py` says why.
OPTIMISED = (
    "tests/solve/test_one_budget.py",
    "tests/solve/test_audit.py",
    "tests/solve/resources/test_audit.py",
)


@pytest.fixture(autouse=True, scope="module")
def programs(request):
    """Some modules test optimised programs; no worker holds too many programs."""
    compiling.optimise(request.node.nodeid.startswith(OPTIMISED))
    yield
    compiling.forget_if_many()


def made_log(questions: int = 200, samples: int = 16, seed: int = 0) -> SampleLog:
    """A log of sums of a few numbers: longer sums are harder, `large` is better than `small` and dearer."""
    rng = np.random.default_rng(seed)
    terms = rng.integers(2, 9, questions)
    text = ["+".join(str(rng.integers(1, 10)) for _ in range(n)) for n in terms]
    chance = np.stack([np.exp(-0.35 * (terms - 1)), np.exp(-0.15 * (terms - 1))], axis=1)
    correct = rng.random((questions, 2, samples)) < chance[:, :, None]
    answer = np.where(correct, 0, rng.integers(1, 4, correct.shape)).astype(np.int32)
    tokens = (3 * terms[:, None, None] + rng.integers(0, 3, correct.shape)).astype(np.float32)
    return SampleLog(
        ids=tuple(f"q{i}" for i in range(questions)),
        question=tuple(text),
        gold=("0",) * questions,
        group=tuple(str(n) for n in terms),
        sources=(Source("small", 1e5), Source("large", 3e5)),
        answers=(("0", "1", "2", "3"),) * questions,
        count=np.full((questions, 2), samples, np.int32),
        answer=answer,
        correct=correct,
        completion_tokens=tokens,
    )


@pytest.fixture(scope="session")
def log() -> SampleLog:
    return made_log()
