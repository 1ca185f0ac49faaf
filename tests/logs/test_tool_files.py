"""What tools were seen to write, shape by shape: it is read, or the error says what to do."""

import importlib
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from alloc_jax.files.text import top_fields
from alloc_jax.logs import LogError, flags as reading, read_logs
from alloc_jax.logs.formats import FORMATS, find_reader
from tests.logs import foreign_logs as logs
from tests.logs.test_formats import fields, needs, read, written


def read_log(path, format=None, **options):
    """The log alone; what should be known of it is warned of elsewhere."""
    return read_logs(path, format, **options).log


CHAT = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "text of q0"}])


def lm_eval_row(**changes):
    row = {
        "doc_id": 0,
        "doc": {"x": 1},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": [CHAT]}},
        "filter": "none",
    }
    return {**row, "resps": [["It is 4.", None, "5"]], **changes}


# ---------------------------------------------------------------------------------------------------------------
# lm-evaluation-harness
# ---------------------------------------------------------------------------------------------------------------


def test_lm_eval_of_a_chat_server_asks_in_a_list_of_one_json_text_and_null_is_no_answer(tmp_path):
    logs.dump_lines(tmp_path / "samples_plums.jsonl", [lm_eval_row()])
    log = read_log(tmp_path / "samples_plums.jsonl", grader="number")
    assert log.ids == ("plums/0",) and log.question == ("text of q0",)
    assert log.correct.tolist() == [[[True, False, False]]] and log.answer.tolist() == [[[0, -1, 1]]]


def test_lm_eval_of_mid_2024_is_one_array(tmp_path):
    path = tmp_path / "samples_plums.json"
    path.write_text(json.dumps([lm_eval_row(), lm_eval_row(doc_id=1)], indent=2))
    log = read_log(path, grader="number")
    assert log.ids == ("plums/0", "plums/1") and find_reader(path) is FORMATS["lm_eval"]


def test_any_of_several_targets_is_right(tmp_path):
    row = lm_eval_row(target=["Amsterdam", "A'dam"], resps=[["Amsterdam", "a'dam", "Utrecht"]])
    logs.dump_lines(tmp_path / "log", [row])
    log = read_log(tmp_path / "log", grader="text")
    assert log.correct.tolist() == [[[True, True, False]]] and json.loads(log.gold[0]) == ["Amsterdam", "A'dam"]


@pytest.mark.parametrize("resps", [[[["-1.5", "False"]], [["-0.5", "True"]]], [["-1.5", "False"], ["-0.5", "True"]]])
def test_multiple_choice_by_likelihood_is_named_as_such(tmp_path, resps):
    logs.dump_lines(tmp_path / "log", [lm_eval_row(resps=resps)])
    with pytest.raises(LogError, match="log-likelihoods of given choices, not texts"):
        read_log(tmp_path / "log", grader="number")


# ---------------------------------------------------------------------------------------------------------------
# Inspect
# ---------------------------------------------------------------------------------------------------------------


def inspect_log(folder, *scores, name="log.json", status="success", task="sums", **evaluation):
    samples = [
        {"id": j, "epoch": 1, "input": f"text {j}", "target": "Yes", "scores": score, "output": {"completion": "Yes!"}}
        for j, score in enumerate(scores)
    ]
    head = {"version": 2, "status": status, "eval": {"task": task, "model": "m", **evaluation}}
    (folder / name).write_text(json.dumps({**head, "samples": samples}))
    return folder / name


def score(value, answer=None, scorer="match"):
    return {scorer: {"value": value, "answer": answer}}


def test_two_tasks_of_one_model_are_one_log(tmp_path):
    one = inspect_log(tmp_path, score("C", "Yes"), name="one.json")
    other = inspect_log(tmp_path, score("I", "No"), name="other.json", task="capitals")
    log = read_log([one, other])
    assert log.ids == ("sums/0", "capitals/0") and len(log.sources) == 1


def test_a_grader_reads_the_scorers_answer_and_else_the_completion(tmp_path):
    path = inspect_log(tmp_path, score("C", "Yes."), score("C", "yes"), score("C"), None)
    log = read_log(path, grader="text")
    assert log.correct[:, 0, 0].tolist() == [True, True, False, False] and log.answers[0] == ("yes",)


