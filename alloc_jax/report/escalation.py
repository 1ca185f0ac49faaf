"""The report on escalation: tables with paired intervals, the frontier, a picture of the paths, and questions with their path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path as File

import numpy as np

from alloc_jax.evaluate.scoring import Report
from alloc_jax.evaluate.sequential.escalation import Path, Ways, calibration
from alloc_jax.report.pages.page import Page, Section
from alloc_jax.report.pictures.frontiers import plot_frontier
from alloc_jax.report.pictures.style import COLOURS, GREY, Picture, pyplot, save
from alloc_jax.report.stopping import ahead_table, rules_table
from alloc_jax.report.tables import Cells, shortened
from alloc_jax.stopping.sources.rules import EscalationFrontier
from alloc_jax.types import SampleLog

SHOWN = 10  # questions with their paths
HOW_TO_READ = (
    "*Over uniform* is the accuracy above the fair uniform mix (the upper hull of every fixed action, on the very questions that score it) at the rule's"
    " own spend. Every question is answered for by rules, thresholds and multipliers that come from other questions. Brackets are paired"
    " 95 % bootstrap intervals over questions. The oracle chooses one fixed action for every question: in *hindsight* it has seen the very"
    " samples that score, which nobody can."
)
HOW_TO_READ_POSTERIOR = (
    "The posterior of the answer that was given, against how often it was right, in bins of equally many questions."
)


def escalation_page(
    folder: File,
    report: Report,
    main: str,
    waits: Mapping[float, tuple[float, float]],
    ways: Sequence[Path],
    log: SampleLog,
    frontier: EscalationFrontier,
    about: str,
    provenance: Mapping[str, str],
) -> Page:
    """The page of a comparison of escalation with its rivals, whose pictures are drawn into a folder.

    Args:
      folder: to draw into.
      report: of all rules.
      main: the rule that is compared with the others.
      waits: mean and 95th percentile of seconds, by budget; empty where the log has none.
      ways: the paths of all questions at a middle budget.
      log: whose questions they are.
      frontier: the rules that were saved.
      about: what was compared.
      provenance: what it was made with, by name.
    """
    path = folder / "escalate.png"
    alt = plot_frontier(report, path, [rule for rule in report.policies if rule == main])
    pictures = [Picture(path, "Accuracy against spend, and above the uniform mix", alt)]
    sections = []
    if ways:
        path = folder / "paths.png"
        pictures.append(Picture(path, "Where questions go", plot_paths(ways, frontier.sources, path)))
        sections.append(Section("Ten questions", (paths_table(ways, log, frontier.sources),)))
        sections.append(Section("Is the posterior honest?", (HOW_TO_READ_POSTERIOR, calibration_table(ways))))
    sections.append(Section("Beside every other rule", (HOW_TO_READ, ahead_table(report, main), rules_table(report))))
    if waits:
        sections.append(Section("How long a question takes", (waiting_table(waits),)))
    opened = Section("What a budget buys", tuple(pictures), folded=False)
    about = f"{about} Belief: {frontier.family}."
    return Page(
        "One multiplier on the next sample of any source", report, (main,), None, about, (opened, *sections), provenance
    )


def paths_section(folder: File, ways: Ways) -> Section:
    """How many questions are answered after which source and where the others go, and some of them, drawn into a folder."""
    path = folder / "paths.png"
    title = f"Where {len(ways.paths):,} questions go at a budget of {ways.budget:g}, sample by sample"
    picture = Picture(path, "Where questions go", plot_paths(ways.paths, ways.sources, path))
    return Section(title, (picture, paths_table(ways.paths, ways.log, ways.sources)))


def waiting_table(waits: Mapping[float, tuple[float, float]]) -> Cells:
    """Header and rows of how long a question takes, one answer after the other, by budget."""
    rows = [[f"{budget:.4g}", *(f"{seconds:.2f}" for seconds in both)] for budget, both in waits.items()]
    return Cells(["budget", "mean seconds", "95 % take at most"], rows)


def calibration_table(ways: Sequence[Path]) -> Cells:
    """Header and rows of the answers' posteriors against how often they were right."""
    rows = [[f"{n}", f"{100 * p:.1f}", f"{100 * right:.1f}"] for n, p, right in calibration(ways)]
    return Cells(["questions", "posterior (%)", "right (%)"], rows)


