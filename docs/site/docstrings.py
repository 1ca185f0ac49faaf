"""Docstrings as this project writes them, for a site in Markdown.

Fields are described by the comments behind them, which hold shapes and units: `utility: jax.Array  # f32[N, K]`.
Doctests stand in the text, where Markdown would take their prompts for quotations.
"""

import re

import griffe

DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +\S.*)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Gives fields their comments, and fences doctests."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_) -> None:
        if attr.docstring is None and attr.lines:
            _, found, text = attr.lines[-1].partition("  # ")
            if found:
                attr.docstring = griffe.Docstring(text, lineno=attr.endlineno, parent=attr)

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
