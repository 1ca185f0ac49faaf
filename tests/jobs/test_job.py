"""The main job as its user runs it: what it writes, and what it says to bad input."""

import base64
import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alloc_jax.actions import vote
from alloc_jax.evaluate.scoring import UNIFORM
from alloc_jax.jobs.console import plain_errors
from alloc_jax.jobs.escalate import ESCALATE, escalate_beside
from alloc_jax.jobs.job_log import default_actions
from alloc_jax.jobs.solve_then_learn import FrontierConfig, JobConfig, solve_only, solve_then_learn
from alloc_jax.jobs.workdir import new_workdir
from alloc_jax.learn import load_policy
from alloc_jax.logs import read_log, write_log
from alloc_jax.report.headline import best_policy
from tests.browser import browser, look
from tests.conftest import made_log

ROOT = Path(__file__).parents[2]


QUESTIONS = 120  # of every table, after what is left out: one shape, one program


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"
    write_log(made_log(questions=QUESTIONS), path)
    return str(path)


@pytest.fixture(scope="module")
def run(log_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    kinds = ("value", "decision", "imitation")
    config = JobConfig(log=log_file, resource="samples", budgets=(1.5, 3.0), policies=kinds)
    return solve_then_learn(config, folder), folder


def lines(path):
    return path.read_text().splitlines()


def test_a_run_leaves_everything_it_promised(run):
    report, folder = run
    names = {path.name for path in folder.iterdir()}
    pictures = ("frontier", "spend_by_difficulty", "paths", "who_gets_compute", "multiplier", "calibration", "regret")
    assert names == {f"{name}.{ending}" for name in pictures for ending in ("png", "svg", "pdf")} | {
        "report.md",
        "report.html",
        "policy",
        "predictions.jsonl",
        "metrics.jsonl",
        "config.json",
        "stamp.json",
    }
    assert {path.name for path in (folder / "policy").iterdir()} == {"value", "decision", "imitation"}
    metrics = [json.loads(line, parse_constant=pytest.fail) for line in lines(folder / "metrics.jsonl")]
    assert len(metrics) == len(report.rows)
    predictions = [json.loads(line) for line in lines(folder / "predictions.jsonl")]
    assert len(predictions) == report.questions == 48
    assert predictions[0]["chosen"]["value"].keys() == {"1.5", "3"}
    page = (folder / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 7
    assert "http" not in page
    saved = dict(re.findall('<a download="([^"]+)" href="data:[^,]+;base64,([^"]+)"', page))
    assert saved.keys() == {f"{name}.{end}" for name in pictures for end in ("png", "svg", "pdf")} | {
        "frontier.csv",
        "alloc_jax.bib",
    }
    assert base64.b64decode(saved["regret.pdf"]) == (folder / "regret.pdf").read_bytes()
    rows = list(csv.DictReader(base64.b64decode(saved["frontier.csv"]).decode().splitlines()))
    assert {row["rule"] for row in rows} >= {"value", ESCALATE, "uniform mix"} and len(
        {row["budget"] for row in rows}
    ) == 12
    assert b"2604.14853" in base64.b64decode(saved["alloc_jax.bib"])
    assert list(folder.parent.iterdir()) == [folder]


def test_escalation_stands_beside_the_policies_on_the_same_questions_and_is_a_candidate_for_the_answer(run):
    report, folder = run
    rows = [row for row in report.rows if row.rule == ESCALATE]
    assert rows and all(row.plan is None and row.regret is None for row in rows)
    assert JobConfig().candidates(report) == ("value", "imitation", ESCALATE)
    assert f"| {ESCALATE} " in (folder / "report.md").read_text()
    row = report.row(ESCALATE, 3.0)
    for name in ("report.md", "report.html"):
        page = (folder / name).read_text()
        assert "Where 48 questions go at a budget of 1.5, sample by sample" in page and "Flow of 48 questions" in page
    assert 0 < row.spend.value < 3.6 and row.excess.means.shape[0] == report.row("value", 3.0).excess.means.shape[0]


def test_a_log_without_answers_has_no_row_of_escalation(log_file, tmp_path):
    log = read_log(log_file)
    bits = replace(log, answer=np.full_like(log.answer, -1))
    known = SimpleNamespace(actions=(vote("small", 1), vote("large", 1)))
    assert escalate_beside(known, bits, bits, None, (2.0,), (2.0,), 0) == ({}, None)


@pytest.mark.browser
def test_the_page_reads_well_on_a_phone_and_aloud_and_asks_the_network_for_nothing(run, tmp_path):
    page = run[1] / "report.html"
    with browser(tmp_path / "profile") as driver:
        for width, height in ((360, 740), (1280, 800)):
            for dark in (False, True):
                found = look(driver, page, width, height, dark)
                assert found["requests"] == found["console"] == []
                assert found["language"] == "en"
                assert found["overflow"] == 0
                assert found["texts"] > 100 and found["faint"] == []
                assert len(found["images"]) == 7 and all(len(alt) > 80 and drawn for alt, drawn in found["images"])
                assert found["headings"] == [1, 2, 2, 2, 2, 2, 2, 2, 2]
                assert found["tables"] == 7 and found["headless"] == 0
                assert all(index == 0 and name for index, name in found["scrolling"])
                assert width > 360 or len(found["scrolling"]) >= 8  # pictures and wide tables, each in its own box


@pytest.mark.browser
def test_the_slider_moves_what_the_first_screen_says_and_without_scripts_it_says_the_middle_budget(run, tmp_path):
    report, folder = run
    best = best_policy(report, ("value", "decision", "imitation", ESCALATE))
    said = {budget: f"{100 * report.row(best, budget).accuracy.value:.1f} %" for budget in report.budgets}
    from selenium.webdriver.common.keys import Keys

    with browser(tmp_path / "profile") as driver:
        driver.get((folder / "report.html").as_uri())

        def text(name):
            return driver.find_element("id", name).text

        slide = driver.find_element("id", "budget")
        shown = {text("chosen"): text("accuracy")}
        places = {driver.find_element("id", "mark-policy").get_attribute("cx")}
        for key in [Keys.HOME, *[Keys.ARROW_RIGHT] * int(slide.get_attribute("max"))]:
            slide.send_keys(key)
            shown[text("chosen")] = text("accuracy")
            places.add(driver.find_element("id", "mark-policy").get_attribute("cx"))
            assert slide.get_attribute("aria-valuetext") == f"{text('chosen')}: {text('accuracy')}"
        assert shown["1.5"] == said[1.5] and shown["3"] == said[3.0]
        assert len(shown) == int(slide.get_attribute("max")) + 1 and len(places) > len(shown) // 2
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        driver.get((folder / "report.html").as_uri())
        assert not driver.find_element("id", "slide").is_displayed() and text("accuracy") == said[1.5]
        assert driver.find_element("id", "mark-policy").is_displayed()


@pytest.mark.browser
def test_a_page_that_reads_badly_is_found_out(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><html><body><h1>a</h1><h3 style="color: #999">b</h3><img src="x.png">'
        "<table><tr><th>c</th></tr></table><p style='width: 900px'>wide</p><script>throw 1</script></body></html>"
    )
    with browser(tmp_path / "profile") as driver:
        found = look(driver, page, 360, 740)
    assert [url.rpartition("/")[2] for url in found["requests"]] == ["x.png"]
    assert len(found["console"]) == 2 and found["language"] == ""
    assert found["overflow"] > 500
    assert [text for text, _ in found["faint"]] == ["b"] and found["faint"][0][1] == pytest.approx(2.85, abs=0.01)
    assert found["images"] == [["", 0]]
    assert found["headings"] == [1, 3] and found["headless"] == 3


def test_a_report_begins_with_its_answer(run):
    report, folder = run
    page, web = ((folder / name).read_text() for name in ("report.md", "report.html"))
    best = best_policy(report, ("value", "decision", "imitation", ESCALATE))
    assert (
        f"# Who gets the compute\n\n**At a budget of 1.5 samples per question the policy '{best}' is right on " in page
    )
    assert page.index("saving") < page.index("![") < page.index("## Every rule at every budget")
    assert web.index("At a budget of 1.5") < web.index("saving") < web.index("<img") < web.index("Every rule")


def test_a_run_is_not_replaced_unasked(run, log_file):
    _, folder = run
    before = (folder / "report.md").read_text()
    config = FrontierConfig(log=log_file, resource="samples", budgets=(2.0,))
    with pytest.raises(ValueError, match="holds another run"):
        solve_only(config, folder)
    assert (folder / "report.md").read_text() == before


def test_other_peoples_files_are_never_replaced(tmp_path, log_file):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="other files"):
        solve_only(FrontierConfig(log=log_file, resource="samples", budgets=(2.0,)), tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_overwrite_replaces_a_run(tmp_path):
    for name, more in (("old", {}), ("new", {"overwrite": True})):
        with new_workdir(tmp_path / "run", {}, **more) as folder:
            (folder / f"{name}.txt").write_text(name)
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"new.txt", "config.json"}
    assert not (tmp_path / "run" / "old.txt").exists()


def test_a_configuration_may_hold_numpy_numbers(tmp_path):
    with new_workdir(tmp_path / "run", {"seed": np.int64(3), "budgets": (np.float32(0.5),)}):
        pass
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 3, "budgets": [0.5]}


