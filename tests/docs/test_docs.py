"""The pages: every public name is in the reference, every link and picture is there, every command and snippet names what exists."""

import ast
import importlib
import inspect
import io
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from absl import flags

import alloc_jax as aj
from alloc_jax import cli
from alloc_jax.logs.formats import FORMATS
from tests.browser import browser, look

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs"
PAGES = sorted(FOLDER.rglob("*.md"))
STAGES = ("collect", "logs", "measure", "solve", "stopping", "learn", "evaluate", "serve", "reasoner", "smollm2")
NAMES = [page.relative_to(FOLDER).as_posix() for page in PAGES]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts and the site make them alike."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands() -> list[tuple[str, str, tuple[str, ...]]]:
    """(page, script or module, flags) of every Python command, each once."""
    found = {}
    for page in PAGES:
        for block in blocks(page.read_text(), "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line)
                if words[0] in ("python", "alloc"):
                    start = 2 if words[1] == "-m" else 1
                    given = tuple(w.partition("=")[0].lstrip("-") for w in words[start + 1 :] if w.startswith("--"))
                    name = f"alloc {words[1]}" if words[0] == "alloc" else words[start]
                    found[page.name, name, given] = None
    return list(found)


def known_flags(script: str) -> set[str]:
    """The flags that a script or command defines."""
    before, place = set(flags.FLAGS), list(sys.path)
    try:
        if script.startswith("alloc "):
            return command_flags(script.removeprefix("alloc "))
        path = ROOT / script
        assert path.is_file(), f"there is no {script}"
        calls = re.search(r'^    run\("(.*)"\)$', path.read_text(), re.MULTILINE)
        if calls:
            return command_flags(calls[1])
        sys.path.insert(0, str(path.parent))
        runpy.run_path(str(path), run_name="docs")
        return set(flags.FLAGS) - before
    finally:
        sys.path[:] = place
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


def function(value):
    """What is called where a module is called."""
    return value.__wrapped__ if inspect.ismodule(value) else value


def command_flags(name: str) -> set[str]:
    before = set(flags.FLAGS)
    assert name in cli.COMMANDS, f"there is no alloc {name}"
    sys.modules.pop("alloc_jax.serve.__main__", None)  # it defines its flags when it is imported
    module = importlib.import_module(f"alloc_jax.{cli.COMMANDS[name].module}")
    getattr(module, "define_flags", lambda: None)()
    return set(flags.FLAGS) - before


def test_the_reference_has_every_public_name_once_and_no_other():
    public = {f"aj.{name}": function(getattr(aj, name)) for name in aj.__all__}
    for stage in STAGES:
        module = importlib.import_module(f"alloc_jax.{stage}")
        mine = {name: function(getattr(module, name)) for name in module.__all__}
        public |= {
            f"{stage}.{name}": thing for name, thing in mine.items() if not any(thing is p for p in public.values())
        }
    listed = {}
    for page in (FOLDER / "reference").glob("*.md"):
        for kind, name, path in re.findall(r"^## (class )?(\S+)\n\n::: (\S+)$", page.read_text(), re.MULTILINE):
            assert name not in listed
            listed[name] = path
            assert bool(kind) == inspect.isclass(public[name])
    assert listed.keys() == public.keys()
    for name, path in listed.items():
        module, _, attribute = path.rpartition(".")
        assert function(getattr(importlib.import_module(module), attribute)) is public[name]


@pytest.mark.parametrize("name", NAMES)
def test_links_and_pictures_are_there(name):
    page = FOLDER / name
    text = prose(page.read_text())
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text):
        picture = page.parent / target
        assert len(alt) > 80 or "badge" in target, f"{target}: what does it show?"
        assert picture.is_file() and picture.stat().st_size < 150_000
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]*)\)", text):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        other = (page.parent / place) if place else page
        assert other.resolve() in [p.resolve() for p in PAGES], f"{name}: {target}"
        assert not anchor or anchor in anchors(other.read_text()), f"{name}: {target}"


def test_the_page_on_logs_shows_a_record_of_every_format():
    page = (FOLDER / "logs.md").read_text()
    for name, reader in FORMATS.items():
        assert f"{name}\n    {reader.example}\n" in page


def test_badges_say_what_the_package_says_of_itself():
    setup = (ROOT / "setup.py").read_text()
    said = {
        path.stem: re.search('aria-label="([^"]*)"', path.read_text())[1]
        for path in FOLDER.glob("pictures/badge_*.svg")
    }
    python, jax, licence = (
        re.search(f'{what}"?([^"]*)"', setup)[1] for what in ('python_requires=">=', '"jax>=', 'license="')
    )
    assert said == {
        "badge_python": f"Python: {python} or later",
        "badge_jax": f"JAX: {jax} or later",
        "badge_licence": f"licence: {licence}",
    }


def test_every_picture_is_shown_beside_its_command():
    text = "\n".join(page.read_text() for page in PAGES)
    for picture in (FOLDER / "pictures").glob("*.png"):
        assert f"pictures/{picture.name})" in text
    gallery = (FOLDER / "gallery.md").read_text()
    for part in re.split(r"^## ", gallery, flags=re.MULTILINE)[1:]:
        assert part.index("```sh") < part.index("![")


