"""A report as one self-contained page: the answer, pictures, the full tables; nothing to fetch, to be read on a phone and aloud."""

from __future__ import annotations

import base64
import html
import itertools
from collections.abc import Sequence

from alloc_jax.evaluate.scoring import Report
from alloc_jax.report.figure_style import Picture
from alloc_jax.report.headline import answer, answer_notes, answer_table, best_policy
from alloc_jax.report.tables import HOW_TO_READ, HOW_TO_READ_REGRET, about, fixed_table, main_table, regret_table

# Every pair of ink and ground has a contrast of 4.5 : 1 or more; pictures keep the white they were drawn on. What is wider than a
# phone scrolls in a box of its own, and the names of the rows stay in sight.
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #444; --ground: #fff; --line: #ccc; --focus: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --soft: #bbb; --ground: #161616; --line: #555; --focus: #8ab8ff } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 75rem; margin: 2rem auto;
padding: 0 1rem; overflow-wrap: anywhere } p, figure { max-width: 62rem } h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
img { max-width: 100%; min-width: 40rem; height: auto; background: #fff } figure { margin: 2rem 0 } figcaption { color: var(--soft) }
.wide { overflow-x: auto } .wide:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--ground) }
tbody th { white-space: normal; min-width: 7rem; overflow-wrap: normal } th { font-weight: inherit } thead th { border-bottom: 2px solid var(--ink); font-weight: 600 }
"""


def to_html(report: Report, title: str, pictures: Sequence[Picture], policies: Sequence[str] = ()) -> str:
    """The page of a report.

    Args:
      report: what `evaluate` found.
      title: of the page.
      pictures: PNG files that go into it.
      policies: the best of which is the answer (`best_policy`).
    """
    best = best_policy(report, policies)
    regret = [
        '<h2 id="regret">Regret and what it is made of (points of accuracy)</h2>',
        _paragraph(HOW_TO_READ_REGRET),
        _table("regret", *regret_table(report)),
    ]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',  # or a browser asks the server for one
            f"<style>{_STYLE}</style></head><body><main>",
            f'<h1 id="answer">{html.escape(title)}</h1>',
            f"<p><strong>{html.escape(answer(report, best))}</strong></p>",
            _table("answer", *answer_table(report, best)),
            _paragraph(f"{about(report)} {answer_notes(report, policies)}"),
            "<h2>Pictures</h2>" if pictures else "",
            *map(_figure, pictures),
            '<h2 id="rules">Every rule at every budget</h2>',
            _paragraph(HOW_TO_READ),
            _table("rules", *main_table(report)),
            '<h2 id="actions">Every action on every question</h2>',
            _table("actions", *fixed_table(report)),
            *(regret if report.policies else ()),
            "</main></body></html>\n",
        ]
    )


def _paragraph(text: str) -> str:
    """A paragraph of a text whose *emphasis* is written as in Markdown."""
    marks = itertools.cycle(("<em>", "</em>"))
    parts = html.escape(text).split("*")
    return f"<p>{parts[0]}{''.join(next(marks) + part for part in parts[1:])}</p>"


def _table(heading: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, named by a heading's id, that scrolls inside its own box, which the keyboard reaches; a row's first cell is its header."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    lines = [
        f'<tr><th scope="row">{html.escape(first)}</th>' + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        for first, *rest in rows
    ]
    body = "</tr>\n".join([*lines, ""])
    return (
        f'<div class="wide" role="region" aria-labelledby="{heading}" tabindex="0"><table aria-labelledby="{heading}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode()
    caption = html.escape(picture.caption)
    image = f'<img alt="{html.escape(picture.alt)}" src="data:image/png;base64,{data}">'
    box = f'<div class="wide" role="region" aria-label="{caption}" tabindex="0">{image}</div>'
    return f"<figure>{box}<figcaption>{caption}</figcaption></figure>"
