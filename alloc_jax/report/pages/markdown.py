"""A report as Markdown: the answer, then its sections."""

from __future__ import annotations

from alloc_jax.report.headline import answer_page
from alloc_jax.report.pages.page import Page
from alloc_jax.report.pictures.style import Picture
from alloc_jax.report.tables import Cells, about, markdown_table


def to_markdown(page: Page) -> str:
    """The whole page as Markdown; pictures are files beside it."""
    parts = [
        f"# {page.title}",
        *answer_page(page.report, page.candidates),
        " ".join(filter(None, (page.about, about(page.report)))),
    ]
    for section in page.sections:
        parts += [f"## {section.title}", *map(_part, section.parts)]
    if page.provenance:
        parts += ["## How it was made", "\n".join(f"- {name}: `{value}`" for name, value in page.provenance.items())]
    return "\n\n".join(parts) + "\n"


def _part(part: str | Cells | Picture) -> str:
    if isinstance(part, Picture):
        return f"![{part.alt}]({part.path.name})\n\n*{part.caption}.*"
    return markdown_table(*part) if isinstance(part, Cells) else part
