"""The house: one folder a stage, and no import points back."""

import ast
from pathlib import Path

import pytest

import alloc_jax

ROOT = Path(alloc_jax.__file__).parent
STAGES = ("collect", "logs", "measure", "solve", "stopping", "learn", "evaluate", "report", "jobs")
SERVING = ("collect", "logs", "measure", "solve", "stopping", "learn", "serve")
GROUND = ("types", "actions", "price_book", "files")


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("alloc_jax."):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names if name.name.startswith("alloc_jax."))
    return {name.split(".")[1] for name in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_the_ground_floor_and_earlier_stages_only(stage):
    allowed = {*GROUND, *STAGES[: STAGES.index(stage) + 1]}
    for path in sorted((ROOT / stage).rglob("*.py")):
        assert imports(path) <= allowed | {"reasoner"}, path.relative_to(ROOT)


def test_serving_needs_no_evaluation_and_no_report():
    for path in sorted((ROOT / "serve").rglob("*.py")):
        assert imports(path) <= {*GROUND, *SERVING}, path.relative_to(ROOT)


@pytest.mark.parametrize("part", GROUND)
def test_the_ground_floor_stands_on_itself(part):
    paths = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else sorted((ROOT / part).rglob("*.py"))
    assert paths
    for path in paths:
        assert imports(path) <= set(GROUND), path.relative_to(ROOT)