def test_a_right_sample_without_an_answer_leaves_bits(tmp_path):
    first, second = (
        {"id": 0, "epoch": epoch, "input": "q", "target": "2", "scores": given}
        for epoch, given in ((1, score("C")), (2, score("I", "3")))
    )
    head = {"version": 2, "eval": {"task": "sums", "model": "m"}}
    (tmp_path / "log.json").write_text(json.dumps({**head, "samples": [first, second]}))
    reading = read_logs(tmp_path / "log.json")
    assert reading.log.correct.tolist() == [[[True, False]]] and (reading.log.answer == -1).all()
    assert "1 pairs of question and source have a right sample without an answer" in reading.notes[0]


def test_an_evaluation_that_was_cancelled_says_how_much_of_it_there_is(tmp_path):
    path = inspect_log(tmp_path, score("C", "Yes"), status="cancelled", dataset={"samples": 5}, config={"epochs": 2})
    assert read_logs(path).notes == (f"{path}: the evaluation ended as 'cancelled': 1 of 10 samples are there",)


@pytest.mark.parametrize("samples", [{}, {"samples": None}, {"samples": []}])
@pytest.mark.parametrize("form", ["json", "eval"])
def test_an_evaluation_that_failed_before_its_first_sample_says_why(tmp_path, samples, form):
    error = {"message": "no key for the model", "traceback": "Traceback ..."}
    head = {"version": 2, "status": "error", "eval": {"task": "sums", "model": "m"}, "error": error}
    path = tmp_path / f"log.{form}"
    if form == "json":
        path.write_text(json.dumps({**head, **samples}))
    else:
        needs("inspect")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("header.json", json.dumps(head))
    with pytest.raises(
        LogError, match="the evaluation ended as 'error' without a sample: no key for the model; run it"
    ):
        read_logs(path)


def test_an_eval_file_that_never_ended_is_read_by_its_journal(tmp_path):
    needs("inspect")
    start = {"version": 2, "eval": {"task": "sums", "model": "m", "dataset": {"samples": 3}}}
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("_journal/start.json", json.dumps(start))
        sample = {"id": 1, "epoch": 1, "input": "q", "target": "2", "scores": score("C", "2")}
        archive.writestr("samples/1_epoch_1.json", json.dumps(sample))
    assert "ended as 'started': 1 of 3 samples" in read_logs(tmp_path / "log.eval").notes[0]


def test_unscored_samples_are_left_out_and_said_and_an_unscored_log_is_refused(tmp_path):
    path = inspect_log(tmp_path, score("C", "Yes"), score(None), score(float("nan")), {})
    reading = read_logs(path)
    assert len(reading.log) == 1 and "3 of 4 samples are unscored, and were left out" in reading.notes[0]
    with pytest.raises(LogError, match="the log was not scored: 2 of 2 samples are unscored; score it"):
        read_log(inspect_log(tmp_path, None, {}))


def test_words_and_parts_of_scores_decide(tmp_path):
    path = inspect_log(tmp_path, score("yes", "Yes"), score("no", "No"))
    assert read_log(path).correct[:, 0, 0].tolist() == [True, False]
    path = inspect_log(tmp_path, score({"right": 1, "style": 0.5}, "Yes", "judge"))
    with pytest.raises(LogError, match=r"several values: name one as the scorer: judge\.right, judge\.style"):
        read_log(path)
    assert read_log(path, scorer="judge.right").correct.all()
    assert not read_log(path, scorer="judge.style", threshold=0.6).correct.any()
    with pytest.raises(LogError, match="there is no scorer 'tone'; it was scored by judge"):
        read_log(path, scorer="tone")


# ---------------------------------------------------------------------------------------------------------------
# Recognition, refusals
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["monkeys", "lm_eval", "batch", "qwen_math", "jsonl"])
def test_a_first_record_of_megabytes_is_recognised(name, tmp_path):
    path, _ = written(name, tmp_path)
    array = name == "monkeys"
    content = path.read_text()
    rows = json.loads(content) if array else [json.loads(line) for line in content.splitlines()]
    rows = rows[1:] if name == "jsonl" else rows
    rows[0] = (
        {"padding": ["x" * 1000] * 3000, **rows[0]} if name != "jsonl" else {**rows[0], "question": "x" * 3_000_000}
    )
    path.write_text(json.dumps(rows) if array else "\n".join(map(json.dumps, rows)))
    assert find_reader(path) is FORMATS[name]


