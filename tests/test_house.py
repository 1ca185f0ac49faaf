"""The house: one folder a stage, and no import points back."""

import ast
from pathlib import Path

import pytest

import alloc_jax
from tests.conftest import FAST, LONGEST

ROOT = Path(alloc_jax.__file__).parent
STAGES = ("collect", "logs", "measure", "solve", "stopping", "learn", "evaluate", "report", "jobs", "commands")
SERVING = ("collect", "logs", "measure", "solve", "stopping", "learn", "serve")
GROUND = ("types", "actions", "price_book", "files", "display", "exports", "options", "reasoner", "smollm2")
MOST_LINES, MOST_FILES = 400, 15  # of a file, of a folder


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, wherever in it; a name of the package itself counts as its home."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "alloc_jax":
            found.update(f"alloc_jax.{_home(name.name)}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("alloc_jax."):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names if name.name.startswith("alloc_jax."))
    return {name.split(".")[1] for name in found}


def _home(name: str) -> str:
    """The module that a public name of the package stands in."""
    stub = ast.parse((ROOT / "__init__.pyi").read_text())
    nodes = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    homes = {part.name: node.module for node in nodes for part in node.names}
    return homes.get(name, f"alloc_jax.{name}").partition(".")[2]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_the_ground_floor_and_earlier_stages_only(stage):
    allowed = {*GROUND, *STAGES[: STAGES.index(stage) + 1]}
    for path in sorted((ROOT / stage).rglob("*.py")):
        assert imports(path) <= allowed | ({"serve"} if stage == "commands" else set()), path.relative_to(ROOT)


def test_serving_needs_no_evaluation_and_no_report():
    for path in sorted((ROOT / "serve").rglob("*.py")):
        assert imports(path) <= {*GROUND, *SERVING}, path.relative_to(ROOT)


@pytest.mark.parametrize("part", GROUND)
def test_the_ground_floor_stands_on_itself(part):
    paths = [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else sorted((ROOT / part).rglob("*.py"))
    assert paths
    for path in paths:
        assert imports(path) <= set(GROUND), path.relative_to(ROOT)


def test_no_folder_and_no_file_is_too_large_to_know():
    for folder in [ROOT, *(path for path in ROOT.rglob("*") if path.is_dir())]:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, folder.relative_to(ROOT.parent)
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= MOST_LINES, path


def test_what_holds_arrays_is_compared_by_identity():
    """Equality by fields of arrays raises: the truth of an array is ambiguous."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                made = [text for text in map(ast.unparse, node.decorator_list) if text.startswith("dataclass")]
                kinds = [ast.unparse(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)]
                holds = any("Array" in kind or "ndarray" in kind for kind in kinds)
                assert not (made and holds) or "eq=False" in made[0], f"{path.name}: {node.name}"


def test_a_module_named_as_its_function_is_called_like_it():
    for stub in ROOT.rglob("__init__.pyi"):
        for node in ast.parse(stub.read_text()).body:
            for part in node.names if isinstance(node, ast.ImportFrom) else ():
                beside = stub.with_name(f"{part.name}.py")
                assert not beside.exists() or "called_as_its_function(__name__)" in beside.read_text(), beside


def test_a_class_has_a_name_of_its_own():
    names = [
        node.name
        for path in ROOT.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    assert not {name for name in names if names.count(name) > 1}


def test_the_fast_tests_are_there_and_of_every_stage():
    names = [name.partition("::") for name in FAST]
    for file, _, test in names:
        text = (Path(__file__).parent / file).read_text()
        assert f"def {test.partition('[')[0]}" in text, f"{file}: {test}"
    assert all((Path(__file__).parent / file).is_file() for file in LONGEST)
    assert {file.partition("/")[0] for file, _, _ in names if "/" in file} >= {*STAGES, "serve"}


def test_the_designs_page_has_every_folder():
    page = (ROOT.parent / "docs" / "design.md").read_text()
    for stage in (*STAGES, "serve"):
        assert f"| `{stage}/` |" in page and f"| {stage} " in page
    for path in ROOT.rglob("*/*/__init__.py"):
        assert f"`{path.parent.relative_to(ROOT)}/`" in page, path
