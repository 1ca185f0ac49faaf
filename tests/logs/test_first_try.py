"""Logs as tools write them, given as a newcomer would: files or a folder, no options; or the error names every flag that is needed."""

import json

import pytest

from alloc_jax.logs import LogError, read_logs
from alloc_jax.logs.grading import fitting_grader
from tests.logs import foreign_logs as logs

RIGHT = {"q0": [True, True, False], "q1": [True, False, True]}  # of logs.RESPONSES


def correct(reading):
    return [row[0][: len(RIGHT["q0"])] for row in reading.log.correct.tolist()]


@pytest.mark.parametrize("name", ["lm_eval", "helm", "journal", "lighteval"])
def test_reference_answers_choose_the_grader_of_a_log_that_was_not_graded_and_a_note_says_so(name, tmp_path):
    pytest.importorskip(logs.PACKAGES.get(name, "json"))
    reading = read_logs(logs.WRITERS[name][0](tmp_path))
    assert correct(reading) == list(RIGHT.values())
    assert "graded by 'number', as every reference answer is a number; --grader names another" in " ".join(
        reading.notes
    )


@pytest.mark.parametrize(
    ("golds", "method"),
    [
        (["x\n#### 42", "1,250", "-3.5", "$7", "12%", "3/4"], "number"),
        (["A", "(B)", "C."], "choice"),
        (["7", r"\frac{1}{2}"], "math"),
        ([("Paris", "City of Paris"), "7"], "text"),
        (["Paris 2024"], "text"),
    ],
)
def test_the_grader_fits_every_reference_answer(golds, method):
    assert fitting_grader(golds)[0] == method


def test_a_grader_that_is_named_decides(tmp_path):
    reading = read_logs(logs.lm_eval(tmp_path), grader="text")
    assert correct(reading) != list(RIGHT.values()) and "graded by" not in " ".join(reading.notes)


def test_a_folder_is_the_log_of_the_files_below_it(tmp_path):
    logs.lm_eval(tmp_path)
    row = json.loads(next((tmp_path / "org__model").glob("*.jsonl")).read_text().splitlines()[0])
    (tmp_path / "org__other").mkdir()
    logs.dump_lines(tmp_path / "org__other" / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl", [row])
    (tmp_path / "org__other" / "results.json").write_text('{"results": {}}')
    reading = read_logs(tmp_path)
    assert [source.name for source in reading.log.sources] == ["org__model", "org__other"]
    logs.table(tmp_path)
    with pytest.raises(
        LogError, match=r"a folder with logs of several formats: 2 of format lm_eval .*, 1 of format table"
    ):
        read_logs(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no sample log at"):
        read_logs(tmp_path / "empty")


def test_a_batch_needs_its_questions_in_one_file_and_nothing_else(tmp_path):
    path, questions = logs.batch(tmp_path), tmp_path / "questions.jsonl"
    logs.dump_lines(questions, [{"id": i, "question": f"text of {i}", "gold": gold} for i, gold in logs.GOLD.items()])
    reading = read_logs(path, requests=questions)
    assert correct(reading) == list(RIGHT.values()) and reading.log.question == ("text of q0", "text of q1")
    assert reading.log.gold == tuple(logs.GOLD.values())
    logs.dump_lines(questions, [{"id": i, "question": f"text of {i}"} for i in logs.GOLD])
    with pytest.raises(ValueError, match="needs --gold"):
        read_logs(path, requests=questions)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_table_of_responses_needs_no_option(tmp_path, separator):
    rows = [(i, "a text; or, two", said, logs.GOLD[i]) for i, texts in logs.RESPONSES.items() for said in texts]
    quoted = [f'"{cell}"' for row in rows for cell in row]
    lines = [separator.join(quoted[at : at + 4]) for at in range(0, len(quoted), 4)]
    (tmp_path / "gpt.csv").write_text("\n".join([separator.join(("id", "question", "response", "gold")), *lines]))
    reading = read_logs(tmp_path / "gpt.csv")
    assert correct(reading) == list(RIGHT.values()) and reading.log.sources[0].name == "gpt"
    assert any("all samples are of the source 'gpt'; --source=NAME" in note for note in reading.notes)


def test_a_line_of_json_may_hold_all_samples_of_a_question(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [
        {"id": i, "question": i, "model": "m", "answers": ["4", None, "5"], "correct": RIGHT[i], "tokens": [1, 2, 3]}
        for i in RIGHT
    ]
    logs.dump_lines(path, [{**row, "answers": ["4", "5", "4"], "cost": 0.5} for row in rows])
    log = read_logs(path).log
    assert log.correct.tolist() == [[row] for row in RIGHT.values()] and log.answer.tolist()[0] == [[0, 1, 0]]
    assert log.completion_tokens.tolist()[1] == [[1, 2, 3]] and log.usd.tolist()[0] == [[0.5] * 3]
    logs.dump_lines(path, [{**rows[0], "tokens": [1, 2]}])
    with pytest.raises(LogError, match="correct: 3 samples, tokens: 2 samples, answers: 3 samples"):
        read_logs(path)


def test_responses_beside_verdicts_are_read_where_a_grader_is_named(tmp_path):
    rows = [{"question": "q", "model": "m", "response": "so 7", "gold": "7", "correct": True}] * 2
    logs.dump_lines(tmp_path / "log.jsonl", rows)
    assert "no column holds answers" in read_logs(tmp_path / "log.jsonl").notes[0]
    assert read_logs(tmp_path / "log.jsonl", grader="number").log.answers == (("7",),)


@pytest.mark.parametrize("name", logs.WRITERS)
def test_a_log_without_options_is_read_or_its_refusal_names_the_flags(name, tmp_path):
    pytest.importorskip(logs.PACKAGES.get(name, "json"))
    path = logs.WRITERS[name][0](tmp_path)
    try:
        assert len(read_logs(path).log) == 2
    except ValueError as refusal:
        assert "--" in str(refusal)


def test_a_bad_record_among_good_ones_can_be_left_out_and_the_refusal_says_how(tmp_path):
    rows = [{"question": f"q{i}", "model": "m", "answer": "4", "correct": right} for i, right in enumerate((1, "?", 0))]
    logs.dump_lines(tmp_path / "log.jsonl", rows)
    with pytest.raises(LogError, match=r"line 2: correct: expected a number, got .*--skip_bad leaves such records out"):
        read_logs(tmp_path / "log.jsonl")
    assert read_logs(tmp_path / "log.jsonl", skip_bad=True).skipped == 1
    logs.dump_lines(tmp_path / "log.jsonl", rows[1:])
    with pytest.raises(LogError) as refusal:
        read_logs(tmp_path / "log.jsonl")
    assert "--skip_bad" not in str(refusal.value)