def test_the_look_at_a_file_passes_over_large_values(tmp_path):
    path = tmp_path / "file"
    path.write_text(
        json.dumps({"a": 1, "long": [{"b": ']}"\\' * 40_000}] * 3, "c": {"d": None}, "e": "x" * 100_000, "f": 2})
    )
    found = top_fields(path)
    assert list(found) == ["a", "long", "c", "e", "f"] and found["c"] == {"d": None} and found["f"] == 2
    assert list(top_fields(path, most=1000)) == ["a", "long"]


def test_a_git_lfs_pointer_is_named_as_such(tmp_path):
    pointer = tmp_path / "log.jsonl"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    for format in (None, "jsonl"):
        with pytest.raises(LogError, match=r"a Git LFS pointer, .*: git lfs pull"):
            read_log(pointer, format)
    with pytest.raises(LogError, match="a Git LFS pointer"):
        read_log(logs.batch(tmp_path), grader="number", requests=logs.batch_requests(tmp_path), gold=pointer)


@pytest.mark.parametrize("name", FORMATS)
def test_every_refusal_shows_what_a_record_should_look_like(name, tmp_path):
    path, options = written(name, tmp_path)
    path.write_text('{"what": "is this"}\n{"what": 2}\n')
    with pytest.raises(LogError) as said:
        read_log(path, name, **options)
    assert f"a record of format {name} looks like this: {FORMATS[name].example}" in str(said.value)


@pytest.mark.parametrize(
    "name", ["jsonl", "lm_eval", "monkeys", "best_route", "qwen_math", "routerarena", "llmrouterbench"]
)
def test_the_record_that_refusals_show_is_read(name, tmp_path):
    example = FORMATS[name].example
    (tmp_path / "log").write_text(f"[{example}]" if name in ("monkeys", "routerarena") else example + "\n")
    assert len(read_log(tmp_path / "log", **written(name, tmp_path)[1])) == 1


# ---------------------------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------------------------

BATCH = {"grader": "number", "gold": {"q0": "8"}, "requests": {"q0": "4+4?"}}


def batch_of(folder, response, error=None):
    logs.dump_lines(folder / "out.jsonl", [{"id": "b", "custom_id": "q0", "response": response, "error": error}])
    return folder / "out.jsonl"


def test_bodies_of_responses_are_read(tmp_path):
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "99"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "8"}]},
    ]
    usage = {"input_tokens": 9, "output_tokens": 30, "output_tokens_details": {"reasoning_tokens": 26}}
    usage["input_tokens_details"] = {"cached_tokens": 4}
    path = batch_of(tmp_path, {"status_code": 200, "body": {"model": "m", "output": output, "usage": usage}})
    log = read_log(path, **BATCH)
    assert log.correct.all() and fields(log) == {
        "prompt_tokens": [[[9]]],
        "cached_tokens": [[[4]]],
        "completion_tokens": [[[30]]],
        "reasoning_tokens": [[[26]]],
    }


def test_parts_of_a_message_are_joined_without_its_thinking(tmp_path):
    parts = [{"type": "thinking", "thinking": "9"}, {"type": "text", "text": "It is"}, {"type": "text", "text": "8"}]
    body = {"model": "m", "choices": [{"message": {"content": parts}}, {"message": {"content": None}}]}
    log = read_log(batch_of(tmp_path, {"status_code": 200, "body": body}), **BATCH)
    assert log.correct.tolist() == [[[True, False]]] and log.answer.tolist() == [[[0, -1]]]


def test_output_without_an_envelope_is_read_and_failures_say_what_failed(tmp_path):
    body = {"model": "m", "choices": [{"message": {"content": "8"}}]}
    assert read_log(batch_of(tmp_path, body), **BATCH).correct.all()
    for response, error, message in [
        ({"status_code": 429, "body": {}}, None, "the request failed: status 429"),
        (None, {"code": "expired"}, "the request failed: {'code': 'expired'}"),
        ({"object": "x"}, None, "response: holds neither an answer nor an error"),
        (None, None, "response: holds neither an answer nor an error"),
    ]:
        with pytest.raises(LogError, match=message):
            read_log(batch_of(tmp_path, response, error), **BATCH)


