# %% [markdown]
# # Your own logs
#
# From a file that lm-evaluation-harness or Inspect wrote to a policy. This notebook writes a small lm-eval file first, so that it runs anywhere; set `path` to yours.

# %%
import importlib.util

if importlib.util.find_spec("alloc_jax") is None:
    # %pip install -q "alloc_jax[plot,grade,inspect]"
    pass

# %%
import json
import tempfile
from pathlib import Path

import numpy as np

import alloc_jax as aj
from alloc_jax.measure import describe, fitting_menu, format_description, format_table
from alloc_jax.report.markdown import to_markdown

# %% [markdown]
# `samples_*.jsonl` of lm-evaluation-harness, with `repeats: 8`: one record a question, its responses in `resps`.

# %%
folder = Path(tempfile.mkdtemp()) / "my-model"  # lm-eval names the folder after the model
folder.mkdir()
path = folder / "samples_sums_2026-01-01T00-00-00.000000.jsonl"
rng = np.random.default_rng(0)
with open(path, "w") as file:
    for i in range(240):
        terms = rng.integers(2, 10, rng.integers(2, 9))
        gold = int(terms.sum())
        wrong = rng.random(8) > 0.97 ** len(terms) ** 2
        responses = [f"Adding up ... the answer is {gold + int(off * rng.integers(1, 4))}" for off in wrong]
        question = "What is " + " + ".join(map(str, terms)) + "?"
        record = {
            "doc_id": i,
            "doc": {"question": question, "answer": str(gold)},
            "target": str(gold),
            "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {}}},
            "resps": [responses],
            "filtered_resps": responses[:1],
            "filter": "none",
            "metrics": ["exact_match"],
            "doc_hash": "0",
            "prompt_hash": "0",
            "target_hash": "0",
            "exact_match": 0.0,
        }
        file.write(json.dumps(record) + "\n")

# %% [markdown]
# The format is told by the content. lm-eval stores no correctness a sample, so the responses are graded: here as numbers (`grader="math"` needs the `grade` extra).

# %%
log = aj.read_log(path, grader="number")
print(format_description(describe(log)))

# %%
actions = fitting_menu(log, votes=(1, 2, 4, 8))
print(format_table(aj.measure(log, actions)))

# %% [markdown]
# From here on it is the quickstart: train on some questions, choose and score on halves of the samples of the others.

# %%
train_log, test_log = log.split_questions((0.6, 0.4), key=0)
half_a, half_b = test_log.split_samples(key=1)
actions = fitting_menu(half_b, votes=(1, 2, 4))
table, choose, score = (aj.measure(part, actions) for part in (train_log, half_a, half_b))
policy = aj.train(table, aj.PolicyConfig(kind="value", epochs=10))
print(to_markdown(aj.evaluate([policy], choose, score, budgets=(1.5, 2.0)), "Held-out questions"))

# %%
allocator = aj.allocator(policy, budget=1.5)
for question in ("What is 3 + 4?", "What is 9 + 8 + 7 + 6 + 5 + 4 + 3 + 2?"):
    print(question, "->", allocator.choose(question).action)
