"""Small valid files in every format, written field by field as the tools write them."""

import csv
import io
import json
import zipfile

import numpy as np

from alloc_jax.logs import write_log
from tests.logs.sample_logs import make_log

GOLD = {"q0": "4", "q1": "9"}
RESPONSES = {"q0": ["It is 4.", "So 2 + 2 = 4", "5"], "q1": ["9", "I cannot say", "The answer is 9"]}


def dump_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def dump_csv(path, header, rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


def jsonl(folder):
    path = folder / "log.jsonl"
    write_log(make_log(questions=2, samples=3), path)
    return path


def parquet(folder):
    path = folder / "log.parquet"
    write_log(make_log(questions=2, samples=3), path)
    return path


def npz(folder):
    path = folder / "outcomes.npz"
    correct = np.array([[[1, 0, 255], [1, 1, 1]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    answer = np.where(correct == 1, "4", "5")
    answer[1, 0, 1] = ""
    np.savez_compressed(
        path,
        question=np.array(["2 + 2", "3 * 3"]),
        qid=np.array(["a/0", "a/1"]),
        gold=np.array(["4", ""]),
        group=np.array(["sum", "product"]),
        action=np.array(["small", "large"]),
        correct=correct,
        answer=answer,
        cost=np.array([[1e-3, 2e-3], [np.nan, 3e-3]], np.float32),
        cost_unit=np.array("USD per call, estimated"),
        meta=np.array("{}"),
    )
    return path


def lm_eval(folder):
    path = folder / "org__model" / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl"
    path.parent.mkdir(exist_ok=True)
    rows = [
        {
            "doc_id": number,
            "doc": {"question": f"text of {identity}", "answer": "..."},
            "target": f"some steps\n#### {GOLD[identity]}",
            "arguments": {"gen_args_0": {"arg_0": f"Question: text of {identity}\nAnswer:", "arg_1": {"until": []}}},
            "resps": [RESPONSES[identity]],
            "filtered_resps": RESPONSES[identity][:1],
            "filter": name,
            "metrics": ["exact_match"],
            "doc_hash": "d",
            "prompt_hash": "p",
            "target_hash": "t",
            "exact_match": float("nan"),
        }
        for name in ("strict-match", "flexible-extract")
        for number, identity in enumerate(GOLD)
    ]
    dump_lines(path, rows)
    return path


def inspect_samples():
    for number, (identity, gold) in enumerate(GOLD.items()):
        for epoch in (1, 2):
            right = epoch == 1 or number == 0
            yield {
                "id": identity,
                "epoch": epoch,
                "input": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": f"text of {identity}"},
                ],
                "target": [gold],
                "messages": [],
                "output": {"model": "openai/m", "choices": [{"stop_reason": "stop"}], "completion": "..."},
                "scores": {"match": {"value": "C" if right else "I", "answer": gold if right else "0"}},
                "model_usage": {
                    "openai/m": {
                        "input_tokens": 10,
                        "output_tokens": 20 + epoch,
                        "total_tokens": 34 + epoch,
                        "input_tokens_cache_read": 4,
                        "reasoning_tokens": 7,
                    },
                    "openai/judge": {"input_tokens": 999, "output_tokens": 999, "total_tokens": 1998},
                },
                "total_time": 3.5,
                "working_time": 2.5,
            }


INSPECT_HEADER = {"version": 2, "status": "success", "eval": {"task": "sums", "model": "openai/m"}, "plan": {}}


def inspect_json(folder):
    path = folder / "log.json"
    log = {**INSPECT_HEADER, "samples": list(inspect_samples()), "reductions": []}
    path.write_text(json.dumps(log, indent=2), encoding="utf-8")
    return path


def inspect(folder, compression=None):
    path = folder / "log.eval"
    if compression is None:
        import zipfile_zstd

        compression = zipfile_zstd.ZIP_ZSTANDARD
    with zipfile.ZipFile(path, "w", compression) as archive:
        for sample in inspect_samples():
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("summaries.json", "[]")
        archive.writestr("header.json", json.dumps(INSPECT_HEADER))
    return path


def lighteval(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "details" / "org" / "model" / "2026-01-02T03-04-05.678901"
    path.mkdir(parents=True, exist_ok=True)
    path = path / "details_gsm8k_2026-01-02T03-04-05.678901.parquet"
    rows = [
        {
            "doc": {"id": str(number), "query": f"text of {identity}", "choices": [gold], "gold_index": [0]},
            "metric": {"avg@n:n=3": 0.5},
            "model_response": {
                "text": RESPONSES[identity],
                "text_post_processed": RESPONSES[identity],
                "input_tokens": [1, 2, 3],
                "output_tokens": [[1] * (j + 2) for j in range(3)],
            },
        }
        for number, (identity, gold) in enumerate(GOLD.items())
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def batch(folder):
    path = folder / "output.jsonl"
    rows = []
    for identity, said in RESPONSES.items():
        choices = [
            {"index": j, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for j, text in enumerate(said)
        ]
        usage = {
            "prompt_tokens": 8,
            "completion_tokens": 30,
            "total_tokens": 38,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": None,
        }
        body = {"id": "c", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage}
        response = {"status_code": 200, "request_id": "r", "body": body}
        rows.append({"id": "b", "custom_id": identity, "response": response, "error": None})
    dump_lines(path, rows)
    return path


def batch_requests(folder):
    path = folder / "input.jsonl"
    body = {"model": "m", "n": 3}
    rows = [
        {
            "custom_id": identity,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**body, "messages": [{"role": "user", "content": f"text of {identity}"}]},
        }
        for identity in GOLD
    ]
    dump_lines(path, rows)
    return path


ROUTERBENCH = ("sample_id", "prompt", "eval_name", "gpt-4", "yi/34b", "gpt-4|model_response", "yi/34b|model_response")
ROUTERBENCH += ("gpt-4|total_cost", "yi/34b|total_cost", "oracle_model_to_route_to")
ROUTERBENCH_ROWS = [
    ("mmlu.1", "['text of q0,\n\"quoted\"']", "mmlu", 1.0, 0.0, "['A']", "['B']", 0.0103, 0.0002, "gpt-4"),
    ("mmlu.2", "['text of q1']", "mmlu", 0.0, 1.0, "['C']", "['D']", 0.0, 0.0003, "yi/34b"),
]


def routerbench(folder):
    path = folder / "routerbench.csv"
    dump_csv(path, ROUTERBENCH, ROUTERBENCH_ROWS)
    return path


def routerbench_parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "routerbench.parquet"
    pq.write_table(pa.Table.from_pylist([dict(zip(ROUTERBENCH, row, strict=True)) for row in ROUTERBENCH_ROWS]), path)
    return path


def routellm(folder):
    path = folder / "gsm8k_responses.csv"
    header = ["prompt", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"]
    dump_csv(path, header, [["text of q0", True, True], ["text of q1\nin two lines", False, True]])
    return path


def table(folder):
    path = folder / "train.csv"
    rows = [["text of q0", "a", True, 12], ["text of q0", "b", False, ""], ["text of q1", "a", 0, 9]]
    dump_csv(path, ["question", "model", "isCorrect", "output_tokens"], rows)
    return path


def llmrouterbench(folder):
    path = folder / "aime-test-m-20260102_030405.json"
    records = [
        {
            "index": number,
            "origin_query": f"text of {identity}",
            "prompt": f"Solve: text of {identity}",
            "prompt_tokens": 50,
            "completion_tokens": 700 + number,
            "cost": 0.004 * number,
            "score": 1.0 - number,
            "prediction": ["4", ""][number],
            "ground_truth": gold,
            "raw_output": ["..."],
            "extra_fields": {},
        }
        for number, (identity, gold) in enumerate(GOLD.items())
    ]
    head = {"performance": 0.5, "time_taken": 1.0, "prompt_tokens": 100, "completion_tokens": 1401, "cost": 0.004}
    head |= {"counts": 2, "model_name": "org/m", "dataset_name": "aime", "split": "test", "demo": False}
    path.write_text(json.dumps({**head, "extra_metrics": {}, "records": records}, indent=2), encoding="utf-8")
    return path


def best_route(folder):
    path = folder / "mixed_dataset_armoRM_ALL_token_num.jsonl"
    rows = [
        {
            "id": f"math/{identity}",
            "prompt": f"text of {identity}",
            "gpt-4o": {
                "responses": said,
                "armoRM_scores": [0.15, 0.1, 0.05],
                "token_num_prompt": 9,
                "token_num_responses": [3, 4, 5],
            },
            "phi-3-mini": {"responses": said[:1], "armoRM_scores": [0.2]},
        }
        for identity, said in RESPONSES.items()
    ]
    dump_lines(path, rows)
    return path


def monkeys(folder):
    path = folder / "GSM8K_Llama-3-8B-Instruct.json"
    rows = [
        {
            "question": f"text of {identity}",
            "samples": said,
            "test_list": None,
            "gt_answer": GOLD[identity],
            "is_corrects": [True, number == 0, False],
            "orig_dset_split": "test",
            "orig_dset_idx": 100 + number,
        }
        for number, (identity, said) in enumerate(RESPONSES.items())
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def qwen_math(folder):
    path = folder / "Qwen2.5-Math-7B" / "gsm8k" / "test_qwen25-math-cot_-1_seed0_t0.6_s0_e-1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "idx": number,
            "question": f"text of {identity}",
            "gt_cot": "...",
            "gt": GOLD[identity],
            "code": said,
            "pred": [["4", "4", "5"], ["9", "", "9"]][number],
            "report": [None] * 3,
            "score": [[True, True, False], [True, False, True]][number],
        }
        for number, (identity, said) in enumerate(RESPONSES.items())
    ]
    dump_lines(path, rows)
    return path


def routerarena(folder):
    path = folder / "predictions.json"
    rows = [
        {
            "global index": f"AIME_{number}",
            "prompt": f"text of {identity}",
            "prediction": "gpt-5-nano",
            "generated_result": {
                "generated_answer": said[0],
                "success": True,
                "token_usage": {"input_tokens": 90, "output_tokens": 10, "total_tokens": [100, 700][number]},
                "provider": "azure",
                "error": None,
            },
            "cost": 5.79e-05,
            "accuracy": [1.0, 0.0][number],
            "for_optimality": False,
        }
        for number, (identity, said) in enumerate(RESPONSES.items())
    ]
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return path


def routerarena_cached(folder):
    path = folder / "gpt-5-nano.jsonl"
    rows = [
        {
            "global_index": f"AIME_{number}",
            "question": f"text of {identity}",
            "llm_selected": "gpt-5-nano",
            "generated_answer": text,
            "token_usage": {"input_tokens": 90, "output_tokens": 10, "total_tokens": 100},
            "success": True,
            "error": None,
            "evaluation_result": {
                "extracted_answer": text,
                "ground_truth": GOLD[identity],
                "score": float(GOLD[identity] in text),
                "metric": "math_metric",
                "inference_cost": 2e-4,
            },
        }
        for number, (identity, said) in enumerate(RESPONSES.items())
        for text in said
    ]
    dump_lines(path, rows)
    return path


def humaneval(folder):
    path = folder / "samples.jsonl_results.jsonl"
    rows = [
        {"task_id": f"HumanEval/{number}", "completion": "  return 1", "result": result, "passed": result == "passed"}
        for number in range(2)
        for result in ("passed", "failed: ", "timed out")
    ]
    dump_lines(path, rows)
    return path


def evalplus(folder):
    path = folder / "model_temp_0.8_eval_results.json"
    programs = [("pass", "pass"), ("pass", "fail"), ("fail", "fail")]
    rows = {
        f"HumanEval/{number}": [
            {
                "task_id": f"HumanEval/{number}",
                "solution": "def f(): ...",
                "base_status": base,
                "plus_status": plus,
                "base_fail_tests": [],
                "plus_fail_tests": [],
            }
            for base, plus in programs
        ]
        for number in range(2)
    }
    path.write_text(json.dumps({"date": "2024-05-01 12:00", "hash": "fe58", "eval": rows}), encoding="utf-8")
    return path


def helm(folder):
    path = folder / "gsm:model=lab_m,data_augmentation=canonical" / "scenario_state.json"
    path.parent.mkdir(exist_ok=True)
    states = [
        {
            "instance": {
                "input": {"text": f"text of {identity}"},
                "references": [{"output": {"text": GOLD[identity]}, "tags": ["correct"]}],
                "split": "test",
                "id": f"id{number}",
            },
            "train_trial_index": 0,
            "request": {"model": "lab/m", "prompt": "...", "temperature": 0.7, "num_completions": 3},
            "result": {
                "success": True,
                "cached": False,
                "request_time": 1.5,
                "completions": [
                    {"text": text, "logprob": 0, "tokens": [{"text": "t", "logprob": 0}] * 4} for text in said
                ],
                "embedding": [],
            },
            "num_train_instances": 8,
            "prompt_truncated": False,
        }
        for number, (identity, said) in enumerate(RESPONSES.items())
    ]
    head = {"adapter_spec": {"method": "generation", "model": "lab/m", "num_outputs": 3}}
    path.write_text(json.dumps({**head, "request_states": states}), encoding="utf-8")
    return path


def lighteval_old(folder, listed=lambda value: value):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "details" / "org" / "model" / "2024-05-02T03-04-05.678901"
    path.mkdir(parents=True, exist_ok=True)
    path = path / "details_lighteval|gsm8k|5_2024-05-02T03-04-05.678901.parquet"
    rows = [
        {
            "example": f"text of {identity}",
            "full_prompt": "...",
            "predictions": listed(RESPONSES[identity]),
            "gold": listed([gold]),
            "choices": listed([]),
            "gold_index": listed([]),
            "input_tokens": listed([[1, 2, 3]]),
            "cont_tokens": listed([[1] * (j + 2) for j in range(3)]),
            "metrics": listed([]),
        }
        for identity, gold in GOLD.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def journal(folder):
    path = folder / "journal.jsonl"
    rows = [{"journal": 1, "recipes": {"m": {"model": "some/model", "max_tokens": 64}}}]
    usage = {"prompt_tokens": 7, "cached_tokens": None, "completion_tokens": 12, "reasoning_tokens": None}
    for question, texts in RESPONSES.items():
        for j, text in enumerate(texts):
            said = {"sample": j, "text": text, "finish_reason": "stop", "completion_tokens": 4}
            row = {"id": question, "question": f"text of {question}", "gold": GOLD[question], "group": None}
            rows.append({**row, "source": "m", "usage": usage, "usd": None, "latency_s": 0.5, "samples": [said]})
    dump_lines(path, rows)
    return path


# name of the format -> (writer, options that it needs)
WRITERS = {
    "jsonl": (jsonl, {}),
    "parquet": (parquet, {}),
    "npz": (npz, {}),
    "journal": (journal, {"grader": "number"}),
    "lm_eval": (lm_eval, {"grader": "number"}),
    "inspect": (inspect, {}),
    "inspect_json": (inspect_json, {}),
    "lighteval": (lighteval, {"grader": "number"}),
    "batch": (batch, {"grader": "number", "gold": GOLD, "requests": {"q0": "text of q0", "q1": "text of q1"}}),
    "routerbench": (routerbench, {}),
    "llmrouterbench": (llmrouterbench, {}),
    "routellm": (routellm, {}),
    "best_route": (best_route, {"threshold": 0.1}),
    "monkeys": (monkeys, {}),
    "qwen_math": (qwen_math, {}),
    "routerarena": (routerarena, {}),
    "humaneval": (humaneval, {}),
    "evalplus": (evalplus, {}),
    "helm": (helm, {"grader": "number"}),
    "table": (table, {}),
}
PACKAGES = {"parquet": "pyarrow", "lighteval": "pyarrow", "inspect": "zipfile_zstd"}  # what a format needs
