# %% [markdown]
# # A multiplier on the next sample
#
# How many samples a question gets need not be decided before the first one is seen. After each sample a rule stops, or draws again where what it may still
# gain is worth multiplier * cost, with the same multiplier for all questions. One budget is shared by all of them.

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
from alloc_jax.evaluate.sequential.replay import replay_frontier, replay_rule
from alloc_jax.stopping.paths import sample_paths
from alloc_jax.stopping.rules import policy_prior, prior_features, vote_state

small = "ALLOC_JAX_SMALL" in os.environ
log = aj.read_log("builtin")
share = 0.15 if small else 1.0
train_log, test_log = log.split_questions((0.6 * share, 0.4 * share), key=0)
source = "large/think"

# %% [markdown]
# What the text of a question promises is the prior: a policy's predictions, each made by networks that had not seen the question.

# %%
votes = [aj.vote(source, k) for k in (1, 4, 8, 16)]
table = aj.measure(train_log, votes)
policy = aj.train(table, aj.PolicyConfig(kind="value"))
plain = aj.solve_sequential(train_log, source, cap=16)
informed = aj.solve_sequential(train_log, source, cap=16, prior=policy_prior(policy))

# %% [markdown]
# Replay on held-out questions: samples come in random orders, and no rule sees what was not drawn yet.

# %%
paths = sample_paths(test_log, source, cap=16, orders=8, seed=1)
texts = prior_features(policy.predict(test_log.question).score)
budgets = np.array([1.5, 2, 2.5, 3, 4, 6])


def curve(frontier, prior):
    context = frontier.contexts(prior, len(test_log))
    played = [replay_frontier(frontier, paths, context)]
    found = [replay_rule(frontier.at(budget), played, context) for budget in budgets]
    return [x.cost.mean() for x in found], [x.utility.mean() for x in found]


fixed = aj.measure(test_log, [aj.vote(source, k) for k in range(1, 9)]).utility.mean(axis=0)
plt.figure(figsize=(7, 4))
plt.plot(range(1, 9), fixed, "o--", color="gray", label="every question alike")
plt.plot(*curve(plain, None), label="index rule")
plt.plot(*curve(informed, texts), label="index rule, and the text as prior")
plt.xlabel("samples per question")
plt.ylabel("accuracy of the vote, held-out questions")
plt.legend()
plt.show()

# %% [markdown]
# Serving: the rule of a budget decides in microseconds, from counts.

# %%
rule = plain.at(3.0)
for answers in (["12"], ["12", "12"], ["12", "7"], ["12", "7", "12"], ["12", "7", "9", "4"]):
    print(f"{answers!s:24} -> {rule.decide(vote_state(answers))}")