# ---------------------------------------------------------------------------------------------------------------
# Others
# ---------------------------------------------------------------------------------------------------------------


def test_a_failed_body_of_responses_is_a_bad_record_and_an_incomplete_one_no_answer(tmp_path):
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "no 4"}]}
    bodies = [
        {"status": "failed", "error": {"code": "server_error", "message": "out of 4 memories"}, "output": []},
        {"status": "incomplete", "error": None, "output": []},
        {"status": "completed", "error": None, "output": [refusal]},
    ]
    requests, gold = {f"q{j}": "2 + 2?" for j in range(3)}, {f"q{j}": "4" for j in range(3)}
    rows = [
        {"custom_id": f"q{j}", "response": {"status_code": "200", "body": {"model": "m", **body}}, "error": None}
        for j, body in enumerate(bodies)
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    given = {"requests": requests, "gold": gold, "grader": "number"}
    with pytest.raises(LogError, match=r"line 1: question 'q0': the request failed: status 200, .*out of 4 memories"):
        read_log(path, **given)
    reading = read_logs(path, skip_bad=True, **given)
    assert reading.skipped == 1 and reading.log.ids == ("q1", "q2")
    assert (reading.log.answer[:, 0, 0] == -1).all() and not reading.log.correct.any()


def test_the_responses_beside_routellms_bits_are_no_models(tmp_path):
    header = ["prompt", "mixtral", "gpt-4", "mixtral_response", "gpt-4_response"]
    logs.dump_csv(tmp_path / "log.csv", header, [["2 + 2?", True, False, "4", "It's 5,\nor not"]])
    log = read_log(tmp_path / "log.csv")
    assert [s.name for s in log.sources] == ["mixtral", "gpt-4"] and log.correct[0, :, 0].tolist() == [True, False]


def test_an_unknown_bit_and_an_empty_record_are_named(tmp_path):
    path = tmp_path / "log.json"
    good = {"question": "2^6?", "gt_answer": "64", "samples": ["64"], "is_corrects": [True], "orig_dset_idx": 5}
    for bad, message in [
        ({**good, "is_corrects": [float("nan")]}, "NaN: whether this is right is unknown"),
        ({**good, "samples": [], "is_corrects": []}, "the record is empty"),
    ]:
        path.write_text(json.dumps([{**bad, "orig_dset_idx": 4}, good]))
        with pytest.raises(LogError, match=message):
            read_log(path)
        assert read_log(path, skip_bad=True).ids == ("5",)


def test_qwen_math_keeps_its_answers_or_is_graded(tmp_path):
    log = read("qwen_math", tmp_path).log
    assert (
        log.ids == ("gsm8k/0", "gsm8k/1") and log.sources[0].name == "Qwen2.5-Math-7B" and log.group == ("gsm8k",) * 2
    )
    assert log.answers == (("4", "5"), ("9",)) and log.answer[1].tolist() == [[0, -1, 0]]
    graded = read("qwen_math", tmp_path, grader="number").log
    np.testing.assert_array_equal(graded.correct, log.correct)


def test_routerarena_counts_hidden_tokens_as_reasoning(tmp_path):
    reading = read("routerarena", tmp_path)
    assert reading.log.ids == ("AIME_0", "AIME_1") and reading.log.group == ("AIME",) * 2
    assert reading.log.correct[:, 0, 0].tolist() == [True, False]
    found = fields(reading.log)
    assert found["completion_tokens"] == [[[10]], [[610]]] and found["reasoning_tokens"] == [[[None]], [[600]]]
    assert "the total tokens of 1 samples exceed input and output" in reading.notes[0]


def test_routerarenas_cached_results_are_samples(tmp_path):
    path = logs.routerarena_cached(tmp_path)
    log = read_log(path)
    assert find_reader(path) is FORMATS["routerarena"] and log.count.tolist() == [[3]] * 2 and log.gold == ("4", "9")
    assert log.correct[:, 0].tolist() == [[True, True, False], [True, False, True]]
    assert read_log(path, grader="number").answers == (("4", "5"), ("9",))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    logs.dump_lines(path, [{**rows[0], "success": False, "error": "timeout"}])
    with pytest.raises(LogError, match="no response: timeout"):
        read_log(path)


def test_programs_have_bits_and_say_when_they_were_not_run(tmp_path):
    log = read("humaneval", tmp_path, requests={"HumanEval/0": "def f", "HumanEval/1": "def g"}).log
    assert log.correct[:, 0].tolist() == [[True, False, False]] * 2 and log.question[1] == "def g"
    assert log.sources[0].name == "samples" and log.group == ("HumanEval",) * 2
    logs.dump_lines(tmp_path / "samples.jsonl", [{"task_id": "HumanEval/0", "solution": "def f(): ..."}])
    with pytest.raises(LogError, match=r"the programs were not run; read \.\.\._results\.jsonl"):
        read_log(tmp_path / "samples.jsonl")


def test_evalplus_wants_both_sets_of_tests_unless_told(tmp_path):
    assert read("evalplus", tmp_path).log.correct[0, 0].tolist() == [True, False, False]
    assert read("evalplus", tmp_path, scorer="base").log.correct[0, 0].tolist() == [True, True, False]
    old = {"eval": {"HumanEval/0": {"nfiles": 2, "base": [["success", []], ["failed", []]], "plus": []}}}
    (tmp_path / "old.json").write_text(json.dumps({"date": "", "hash": "", **old}))
    assert read_log(tmp_path / "old.json").correct[0, 0].tolist() == [True, False]
    with pytest.raises(LogError, match="the plus tests were not run"):
        read_log(tmp_path / "old.json", scorer="plus")


def test_helm_names_questions_by_the_run_without_its_model(tmp_path):
    log = read("helm", tmp_path).log
    assert log.ids == ("gsm,data_augmentation=canonical/id0", "gsm,data_augmentation=canonical/id1")
    assert log.sources[0].name == "lab/m" and log.correct[0].tolist() == [[True, True, False]]
    assert fields(log) == {"completion_tokens": [[[4] * 3]] * 2, "latency_s": [[[1.5] * 3]] * 2}


def test_helms_choices_are_graded_by_letter(tmp_path):
    path = logs.helm(tmp_path)
    content = json.loads(path.read_text())
    state = content["request_states"][0]
    state["output_mapping"] = {"A": "4", "B": "5"}
    state["result"]["completions"] = [{"text": " A"}, {"text": " B"}]
    path.write_text(json.dumps({**content, "request_states": [state]}))
    log = read_log(path, grader="choice")
    assert log.gold == ("A",) and log.correct.tolist() == [[[True, False]]]


@pytest.mark.parametrize("listed", [lambda value: value, str])
def test_older_lighteval_columns_are_read_also_where_lists_are_text(listed, tmp_path):
    needs("lighteval")
    path = logs.lighteval_old(tmp_path, listed)
    log = read_log(path, grader="number")
    assert find_reader(path) is FORMATS["lighteval"] and log.gold == ("4", "9") and log.sources[0].name == "org/model"
    assert log.correct.tolist() == [[[True, True, False]], [[True, False, True]]]
    assert fields(log)["completion_tokens"] == [[[2, 3, 4]]] * 2


# ---------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------

TABLE = [("2 + 2?", "a", "4", True, 0.1), ("2 + 2?", "a", "5", False, None), ("3 * 3?", "b", None, False, 0.3)]
HEADER = ["question", "source", "answer", "correct", "cost"]


def table_in(form, folder):
    if form == "csv":
        logs.dump_csv(folder / "frame.csv", HEADER, [["" if cell is None else cell for cell in row] for row in TABLE])
        return folder / "frame.csv"
    rows = [dict(zip(HEADER, row, strict=True)) for row in TABLE]
    if form == "lines":
        logs.dump_lines(folder / "frame.jsonl", rows)
        return folder / "frame.jsonl"
    if form == "pandas":
        return pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(rows)
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    if form == "arrow":
        return pa.Table.from_pylist(rows)
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), folder / "frame.parquet")
    return folder / "frame.parquet"


