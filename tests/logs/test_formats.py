"""Logs of other tools: each file is recognised by its content, and every field means what the tool means by it."""

import json
import zipfile

import numpy as np
import pytest

from alloc_jax.logs import LogError, LogWarning, read_log, read_logs, write_log
from alloc_jax.logs.formats import FORMATS, find_reader
from alloc_jax.types import SAMPLE_FIELDS
from tests.logs import foreign_logs as logs
from tests.logs.sample_logs import make_log
from tests.logs.test_read_log import assert_same_log

NAN = float("nan")


def needs(name):
    if name in logs.PACKAGES:
        pytest.importorskip(logs.PACKAGES[name], reason=f"{logs.PACKAGES[name]} is not installed")


def written(name, folder):
    needs(name)
    write, options = logs.WRITERS[name]
    return write(folder), options


def read(name, folder, **changes):
    path, options = written(name, folder)
    return read_logs(path, **{**options, **changes})


def fields(log):
    """The values of the fields that the log has, as lists; NaN as None."""
    known = {name: getattr(log, name) for name in SAMPLE_FIELDS if getattr(log, name) is not None}
    return {name: np.where(np.isnan(v), None, v.astype(float).round(6)).tolist() for name, v in known.items()}


def test_every_format_has_a_file_here():
    assert logs.WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_recognised_by_its_content_whatever_it_is_called(name, tmp_path):
    path, options = written(name, tmp_path)
    moved = path.rename(path.with_name("renamed"))
    assert find_reader(moved) is FORMATS[name]
    options = {**options, "source": "m"} if "source" in FORMATS[name].uses else options
    assert_same_log(read_log_quietly(moved, **options), read_log_quietly(moved, name, **options))


def read_log_quietly(path, format=None, **options):
    return read_logs(path, format, **options).log


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_read_is_written_and_read_back(name, tmp_path):
    log = read(name, tmp_path).log
    write_log(log, tmp_path / "again.jsonl")
    assert_same_log(read_log(tmp_path / "again.jsonl"), log)


def test_lm_eval_grades_every_repeat_and_takes_one_filter(tmp_path):
    reading = read("lm_eval", tmp_path, tokenizer=str.split)
    log = reading.log
    assert log.ids == ("gsm8k/0", "gsm8k/1") and log.group == ("gsm8k", "gsm8k")
    assert log.question == ("text of q0", "text of q1") and [s.name for s in log.sources] == ["org__model"]
    assert log.correct.tolist() == [[[True, True, False]], [[True, False, True]]]
    assert log.answers == (("4", "5"), ("9",)) and log.answer.tolist() == [[[0, 0, 1]], [[0, -1, 0]]]
    assert fields(log) == {"prompt_tokens": [[[5] * 3]] * 2, "completion_tokens": [[[3, 6, 1]], [[1, 3, 4]]]}
    assert reading.notes == ()
    assert read("lm_eval", tmp_path, source="m").log.sources[0].name == "m"


