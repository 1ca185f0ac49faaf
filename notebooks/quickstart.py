# %% [markdown]
# # alloc_jax in ten cells
#
# From logged samples of a language model to a frontier, a learned policy and a decision for a question nobody has seen. The samples are
# those of the small built-in model; `aj.read_log("samples.jsonl")` reads yours.

# %%
# @title Install { display-mode: "form" }
# The JAX that is there already, as on Colab, stays.
import importlib.util

ADDRESS = ""  # @param {type:"string", placeholder:"git address of alloc_jax, or the path of an uploaded wheel"}
if importlib.util.find_spec("alloc_jax") is None:
    if not ADDRESS:
        raise SystemExit("fill in ADDRESS: where alloc_jax is")
    wanted = f"{ADDRESS}[plot]" if ADDRESS.endswith(".whl") else f"alloc_jax[plot] @ git+{ADDRESS}"
    # %pip install -q "{wanted}"

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

import alloc_jax as aj
from alloc_jax.measure import describe, format_description
from alloc_jax.report.pages.markdown import to_markdown
from alloc_jax.report.pages.page import report_page

print(jax.__version__, jax.devices())
share = 0.2 if "ALLOC_JAX_SMALL" in os.environ else 1.0  # of the questions

# %% [markdown]
# **Measure.** What is in the log: some questions are nearly always right, some hopeless, a responsive middle pays.

# %%
log = aj.read_log("builtin")
print(format_description(describe(log)))

# %% [markdown]
# Train and held-out questions are different ones. Of the held-out ones, each question's samples are halved: choose on one half, score on the other.

# %%
train_log, test_log = log.split_questions((0.6 * share, 0.4 * share), key=0)
half_a, half_b = test_log.split_samples(key=1)
actions = aj.menu(log, votes=(1, 4, 8, 16))  # every source x every vote
table, choose, score = (aj.measure(part, actions, "compute") for part in (train_log, half_a, half_b))
print(f"{len(table)} questions to learn from, {len(score)} held out, {len(actions)} actions; costs in {table.units[0]}")

# %% [markdown]
# **Solve.** One budget: the multiplier at which the budget is spent, the plan, and a bound that says how far from the best it can be.

# %%
solution = aj.solve(choose.problem(), budget=1.0)
print(
    f"multiplier {float(solution.multiplier):.4f}, spend {float(solution.spend):.4f}, utility {float(solution.utility):.4f}"
)
print(f"bound {float(solution.dual_value):.6f}, gap {float(solution.gap):.1e} ({aj.Status(int(solution.status)).name})")

# %% [markdown]
# Who gets the compute: easy and hopeless questions get little, the middle gets much.

# %%
chance = score.utility[:, [action.name for action in actions].index("vote(large/think,1)")]
plan = np.asarray(solution.action)
spent = choose.cost[np.arange(len(choose)), plan]
order = np.argsort(chance, kind="stable")
smooth = np.convolve(spent[order], np.ones(100) / 100, mode="valid")
plt.figure(figsize=(7, 3.5))
plt.plot(np.convolve(chance[order], np.ones(100) / 100, mode="valid"), smooth)
plt.xlabel("chance that one large/think sample is right")
plt.ylabel("spend per question")
plt.title("Who gets the compute at budget 1 (mean of 100 neighbours)")
plt.show()

# %% [markdown]
# **All budgets at once**, exactly. The honest curve scores the same plans on the other half of the samples: what is chosen on a few samples flatters itself.

# %%
frontier = aj.frontier(choose.problem())
budgets = np.linspace(0.2, 6, 15)
plans = [np.asarray(frontier.at(float(b)).action) for b in budgets]
honest = [score.utility[np.arange(len(score)), p].mean() for p in plans]
plt.figure(figsize=(7, 3.5))
plt.plot(budgets, frontier.value(budgets), label="chosen and scored on the same samples")
plt.plot(budgets, honest, "o-", label="scored on samples nobody chose on")
plt.xlabel(f"spend per question, {score.units[0]}")
plt.ylabel("accuracy")
plt.legend()
plt.show()

# %% [markdown]
# **Learn.** A small policy predicts from the text what each action would earn and cost; its multiplier is set so that new questions keep the budget.

# %%
policy = aj.train(table, aj.PolicyConfig(kind="value"))
report = aj.evaluate([policy], choose, score, budgets=(0.5, 1.0, 2.0))
Markdown(to_markdown(report_page(report, "Held-out questions")))

# %% [markdown]
# **Serve.** NumPy alone: no JAX in front of a server.

# %%
allocator = aj.allocator(policy, budget=1.0)
for question in ("(3+4)", "(8-2)*6", "((17*23)-(88+41))*(9-(64*77))"):
    decision = allocator.choose(question)
    print(f"{question:32} {decision.action:22} predicted utility {decision.utility:.2f}, cost {decision.cost:.2f}")