@pytest.mark.parametrize("form", ["csv", "lines", "parquet", "pandas", "arrow"])
def test_a_plain_table_is_a_log_in_any_form(form, tmp_path):
    reading = read_logs(table_in(form, tmp_path))
    log = reading.log
    assert (
        reading.formats == ("table",)
        and log.ids == ("frame/0", "frame/1")
        and [s.name for s in log.sources] == ["a", "b"]
    )
    assert log.count.tolist() == [[2, 0], [0, 1]] and log.answers == (("4", "5"), ())
    assert log.correct[0, 0].tolist() == [True, False]
    assert fields(log) == {"usd": [[[0.1, None], [None, None]], [[None, None], [0.3, None]]]}
    assert "the column 'cost' is read as US dollars" in reading.notes[0]


def test_columns_are_named_where_their_names_do_not_tell(tmp_path):
    header = ["frage", "modell", "ok", "wort"]
    logs.dump_csv(tmp_path / "log.csv", header, [["2 + 2?", "a", "yes", 12]])
    with pytest.raises(LogError, match=r"no known format.*question,source,answer,correct,cost"):
        read_log(tmp_path / "log.csv")
    with pytest.raises(
        LogError, match=r"no column of questions among frage, modell, ok, wort; --columns=question=\.\.\."
    ):
        read_log(tmp_path / "log.csv", "table")
    columns = {"question": "frage", "source": "modell", "correct": "ok", "completion_tokens": "wort"}
    log = read_log(tmp_path / "log.csv", "table", columns=columns)
    assert log.question == ("2 + 2?",) and log.correct.all() and fields(log) == {"completion_tokens": [[[12]]]}
    for bad, message in [
        ({"tokens": "wort"}, "'tokens' is no field; known: id"),
        ({"gold": "x"}, "there is no column 'x'"),
    ]:
        with pytest.raises(LogError, match=message):
            read_log(tmp_path / "log.csv", "table", columns={**columns, **bad})


