"""What policies are trained on: labels, success counts, and the loss of decisions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.learn.targets import decision_loss, decision_targets, imitation_targets, value_loss, value_targets
from alloc_jax.measure import measure, menu
from alloc_jax.solve import frontier, solve


@pytest.fixture(scope="module")
def table(log):
    return measure(log, menu(log, votes=(1, 4)), "compute")


def perfect_outputs(targets):
    """Outputs that predict what was measured."""
    rows = targets.rows
    logit = np.zeros_like(rows["right"])
    return jnp.asarray(np.concatenate([rows["gain"], rows["base"][:, None], np.log(rows["ratio"]), logit], axis=1))


def test_actions_of_one_source_share_its_success_counts(table):
    right = value_targets(table).rows["right"]
    assert right.shape == (len(table), 2)  # four actions, two sources
    expected = np.sort((table.successes / table.samples)[:, [0, 2]], axis=1)
    np.testing.assert_allclose(np.sort(right, axis=1), expected, rtol=1e-6)


def test_an_action_without_samples_has_no_success_counts(table):
    silent = table.samples.copy()
    silent[:, 0] = 0
    rows = value_targets(replace(table, samples=silent, successes=np.where(silent, table.successes, 0))).rows
    assert (rows["sampled"].max(axis=0) > 0).all()


def test_success_counts_are_part_of_the_loss(table):
    targets = value_targets(table)
    outputs = perfect_outputs(targets)
    assert value_loss(outputs, targets.rows, 0.0).max() < 1e-6
    assert value_loss(outputs, targets.rows, 0.1).min() > 0


def test_soft_labels_become_hard_as_the_temperature_falls(table):
    hard = imitation_targets(table, (1.0,), "hard", 0.02).rows["label"]
    cold, warm = (imitation_targets(table, (1.0,), "soft", t).rows["label"] for t in (1e-3, 0.1))
    np.testing.assert_allclose(warm.sum(axis=2), 1, rtol=1e-5)
    assert np.abs(cold - hard).mean() < 0.05 < np.abs(warm - hard).mean()


def test_regret_labels_weigh_a_question_by_what_is_at_stake(table):
    rows = imitation_targets(table, (1.0,), "regret", 0.02).rows
    plan = solve(table.problem(), 1.0)
    net = table.utility - float(plan.multiplier) * table.cost
    np.testing.assert_allclose(rows["weight"].mean(), 1, rtol=1e-5)
    assert np.corrcoef(rows["weight"][:, 0], net.max(axis=1) - net.mean(axis=1))[0, 1] > 0.999


def test_perfect_predictions_lose_no_more_than_the_temperature(table):
    targets = decision_targets(table)
    outputs = perfect_outputs(targets)
    for budget, multiplier in zip(targets.budgets[::4], targets.multipliers[::4], strict=True):
        loss = decision_loss(outputs, targets.rows, targets.described, budget, multiplier, 1e-3)
        assert loss.min() > -1e-6 and loss.mean() < 5e-3
        worse = outputs.at[:, :4].set(-outputs[:, :4])
        assert decision_loss(worse, targets.rows, targets.described, budget, multiplier, 1e-3).mean() > loss.mean()


def test_the_gradient_of_decisions_passes_through_the_multiplier(table):
    targets = decision_targets(table)
    outputs = 0.5 * perfect_outputs(targets)
    rng = np.random.default_rng(0)
    direction = jnp.asarray(rng.normal(size=outputs.shape).astype(np.float32))

    def loss(step):
        moved = outputs + step * direction
        return decision_loss(
            moved, targets.rows, targets.described, targets.budgets[5], targets.multipliers[5], 0.05
        ).mean()

    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    np.testing.assert_allclose(jax.grad(loss)(0.0), slope, rtol=0.05, atol=1e-4)


def test_budgets_of_decisions_lie_between_the_cheapest_and_the_dearest_useful_plan(table):
    targets, best = decision_targets(table), frontier(table.problem())
    assert best.spend[0] < targets.budgets.min() and targets.budgets.max() < best.spend[-1]
    assert (np.diff(targets.multipliers) <= 0).all()


def test_a_table_without_decisions_is_refused(table):
    flat = replace(table, utility=np.full_like(table.utility, 0.5))
    with pytest.raises(ValueError, match="no decision to learn"):
        decision_targets(flat)
