"""The .ipynb of every notebook from its .py, which is the source; outputs are not stored.

    python notebooks/build.py

Needs jupytext. The metadata make Colab offer a TPU first.
"""

import json
from pathlib import Path

import jupytext

METADATA = {
    "accelerator": "TPU",
    "colab": {"gpuType": "V5E1", "provenance": []},
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


def built(source: Path) -> str:
    """The text of a source's notebook; the same source gives the same text."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source != Path(__file__):
            source.with_suffix(".ipynb").write_text(built(source))
