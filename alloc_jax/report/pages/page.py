"""A report as a page: its answer, then sections of sentences, tables and pictures, which Markdown and HTML render alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alloc_jax.evaluate.scoring import Report
from alloc_jax.report.pictures.style import Picture
from alloc_jax.report.tables import HOW_TO_READ, HOW_TO_READ_REGRET, Cells, fixed_table, main_table, regret_table


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: tuple[str | Cells | Picture, ...]  # a sentence's *emphasis* is written as in Markdown
    folded: bool = True  # whether a reader has to open it, where that can be


@dataclass(frozen=True)
class Page:
    """What is written of a report."""

    title: str
    report: Report
    candidates: tuple[str, ...] = ()  # the policies of which the best is the answer (`best_policy`)
    curve: Report | None = None  # the same rules at more budgets, for the slider
    about: str = ""  # what was compared
    sections: tuple[Section, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)  # what it was made with, by name


def report_page(
    report: Report,
    title: str,
    pictures: Sequence[Picture] = (),
    candidates: Sequence[str] = (),
    curve: Report | None = None,
    examples: Cells | None = None,
    provenance: Mapping[str, str] | None = None,
    paths: Section | None = None,
) -> Page:
    """The page of what `evaluate` found.

    Args:
      report: the numbers.
      title: of the page.
      pictures: the first stands open, the others are details.
      candidates: the policies of which the best is the answer; by default all of the report.
      curve: the same rules at more budgets, for the slider.
      examples: some questions and what became of them.
      provenance: what it was made with, by name.
      paths: of rules that draw sample by sample.
    """
    first, others = tuple(pictures[:2]), tuple(pictures[2:])
    sections = [Section("What a budget buys, and who gets it", first, folded=False)] if first else []
    if examples is not None:
        sections.append(Section("Twenty questions", (examples,)))
    if paths is not None:
        sections.append(paths)
    if others:
        sections.append(Section("Can it be believed, and what is lost", others))
    sections.append(Section("Every rule at every budget", (HOW_TO_READ, main_table(report))))
    sections.append(Section("Every action on every question", (fixed_table(report),)))
    if any(row.regret for row in report.rows):
        what = "Regret and what it is made of (points of accuracy)"
        sections.append(Section(what, (HOW_TO_READ_REGRET, regret_table(report))))
    return Page(title, report, tuple(candidates), curve, "", tuple(sections), dict(provenance or {}))
