"""Early stopping of an evaluation: a vote within a budget, and a benchmark's mean with the smallest standard error."""

import asyncio
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from alloc_jax.serve.epochs import MeanEpochs, VoteEpochs, doubling_epochs, expected_variance, neyman_epochs
from alloc_jax.stopping.rules import StoppingFrontier, load_stopping
from tests.real_tools import ROOT, needs_tool, reasoner, run


def all_allocations(questions, least, most, total):
    return [n for n in itertools.product(range(least, most + 1), repeat=questions) if sum(n) <= total]


@pytest.mark.parametrize("seed", range(5))
def test_no_allocation_makes_the_mean_more_exact(seed):
    variance = np.random.default_rng(seed).uniform(0, 0.25, 4).round(2)
    found = neyman_epochs(variance, budget=3.5, least=1, most=6)
    assert found.sum() <= 14 and found.min() >= 1 and found.max() <= 6
    best = min((variance / np.array(n)).sum() for n in all_allocations(4, 1, 6, 14))
    assert (variance / found).sum() == pytest.approx(best)


def test_what_always_says_the_same_gets_the_least():
    assert neyman_epochs(np.zeros(3), 5, 2, 8).tolist() == [2, 2, 2]
    assert neyman_epochs(np.full(3, 0.2), 8, 2, 8).tolist() == [8, 8, 8]


@pytest.mark.parametrize("seed", range(3))
def test_doublings_are_within_the_budget_and_nearly_the_best_of_their_kind(seed):
    variance = np.random.default_rng(seed).uniform(0, 0.25, 5).round(2)
    found = doubling_epochs(variance, budget=3.5, most=8)
    assert set(found) <= {1, 2, 4, 8} and found.sum() <= 17
    every = [n for n in itertools.product((1, 2, 4, 8), repeat=5) if sum(n) <= 17]
    best = min((variance / np.array(n)).sum() for n in every)
    assert best <= (variance / found).sum() < 1.15 * best
    assert doubling_epochs(np.zeros(3), 4, 8).tolist() == doubling_epochs(np.ones(3), 4, 1).tolist() == [1, 1, 1]


def run_mean(stopping, samples, names):
    """Asks every question until it is told to stop; the mean of the questions' means, and the epochs."""
    stopping.begin(names, samples.shape[1])
    for epoch in range(samples.shape[1]):
        for i, name in enumerate(names):
            if stopping.worth(name):
                stopping.admitted[name] += 1
                stopping.see(name, None, float(samples[i, epoch]))
    return np.mean([np.mean(stopping.values[name]) for name in names]), sum(stopping.admitted.values())


def test_the_mean_is_unbiased_and_more_exact_than_with_equal_epochs():
    rng = np.random.default_rng(0)
    chance = np.concatenate([np.full(30, 0.97), np.full(30, 0.5)])
    variance = chance * (1 - chance)
    names = [f"q{i}" for i in range(60)]
    groups = {name: "easy" if i < 30 else "hard" for i, name in enumerate(names)}
    found, left = [], []
    for _ in range(200):
        stopping = MeanEpochs(budget=6, groups=groups)
        mean, asked = run_mean(stopping, rng.random((60, 12)) < chance[:, None], names)
        assert asked <= 6 * 60
        found.append(mean)
        left.append((variance / [stopping.wanted[name] for name in names]).mean() / 60)
    assert abs(np.mean(found) - chance.mean()) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.var(found) == pytest.approx(np.mean(left), rel=0.4)
    assert np.mean(left) < 0.88 * variance.mean() / 6 / 60


def test_a_question_gets_no_more_because_its_own_answers_differ():
    """Else its mean would be biased: only the answers of others count for it, and its own for them."""
    plans = []
    for own in ([1.0, 1.0], [1.0, 0.0]):
        stopping = MeanEpochs(budget=3)
        stopping.begin(["a", "b", "c"], 8)
        for name, values in zip("abc", (own, [1.0, 0.0], [1.0, 0.0]), strict=True):
            for value in values:
                stopping.see(name, None, value)
        plans.append(stopping.plan())
    assert plans[0]["a"] >= plans[1]["a"] and plans[0]["b"] <= plans[1]["b"]


def test_an_earlier_run_says_where_epochs_help():
    rng = np.random.default_rng(1)
    chance = rng.beta(0.5, 0.5, 4000)
    variance = chance * (1 - chance)
    earlier = {str(i): rng.random(8) < p for i, p in enumerate(chance)}
    expected = np.array(list(expected_variance(earlier).values()))
    assert expected.mean() == pytest.approx(variance.mean(), rel=0.05)
    for low, high in ((0.0, 0.06), (0.06, 0.15), (0.15, 0.25)):  # calibrated: among those of which so much is expected
        some = (expected > low) & (expected <= high)
        assert expected[some].mean() == pytest.approx(variance[some].mean(), rel=0.1)
    stopping = MeanEpochs(budget=4, expected=dict(zip(earlier, expected, strict=True)), least=1)
    stopping.begin(list(earlier), 16)
    epochs = np.array(list(stopping.plan().values()))
    assert epochs.mean() == pytest.approx(4)
    assert (variance / epochs).mean() < 0.95 * variance.mean() / 4
    with pytest.raises(ValueError, match="no variance is expected of 1 questions, the first of them 'new'"):
        stopping.begin(["0", "new"], 16)
        stopping.plan()


