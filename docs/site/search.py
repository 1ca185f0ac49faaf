"""What the search box looks through: the text of every page, section by section, in a script beside the pages.

Pages that are opened as files may load a script and may not fetch data, so the index is a script.
"""

import html
import json
import re
from pathlib import Path

HEADING = re.compile(r'<h([1-3]) id="([^"]+)"[^>]*>(.*?)</h\1>', re.DOTALL)
TAG = re.compile(r"<[^>]+>")
found: list[dict[str, str]] = []


def on_pre_build(config) -> None:
    """Forgets an earlier build."""
    found.clear()


def on_page_content(content: str, page, **_) -> str:
    """Notes the sections of a page; what stands before the first heading belongs to the page's own."""
    pieces = HEADING.split(content)
    for name, heading, text in zip(pieces[2::4], pieces[3::4], pieces[4::4], strict=True):
        title = _plain(heading).removesuffix("#").strip()
        found.append({"page": str(page.title), "title": title, "url": f"{page.url}#{name}", "text": _plain(text)})
    return content


def on_post_build(config) -> None:
    """Writes the index."""
    Path(config["site_dir"], "search.js").write_text(f"const SECTIONS = {json.dumps(found)};\n")


def _plain(markup: str) -> str:
    return " ".join(html.unescape(TAG.sub(" ", markup)).split())