@pytest.mark.parametrize("script", sorted({script for _, script, _ in commands()}))
def test_commands_use_flags_that_the_script_knows(script):
    known = known_flags(script)
    for page, named, given in commands():
        assert named != script or set(given) <= known, f"{page}: {script} has no {set(given) - known}"


def test_flags_and_scripts_that_the_text_names_exist():
    sources = [*ROOT.glob("alloc_jax/**/*.py"), *ROOT.glob("experiments/*.py"), *ROOT.glob("benchmarks/*.py")]
    code = "\n".join(path.read_text() for path in sources)
    for page in PAGES:
        text = prose(page.read_text())
        for script in re.findall(r"`(?:python )?((?:experiments|benchmarks)/\w+\.py)", text):
            assert (ROOT / script).is_file(), f"{page.name}: {script}"
        for flag in re.findall(r"`[^`]*?--(\w+)", text):
            names = {flag, flag.removeprefix("no")}  # --noprobe turns --probe off
            known = any(re.search(rf'["\'\[ ]{name}["\': ]', code) for name in names)
            assert known or flag in ("strict", "log_samples"), f"{page.name}: --{flag}"


@pytest.mark.parametrize("name", [n for n in NAMES if blocks((FOLDER / n).read_text(), "python")])
def test_snippets_use_names_and_arguments_that_exist(name):
    for snippet in blocks((FOLDER / name).read_text(), "python"):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "aj":
                assert hasattr(aj, node.attr), node.attr
            if isinstance(node, ast.Call) and re.fullmatch(r"aj\.\w+", target := ast.unparse(node.func)):
                taken = inspect.signature(getattr(aj, target[3:]))
                taken.bind(*node.args, **{keyword.arg: keyword.value for keyword in node.keywords})


@pytest.mark.long
def test_the_solver_prints_what_its_page_says():
    text = (FOLDER / "solve.md").read_text()
    (snippet,) = blocks(text, "python")
    printed = text.partition(snippet)[2].partition("```text\n")[2].partition("```")[0]
    with redirect_stdout(io.StringIO()) as said:
        exec(snippet, {})
    numbers = [re.findall(r"\d+\.\d+", part) for part in (printed, said.getvalue())]
    assert re.sub(r"[\d.]+", "", printed) == re.sub(r"[\d.]+", "", said.getvalue())
    assert [float(x) for x in numbers[1]] == pytest.approx([float(x) for x in numbers[0]], abs=2e-5)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr  # a warning is an error
    return folder


def test_the_site_has_every_page_and_fetches_nothing(site):
    pages = [path.read_text() for path in site.rglob("*.html")]
    assert len(pages) == len(PAGES)
    for page in pages:
        assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?:https?:)?//", page)
    solve = (site / "reference" / "solve.html").read_text()
    assert "The plan of greatest mean utility within a budget" in solve  # the docstring
    assert "f32[M] rising" in solve  # the comment behind a field
    assert "<p>&gt;&gt;&gt;" not in solve and "<blockquote>" not in solve  # doctests are code


@pytest.mark.browser
def test_the_site_reads_well_on_a_phone_and_needs_no_script(site, tmp_path):
    with browser(tmp_path / "profile") as driver:
        for name in ("index", "gallery", "evaluate", "reference/solve"):
            for dark in (False, True):
                found = look(driver, site / f"{name}.html", 360, 740, dark)
                assert found["overflow"] == 0 and found["faint"] == [] and found["console"] == []
                assert all(url.startswith(site.as_uri()) for url in found["requests"])
                assert all(drawn for _, drawn in found["images"])
                assert all(index == 0 for index, _ in found["scrolling"])


@pytest.mark.browser
def test_the_site_is_searched_and_turned_offline(site, tmp_path):
    from selenium.webdriver.common.by import By

    with browser(tmp_path / "profile") as driver:
        driver.get((site / "reference" / "solve.html").as_uri())
        driver.find_element(By.ID, "wanted").send_keys("latent class")
        hits = driver.find_elements(By.CSS_SELECTOR, "#hits a")
        assert hits and any("Glossary" in hit.text for hit in hits)
        next(hit for hit in hits if "Glossary" in hit.text).click()
        assert "glossary.html" in driver.current_url and "latent class" in driver.find_element(By.TAG_NAME, "main").text
        driver.find_element(By.ID, "wanted").send_keys("xyzzy plugh")
        assert driver.find_element(By.ID, "hits").text == "nothing found"
        driver.get((site / "install.html").as_uri())
        assert driver.find_element(By.CSS_SELECTOR, ".code button").text == "copy"
        assert "Does it work?" in driver.find_element(By.TAG_NAME, "nav").text  # the page's contents
        driver.find_element(By.CSS_SELECTOR, "[rel=next]").click()
        assert driver.find_element(By.CSS_SELECTOR, "[rel=prev]").text.endswith("Install")
