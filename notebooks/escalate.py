# %% [markdown]
# # Escalate: one multiplier on the next sample of any source
#
# Ask a cheap model first, and an expensive one only where the answers leave doubt. After each answer the rule stops, or draws the next sample from
# whichever source is worth its cost. One multiplier holds for all questions, so that their mean spend is the budget.

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

import matplotlib.pyplot as plt
import numpy as np

import alloc_jax as aj
from alloc_jax.evaluate.sequential.escalation import replay_escalation
from alloc_jax.evaluate.uniform_mix import upper_hull
from alloc_jax.stopping.sources.walks import make_walks

small = "ALLOC_JAX_SMALL" in os.environ
log = aj.read_log("builtin")
share = 0.1 if small else 0.5
train_log, test_log = log.split_questions((0.6 * share, 0.4 * share), key=0)
sources = ["small/think", "large/think"]

# %% [markdown]
# What a question's text promises of each source is the prior: a policy's predictions, which for its own training questions come from networks that
# had not seen them.

# %%
table = aj.measure(train_log, [aj.single(source) for source in sources], "compute")
policy = aj.train(table, aj.PolicyConfig(kind="value", epochs=5) if small else aj.PolicyConfig(kind="value"))
known = aj.policy_promise(policy, sources, train_log.question, seen=True)
limits = [2, 2] if small else [4, 4]
frontier = aj.solve_escalation(
    train_log, sources, resource="compute", limits=limits, promise=known, beliefs=("classes",)
)
print(frontier)

# %% [markdown]
# Replay on held-out questions: each budget's rule on the questions' own samples, which it sees only as it draws them. The grey line treats all questions alike:
# the best mix of one sample or a vote of either source.

# %%
walks = make_walks(test_log, sources, limits, resource="compute", orders=4)
held = aj.policy_promise(policy, sources, test_log.question)
budgets = np.geomspace(1.05 * frontier.spend[0], frontier.spend[-1], 8)
played = [replay_escalation(frontier.at(budget), walks, held).outcome for budget in budgets]

fixed = aj.measure(test_log, [aj.vote(source, k) for source in sources for k in (1, 3, 4, 8)], "compute")
cost, right = fixed.cost.mean(axis=0), fixed.utility.mean(axis=0)
hull = upper_hull(cost, right)
plt.figure(figsize=(7, 4))
plt.plot(cost[hull], right[hull], "o--", color="gray", label="every question alike")
plt.plot([one.cost.mean() for one in played], [one.utility.mean() for one in played], label="escalate")
plt.xlim(0, 1.5 * frontier.spend[-1])
plt.xlabel("spend per question (samples of the larger model, thinking)")
plt.ylabel("accuracy, held-out questions")
plt.legend()
plt.show()

# %% [markdown]
# Serving: a question is planned once, from its text. After that a decision is a look-up.

# %%
rule = frontier.at(float(np.mean(frontier.spend)))
question = rule.start(held.accuracy[0], held.cost[0], held.features[0], ticket=test_log.question[0])
rng, slots = np.random.default_rng(0), test_log.correct.shape[2]
while move := rule.decide(question):
    drawn = [test_log.answer[0, test_log.source_index(sources[m]), rng.integers(slots)] for m in move]
    answers = [None if code < 0 else test_log.answers[0][code] for code in drawn]
    question = question.after(move, answers)
    print(f"{', '.join(sources[m] for m in move)} says {answers}")
print(
    f"{test_log.question[0]} -> {question.answer}, right with a chance of {question.posterior:.2f}; in truth {test_log.gold[0]}"
)
