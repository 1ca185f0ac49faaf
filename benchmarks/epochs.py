"""Epochs of an evaluation where they make the benchmark's mean more exact, beside equally many of every question.

    python benchmarks/epochs.py --log=builtin --source=large/think
    python benchmarks/epochs.py --log=smollm2 --source=steps --earlier=8

Each round draws questions and the order of their samples anew, asks as `MeanEpochs` says, and compares the variance that is left of the mean
with that of equal epochs. As the variance of equal epochs falls with 1 / epochs, a ratio of variances is a ratio of epochs.
"""

import sys

import numpy as np
from absl import app, flags

from alloc_jax import read_log
from alloc_jax.cli import help_where_asked
from alloc_jax.serve import MeanEpochs, expected_variance

FLAGS = flags.FLAGS
flags.DEFINE_string("log", "builtin", "Sample log; the group of a question is what is known of it beforehand.")
flags.DEFINE_string("source", "large/think", "Whose samples are the epochs.")
flags.DEFINE_integer("questions", 200, "Of each round.", 2)
flags.DEFINE_integer("most", 16, "Epochs of a question at most.", 2)
flags.DEFINE_integer("rounds", 200, "Rounds.", 2)
flags.DEFINE_integer("earlier", 0, "Samples of each question that are an earlier run; 0: there was none.", 0)
flags.DEFINE_integer("seed", 0, "Of all draws.")


def main(argv):
    log = read_log(FLAGS.log)
    right = log.correct[:, log.source_index(FLAGS.source)]
    groups = np.array([group or "" for group in log.group])
    chance = right.mean(axis=1)
    variance = chance * (1 - chance)
    rng = np.random.default_rng(FLAGS.seed)
    for budget in (3, 4):
        saved, error = [], []
        for _ in range(FLAGS.rounds):
            rows = rng.permutation(len(log))[: FLAGS.questions]
            names = [log.ids[i] for i in rows]
            samples = rng.permuted(right[rows], axis=1)
            if FLAGS.earlier:
                before, samples = samples[:, : FLAGS.earlier], samples[:, FLAGS.earlier :]
                expected = expected_variance(dict(zip(names, before, strict=True)))
                stopping = MeanEpochs(budget=budget, expected=expected, least=1)
            else:
                stopping = MeanEpochs(budget=budget, groups=dict(zip(names, groups[rows].tolist(), strict=True)))
            stopping.begin(names, min(FLAGS.most, samples.shape[1]))
            for i, name in enumerate(names):
                for value in samples[i, : stopping.least]:
                    stopping.see(name, None, float(value))
            epochs = np.array(list(stopping.plan().values()))
            equal = variance[rows].mean() / epochs.mean()
            saved.append(1 - (variance[rows] / epochs).mean() / equal)
            means = [samples[i, :n].mean() for i, n in enumerate(epochs)]
            error.append(np.mean(means) - samples.mean())
        low, high = np.percentile(saved, [2.5, 97.5])
        bias, noise = np.mean(error), np.std(error) / len(error) ** 0.5
        print(
            f"{budget} epochs of {FLAGS.questions} questions: {100 * np.mean(saved):.1f} % [{100 * low:.1f}, {100 * high:.1f}] fewer at"
            f" equal standard error; bias {100 * bias:+.2f} points, known to {200 * noise:.2f}"
        )


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