def test_lm_eval_warns_of_equal_repeats_and_of_tokens_that_nobody_counted(tmp_path):
    path = logs.lm_eval(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    logs.dump_lines(path, [{**row, "resps": [["4"] * 3]} for row in rows])
    with pytest.warns(LogWarning) as said:
        read_log(path, grader="number")
    assert "all repeats of 2 of 2 questions are one text" in str(said[0].message)
    assert "holds no token counts" in str(said[1].message)


def test_lm_eval_names_what_it_cannot_use(tmp_path):
    path = logs.lm_eval(tmp_path)
    row = json.loads(path.read_text().splitlines()[0])
    for resps, message in [([[[["-1.5", "False"]]]], "log-likelihoods"), ([["a"], ["b"]], "2 requests")]:
        logs.dump_lines(path, [{**row, "resps": resps[0] if len(resps) == 1 else resps}])
        with pytest.raises(LogError, match=f"line 1: resps: .*{message}"):
            read_log(path, grader="number")


@pytest.mark.parametrize("name", ["inspect", "inspect_json"])
def test_inspect_epochs_are_samples_with_the_usage_of_the_model_alone(name, tmp_path):
    log = read(name, tmp_path).log
    assert log.ids == ("sums/q0", "sums/q1") and log.question == ("text of q0", "text of q1") and log.gold == ("4", "9")
    assert log.group == ("sums",) * 2 and [s.name for s in log.sources] == ["openai/m"]
    assert log.correct.tolist() == [[[True, True]], [[True, False]]] and log.answers == (("4",), ("9", "0"))
    assert fields(log) == {
        "prompt_tokens": [[[14, 14]]] * 2,  # 10 + 4 from the cache, which the total counts beside the input
        "cached_tokens": [[[4, 4]]] * 2,
        "completion_tokens": [[[21, 22]]] * 2,
        "reasoning_tokens": [[[7, 7]]] * 2,
        "latency_s": [[[2.5, 2.5]]] * 2,
    }


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_samples_lie_in_the_order_of_their_epochs_whichever_was_done_first(order, tmp_path):
    sample = next(logs.inspect_samples())
    samples = [{**sample, "epoch": k, "scores": {"match": {"value": "I", "answer": str(k)}}} for k in order]
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**logs.INSPECT_HEADER, "samples": samples}))
    log = read_log(path)
    assert [log.answers[0][code] for code in log.answer[0, 0]] == ["1", "2", "3"]


def test_an_epoch_that_no_integer_holds_is_an_error_with_its_place(tmp_path):
    with pytest.raises(LogError, match=r"question 'sums/q0', source 'openai/m': sample .* no such number of a sample"):
        read_log(with_sample(tmp_path, epoch=10**30))


def with_sample(tmp_path, **changes):
    path = tmp_path / "log.json"
    sample = {**next(logs.inspect_samples()), **changes}
    path.write_text(json.dumps({**logs.INSPECT_HEADER, "samples": [sample]}))
    return path


def test_inspect_scores_that_say_neither_right_nor_wrong_need_a_decision(tmp_path):
    both = {"a": {"value": 1.0, "answer": "4"}, "b": {"value": "P", "answer": "5"}}
    path = with_sample(tmp_path, scores=both)
    with pytest.raises(LogError, match=r"samples\[0\]: scores: name one of the scorers: a, b"):
        read_log(path)
    assert read_log(path, scorer="a").correct.all()
    with pytest.raises(LogError, match=r"scores.b.value: 0.5 is neither 0 nor 1: --threshold=0.5"):
        read_log(path, scorer="b")
    assert read_log(path, scorer="b", threshold=0.5).correct.all()
    assert not read_log(path, scorer="b", threshold=0.6).correct.any()


def test_inspect_samples_that_failed_or_come_twice_are_refused(tmp_path):
    with pytest.raises(LogError, match=r"samples\[0\]: error: the sample failed: .*boom"):
        read_log(with_sample(tmp_path, error={"message": "boom"}))
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**logs.INSPECT_HEADER, "samples": [next(logs.inspect_samples())] * 2}))
    with pytest.raises(
        LogError, match=r"samples\[1\]: question 'sums/q0', source 'openai/m', sample 1: this pair occurs"
    ):
        read_log(path)


def test_an_eval_file_without_zstd_or_without_a_header(tmp_path):
    needs("inspect")
    assert len(read_log(logs.inspect(tmp_path, zipfile.ZIP_DEFLATED))) == 2
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("samples/q0_epoch_1.json", "{}")
    with pytest.raises(LogError, match=r"header.json: missing: the evaluation did not end"):
        read_log(tmp_path / "log.eval")


def test_lighteval_counts_output_tokens_where_the_backend_gave_them(tmp_path):
    log = read("lighteval", tmp_path).log
    assert (
        log.ids == ("gsm8k/0", "gsm8k/1") and log.gold == ("4", "9") and [s.name for s in log.sources] == ["org/model"]
    )
    assert log.correct.tolist() == [[[True, True, False]], [[True, False, True]]]
    assert fields(log) == {"prompt_tokens": [[[3] * 3]] * 2, "completion_tokens": [[[2, 3, 4]]] * 2}


