"""A report as one self-contained page: tables and pictures inside, nothing to fetch."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from alloc_jax.evaluate.report import Report
from alloc_jax.evaluate.text import HOW_TO_READ, fixed_table, main_table, regret_table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2rem auto;
padding: 0 1rem } h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
img { max-width: 100%; height: auto } figure { margin: 2rem 0 } figcaption { color: #444 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #1a1a1a }
"""


def to_html(report: Report, title: str, pictures: Sequence[tuple[Path, str]]) -> str:
    """The page of a report.

    Args:
      report: what `evaluate` found.
      title: of the page.
      pictures: (PNG file, caption); the caption is also the alternative text.
    """
    how = html.escape(HOW_TO_READ)
    for mark in ("Accuracy", "spend", "Over uniform", "gap closed", "Agrees"):
        how = how.replace(f"*{mark}*", f"<em>{mark}</em>")
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body><main>",
            f"<h1>{html.escape(title)}</h1>",
            f"<p>{report.questions} held-out questions; cost in {html.escape(report.unit)}.</p><p>{how}</p>",
            _table(*main_table(report)),
            *(_figure(path, caption) for path, caption in pictures),
            "<h2>Every action on every question</h2>",
            _table(*fixed_table(report)),
            "<h2>Regret and what it is made of (points of accuracy)</h2>",
            "<p>V(B) &minus; U is at most mispriced + unspent, all on the table of scores.</p>",
            _table(*regret_table(report)),
            "</main></body></html>\n",
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