@pytest.mark.parametrize("given", [{}, {"a": [True]}, {"a": [True, False], "b": [True] * 3}])
def test_an_earlier_run_that_tells_nothing_is_refused(given):
    with pytest.raises(ValueError, match="same number of outcomes"):
        expected_variance(given)


@pytest.mark.parametrize(("budget", "least"), [(1.5, 2), (4, 1)])
def test_too_few_epochs_are_refused(budget, least):
    with pytest.raises(ValueError, match="least is 2 or more"):
        MeanEpochs(budget=budget, least=least)


def two_then_agree(**changes):
    """Rules that draw two, and go on to four where these differ."""
    index = np.zeros((1, 1, 4, 25), np.float32)
    index[0, 0, :2] = 1.0
    index[0, 0, 2:, 1 * 5 + 1] = 1.0
    parts = dict(
        answer="vote", sources=("m",), resource="samples", unit="samples", width=5, index=index,
        multiplier=np.array([0.5, 0.4], np.float32), spend=np.array([2.0, 2.5]), utility=np.array([0.5, 0.6]),
        choice=np.zeros((2, 1), np.int8), center=np.zeros((1, 0), np.float32), mean=np.zeros(0, np.float32),
        scale=np.ones(0, np.float32), bins=np.zeros(0, np.float32),
    )  # fmt: skip
    return StoppingFrontier(**{**parts, **changes})


def test_a_clear_vote_stops_and_an_open_one_goes_on():
    stopping = VoteEpochs(two_then_agree().at(2.5))
    stopping.begin(["clear", "open"], 8)
    for name, answers in (("clear", "77"), ("open", "73")):
        for answer in answers:
            assert stopping.worth(name)
            stopping.admitted[name] += 1
            stopping.see(name, answer, 0.0)
    assert not stopping.worth("clear") and stopping.worth("open")


def test_rules_that_do_not_vote_or_read_texts_are_refused():
    with pytest.raises(ValueError, match="verified"):
        VoteEpochs(two_then_agree(answer="verified").at(2.5))
    with pytest.raises(ValueError, match="features of the text"):
        VoteEpochs(two_then_agree(center=np.zeros((1, 2), np.float32)).at(2.5))


def test_scores_are_read_as_inspect_writes_them():
    stopping = MeanEpochs(budget=2)
    stopping.begin(["1"], 4)
    for value in ("C", "I", 0.25):
        score = SimpleNamespace(score=SimpleNamespace(answer="x", value=value))
        asyncio.run(stopping.complete_sample(1, 1, {"match": score}))
    assert stopping.values["1"] == [1.0, 0.0, 0.25]
    with pytest.raises(ValueError, match="several scorers"):
        asyncio.run(stopping.complete_sample(1, 1, {"a": None, "b": None}))


INSPECT_RUN = """
import json, sys
sys.path.insert(0, {root!r})
from inspect_ai import Epochs, Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate
from alloc_jax.serve.epochs import MeanEpochs, VoteEpochs
from alloc_jax.stopping.rules import load_stopping

asked = json.load(open("questions.json"))
samples = [Sample(id=q["id"], input=f"T{{q['text']}}=", target=q["gold"]) for q in asked]
stopping = [MeanEpochs(budget=3, groups={{q["id"]: q["group"] for q in asked}}), VoteEpochs(load_stopping("rules").at(2.5))]
for early in stopping:
    task = Task(dataset=samples, solver=generate(), scorer=pattern(r"#(-?[0-9]+)"), early_stopping=early)
    (log,) = eval(task, model="openai-api/toy/small", epochs=Epochs(8), max_samples=4, temperature=1.0, display="none", log_dir="logs")
    assert log.status == "success", log.error
    said = log.results.early_stopping
    with open("said.jsonl", "a") as file:
        print(json.dumps({{"manager": said.manager, "stops": len(said.early_stops), "logged": len(log.samples), **said.metadata}}), file=file)
"""


@pytest.mark.tools
@pytest.mark.long
def test_inspect_asks_no_more_than_what_is_worth_it(tmp_path):
    python = needs_tool("inspect").with_name("python")
    sums = {"4+5": "9", "7-3+6": "10", "2*8": "16", "9+9-4": "14", "(3+4)*2": "14", "6*7-5": "37"}
    asked = [
        {"id": f"q{i}", "text": text, "gold": gold, "group": "one" if len(text) < 4 else "more"}
        for i, (text, gold) in enumerate(sums.items())
    ]
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    (tmp_path / "rules").mkdir()
    two_then_agree().save(tmp_path / "rules")
    assert load_stopping(tmp_path / "rules").cap == 4
    (tmp_path / "run.py").write_text(INSPECT_RUN.format(root=str(ROOT)))
    with reasoner(tmp_path) as url:
        run([python, "run.py"], tmp_path, TOY_BASE_URL=url, TOY_API_KEY="none")
    mean, votes = map(json.loads, (tmp_path / "said.jsonl").read_text().splitlines())
    for said in (mean, votes):
        assert (
            said["asked"] + said["skipped"] == 6 * 8
            and said["stops"] == said["skipped"]
            and said["logged"] == said["asked"]
        )
    assert mean["manager"] == "alloc_jax: mean" and mean["asked"] <= 3 * 6
    assert votes["manager"] == "alloc_jax: votes" and 2 * 6 <= votes["asked"] <= 4 * 6
