"""Trains the built-in reasoner: two small language models, each in a process and on a core of its own.

    python experiments/train_reasoner.py --workdir=runs/reasoner

Writes small.npz, large.npz and metrics.jsonl. The shipped weights, in alloc_jax/reasoner/data, were made by this
command.
"""

import sys
from pathlib import Path

from absl import app, flags

from alloc_jax.options import help_where_asked
from alloc_jax.reasoner.model import SIZES
from alloc_jax.reasoner.train import train_reasoner

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder for the weights.", required=True)
flags.DEFINE_multi_enum("size", list(SIZES), list(SIZES), "Model to train; may be given more than once.")
flags.DEFINE_integer("seed", 0, "Seed of the initialisation and of the training questions.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    for path in train_reasoner(Path(FLAGS.workdir), FLAGS.size, FLAGS.seed):
        print(path)


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
