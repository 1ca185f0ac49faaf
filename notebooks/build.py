"""The .ipynb of every notebook from its .py, which is the source, with the outputs of its last execution.

    python notebooks/build.py                      # sources alone: a cell that did not change keeps its output
    python notebooks/build.py --execute quickstart # runs it and stores what it shows, pictures small

Needs jupytext, and nbclient to execute. The metadata make Colab offer a TPU to the notebook that uses one.
"""

import base64
import io
import json
import sys
from pathlib import Path

import jupytext

METADATA = {
    "colab": {"provenance": []},
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
TPU = {"accelerator": "TPU", "colab": {"gpuType": "V5E1", "provenance": []}}
WIDTH = 640  # pixels of a stored picture


def built(source: Path, before: str = "") -> str:
    """The text of a source's notebook; the same source and outputs give the same text.

    Args:
      source: the .py.
      before: the notebook so far, whose outputs are kept where the cell is the same.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = METADATA | (TPU if source.stem.endswith("_tpu") else {})
    known = {cell["id"]: cell for cell in json.loads(before)["cells"]} if before else {}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        old = known.get(cell["id"], {})
        if cell["cell_type"] == "code" and "".join(old.get("source", "")) == cell["source"]:
            cell["outputs"] = old["outputs"]
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def executed(text: str, folder: Path) -> str:
    """A notebook with what its cells show: results and printed lines, without warnings and progress."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.reads(text, as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.pop("execution_count", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_small(output) for output in cell.outputs if output.get("name") != "stderr"]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _small(output):
    output.pop("execution_count", None)
    if output.output_type == "execute_result":
        output.execution_count = None
    data = output.get("data", {})
    if "image/png" in data:
        from PIL import Image

        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        picture.thumbnail((WIDTH, WIDTH))
        small = io.BytesIO()
        picture.quantize(64).save(small, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return output


if __name__ == "__main__":
    import tempfile

    wanted = sys.argv[2:] if sys.argv[1:2] == ["--execute"] else []
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source != Path(__file__):
            target = source.with_suffix(".ipynb")
            text = built(source, target.read_text() if target.is_file() else "")
            if source.stem in wanted:
                with tempfile.TemporaryDirectory() as folder:
                    text = built(source, executed(text, Path(folder)))
            target.write_text(text)
