"""A report as one self-contained page: the answer, pictures, the full tables; nothing to fetch, to be read on a phone and aloud."""

from __future__ import annotations

import base64
import html
import itertools
from pathlib import Path

from alloc_jax.report.headline import answer, answer_notes, answer_table, answer_width, best_policy, headline
from alloc_jax.report.pages.first_screen import STYLE, first_screen
from alloc_jax.report.pages.markdown import to_markdown
from alloc_jax.report.pages.page import Page, Section
from alloc_jax.report.pictures.style import Picture, drawn_files
from alloc_jax.report.records import CITATION, to_csv, write_metrics
from alloc_jax.report.tables import Cells, about

# Every pair of ink and ground has a contrast of 4.5 : 1 or more; pictures keep the white they were drawn on. What is wider than a
# phone scrolls in a box of its own, and the names of the rows stay in sight.
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #444; --ground: #fff; --line: #ccc; --focus: #0b5cad; --policy: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --soft: #bbb; --ground: #161616; --line: #555; --focus: #8ab8ff; --policy: #6bb8ee } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 75rem; margin: 2rem auto;
padding: 0 1rem; overflow-wrap: anywhere } p, figure { max-width: 62rem } h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
img { max-width: 100%; min-width: 40rem; height: auto; background: #fff } figure { margin: 2rem 0 } figcaption { color: var(--soft) }
.wide { overflow-x: auto } .wide:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--ground) }
tbody th { white-space: normal; min-width: 7rem; overflow-wrap: normal } th { font-weight: inherit } thead th { border-bottom: 2px solid var(--ink); font-weight: 600 }
summary { cursor: pointer } summary { margin: .8rem 0 } summary h2 { display: inline; margin: 0 } a { color: var(--focus) } small { color: var(--soft) }
"""
# What is folded is printed, too.
_PRINT = "addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(part => part.open = true))"
_TYPES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv", "bib": "text/plain"}


def write_report(folder: Path, page: Page) -> None:
    """Write a page as report.md and report.html, and its rows as metrics.jsonl, into a folder."""
    write_metrics(folder / "metrics.jsonl", {"": page.report})
    (folder / "report.md").write_text(to_markdown(page))
    (folder / "report.html").write_text(to_html(page))


def to_html(page: Page) -> str:
    """The whole page: what the best of its candidates buys, a row per budget, then the sections, most of them folded."""
    report, best = page.report, best_policy(page.report, page.candidates)
    lead = " ".join(
        filter(None, (page.about, about(report), answer_width(report, best), answer_notes(report, page.candidates)))
    )
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(page.title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # or a browser asks the server for one
        f"<style>{_STYLE}{STYLE}</style></head><body><main>",
        f"<small>{html.escape(page.title)}: {html.escape(about(report))}</small>",
        f'<h1 id="answer">{html.escape(headline(report, best))}</h1>',
        f"<p>{html.escape(answer(report, best))}</p>",
        first_screen(page, best),
        _table("answer", answer_table(report, best)),
        _paragraph(lead),
        *(_section(f"part-{number}", section) for number, section in enumerate(page.sections)),
        _made(page),
        f"<script>{_PRINT}</script></main></body></html>\n",
    ]
    return "\n".join(filter(None, parts))


def _section(name: str, section: Section) -> str:
    heading = f'<h2 id="{name}">{html.escape(section.title)}</h2>'
    parts = "\n".join(_part(name, part) for part in section.parts)
    if not section.folded:
        return f"{heading}\n{parts}"
    return f"<details><summary>{heading}</summary>\n{parts}</details>"


def _part(heading: str, part: str | Cells | Picture) -> str:
    if isinstance(part, Picture):
        return _figure(part)
    return _table(heading, part) if isinstance(part, Cells) else _paragraph(part)


def _made(page: Page) -> str:
    """How the page was made, and files to take along."""
    made = Cells(("", ""), list(page.provenance.items()))
    pictures = [part.path for section in page.sections for part in section.parts if isinstance(part, Picture)]
    files = {path.name: path.read_bytes() for picture in pictures for path in drawn_files(picture)}
    files |= {
        "frontier.csv": to_csv((page.curve or page.report).records()).encode(),
        "alloc_jax.bib": CITATION.encode(),
    }
    links = ", ".join(f'<a download="{name}" href="{_data_uri(name, data)}">{name}</a>' for name, data in files.items())
    table = _table("made", made) if page.provenance else ""
    return f'<details><summary><h2 id="made">How it was made, and files</h2></summary>{table}<p>Files: {links}</p></details>'


def _data_uri(name: str, data: bytes) -> str:
    return f"data:{_TYPES[name.rpartition('.')[2]]};base64,{base64.b64encode(data).decode()}"


def _paragraph(text: str) -> str:
    """A paragraph of a text whose *emphasis* is written as in Markdown."""
    marks = itertools.cycle(("<em>", "</em>"))
    parts = html.escape(text).split("*")
    return f"<p>{parts[0]}{''.join(next(marks) + part for part in parts[1:])}</p>"


def _table(heading: str, cells: Cells) -> str:
    """A table, named by a heading's id, that scrolls inside its own box, which the keyboard reaches; a row's first cell is its header."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in cells.header)
    lines = [
        f'<tr><th scope="row">{html.escape(first)}</th>' + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        for first, *rest in cells.rows
    ]
    body = "</tr>\n".join([*lines, ""])
    return (
        f'<div class="wide" role="region" aria-labelledby="{heading}" tabindex="0"><table aria-labelledby="{heading}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    image = f'<img alt="{html.escape(picture.alt)}" src="{_data_uri(picture.path.name, picture.path.read_bytes())}">'
    box = f'<div class="wide" role="region" aria-label="{caption}" tabindex="0">{image}</div>'
    return f"<figure>{box}<figcaption>{caption}</figcaption></figure>"