def paths_table(ways: Sequence[Path], log: SampleLog, sources: Sequence[str]) -> Cells:
    """Header and rows of a few questions, of paths as different as there are."""
    kinds = Counter(way.sources for way in ways)
    seen: Counter = Counter()
    ranked: list[tuple[int, int, int]] = []
    for way in ways:  # the first of each common path, then the second, ..
        ranked.append((seen[way.sources], -kinds[way.sources], len(ranked)))
        seen[way.sources] += 1
    rows = []
    for *_, at in sorted(ranked)[:SHOWN]:
        way = ways[at]
        steps = [f"{sources[m]}: {shortened(said, 20)}" for m, said in zip(way.sources, way.answers, strict=True)]
        verdict = "right" if way.right else "wrong"
        rows.append(
            [
                shortened(log.question[way.row], 60),
                "; ".join(steps),
                shortened(way.answer, 20),
                f"{100 * way.posterior:.0f}",
                verdict,
            ]
        )
    return Cells(["question", "asked", "answer", "posterior (%)", ""], rows)


def plot_paths(ways: Sequence[Path], sources: Sequence[str], path: File) -> str:
    """How many questions stop after which source, and where the others go next; returns the picture's text."""
    plt = pyplot()
    from matplotlib.patheffects import withStroke as halo

    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    depth = max(len(way.sources) for way in ways)
    total, gap = len(ways), 0.02 * len(ways)
    tops: dict[tuple[int, int], float] = {}
    for step in range(depth):
        level = 0.0
        for m in range(len(sources)):
            here = [way for way in ways if len(way.sources) > step and way.sources[step] == m]
            if not here:
                continue
            stops = sum(len(way.sources) == step + 1 for way in here)
            tops[step, m] = level
            axes.bar(step, len(here), 0.16, bottom=level, color=COLOURS[m % len(COLOURS)])
            axes.bar(step + 0.1, stops, 0.04, bottom=level, color=GREY)
            if len(here) > 0.03 * total:
                between = "\n" if len(here) > 0.08 * total else ": "
                note = f"{sources[m]}{between}{len(here)} asked, {stops} stop"
                text = axes.annotate(note, (step - 0.1, level + len(here) / 2), fontsize=7, va="center", ha="right")
                text.set_path_effects([halo(linewidth=2, foreground="white")])
            level += len(here) + gap
    for step in range(depth - 1):
        leaves = {
            m: top + sum(len(w.sources) == step + 1 and w.sources[step] == m for w in ways)
            for (s, m), top in tops.items()
            if s == step
        }
        enters = {m: top for (s, m), top in tops.items() if s == step + 1}
        flows = Counter((w.sources[step], w.sources[step + 1]) for w in ways if len(w.sources) > step + 1)
        for (a, b), count in sorted(flows.items()):
            low, to = leaves[a], enters[b]
            leaves[a], enters[b] = low + count, to + count
            t = np.linspace(0, 1, 30)
            bend = 3 * t**2 - 2 * t**3
            x = step + 0.12 + t * 0.8
            axes.fill_between(
                x,
                low + (to - low) * bend,
                low + count + (to - low) * bend,
                color=COLOURS[b % len(COLOURS)],
                alpha=0.3,
                linewidth=0,
            )
    axes.set(xticks=range(depth), xlim=(-0.75, depth - 0.6), yticks=[])
    axes.set_xticklabels([f"sample {step + 1}" for step in range(depth)])
    axes.spines["left"].set_visible(False)
    axes.set_title(f"Where {total:,} questions go; grey: answered there", loc="left")
    save(figure, path)
    common = Counter(way.sources for way in ways).most_common(6)
    alt = "; ".join(f"{100 * n / total:.0f} % ask {', '.join(sources[m] for m in way)}" for way, n in common)
    return f"Flow of {total} questions from source to source: {alt}"
