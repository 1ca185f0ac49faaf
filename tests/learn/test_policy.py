"""Multipliers meet budgets, policies come back from disk as they were, and serving needs no JAX."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.collect import Recipe
from alloc_jax.learn import PolicyConfig, TextFeatures, export_policy, inference, load_policy, train
from alloc_jax.learn.calibration import Prediction, Unseen, _crossing, calibrate
from alloc_jax.learn.fitting import Network
from alloc_jax.learn.inference import at_rest, forward, forward_one, standardise
from alloc_jax.learn.policy import read_head
from alloc_jax.measure import measure, menu
from alloc_jax.price_book import TokenPrice
from alloc_jax.serve import allocator, worst_cost
from alloc_jax.stopping.rules import lottery
from tests.conftest import made_log

QUICK = PolicyConfig(folds=2, left_out=1, epochs=5, hidden=(8,))


@pytest.fixture(scope="module")
def table(log):
    return measure(log, menu(log, votes=(1, 4)), "compute")


@pytest.fixture(scope="module", params=["value", "imitation", "decision"])
def policy(request, table):
    return train(table, replace(QUICK, kind=request.param, budgets=(0.5, 1.0)))


def random_prediction(rng, n=300, k=4, ties=False):
    score = rng.integers(0, 4, (n, k)) / 4 if ties else rng.random((n, k))
    cost = np.tile([1.0, 2.0, 4.0, 8.0], (n, 1)) if ties else np.sort(rng.random((n, k)) * 8, axis=1)
    return Prediction(score.astype(np.float32), cost.astype(np.float32))


@pytest.mark.parametrize("ties", [False, True])
def test_the_calibrated_multiplier_spends_the_budget(ties):
    rng = np.random.default_rng(0)
    prediction = random_prediction(rng, ties=ties)
    cost = prediction.cost * rng.uniform(0.5, 1.5, prediction.cost.shape)  # what was measured is not what was predicted
    rows = np.arange(len(cost))
    lowest, highest = (cost[rows, prediction.best_response(multiplier)].mean() for multiplier in (1e9, 0.0))
    for budget in np.linspace(lowest, highest, 9)[1:-1]:
        multiplier = _crossing(prediction, cost, budget, negative=False)
        spends = [cost[rows, prediction.best_response(end)].mean() for end in (multiplier.low, multiplier.high)]
        assert spends[1] <= budget <= spends[0]
        np.testing.assert_allclose(
            multiplier.weight * spends[0] + (1 - multiplier.weight) * spends[1], budget, rtol=1e-6
        )
        assert multiplier.low <= multiplier.mean <= multiplier.high
        assert (
            0.98 * budget < calibrate(prediction, cost, budget).spends(prediction, cost).mean() <= budget * (1 + 1e-6)
        )


def test_an_ensemble_spends_what_was_extrapolated_from_half_of_it():
    # Twelve members err independently on 20,000 questions; multipliers are set by six of them and deployed on all.
    rng = np.random.default_rng(5)
    truth = np.sort(rng.random((20_000, 4)), axis=1) ** 2
    cost = np.tile(np.float32([1, 2, 4, 8]), (len(truth), 1))
    members = (truth + rng.normal(0, 0.25, (12, *truth.shape))).astype(np.float32)

    def average(some):
        return Prediction(members[some].mean(axis=0), cost)

    half = average(slice(0, 6))
    unseen = Unseen(half, (average(slice(0, 6, 2)), average(slice(1, 6, 2))), reach=0.5)
    for budget in (2.0, 3.0):
        plain, extrapolated = (
            abs(average(slice(12)).spend(calibrate(known, cost, budget).mean, cost) / budget - 1)
            for known in (half, unseen)
        )
        assert extrapolated < 0.6 * plain


def test_a_budget_nobody_needs_has_multiplier_0():
    prediction = random_prediction(np.random.default_rng(1))
    assert calibrate(prediction, prediction.cost, 100.0).mean == 0


def test_a_budget_below_the_cheapest_plan_is_refused():
    prediction = random_prediction(np.random.default_rng(2))
    with pytest.raises(ValueError, match="below the policy's cheapest plan"):
        calibrate(prediction, prediction.cost + 1, 0.5)


def test_the_lottery_is_uniform_and_repeats():
    ids = [f"q{i}" for i in range(4000)]
    drawn = lottery(ids)
    np.testing.assert_array_equal(drawn, lottery(ids))
    assert (drawn != lottery(ids, seed=1)).any()
    assert abs(np.mean(drawn < 0.3) - 0.3) < 4 * np.sqrt(0.21 / 4000)


def test_numpy_answers_as_flax_does():
    network = Network((16, 8), 5)
    keys = jax.random.split(jax.random.key(0), 3)
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    params = jax.vmap(lambda key: network.init(key, jnp.asarray(x))["params"])(keys)
    weights = {f"{layer}/{name}": np.asarray(leaf) for layer, part in params.items() for name, leaf in part.items()}
    weights |= {"feature_mean": np.full(6, 0.1, np.float32), "feature_scale": np.full(6, 2.0, np.float32)}
    inputs = jnp.asarray(standardise(x, weights["feature_mean"], weights["feature_scale"]))
    expected = jax.vmap(lambda params: network.apply({"params": params}, inputs))(params)
    np.testing.assert_allclose(forward(weights, x), expected, atol=1e-5)


def test_many_questions_get_the_answers_of_few(policy, table, monkeypatch):
    features = policy.featurizer.encode(table.question)
    whole = forward(policy.weights, features)
    monkeypatch.setattr(inference, "ROWS", 64)
    np.testing.assert_allclose(forward(policy.weights, features), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("direct", [False, True])
def test_a_question_alone_gets_the_answers_of_a_batch(direct):
    rng = np.random.default_rng(1)
    x = np.where(rng.random((40, 30)) < 0.3, rng.normal(size=(40, 30)) * 40, 0).astype(np.float32)
    x[0] = 0
    weights = {
        f"Dense_{i}/kernel": rng.normal(size=(3, a, b)) / 5 for i, (a, b) in enumerate([(30, 8), (8, 8), (8, 5)])
    }
    weights |= {f"Dense_{i}/bias": rng.normal(size=(3, b)) for i, b in enumerate((8, 8, 5))}
    weights |= {"feature_mean": rng.normal(size=30) * 3, "feature_scale": np.where(np.arange(30) == 4, np.inf, 2.0)}
    if direct:
        weights["Direct/kernel"] = rng.normal(size=(3, 30, 5)) / 5
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    rest, expected = at_rest(weights), forward(weights, x)
    for i, row in enumerate(x):
        np.testing.assert_allclose(forward_one(weights, rest, row[None])[:, 0], expected[:, i], rtol=1e-4, atol=1e-4)


def test_policies_come_back_as_they_were(policy, table, tmp_path):
    policy.save(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy")
    for budget in (0.5, 1.0):
        for a, b in zip(
            vars(policy.predict(table.question, budget)).values(),
            vars(loaded.predict(table.question, budget)).values(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
        assert policy.multiplier(budget) == loaded.multiplier(budget)


def test_a_prediction_says_how_far_the_members_disagree(policy, table):
    outputs = forward(policy.weights, policy.featurizer.encode(table.question[:5]))
    scores = [read_head(member, policy.weights, policy.head(1.0)).score for member in outputs]
    spread = policy.predict(table.question[:5], 1.0).spread
    np.testing.assert_allclose(spread, np.std(scores, axis=0), rtol=1e-4, atol=1e-6)
    assert spread.max() > 0


def test_only_what_is_served_is_kept(policy, table):
    actions = len(table.actions)
    expected = 3 * actions if policy.kind == "imitation" else 2 * actions + 1
    assert policy.weights["Dense_1/bias"].shape[1] == expected


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (dict(), dict(shared_weight=0.0)),
        (dict(), dict(stacked=False)),
        (dict(kind="imitation", budgets=(0.5,)), dict(labels="soft")),
        (dict(kind="imitation", budgets=(0.5,)), dict(labels="regret")),
        (dict(kind="imitation", budgets=(0.5,), labels="soft"), dict(temperature=0.2)),
    ],
)
def test_every_option_of_training_changes_what_is_learned(base, change, table):
    one, other = (train(table, replace(QUICK, epochs=2, **{**base, **more})) for more in ({}, change))
    assert (one.calibration[0].whole.score != other.calibration[0].whole.score).any()


def test_other_features_are_refused(policy, tmp_path):
    policy.save(tmp_path / "policy")
    with pytest.raises(ValueError, match="was trained on features"):
        load_policy(tmp_path / "policy", TextFeatures(word_buckets=7))


def test_an_unknown_schema_and_a_missing_file_are_named(policy, tmp_path):
    policy.save(tmp_path / "policy")
    described = json.loads((tmp_path / "policy" / "policy.json").read_text())
    (tmp_path / "policy" / "policy.json").write_text(json.dumps({**described, "schema_version": 99}))
    with pytest.raises(ValueError, match="schema version 99"):
        load_policy(tmp_path / "policy")
    (tmp_path / "policy" / "policy.npz").unlink()
    with pytest.raises(ValueError, match=r"policy.npz is missing"):
        load_policy(tmp_path / "policy")


def test_each_question_is_calibrated_by_networks_that_have_not_seen_it():
    # Labels that are pure noise cannot be predicted by networks that have not seen them.
    log = made_log(questions=200, samples=2)
    table = measure(log, menu(log, votes=(1,)), "compute")
    noise = np.random.default_rng(0).random(table.utility.shape).astype(np.float32)
    policy = train(replace(table, utility=noise), replace(QUICK, epochs=60, hidden=(64,), folds=4))
    gain = noise[:, 1] - noise[:, 0]
    unseen = policy.calibration[0].whole.score[:, 1] - policy.calibration[0].whole.score[:, 0]
    assert abs(np.corrcoef(gain, unseen)[0, 1]) < 0.25


def test_training_learns_what_text_tells(table):
    policy = train(table, replace(QUICK, epochs=60, hidden=(32,), folds=4))
    hard = np.array([len(text) for text in table.question])
    assert np.corrcoef(policy.calibration[0].whole.score.mean(axis=1), hard)[0, 1] < -0.5
    # Cost is nearly a function of the length here.
    ratio = policy.calibration[0].whole.cost / table.cost
    assert np.median(np.abs(ratio - 1)) < 0.15


def test_the_same_seed_trains_the_same_policy(table):
    first, again, other = (train(table, replace(QUICK, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.weights["Dense_0/kernel"], again.weights["Dense_0/kernel"])
    assert (first.weights["Dense_0/kernel"] != other.weights["Dense_0/kernel"]).any()


@pytest.mark.parametrize(
    "kind", ["value", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("imitation", "decision"))]
)
def test_training_draws_from_no_key_twice(table, kind):
    with jax.debug_key_reuse(True):  # the widths are of this test alone: only a program that is traced anew is checked
        train(table, replace(QUICK, kind=kind, budgets=(0.5,), hidden=(5,), epochs=2))


@pytest.mark.long
def test_a_numpy_integer_is_a_seed(table, policy, tmp_path):
    plain, numpy = (train(table, replace(QUICK, seed=seed)) for seed in (3, np.int64(3)))
    np.testing.assert_array_equal(plain.weights["Dense_0/kernel"], numpy.weights["Dense_0/kernel"])
    np.testing.assert_array_equal(lottery(["a", "b"], 3), lottery(["a", "b"], np.uint8(3)))
    assert allocator(policy, 0.8, seed=np.int32(3)).choose("2+3") == allocator(policy, 0.8, seed=3).choose("2+3")
    train(table, replace(QUICK, kind="imitation", budgets=(np.float32(0.5),))).save(tmp_path / "policy")
    assert load_policy(tmp_path / "policy").budgets == (0.5,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kind="guess"), "unknown policy kind 'guess'"),
        (dict(kind="imitation"), "set budgets"),
        (dict(folds=1), "leave out 1 fold"),
        (dict(labels="firm"), "unknown labels 'firm'"),
        (dict(temperature=0.0), "a temperature is above 0"),
        (dict(shared_weight=-1.0), "a weight at least 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PolicyConfig(**change)


def unseen_by_members(table, config, monkeypatch):
    """bool[members, N] the questions that each member of the ensemble does not learn from."""
    found = []

    def fit(config, x, targets, unseen, key, mesh):
        found.append(unseen)
        raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("alloc_jax.learn.training.fit", fit)
        train(table, config)
    return found[0]


def test_members_leave_out_questions_of_one_text_together(table, monkeypatch):
    config = PolicyConfig(folds=5, left_out=2)
    count = len(table)
    apart = replace(table, question=tuple(f"{i} {text}" for i, text in enumerate(table.question)))
    fold_key, _ = jax.random.split(jax.random.key(config.seed))
    fold = np.asarray(jax.random.permutation(fold_key, count)) % config.folds
    pairs = np.array(list(combinations(range(config.folds), 2)))
    by_row = (fold == pairs[:, :, None]).any(axis=1)
    np.testing.assert_array_equal(unseen_by_members(apart, config, monkeypatch), by_row)

    twins = replace(table, question=tuple(f"Question {i % (count // 2)}" for i in range(count // 2)) * 2)
    unseen = unseen_by_members(twins, config, monkeypatch)
    np.testing.assert_array_equal(unseen[:, : count // 2], unseen[:, count // 2 :])
    assert 0 < unseen[0].sum() < count
    with pytest.raises(ValueError, match="needs 10 questions or more, got 8 of different texts"):
        train(replace(table, question=tuple(str(i % 8) for i in range(count))), config)


def test_members_leave_out_groups_where_the_questions_to_come_are_of_others(table, monkeypatch):
    config, count = PolicyConfig(folds=5, left_out=2, by_group=True), len(table)
    apart = replace(table, question=tuple(f"{i} {text}" for i, text in enumerate(table.question)))
    place = np.arange(count) % 20
    unseen = unseen_by_members(replace(apart, group=tuple(map(str, place))), config, monkeypatch)
    np.testing.assert_array_equal(unseen, unseen[:, :20][:, place])
    assert 0 < unseen[0].sum() < count
    with pytest.raises(ValueError, match="needs 10 groups or more, got 2"):
        train(replace(apart, group=("a", "b") * (count // 2)), config)
    with pytest.raises(ValueError, match="has no group"):
        train(replace(apart, group=(None,) * count), config)


def test_tables_that_cannot_be_learned_from_are_refused(table, log):
    for rows in ([0, 1, 2], [0]):
        with pytest.raises(ValueError, match=f"needs 4 questions or more, got {len(rows)}"):
            train(table.select(rows), QUICK)
    with pytest.raises(ValueError, match="training diverged"):
        train(table, replace(QUICK, learning_rate=1e30))
    valid = table.valid.copy()
    valid[5, 1] = False
    with pytest.raises(ValueError, match=r"question 'q5' has no samples for vote\(small,4\)"):
        train(replace(table, valid=valid), QUICK)
    with pytest.raises(ValueError, match="one multiplier, for one resource"):
        train(measure(log, menu(log, votes=(1,)), ("samples", "compute")), QUICK)


def test_the_allocator_keeps_its_budget_and_explains_itself(policy, table):
    serve = allocator(policy, 0.8, calibration=table)
    decisions = [serve.choose(text, name) for text, name in zip(table.question, table.ids, strict=True)]
    columns = [policy.actions.index(decision.action) for decision in decisions]
    assert abs(table.cost[np.arange(len(table)), columns].mean() - 0.8) < 0.05
    assert all(decision.margin >= 0 and decision.runner_up != decision.action for decision in decisions)
    assert serve.choose("2+3") == serve.choose("2+3")


def test_the_exported_program_answers_as_the_policy_does(policy, table):
    features = policy.featurizer.encode(table.question[:7])
    program = jax.export.deserialize(bytearray(export_policy(policy, 1.0)))
    expected = policy.predict_features(features, 1.0)
    for rows in (slice(7), slice(1)):
        score, cost = program.call(features[rows])
        np.testing.assert_allclose(score, expected.score[rows], atol=1e-5)
        np.testing.assert_allclose(cost, expected.cost[rows], rtol=1e-4)


def test_a_damaged_policy_and_features_of_another_width_are_refused(policy, tmp_path):
    with pytest.raises(ValueError, match=r"reads features of shape \[N, \d+\], got \(2, 3\)"):
        policy.predict_features(np.zeros((2, 3), np.float32))
    broken = policy.weights | {"Dense_0/bias": np.full_like(policy.weights["Dense_0/bias"], np.nan)}
    replace(policy, weights=broken).save(tmp_path / "policy")
    with pytest.raises(ValueError, match="is damaged: weights/Dense_0/bias is not finite"):
        load_policy(tmp_path / "policy")


def test_a_calibration_table_that_does_not_fit_is_refused(policy, table, log):
    with pytest.raises(ValueError, match=r"was trained for the actions .* the calibration table has"):
        allocator(policy, 0.8, calibration=measure(log, menu(log, votes=(1,)), "compute"))
    with pytest.raises(ValueError, match=r"is paid in compute .* the calibration table in samples"):
        allocator(policy, 0.8, calibration=replace(table, resources=("samples",), units=("samples",)))
    holes = table.valid.copy()
    holes[3, 1] = False
    with pytest.raises(ValueError, match=r"calibration question 'q3' has no samples for vote\(small,4\)"):
        allocator(policy, 0.8, calibration=replace(table, valid=holes))


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), 1e-9])
def test_a_budget_that_cannot_be_kept_is_refused_and_a_large_one_buys_what_is_useful(policy, budget):
    with pytest.raises(ValueError, match="budget"):
        allocator(policy, budget)
    assert np.isfinite(allocator(policy, 1e9).multiplier.mean)


def test_more_confidence_spends_less(policy, table):
    plain = allocator(policy, 1.5, calibration=table).multiplier
    sure = allocator(policy, 1.5, calibration=table, delta=0.2, ceiling=float(table.cost.max())).multiplier
    prediction = policy.predict(table.question, 1.5)
    spends = [multiplier.spends(prediction, table.cost).mean() for multiplier in (plain, sure)]
    assert 0.98 * 1.5 < spends[0] <= 1.5 + 1e-6
    assert spends[1] < 0.99 * spends[0]


def test_a_confidence_needs_other_questions_and_a_ceiling(policy, table, log):
    with pytest.raises(ValueError, match="delta needs calibration questions"):
        allocator(policy, 1.5, delta=0.2, ceiling=20.0)
    with pytest.raises(ValueError, match=r"delta=0\.2 needs a ceiling, the most that one question can cost in mean"):
        allocator(policy, 1.5, calibration=table, delta=0.2)
    with pytest.raises(ValueError, match="a ceiling of 20 serves a confidence"):
        allocator(policy, 1.5, calibration=table, ceiling=20.0)


def test_the_ceiling_is_known_where_samples_are_paid(policy, table, log):
    counted = measure(log, menu(log, votes=(1, 4)), "samples")
    paid = replace(policy, resource="samples", unit="samples")
    found = allocator(paid, 2.5, calibration=counted, delta=0.2)
    assert found == allocator(paid, 2.5, calibration=counted, delta=0.2, ceiling=4.0)


RECIPES = {
    "small": Recipe(name="small", model="s", max_tokens=64, parameters=1e6),
    "large": Recipe(name="large", model="l", max_tokens=256, parameters=2e6),
}
PRICE = TokenPrice(model="l", input=1.0, output=4.0, source="a page", date="2025-01-01")


@pytest.mark.parametrize(
    ("resource", "unit", "given", "expected"),
    [
        ("samples", "samples", {}, 4),
        ("completion_tokens", "completion tokens", {}, 4 * 256),
        ("tokens", "completion tokens", {}, 4 * 256),
        ("tokens", "prompt + completion tokens", {"prompt_tokens": 100}, 4 * 356),
        ("prompt_tokens", "prompt tokens", {"prompt_tokens": 100}, 400),
        ("usd", "usd", {"prompt_tokens": 100, "prices": {"s": PRICE, "l": PRICE}}, 4 * (100 + 4 * 256) / 1e6),
        ("compute", "mean large samples", {"prompt_tokens": 100, "compute_unit": 1e6}, 4 * 356 * 2),
        ("tokens", "prompt + completion tokens", {}, "largest cost in tokens without prompt_tokens"),
        ("usd", "usd", {"prompt_tokens": 100}, "without a price of model 's'"),
        ("compute", "units", {"prompt_tokens": 100}, "without compute_unit"),
        ("seconds", "seconds", {}, "no recipe limits seconds"),
    ],
)
def test_recipes_say_the_most_that_a_question_can_cost(policy, resource, unit, given, expected):
    paid = replace(policy, resource=resource, unit=unit)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            worst_cost(paid, RECIPES, **given)
    else:
        assert worst_cost(paid, RECIPES, **given) == pytest.approx(expected)


def test_recipes_without_a_limit_or_a_source_know_no_ceiling(policy):
    paid = replace(policy, resource="completion_tokens", unit="completion tokens")
    with pytest.raises(
        ValueError, match="source 'large': one sample has no largest cost in completion_tokens without max_tokens"
    ):
        worst_cost(paid, RECIPES | {"large": Recipe(name="large", model="l")})
    with pytest.raises(ValueError, match="no recipe for source 'large'"):
        worst_cost(paid, {"small": RECIPES["small"]})


def test_a_table_that_leaves_nothing_to_decide_names_the_cheapest_action(table, log):
    with pytest.raises(ValueError, match=r"nothing is to be decided, take vote\(small,1\)"):
        train(measure(log, menu(log, votes=(1,))[:1], "compute"), QUICK)
    with pytest.raises(ValueError, match=r"nothing is to be decided, take vote\(small,1\)"):
        train(replace(table, utility=np.full_like(table.utility, 0.5)), QUICK)


def test_serving_never_imports_jax(policy, tmp_path):
    policy.save(tmp_path / "policy")
    code = (
        "import sys, alloc_jax as aj\n"
        f"print(aj.allocator({str(tmp_path / 'policy')!r}, 0.8).choose('2+3').action)\n"
        "assert not {'jax', 'flax', 'optax'} & set(sys.modules), 'serving loaded JAX'"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() in policy.actions
