"""Lets the built-in reasoner answer held-out questions: four sources, many samples of each.

    python experiments/draw_samples.py --workdir=runs/reasoner

Writes samples.npz. The shipped log, in alloc_jax/reasoner/data, was made by this command with the shipped weights.
"""

import sys
from pathlib import Path

from absl import app, flags

from alloc_jax.options import help_where_asked
from alloc_jax.reasoner.draw import draw_log
from alloc_jax.reasoner.weights import SHIPPED

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder for the log.", required=True)
flags.DEFINE_string("weights", str(SHIPPED), "Folder of small.npz and large.npz.")
flags.DEFINE_integer("questions", 4000, "Held-out questions.", lower_bound=1)
flags.DEFINE_integer("samples", 64, "Samples of each question and source.", lower_bound=1)
flags.DEFINE_float("temperature", 1.0, "Temperature of the sampling.", lower_bound=0.0)
flags.DEFINE_integer("seed", 0, "Seed of the questions and of the samples.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    print(
        draw_log(
            Path(FLAGS.workdir),
            weights=Path(FLAGS.weights),
            questions=FLAGS.questions,
            samples=FLAGS.samples,
            temperature=FLAGS.temperature,
            seed=FLAGS.seed,
        )
    )


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