def test_a_batch_is_joined_by_custom_id_and_shares_its_tokens_out(tmp_path):
    reading = read("batch", tmp_path, requests=logs.batch_requests(tmp_path))
    log = reading.log
    assert log.ids == ("q0", "q1") and log.question == ("text of q0", "text of q1") and log.gold == ("4", "9")
    assert log.correct.tolist() == [[[True, True, False]], [[True, False, True]]]
    assert fields(log) == {
        "prompt_tokens": [[[8] * 3]] * 2,
        "cached_tokens": [[[2] * 3]] * 2,
        "completion_tokens": [[[10] * 3]] * 2,
    }
    assert "2 requests state the tokens of all their choices together" in reading.notes[0]


def test_a_batch_with_token_ids_counts_each_choice(tmp_path):
    path = logs.batch(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for j, choice in enumerate(row["response"]["body"]["choices"]):
            choice["token_ids"] = [1] * (j + 1)
    logs.dump_lines(path, rows)
    reading = read_logs(path, **logs.WRITERS["batch"][1])
    assert fields(reading.log)["completion_tokens"] == [[[1, 2, 3]]] * 2 and reading.notes == ()


def test_a_batch_says_what_it_lacks(tmp_path):
    path = logs.batch(tmp_path)
    with pytest.raises(ValueError, match=r"needs --requests, the file of its requests.*; and --gold, a file"):
        read_log(path, grader="number")
    with pytest.raises(ValueError, match="needs --gold"):
        read_log(path, requests=logs.batch_requests(tmp_path), grader="number")
    with pytest.raises(LogError, match="line 2: question 'q1': custom_id: not among the gold"):
        read_log(path, requests=logs.batch_requests(tmp_path), grader="number", gold={"q0": "4"})
    row = json.loads(path.read_text().splitlines()[0])
    logs.dump_lines(path, [{**row, "response": {"status_code": 429, "body": {}}, "error": None}])
    with pytest.raises(LogError, match="line 1: question 'q0': the request failed: status 429"):
        read_log(path, requests=logs.batch_requests(tmp_path), grader="number", gold=logs.GOLD)


@pytest.mark.parametrize("write", [logs.routerbench, logs.routerbench_parquet])
def test_routerbench_keeps_scores_and_dollars_and_a_cost_of_zero_is_unknown(write, tmp_path):
    if write is logs.routerbench_parquet:
        needs("parquet")
    log = read_log(write(tmp_path))
    assert log.ids == ("mmlu.1", "mmlu.2") and log.group == ("mmlu",) * 2
    assert log.question == ("['text of q0,\n\"quoted\"']", "['text of q1']")
    assert [s.name for s in log.sources] == ["gpt-4", "yi/34b"]
    assert log.correct.tolist() == [[[True], [False]], [[False], [True]]] and log.answers == ((), ())
    assert fields(log) == {"usd": [[[0.0103], [0.0002]], [[None], [0.0003]]]}


def test_routerbench_scores_between_right_and_wrong_need_a_threshold(tmp_path):
    path = tmp_path / "log.csv"
    logs.dump_csv(path, ["sample_id", "prompt", "eval_name", "m", "m|total_cost"], [["a", "p", "mtbench", 0.7, 0.1]])
    with pytest.raises(LogError, match=r"line 2: m: 0\.7 is neither 0 nor 1"):
        read_log(path)
    assert read_log(path, threshold=0.7).correct.all() and not read_log(path, threshold=0.8).correct.any()


def test_a_pickle_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "routerbench.csv"
    path.write_bytes(b"\x80\x04\x95\x00")
    with pytest.raises(LogError, match=r"a pickle, and loading one runs whatever code is in it; .*to_parquet"):
        read_log(path)


def test_llmrouterbench_keeps_answers_tokens_and_dollars(tmp_path):
    log = read("llmrouterbench", tmp_path).log
    assert log.ids == ("aime/0", "aime/1") and log.group == ("aime",) * 2 and log.gold == ("4", "9")
    assert [s.name for s in log.sources] == ["org/m"] and log.answers == (("4",), ())
    assert log.correct.tolist() == [[[True]], [[False]]]
    assert fields(log) == {
        "prompt_tokens": [[[50]]] * 2,
        "completion_tokens": [[[700]], [[701]]],
        "usd": [[[None]], [[0.004]]],
    }


def test_routellm_questions_are_named_by_their_place(tmp_path):
    log = read("routellm", tmp_path).log
    assert log.ids == ("gsm8k_responses/0", "gsm8k_responses/1") and log.question[1] == "text of q1\nin two lines"
    assert [s.name for s in log.sources] == ["mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"]
    assert log.correct.tolist() == [[[True], [True]], [[False], [True]]] and fields(log) == {}


def test_a_long_table_may_lack_pairs_and_tokens(tmp_path):
    log = read("table", tmp_path).log
    assert log.ids == ("train/0", "train/1") and log.count.tolist() == [[1, 1], [1, 0]]
    assert log.correct[..., 0].tolist() == [[True, False], [False, False]]
    assert fields(log) == {"completion_tokens": [[[12], [None]], [[9], [None]]]}


def test_best_route_rewards_decide_by_threshold_or_a_grader_does(tmp_path):
    path, _ = written("best_route", tmp_path)
    log = read_log(path, threshold=0.1)
    assert [s.name for s in log.sources] == ["gpt-4o", "phi-3-mini"] and log.count.tolist() == [[3, 1]] * 2
    assert log.correct[0].tolist() == [[True, True, False], [True, False, False]]
    assert fields(log)["reward"][0] == [[0.15, 0.1, 0.05], [0.2, None, None]]
    assert fields(log)["completion_tokens"][0] == [[3, 4, 5], [None] * 3]
    graded = read_log(path, grader="number", gold={f"math/{identity}": gold for identity, gold in logs.GOLD.items()})
    assert graded.correct[:, 0].tolist() == [[True, True, False], [True, False, True]]
    assert graded.answers == (("4", "5"), ("9",))
    for options in ({}, {"threshold": 0.1, "grader": "number"}):
        with pytest.raises(ValueError, match="name --threshold of the reward, or --grader"):
            read_log(path, **options)
    with pytest.raises(ValueError, match="--gold names a file"):
        read_log(path, grader="number")


def test_monkeys_keep_their_bits_or_are_graded_for_votes(tmp_path):
    path, _ = written("monkeys", tmp_path)
    log = read_log(path)
    assert log.ids == ("100", "101") and log.group == ("test",) * 2 and log.gold == ("4", "9")
    assert [s.name for s in log.sources] == ["GSM8K_Llama-3-8B-Instruct"]
    assert log.correct.tolist() == [[[True, True, False]], [[True, False, False]]] and log.answers == ((), ())
    graded = read_log(path, grader="number", source="m")
    assert graded.correct.tolist() == [[[True, True, False]], [[True, False, True]]]
    assert graded.answers == (("4", "5"), ("9",)) and graded.sources[0].name == "m"


def test_monkeys_may_come_one_a_line(tmp_path):
    path = logs.monkeys(tmp_path)
    expected = read_log(path, source="m")
    logs.dump_lines(path, json.loads(path.read_text()))
    assert_same_log(read_log(path, source="m"), expected)


def test_npz_255_is_no_sample_and_costs_go_where_their_unit_says(tmp_path):
    path = logs.npz(tmp_path)
    log = read_log(path)
    assert log.ids == ("a/0", "a/1") and log.gold == ("4", None) and log.group == ("sum", "product")
    assert log.count.tolist() == [[2, 3], [2, 0]]
    assert log.correct[0].tolist() == [[True, False, False], [True, True, True]]
    assert log.answers == (("4", "5"), ("5",)) and log.answer[1, 0].tolist() == [0, -1, -1]
    assert fields(log) == {"usd": [[[0.001, 0.001, None], [0.002] * 3], [[None] * 3, [None] * 3]]}

    def with_unit(unit, cost):
        np.savez(path, **{**dict(np.load(path)), "cost_unit": np.array(unit), "cost": np.array(cost, np.float32)})
        return read_logs(path)

    tokens = with_unit("output tokens per sample", [[5, 6], [7, 8]]).log
    assert fields(tokens) == {"completion_tokens": [[[5, 5, None], [6] * 3], [[7, 7, None], [None] * 3]]}
    constant = with_unit("6B-sample equivalents", [[1, 100], [1, 100]])
    assert fields(constant.log) == {} and constant.notes == ()
    assert constant.log.sources[1].details == {"cost_unit": "6B-sample equivalents", "cost_of_one_sample": 100.0}
    varying = with_unit("USD per million tokens", [[1, 100], [2, 100]])
    assert fields(varying.log) == {} and varying.log.sources[0].details == {}
    assert "cost of 'small' in 'USD per million tokens'" in varying.notes[0] and len(varying.notes) == 1


def test_npz_rewards_of_one_action(tmp_path):
    path = logs.npz(tmp_path)
    correct = np.array([[[1, 0, 0], [1, 255, 255]], [[0, 0, 1], [1, 255, 255]]], np.uint8)
    arrays = {**dict(np.load(path)), "correct": correct, "answer": np.full((2, 2, 3), "4")}
    np.savez(path, **arrays, reward=np.arange(6, dtype=np.float32).reshape(2, 3))
    assert fields(read_log(path))["reward"] == [[[0, 1, 2], [None] * 3], [[3, 4, 5], [None] * 3]]
    np.savez(path, **arrays, reward=np.zeros((5, 3), np.float32))
    reading = read_logs(path)
    assert "reward" not in fields(reading.log) and "fits no action" in reading.notes[0]


def test_several_files_make_one_log(tmp_path):
    small, large = tmp_path / "small.jsonl", tmp_path / "large.csv"
    log = make_log(questions=2)
    write_log(log, small)
    logs.dump_csv(large, ["question", "model", "isCorrect", "output_tokens"], [["text of 0", "huge", 1, 5]])
    both = read_log([small, large])
    assert both.ids == ("q0", "q1", "large/0") and [s.name for s in both.sources] == ["small", "large", "huge"]
    with pytest.raises(LogError, match=r"small.jsonl, line 2: question 'q0', source 'small': this pair occurs twice"):
        read_log([small, small])


def test_an_option_that_would_change_nothing_is_refused(tmp_path):
    path = logs.jsonl(tmp_path)
    for option, value in {"grader": "number", "threshold": 0.5, "gold": {}, "source": "m", "scorer": "s"}.items():
        with pytest.raises(ValueError, match=f"{option} says nothing in a log of format jsonl"):
            read_log(path, **{option: value})


def test_a_file_of_no_or_of_several_formats_says_what_it_looks_like(tmp_path):
    path = tmp_path / "file"
    for content, message in [
        (b'{"a": 1, "b": ', r"JSON of no known format: its first object has 'a', 'b'"),
        (b"hello, world", "no known format"),
        (b"PK\x03\x04", "a zip of no known format, broken"),
        (
            b'{"id": 1, "question": "", "source": "", "samples": [], "custom_id": "", "response": {}}',
            "looks like jsonl and batch",
        ),
    ]:
        path.write_bytes(content)
        with pytest.raises(LogError, match=rf"{message}.*Else name its format, --format=jsonl\|parquet\|npz"):
            read_log(path)


def test_tokens_are_counted_with_a_tokenizer_file(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    vocabulary = {"[UNK]": 0, "4": 1}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    log = read("lm_eval", tmp_path, tokenizer=tmp_path / "tokenizer.json").log
    assert fields(log)["completion_tokens"] == [[[4, 6, 1]], [[1, 3, 4]]]
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match=r"broken.json: no tokenizer.json"):
        read("lm_eval", tmp_path, tokenizer=tmp_path / "broken.json")
