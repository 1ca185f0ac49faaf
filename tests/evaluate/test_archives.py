"""Archives of outcomes: what becomes an action, that halves share no sample, and what is said of a bad file."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from alloc_jax.evaluate.archives import DRAWS, read_archive
from alloc_jax.evaluate.cases import LogConfig

SHARED = Path(__file__).parents[3] / "shared" / "data"


def arrays(questions=30, actions=3, samples=40, seed=0):
    rng = np.random.default_rng(seed)
    chance = rng.random((questions, 1, 1)) * np.linspace(0.4, 1, actions)[:, None]
    return {
        "qid": np.array([f"q{i}" for i in range(questions)]),
        "question": np.array([f"question {i}" for i in range(questions)]),
        "action": np.array([f"model {k}" for k in range(actions)]),
        "correct": (rng.random((questions, actions, samples)) < chance).astype(np.uint8),
        "cost": np.broadcast_to(np.arange(1, actions + 1, dtype=np.float32), (questions, actions)),
        "cost_unit": np.array("samples, counted"),
    }


def saved(folder, **changed):
    np.savez(folder / "made.npz", **{**arrays(), **changed})
    return folder / "made.npz"


def test_many_samples_without_answers_are_draws_that_count_once_one_is_right(tmp_path):
    data = arrays(samples=40)
    case = read_archive(saved(tmp_path), LogConfig())
    assert case.name == "made" and case.halved
    assert [action.samples for action in case.learn.actions] == list(DRAWS)
    last = data["correct"][3, -1, :]
    pairs = np.mean([last[i] or last[j] for i, j in combinations(range(40), 2)])
    assert case.learn.utility[3, 0] == pytest.approx(last.mean(), abs=1e-6)
    assert case.learn.utility[3, 1] == pytest.approx(pairs, abs=1e-6)
    np.testing.assert_array_equal(case.learn.cost[0], DRAWS)


def test_halves_share_no_sample_and_lose_none(tmp_path):
    case = read_archive(saved(tmp_path, correct=np.where(np.arange(40) < 37, arrays()["correct"], 255)), LogConfig())
    np.testing.assert_array_equal(case.choose.samples + case.score.samples, case.learn.samples)
    np.testing.assert_array_equal(case.choose.successes + case.score.successes, case.learn.successes)
    assert (case.learn.samples == 37).all() and (abs(case.choose.samples - case.score.samples) <= 1).all()
    other = read_archive(tmp_path / "made.npz", LogConfig(seed=1))
    assert not np.array_equal(case.choose.successes, other.choose.successes)


def test_single_calls_are_actions_where_their_cost_is_known(tmp_path):
    cost = np.array(arrays()["cost"])
    cost[:, 1] = np.nan
    case = read_archive(saved(tmp_path, correct=arrays()["correct"][:, :, :1], cost=cost), LogConfig())
    assert [action.source for action in case.learn.actions] == ["model 0", "model 2"]
    assert not case.halved
    assert case.learn.units == ("samples",)


def test_a_question_with_an_outcome_missing_is_left_out_and_counted(tmp_path):
    correct = arrays()["correct"][:, :, :1].copy()
    correct[4, 1] = 255
    case = read_archive(saved(tmp_path, correct=correct), LogConfig())
    assert case.dropped == 1 and "q4" not in case.learn.ids


def test_a_question_with_too_few_samples_for_the_most_draws_is_left_out(tmp_path):
    correct = arrays()["correct"].copy()
    correct[4, -1, 31:] = 255  # halves of 16 and 15
    case = read_archive(saved(tmp_path, correct=correct), LogConfig())
    assert case.dropped == 1 and "q4" not in case.learn.ids


def test_dollars_are_of_a_thousand_calls_and_other_units_stay(tmp_path):
    correct = arrays()["correct"][:, :, :1]
    for unit, shown, scale in (("USD per call, estimated", "USD per thousand calls", 1000), ("USD per token", None, 1)):
        case = read_archive(saved(tmp_path, correct=correct, cost_unit=np.array(unit)), LogConfig())
        assert case.learn.units == (shown or unit,)
        np.testing.assert_allclose(case.learn.cost[0], scale * arrays()["cost"][0])


def test_questions_are_drawn_with_all_that_is_known_of_them(tmp_path):
    task = np.array([f"task {i % 4}" for i in range(30)])
    whole = read_archive(saved(tmp_path, task=task), LogConfig())
    some = read_archive(tmp_path / "made.npz", LogConfig(questions=12, seed=3))
    at = [whole.learn.ids.index(name) for name in some.learn.ids]
    assert len(at) == 12
    assert some.learn.group == tuple(task[at])
    np.testing.assert_array_equal(some.learn.utility, whole.learn.utility[at])


@pytest.mark.parametrize("missing", ["cost", "correct", "qid"])
def test_what_an_archive_lacks_is_named(missing, tmp_path):
    np.savez(tmp_path / "made.npz", **{name: part for name, part in arrays().items() if name != missing})
    with pytest.raises(ValueError, match=f"made.npz: an archive of outcomes holds .*'{missing}' is missing"):
        read_archive(tmp_path / "made.npz", LogConfig())


@pytest.mark.parametrize("content", [b"not a zip", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_named(content, tmp_path):
    (tmp_path / "made.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"made\.npz is no archive"):
        read_archive(tmp_path / "made.npz", LogConfig())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real outcomes is not here")
@pytest.mark.parametrize("name", ["oneshot_rlvr_math/dsr784", "openai_gsm8k/gsm8k_verifier", "zeroeval/gsm8k"])
def test_real_archives_become_cases(name):
    case = read_archive(SHARED / f"{name}.npz", LogConfig())
    assert len(case.learn) > 700 and len(case.budgets) == 3
    assert case.learn.valid.all()
