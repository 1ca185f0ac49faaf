"""Traffic reviewed: whether the live policy is still right, whether a candidate is safe to switch on, and a policy recalibrated."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from alloc_jax.evaluate.reliability import Reliability, reliability
from alloc_jax.evaluate.traffic.recalibrating import Corrections, recalibrated
from alloc_jax.evaluate.traffic.switching import Switch, compare_candidate
from alloc_jax.learn.calibration import Prediction
from alloc_jax.learn.identity import describe_policy
from alloc_jax.learn.policy import Policy, load_policy
from alloc_jax.logs.decisions import Recorded, read_traffic
from alloc_jax.measure.drift import Monitor, watch_traffic


@dataclass(frozen=True, kw_only=True)
class TrafficConfig:
    """What is looked at, and how strictly."""

    budget: Annotated[
        float, "Mean cost per question that a candidate is held to, and the spend is watched by; 0: neither."
    ] = 0.0
    candidate: Annotated[str, "Folder of a policy: is it safe to switch on?"] = ""
    margin: Annotated[float, "Accuracy that may be lost by switching, as a part of 1."] = 0.01
    verdict: Annotated[
        tuple[str, ...], "Sources whose verdicts count, the first before the others; empty: the only one."
    ] = ()
    tenant: Annotated[str, "Whose decisions; empty: everybody's."] = ""
    reference: Annotated[int, "The first decisions, which say what is normal."] = 1000
    every: Annotated[float, "Questions in which there may be one false alarm, on average."] = 1e5
    policy: Annotated[str, "Folder of the live policy, to recalibrate it."] = ""
    refit: Annotated[str, "Folder in which the recalibrated policy is put, under the next version's name."] = ""
    window: Annotated[int, "The last decisions, which the recalibration rests on."] = 2000


@dataclass(frozen=True, eq=False, kw_only=True)
class Review:
    """What the traffic says."""

    recorded: Recorded
    monitors: tuple[Monitor, ...]  # none where there is nothing beyond the reference
    switch: Switch | None  # None: there was no candidate
    weak: Reliability | None  # what the agreement of votes is worth as a verdict; None where too few have both
    corrections: Corrections | None
    folder: Path | None  # of the recalibrated policy


def review_traffic(config: TrafficConfig, decisions: str | Path) -> Review:
    """Read a file of decisions, watch it, and do what else is asked.

    Raises:
      ValueError: the file does not hold what is asked for; the message says what is lacking.
    """
    recorded = read_traffic(decisions, tenant=config.tenant or None, verdict=config.verdict)
    traffic = recorded.traffic
    monitors: tuple[Monitor, ...] = ()
    if len(traffic) > config.reference:
        monitors = watch_traffic(traffic, reference=config.reference, budget=config.budget or None, every=config.every)
    switch = None
    if config.candidate:
        if not config.budget:
            raise ValueError("a candidate is held to a budget: say --budget")
        predicted = candidate_predictions(recorded, load_policy(config.candidate), config.budget)
        switch = compare_candidate(traffic, predicted, config.budget, config.margin)
    both = np.isfinite(recorded.agreement) & traffic.labelled
    weak = None
    if both.sum() >= 50:
        weak = reliability(recorded.agreement[both][:, None], traffic.reward[both][:, None], bins=5)
    corrections = folder = None
    if config.refit:
        if not config.policy:
            raise ValueError("say which policy is recalibrated: --policy")
        policy = load_policy(config.policy)
        menu = recorded.policy.actions
        if describe_policy(policy, menu).mark != recorded.policy.mark:
            raise ValueError(f"the decisions are {recorded.policy.mark}'s, and {config.policy} holds another policy")
        made, corrections = recalibrated(policy, traffic, config.window)
        folder = save_version(made, config, recorded)
    return Review(
        recorded=recorded, monitors=monitors, switch=switch, weak=weak, corrections=corrections, folder=folder
    )


def candidate_predictions(recorded: Recorded, candidate: Policy, budget: float) -> Prediction:
    """What a candidate predicts of the recorded questions: as it was asked beside the live policy, or from the texts.

    Raises:
      ValueError: it was not asked, and texts were not kept; or it chooses among other actions.
    """
    many = len(candidate.actions)
    if recorded.policy.actions[:many] != candidate.actions:
        raise ValueError(
            f"the candidate chooses among {candidate.actions}, the decisions are among {recorded.policy.actions}"
        )
    mark = describe_policy(candidate).mark
    if mark in recorded.shadows:
        figures = recorded.shadows[mark][1]
        if np.isfinite(figures).all():
            return Prediction(figures[:, 0], figures[:, 1])
    if None in recorded.text:
        asked = ", ".join(recorded.shadows) or "none"
        raise ValueError(
            f"nobody asked {mark} on all of these decisions (candidates that were asked: {asked}): serve with --candidate, or"
            " with --keep_texts"
        )
    return candidate.predict(list(recorded.text), budget)


def save_version(policy: Policy, config: TrafficConfig, recorded: Recorded) -> Path:
    """Put a policy under the next version's name, with what it was made from beside it; none is replaced."""
    place, name = Path(config.refit), Path(config.policy).name
    stem = re.sub(r"\.v\d+$", "", name)
    taken = [
        int(found.name.rpartition(".v")[2])
        for found in place.glob(f"{stem}.v*")
        if found.name.rpartition(".v")[2].isdigit()
    ]
    folder = place / f"{stem}.v{max(taken, default=1) + 1}"
    policy.save(folder)
    times = recorded.traffic.time
    said = {
        "made_from": recorded.policy.mark,
        "decisions": len(recorded.traffic),
        "until": None if times is None else float(times[-1]),
        **asdict(config),
    }
    (folder / "traffic.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return folder