def test_without_anything_to_draw_with_a_run_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"alloc_jax\[plot\]"), new_workdir(tmp_path / "run", {}):
        pytest.fail("the work has begun")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_workdir(tmp_path / "run", {}) as folder:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_dollars_come_from_a_price_book_and_questions_without_counts_are_refused_or_left_out(tmp_path, caplog):
    log = made_log(questions=QUESTIONS + 1)
    tokens = log.completion_tokens.copy()
    tokens[7, 1, 3] = np.nan
    write_log(replace(log, prompt_tokens=log.completion_tokens, completion_tokens=tokens), tmp_path / "log.jsonl")
    rates = {"cached_input": None, "reasoning": None, "source": "a page", "date": "2025-01-01"}
    book = [
        {"model": "small", "input": 1e6, "output": 0, **rates},
        {"model": "large", "input": 2e6, "output": 0, **rates},
    ]
    (tmp_path / "prices.json").write_text(json.dumps(book))
    options = dict(resource="usd", prices=str(tmp_path / "prices.json"), budgets=(60.0,))
    config = FrontierConfig(log=str(tmp_path / "log.jsonl"), **options)
    with pytest.raises(
        ValueError, match=r"question 'q7' has a sample of 'large' .model 'large'. without completion_tokens"
    ):
        solve_only(config, tmp_path / "run")
    report = solve_only(replace(config, missing="drop"), tmp_path / "run")
    assert report.questions == QUESTIONS and report.unit == "usd (prices of 2025-01-01)"
    assert "1 of 121 questions" in caplog.text and "'q7'" in caplog.text


