"""What traffic says, in lines: the answer first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alloc_jax.evaluate.intervals import Interval
from alloc_jax.evaluate.traffic.switching import MORE, UNKNOWN, Switch
from alloc_jax.measure.drift import Monitor
from alloc_jax.report.tables import Cells, percent

if TYPE_CHECKING:
    from alloc_jax.logs.decisions import Recorded


def switch_line(switch: Switch) -> str:
    """Whether a candidate is safe to switch on, in a line."""
    if switch.verdict == UNKNOWN:
        lacking = "; ".join(f"{name} {why}" for name, why in switch.lacking.items())
        return f"safe to switch on: cannot tell: {lacking}"
    found = switch.verdict
    if found == MORE:
        found = (
            "not known, and no number of decisions is in sight"
            if switch.more is None
            else f"need {switch.more} more decisions"
        )
    return (
        f"safe to switch on: {found} (candidate less live: {_points(switch.always)}, whenever looked at;"
        f" {100 * switch.margin:g} % may be lost)"
    )


def switch_table(switch: Switch) -> Cells:
    """The live policy and the candidate, header and rows."""
    rows: list[tuple[str, ...]] = []
    for name, found in (("live", switch.live), ("candidate", switch.candidate)):
        low, high = found.multiplier
        multiplier = found.weight * low + (1 - found.weight) * high
        rows.append(
            (name, f"{percent(found.accuracy)} %", f"{found.spend:.3f}", f"{multiplier:.4g}", f"{found.effective:.0f}")
        )
    rows.append(("difference", _points(switch.difference), "", "", ""))
    return Cells(("policy", "right", "spend", "multiplier", "effective size"), rows)


def still_right_line(monitors: tuple[Monitor, ...], every: float) -> str:
    """Whether nothing has drifted, in a line."""
    rang = sorted((m.alarm, m.name) for m in monitors if m.alarm is not None)
    if not monitors:
        return "still right: not known, there are no decisions beyond the reference"
    if rang:
        said = ", ".join(f"{name} after {after} questions" for after, name in rang)
        return f"still right: no: {said}"
    return f"still right: nothing rang; one false alarm in {every:g} questions at most, on average"


def drift_table(monitors: tuple[Monitor, ...]) -> Cells:
    """What is watched, header and rows."""
    rows: list[tuple[str, ...]] = [
        (m.name, f"{m.reference:.3f}", f"{m.now:.3f}", f"{m.tolerance:.3f}", "" if m.alarm is None else f"{m.alarm}")
        for m in monitors
    ]
    return Cells(("watched", "was", "is", "tolerance", "rang after"), rows)


def traffic_line(recorded: Recorded) -> str:
    """What the file holds, in a line."""
    traffic = recorded.traffic
    parts = [f"{len(traffic)} decisions of {recorded.policy.mark}", f"{int(traffic.labelled.sum())} with a verdict"]
    parts += [f"{count} by {source}" for source, count in sorted(recorded.verdicts.items())]
    parts += [f"left out: {why} {count}" for why, count in sorted(recorded.left_out.items())]
    return ", ".join(parts)


def weak_table(weak) -> Cells:
    """What votes' agreement is worth, header and rows."""
    rows: list[tuple[str, ...]] = [
        (f"{share:.2f}", f"{percent(right)} %", f"{count}")
        for share, right, count in zip(weak.predicted, weak.measured, weak.count, strict=True)
    ]
    return Cells(("share that agrees", "right", "decisions"), rows)


def _points(found: Interval) -> str:
    return f"{percent(found, '+.1f')} points"
