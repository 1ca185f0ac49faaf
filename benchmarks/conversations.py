"""What a policy that was trained on single questions makes of conversations: the last message alone, or with those before it.

    python benchmarks/conversations.py

Conversations of two messages are made of the built-in log's held-out questions. The last one is a new question after an unrelated one,
a new question after one of the same kind (of one session), or a follow-up that says nothing of the question that it is about. For each
weight of the earlier message, accuracy in percent at the same spend, in samples per question.
"""

import sys

import numpy as np
from absl import app, flags

import alloc_jax as aj
from alloc_jax.learn.calibration import calibrate
from alloc_jax.options import help_where_asked
from alloc_jax.report.tables import markdown_table
from alloc_jax.serve.sessions import mixed

FLAGS = flags.FLAGS
flags.DEFINE_float("budget", 3.0, "Samples per question.")
flags.DEFINE_list("weights", ["0", "0.1", "0.25", "0.5", "1"], "Of the message before the last one.")
flags.DEFINE_integer("seed", 0, "Of the split and of the conversations.")

FOLLOW_UPS = ("Are you sure?", "Please check that again.", "Once more, step by step.")


def conversations(table, rng) -> dict[str, list[tuple[str, str]]]:
    """The message before and the last one, for every question; the last one of a follow-up is about the one before."""
    number, groups = len(table), np.array([str(group) for group in table.group])
    alike = np.empty(number, int)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        alike[rows] = np.roll(rows, 1)
    other = rng.permutation(number)
    asked = table.question
    return {
        "unrelated": [(asked[other[i]], asked[i]) for i in range(number)],
        "one session": [(asked[alike[i]], asked[i]) for i in range(number)],
        "follow-up": [(asked[i], FOLLOW_UPS[i % len(FOLLOW_UPS)]) for i in range(number)],
    }


def main(argv):
    log = aj.read_log("builtin")
    train, test = log.split_questions((0.7, 0.3), FLAGS.seed)
    actions = [aj.vote("large/think", k) for k in (1, 2, 4, 8, 16)]
    policy = aj.train(aj.measure(train, actions, "samples"))
    table = aj.measure(test, actions, "samples")
    rng, cost = np.random.default_rng(FLAGS.seed), np.asarray(table.cost)
    ticket = rng.random(len(table))
    rows = []

    def accuracy(prediction) -> str:
        chosen = calibrate(prediction, cost, FLAGS.budget, False).choose(prediction, ticket)
        return f"{100 * np.asarray(table.utility)[np.arange(len(table)), chosen].mean():.1f}"

    for name, pairs in conversations(table, rng).items():
        before, last = (policy.predict(list(texts)) for texts in zip(*pairs, strict=True))
        row = [accuracy(mixed([last, before], float(weight))) for weight in FLAGS.weights]
        joined = policy.predict(["\n".join(pair) for pair in pairs])
        rows.append((name, *row, accuracy(joined)))
    print(f"{len(table)} conversations, {FLAGS.budget:g} samples per question, seed {FLAGS.seed}\n")
    print(markdown_table(("last message is", *(f"weight {w}" for w in FLAGS.weights), "one text"), rows))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