def test_questions_without_samples_of_a_source_are_refused_or_left_out_and_counted(tmp_path, caplog):
    log = made_log(questions=QUESTIONS + 3)
    count = log.count.copy()
    count[:3, 1] = 0  # of more than a tenth, the source would be left out
    write_log(replace(log, count=count), tmp_path / "log.jsonl")
    config = FrontierConfig(log=str(tmp_path / "log.jsonl"), resource="samples", budgets=(2.0,))
    with pytest.raises(ValueError, match=r"3 of 123 questions have no samples of some source, .* 'q0' none of 'large'"):
        solve_only(config, tmp_path / "run")
    report = solve_only(replace(config, missing="drop"), tmp_path / "run")
    assert (report.questions, report.dropped) == (QUESTIONS, 3)
    assert "'q0' none of 'large': they are left out" in caplog.text
    assert sorted(round(cost.value, 3) for cost in report.fixed_cost) == [1, 1, 4, 4, 8, 8]
    assert "; 3 questions that lack" in (tmp_path / "run" / "report.md").read_text()


def test_decision_policies_are_among_the_predictions(run):
    report, folder = run
    first = json.loads(lines(folder / "predictions.jsonl")[0])
    assert first["predicted"].keys() == {"value", "decision"} and first["chosen"]["imitation"].keys() == {"1.5", "3"}
    policy = load_policy(folder / "policy" / "decision")
    assert report.row("decision", 1.5).regret.multiplier == pytest.approx(policy.multiplier(1.5).mean)


