"""What lm-eval and Inspect write of a run against the built-in reasoner is read, sample by sample as they say it."""

import json
import zipfile

import numpy as np
import pytest

from alloc_jax.logs import read_log, read_logs
from alloc_jax.logs.answers import number
from tests.logs.test_formats import fields
from tests.real_tools import MODEL, needs_tool, reasoner, run

pytestmark = [pytest.mark.tools, pytest.mark.long]

SUMS = {"4+5": "9", "7-3+6": "10", "2*8": "16", "9+9-4": "14", "(3+4)*2": "14", "6*7-5": "37"}
REPEATS = 4

LM_EVAL_TASK = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "T{{question}}="
doc_to_target: "{{answer}}"
repeats: 4
generation_kwargs: {until: ["\\n\\n"], do_sample: true, temperature: 1.0, max_gen_toks: 60, seed: null}
filter_list:
  - name: marked
    filter:
      - {function: regex, regex_pattern: "#(-?[0-9]+)"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""

INSPECT_TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match, pattern
from inspect_ai.solver import generate

SUMS = {sums}

@task
def sums():
    samples = [Sample(id=i, input=f"T{{q}}=", target=a) for i, (q, a) in enumerate(SUMS.items())]
    return Task(dataset=samples, solver=generate(), scorer=pattern(r"#(-?[0-9]+)"))

@task
def differences():
    samples = [Sample(id=i, input=f"D{{q}}=", target=a) for i, (q, a) in enumerate(list(SUMS.items())[:2])]
    return Task(dataset=samples, solver=generate(), scorer=pattern(r"#(-?[0-9]+)"))

@task
def unscored():
    return Task(dataset=[Sample(id=1, input="D4+5=", target="9")], solver=generate())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with reasoner(tmp_path_factory.mktemp("server")) as url:
        yield url


def test_what_lm_eval_writes_is_read(server, tmp_path):
    command = needs_tool("lm_eval")
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in SUMS.items()))
    (tmp_path / "sums.yaml").write_text(LM_EVAL_TASK.replace("DATA", str(data)))
    arguments = f"model={MODEL},base_url={server}/chat/completions,num_concurrent=4,tokenized_requests=False"
    flags = [
        "--model",
        "local-chat-completions",
        "--model_args",
        arguments,
        "--tasks",
        "sums",
        "--include_path",
        tmp_path,
    ]
    flags += ["--apply_chat_template", "--log_samples", "--output_path", tmp_path / "out"]
    run([command, "run", *flags], tmp_path, OPENAI_API_KEY="none")
    (path,) = (tmp_path / "out").rglob("samples_sums_*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    reading = read_logs(path, grader="number")
    log = reading.log
    assert reading.formats == ("lm_eval",) and reading.skipped == 0 and not reading.failures
    assert (
        log.question == tuple(SUMS)
        and log.gold == tuple(SUMS.values())
        and log.count.tolist() == [[REPEATS]] * len(SUMS)
    )
    for i, row in enumerate(rows):
        said = row["resps"][0]
        assert log.correct[i, 0].tolist() == [number(text) == row["target"] for text in said]
        assert log.correct[i, 0, 0] == bool(row["exact_match"])  # the harness scores the first alone
    assert len({tuple(row["resps"][0]) for row in rows}) == len(SUMS) and log.correct.mean() > 0


@pytest.mark.parametrize("form", ["eval", "json"])
def test_what_inspect_writes_is_read(form, server, tmp_path):
    command = needs_tool("inspect")
    (tmp_path / "tasks.py").write_text(INSPECT_TASK.format(sums=SUMS))
    flags = [
        "--model",
        f"openai-api/alloc/{MODEL}",
        "--model-base-url",
        server,
        "--epochs",
        REPEATS,
        "--max-tokens",
        60,
    ]
    flags += ["--log-dir", tmp_path / "logs", "--log-format", form, "--display", "none"]
    for task in ("sums", "differences", "unscored"):
        run([command, "eval", f"tasks.py@{task}", *flags], tmp_path, ALLOC_API_KEY="none")
    found = {path.name.split("_")[1]: path for path in (tmp_path / "logs").glob(f"*.{form}")}
    assert found.keys() == {"sums", "differences", "unscored"}
    reading = read_logs([found["sums"], found["differences"]])
    log = reading.log
    assert reading.notes == () and len(log) == len(SUMS) + 2 and log.count.tolist() == [[REPEATS]] * len(log)
    asked = dict(
        zip(log.ids, zip(log.question, log.gold, strict=True), strict=True)
    )  # in the order in which they were done
    assert [asked[f"sums/{i}"] for i in range(len(SUMS))] == [(f"T{q}=", a) for q, a in SUMS.items()]
    assert asked["differences/0"][0] == "D4+5=" and log.group == ("sums",) * len(SUMS) + ("differences",) * 2
    samples = list(_samples(found["sums"], form))
    assert len(samples) == REPEATS * len(SUMS)
    for sample in samples:
        i, j = log.ids.index(f"sums/{sample['id']}"), sample["epoch"] - 1
        score = sample["scores"]["pattern"]
        said = None if log.answer[i, 0, j] < 0 else log.answers[i][log.answer[i, 0, j]]
        assert log.correct[i, 0, j] == (score["value"] == "C") and said == (score["answer"] or None)
    assert {"prompt_tokens", "completion_tokens", "latency_s"} <= fields(log).keys()
    graded = read_log(found["sums"], grader="number")
    np.testing.assert_array_equal(graded.correct.sum(), log.correct[: len(SUMS)].sum())
    with pytest.raises(ValueError, match="the log was not scored: 4 of 4 samples are unscored"):
        read_log(found["unscored"])


def _samples(path, form):
    if form == "json":
        yield from json.loads(path.read_text())["samples"]
        return
    import zipfile_zstd

    assert issubclass(zipfile_zstd.ZipFile, zipfile.ZipFile)
    with zipfile_zstd.ZipFile(path) as archive:
        yield from (json.loads(archive.read(name)) for name in archive.namelist() if name.startswith("samples/"))
