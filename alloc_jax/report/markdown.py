"""A report as Markdown: the answer, pictures, and the full tables as details."""

from __future__ import annotations

from collections.abc import Sequence

from alloc_jax.evaluate.scoring import Report
from alloc_jax.report.figure_style import Picture
from alloc_jax.report.headline import answer_page
from alloc_jax.report.tables import (
    HOW_TO_READ,
    HOW_TO_READ_REGRET,
    about,
    fixed_table,
    main_table,
    markdown_table,
    regret_table,
)


def to_markdown(report: Report, title: str, pictures: Sequence[Picture] = (), policies: Sequence[str] = ()) -> str:
    """The whole report as Markdown.

    Args:
      report: what `evaluate` found.
      title: of the page.
      pictures: files beside it.
      policies: the best of which is the answer (`best_policy`).
    """
    parts = [
        f"# {title}",
        *answer_page(report, policies),
        about(report),
        *(f"![{picture.alt}]({picture.path.name})\n\n*{picture.caption}.*" for picture in pictures),
        "## Every rule at every budget",
        HOW_TO_READ,
        markdown_table(*main_table(report)),
        "## Every action on every question",
        markdown_table(*fixed_table(report)),
    ]
    if report.policies:
        parts += ["## Regret and what it is made of (points of accuracy)", HOW_TO_READ_REGRET]
        parts.append(markdown_table(*regret_table(report)))
    return "\n\n".join(parts) + "\n"