def test_named_columns_make_a_table_of_any_csv(tmp_path):
    logs.dump_csv(tmp_path / "log.csv", ["frage", "modell", "ok"], [["2 + 2?", "a", 1]])
    columns = {"question": "frage", "source": "modell", "correct": "ok"}
    assert read_log(tmp_path / "log.csv", columns=columns).correct.all()


def test_the_flag_of_columns_names_them_too(monkeypatch):
    values = dict.fromkeys(reading._NAMES)
    monkeypatch.setattr(reading.flags, "FLAGS", {name: SimpleNamespace(value=value) for name, value in values.items()})
    assert reading.reading_options()["columns"] is None
    reading.flags.FLAGS["columns"].value = ["question=frage", "correct=ok"]
    assert reading.reading_options()["columns"] == {"question": "frage", "correct": "ok"}
    reading.flags.FLAGS["columns"].value = ["frage"]
    with pytest.raises(ValueError, match="--columns is 'frage'; expected our name=the column's name"):
        reading.reading_options()


def test_responses_of_a_table_are_graded_and_repeats_are_samples(tmp_path):
    rows = [["q", "m", f"so {value}", "7"] for value in (7, 8, 7)]
    logs.dump_csv(tmp_path / "log.csv", ["prompt", "model", "response", "target"], rows)
    log = read_log(tmp_path / "log.csv", grader="number")
    assert log.correct.tolist() == [[[True, False, True]]] and log.answers == (("7", "8"),)
    logs.dump_csv(tmp_path / "log.csv", ["prompt", "model", "response"], [row[:3] for row in rows])
    with pytest.raises(LogError, match="no column says what is right"):
        read_log(tmp_path / "log.csv", "table")


def test_a_json_array_of_plain_rows_is_a_table(tmp_path):
    rows = [{"question": "q", "model": "m", "answer": str(j), "correct": j == 4} for j in (4, 5)]
    (tmp_path / "log.json").write_text(json.dumps(rows, indent=1))
    reading = read_logs(tmp_path / "log.json")
    assert reading.formats == ("table",) and reading.log.correct.tolist() == [[[True, False]]]


@pytest.mark.parametrize("pack, tool", [("gzip", "gunzip"), ("bz2", "bunzip2"), ("lzma", "unxz")])
@pytest.mark.parametrize("format", [None, "table"])
def test_a_compressed_file_is_named_with_what_to_do(tmp_path, pack, tool, format):
    path = tmp_path / "log.csv.packed"
    path.write_bytes(importlib.import_module(pack).compress(b"question,source,correct\nq,m,1\n"))
    with pytest.raises(ValueError, match=f"log.csv.packed: a compressed file, which is not read: {tool} it"):
        read_logs(path, format)
