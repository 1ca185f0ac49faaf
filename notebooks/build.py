"""The .ipynb of every notebook from its .py, which is the source; outputs are not stored.

    python notebooks/build.py

Needs jupytext. The metadata make Colab offer a TPU to the notebook that uses one.
"""

import json
from pathlib import Path

import jupytext

METADATA = {
    "colab": {"provenance": []},
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
TPU = {"accelerator": "TPU", "colab": {"gpuType": "V5E1", "provenance": []}}


def built(source: Path) -> str:
    """The text of a source's notebook; the same source gives the same text."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = METADATA | (TPU if source.stem.endswith("_tpu") else {})
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source != Path(__file__):
            source.with_suffix(".ipynb").write_text(built(source))