@pytest.mark.long
def test_choosing_on_shrunken_utilities_of_few_samples_earns_more_and_scores_are_not_shrunken(tmp_path):
    write_log(made_log(questions=300, samples=4), tmp_path / "log.jsonl")
    config = FrontierConfig(
        log=str(tmp_path / "log.jsonl"), actions="single(small) vote(small,2) single(large)", budgets=(1.2,)
    )
    config = replace(config, resource="samples")
    plain, shrunken = (
        solve_only(replace(config, shrink=way), tmp_path / f"run{way}") for way in ("", "empirical_bayes")
    )
    earned = [report.row(report.oracle, 1.2).accuracy.value for report in (plain, shrunken)]
    assert earned[1] > earned[0] + 0.01
    assert plain.row(UNIFORM, 1.2).accuracy == shrunken.row(UNIFORM, 1.2).accuracy


@pytest.mark.long
def test_single_samples_are_solved_in_hindsight(tmp_path):
    write_log(made_log(questions=60, samples=1), tmp_path / "one.jsonl")
    config = FrontierConfig(log=str(tmp_path / "one.jsonl"), resource="compute", budgets=(0.6,))
    report = solve_only(config, tmp_path / "run")
    assert report.oracle == "oracle (hindsight)"
    for name in ("report.md", "report.html"):
        page = (tmp_path / "run" / name).read_text()
        assert "Every action on every question" in page and "Regret" not in page  # there is no policy to have any


def test_default_votes_fit_in_half_of_the_samples():
    assert {action.samples for action in default_actions(made_log(20, samples=16))} == {1, 4, 8}
    assert {action.samples for action in default_actions(made_log(20, samples=1))} == {1}


def script(name, *flags):
    command = [sys.executable, str(ROOT / "experiments" / name), *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=None)


BAD = [
    ({"log": "nowhere.jsonl"}, "nowhere.jsonl"),
    ({"policies": ("value", "value")}, "different names"),
    ({"policies": ("guess",)}, "unknown policy 'guess'"),
    ({"resource": "money"}, "unknown resource 'money'"),
    ({"budgets": (0.5,)}, "below the cheapest"),
    ({"actions": "vote(huge,1)"}, "unknown source 'huge'"),
    ({"actions": "vote(large,64)"}, "needs 64 samples"),
    ({"budgets": (2.0, 2.0)}, "different positive numbers"),
    ({"budgets": (float("nan"),)}, "different positive numbers"),
    ({"train_share": 1.0}, "train_share"),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_bad_input_is_named_and_leaves_nothing(changed, message, log_file, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        solve_then_learn(
            JobConfig(**{"log": log_file, "resource": "samples", "budgets": (2.0,), **changed}), tmp_path / "run"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--log=nowhere.jsonl"], "nowhere.jsonl"),
        pytest.param(["--no_such_flag=1"], "no_such_flag", marks=pytest.mark.long),
    ],
)
def test_a_script_says_what_is_wrong_in_a_line(flags, message, tmp_path):
    said = script("solve_then_learn.py", f"--workdir={tmp_path / 'run'}", *flags)
    assert said.returncode == 1
    assert message in said.stderr + said.stdout
    assert "Traceback" not in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_script_ends_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as stopped, plain_errors("job"):
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "job: interrupted; nothing was written\n"


@pytest.mark.long
def test_the_frontier_script_prints_its_table(log_file, tmp_path):
    flags = [f"--workdir={tmp_path / 'run'}", f"--log={log_file}", "--resource=tokens", "--budgets=20,60"]
    said = script("frontier.py", *flags)
    assert said.returncode == 0, said.stderr
    assert "oracle (disjoint samples)" in said.stdout
    assert said.stdout.startswith("At a budget of 20 ") and said.stdout.endswith("/run/report.html\n")
    assert len(said.stdout.splitlines()) <= 8
    header, *points = (tmp_path / "run" / "frontier.csv").read_text().splitlines()
    assert header == "spend,utility,multiplier"
    spends = [float(line.split(",")[0]) for line in points]
    assert spends == sorted(spends) and len(spends) > 10
