# %% [markdown]
# # Your own logs
#
# From a file that lm-evaluation-harness or Inspect wrote to a policy. This notebook writes a small lm-eval file first, so that it runs anywhere; set `path` to yours.

# %%
# @title Install { display-mode: "form" }
# The JAX that is there already, as on Colab, stays.
import importlib.util

ADDRESS = ""  # @param {type:"string", placeholder:"git address of alloc_jax, or the path of an uploaded wheel"}
if importlib.util.find_spec("alloc_jax") is None:
    if not ADDRESS:
        raise SystemExit("fill in ADDRESS: where alloc_jax is")
    wanted = (
        f"{ADDRESS}[plot,grade,inspect]"
        if ADDRESS.endswith(".whl")
        else f"alloc_jax[plot,grade,inspect] @ git+{ADDRESS}"
    )
    # %pip install -q "{wanted}"

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

import alloc_jax as aj
from alloc_jax.measure import describe, fitting_menu, format_description, format_table
from alloc_jax.report.pages.markdown import to_markdown
from alloc_jax.report.pages.page import report_page

# %% [markdown]
# `samples_*.jsonl` of lm-evaluation-harness, with `repeats: 8`: one record per question, its responses in `resps`.

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
# On Colab, yours is uploaded here; elsewhere, set `path`.

# %%
if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    from google.colab import files

    if uploaded := files.upload():  # cancel to go on with the file above
        path = Path(next(iter(uploaded)))

# %% [markdown]
# The format is told by the content. lm-eval stores no correctness per sample, so the responses are graded: here as numbers (`grader="math"` needs the `grade` extra).

# %%
log = aj.read_log(path, grader="number")
print(format_description(describe(log)))

# %%
table = aj.measure(log, fitting_menu(log, votes=(1, 2, 4, 8)))
print(format_table(table))

# %% [markdown]
# What does each budget buy, if the questions were known, and if all were treated alike? (Chosen and scored on the same samples, so both are a little optimistic.)

# %%
frontier = aj.frontier(table)
plt.figure(figsize=(7, 3.5))
plt.plot(frontier.spend, 100 * np.asarray(frontier.utility), label="knowing every question")
plt.plot(table.cost.mean(axis=0), 100 * table.utility.mean(axis=0), "o-", label="the same action for all")
plt.xlabel(f"spend per question, {table.units[0]}")
plt.ylabel("accuracy (%)")
plt.legend()
plt.show()

# %% [markdown]
# From here on it is the quickstart: train on some questions, choose and score on halves of the samples of the others.

# %%
train_log, test_log = log.split_questions((0.6, 0.4), key=0)
half_a, half_b = test_log.split_samples(key=1)
actions = fitting_menu(half_b, votes=(1, 2, 4))
table, choose, score = (aj.measure(part, actions) for part in (train_log, half_a, half_b))
policy = aj.train(table, aj.PolicyConfig(kind="value", epochs=10))
report = aj.evaluate([policy], choose, score, budgets=(1.5, 2.0))
Markdown(to_markdown(report_page(report, "Held-out questions")))

# %%
allocator = aj.allocator(policy, budget=1.5)
for question in ("What is 3 + 4?", "What is 9 + 8 + 7 + 6 + 5 + 4 + 3 + 2?"):
    print(question, "->", allocator.choose(question).action)
