"""The pictures of a job's report: which are drawn, of what, and what stands below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alloc_jax.evaluate.reliability import Reliability, reliability
from alloc_jax.evaluate.scoring import Report, Row
from alloc_jax.report.headline import best_policy, middle_budget
from alloc_jax.report.pictures import diagnostics
from alloc_jax.report.pictures.frontiers import plot_frontier, plot_multiplier
from alloc_jax.report.pictures.style import Picture
from alloc_jax.solve import Frontier, frontier
from alloc_jax.types import OutcomeTable


def draw_all(
    folder: Path,
    report: Report,
    curve: Report,
    policies: Sequence[str],
    shown: Sequence[str],
    predicted: Mapping[str, np.ndarray],
    choose: OutcomeTable,
    score: OutcomeTable,
) -> list[Picture]:
    """Draw the pictures of the main job into a folder.

    Args:
      folder: where to.
      report: at the budgets that were asked for.
      curve: at more budgets, for lines.
      policies: those that choose one action, whose choices are drawn.
      shown: the rules that stand out, those that draw sample by sample among them.
      predicted: utilities f32[N, K] that rules predict of the questions, by the rules' names; the first has a band.
      choose: the table that oracles choose on.
      score: the table that everything is scored on.
    """
    middle, difficulty = report.budgets[(len(report.budgets) - 1) // 2], diagnostics.share_right(choose)
    rows = {row.rule: row for row in report.rows if row.budget == middle}
    chosen = [(f"{rule}, budget {middle:g}", rows[rule].plan) for rule in (report.oracle, *policies)]
    best = best_policy(report, shown)
    spent = {rule: rows[rule].outcome.cost for rule in shown if rule in rows}
    names = ("spend_by_difficulty", "who_gets_compute", "calibration", "regret")
    spend, shares, calibration, regret = (folder / f"{name}.png" for name in names)
    return [
        draw_frontier(folder, curve, shown, report.row(best, middle_budget(report, best))),
        Picture(
            spend,
            "Mean spend on questions, from hard to easy",
            diagnostics.plot_spend(difficulty, spent, middle, report.unit, spend),
        ),
        Picture(
            shares,
            "Who gets the compute: shares of the actions, from hard to easy questions",
            diagnostics.plot_shares(score.actions, difficulty, chosen, shares),
        ),
        draw_multiplier(folder, frontier(choose.problem()), report.budgets, report.unit),
        Picture(
            calibration,
            "What was measured of questions and actions that were predicted alike; gains are over the cheapest action, and utilities"
            " predicted outside 0 to 100 % count as 0 or 100 %",
            diagnostics.plot_calibration(_reliabilities(predicted, score), len(score), calibration),
        ),
        Picture(
            regret,
            "Regret is at most what mispriced questions and unspent budget cost, in points of accuracy",
            diagnostics.plot_regret(report, regret),
        ),
    ]


def draw_frontier(folder: Path, curve: Report, policies: Sequence[str] = (), answer: Row | None = None) -> Picture:
    """Draw accuracy against spend into a folder; of an answer's row, what it saves is marked."""
    path = folder / "frontier.png"
    caption = "Accuracy against spend: the oracle, the policies with 95 % bands, the baselines"
    return Picture(path, caption, plot_frontier(curve, path, policies, answer))


def draw_multiplier(folder: Path, exact: Frontier, budgets: Sequence[float], unit: str) -> Picture:
    """Draw the multiplier into a folder."""
    path = folder / "multiplier.png"
    caption = "The multiplier against the budget, and how much of a budget is spent"
    return Picture(path, caption, plot_multiplier(exact, budgets, unit, path))


def _reliabilities(
    predicted: Mapping[str, np.ndarray], score: OutcomeTable
) -> list[tuple[str, dict[str, Reliability]]]:
    """Of utilities, and of gains over the cheapest action, which are what decides."""
    cheapest = int(score.cost.mean(axis=0).argmin())
    valid = np.delete(score.valid & score.valid[:, [cheapest]], cheapest, axis=1)

    def gains(utility: np.ndarray) -> np.ndarray:
        return np.delete(utility - utility[:, [cheapest]], cheapest, axis=1)

    utility = {name: reliability(u.clip(0, 1), score.utility, valid=score.valid) for name, u in predicted.items()}
    gain = {name: reliability(gains(u), gains(score.utility), valid=valid) for name, u in predicted.items()}
    return [("utility (%)", utility), ("gain (points)", gain)]
